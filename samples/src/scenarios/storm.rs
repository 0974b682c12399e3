//! Processes that work on their own semaphore as fast as they can, or at a rate; nobody waits.
//!
//! Exact counts for P processes and bursts of COUNT calls: 1 semget, 1 semctl (IPC_RMID), P × the sum of COUNT semtimedop
//! (the C library's `semop()`), alternately +1 and −1. Nothing fails. The result's `calls` is how many semtimedop,
//! `elapsed_ns` the time of the slowest process for its loops alone. With `--duration` only the result tells how many.
//!
//! With `--rate` a process sleeps a millisecond between its calls and then makes those that are due: one that had no
//! processor for a while catches up.

use super::{make_set, remove_set};
use crate::call::{sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, process};
use std::time::{Duration, Instant};

/// The options.
pub(crate) struct Storm {
    pub(crate) processes: u16,
    pub(crate) count: Vec<u64>,
    pub(crate) duration: Option<Duration>,
    pub(crate) rate: Option<u32>,
    pub(crate) pin: bool,
}

/// Between the calls that a rate allows at once.
const PAUSE: Duration = Duration::from_millis(1);
/// Calls between two looks at the clock where it ends them: a tenth of a millisecond.
const CALLS_BETWEEN_LOOKS: u64 = 1000;

impl Storm {
    /// The most calls of each burst.
    fn bursts(&self) -> &[u64] {
        if self.duration.is_some() { &[u64::MAX] } else { &self.count }
    }

    /// How many calls a process that has made so many may have made before it looks at the clock again.
    fn due(&self, made: u64, elapsed: Duration) -> u64 {
        match (self.rate, self.duration) {
            (Some(rate), _) => (f64::from(rate) * elapsed.as_secs_f64()) as u64,
            (None, Some(_)) => made + CALLS_BETWEEN_LOOKS,
            (None, None) => u64::MAX,
        }
    }

    /// Makes the calls of a burst; returns how long they took.
    fn burst(&self, most: u64, mut call: impl FnMut(u64) -> Result<()>) -> Result<Duration> {
        let (started, mut made) = (Instant::now(), 0);
        while made < most && self.duration.is_none_or(|duration| started.elapsed() < duration) {
            let due = self.due(made, started.elapsed()).min(most);
            (made..due).try_for_each(&mut call)?;
            made = due;
            if self.rate.is_some() && made < most {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(started.elapsed())
    }
}

fn work(context: &Context, storm: &Storm, set: i32, own: u16) -> Result<()> {
    if storm.pin {
        pin(own.into())?;
    }
    let mut caller = context.caller(storm.count.iter().sum());
    let sops = [[sop(own, 1, 0)], [sop(own, -1, 0)]];
    let mut elapsed = Duration::ZERO;
    for (burst, most) in (1..).zip(storm.bursts()) {
        context.wait_at_gate(&format!("burst-{burst}"))?;
        elapsed +=
            storm.burst(*most, |call| succeed("semop", caller.semop(set, &sops[(call % 2) as usize])).map(drop))?;
        context.note_at_gate(&format!("burst-{burst}-{own}.done"))?;
    }
    context.totals.add_loop(elapsed);
    caller.finish()
}

/// Keeps the process on one of the CPUs that it may use: the `which`-th, in turn.
pub(super) fn pin(which: usize) -> Result<()> {
    // SAFETY: a zeroed cpu_set_t is the empty set; the calls get its size and a valid pointer to it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Err(Failure::last("cannot read the CPU affinity"));
        }
        let allowed: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect();
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(allowed[which % allowed.len()], &mut set);
        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) != 0 {
            return Err(Failure::last("cannot set the CPU affinity"));
        }
    }
    Ok(())
}

pub(crate) fn run(context: &mut Context, storm: &Storm) -> Result<()> {
    context.name("storm");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, storm.processes)?;
    let mut workers = Vec::new();
    for own in 0..storm.processes {
        workers.push(process::fork(context, |context| work(context, storm, set, own))?);
    }
    let worked = process::wait_all(&workers);
    remove_set(&mut caller, set)?;
    worked?;
    context.put("calls", context.totals.performed()["semtimedop"].clone());
    context.put("elapsed_ns", context.totals.longest_loop_ns());
    caller.finish()
}
