//! An IPC namespace full of semaphores, and one process that uses them all as fast as it can.
//!
//! Exact counts for S sets: S semget, and as many semtimedop (the C library's `semop()`; +1, −1 of one semaphore after the
//! other) as the result's `calls`. Nothing fails, nobody waits, nothing is removed: the sets go with the namespace. When they
//! are there, the gate `populated` holds the process back. What the result tells of the semtimedop by the process's own
//! clock: `longest_ns`, `mean_ns`, and `longer` with how many took longer than so many nanoseconds.

use crate::call::{Caller, id, sop, succeed};
use crate::context::Context;
use crate::{Result, clock, process};
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// What is long for a semop that does not wait, nanoseconds.
const LONG_NS: [i64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// How long calls took.
#[derive(Default)]
struct Times {
    calls: u64,
    sum_ns: i64,
    longest_ns: i64,
    longer: [u64; LONG_NS.len()],
}

impl Times {
    fn add(&mut self, ns: i64) {
        self.calls += 1;
        self.sum_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
        for (count, long) in self.longer.iter_mut().zip(LONG_NS) {
            *count += u64::from(ns > long);
        }
    }
}

/// Uses every semaphore in turn.
fn use_all(caller: &mut Caller, sets: &[i32], semaphores: u16, hold: Duration) -> Result<Times> {
    let mut times = Times::default();
    let deadline = Instant::now() + hold;
    let every = (0..semaphores).cycle().flat_map(|number| sets.iter().map(move |set| (*set, number)));
    for (set, number) in every {
        for amount in [1, -1] {
            let before = clock::boot_ns();
            succeed("semop", caller.semop(set, &[sop(number, amount, 0)]))?;
            times.add(clock::boot_ns() - before);
        }
        if Instant::now() > deadline {
            break;
        }
    }
    Ok(times)
}

pub(crate) fn run(context: &mut Context, sets: u16, semaphores: u16, hold: Duration) -> Result<()> {
    context.name("populated");
    process::leave_ipc_namespace()?;
    let mut caller = context.caller(0);
    let mut made = Vec::new();
    for _ in 0..sets {
        made.push(id("semget", caller.semget(libc::IPC_PRIVATE, semaphores.into(), libc::IPC_CREAT | 0o600))?);
    }
    context.wait_at_gate("populated")?;
    let times = use_all(&mut caller, &made, semaphores, hold)?;
    let longer = LONG_NS.iter().zip(times.longer).map(|(ns, count)| (ns.to_string(), Value::from(count)));
    context.put("calls", times.calls);
    context.put("mean_ns", times.sum_ns / times.calls as i64);
    context.put("longest_ns", times.longest_ns);
    context.put("longer", longer.collect::<Map<_, _>>());
    caller.finish()
}
