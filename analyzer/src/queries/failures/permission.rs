//! Findings `permission`: who was refused, and whose the object is.

use super::groups::{Code, Failures, Group, Target};
use super::labels::{Labels, Object};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::finding::{EVIDENCE_MAX, Finding, Grade};
use crate::human;
use crate::names::{Lifetimes, Processes, Wanted};
use crate::opened::Opened;
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;
use std::cmp::Reverse;

/// Findings of this kind that are told; the last one says how many more there are.
const FINDINGS_MAX: usize = 100;
/// Processes that a finding names.
const PROCESSES_TOLD: usize = 3;

/// The calls that an object refused with one errno.
struct Refusal {
    trace: usize,
    error: u32,
    object_ref: Option<i64>,
    object: Object,
    calls: u64,
    first: (i64, i64),
    groups: Vec<(i64, Group)>,
}

/// Whose an object is.
#[derive(Clone, Copy, Debug)]
struct Ownership {
    snapshot_ns: i64,
    uid: Option<i64>,
    mode: Option<i32>,
}

/// Finds them.
///
/// # Errors
/// A part that cannot be believed.
pub fn find(opened: &Opened, failed: &Failures, labels: &Labels) -> Result<Vec<Finding>, Error> {
    let mut refusals = refusals(failed, labels);
    let more = refusals.split_off(refusals.len().min(FINDINGS_MAX));
    if refusals.is_empty() {
        return Ok(Vec::new());
    }
    let lifetimes = lifetimes(&opened.traces, &refusals)?;
    let refusals = together(refusals, &lifetimes);
    let wanted: Wanted = refusals.iter().filter_map(|r| Some((r.trace, r.object_ref?))).collect();
    let owners = owners(&opened.traces, &wanted)?;
    let makers = lifetimes.iter().filter_map(|(trace, _, lifetime)| Some((trace, lifetime.created_by?))).collect();
    let makers = Processes::read(&opened.traces, &makers)?;
    let known = Known { lifetimes, owners, makers, labels, failed };
    let mut findings: Vec<Finding> = refusals.iter().map(|refusal| known.finding(refusal)).collect();
    findings.extend(rest(&more));
    Ok(findings)
}

/// What was refused, the most calls first.
fn refusals(failed: &Failures, labels: &Labels) -> Vec<Refusal> {
    let mut places: HashMap<(u32, u32), usize> = HashMap::new();
    let mut refusals: Vec<Refusal> = Vec::new();
    let is_refused = |code: &Code| matches!(failed.names(code).1, "EACCES" | "EPERM");
    let refused: Vec<bool> = failed.codes.all().iter().map(is_refused).collect();
    for (key, group) in failed.groups.iter().filter(|(key, _)| refused[key.code as usize]) {
        let Some((code, target)) = failed.of(key).filter(|(_, target)| **target != Target::lifetime(None)) else {
            continue;
        };
        let place = *places.entry((key.code, key.target)).or_insert_with(|| {
            let trace = code.trace as usize;
            let object = labels.object(failed, trace, target);
            let (error, object_ref) = (code.error, target.object_ref);
            refusals.push(Refusal {
                trace,
                error,
                object_ref,
                object,
                calls: 0,
                first: group.first,
                groups: Vec::new(),
            });
            refusals.len() - 1
        });
        let refusal = &mut refusals[place];
        refusal.calls += group.count;
        refusal.first = refusal.first.min(group.first);
        if refusal.groups.len() < EVIDENCE_MAX {
            refusal.groups.push((key.process_id, *group));
        }
    }
    refusals.retain(|refusal| is_about_an_object(failed.texts.get(refusal.error), &refusal.object));
    refusals.sort_by_key(|refusal| (Reverse(refusal.calls), refusal.first));
    refusals
}

/// A queue's name with a second slash is EACCES whoever asks; a segment of huge pages is EPERM before it exists.
fn is_about_an_object(error: Option<&str>, object: &Object) -> bool {
    let has_bad_name = object.name.as_deref().is_some_and(|name| name.trim_start_matches('/').contains('/'));
    let is_getting = object.id.is_none() && object.name.is_none();
    let is_of_huge_pages = error == Some("EPERM") && is_getting;
    !(has_bad_name || is_of_huge_pages)
}

