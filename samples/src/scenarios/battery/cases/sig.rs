//! Signal masks, dispositions and synchronous waits.

use super::super::bench::Action::{Default, Handler, Ignore};
use super::super::partner::Waiting;
use super::{Case, every};
use crate::Result;
use crate::scenarios::battery::bench::Bench;
use libc::{EAGAIN, EBADF, EFAULT, EINTR, EINVAL, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// Five milliseconds.
const SOON: Option<i64> = Some(5_000_000);
/// Longer than any partner takes.
const LATE: Option<i64> = Some(20_123_456_789);

/// A signal of the set is there already.
fn raised(b: &mut Bench, set: &str, signal: i32) -> Result<()> {
    b.block(set)?;
    b.raise(signal)
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // sigprocmask
    every("sigprocmask SIG_BLOCK", |b| { b.block("SIGUSR2")?; b.sigprocmask("SIG_BLOCK", "SIGINT|SIGTERM").leaves("SIGINT|SIGUSR2|SIGTERM").is(0) }),
    every("sigprocmask SIG_UNBLOCK", |b| { b.block("SIGHUP|SIGINT|SIGTERM")?; b.sigprocmask("SIG_UNBLOCK", "SIGINT|SIGUSR1").leaves("SIGHUP|SIGTERM").is(0) }),
    every("sigprocmask SIG_SETMASK", |b| { b.block("SIGINT")?; b.sigprocmask("SIG_SETMASK", "SIGQUIT|SIGSYS").leaves("SIGQUIT|SIGSYS").is(0) }),
    every("sigprocmask to nothing", |b| { b.block("SIGINT")?; b.sigprocmask("SIG_SETMASK", "0").leaves("0").is(0) }),
    every("sigprocmask leaves out SIGKILL and SIGSTOP", |b| b.sigprocmask("SIG_BLOCK", "SIGKILL|SIGPIPE|SIGSTOP").leaves("SIGPIPE").is(0)),
    every("sigprocmask over its own set", |b| { b.block("SIGUSR1|SIGUSR2")?; b.sigprocmask_in_place("SIG_SETMASK", "SIGCHLD").leaves("SIGCHLD").is(0) }),
    every("sigprocmask asks", |b| { b.block("SIGIO")?; b.sigprocmask_query().leaves("SIGIO").is(0) }),
    every("sigprocmask EFAULT", |b| b.unreadable().sigprocmask("SIG_BLOCK", "SIGINT").null(&["sig_set", "sig_set_text"]).fails(EFAULT)),
    every("sigprocmask EINVAL how", |b| b.sigprocmask_wrong(77, 8).fails(EINVAL)),
    every("sigprocmask EINVAL size", |b| b.sigprocmask_wrong(libc::SIG_BLOCK, 4).fails(EINVAL)),
    // sigsuspend
    every("sigsuspend", |b| { b.block("SIGUSR1|SIGTERM")?; b.handle(SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).sigsuspend("SIGINT|SIGUSR2").fails(EINTR) }),
    every("sigsuspend of nothing", |b| { b.handle(SIGUSR1, libc::SA_RESTART)?; b.meanwhile(Waiting::interrupt).sigsuspend("0").fails(EINTR) }),
    every("sigsuspend EINVAL size", |b| b.with_short_set("sigsuspend").fails(EINVAL)),
    // sigpending
    every("sigpending nothing", |b| b.sigpending("0").is(0)),
    every("sigpending", |b| { b.block("SIGUSR1|SIGUSR2")?; b.raise(SIGUSR2)?; b.sigpending("SIGUSR2").is(0) }),
    every("sigpending two", |b| { b.block("SIGINT|SIGUSR2|SIGTERM")?; b.raise(SIGUSR2)?; b.raise(SIGINT)?; b.sigpending("SIGINT|SIGUSR2").is(0) }),
    every("sigpending EINVAL size", |b| b.with_short_set("sigpending").fails(EINVAL)),
    // sigaction
    every("sigaction default", |b| b.sigaction("SIGUSR1", Default, "0", "0").is(0)),
    every("sigaction ignore", |b| b.sigaction("SIGPIPE", Ignore, "0", "0").is(0)),
    every("sigaction handler", |b| b.sigaction("SIGTERM", Handler, "SA_RESTART", "SIGINT|SIGQUIT").is(0)),
    every("sigaction handler with SA_SIGINFO", |b| b.sigaction("SIGUSR2", Handler, "SA_SIGINFO|SA_RESTART", "0").is(0)),
    every("sigaction all flags", |b| b.sigaction("SIGCHLD", Handler, "SA_NOCLDSTOP|SA_NOCLDWAIT|SA_SIGINFO|SA_ONSTACK|SA_RESTART|SA_NODEFER|SA_RESETHAND", "SIGIO").is(0)),
    every("sigaction of a real-time signal", |b| b.sigaction("SIGRT_5", Ignore, "0", "0").is(0)),
    every("sigaction asks", |b| b.sigaction_query(SIGINT, 8).is(0)),
    every("sigaction EINVAL SIGKILL", |b| b.sigaction("SIGKILL", Ignore, "0", "0").fails(EINVAL)),
    every("sigaction EINVAL no signal", |b| b.sigaction_query(65, 8).fails(EINVAL)),
    every("sigaction EINVAL size", |b| b.with_short_set("sigaction").fails(EINVAL)),
    every("sigaction EFAULT", |b| b.unreadable().sigaction("SIGUSR1", Default, "0", "0").null(&["disposition", "flags", "flags_text", "sig_set", "sig_set_text"]).fails(EFAULT)),
    // sigtimedwait
    every("sigtimedwait there already", |b| { raised(b, "SIGUSR1|SIGUSR2", SIGUSR2)?; b.sigtimedwait("SIGUSR1|SIGUSR2", LATE).with("signal", SIGUSR2).is(SIGUSR2.into()) }),
    every("sigtimedwait of a real-time signal", |b| { raised(b, "SIGRT_2", 34)?; b.sigtimedwait("SIGRT_2", None).with("signal", 34).is(34) }),
    every("sigtimedwait waits", |b| { b.block("SIGUSR1")?; b.meanwhile(Waiting::interrupt).sigtimedwait("SIGUSR1", LATE).with("signal", SIGUSR1).is(SIGUSR1.into()) }),
    every("sigtimedwait without a timeout", |b| { b.block("SIGUSR1")?; b.meanwhile(Waiting::interrupt).sigtimedwait("SIGINT|SIGUSR1", None).with("signal", SIGUSR1).is(SIGUSR1.into()) }),
    every("sigtimedwait EAGAIN", |b| { raised(b, "SIGTERM", SIGTERM)?; b.sigtimedwait("SIGUSR1", SOON).fails(EAGAIN) }),
    every("sigtimedwait EAGAIN no time at all", |b| b.sigtimedwait("SIGUSR1", Some(0)).fails(EAGAIN)),
    every("sigtimedwait EINTR", |b| { b.block("SIGUSR2")?; b.handle(SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).sigtimedwait("SIGUSR2", LATE).fails(EINTR) }),
    every("sigtimedwait EINVAL size", |b| b.with_short_set("sigtimedwait").fails(EINVAL)),
    every("sigtimedwait EFAULT", |b| b.unreadable().sigtimedwait("SIGUSR1", SOON).null(&["sig_set", "sig_set_text"]).without(&["timeout_ns"]).fails(EFAULT)),
    // signalfd
    every("signalfd", |b| b.signalfd(-1, "SIGINT|SIGTERM").succeeds().map(drop)),
    every("signalfd EBADF", |b| b.signalfd(987, "SIGINT").fails(EBADF)),
    every("signalfd EINVAL no signalfd", |b| b.signalfd(2, "SIGINT").fails(EINVAL)),
    every("signalfd4", |b| b.signalfd4(-1, "SIGUSR1|SIGRT_2|SIGRT_32", "0").succeeds().map(drop)),
    every("signalfd4 with flags", |b| b.signalfd4(-1, "0", "SFD_NONBLOCK|SFD_CLOEXEC").succeeds().map(drop)),
    every("signalfd4 of all signals", |b| b.signalfd4(-1, "ALL", "0").succeeds().map(drop)),
    every("signalfd4 changes the set", |b| { let fd = b.signalfd4(-1, "SIGUSR1", "SFD_CLOEXEC").succeeds()? as i32; b.signalfd4(fd, "SIGUSR2", "0").is(fd.into()) }),
    every("signalfd4 EINVAL flags", |b| b.signalfd4(-1, "SIGUSR1", "O_EXCL").without(&["flags_text"]).fails(EINVAL)),
    every("signalfd4 EINVAL size", |b| b.with_short_set("signalfd").fails(EINVAL)),
];
