//! Processes that fork one child after the other; each child makes a few calls and ends.
//!
//! Exact counts for P processes, each with bursts of COUNT children: 1 semget, 1 semctl (IPC_RMID), and per child 1 semget,
//! of the key 0x5f000000 + serial, which fails with ENOENT, and 2 semtimedop (the C library's `semop()`; +1, −1). Serials are
//! 0, 1, 2…: those of a process follow each other. The result's `children` is how many there were, `elapsed_ns` the
//! time of the slowest process for its bursts alone; the children are not in `pids`, for ids recur. With --gate a process
//! ends burst K with DIR/burst-K-PROCESS.done. Children write no log.

use super::{make_set, remove_set};
use crate::call::{Caller, fail, sop, succeed};
use crate::context::Context;
use crate::{Result, process};
use std::time::{Duration, Instant};

const KEYS_FROM: i32 = 0x5f00_0000;

fn child(context: &Context, set: i32, own: u16, serial: u32) -> Result<()> {
    let mut caller = Caller::new(context.totals, None, 0);
    fail("semget of no set", caller.semget(KEYS_FROM + serial as i32, 0, 0), libc::ENOENT)?;
    succeed("semop", caller.semop(set, &[sop(own, 1, 0)]))?;
    succeed("semop", caller.semop(set, &[sop(own, -1, 0)]))?;
    caller.finish()
}

fn breed(context: &Context, set: i32, own: u16, bursts: &[u32]) -> Result<()> {
    let mut serial = u32::from(own) * bursts.iter().sum::<u32>();
    let mut elapsed = Duration::ZERO;
    for (burst, count) in (1..).zip(bursts) {
        context.wait_at_gate(&format!("burst-{burst}"))?;
        let started = Instant::now();
        for _ in 0..*count {
            let pid = process::fork_unlisted(context, |context| child(context, set, own, serial))?;
            process::wait_all(&[pid])?;
            serial += 1;
        }
        elapsed += started.elapsed();
        context.note_at_gate(&format!("burst-{burst}-{own}.done"))?;
    }
    context.totals.add_loop(elapsed);
    Ok(())
}

pub(crate) fn run(context: &mut Context, processes: u16, bursts: &[u32]) -> Result<()> {
    context.name("forks");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, processes)?;
    let mut breeders = Vec::new();
    for own in 0..processes {
        breeders.push(process::fork(context, |context| breed(context, set, own, bursts))?);
    }
    let bred = process::wait_all(&breeders);
    remove_set(&mut caller, set)?;
    bred?;
    context.put("keys_from", KEYS_FROM);
    context.put("children", u32::from(processes) * bursts.iter().sum::<u32>());
    context.put("elapsed_ns", context.totals.longest_loop_ns());
    caller.finish()
}