/// The lifetimes that the refused calls named, those by key or name too.
fn lifetimes(traces: &[Trace], refusals: &[Refusal]) -> Result<Lifetimes, Error> {
    let refs: Wanted = refusals.iter().filter_map(|r| Some((r.trace, r.object_ref?))).collect();
    let by_name: Vec<(usize, &Object)> = refusals
        .iter()
        .filter(|refusal| refusal.object_ref.is_none())
        .map(|refusal| (refusal.trace, &refusal.object))
        .collect();
    let columns = &["object_ref", "object_kind", "object_id", "key", "name", "ipc_ns"];
    let found: Vec<(usize, i64)> = scan::collect(traces, &tables::LIFETIMES, columns, |batch, found| {
        let (ids, keys, namespaces) = (batch.int64("object_id")?, batch.int32("key")?, batch.int64("ipc_ns")?);
        let (kinds, names, object_refs) = (batch.text("object_kind")?, batch.text("name")?, batch.int64("object_ref")?);
        for row in 0..batch.rows() {
            let is_named = |(trace, object): &(usize, &Object)| {
                *trace == batch.trace
                    && kinds.get(row) == object.kind.as_deref()
                    && int64_at(namespaces, row) == object.ipc_ns
                    && match (object.id, object.key, object.name.as_deref()) {
                        (_, _, Some(name)) => names.get(row) == Some(name),
                        (Some(id), _, _) => ids.value(row) == id,
                        (None, Some(key), _) => key != 0 && int32_at(keys, row) == Some(key),
                        (None, None, None) => false,
                    }
            };
            if by_name.iter().any(is_named) {
                found.push((batch.trace, object_refs.value(row)));
            }
        }
        Ok(())
    })?;
    let refs: Wanted = refs.into_iter().chain(found).collect();
    Lifetimes::read(traces, &refs)
}

/// The lifetime of an object that a call named and that lived then.
fn object_ref(refusal: &Refusal, lifetimes: &Lifetimes) -> Option<i64> {
    let (trace, object, time_ns) = (refusal.trace, &refusal.object, refusal.first.0);
    if refusal.object_ref.is_some() {
        return refusal.object_ref;
    }
    let mut living: Vec<i64> = lifetimes
        .iter()
        .filter(|(of, _, lifetime)| {
            *of == trace
                && Some(lifetime.kind.as_str()) == object.kind.as_deref()
                && lifetime.ipc_ns == object.ipc_ns
                && object.name.as_deref().is_none_or(|name| lifetime.name.as_deref() == Some(name))
                && (object.name.is_some() || object.id.is_none_or(|id| lifetime.id == id))
                && (object.name.is_some() || object.id.is_some() || lifetime.key == object.key)
                && lifetime.created_ns.is_none_or(|ns| ns <= time_ns)
                && lifetime.removed_ns.is_none_or(|ns| ns >= time_ns)
        })
        .map(|(_, object_ref, _)| object_ref)
        .collect();
    living.sort_unstable();
    living.pop()
}

/// Puts together what was refused by id, by key and by name.
fn together(refusals: Vec<Refusal>, lifetimes: &Lifetimes) -> Vec<Refusal> {
    let mut together: Vec<Refusal> = Vec::new();
    for mut refusal in refusals {
        refusal.object_ref = object_ref(&refusal, lifetimes);
        let of = |r: &Refusal| (r.trace, r.error, r.object_ref);
        let same = together.iter_mut().find(|known| of(known) == of(&refusal) && of(known).2.is_some());
        match same {
            Some(known) => {
                known.calls += refusal.calls;
                known.first = known.first.min(refusal.first);
                known.groups.extend(refusal.groups);
            }
            None => together.push(refusal),
        }
    }
    together
}

/// Owner and mode of lifetimes by their last snapshot.
fn owners(traces: &[Trace], wanted: &Wanted) -> Result<HashMap<(usize, i64), Ownership>, Error> {
    let columns = &["snapshot_ns", "object_ref", "owner_uid", "mode"];
    let found = scan::collect(traces, &tables::OBJECTS, columns, |batch: &Batch, found| {
        let (times, refs) = (batch.int64("snapshot_ns")?, batch.int64("object_ref")?);
        let (uids, modes) = (batch.int64("owner_uid")?, batch.int32("mode")?);
        let mut last: HashMap<(usize, i64), Ownership> = HashMap::new();
        for row in (0..batch.rows()).filter(|row| wanted.contains(&(batch.trace, refs.value(*row)))) {
            let (uid, mode, snapshot_ns) = (int64_at(uids, row), int32_at(modes, row), times.value(row));
            let known = last.entry((batch.trace, refs.value(row))).or_insert(Ownership { snapshot_ns, uid, mode });
            if snapshot_ns > known.snapshot_ns {
                *known = Ownership { snapshot_ns, uid, mode };
            }
        }
        found.extend(last);
        Ok(())
    })?;
    let mut owners: HashMap<(usize, i64), Ownership> = HashMap::new();
    for (key, owner) in found {
        let known = owners.entry(key).or_insert(owner);
        if owner.snapshot_ns > known.snapshot_ns {
            *known = owner;
        }
    }
    Ok(owners)
}

/// What is known of the objects and of those who were refused.
struct Known<'a> {
    lifetimes: Lifetimes,
    owners: HashMap<(usize, i64), Ownership>,
    makers: Processes,
    labels: &'a Labels,
    failed: &'a Failures,
}

