//! Processes of many threads: all are inside one call at once, and go on all together.
//!
//! Exact counts for P processes of T threads and COUNT rounds: 1 semget, 3 semctl (SETVAL twice, IPC_RMID) and as many
//! semctl (GETZCNT) as the result's `looks`, P × T semtimedop (the C library's `semop()`) that wait for semaphore 0 to be
//! zero, and per round and thread 2 semtimedop (+1, −1) of the semaphore of the process, in which nobody waits. Nothing
//! fails. The first thread of a process is one of its T. When all are inside, the gate `all-inside` holds them there.

use super::{make_set, remove_set, set_value};
use crate::call::{SemArgument, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, process};
use std::time::{Duration, Instant};

/// The options.
pub(crate) struct Multitude {
    pub(crate) processes: u16,
    pub(crate) threads: u16,
    pub(crate) count: u64,
}

/// Of a thread; the standard library's 2 MiB are more than a process of a thousand may map.
const STACK_BYTES: usize = 128 << 10;

/// The semaphore that all wait for.
const DOOR: u16 = 0;

fn work(context: &Context, set: i32, own: u16, count: u64) -> Result<()> {
    let mut caller = context.caller(2 * count + 1);
    succeed("semop", caller.semop(set, &[sop(DOOR, 0, 0)]))?;
    for _ in 0..count {
        succeed("semop", caller.semop(set, &[sop(own, 1, 0)]))?;
        succeed("semop", caller.semop(set, &[sop(own, -1, 0)]))?;
    }
    caller.finish()
}

/// One process: its first thread does what the others do.
fn live(context: &Context, set: i32, own: u16, threads: u16, count: u64) -> Result<()> {
    std::thread::scope(|scope| {
        let start = |_| {
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || work(context, set, own, count))
        };
        let others: std::io::Result<Vec<_>> = (1..threads).map(start).collect();
        let others = others.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        work(context, set, own, count)?;
        others.into_iter().try_for_each(|other| other.join().map_err(|_| Failure::new("a thread panicked"))?)
    })
}

pub(crate) fn run(context: &mut Context, multitude: &Multitude) -> Result<()> {
    context.name("multitude");
    let &Multitude { processes, threads, count } = multitude;
    let mut caller = context.caller(0);
    let set = make_set(context, &mut caller, processes + 1)?;
    set_value(&mut caller, set, DOOR, 1)?;
    let mut pids = Vec::new();
    for own in 1..=processes {
        pids.push(process::fork(context, |context| live(context, set, own, threads, count))?);
    }
    let all = i64::from(processes) * i64::from(threads);
    let deadline = Instant::now() + context.timeout;
    let mut looks = 1;
    while succeed("semctl GETZCNT", caller.semctl(set, DOOR.into(), libc::GETZCNT, SemArgument::None))? < all {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{all} threads were not inside semop in time")));
        }
        std::thread::sleep(Duration::from_millis(10));
        looks += 1;
    }
    context.wait_at_gate("all-inside")?;
    set_value(&mut caller, set, DOOR, 0)?;
    process::wait_all(&pids)?;
    remove_set(&mut caller, set)?;
    context.put("looks", looks);
    caller.finish()
}
