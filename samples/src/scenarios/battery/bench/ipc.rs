//! Calls that only i386 has.

use super::super::row::Row;
use super::super::words;
use super::{Action, Bench, Done, word};

impl Bench {
    /// Words of 32 bits in memory, the address of which fits one.
    pub(in super::super) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| (*word as u32).to_ne_bytes()).collect();
        self.arena.put(&bytes)
    }

    /// `ipc` with its own arguments: call, first, second, third, ptr, fifth.
    pub(in super::super) fn ipc(&mut self, args: [u64; 6], row: Row) -> Done<'_> {
        self.bracketed((117, "ipc"), args, row)
    }

    /// The form of msgrcv whose type stands in the fifth argument.
    pub(in super::super) fn ipc_msgrcv_1(&mut self, queue: i32, size: usize, kind: i64) -> Done<'_> {
        let room = vec![0; 8 + size];
        self.received = self.arena.put(&room);
        let row = Row::of("msgrcv").set("object_id", queue).set("size_bytes", size).set("msg_type_requested", kind);
        self.ipc([12 | 1 << 16, word(queue), size as u64, 0, self.received, kind as u64], row.flags(0, "0"))
    }

    pub(in super::super) fn sgetmask(&mut self) -> Done<'_> {
        let row = Row::of("sigprocmask").set("sig_how", None::<i64>).set("sig_set", None::<i64>);
        self.bracketed((68, "sgetmask"), [0; 6], row.set("sig_set_text", None::<i64>)).masks()
    }

    pub(in super::super) fn ssetmask(&mut self, set: &str) -> Done<'_> {
        let args = [words::set(set), 0, 0, 0, 0, 0];
        self.bracketed((69, "ssetmask"), args, Row::of("sigprocmask").signals(set)).masks()
    }

    /// `signal(2)`, which has neither flags nor a mask.
    pub(in super::super) fn signal(&mut self, signal: i32, action: Action) -> Done<'_> {
        let row = Row::of("sigaction").set("signal", signal).set("disposition", action.name());
        self.bracketed((48, "signal"), [word(signal), action.address(), 0, 0, 0, 0], row)
    }
}
