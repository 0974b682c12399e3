//! Processes in a ring that hand tokens on: process i takes from semaphore i and gives to semaphore i + 1.
//!
//! Exact counts for P processes and COUNT rounds: 1 semget, 1 semctl (IPC_RMID), 2 × P × COUNT semtimedop. Nothing fails.
//! The first TOKENS processes begin with giving, the others with taking.
//!
//! Every semaphore has one giver and one taker and starts at 0. So the k-th take of process i is made possible by the
//! k-th give of process i − 1, and by no other call: when it slept, that call woke it. The result's `ring` has the
//! processes in order; `switches` has for each a digit per take: 1 when the kernel counted a voluntary context switch
//! during it (`ru_nvcsw`), which is a sleep.

use super::{make_set, remove_set};
use crate::call::{Caller, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, process};
use serde_json::Value;
use std::sync::atomic::AtomicI64;

/// The options.
pub(crate) struct Ring {
    pub(crate) processes: u16,
    pub(crate) tokens: u16,
    pub(crate) count: u64,
}

fn take(caller: &mut Caller, set: i32, own: u16, switched: &AtomicI64) -> Result<()> {
    let before = process::voluntary_switches();
    succeed("semop", caller.semop(set, &[sop(own, -1, 0)]))?;
    board::write(switched, i64::from(process::voluntary_switches() > before));
    Ok(())
}

fn work(context: &Context, ring: &Ring, set: i32, own: u16, switched: &[AtomicI64]) -> Result<()> {
    let mut caller = context.caller(2 * ring.count);
    let give = [sop((own + 1) % ring.processes, 1, 0)];
    for switched in switched {
        if own < ring.tokens {
            succeed("semop", caller.semop(set, &give))?;
            take(&mut caller, set, own, switched)?;
        } else {
            take(&mut caller, set, own, switched)?;
            succeed("semop", caller.semop(set, &give))?;
        }
    }
    caller.finish()
}

pub(crate) fn run(context: &mut Context, ring: &Ring) -> Result<()> {
    context.name("handoffs");
    if ring.tokens >= ring.processes {
        return Err(Failure::new("--tokens must be less than --processes: somebody has to take first"));
    }
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, ring.processes)?;
    let switched = board::new(usize::from(ring.processes) * ring.count as usize)?;
    let own_part = |own: u16| &switched[usize::from(own) * ring.count as usize..][..ring.count as usize];
    let mut pids = Vec::new();
    for own in 0..ring.processes {
        pids.push(process::fork(context, |context| work(context, ring, set, own, own_part(own)))?);
    }
    let worked = process::wait_all(&pids);
    remove_set(&mut caller, set)?;
    worked?;
    let digits = |own: u16| own_part(own).iter().map(|cell| if board::read(cell) == 1 { '1' } else { '0' }).collect();
    context.put("switches", (0..ring.processes).map(digits).collect::<Vec<String>>());
    context.put("ring", pids.into_iter().map(Value::from).collect::<Vec<_>>());
    caller.finish()
}
