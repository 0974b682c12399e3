//! Semaphores.

use super::{End, own_key, wait_and_end};
use crate::Result;
use crate::call::{BAD_ADDRESS, Caller, SemArgument, SemWay, fail, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use libc::{E2BIG, EAGAIN, EEXIST, EFAULT, EFBIG, EIDRM, EINTR, EINVAL, ENOENT, ERANGE};
use libc::{IPC_CREAT, IPC_EXCL, IPC_NOWAIT, SYS_semtimedop};
use std::time::Duration;

pub(super) fn round(context: &mut Context, caller: &mut Caller) -> Result<()> {
    let key = own_key(1);
    fail("semget of an unknown key", caller.semget(key, 1, 0), ENOENT)?;
    fail("semget of no semaphores", caller.semget(key, 0, IPC_CREAT | 0o600), EINVAL)?;
    fail("semget of too many", caller.semget(key, i32::MAX, IPC_CREAT | 0o600), EINVAL)?;
    let set = id("semget", caller.semget(key, 2, IPC_CREAT | IPC_EXCL | 0o600))?;
    context.guard.add(Kind::Sem, set)?;
    fail("semget with IPC_EXCL", caller.semget(key, 2, IPC_CREAT | IPC_EXCL | 0o600), EEXIST)?;
    fail("semget of more than there are", caller.semget(key, 3, 0), EINVAL)?;
    operations(caller, set)?;
    let interrupted = |caller: &mut Caller| caller.semop(set, &[sop(0, -1, 0)]);
    wait_and_end(context, SYS_semtimedop, interrupted, End::Signal, EINTR)?;
    let mut remove = || succeed("semctl IPC_RMID", caller.sem_remove(set)).map(drop);
    let removed = |caller: &mut Caller| caller.semop(set, &[sop(1, -1, 0)]);
    wait_and_end(context, SYS_semtimedop, removed, End::Removal(&mut remove), EIDRM)?;
    fail("semop on a removed set", caller.semop(set, &[sop(0, 1, 0)]), EINVAL)
}

fn operations(caller: &mut Caller, set: i32) -> Result<()> {
    let none = || SemArgument::None;
    fail("semop beyond the set", caller.semop(set, &[sop(2, 1, 0)]), EFBIG)?;
    fail("semop with too many", caller.sem(SemWay::Semop, set, &longer_than_allowed()), E2BIG)?;
    fail("semop with none", caller.semop_at(set, 0, 0), EINVAL)?;
    fail("semop at a bad address", caller.semop_at(set, BAD_ADDRESS, 1), EFAULT)?;
    fail("semop on a bad id", caller.semop(-1, &[sop(0, 1, 0)]), EINVAL)?;
    fail("semop with IPC_NOWAIT", caller.semop(set, &[sop(0, -1, IPC_NOWAIT)]), EAGAIN)?;
    fail("semtimedop", caller.semtimedop(set, &[sop(0, -1, 0)], Duration::from_millis(1)), EAGAIN)?;
    let wrong = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    fail("semtimedop with a wrong timeout", caller.semtimedop_raw(set, &[sop(0, -1, 0)], &wrong), EINVAL)?;
    fail("semop beyond SEMVMX", caller.semop(set, &[sop(1, 32_767, 0), sop(1, 1, 0)]), ERANGE)?;
    let too_large = SemArgument::Value(32_768);
    fail("semctl SETVAL beyond SEMVMX", caller.semctl(set, 0, libc::SETVAL, too_large), ERANGE)?;
    fail("semctl with a bad command", caller.semctl(set, 0, 99, none()), EINVAL)?;
    fail("semctl beyond the set", caller.semctl(set, 2, libc::GETVAL, none()), EINVAL)?;
    fail("semctl on a bad id", caller.semctl(-1, 0, libc::GETVAL, none()), EINVAL)
}

/// One operation more than SEMOPM, the third of `/proc/sys/kernel/sem` (500 unless changed).
fn longer_than_allowed() -> Vec<libc::sembuf> {
    let limits = std::fs::read_to_string("/proc/sys/kernel/sem").unwrap_or_default();
    let most = limits.split_whitespace().nth(2).and_then(|n| n.parse().ok()).unwrap_or(500);
    vec![sop(0, 1, 0); most + 1]
}
