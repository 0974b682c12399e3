//! POSIX message queues. The kernel takes a name without the slash that the C library asks for.

use super::{Caller, Outcome, signed};
use crate::{clock, process};
use libc::{SYS_mq_getsetattr, SYS_mq_notify, SYS_mq_open, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_mq_unlink};
use std::ffi::{CStr, CString};
use std::time::Duration;

/// `struct mq_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Attributes {
    pub(crate) flags: i64,
    pub(crate) max_messages: i64,
    pub(crate) max_message_bytes: i64,
    pub(crate) messages: i64,
    pub(crate) reserved: [i64; 4],
}

impl Attributes {
    pub(crate) fn room(max_messages: i64, max_message_bytes: i64) -> Attributes {
        Attributes { max_messages, max_message_bytes, ..Attributes::default() }
    }
}

/// A queue name of this process.
pub(crate) struct QueueName(CString);

impl QueueName {
    /// `ipc-workload-PID-LABEL`; a label without NUL.
    pub(crate) fn own(label: &str) -> QueueName {
        QueueName::literal(&format!("ipc-workload-{}-{label}", process::own_pid()))
    }

    /// The name as it is; cut at a NUL.
    pub(crate) fn literal(name: &str) -> QueueName {
        QueueName(CString::new(name.split('\0').next().unwrap_or("")).unwrap_or_default())
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("")
    }

    fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

/// The wall clock `after` from now, as a deadline.
pub(crate) fn deadline(after: Duration) -> libc::timespec {
    let ns = clock::epoch_ns() + after.as_nanos() as i64;
    libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
}

fn address(deadline: Option<&libc::timespec>) -> u64 {
    deadline.map_or(0, |d| std::ptr::from_ref(d) as u64)
}

impl Caller {
    pub(crate) fn mq_open(&mut self, name: &QueueName, flags: i32, attributes: Option<&Attributes>) -> Outcome {
        self.mq_open_at(name.as_c_str().as_ptr() as u64, flags, attributes)
    }

    /// With a name at an address that may be wrong.
    pub(crate) fn mq_open_at(&mut self, name: u64, flags: i32, attributes: Option<&Attributes>) -> Outcome {
        let attributes = attributes.map_or(0, |a| std::ptr::from_ref(a) as u64);
        // SAFETY: the kernel only reads name and attributes.
        unsafe { self.perform(SYS_mq_open, [name, signed(flags.into()), 0o600, attributes, 0, 0], &[]) }
    }

    pub(crate) fn mq_unlink(&mut self, name: &QueueName) -> Outcome {
        let name = name.as_c_str().as_ptr() as u64;
        // SAFETY: the kernel only reads the name.
        unsafe { self.perform(SYS_mq_unlink, [name, 0, 0, 0, 0, 0], &[]) }
    }

    /// Sends `body`.
    pub(crate) fn mq_send(
        &mut self,
        queue: i32,
        body: &[u8],
        priority: u32,
        until: Option<&libc::timespec>,
    ) -> Outcome {
        let args = [signed(queue.into()), body.as_ptr() as u64, body.len() as u64, priority.into(), address(until), 0];
        // SAFETY: the kernel only reads body and deadline.
        unsafe { self.perform(SYS_mq_timedsend, args, &[]) }
    }

    /// Receives into `body`, with the priority when `priority` is given.
    pub(crate) fn mq_receive(
        &mut self,
        queue: i32,
        body: &mut [u8],
        priority: Option<&mut u32>,
        until: Option<&libc::timespec>,
    ) -> Outcome {
        let priority = priority.map_or(0, |p| std::ptr::from_mut(p) as u64);
        let length = body.len() as u64;
        let args = [signed(queue.into()), body.as_mut_ptr() as u64, length, priority, address(until), 0];
        // SAFETY: `body` has room for its length, the priority is NULL or a valid u32, the deadline is only read.
        unsafe { self.perform(SYS_mq_timedreceive, args, &[]) }
    }

    /// Asks for no notification but claims it (SIGEV_NONE), or gives the claim up.
    pub(crate) fn mq_notify(&mut self, queue: i32, claim: bool) -> Outcome {
        // `struct sigevent`: 64 bytes, sigev_notify after sigev_value and sigev_signo.
        let mut event = [0_u32; 16];
        event[3] = libc::SIGEV_NONE as u32;
        let event = if claim { event.as_ptr() as u64 } else { 0 };
        // SAFETY: the kernel only reads the event.
        unsafe { self.perform(SYS_mq_notify, [signed(queue.into()), event, 0, 0, 0, 0], &[]) }
    }

    pub(crate) fn mq_getsetattr(&mut self, queue: i32, new: Option<&Attributes>, old: &mut Attributes) -> Outcome {
        let new = new.map_or(0, |a| std::ptr::from_ref(a) as u64);
        let old = std::ptr::from_mut(old) as u64;
        // SAFETY: the new attributes are only read, the old ones are valid memory of the right size.
        unsafe { self.perform(SYS_mq_getsetattr, [signed(queue.into()), new, old, 0, 0, 0], &[]) }
    }
}
