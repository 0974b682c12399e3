//! Who holds what ran out: the objects that lived at a time, by who made them, and those that nobody uses.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;
use std::cmp::Reverse;

/// Makers that are counted per question and batch, and told in the end.
const MAKERS_COUNTED: usize = 4096;
const MAKERS_TOLD: usize = 3;
/// Objects that are named for removal.
const IDLE_TOLD: usize = 5;
/// Idle for so long is unused.
const IDLE_NS: i64 = 60_000_000_000;

/// Whose objects are asked for, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The index of the trace.
    pub trace: usize,
    /// Inode of the IPC namespace.
    pub ipc_ns: i64,
    /// sem, shm, msg, mq.
    pub kind: &'static str,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// A key that may have been taken.
    pub key: Option<i32>,
}

/// The objects that lived then.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// How many, as far as the trace knows.
    pub alive: u64,
    /// Of these: made before the trace, or by nobody knows whom.
    pub older: u64,
    /// How many were made by which process, the most first.
    pub makers: Vec<(i64, u64)>,
    /// Whether one of them has the key.
    pub has_key: bool,
    /// Ids of objects that nobody used, by the last snapshot; names of POSIX queues are not told.
    pub idle: Vec<i64>,
}

/// For each question the objects.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(traces: &[Trace], asked: &[Asked]) -> Result<Vec<Held>, Error> {
    let mut held = vec![Held::default(); asked.len()];
    if asked.is_empty() {
        return Ok(held);
    }
    let columns = &["ipc_ns", "object_kind", "key", "created_ns", "created_by_process_id", "removed_ns"];
    let found = scan::collect(traces, &tables::LIFETIMES, columns, |batch, found| read_lifetimes(batch, asked, found))?;
    let mut makers: Vec<HashMap<i64, u64>> = vec![HashMap::new(); asked.len()];
    for (place, of_batch) in found {
        let into = &mut held[place];
        into.alive += of_batch.alive;
        into.older += of_batch.older;
        into.has_key |= of_batch.has_key;
        of_batch.makers.into_iter().for_each(|(maker, count)| *makers[place].entry(maker).or_default() += count);
    }
    for (held, makers) in held.iter_mut().zip(makers) {
        held.makers = most(makers, MAKERS_TOLD);
    }
    read_idle(traces, asked, &mut held)?;
    Ok(held)
}

fn most(makers: HashMap<i64, u64>, told: usize) -> Vec<(i64, u64)> {
    let mut makers: Vec<(i64, u64)> = makers.into_iter().collect();
    makers.sort_unstable_by_key(|(maker, count)| (Reverse(*count), *maker));
    makers.truncate(told);
    makers
}

/// At most one entry per question and batch, of the makers those with the most.
fn read_lifetimes(batch: &Batch, asked: &[Asked], found: &mut Vec<(usize, Held)>) -> Result<(), Error> {
    let (namespaces, kinds, keys) = (batch.int64("ipc_ns")?, batch.text("object_kind")?, batch.int32("key")?);
    let (created, makers) = (batch.int64("created_ns")?, batch.int64("created_by_process_id")?);
    let removed = batch.int64("removed_ns")?;
    for (place, asked) in asked.iter().enumerate().filter(|(_, asked)| asked.trace == batch.trace) {
        let mut held = Held::default();
        let mut of_makers: HashMap<i64, u64> = HashMap::new();
        for row in 0..batch.rows() {
            let is_alive = int64_at(created, row).is_none_or(|ns| ns <= asked.time_ns)
                && int64_at(removed, row).is_none_or(|ns| ns > asked.time_ns);
            if !is_alive || int64_at(namespaces, row) != Some(asked.ipc_ns) || kinds.get(row) != Some(asked.kind) {
                continue;
            }
            held.alive += 1;
            held.has_key |= asked.key.is_some() && int32_at(keys, row) == asked.key;
            match int64_at(makers, row) {
                Some(maker) => *of_makers.entry(maker).or_default() += 1,
                None => held.older += 1,
            }
        }
        if held.alive > 0 {
            held.makers = most(of_makers, MAKERS_COUNTED);
            found.push((place, held));
        }
    }
    Ok(())
}

/// The idle objects of one snapshot: when it was, and the ids.
type Idle = (i64, Vec<i64>);

fn read_idle(traces: &[Trace], asked: &[Asked], held: &mut [Held]) -> Result<(), Error> {
    let columns =
        &["snapshot_ns", "ipc_ns", "object_kind", "object_id", "use_ns", "change_ns", "attach_count", "messages"];
    let found = scan::collect(traces, &tables::OBJECTS, columns, |batch, found| read_objects(batch, asked, found))?;
    let mut last: HashMap<usize, Idle> = HashMap::new();
    for (place, (snapshot_ns, ids)) in found {
        let known = last.entry(place).or_default();
        if snapshot_ns > known.0 {
            *known = (snapshot_ns, ids);
        } else if snapshot_ns == known.0 {
            known.1.extend(ids);
        }
    }
    for (place, (_, mut ids)) in last {
        ids.sort_unstable();
        ids.truncate(IDLE_TOLD);
        held[place].idle = ids;
    }
    Ok(())
}

/// At most one entry per question and batch: of the last snapshot in it.
fn read_objects(batch: &Batch, asked: &[Asked], found: &mut Vec<(usize, Idle)>) -> Result<(), Error> {
    let (times, namespaces, kinds) = (batch.int64("snapshot_ns")?, batch.int64("ipc_ns")?, batch.text("object_kind")?);
    let (ids, uses, changes) = (batch.int64("object_id")?, batch.int64("use_ns")?, batch.int64("change_ns")?);
    let (attached, messages) = (batch.int64("attach_count")?, batch.int64("messages")?);
    for (place, asked) in asked.iter().enumerate().filter(|(_, asked)| asked.trace == batch.trace) {
        let mut idle: Idle = (i64::MIN, Vec::new());
        for row in 0..batch.rows() {
            let time_ns = times.value(row);
            let is_asked = namespaces.value(row) == asked.ipc_ns && kinds.get(row) == Some(asked.kind);
            if !is_asked || asked.kind == "mq" || time_ns < idle.0 {
                continue;
            }
            if time_ns > idle.0 {
                idle = (time_ns, Vec::new());
            }
            let last_ns = int64_at(uses, row).max(int64_at(changes, row)).unwrap_or(0);
            let is_held = int64_at(attached, row).unwrap_or(0) > 0 || int64_at(messages, row).unwrap_or(0) > 0;
            if !is_held && time_ns.saturating_sub(last_ns) >= IDLE_NS && idle.1.len() < IDLE_TOLD {
                idle.1.push(ids.value(row));
            }
        }
        if idle.0 > i64::MIN {
            found.push((place, idle));
        }
    }
    Ok(())
}
