//! Signal calls, in a process of their own: nothing but the scenario makes signal calls between its first and last.

use crate::call::{Caller, bit, disposition, fail};
use crate::context::Context;
use crate::{Result, process};
use libc::{EAGAIN, EBADF, EINVAL, SIGKILL, SIGUSR1};
use std::time::Duration;

pub(super) fn round(context: &mut Context) -> Result<()> {
    let pid = process::fork(context, |context| {
        let mut caller = context.caller(12);
        let tried = attempts(&mut caller);
        caller.finish()?;
        tried
    })?;
    process::wait_all(&[pid])
}

fn attempts(caller: &mut Caller) -> Result<()> {
    let set = bit(SIGUSR1);
    fail("sigprocmask", caller.sigprocmask(3, Some(set), None, 8), EINVAL)?;
    fail("sigprocmask of another size", caller.sigprocmask(libc::SIG_BLOCK, Some(set), None, 4), EINVAL)?;
    fail("sigaction of SIGKILL", caller.sigaction(SIGKILL, Some(disposition(true)), 8), EINVAL)?;
    fail("sigaction of no signal", caller.sigaction(65, Some(disposition(true)), 8), EINVAL)?;
    fail("sigpending of another size", caller.sigpending(16), EINVAL)?;
    fail("sigtimedwait", caller.sigtimedwait(set, Duration::from_millis(1), 8), EAGAIN)?;
    fail("sigtimedwait of another size", caller.sigtimedwait(set, Duration::ZERO, 4), EINVAL)?;
    fail("sigsuspend of another size", caller.sigsuspend(0, 4), EINVAL)?;
    fail("signalfd of another size", caller.signalfd(-1, set, 4), EINVAL)?;
    fail("signalfd4 with bad flags", caller.signalfd4(-1, set, 8, 1), EINVAL)?;
    fail("signalfd4 of no signalfd", caller.signalfd4(0x3fff_ffff, set, 8, 0), EBADF)
}
