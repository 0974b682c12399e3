//! Calls on objects that were removed: waiters that the removal hit (EIDRM), and calls afterwards (EINVAL on the id).

use super::{Names, OBJECTS_MAX};
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::finding::{EVIDENCE_MAX, Finding, Grade};
use crate::human;
use crate::names::{Lifetime, Lifetimes, Wanted};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// An id in an IPC namespace of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id {
    trace: usize,
    kind: String,
    id: i64,
    ipc_ns: Option<i64>,
}

/// One removal and what came of it.
#[derive(Clone, Debug)]
struct Removal {
    object_ref: i64,
    removed_ns: i64,
    removed_by: Option<i64>,
    removed_call: Option<i64>,
    /// When the id came into use again.
    reused_ns: i64,
}

/// Calls that met a removed object.
#[derive(Clone, Debug, Default)]
struct Hits {
    waiting: u64,
    afterwards: u64,
    /// Some of them: start, process, call.
    some: Vec<(i64, i64, i64)>,
}

/// What was found.
pub(super) struct Removals {
    removals: HashMap<Id, Vec<Removal>>,
    hits: Vec<((Id, usize), Hits)>,
}

/// Reads all traces.
///
/// # Errors
/// A part that cannot be believed.
pub(super) fn ask(opened: &Opened) -> Result<Removals, Error> {
    let lifetimes = Lifetimes::read_if(&opened.traces, |_, _| true)?;
    let removals = removals_of(&lifetimes);
    let query = HitQuery { removals: &removals };
    let hits =
        if removals.is_empty() { Partial::default() } else { scan::fold(&opened.traces, &opened.selection, &query)? };
    let mut hits: Vec<_> = hits.into_iter().collect();
    hits.sort_by_key(|((id, place), _)| (id.trace, removals[id][*place].removed_ns, removals[id][*place].object_ref));
    Ok(Removals { removals, hits })
}

/// The removals of each id, the earliest first. System V only: a queue's name goes, but who has it open keeps it.
fn removals_of(lifetimes: &Lifetimes) -> HashMap<Id, Vec<Removal>> {
    let mut removals: HashMap<Id, Vec<Removal>> = HashMap::new();
    let id = |trace, l: &Lifetime| Id { trace, kind: l.kind.clone(), id: l.id, ipc_ns: l.ipc_ns };
    for (trace, object_ref, lifetime) in lifetimes.iter().filter(|(_, _, l)| l.kind != "mq").take(OBJECTS_MAX) {
        let Some(removed_ns) = lifetime.removed_ns else { continue };
        let (removed_by, removed_call) = (lifetime.removed_by, lifetime.removed_call);
        let removal = Removal { object_ref, removed_ns, removed_by, removed_call, reused_ns: i64::MAX };
        removals.entry(id(trace, lifetime)).or_default().push(removal);
    }
    for (trace, _, lifetime) in lifetimes.iter() {
        let (Some(of_id), Some(created_ns)) = (removals.get_mut(&id(trace, lifetime)), lifetime.created_ns) else {
            continue;
        };
        for removal in of_id.iter_mut().filter(|removal| removal.removed_ns <= created_ns) {
            removal.reused_ns = removal.reused_ns.min(created_ns);
        }
    }
    removals.values_mut().for_each(|of_id| of_id.sort_by_key(|removal| removal.removed_ns));
    removals
}

struct HitQuery<'a> {
    removals: &'a HashMap<Id, Vec<Removal>>,
}

type Partial = HashMap<(Id, usize), Hits>;

