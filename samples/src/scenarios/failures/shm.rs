//! Shared memory.

use super::own_key;
use crate::Result;
use crate::call::{Caller, fail, id, succeed};
use crate::context::Context;
use crate::guard::Kind;
use libc::{EEXIST, EINVAL, ENOENT, IPC_CREAT, IPC_EXCL, IPC_STAT};

pub(super) fn round(context: &mut Context, caller: &mut Caller) -> Result<()> {
    let key = own_key(2);
    fail("shmget of an unknown key", caller.shmget(key, 4096, 0), ENOENT)?;
    fail("shmget of no bytes", caller.shmget(key, 0, IPC_CREAT | 0o600), EINVAL)?;
    let segment = id("shmget", caller.shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0o600))?;
    context.guard.add(Kind::Shm, segment)?;
    fail("shmget with IPC_EXCL", caller.shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0o600), EEXIST)?;
    fail("shmget of more than there is", caller.shmget(key, 8192, 0), EINVAL)?;
    fail("shmat of a bad id", caller.shmat(-1, 0, 0), EINVAL)?;
    fail("shmat at an odd address", caller.shmat(segment, 0x1001, 0), EINVAL)?;
    fail("shmdt of nothing", caller.shmdt(0x1000), EINVAL)?;
    fail("shmctl of a bad id", caller.shmctl(-1, IPC_STAT, Some(&mut [0; 32])), EINVAL)?;
    fail("shmctl with a bad command", caller.shmctl(segment, 99, None), EINVAL)?;
    succeed("shmctl IPC_RMID", caller.shm_remove(segment)).map(drop)
}
