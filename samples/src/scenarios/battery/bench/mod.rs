//! Makes the calls of one case and writes down what their rows must hold.
//!
//! Each call stands between two markers, semctl calls on an id that nobody has: what the C library does between calls
//! is outside, and between the two markers of a call a trace has exactly that call's row.

mod done;
mod ipc;
mod mq;
mod msg;
mod sem;
pub(super) mod setup;
mod shm;
mod sig;

pub(super) use done::Done;
pub(super) use mq::Notify;
pub(super) use sem::Argument;
pub(super) use setup::Queue;
pub(super) use sig::Action;

use super::abi::{self, Entry, Way, door, enter};
use super::arena::{Arena, NOWHERE};
use super::partner::{self, Deed, Waiting};
use super::row::Row;
use crate::{Failure, Result, process};
use serde_json::json;
use setup::native;
use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// The id of the first marker; the next ones go down from it. No object has a negative id.
const FIRST_MARKER: i32 = -1_000;

/// The calls of one case.
pub(super) struct Bench {
    pub(super) way: Way,
    case: String,
    arena: Arena,
    lines: Vec<u8>,
    file: File,
    marker: i32,
    keys: i32,
    deed: Option<Deed>,
    unreadable: bool,
    /// Where the last call put what it received: a type, a priority.
    received: u64,
    names: Vec<CString>,
}

impl Bench {
    /// A bench whose expectations go to `FOLDER/PID-TID.expect.jsonl`.
    pub(super) fn new(way: Way, case: &str, folder: &Path) -> Result<Bench> {
        let path = folder.join(format!("{}-{}.expect.jsonl", process::own_pid(), process::own_tid()));
        let file =
            File::create_new(&path).map_err(|e| Failure::new(format!("cannot create {}: {e}", path.display())))?;
        Ok(Bench {
            way,
            case: format!("{case} [{}]", way.name()),
            arena: Arena::new()?,
            lines: Vec::new(),
            file,
            marker: FIRST_MARKER,
            keys: process::own_pid() << 8,
            deed: None,
            unreadable: false,
            received: 0,
            names: Vec::new(),
        })
    }

    /// Writes the expectations and removes the queues that the case opened by name.
    pub(super) fn finish(mut self) -> Result<()> {
        for name in &self.names {
            // Gone already is as good.
            let _ = native(libc::SYS_mq_unlink, [name.as_ptr() as u64, 0, 0, 0, 0, 0]);
        }
        let lines = std::mem::take(&mut self.lines);
        self.file.write_all(&lines).map_err(|e| Failure::new(format!("{}: cannot write: {e}", self.case)))
    }

    /// A key that no other case has.
    pub(super) fn key(&mut self) -> i32 {
        self.keys += 1;
        self.keys
    }

    /// Lets a partner do `deed` while the next call blocks.
    pub(super) fn meanwhile(&mut self, deed: impl FnOnce(Waiting) -> Result<()> + 'static) -> &mut Bench {
        self.deed = Some(Box::new(deed));
        self
    }

    /// Lets the first thing that the next call reads from memory lie where there is none.
    pub(super) fn unreadable(&mut self) -> &mut Bench {
        self.unreadable = true;
        self
    }

    /// The address of what a call reads.
    fn user(&mut self, bytes: &[u8]) -> u64 {
        if std::mem::take(&mut self.unreadable) { NOWHERE } else { self.arena.put(bytes) }
    }

    /// A `long` of the ABI.
    fn long(&self, value: i64) -> Vec<u8> {
        match self.way {
            Way::Native => value.to_ne_bytes().to_vec(),
            Way::Old | Way::New => (value as i32).to_ne_bytes().to_vec(),
        }
    }

    /// The address of a `struct timespec`: two words of 32 bits in the old way, else of 64.
    fn time(&mut self, seconds: i64, ns: i64) -> u64 {
        match self.way {
            Way::Old => self.user(&[seconds as u32, ns as u32].map(u32::to_ne_bytes).concat()),
            Way::Native | Way::New => self.user(&[seconds, ns].map(i64::to_ne_bytes).concat()),
        }
    }

    /// Makes the call `name` with the arguments of its native form.
    fn perform(&mut self, name: &'static str, args: [u64; 6], row: Row) -> Done<'_> {
        let (door, way) = (door(name), self.way);
        let arena = &mut self.arena;
        let words =
            |words: &[u64]| arena.put(&words.iter().flat_map(|w| (*w as u32).to_ne_bytes()).collect::<Vec<_>>());
        let args = door.ipc(way).map_or(args, |operation| abi::multiplex(operation, args, words));
        let entry = door.entry(way);
        // By the only way there is, semop is a semtimedop.
        let row = if name == "semop" && entry.1 == "semtimedop" { row.set("syscall", "semtimedop") } else { row };
        self.bracketed(entry, args, row)
    }

    /// Makes any call between its markers.
    pub(super) fn bracketed(&mut self, entry: Entry, args: [u64; 6], row: Row) -> Done<'_> {
        let marker = self.marker;
        self.marker -= 1;
        let partner = self.deed.take().map(|deed| partner::start(entry.0, deed));
        let before = setup::blocked();
        mark(marker, libc::GETVAL);
        // SAFETY: every address is of the arena, with room for what the call writes, or unmapped; the cases attach
        // memory only where nothing is.
        let got = unsafe { enter(self.way, entry.0, args) };
        mark(marker, libc::GETPID);
        let row = row.set("entry_point", entry.1).set("abi", self.way.abi());
        Done { bench: self, row, entry, args, got, marker, partner, blocked: (before, setup::blocked()) }
    }

    /// Adds a line to the expectations.
    fn expect(&mut self, marker: i32, row: Row) {
        let line = json!({ "case": self.case, "marker": marker, "expect": row.into_value() });
        self.lines.extend_from_slice(line.to_string().as_bytes());
        self.lines.push(b'\n');
    }
}

/// A call that nobody else makes.
fn mark(marker: i32, command: i32) {
    // An error, always: the id is negative.
    let _ = native(libc::SYS_semctl, [marker as u64, 0, command as u64, 0, 0, 0]);
}

/// A number in an argument register.
const fn word(value: i32) -> u64 {
    value as i64 as u64
}
