//! Processes killed by SIGKILL while they wait in semop.
//!
//! Exact counts for COUNT: 1 semget, 1 semctl (IPC_RMID), COUNT semtimedop (the C library's entry point for `semop()`),
//! none of which returns. The result's `killed` has one object per process: `tid`, `inside_ns` (it was seen asleep inside
//! the call), `kill_ns` (just before the kill) and `reaped_ns`, all by the boot clock. A killed process writes no log.

use super::{make_set, remove_set};
use crate::call::sop;
use crate::context::Context;
use crate::{Failure, Result, clock, process};
use serde_json::{Value, json};

/// Starts a process that waits for ever, and returns it with the boot clock when it was seen inside.
pub(super) fn start_waiting(context: &mut Context, set: i32) -> Result<(i32, i64)> {
    let pid = process::fork(context, |context| {
        let mut caller = context.caller(0);
        let sops = [sop(0, -1, 0)];
        caller.announce(libc::SYS_semtimedop);
        let args = [set as u64, sops.as_ptr() as u64, 1, 0, 0, 0];
        // SAFETY: the kernel only reads `sops`, and a NULL timeout is allowed.
        match unsafe { caller.unseen(libc::SYS_semtimedop, args) } {
            Err(libc::EIDRM) => Ok(()),
            other => Err(Failure::new(format!("semop on a semaphore that nobody raises ended with {other:?}"))),
        }
    })?;
    let inside_ns = process::wait_until_inside(pid, libc::SYS_semtimedop)?;
    Ok((pid, inside_ns))
}

fn kill_one(context: &mut Context, set: i32) -> Result<Value> {
    let (tid, inside_ns) = start_waiting(context, set)?;
    let kill_ns = clock::boot_ns();
    process::signal(tid, libc::SIGKILL)?;
    let status = process::wait(tid)?;
    let reaped_ns = clock::boot_ns();
    if status != libc::SIGKILL {
        return Err(Failure::new(format!("process {tid} ended with wait status {status:#x}, not by SIGKILL")));
    }
    Ok(json!({ "tid": tid, "inside_ns": inside_ns, "kill_ns": kill_ns, "reaped_ns": reaped_ns }))
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("killed");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, 1)?;
    let killed: Result<Vec<Value>> = (0..count).map(|_| kill_one(context, set)).collect();
    remove_set(&mut caller, set)?;
    context.put("killed", killed?);
    caller.finish()
}
