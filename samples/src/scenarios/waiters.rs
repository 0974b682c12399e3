//! Threads that contend for one semaphore.
//!
//! Exact counts for T threads and COUNT critical sections each: 1 semget, 2 semctl (SETVAL, IPC_RMID), 2 × T × COUNT
//! semtimedop (the C library's `semop()`): −1, the hold time, +1. Nothing fails; T − 1 threads wait most of the time.

use super::{make_set, remove_set, set_value};
use crate::call::{sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, process};
use std::time::Duration;

fn contend(context: &Context, set: i32, count: u64, hold: Duration) -> Result<i32> {
    let mut caller = context.caller(2 * count);
    for _ in 0..count {
        succeed("semop", caller.semop(set, &[sop(0, -1, 0)]))?;
        std::thread::sleep(hold);
        succeed("semop", caller.semop(set, &[sop(0, 1, 0)]))?;
    }
    caller.finish()?;
    Ok(process::own_tid())
}

pub(crate) fn run(context: &mut Context, count: u64, threads: u16, hold: Duration) -> Result<()> {
    context.name("waiters");
    let mut caller = context.caller(3);
    let set = make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 1)?;
    let shared: &Context = context;
    let tids: Result<Vec<i32>> = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..threads).map(|_| scope.spawn(|| contend(shared, set, count, hold))).collect();
        waiting.into_iter().map(|w| w.join().map_err(|_| Failure::new("a thread panicked"))?).collect()
    });
    remove_set(&mut caller, set)?;
    context.put("tids", tids?);
    caller.finish()
}
