//! A call that was made, and what it should have brought.

use super::super::abi::Entry;
use super::super::partner;
use super::super::row::Row;
use super::super::words;
use super::Bench;
use crate::totals::errno_name;
use crate::{Failure, Result};
use serde_json::{Value, json};

/// A call between its markers; one of the methods says how it must have ended, and writes its expected row.
#[must_use]
pub(in super::super) struct Done<'a> {
    pub(super) bench: &'a mut Bench,
    pub(super) row: Row,
    pub(super) entry: Entry,
    pub(super) args: [u64; 6],
    pub(super) got: std::result::Result<i64, i32>,
    pub(super) marker: i32,
    pub(super) partner: Option<Result<i32>>,
    pub(super) blocked: (u64, u64),
}

/// What only a success brings.
const RESULTS: &[(&str, &[&str])] = &[
    ("semget", &["object_id", "created"]),
    ("shmget", &["object_id", "created"]),
    ("msgget", &["object_id", "created"]),
    ("mq_open", &["object_id", "created"]),
    ("shmat", &["address"]),
    ("msgrcv", &["msg_type"]),
    ("mq_timedreceive", &["msg_priority"]),
    ("sigtimedwait", &["signal"]),
    ("sigpending", &["sig_set", "sig_set_text"]),
];

impl<'a> Done<'a> {
    /// With one more column; NULL is a value.
    pub(in super::super) fn with(mut self, column: &str, value: impl Into<Value>) -> Done<'a> {
        self.row.put(column, value);
        self
    }

    /// With columns that must be NULL.
    pub(in super::super) fn null(mut self, columns: &[&str]) -> Done<'a> {
        columns.iter().for_each(|column| self.row.put(column, Value::Null));
        self
    }

    /// With columns of which the case knows nothing.
    pub(in super::super) fn without(mut self, columns: &[&str]) -> Done<'a> {
        columns.iter().for_each(|column| self.row.forget(column));
        self
    }

    /// What it returned; -1 for an error.
    pub(super) fn value(&self) -> i64 {
        self.got.unwrap_or(-1)
    }

    /// Whose call it was.
    pub(super) fn bench(&mut self) -> &mut Bench {
        self.bench
    }

    /// The mask after it is this one: else the case is wrong.
    pub(in super::super) fn leaves(mut self, set: &str) -> Done<'a> {
        if self.blocked.1 != words::set(set) {
            self.got = Ok(i64::MIN);
        }
        self
    }

    /// With the blocked mask before the call, and after it.
    pub(super) fn masks(self) -> Done<'a> {
        let (before, after) = self.blocked;
        self.with("sig_old", before as i64).with("sig_after", after as i64)
    }

    /// It returned `value`.
    pub(in super::super) fn is(self, value: i64) -> Result<()> {
        self.returns(Some(value)).map(drop)
    }

    /// It returned something.
    pub(in super::super) fn succeeds(self) -> Result<i64> {
        self.returns(None)
    }

    /// It made an object, whose id it returned.
    pub(in super::super) fn makes(self) -> Result<i32> {
        let id = self.got.unwrap_or(-1);
        self.with("object_id", id).with("created", true).returns(None).map(|id| id as i32)
    }

    /// It found the object `id`.
    pub(in super::super) fn finds(self, id: i32) -> Result<()> {
        self.with("object_id", id).with("created", false).is(id.into())
    }

    /// It read or wrote one of the objects of the namespace by its index, and returned its id.
    pub(in super::super) fn finds_by_index(self, id: i32) -> Result<()> {
        self.with("object_id", id).is(id.into())
    }

    /// It attached a segment, at the address that it returned or, through `ipc`, stored.
    pub(in super::super) fn attaches(self) -> Result<u64> {
        let multiplexed = self.entry.1 == "ipc";
        let address = match (self.got, multiplexed) {
            (Ok(0), true) => self.bench.arena.read(self.args[3]) & 0xffff_ffff,
            (Ok(address), false) => address as u64,
            _ => 0,
        };
        let value = if multiplexed { 0 } else { address as i64 };
        self.with("address", address as i64).is(value)?;
        Ok(address)
    }

    /// It failed.
    pub(in super::super) fn fails(mut self, errno: i32) -> Result<()> {
        let operation = self.row.operation().to_owned();
        let results = RESULTS.iter().find(|(name, _)| *name == operation).map_or(&[][..], |(_, results)| results);
        results.iter().for_each(|column| self.row.put(column, Value::Null));
        let row = [("outcome", json!("error")), ("return_value", json!(-1)), ("error", json!(errno_name(errno)))];
        row.into_iter().for_each(|(column, value)| self.row.put(column, value));
        self.close(|got| got == Err(errno), &format!("failing with {}", errno_name(errno))).map(drop)
    }

    fn returns(mut self, wanted: Option<i64>) -> Result<i64> {
        let value = self.got.unwrap_or(-1);
        let row = [("outcome", json!("ok")), ("return_value", json!(value)), ("error", Value::Null)];
        row.into_iter().for_each(|(column, value)| self.row.put(column, value));
        let what = wanted.map_or("a success".to_owned(), |value| format!("returning {value}"));
        self.close(|got| got.is_ok() && wanted.is_none_or(|value| got == Ok(value)), &what)
    }

    /// Checks the kernel against the table, and keeps the row.
    fn close(self, right: impl Fn(std::result::Result<i64, i32>) -> bool, wanted: &str) -> Result<i64> {
        let partner = self.partner.map_or(Ok(()), |pid| partner::join(pid?));
        if !right(self.got) {
            let got = match self.got {
                Ok(value) => format!("returned {value}"),
                Err(errno) => format!("failed with {} ({errno})", errno_name(errno)),
            };
            return Err(Failure::new(format!("{} {got} instead of {wanted}", self.entry.1)));
        }
        partner?;
        self.bench.expect(self.marker, self.row);
        Ok(self.got.unwrap_or(-1))
    }
}
