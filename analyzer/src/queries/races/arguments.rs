//! Calls whose user memory was rewritten while they ran (`args_changed`).

use super::{Names, OBJECTS_MAX};
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::finding::{EVIDENCE_MAX, Finding, Grade};
use crate::human;
use crate::names::{self, Wanted};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use arrow::array::Array;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// Trace, process, operation, lifetime of the object.
type Key = (usize, i64, String, Option<i64>);

/// The calls of one key.
#[derive(Clone, Debug)]
struct Changed {
    object: Option<String>,
    count: u64,
    /// Some of them: start, call.
    some: Vec<(i64, i64)>,
}

/// What was found.
pub(super) struct Arguments(Vec<(Key, Changed)>);

/// Reads all traces.
///
/// # Errors
/// A part that cannot be believed.
pub(super) fn ask(opened: &Opened) -> Result<Arguments, Error> {
    let mut found: Vec<_> = scan::fold(&opened.traces, &opened.selection, &ChangedQuery)?.into_iter().collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Arguments(found))
}

struct ChangedQuery;

impl Query for ChangedQuery {
    type Partial = HashMap<Key, Changed>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        if statistics.is_false("args_changed") {
            return vec!["call_id"];
        }
        vec![
            "args_changed",
            "process_id",
            "syscall",
            "object_kind",
            "object_ref",
            "object_id",
            "object_name",
            "start_ns",
            "call_id",
        ]
    }

    fn empty(&self) -> Self::Partial {
        HashMap::new()
    }

    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        if !batch.has("args_changed") {
            return Ok(());
        }
        let changed = batch.boolean("args_changed")?;
        if changed.true_count() == 0 {
            return Ok(());
        }
        let (processes, syscalls) = (batch.int64("process_id")?, batch.text("syscall")?);
        let (kinds, refs) = (batch.text("object_kind")?, batch.int64("object_ref")?);
        let (ids, of_queues) = (batch.int64("object_id")?, batch.text("object_name")?);
        let (starts, calls) = (batch.int64("start_ns")?, batch.int64("call_id")?);
        for row in (0..batch.rows()).filter(|row| changed.is_valid(*row) && changed.value(*row)) {
            let syscall = syscalls.get(row).unwrap_or("?").to_owned();
            let key = (batch.trace, processes.value(row), syscall, int64_at(refs, row));
            if partial.len() >= OBJECTS_MAX && !partial.contains_key(&key) {
                continue;
            }
            let object = kinds.get(row).map(|kind| names::object(kind, int64_at(ids, row), of_queues.get(row)));
            let of = partial.entry(key).or_insert(Changed { object, count: 0, some: Vec::new() });
            of.count += 1;
            of.note((starts.value(row), calls.value(row)));
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        for (key, changed) in from {
            let of = into.entry(key).or_insert(Changed { count: 0, some: Vec::new(), ..changed.clone() });
            of.count += changed.count;
            changed.some.into_iter().for_each(|call| of.note(call));
        }
    }
}

impl Changed {
    /// Keeps the earliest.
    fn note(&mut self, call: (i64, i64)) {
        let place = self.some.partition_point(|known| *known < call);
        if place < EVIDENCE_MAX {
            self.some.insert(place, call);
            self.some.truncate(EVIDENCE_MAX);
        }
    }
}

impl Arguments {
    /// Adds the processes that the findings name.
    pub(super) fn names_wanted(&self, wanted: &mut Wanted) {
        wanted.extend(self.0.iter().map(|((trace, process, ..), _)| (*trace, *process)));
    }

    /// What is wrong.
    pub(super) fn findings(&self, names: &Names) -> Vec<Finding> {
        self.0.iter().map(|(key, changed)| finding(key, changed, names)).collect()
    }
}

fn finding((trace, process, syscall, object_ref): &Key, changed: &Changed, names: &Names) -> Finding {
    let who = names.processes.label(*trace, *process);
    let calls = human::counted(changed.count.into(), "call");
    Finding {
        kind: "args_changed",
        grade: Grade::Likely,
        trace: *trace,
        object: changed.object.clone(),
        object_ref: *object_ref,
        since_ns: changed.some.first().map(|(start_ns, _)| *start_ns),
        what: format!("{calls} of {syscall} by {who}: the memory that it pointed to was rewritten while the call ran."),
        remedy: "Give each thread an argument buffer of its own, and do not write to it before the call has returned."
            .to_owned(),
        doubts: Vec::new(),
        evidence: changed.some.iter().map(|(_, call)| *call).collect(),
    }
}
