//! System V semaphores.

use super::{Caller, Outcome, signed};
use libc::{SYS_semctl, SYS_semget, SYS_semop, SYS_semtimedop, sembuf};
use std::time::Duration;

/// How a semaphore operation reaches the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SemWay {
    /// `semop()` of the C library, which issues `semtimedop` with a NULL timeout
    Libc,
    /// The system call `semop`
    Semop,
    /// The system call `semtimedop`
    Semtimedop,
}

/// The fourth argument of semctl.
pub(crate) enum SemArgument<'a> {
    None,
    Value(i32),
    /// For GETALL and SETALL: room for more semaphores than any set of this program has.
    Values(&'a mut [u16; 512]),
    /// For IPC_STAT: room for `struct semid64_ds`, 104 bytes.
    Buffer(&'a mut [u64; 32]),
}

/// One semaphore operation.
pub(crate) const fn sop(sem_num: u16, sem_op: i16, sem_flg: i32) -> sembuf {
    sembuf { sem_num, sem_op, sem_flg: sem_flg as i16 }
}

impl Caller {
    pub(crate) fn semget(&mut self, key: i32, nsems: i32, flags: i32) -> Outcome {
        let args = [signed(key.into()), signed(nsems.into()), signed(flags.into()), 0, 0, 0];
        // SAFETY: no argument is a pointer.
        unsafe { self.perform(SYS_semget, args, &[]) }
    }

    /// A semaphore call by any way, without a timeout.
    #[inline]
    pub(crate) fn sem(&mut self, way: SemWay, semid: i32, sops: &[sembuf]) -> Outcome {
        let args = [signed(semid.into()), sops.as_ptr() as u64, sops.len() as u64, 0, 0, 0];
        match way {
            // SAFETY: `sops` is valid for its length; the kernel only reads it.
            SemWay::Libc => self.timed(SYS_semtimedop, args, sops, || unsafe {
                i64::from(libc::semop(semid, sops.as_ptr().cast_mut(), sops.len()))
            }),
            // SAFETY: the kernel only reads what the pointers show.
            SemWay::Semop => unsafe { self.perform(SYS_semop, args, sops) },
            // SAFETY: as above, and a NULL timeout is allowed.
            SemWay::Semtimedop => unsafe { self.perform(SYS_semtimedop, args, sops) },
        }
    }

    /// As programs do.
    #[inline]
    pub(crate) fn semop(&mut self, semid: i32, sops: &[sembuf]) -> Outcome {
        self.sem(SemWay::Libc, semid, sops)
    }

    pub(crate) fn semtimedop(&mut self, semid: i32, sops: &[sembuf], timeout: Duration) -> Outcome {
        let timeout = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        self.semtimedop_raw(semid, sops, &timeout)
    }

    /// With a timeout that may be wrong.
    pub(crate) fn semtimedop_raw(&mut self, semid: i32, sops: &[sembuf], timeout: &libc::timespec) -> Outcome {
        let timeout = std::ptr::from_ref(timeout) as u64;
        let args = [signed(semid.into()), sops.as_ptr() as u64, sops.len() as u64, timeout, 0, 0];
        // SAFETY: the kernel only reads what the pointers show.
        unsafe { self.perform(SYS_semtimedop, args, sops) }
    }

    /// The system call `semop` with operations at an address that may be wrong.
    pub(crate) fn semop_at(&mut self, semid: i32, address: u64, count: u64) -> Outcome {
        // SAFETY: the kernel only reads at `address`.
        unsafe { self.perform(SYS_semop, [signed(semid.into()), address, count, 0, 0, 0], &[]) }
    }

    pub(crate) fn semctl(&mut self, semid: i32, semnum: i32, command: i32, argument: SemArgument) -> Outcome {
        let argument = match argument {
            SemArgument::None => 0,
            SemArgument::Value(value) => signed(value.into()),
            SemArgument::Values(values) => values.as_mut_ptr() as u64,
            SemArgument::Buffer(buffer) => buffer.as_mut_ptr() as u64,
        };
        let args = [signed(semid.into()), signed(semnum.into()), signed(command.into()), argument, 0, 0];
        // SAFETY: the argument is a number or memory with room for what the commands of this program write.
        unsafe { self.perform(SYS_semctl, args, &[]) }
    }

    /// IPC_RMID.
    pub(crate) fn sem_remove(&mut self, semid: i32) -> Outcome {
        self.semctl(semid, 0, libc::IPC_RMID, SemArgument::None)
    }
}
