//! The threads of a trace: when they lived, who made them, which signals they blocked then.

use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::intern::{NULL, Texts};
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;

/// Threads that are told apart, some 100 bytes each; those read later are in no answer.
const THREADS_MAX: usize = 1 << 20;

/// A thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its process.
    pub process_id: i64,
    /// In the host's pid namespace.
    pub tid: i32,
    /// The number of its name in [`Threads::names`].
    pub comm: u32,
    /// Its start, nanoseconds since the epoch; `None`: unknown.
    pub start_ns: Option<i64>,
    /// Its end; `None`: still there, or unknown.
    pub exit_ns: Option<i64>,
    /// Who created it.
    pub parent: Option<i64>,
    /// What it blocked when it began, or when it was found; bit n-1 = signal n.
    pub mask: Option<u64>,
    /// What was pending when it was found.
    pub pending: u64,
    /// What was ignored when it was found.
    pub ignored: Option<u64>,
}

/// The threads of one trace.
#[derive(Debug, Default)]
pub struct Threads {
    by_id: HashMap<i64, Thread>,
    /// Per process the end of its last thread; `None`: one is still there.
    exits: HashMap<i64, Option<i64>>,
    /// Their names.
    pub names: Texts,
    /// Threads that found no room.
    pub left_out: u64,
}

const COLUMNS: &[&str] = &[
    "thread_id",
    "process_id",
    "tid",
    "comm",
    "start_ns",
    "exit_ns",
    "parent_thread_id",
    "mask_at_start",
    "pending_at_start",
    "ignored_at_start",
];

impl Threads {
    /// Reads those of a trace.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(trace: &Trace) -> Result<Threads, Error> {
        let most = THREADS_MAX / rayon::current_num_threads().max(1);
        let read = |batch: &Batch, found: &mut Vec<_>| read(batch, most, found);
        let found = scan::collect(std::slice::from_ref(trace), &tables::THREADS, COLUMNS, read)?;
        let left_out = trace.listed_rows(&tables::THREADS).saturating_sub(found.len() as u64);
        let mut threads = Threads { left_out, ..Threads::default() };
        for (thread_id, thread, comm) in found {
            let comm = comm.map_or(NULL, |comm| threads.names.number(&comm));
            threads.by_id.insert(thread_id, Thread { comm, ..thread });
            let exit = threads.exits.entry(thread.process_id).or_insert(Some(i64::MIN));
            *exit = exit.and_then(|last_ns| thread.exit_ns.map(|exit_ns| last_ns.max(exit_ns)));
        }
        Ok(threads)
    }

    /// A thread.
    pub fn get(&self, thread_id: i64) -> Option<&Thread> {
        self.by_id.get(&thread_id)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Thread)> {
        self.by_id.iter().map(|(thread_id, thread)| (*thread_id, thread))
    }

    /// When a process ended; `None`: it is still there, or is unknown.
    pub fn exit_of(&self, process_id: i64) -> Option<i64> {
        self.exits.get(&process_id).copied().flatten()
    }

    /// The name of a thread.
    pub fn comm(&self, thread: &Thread) -> Option<&str> {
        self.names.get(thread.comm)
    }
}

/// The names are few, but they are numbered where all rows come together.
fn read(batch: &Batch, most: usize, found: &mut Vec<(i64, Thread, Option<Box<str>>)>) -> Result<(), Error> {
    let (ids, processes, tids) = (batch.int64("thread_id")?, batch.int64("process_id")?, batch.int32("tid")?);
    let (starts, exits, parents) =
        (batch.int64("start_ns")?, batch.int64("exit_ns")?, batch.int64("parent_thread_id")?);
    let (masks, pending) = (batch.int64("mask_at_start")?, batch.int64("pending_at_start")?);
    let (ignored, comms) = (batch.int64("ignored_at_start")?, batch.text("comm")?);
    for row in (0..batch.rows()).take(most.saturating_sub(found.len())) {
        let thread = Thread {
            process_id: processes.value(row),
            tid: tids.value(row),
            comm: NULL,
            start_ns: int64_at(starts, row),
            exit_ns: int64_at(exits, row),
            parent: int64_at(parents, row),
            mask: int64_at(masks, row).map(|mask| mask as u64),
            pending: int64_at(pending, row).unwrap_or(0) as u64,
            ignored: int64_at(ignored, row).map(|ignored| ignored as u64),
        };
        found.push((ids.value(row), thread, comms.get(row).map(Into::into)));
    }
    Ok(())
}
