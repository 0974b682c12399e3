//! Waits in semtimedop that end by a signal, beside busy bystanders on every CPU.
//!
//! Two kinds of process wait: each of `killed` has a process that sends it SIGUSR1 when it is known to sleep (`senders`,
//! in the same order); those of `timed` have a timer of their own, whose signal the kernel sends while whoever happens to
//! run is interrupted. The handler only counts and has no SA_RESTART.
//!
//! Exact counts for COUNT waits of each of P processes of each kind, without the bystanders: 1 semget, 1 semctl
//! (IPC_RMID), 2 × P × COUNT semtimedop that fail with EINTR.

use super::crowd::Crowd;
use super::{make_set, remove_set};
use crate::call::{Caller, fail, sop};
use crate::context::Context;
use crate::{Failure, Result, board, process};
use std::sync::atomic::{AtomicI64, Ordering};

/// How often the handler ran in this process.
static HANDLED: AtomicI64 = AtomicI64::new(0);

extern "C" fn count(_signal: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// How often the handler of [`handle`] ran in this process.
pub(super) fn handled() -> i64 {
    HANDLED.load(Ordering::Relaxed)
}

/// Gives SIGUSR1 a handler that only counts; made by the C library, in no count.
pub(super) fn handle(flags: i32) {
    // SAFETY: zero is a valid sigaction; the handler only adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(i32) as libc::sighandler_t;
        action.sa_flags = flags;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
}

fn wait(caller: &mut Caller, set: i32) -> Result<()> {
    fail("semop with a signal", caller.semop(set, &[sop(0, -1, 0)]), libc::EINTR)
}

/// Waits `count` times; `turn` says how often it was interrupted.
fn be_killed(context: &Context, set: i32, count: u64, turn: &AtomicI64) -> Result<()> {
    handle(0);
    let mut caller = context.caller(count);
    for interrupted in 1..=count {
        wait(&mut caller, set)?;
        board::write(turn, interrupted as i64);
    }
    caller.finish()
}

/// Interrupts the waiting process `count` times, each when it sleeps.
fn kill(waiter: i32, count: u64, turn: &AtomicI64) -> Result<()> {
    for interrupted in 1..=count {
        process::wait_until_inside(waiter, libc::SYS_semtimedop)?;
        process::signal(waiter, libc::SIGUSR1)?;
        board::wait_for(turn, interrupted as i64)?;
    }
    Ok(())
}

/// A timer of the running process that sends it SIGUSR1 every millisecond, whether it waits or not.
fn start_timer() -> Result<()> {
    // SAFETY: zero is a valid sigevent; the calls get pointers to valid structures.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGUSR1;
        let mut timer = std::mem::zeroed();
        let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let every = libc::itimerspec { it_interval: millisecond, it_value: millisecond };
        if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) != 0
            || libc::timer_settime(timer, 0, &every, std::ptr::null_mut()) != 0
        {
            return Err(Failure::last("cannot start a timer"));
        }
    }
    Ok(())
}

fn be_timed(context: &Context, set: i32, count: u64) -> Result<()> {
    handle(0);
    let mut caller = context.caller(count);
    start_timer()?;
    for _ in 0..count {
        wait(&mut caller, set)?;
    }
    caller.finish()
}

fn interrupt(context: &mut Context, caller: &mut Caller, count: u64, processes: u16) -> Result<()> {
    let set = make_set(context, caller, 1)?;
    let turns = board::new(processes.into())?;
    let (mut killed, mut senders, mut timed) = (Vec::new(), Vec::new(), Vec::new());
    for turn in turns {
        let waiter = process::fork(context, |context| be_killed(context, set, count, turn))?;
        killed.push(waiter);
        senders.push(process::fork(context, |_| kill(waiter, count, turn))?);
        timed.push(process::fork(context, |context| be_timed(context, set, count))?);
    }
    let worked = process::wait_all(&[&killed[..], &senders, &timed].concat());
    remove_set(caller, set)?;
    context.put("killed", killed);
    context.put("senders", senders);
    context.put("timed", timed);
    worked
}

pub(crate) fn run(context: &mut Context, count: u64, processes: u16) -> Result<()> {
    context.name("interrupted");
    let mut caller = context.caller(2);
    let crowd = Crowd::start(context)?;
    context.put("bystanders", crowd.pids());
    let interrupted = interrupt(context, &mut caller, count, processes);
    crowd.dismiss()?;
    interrupted?;
    caller.finish()
}
