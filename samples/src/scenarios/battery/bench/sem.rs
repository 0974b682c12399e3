//! System V semaphores.

use super::super::row::Row;
use super::super::words;
use super::{Bench, Done, word};
use serde_json::{Value, json};

/// One operation: semaphore, what is added, flags.
pub(in super::super) type Op<'a> = (u16, i16, &'a str);

/// The fourth argument of semctl.
pub(in super::super) enum Argument<'a> {
    None,
    Value(i32),
    Values(&'a [u16]),
    /// Memory with room for what any command writes.
    Room,
}

fn operations(row: Row, ops: &[Op]) -> Row {
    let list: Vec<[i32; 3]> =
        ops.iter().map(|(n, op, flags)| [i32::from(*n), i32::from(*op), words::flags(flags)]).collect();
    let first = |part: usize| list.first().map_or(Value::Null, |op| op[part].into());
    row.set("sem_num", first(0))
        .set("sem_op", first(1))
        .set("sem_flags", first(2))
        .set("sem_ops_total", list.len())
        .set("sem_ops", json!(list))
}

fn bytes(ops: &[Op]) -> Vec<u8> {
    ops.iter()
        .flat_map(|(n, op, flags)| [*n, *op as u16, words::flags(flags) as u16])
        .flat_map(u16::to_ne_bytes)
        .collect()
}

impl Bench {
    pub(in super::super) fn semget(&mut self, key: i32, count: i32, flags: &str) -> Done<'_> {
        let value = words::flags(flags);
        let row = Row::of("semget").set("key", key).set("sem_count", count).flags(value, flags);
        self.perform("semget", [word(key), word(count), word(value), 0, 0, 0], row)
    }

    pub(in super::super) fn semop(&mut self, set: i32, ops: &[Op]) -> Done<'_> {
        let sops = self.user(&bytes(ops));
        let row = operations(Row::of("semop").set("object_id", set), ops);
        self.perform("semop", [word(set), sops, ops.len() as u64, 0, 0, 0], row)
    }

    /// With a relative timeout.
    pub(in super::super) fn semtimedop(&mut self, set: i32, ops: &[Op], timeout_ns: Option<i64>) -> Done<'_> {
        let sops = self.user(&bytes(ops));
        let timeout = timeout_ns.map_or(0, |ns| self.time(ns / 1_000_000_000, ns % 1_000_000_000));
        let row = operations(Row::of("semtimedop").set("object_id", set), ops).set("timeout_ns", timeout_ns);
        self.perform("semtimedop", [word(set), sops, ops.len() as u64, timeout, 0, 0], row)
    }

    /// With nanoseconds that make no time.
    pub(in super::super) fn semtimedop_with_wrong_time(&mut self, set: i32, ops: &[Op]) -> Done<'_> {
        let sops = self.user(&bytes(ops));
        let timeout = self.time(0, 1_000_000_000);
        let row = operations(Row::of("semtimedop").set("object_id", set), ops);
        self.perform("semtimedop", [word(set), sops, ops.len() as u64, timeout, 0, 0], row)
    }

    pub(in super::super) fn semctl(&mut self, set: i32, number: i32, command: &str, argument: Argument) -> Done<'_> {
        let value = match argument {
            Argument::None => 0,
            Argument::Value(value) => word(value),
            Argument::Values(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
                self.user(&bytes)
            }
            Argument::Room => {
                let room = vec![0; 2_048];
                self.user(&room)
            }
        };
        let row = Row::of("semctl").set("object_id", set).set("command", command).set("sem_num", number);
        let row = match (command, &argument) {
            ("SETVAL", Argument::Value(value)) => row.set("sem_value", *value),
            // The case says which value it returns.
            ("GETVAL", _) => row,
            _ => row.set("sem_value", Value::Null),
        };
        self.perform("semctl", [word(set), word(number), word(words::flags(command)), value, 0, 0], row)
    }

    /// IPC_SET with what IPC_STAT gave.
    pub(in super::super) fn semctl_set(&mut self, set: i32) -> Done<'_> {
        let buffer = self.stat("semctl", set);
        let row = Row::of("semctl").set("object_id", set).set("command", "IPC_SET").set("sem_num", 0);
        let row = row.set("sem_value", Value::Null);
        self.perform("semctl", [word(set), 0, word(libc::IPC_SET), buffer, 0, 0], row)
    }
}
