//! POSIX message queues.

use super::super::abi::Way;
use super::super::row::Row;
use super::super::words;
use super::setup::native;
use super::{Bench, Done, Queue, word};
use crate::{Failure, Result, clock};
use serde_json::Value;
use std::ffi::CString;

/// What mq_notify asks for.
#[derive(Clone, Copy)]
pub(in super::super) enum Notify {
    /// NULL: give the claim up.
    Nothing,
    /// SIGEV_NONE.
    Silent,
    /// SIGEV_SIGNAL.
    Signal(i32),
    /// A method that does not exist.
    Unknown,
}

impl Queue {
    /// Messages and bytes in it now.
    fn filling(&self) -> Result<(i64, i64)> {
        let mut text = [0_u8; 128];
        let depth = self.attributes()?[3];
        // SAFETY: `text` has room for its length; the position is given, so that it can be read again.
        let length = unsafe { libc::pread(self.watch, text.as_mut_ptr().cast(), text.len(), 0) };
        let text = String::from_utf8_lossy(&text[..length.max(0) as usize]).into_owned();
        let bytes = text.strip_prefix("QSIZE:").and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        bytes.map(|bytes| (depth, bytes)).ok_or_else(|| Failure::new(format!("a queue says of itself: {text:?}")))
    }

    /// Flags, most messages, most bytes of one, messages now.
    fn attributes(&self) -> Result<[i64; 8]> {
        let mut attributes = [0_i64; 8];
        let old = attributes.as_mut_ptr() as u64;
        native(libc::SYS_mq_getsetattr, [word(self.watch), 0, old, 0, 0, 0])?;
        Ok(attributes)
    }

    fn inode(&self) -> Result<i64> {
        // SAFETY: zero is a valid stat, which the call fills.
        let (result, stat) = unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            (libc::fstat(self.watch, &mut stat), stat)
        };
        if result == 0 { Ok(stat.st_ino as i64) } else { Err(Failure::last("cannot look at a queue")) }
    }

    /// The row with what is known of the queue; NULL where the descriptor is none.
    fn describe(&self, row: Row) -> Row {
        let known = || Some((self.inode().ok()?, self.filling().ok()?, self.attributes().ok()?));
        let (inode, depth, bytes, most, most_bytes) = match known() {
            Some((inode, (depth, bytes), attributes)) => {
                (Some(inode), Some(depth), Some(bytes), Some(attributes[1]), Some(attributes[2]))
            }
            None => (None, None, None, None, None),
        };
        row.set("object_id", inode)
            .set("object_name", self.name.clone())
            .set("queue_depth", depth)
            .set("queue_bytes", bytes)
            .set("queue_max_messages", most)
            .set("queue_max_message_bytes", most_bytes)
    }
}

