//! The objects that are still there at the end of a trace.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::names::{Lifetime, Lifetimes};
use crate::opened::Opened;
use crate::scan;
use crate::trace::Trace;
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables;

/// Objects that are looked at: a namespace holds some hundred thousand at most, each takes some 500 bytes.
pub const OBJECTS_MAX: usize = 1 << 17;
/// PROC_IPC_INIT_INO of linux/proc_ns.h: it lives as long as the machine.
const FIRST_NAMESPACE: i64 = 0xEFFF_FFFF;

/// What the last snapshot tells of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When.
    pub snapshot_ns: i64,
    /// Whether it was taken at the end of the recording.
    pub is_final: bool,
    /// Permission bits.
    pub mode: Option<i32>,
    /// Owner.
    pub owner_uid: Option<i64>,
    /// Last use, in seconds of the wall clock, nanoseconds since the epoch.
    pub use_ns: Option<i64>,
    /// Segments: how many have it attached.
    pub attached: i64,
    /// Segments: their size; queues: bytes in them.
    pub bytes: Option<i64>,
    /// Segments: removed, but attached.
    pub is_removed: bool,
}

/// An object that nobody removed.
#[derive(Clone, Debug)]
pub struct Object {
    /// The index of the trace.
    pub trace: usize,
    /// The lifetime.
    pub object_ref: i64,
    /// Its story.
    pub lifetime: Lifetime,
    /// What the last snapshot tells; `None`: none listed it.
    pub state: Option<State>,
}

/// What is still there.
#[derive(Debug, Default)]
pub struct Left {
    /// The objects, by trace and lifetime.
    pub objects: Vec<Object>,
    /// Objects that were left out.
    pub left_out: u64,
}

/// Processes that had not ended, and the namespaces that they live in.
#[derive(Debug, Default)]
pub struct Living {
    processes: HashSet<(usize, i64)>,
    namespaces: HashSet<(usize, i64)>,
}

impl Living {
    /// Reads them.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace]) -> Result<Living, Error> {
        let columns = &["process_id", "ipc_ns", "exit_ns"];
        let found = scan::collect(traces, &tables::PROCESSES, columns, |batch: &Batch, found| {
            let (ids, namespaces) = (batch.int64("process_id")?, batch.int64("ipc_ns")?);
            let ends = batch.int64("exit_ns")?;
            let living = (0..batch.rows()).filter(|row| int64_at(ends, *row).is_none());
            found.extend(living.map(|row| (batch.trace, ids.value(row), int64_at(namespaces, row))));
            Ok(())
        })?;
        let mut living = Living::default();
        for (trace, process_id, ipc_ns) in found {
            living.processes.insert((trace, process_id));
            living.namespaces.extend(ipc_ns.map(|ipc_ns| (trace, ipc_ns)));
        }
        Ok(living)
    }

    /// Whether a process had not ended.
    pub fn has(&self, trace: usize, process_id: i64) -> bool {
        self.processes.contains(&(trace, process_id))
    }
}

/// Finds what is left.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, living: &Living) -> Result<Left, Error> {
    let traces = &opened.traces;
    let visited = visited(traces)?;
    let states = states(traces)?;
    let is_there = |trace: usize, object_ref: i64, ipc_ns: Option<i64>| {
        let state = states.get(&(trace, object_ref));
        if state.is_some_and(|state| state.is_removed) {
            return false;
        }
        match ipc_ns {
            Some(ns) if visited.contains(&(trace, ns)) => state.is_some_and(|state| state.is_final),
            // Objects die with their namespace, and that with its last process.
            Some(ns) => ns == FIRST_NAMESPACE || living.namespaces.contains(&(trace, ns)),
            None => true,
        }
    };
    let columns = &["object_ref", "ipc_ns", "removed_ns"];
    let there = scan::collect(traces, &tables::LIFETIMES, columns, |batch: &Batch, found| {
        let (refs, namespaces) = (batch.int64("object_ref")?, batch.int64("ipc_ns")?);
        let removed = batch.int64("removed_ns")?;
        let is_left = |row: &usize| {
            int64_at(removed, *row).is_none() && is_there(batch.trace, refs.value(*row), int64_at(namespaces, *row))
        };
        found.extend((0..batch.rows()).filter(is_left).map(|row| (batch.trace, refs.value(row))));
        Ok(())
    })?;
    Left::new(traces, there, &states)
}

