//! Calls that fail, each with a known errno.
//!
//! Exact counts for COUNT rounds, each times COUNT:
//!
//! | operation | performed | of these failed |
//! |---|---|---|
//! | semget | 8 | EACCES, EEXIST, EINVAL 3, ENOENT |
//! | semop | 3 | E2BIG, EFAULT, EINVAL |
//! | semtimedop | 10 | EACCES, EAGAIN 2, EFBIG, EIDRM, EINTR, EINVAL 3, ERANGE |
//! | semctl | 8 | EACCES, EINVAL 3, EPERM, ERANGE |
//! | shmget | 7 | EACCES, EEXIST, EINVAL 2, ENOENT |
//! | shmat | 3 | EACCES, EINVAL 2 |
//! | shmdt | 1 | EINVAL |
//! | shmctl | 4 | EINVAL 2 |
//! | msgget | 5 | EACCES, EEXIST, ENOENT |
//! | msgsnd | 6 | EACCES, EAGAIN, EINVAL 3 |
//! | msgrcv | 6 | E2BIG, EACCES, EIDRM, EINTR, EINVAL, ENOMSG |
//! | msgctl | 7 | EINVAL 2, EPERM |
//! | mq_open | 8 | EACCES, EEXIST, EFAULT, EINVAL, ENAMETOOLONG, ENOENT |
//! | mq_unlink | 2 | ENOENT |
//! | mq_timedsend | 6 | EAGAIN, EBADF, EINVAL, EMSGSIZE, ETIMEDOUT |
//! | mq_timedreceive | 6 | EAGAIN, EBADF, EINTR, EINVAL, EMSGSIZE, ETIMEDOUT |
//! | mq_notify | 3 | EBADF, EBUSY |
//! | mq_getsetattr | 1 | EBADF |
//! | sigprocmask | 2 | EINVAL 2 |
//! | sigsuspend | 1 | EINVAL |
//! | sigaction | 2 | EINVAL 2 |
//! | sigpending | 1 | EINVAL |
//! | sigtimedwait | 2 | EAGAIN, EINVAL |
//! | signalfd | 3 | EBADF, EINVAL 2 |
//!
//! Started by another user than root, it makes two calls fewer: the semctl and the msgctl that fail with EPERM.
//!
//! The processes: the first makes the calls of `sem`, `shm`, `msg` and `mq`; per round one makes those of `sig`, one
//! without privilege those of `denied`, and five wait and are interrupted or lose their object.

mod denied;
mod mq;
mod msg;
mod sem;
mod shm;
mod sig;

use crate::call::{Caller, Outcome, fail};
use crate::context::Context;
use crate::{Result, process};

/// A key that no other object has: of this process, and one of 16.
pub(crate) fn own_key(which: i32) -> i32 {
    0x4970_0000 ^ (process::own_pid() << 4) ^ which
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("failures");
    let mut caller = context.caller(100 * count);
    for _ in 0..count {
        sem::round(context, &mut caller)?;
        shm::round(context, &mut caller)?;
        msg::round(context, &mut caller)?;
        mq::round(context, &mut caller)?;
        denied::round(context, &mut caller)?;
        sig::round(context)?;
    }
    caller.finish()
}

extern "C" fn nothing(_signal: i32) {}

/// How a wait ends.
enum End<'a> {
    /// By a signal whose handler does nothing.
    Signal,
    /// By the removal of the object.
    Removal(&'a mut dyn FnMut() -> Result<()>),
}

/// Starts a process that makes one waiting call (system call `number`), ends the wait, and checks its errno.
fn wait_and_end(
    context: &mut Context,
    number: i64,
    call: impl FnOnce(&mut Caller) -> Outcome,
    end: End,
    wanted: i32,
) -> Result<()> {
    let pid = process::fork(context, |context| {
        let handler = nothing as extern "C" fn(i32) as libc::sighandler_t;
        // SAFETY: zero is a valid sigaction; the handler does nothing; without SA_RESTART the call shows EINTR.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        }
        let mut caller = context.caller(1);
        let outcome = call(&mut caller);
        caller.finish()?;
        fail("a wait", outcome, wanted)
    })?;
    process::wait_until_inside(pid, number)?;
    match end {
        End::Signal => process::signal(pid, libc::SIGUSR1)?,
        End::Removal(remove) => remove()?,
    }
    process::wait_all(&[pid])
}
