//! The values of the limits of IPC namespaces over time, and what was in use when something ran out.

use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;

/// A limit of a namespace: the index of the trace, its inode, the name.
type Of = (usize, i64, &'static str);

/// Limits of which the values are kept: those of some ten thousand namespaces.
const LIMITS_MAX: usize = 1 << 18;

/// While a limit had one value.
#[derive(Clone, Copy, Debug)]
struct Run {
    from_ns: i64,
    to_ns: i64,
    value: i64,
}

/// The values of limits, as far as snapshots tell.
#[derive(Debug, Default)]
pub struct Values(HashMap<Of, Vec<Run>>);

impl Values {
    /// Reads those of namespaces.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace], names: &[&'static str]) -> Result<Values, Error> {
        let columns = &["snapshot_ns", "ipc_ns", "name", "value"];
        let found = scan::collect(traces, &tables::LIMITS, columns, |batch, found| read_runs(batch, names, found))?;
        let mut values = Values::default();
        for (of, run) in found {
            if values.0.len() < LIMITS_MAX || values.0.contains_key(&of) {
                values.0.entry(of).or_default().push(run);
            }
        }
        values.0.values_mut().for_each(|runs| runs.sort_unstable_by_key(|run| run.from_ns));
        Ok(values)
    }

    /// The value at a time: that of the snapshot nearest to it.
    pub fn at(&self, trace: usize, ipc_ns: i64, name: &'static str, time_ns: i64) -> Option<i64> {
        let runs = self.0.get(&(trace, ipc_ns, name))?;
        let distance = |run: &Run| {
            (i128::from(run.from_ns) - i128::from(time_ns)).max(i128::from(time_ns) - i128::from(run.to_ns)).max(0)
        };
        runs.iter().min_by_key(|run| distance(run)).map(|run| run.value)
    }
}

/// Adds a run per value and limit, as long as the batch has it: values change rarely.
fn read_runs(batch: &Batch, names: &[&'static str], found: &mut Vec<(Of, Run)>) -> Result<(), Error> {
    let (times, namespaces, values) = (batch.int64("snapshot_ns")?, batch.int64("ipc_ns")?, batch.int64("value")?);
    let texts = batch.text("name")?;
    let mut open: HashMap<Of, Run> = HashMap::new();
    for row in 0..batch.rows() {
        let known = texts.get(row).and_then(|text| names.iter().find(|name| **name == text));
        let (Some(name), Some(ipc_ns)) = (known, int64_at(namespaces, row)) else { continue };
        let (of, time_ns, value) = ((batch.trace, ipc_ns, *name), times.value(row), values.value(row));
        match open.get_mut(&of) {
            Some(run) if run.value == value => run.to_ns = time_ns,
            _ => found.extend(open.insert(of, Run { from_ns: time_ns, to_ns: time_ns, value }).map(|run| (of, run))),
        }
    }
    found.extend(open);
    Ok(())
}

/// Whose usage is asked for, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The index of the trace.
    pub trace: usize,
    /// The limit.
    pub name: &'static str,
    /// The namespace, process or user; all absent: of the host.
    pub ipc_ns: Option<i64>,
    /// The process.
    pub process_id: Option<i64>,
    /// The user.
    pub uid: Option<i64>,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
}

/// A row of `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The limit then.
    pub value: i64,
    /// How much of it was in use.
    pub in_use: Option<i64>,
    /// When.
    pub snapshot_ns: i64,
    /// Whether the snapshot was taken because something had run out.
    pub at_failure: bool,
}

/// For each question the snapshot nearest in time.
///
/// # Errors
/// A part that cannot be believed.
pub fn nearest(traces: &[Trace], asked: &[Asked]) -> Result<Vec<Option<Usage>>, Error> {
    let mut nearest: Vec<Option<Usage>> = vec![None; asked.len()];
    if asked.is_empty() {
        return Ok(nearest);
    }
    let columns = &["snapshot_ns", "phase", "ipc_ns", "process_id", "uid", "name", "value", "in_use"];
    let found = scan::collect(traces, &tables::LIMITS, columns, |batch, found| read_nearest(batch, asked, found))?;
    for (place, usage) in found {
        let best = &mut nearest[place];
        if best.is_none_or(|best| is_nearer(&usage, &best, asked[place].time_ns)) {
            *best = Some(usage);
        }
    }
    Ok(nearest)
}

fn is_nearer(usage: &Usage, than: &Usage, time_ns: i64) -> bool {
    let distance = |usage: &Usage| (usage.snapshot_ns.abs_diff(time_ns), usage.snapshot_ns);
    distance(usage) < distance(than)
}

/// At most one row per question and batch.
fn read_nearest(batch: &Batch, asked: &[Asked], found: &mut Vec<(usize, Usage)>) -> Result<(), Error> {
    let (times, phases, names) = (batch.int64("snapshot_ns")?, batch.text("phase")?, batch.text("name")?);
    let (namespaces, processes, uids) = (batch.int64("ipc_ns")?, batch.int64("process_id")?, batch.int64("uid")?);
    let (values, in_use) = (batch.int64("value")?, batch.int64("in_use")?);
    let mut places: HashMap<_, Vec<usize>> = HashMap::new();
    for (place, asked) in asked.iter().enumerate().filter(|(_, asked)| asked.trace == batch.trace) {
        places.entry((asked.name, asked.ipc_ns, asked.process_id, asked.uid)).or_default().push(place);
    }
    let mut best: HashMap<usize, Usage> = HashMap::new();
    for row in 0..batch.rows() {
        let of = (int64_at(namespaces, row), int64_at(processes, row), int64_at(uids, row));
        let Some(of_row) = names.get(row).and_then(|name| places.get(&(name, of.0, of.1, of.2))) else { continue };
        let usage = Usage {
            value: values.value(row),
            in_use: int64_at(in_use, row),
            snapshot_ns: times.value(row),
            at_failure: phases.get(row) == Some("failure"),
        };
        for place in of_row {
            let best = best.entry(*place).or_insert(usage);
            if is_nearer(&usage, best, asked[*place].time_ns) {
                *best = usage;
            }
        }
    }
    found.extend(best);
    Ok(())
}
