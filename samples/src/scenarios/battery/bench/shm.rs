//! System V shared memory.

use super::super::abi::{door, enter, multiplex};
use super::super::row::Row;
use super::super::words;
use super::{Bench, Done, word};

impl Bench {
    pub(in super::super) fn shmget(&mut self, key: i32, size: u64, flags: &str) -> Done<'_> {
        let value = words::flags(flags);
        let row = Row::of("shmget").set("key", key).set("size_bytes", size).flags(value, flags);
        self.perform("shmget", [word(key), size, word(value), 0, 0, 0], row)
    }

    pub(in super::super) fn shmat(&mut self, segment: i32, address: u64, flags: &str) -> Done<'_> {
        let value = words::flags(flags);
        let row = Row::of("shmat").set("object_id", segment).flags(value, flags);
        self.perform("shmat", [word(segment), address, word(value), 0, 0, 0], row)
    }

    pub(in super::super) fn shmdt(&mut self, address: u64) -> Done<'_> {
        let row = Row::of("shmdt").set("address", address);
        self.perform("shmdt", [address, 0, 0, 0, 0, 0], row)
    }

    pub(in super::super) fn shmctl(&mut self, segment: i32, command: &str) -> Done<'_> {
        let room = self.user(&[0; 256]);
        let row = Row::of("shmctl").set("object_id", segment).set("command", command);
        self.perform("shmctl", [word(segment), word(words::flags(command)), room, 0, 0, 0], row)
    }

    /// IPC_SET with what IPC_STAT gave.
    pub(in super::super) fn shmctl_set(&mut self, segment: i32) -> Done<'_> {
        let buffer = self.stat("shmctl", segment);
        let row = Row::of("shmctl").set("object_id", segment).set("command", "IPC_SET");
        self.perform("shmctl", [word(segment), word(libc::IPC_SET), buffer, 0, 0, 0], row)
    }

    /// The address of what IPC_STAT writes in this ABI; the call stands outside every pair of markers.
    pub(super) fn stat(&mut self, name: &str, id: i32) -> u64 {
        let (door, command) = (door(name), word(libc::IPC_STAT));
        let buffer = self.arena.room(256);
        let args = match name {
            "semctl" => [word(id), 0, command, buffer, 0, 0],
            _ => [word(id), command, buffer, 0, 0, 0],
        };
        let arena = &mut self.arena;
        let keep = |words: &[u64]| arena.put(&words.iter().flat_map(|w| (*w as u32).to_ne_bytes()).collect::<Vec<_>>());
        let args = door.ipc(self.way).map_or(args, |operation| multiplex(operation, args, keep));
        // SAFETY: the buffer has room for every structure that IPC_STAT writes. A failure leaves zeroes, and then the
        // call with the buffer does not end as its case says.
        let _ = unsafe { enter(self.way, door.entry(self.way).0, args) };
        buffer
    }
}
