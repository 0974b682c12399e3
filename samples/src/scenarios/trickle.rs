//! A call now and then.
//!
//! Exact counts: 1 semget, 1 semctl (IPC_RMID), COUNT semtimedop (the C library's `semop()`), alternately +1 and −1, one in
//! each interval. Nothing fails.

use super::{make_set, remove_set};
use crate::Result;
use crate::call::{sop, succeed};
use crate::context::Context;
use std::time::{Duration, Instant};

pub(crate) fn run(context: &mut Context, count: u64, every: Duration) -> Result<()> {
    context.name("trickle");
    let mut caller = context.caller(count + 2);
    let set = make_set(context, &mut caller, 1)?;
    let mut next = Instant::now();
    for call in 0..count {
        next += every;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        succeed("semop", caller.semop(set, &[sop(0, 1 - 2 * (call % 2) as i16, 0)]))?;
    }
    remove_set(&mut caller, set)?;
    caller.finish()
}
