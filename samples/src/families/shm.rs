//! One round of shared memory: 1 shmget, 2 shmat, 2 shmdt, 2 shmctl. Nothing fails.

use crate::Result;
use crate::call::{Caller, id, succeed};
use crate::context::Context;
use crate::guard::Kind;

pub(crate) fn round(context: &Context, caller: &mut Caller) -> Result<()> {
    let segment = id("shmget", caller.shmget(libc::IPC_PRIVATE, 12_345, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Shm, segment)?;
    let worked = work(caller, segment);
    succeed("shmctl IPC_RMID", caller.shm_remove(segment))?;
    worked
}

fn work(caller: &mut Caller, segment: i32) -> Result<()> {
    let first = succeed("shmat", caller.shmat(segment, 0, 0))? as u64;
    let second = succeed("shmat", caller.shmat(segment, 0, libc::SHM_RDONLY))? as u64;
    succeed("shmctl IPC_STAT", caller.shmctl(segment, libc::IPC_STAT, Some(&mut [0; 32])))?;
    succeed("shmdt", caller.shmdt(first))?;
    succeed("shmdt", caller.shmdt(second))?;
    Ok(())
}
