//! System V message queues.

use super::{Caller, Outcome, signed};
use libc::{SYS_msgctl, SYS_msgget, SYS_msgrcv, SYS_msgsnd};

/// A message of up to 256 bytes.
#[repr(C)]
pub(crate) struct Message {
    pub(crate) kind: i64,
    pub(crate) body: [u8; 256],
}

impl Message {
    pub(crate) const fn new(kind: i64) -> Message {
        Message { kind, body: [b'x'; 256] }
    }
}

impl Caller {
    pub(crate) fn msgget(&mut self, key: i32, flags: i32) -> Outcome {
        // SAFETY: no argument is a pointer.
        unsafe { self.perform(SYS_msgget, [signed(key.into()), signed(flags.into()), 0, 0, 0, 0], &[]) }
    }

    /// Sends `size` bytes of the message; more than it has only with a size beyond every limit, which is refused.
    pub(crate) fn msgsnd(&mut self, msqid: i32, message: &Message, size: u64, flags: i32) -> Outcome {
        let message = std::ptr::from_ref(message) as u64;
        // SAFETY: the kernel only reads the message.
        unsafe { self.perform(SYS_msgsnd, [signed(msqid.into()), message, size, signed(flags.into()), 0, 0], &[]) }
    }

    /// Receives up to `size` bytes, at most 256.
    pub(crate) fn msgrcv(&mut self, msqid: i32, message: &mut Message, size: u64, kind: i64, flags: i32) -> Outcome {
        assert!(size <= 256, "the buffer of a message holds 256 bytes");
        let message = std::ptr::from_mut(message) as u64;
        let args = [signed(msqid.into()), message, size, signed(kind), signed(flags.into()), 0];
        // SAFETY: the message has room for its type and `size` bytes.
        unsafe { self.perform(SYS_msgrcv, args, &[]) }
    }

    /// With room for `struct msqid64_ds` (120 bytes).
    pub(crate) fn msgctl(&mut self, msqid: i32, command: i32, buffer: Option<&mut libc::msqid_ds>) -> Outcome {
        let buffer = buffer.map_or(0, |b| std::ptr::from_mut(b) as u64);
        // SAFETY: the buffer is NULL or the C library's msqid_ds, which on x86-64 is the kernel's msqid64_ds.
        unsafe { self.perform(SYS_msgctl, [signed(msqid.into()), signed(command.into()), buffer, 0, 0, 0], &[]) }
    }

    /// IPC_RMID.
    pub(crate) fn msg_remove(&mut self, msqid: i32) -> Outcome {
        self.msgctl(msqid, libc::IPC_RMID, None)
    }
}
