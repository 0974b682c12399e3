//! Three processes that each hold one semaphore (SEM_UNDO) and wait for the next one's, until SIGTERM, SIGINT or the time
//! is over.
//!
//! Prints a line `{"semid", "waiting"}` when all are seen asleep inside the call, `waiting` with `tid`, `sops` (number,
//! what is added, flags) and `inside_ns` for each, and the result at the end. Exact counts: 1 semget, 2 semctl (SETALL,
//! IPC_RMID), 6 semtimedop: three succeed, and the three that wait end with EIDRM, which appears in no `errors`.

use super::open::{listen, wait_to_be_told};
use super::{make_set, remove_set};
use crate::call::{SemArgument, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, process};
use libc::{SEM_UNDO, sembuf};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const PROCESSES: u16 = 3;

/// Takes the next process's semaphore, and counts that in a semaphore of its own.
fn second_step(own: u16) -> [sembuf; 2] {
    [sop((own + 1) % PROCESSES, -1, SEM_UNDO), sop(PROCESSES + own, 1, 0)]
}

fn lock(context: &Context, set: i32, own: u16, holders: &AtomicI64) -> Result<()> {
    let mut caller = context.caller(1);
    succeed("semop", caller.semop(set, &[sop(own, -1, SEM_UNDO)]))?;
    holders.fetch_add(1, Ordering::AcqRel);
    board::wait_for(holders, PROCESSES.into())?;
    let sops = second_step(own);
    caller.announce(libc::SYS_semtimedop);
    let args = [set as u64, sops.as_ptr() as u64, sops.len() as u64, 0, 0, 0];
    // SAFETY: the kernel only reads `sops`, and a NULL timeout is allowed.
    match unsafe { caller.unseen(libc::SYS_semtimedop, args) } {
        Err(libc::EIDRM) => caller.finish(),
        other => Err(Failure::new(format!("semop in a deadlock ended with {other:?}"))),
    }
}

/// Waits until every process sleeps in its second step, and says so.
fn announce(set: i32, pids: &[i32]) -> Result<()> {
    let mut waiting = Vec::new();
    for (own, pid) in (0..).zip(pids) {
        let inside_ns = process::wait_until_inside(*pid, libc::SYS_semtimedop)?;
        let sops = second_step(own).map(|sop| [i32::from(sop.sem_num), sop.sem_op.into(), sop.sem_flg.into()]);
        waiting.push(json!({ "tid": pid, "sops": sops, "inside_ns": inside_ns }));
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", json!({ "semid": set, "waiting": Value::from(waiting) }))
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::new(format!("cannot write to stdout: {e}")))
}

pub(crate) fn run(context: &mut Context, hold: Duration) -> Result<()> {
    context.name("deadlock");
    let mut caller = context.caller(3);
    let set = make_set(context, &mut caller, 2 * PROCESSES)?;
    let mut values = [0; 512];
    values[..PROCESSES.into()].fill(1);
    succeed("semctl SETALL", caller.semctl(set, 0, libc::SETALL, SemArgument::Values(&mut values)))?;
    let holders = &board::new(1)?[0];
    let mut pids = Vec::new();
    for own in 0..PROCESSES {
        pids.push(process::fork(context, |context| lock(context, set, own, holders))?);
    }
    listen();
    announce(set, &pids)?;
    wait_to_be_told(hold);
    remove_set(&mut caller, set)?;
    process::wait_all(&pids)?;
    caller.finish()
}
