//! System V message queues.

use super::super::row::Row;
use super::super::words;
use super::{Bench, Done, word};

impl Bench {
    pub(in super::super) fn msgget(&mut self, key: i32, flags: &str) -> Done<'_> {
        let value = words::flags(flags);
        let row = Row::of("msgget").set("key", key).flags(value, flags);
        self.perform("msgget", [word(key), word(value), 0, 0, 0, 0], row)
    }

    pub(in super::super) fn msgsnd(&mut self, queue: i32, kind: i64, size: usize, flags: &str) -> Done<'_> {
        let value = words::flags(flags);
        let message = [self.long(kind), vec![b'b'; size]].concat();
        let message = self.user(&message);
        let row =
            Row::of("msgsnd").set("object_id", queue).set("size_bytes", size).set("msg_type", kind).flags(value, flags);
        self.perform("msgsnd", [word(queue), message, size as u64, word(value), 0, 0], row)
    }

    pub(in super::super) fn msgrcv(&mut self, queue: i32, size: usize, kind: i64, flags: &str) -> Done<'_> {
        let value = words::flags(flags);
        let room = vec![0; 8 + size];
        let room = self.user(&room);
        self.received = room;
        let row = Row::of("msgrcv").set("object_id", queue).set("size_bytes", size).set("msg_type_requested", kind);
        let args = [word(queue), room, size as u64, kind as u64, word(value), 0];
        self.perform("msgrcv", args, row.flags(value, flags))
    }

    pub(in super::super) fn msgctl(&mut self, queue: i32, command: &str) -> Done<'_> {
        let room = self.user(&[0; 256]);
        let row = Row::of("msgctl").set("object_id", queue).set("command", command);
        self.perform("msgctl", [word(queue), word(words::flags(command)), room, 0, 0, 0], row)
    }

    /// IPC_SET with what IPC_STAT gave.
    pub(in super::super) fn msgctl_set(&mut self, queue: i32) -> Done<'_> {
        let buffer = self.stat("msgctl", queue);
        let row = Row::of("msgctl").set("object_id", queue).set("command", "IPC_SET");
        self.perform("msgctl", [word(queue), word(libc::IPC_SET), buffer, 0, 0, 0], row)
    }
}
