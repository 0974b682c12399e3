//! One round of semaphores: 1 semget, 7 semctl, 14 semtimedop, 2 semop; one semtimedop fails with EAGAIN.
//!
//! The calls with 1, 2, 5, 64, 499 and 500 operations add 1 to semaphores 0…7 in turn, and the same number of operations
//! takes it again; the largest are as long as the kernel's default SEMOPM allows.

use crate::Result;
use crate::call::{Caller, SemArgument, SemWay, fail, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use std::time::Duration;

const SEMAPHORES: u16 = 8;
const LENGTHS: [u16; 6] = [1, 2, 5, 64, 499, 500];

pub(crate) fn round(context: &Context, caller: &mut Caller) -> Result<()> {
    let outcome = caller.semget(libc::IPC_PRIVATE, SEMAPHORES.into(), libc::IPC_CREAT | 0o640);
    let set = id("semget", outcome)?;
    context.guard.add(Kind::Sem, set)?;
    let worked = work(caller, set);
    succeed("semctl IPC_RMID", caller.sem_remove(set))?;
    worked
}

fn work(caller: &mut Caller, set: i32) -> Result<()> {
    let mut values = [0; 512];
    succeed("semctl SETALL", caller.semctl(set, 0, libc::SETALL, SemArgument::Values(&mut values)))?;
    for length in LENGTHS {
        let add: Vec<_> = (0..length).map(|i| sop(i % SEMAPHORES, 1, 0)).collect();
        let take: Vec<_> = (0..length).map(|i| sop(i % SEMAPHORES, -1, libc::IPC_NOWAIT)).collect();
        succeed("semop", caller.semop(set, &add))?;
        succeed("semop", caller.semop(set, &take))?;
    }
    succeed("semop", caller.sem(SemWay::Semop, set, &[sop(3, 7, libc::SEM_UNDO)]))?;
    succeed("semop", caller.sem(SemWay::Semop, set, &[sop(3, -7, libc::SEM_UNDO), sop(3, 0, 0)]))?;
    succeed("semtimedop", caller.semtimedop(set, &[sop(1, 0, 0)], Duration::from_millis(1500)))?;
    let impossible = caller.semtimedop(set, &[sop(1, -1, 0)], Duration::from_micros(50));
    fail("semtimedop on a semaphore at 0", impossible, libc::EAGAIN)?;
    succeed("semctl SETVAL", caller.semctl(set, 2, libc::SETVAL, SemArgument::Value(5)))?;
    succeed("semctl GETVAL", caller.semctl(set, 2, libc::GETVAL, SemArgument::None))?;
    succeed("semctl GETPID", caller.semctl(set, 2, libc::GETPID, SemArgument::None))?;
    succeed("semctl GETALL", caller.semctl(set, 0, libc::GETALL, SemArgument::Values(&mut values)))?;
    succeed("semctl IPC_STAT", caller.semctl(set, 0, libc::IPC_STAT, SemArgument::Buffer(&mut [0; 32])))?;
    Ok(())
}
