//! A loop of a system call that no trace holds, for the cost that recording adds to it.
//!
//! Exact counts: no call of the catalogue. The result's `calls` is COUNT getppid calls, `elapsed_ns` the time of the loop
//! alone.

use crate::Result;
use crate::context::Context;
use std::time::Instant;

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("bystander");
    let started = Instant::now();
    for _ in 0..count {
        // SAFETY: getppid takes nothing; as a raw call, so that no C library can remember the answer.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    context.put("calls", count);
    context.put("elapsed_ns", started.elapsed().as_nanos() as u64);
    Ok(())
}
