//! One round of signal calls: 4 sigprocmask, 3 sigaction, 1 sigpending, 2 sigtimedwait, 2 signalfd, 1 sigsuspend; one
//! sigtimedwait fails with EAGAIN, sigsuspend with EINTR as it always does.

use crate::call::{Caller, bit, disposition, fail, id, succeed};
use crate::{Failure, Result, process};
use libc::{SIG_BLOCK, SIG_SETMASK, SIGURG, SIGUSR1, SIGUSR2};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::time::Duration;

extern "C" fn nothing(_signal: i32) {}

/// Gives SIGUSR2 a handler that does nothing; made by the C library, in no count.
pub(crate) fn prepare() {
    let handler = nothing as extern "C" fn(i32) as libc::sighandler_t;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(SIGUSR2, handler) };
}

fn raise(signal: i32) -> Result<()> {
    // SAFETY: tgkill takes three numbers.
    if unsafe { libc::syscall(libc::SYS_tgkill, process::own_pid(), process::own_tid(), signal) } != 0 {
        return Err(Failure::last("cannot raise a signal"));
    }
    Ok(())
}

pub(crate) fn round(caller: &mut Caller) -> Result<()> {
    let (first, second) = (bit(SIGUSR1), bit(SIGUSR2));
    let mut before = 0;
    succeed("sigprocmask", caller.sigprocmask(SIG_BLOCK, Some(first | second), Some(&mut before), 8))?;
    succeed("sigprocmask", caller.sigprocmask(SIG_BLOCK, None, Some(&mut 0), 8))?;
    succeed("sigaction", caller.sigaction(SIGURG, Some(disposition(true)), 8))?;
    succeed("sigaction", caller.sigaction(SIGURG, Some(disposition(false)), 8))?;
    succeed("sigaction", caller.sigaction(SIGUSR1, None, 8))?;
    raise(SIGUSR1)?;
    succeed("sigpending", caller.sigpending(8))?;
    succeed("sigtimedwait", caller.sigtimedwait(first, Duration::from_secs(5), 8))?;
    fail("sigtimedwait without a signal", caller.sigtimedwait(first, Duration::ZERO, 8), libc::EAGAIN)?;
    // SAFETY: the descriptor is fresh and owned by nobody else.
    let _close = unsafe { File::from_raw_fd(id("signalfd4", caller.signalfd4(-1, first, 8, libc::SFD_NONBLOCK))?) };
    // SAFETY: as above.
    let _close_too = unsafe { File::from_raw_fd(id("signalfd", caller.signalfd(-1, first | second, 8))?) };
    raise(SIGUSR2)?;
    fail("sigsuspend", caller.sigsuspend(before & !second, 8), libc::EINTR)?;
    succeed("sigprocmask", caller.sigprocmask(SIG_SETMASK, Some(before), None, 8))?;
    succeed("sigprocmask", caller.sigprocmask(SIG_BLOCK, Some(0), None, 8))?;
    Ok(())
}
