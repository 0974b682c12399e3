//! A process that waits in semop until the program is told to end (SIGTERM or SIGINT) or the time is over.
//!
//! Prints a line `{"waiting_tid", "inside_ns"}` when the process is seen asleep inside the call, and the result at the
//! end. Exact counts: 1 semget, 1 semtimedop (the C library's entry point for `semop()`; at the end it fails with EIDRM,
//! which appears in no `errors`, since its log is not kept), 1 semctl (IPC_RMID).

use super::killed::start_waiting;
use super::{make_set, remove_set};
use crate::context::Context;
use crate::{Failure, Result, process};
use serde_json::json;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_signal: i32) {
    TOLD_TO_END.store(true, Ordering::Relaxed);
}

/// Takes SIGTERM and SIGINT as the word to end; after the fork, so that the waiting process is not concerned.
pub(super) fn listen() {
    let handler = end as extern "C" fn(i32) as libc::sighandler_t;
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        libc::signal(libc::SIGTERM, handler);
        libc::signal(libc::SIGINT, handler);
    }
}

/// Waits for the word to end, or until the time is over.
pub(super) fn wait_to_be_told(hold: Duration) {
    let deadline = Instant::now() + hold;
    while !TOLD_TO_END.load(Ordering::Relaxed) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn run(context: &mut Context, hold: Duration) -> Result<()> {
    context.name("open");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, 1)?;
    let (tid, inside_ns) = start_waiting(context, set)?;
    listen();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", json!({ "waiting_tid": tid, "inside_ns": inside_ns }))
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::new(format!("cannot write to stdout: {e}")))?;
    wait_to_be_told(hold);
    remove_set(&mut caller, set)?;
    context.put("waiting_tid", tid);
    context.put("inside_ns", inside_ns);
    process::wait_all(&[tid])?;
    caller.finish()
}
