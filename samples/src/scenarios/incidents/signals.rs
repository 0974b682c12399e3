//! Signals that are blocked: by mistake, or by daemons that fetch them.

use super::outlast_recording;
use super::plan::{Expected, Plan};
use crate::call::{Caller, bit, id, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, process};
use libc::{SIG_BLOCK, SIG_UNBLOCK, SIGCHLD, SIGHUP, SIGTERM, SIGUSR1};
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::sleep;
use std::time::Duration;

fn change_mask(caller: &mut Caller, how: i32, set: u64) -> Result<()> {
    succeed("sigprocmask", caller.sigprocmask(how, Some(set), None, 8)).map(drop)
}

/// Becomes `sleep 60`, with the mask as it is.
fn become_sleep() -> Result<()> {
    let arguments = [c"sleep".as_ptr(), c"60".as_ptr(), std::ptr::null()];
    // SAFETY: the arguments are strings that end with NUL, their list ends with NULL; it returns only on failure.
    unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
    Err(Failure::last("cannot start sleep"))
}

/// Waits until the process runs another program than this one.
fn wait_for_exec(pid: i32) -> Result<()> {
    let own = std::fs::read_link("/proc/self/exe");
    let path = format!("/proc/{pid}/exe");
    for _ in 0..10_000 {
        let other = std::fs::read_link(&path);
        if other.is_ok() && other.ok() != own.as_ref().ok().cloned() {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    Err(Failure::new("sleep did not start within 10 s"))
}

pub(super) fn sigterm_blocked(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(3);
    plan.expect(Expected::new("signals", "blocked_signal", &["certain"]).saying("SIGTERM"));
    let more = plan.choice("blocked_too", &[("nothing", 0), ("SIGHUP", bit(SIGHUP)), ("SIGCHLD", bit(SIGCHLD))]);
    let set = bit(SIGTERM) | more;
    // A launcher that blocks signals around fork, and forgets the child.
    change_mask(&mut caller, SIG_BLOCK, set)?;
    let child = process::fork(context, |_| become_sleep())?;
    change_mask(&mut caller, SIG_UNBLOCK, set)?;
    wait_for_exec(child)?;
    for _ in 0..plan.number("sent", 1..=3) {
        process::signal(child, SIGTERM)?;
        sleep(Duration::from_millis(20));
    }
    sleep(plan.time("pending_ms", 1200..=1800));
    if plan.flip("recording_ends_first") {
        outlast_recording(plan)?;
    }
    process::signal(child, libc::SIGKILL)?;
    process::wait(child)?;
    caller.finish()
}

/// What a daemon fetches.
const FETCHED: u64 = bit(SIGTERM) | bit(SIGHUP) | bit(SIGUSR1);

/// Sends some signals, each when the one before was fetched, and SIGTERM at last.
fn conduct(plan: &mut Plan, daemon: i32, fetched: &AtomicI64) -> Result<()> {
    board::wait_for(fetched, 1)?;
    let count = plan.number("signals", 2..=8) as i64;
    for number in 1..=count {
        sleep(plan.time("pause_ms", 50..=250));
        let signal = if number == count { SIGTERM } else { [SIGHUP, SIGUSR1][number as usize % 2] };
        process::signal(daemon, signal)?;
        board::wait_for(fetched, number + 1)?;
    }
    process::wait_all(&[daemon])
}

pub(super) fn sigwait_daemon(context: &mut Context, plan: &mut Plan) -> Result<()> {
    // At 1 its mask is set, then one more for each signal.
    let fetched = &board::new(1)?[0];
    let daemon = process::fork(context, |context| {
        let mut caller = context.caller(20);
        change_mask(&mut caller, SIG_BLOCK, FETCHED)?;
        loop {
            fetched.fetch_add(1, Ordering::AcqRel);
            let signal = id("sigtimedwait", caller.sigtimedwait(FETCHED, Duration::from_secs(60), 8))?;
            if signal == SIGTERM {
                fetched.fetch_add(1, Ordering::AcqRel);
                return caller.finish();
            }
        }
    })?;
    conduct(plan, daemon, fetched)
}

pub(super) fn signalfd_daemon(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let fetched = &board::new(1)?[0];
    // Some are busy for a while before they read.
    let busy = plan.time("busy_ms", 0..=300);
    let daemon = process::fork(context, |context| {
        let mut caller = context.caller(5);
        change_mask(&mut caller, SIG_BLOCK, FETCHED)?;
        let descriptor = id("signalfd4", caller.signalfd4(-1, FETCHED, 8, libc::SFD_CLOEXEC))?;
        let mut information = [0_u32; 32];
        loop {
            fetched.fetch_add(1, Ordering::AcqRel);
            sleep(busy);
            // SAFETY: the buffer has the 128 bytes of a signalfd_siginfo.
            if unsafe { libc::read(descriptor, information.as_mut_ptr().cast(), 128) } != 128 {
                return Err(Failure::last("cannot read from a signalfd"));
            }
            if information[0] == SIGTERM as u32 {
                fetched.fetch_add(1, Ordering::AcqRel);
                return caller.finish();
            }
        }
    })?;
    conduct(plan, daemon, fetched)
}