impl Left {
    fn new(traces: &[Trace], mut there: Vec<(usize, i64)>, states: &States) -> Result<Left, Error> {
        there.sort_unstable();
        there.dedup();
        let left_out = there.len().saturating_sub(OBJECTS_MAX) as u64;
        there.truncate(OBJECTS_MAX);
        let lifetimes = Lifetimes::read(traces, &there.iter().copied().collect())?;
        let object = |(trace, object_ref): (usize, i64)| {
            let lifetime = lifetimes.get(trace, object_ref)?.clone();
            Some(Object { trace, object_ref, lifetime, state: states.get(&(trace, object_ref)).copied() })
        };
        Ok(Left { objects: there.into_iter().filter_map(object).collect(), left_out })
    }
}

/// The namespaces that a snapshot visited at the end of the recording.
fn visited(traces: &[Trace]) -> Result<HashSet<(usize, i64)>, Error> {
    let columns = &["phase", "ipc_ns"];
    let found: Vec<(usize, i64)> = scan::collect(traces, &tables::LIMITS, columns, |batch: &Batch, found| {
        let (phases, namespaces) = (batch.text("phase")?, batch.int64("ipc_ns")?);
        let at_end = (0..batch.rows()).filter(|row| phases.get(*row) == Some("end"));
        let of_batch: HashSet<i64> = at_end.filter_map(|row| int64_at(namespaces, row)).collect();
        found.extend(of_batch.into_iter().map(|ipc_ns| (batch.trace, ipc_ns)));
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}

type States = HashMap<(usize, i64), State>;

/// What the last snapshot of each object tells; of those that were there at the end, or lately in a namespace that was
/// not visited then.
fn states(traces: &[Trace]) -> Result<States, Error> {
    let columns = &[
        "snapshot_ns",
        "phase",
        "object_ref",
        "mode",
        "owner_uid",
        "use_ns",
        "attach_count",
        "removed_pending",
        "size_bytes",
        "queued_bytes",
    ];
    let found = scan::collect(traces, &tables::OBJECTS, columns, |batch, found| {
        found.extend(states_of(batch)?);
        Ok(())
    })?;
    let mut states = States::new();
    for (key, state) in found {
        newest(&mut states, key, state);
    }
    Ok(states)
}

fn newest(states: &mut States, key: (usize, i64), state: State) {
    let known = states.entry(key).or_insert(state);
    if (state.snapshot_ns, state.is_final) > (known.snapshot_ns, known.is_final) {
        *known = state;
    }
}

fn states_of(batch: &Batch) -> Result<States, Error> {
    let (times, phases, refs) = (batch.int64("snapshot_ns")?, batch.text("phase")?, batch.int64("object_ref")?);
    let (modes, owners, uses) = (batch.int32("mode")?, batch.int64("owner_uid")?, batch.int64("use_ns")?);
    let (attached, removed) = (batch.int64("attach_count")?, batch.boolean("removed_pending")?);
    let (sizes, queued) = (batch.int64("size_bytes")?, batch.int64("queued_bytes")?);
    let mut states = States::new();
    for row in 0..batch.rows() {
        let state = State {
            snapshot_ns: times.value(row),
            is_final: phases.get(row) == Some("end"),
            mode: int32_at(modes, row),
            owner_uid: int64_at(owners, row),
            use_ns: int64_at(uses, row),
            attached: int64_at(attached, row).unwrap_or(0),
            bytes: int64_at(sizes, row).or(int64_at(queued, row)),
            is_removed: arrow::array::Array::is_valid(removed, row) && removed.value(row),
        };
        newest(&mut states, (batch.trace, refs.value(row)), state);
    }
    Ok(states)
}
