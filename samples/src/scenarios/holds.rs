//! A semaphore held for a measured time while another process waits for it.
//!
//! Exact counts for COUNT holds: 1 semget, 2 semctl (SETVAL, IPC_RMID), 4 × COUNT semtimedop: the holder, which is the
//! first process, takes and gives, then the waiter. Nothing fails.
//!
//! The result's `waiter` is who waited; `holds` has per hold, by the boot clock: `taken_ns` (after the take), `asked_ns`
//! (the waiter just before its take), `given_from_ns` and `given_to_ns` (around the holder's give). The waiter is known
//! to sleep before the give.

use super::{make_set, remove_set, set_value};
use crate::call::{Caller, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, clock, process};
use serde_json::{Value, json};
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// What the two processes agree on: the hold that lasts, when the waiter asked, the hold that it got past.
type Turns = [&'static AtomicI64; 3];

fn wait(context: &Context, [held, asked, passed]: Turns, set: i32, count: u64) -> Result<()> {
    let mut caller = context.caller(2 * count);
    for hold in 1..=count as i64 {
        while board::read(held) < hold {
            std::hint::spin_loop();
        }
        board::write(asked, clock::boot_ns());
        succeed("semop", caller.semop(set, &[sop(0, -1, 0)]))?;
        succeed("semop", caller.semop(set, &[sop(0, 1, 0)]))?;
        board::write(passed, hold);
    }
    caller.finish()
}

fn hold(
    caller: &mut Caller,
    [held, asked, passed]: Turns,
    waiter: i32,
    number: i64,
    set: i32,
    time: Duration,
) -> Result<Value> {
    succeed("semop", caller.semop(set, &[sop(0, -1, 0)]))?;
    let taken_ns = clock::boot_ns();
    board::write(held, number);
    process::wait_until_inside(waiter, libc::SYS_semtimedop)?;
    let until_ns = taken_ns + time.as_nanos() as i64;
    std::thread::sleep(Duration::from_nanos(u64::try_from(until_ns - clock::boot_ns()).unwrap_or(0)));
    let given_from_ns = clock::boot_ns();
    succeed("semop", caller.semop(set, &[sop(0, 1, 0)]))?;
    let given_to_ns = clock::boot_ns();
    board::wait_for(passed, number)?;
    Ok(json!({
        "taken_ns": taken_ns, "asked_ns": board::read(asked),
        "given_from_ns": given_from_ns, "given_to_ns": given_to_ns,
    }))
}

pub(crate) fn run(context: &mut Context, count: u64, time: Duration) -> Result<()> {
    context.name("holds");
    let mut caller = context.caller(3 + 2 * count);
    let set = make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 1)?;
    let [held, asked, passed] = board::new(3)? else { return Err(Failure::new("no board")) };
    let turns = [held, asked, passed];
    let waiter = process::fork(context, |context| wait(context, turns, set, count))?;
    let holds: Result<Vec<Value>> =
        (1..=count as i64).map(|number| hold(&mut caller, turns, waiter, number, set, time)).collect();
    if holds.is_ok() {
        process::wait_all(&[waiter])?;
    }
    remove_set(&mut caller, set)?;
    context.put("waiter", waiter);
    context.put("holds", holds?);
    caller.finish()
}
