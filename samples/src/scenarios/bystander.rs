//! A loop of a system call that no trace holds, for the cost that recording adds to it.
//!
//! Exact counts: no call of the catalogue. The result's `calls` is COUNT calls, `elapsed_ns` the time of the loop alone.

use crate::context::Context;
use crate::{Failure, Result};
use clap::ValueEnum;
use std::time::{Duration, Instant};

/// What is called.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Call {
    /// getppid(2): nothing but the way into the kernel and back.
    Getppid,
    /// epoll_pwait(2) on nothing, without a wait, with a signal mask that the kernel sets and restores.
    EpollPwait,
}

/// How long so many calls took.
fn time(count: u64, mut call: impl FnMut()) -> Duration {
    let started = Instant::now();
    (0..count).for_each(|_| call());
    started.elapsed()
}

fn getppid(count: u64) -> Duration {
    // SAFETY: getppid takes nothing; as a raw call, so that no C library can remember the answer.
    time(count, || _ = unsafe { libc::syscall(libc::SYS_getppid) })
}

fn epoll_pwait(count: u64) -> Result<Duration> {
    // SAFETY: epoll_create1 takes flags.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll == -1 {
        return Err(Failure::last("cannot create an epoll descriptor"));
    }
    let (mask, mut event, mut returned) = (crate::call::bit(libc::SIGUSR1), libc::epoll_event { events: 0, u64: 0 }, 0);
    let elapsed = time(count, || {
        // SAFETY: there is room for the one event that is asked for; the mask is 8 bytes, as the last argument says.
        returned |= unsafe { libc::syscall(libc::SYS_epoll_pwait, epoll, &mut event, 1, 0, &mask, size_of_val(&mask)) };
    });
    if returned == 0 { Ok(elapsed) } else { Err(Failure::new("epoll_pwait found something, or failed")) }
}

pub(crate) fn run(context: &mut Context, call: Call, count: u64) -> Result<()> {
    context.name("bystander");
    let elapsed = match call {
        Call::Getppid => getppid(count),
        Call::EpollPwait => epoll_pwait(count)?,
    };
    context.put("calls", count);
    context.put("elapsed_ns", elapsed.as_nanos() as u64);
    Ok(())
}