impl Query for HitQuery<'_> {
    type Partial = Partial;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        // Only calls that failed can have met a removed object.
        if statistics.is_always("outcome", "ok") {
            return vec!["error"];
        }
        vec!["error", "object_kind", "object_id", "ipc_ns", "command", "start_ns", "process_id", "call_id"]
    }

    fn empty(&self) -> Partial {
        Partial::default()
    }

    fn fold(&self, partial: &mut Partial, batch: &Batch) -> Result<(), Error> {
        if !batch.has("object_id") {
            return Ok(());
        }
        let (errors, kinds) = (batch.text("error")?, batch.text("object_kind")?);
        let (ids, namespaces, commands) = (batch.int64("object_id")?, batch.int64("ipc_ns")?, batch.text("command")?);
        let (starts, processes, calls) =
            (batch.int64("start_ns")?, batch.int64("process_id")?, batch.int64("call_id")?);
        for row in 0..batch.rows() {
            let error = errors.get(row);
            let (Some("EIDRM" | "EINVAL"), Some(kind), Some(id)) = (error, kinds.get(row), int64_at(ids, row)) else {
                continue;
            };
            // Who asks whether it is there, or removes what is gone already, uses nothing.
            if matches!(commands.get(row), Some("IPC_RMID" | "IPC_STAT")) {
                continue;
            }
            let id = Id { trace: batch.trace, kind: kind.to_owned(), id, ipc_ns: int64_at(namespaces, row) };
            let Some(removals) = self.removals.get(&id) else { continue };
            let (start_ns, process_id) = (starts.value(row), processes.value(row));
            let Some(place) = met(removals, start_ns, process_id, error == Some("EIDRM")) else { continue };
            let hits = partial.entry((id, place)).or_default();
            *(if error == Some("EIDRM") { &mut hits.waiting } else { &mut hits.afterwards }) += 1;
            hits.note((start_ns, process_id, calls.value(row)));
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, from: Partial) {
        for (key, hits) in from {
            let of = into.entry(key).or_default();
            of.waiting += hits.waiting;
            of.afterwards += hits.afterwards;
            hits.some.into_iter().for_each(|hit| of.note(hit));
        }
    }
}

/// Which removal a call of a process met; its own do not count: it knew.
fn met(removals: &[Removal], start_ns: i64, process_id: i64, was_waiting: bool) -> Option<usize> {
    removals.iter().position(|removal| {
        let then = if was_waiting {
            start_ns <= removal.removed_ns
        } else {
            removal.removed_ns <= start_ns && start_ns < removal.reused_ns
        };
        then && removal.removed_by.is_some_and(|remover| remover != process_id)
    })
}

impl Hits {
    /// Keeps the earliest.
    fn note(&mut self, hit: (i64, i64, i64)) {
        let place = self.some.partition_point(|known| *known < hit);
        if place < EVIDENCE_MAX - 1 {
            self.some.insert(place, hit);
            self.some.truncate(EVIDENCE_MAX - 1);
        }
    }
}

impl Removals {
    /// Adds the processes that the findings name.
    pub(super) fn names_wanted(&self, wanted: &mut Wanted) {
        for ((id, place), hits) in &self.hits {
            wanted.extend(hits.some.iter().map(|(_, process, _)| (id.trace, *process)));
            wanted.extend(self.removals[id][*place].removed_by.map(|process| (id.trace, process)));
        }
    }

    /// What is wrong.
    pub(super) fn findings(&self, names: &Names) -> Vec<Finding> {
        self.hits.iter().map(|((id, place), hits)| finding(id, &self.removals[id][*place], hits, names)).collect()
    }
}

fn finding(id: &Id, removal: &Removal, hits: &Hits, names: &Names) -> Finding {
    let who = |process: i64| names.processes.label(id.trace, process);
    let object = format!("{}:{}", id.kind, id.id);
    let mut victims: Vec<String> = hits.some.iter().map(|(_, process, _)| who(*process)).collect();
    victims.dedup();
    victims.truncate(3);
    let mut parts = Vec::new();
    if hits.waiting > 0 {
        parts.push(format!("{} waited for it then and got EIDRM", human::counted(hits.waiting.into(), "call")));
    }
    if hits.afterwards > 0 {
        parts.push(format!("{} came afterwards and got EINVAL", human::counted(hits.afterwards.into(), "call")));
    }
    let remover = removal.removed_by.map_or_else(|| "Someone".to_owned(), who);
    let what = format!("{remover} removed {object}, which {} still used: {}.", victims.join(", "), parts.join("; "));
    Finding {
        kind: "use_after_removal",
        // Who removes to end its waiters does it on purpose; a call afterwards knew nothing of it.
        grade: if hits.afterwards > 0 { Grade::Certain } else { Grade::Likely },
        trace: id.trace,
        object: Some(object),
        object_ref: Some(removal.object_ref),
        since_ns: Some(removal.removed_ns),
        what,
        remedy: "Let the last user remove the object, or let users take EIDRM and EINVAL as its end.".to_owned(),
        doubts: Vec::new(),
        evidence: removal.removed_call.into_iter().chain(hits.some.iter().map(|(_, _, call)| *call)).collect(),
    }
}
