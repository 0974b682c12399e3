//! System V shared memory.

use super::{Caller, Outcome, signed};
use libc::{SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget};

impl Caller {
    pub(crate) fn shmget(&mut self, key: i32, size: u64, flags: i32) -> Outcome {
        // SAFETY: no argument is a pointer.
        unsafe { self.perform(SYS_shmget, [signed(key.into()), size, signed(flags.into()), 0, 0, 0], &[]) }
    }

    /// Attaches; the address is the kernel's choice unless it is not 0.
    pub(crate) fn shmat(&mut self, shmid: i32, address: u64, flags: i32) -> Outcome {
        // SAFETY: without SHM_REMAP, which this program never passes, the call maps only where nothing is.
        unsafe { self.perform(SYS_shmat, [signed(shmid.into()), address, signed(flags.into()), 0, 0, 0], &[]) }
    }

    /// Detaches; no reference to the segment exists anywhere in this program.
    pub(crate) fn shmdt(&mut self, address: u64) -> Outcome {
        // SAFETY: the call unmaps only what shmat mapped.
        unsafe { self.perform(SYS_shmdt, [address, 0, 0, 0, 0, 0], &[]) }
    }

    /// With room for `struct shmid64_ds` (112 bytes) or what a wrong command would write.
    pub(crate) fn shmctl(&mut self, shmid: i32, command: i32, buffer: Option<&mut [u64; 32]>) -> Outcome {
        let buffer = buffer.map_or(0, |b| b.as_mut_ptr() as u64);
        // SAFETY: the buffer is NULL or has room for what the commands write.
        unsafe { self.perform(SYS_shmctl, [signed(shmid.into()), signed(command.into()), buffer, 0, 0, 0], &[]) }
    }

    /// IPC_RMID.
    pub(crate) fn shm_remove(&mut self, shmid: i32) -> Outcome {
        self.shmctl(shmid, libc::IPC_RMID, None)
    }
}