impl Bench {
    /// Attributes are the most messages and the most bytes of one.
    pub(in super::super) fn mq_open(&mut self, name: &CString, flags: &str, room: Option<(i64, i64)>) -> Done<'_> {
        let (value, mode) = words::flags_and_mode(flags);
        let pointer = self.user(name.as_bytes_with_nul());
        let attributes = room.map_or(0, |(messages, bytes)| {
            let attributes: Vec<u8> = [0, messages, bytes, 0, 0, 0, 0, 0].iter().flat_map(|v| self.long(*v)).collect();
            self.user(&attributes)
        });
        let row = Row::of("mq_open").set("object_name", format!("/{}", name.to_string_lossy())).flags(value, flags);
        let row = row.set("queue_max_messages", room.map(|r| r.0)).set("queue_max_message_bytes", room.map(|r| r.1));
        let done = self.perform("mq_open", [pointer, word(value), word(mode), attributes, 0, 0], row);
        // A queue that did not come to be has no depth; of one that did, the case says what it knows.
        done.without(&["queue_depth", "queue_bytes"])
    }

    pub(in super::super) fn mq_unlink(&mut self, name: &CString) -> Done<'_> {
        let pointer = self.user(name.as_bytes_with_nul());
        let row = Row::of("mq_unlink").set("object_name", format!("/{}", name.to_string_lossy()));
        self.perform("mq_unlink", [pointer, 0, 0, 0, 0, 0], row)
    }

    /// The address of a deadline `ns` from now, and the deadline.
    fn deadline(&mut self, ns: Option<i64>) -> (u64, Option<i64>) {
        let deadline = ns.map(|ns| clock::epoch_ns() + ns);
        (deadline.map_or(0, |at| self.time(at / 1_000_000_000, at % 1_000_000_000)), deadline)
    }

    /// With a deadline from now.
    pub(in super::super) fn mq_send(&mut self, queue: &Queue, size: usize, priority: i64, ns: Option<i64>) -> Done<'_> {
        let body = self.user(&vec![b'b'; size]);
        let (pointer, deadline) = self.deadline(ns);
        let row = queue.describe(Row::of("mq_timedsend")).set("deadline_ns", deadline);
        let row = row.set("size_bytes", size).set("msg_priority", priority);
        self.perform("mq_timedsend", [word(queue.fd), body, size as u64, priority as u64, pointer, 0], row)
    }

    /// With a deadline from now.
    pub(in super::super) fn mq_receive(&mut self, queue: &Queue, size: usize, ns: Option<i64>) -> Done<'_> {
        let body = self.user(&vec![0; size]);
        self.received = self.arena.room(8);
        let (pointer, deadline) = self.deadline(ns);
        let row = queue.describe(Row::of("mq_timedreceive")).set("deadline_ns", deadline).set("size_bytes", size);
        let args = [word(queue.fd), body, size as u64, self.received, pointer, 0];
        self.perform("mq_timedreceive", args, row)
    }

    /// With a deadline that is no time.
    pub(in super::super) fn mq_receive_with_wrong_time(&mut self, queue: &Queue, size: usize) -> Done<'_> {
        let body = self.user(&vec![0; size]);
        let pointer = self.time(1, 1_000_000_000);
        let row = queue.describe(Row::of("mq_timedreceive")).set("size_bytes", size);
        self.perform("mq_timedreceive", [word(queue.fd), body, size as u64, 0, pointer, 0], row)
    }

    pub(in super::super) fn mq_notify(&mut self, queue: &Queue, notify: Notify) -> Done<'_> {
        let (method, signal) = match notify {
            Notify::Signal(signal) => (libc::SIGEV_SIGNAL, Some(signal)),
            Notify::Unknown => (77, None),
            Notify::Silent | Notify::Nothing => (libc::SIGEV_NONE, None),
        };
        let event = match notify {
            Notify::Nothing => 0,
            _ => {
                // `struct sigevent`: a value as wide as a long, signal, method; 64 bytes.
                let words = [signal.unwrap_or(0), method].map(i32::to_ne_bytes).concat();
                let event = [self.long(0), words, vec![0; 48]].concat();
                self.user(&event)
            }
        };
        let row = queue.describe(Row::of("mq_notify")).set("signal", signal);
        self.perform("mq_notify", [word(queue.fd), event, 0, 0, 0, 0], row)
    }

    /// With new flags, or only asking.
    pub(in super::super) fn mq_getsetattr(&mut self, queue: &Queue, flags: Option<&str>) -> Done<'_> {
        let value = flags.map(words::flags);
        let new = value.map_or(0, |value| {
            let attributes: Vec<u8> = [value.into(), 0, 0, 0, 0, 0, 0, 0].iter().flat_map(|v| self.long(*v)).collect();
            self.user(&attributes)
        });
        let old = self.arena.room(64);
        let row = queue.describe(Row::of("mq_getsetattr")).set("flags", value).set("flags_text", flags);
        self.perform("mq_getsetattr", [word(queue.fd), new, old, 0, 0, 0], row)
    }
}

impl Done<'_> {
    /// mq_open gave a descriptor of the queue `name`, which it made or found.
    pub(in super::super) fn opens(mut self, name: &CString, created: bool) -> Result<Queue> {
        let fd = self.value() as i32;
        if fd < 0 {
            return Err(self.succeeds().err().unwrap_or_else(|| Failure::new("mq_open gave a negative descriptor")));
        }
        let queue = self.bench().known_mq(name, fd)?;
        let attributes = queue.attributes()?;
        let done = self.with("object_id", queue.inode()?).with("created", created);
        let done = done.with("queue_max_messages", attributes[1]).with("queue_max_message_bytes", attributes[2]);
        done.succeeds()?;
        Ok(queue)
    }

    /// mq_timedreceive gave a message of this size and priority.
    pub(in super::super) fn receives_priority(self, size: i64, priority: i64) -> Result<()> {
        self.received(0xffff_ffff, priority, "msg_priority")?.is(size)
    }

    /// msgrcv gave a message of this size and type.
    pub(in super::super) fn receives(mut self, size: i64, kind: i64) -> Result<()> {
        let mask = if self.bench().way == Way::Native { u64::MAX } else { 0xffff_ffff };
        self.received(mask, kind, "msg_type")?.is(size)
    }

    fn received(mut self, mask: u64, wanted: i64, column: &str) -> Result<Self> {
        let place = self.bench().received;
        let got = self.bench().arena.read(place) & mask;
        if self.value() >= 0 && got != wanted as u64 & mask {
            return Err(Failure::new(format!("{column} is {got} instead of {wanted}")));
        }
        Ok(self.with(column, Value::from(wanted)))
    }
}