impl Known<'_> {
    fn finding(&self, refusal: &Refusal) -> Finding {
        let (trace, object_ref) = (refusal.trace, refusal.object_ref);
        let error = self.failed.texts.get(refusal.error).unwrap_or_default();
        let lifetime = object_ref.and_then(|object_ref| self.lifetimes.get(trace, object_ref));
        let object = lifetime.map(|lifetime| lifetime.object()).or_else(|| refusal.object.label());
        let snapshot = object_ref.and_then(|object_ref| self.owners.get(&(trace, object_ref)));
        let maker = lifetime.and_then(|lifetime| lifetime.created_by);
        let made_by = maker.and_then(|maker| self.makers.get(trace, maker)).and_then(|process| process.uid);
        let owner = snapshot.and_then(|snapshot| snapshot.uid).or(made_by);
        let mode = snapshot.and_then(|snapshot| snapshot.mode);
        let belongs = self.belongs(trace, owner, mode, maker);
        let what = format!("{} was refused {}; {belongs}.", self.refused(refusal, trace), calls(refusal, error));
        let mut finding = Finding {
            kind: "permission",
            grade: Grade::Certain,
            trace,
            object,
            object_ref,
            since_ns: Some(refusal.first.0),
            what,
            remedy: remedy(error, refusal.object.kind.as_deref(), refusal.object.name.as_deref(), mode),
            doubts: Vec::new(),
            evidence: evidence(refusal),
        };
        finding.doubt(self.doubts(refusal, trace, owner));
        finding
    }

    fn doubts(&self, refusal: &Refusal, trace: usize, owner: Option<i64>) -> Option<String> {
        let is_owner = |uid: i64| owner == Some(uid);
        let refused = refusal.groups.first().and_then(|(process_id, _)| self.uid(trace, *process_id));
        if owner.is_none() {
            return Some("whose it is stands in no snapshot, and its making was not recorded".to_owned());
        }
        let text = "the kernel looks at the effective user id, the trace has the real one: it is the owner's";
        refused.is_some_and(is_owner).then(|| text.to_owned())
    }

    fn uid(&self, trace: usize, process_id: i64) -> Option<i64> {
        self.labels.process(trace, process_id).and_then(|process| process.2)
    }

    /// Who was refused.
    fn refused(&self, refusal: &Refusal, trace: usize) -> String {
        let mut told: Vec<i64> = refusal.groups.iter().map(|(process_id, _)| *process_id).collect();
        told.sort_unstable();
        told.dedup();
        let others = told.len().saturating_sub(PROCESSES_TOLD);
        let name = |process_id: &i64| {
            let Some((pid, comm, uid)) = self.labels.process(trace, *process_id) else {
                return format!("(process_id {process_id})");
            };
            let comm = comm.as_deref().map(|comm| format!(" {comm}")).unwrap_or_default();
            format!("{pid}{comm}{}", uid.map(|uid| format!(" (uid {uid})")).unwrap_or_default())
        };
        let mut text = told.iter().take(PROCESSES_TOLD).map(name).collect::<Vec<_>>().join(", ");
        if others > 0 {
            text.push_str(&format!(" and {others} or more others"));
        }
        text
    }

    fn belongs(&self, trace: usize, owner: Option<i64>, mode: Option<i32>, maker: Option<i64>) -> String {
        let mut text = match owner {
            Some(uid) => format!("it belongs to uid {uid}"),
            None => "whose it is was not seen".to_owned(),
        };
        if let Some(mode) = mode {
            text.push_str(&format!(", mode {mode:04o}"));
        }
        if let Some(maker) = maker {
            text.push_str(&format!(", made by {}", self.makers.label(trace, maker)));
        }
        text
    }
}

fn calls(refusal: &Refusal, error: &str) -> String {
    match refusal.calls {
        1 => format!("once ({error})"),
        calls => format!("{calls} times ({error})"),
    }
}

fn evidence(refusal: &Refusal) -> Vec<i64> {
    let mut calls: Vec<(i64, i64)> = refusal.groups.iter().map(|(_, group)| group.first).collect();
    calls.sort_unstable();
    calls.truncate(EVIDENCE_MAX);
    calls.into_iter().map(|(_, call_id)| call_id).collect()
}

fn remedy(error: &str, kind: Option<&str>, name: Option<&str>, mode: Option<i32>) -> String {
    let wider = mode.map_or(0o660, |mode| mode | 0o060);
    match (error, kind, name) {
        ("EPERM", _, _) => "Only the owner, its creator or root may do that: run it as one of them.".to_owned(),
        (_, Some("mq"), Some(name)) => {
            format!(
                "Give both a group and the queue to it: chgrp GROUP /dev/mqueue{name}; chmod {wider:04o} /dev/mqueue{name}"
            )
        }
        _ => format!(
            "Run both under one user, or give both a group and make the object with mode {wider:04o} (or IPC_SET)."
        ),
    }
}

/// What stands for those that are not told.
fn rest(more: &[Refusal]) -> Option<Finding> {
    let first = more.first()?;
    let calls: u64 = more.iter().map(|refusal| refusal.calls).sum();
    let calls = human::counted(calls.into(), "call");
    Some(Finding {
        kind: "permission",
        grade: Grade::Certain,
        trace: first.trace,
        object: None,
        object_ref: None,
        since_ns: Some(first.first.0),
        what: format!("{} more objects refused {calls}.", more.len()),
        remedy: "Ask for less: ipc-analyzer failures TRACE --pid PID --object OBJECT".to_owned(),
        doubts: Vec::new(),
        evidence: Vec::new(),
    })
}
