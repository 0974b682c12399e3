//! Objects that were made so that every user may read or write them.

use super::left::Left;
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::names::{Lifetimes, Processes};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Only, Query};
use crate::scan;
use ipc_schema::tables::{self, Table};

/// Objects that are told; the last finding says how many more there are.
const OBJECTS_MAX: usize = 100;
/// What others may do: read, write.
const OTHERS: i32 = 0o006;
const PERMISSIONS: i32 = 0o777;
/// IPC_CREAT and IPC_EXCL.
const GETTING: i32 = 0o3000;
/// SHM_HUGETLB, SHM_NORESERVE, and the size of huge pages.
const OF_SEGMENTS: i32 = 0o14000 | !0 << 26;

/// An object that others may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    end_ns: i64,
    trace: usize,
    object_ref: i64,
    call_id: Option<i64>,
    mode: i32,
}

/// Finds them.
///
/// # Errors
/// A part that cannot be believed.
pub fn find(opened: &Opened, left: &Left) -> Result<Vec<Finding>, Error> {
    let mut found = scan::fold(&opened.traces, &opened.selection, &MadeOpen)?;
    // The mode of a POSIX queue is cut by the umask: only a snapshot tells it.
    let queues = left.objects.iter().filter(|object| object.lifetime.kind == "mq").filter_map(|object| {
        let (end_ns, mode) = (object.lifetime.created_ns?, object.state?.mode?);
        let (trace, object_ref, call_id) = (object.trace, object.object_ref, object.lifetime.created_call);
        (mode & OTHERS != 0).then_some(Open { end_ns, trace, object_ref, call_id, mode })
    });
    if opened.selection.is_everything() {
        queues.for_each(|open| found.add(open));
    }
    // What its maker closed afterwards is open no more.
    let closed = |open: &Open| {
        let same = left.objects.iter().find(|o| (o.trace, o.object_ref) == (open.trace, open.object_ref));
        same.and_then(|object| object.state?.mode).is_some_and(|mode| mode & OTHERS == 0)
    };
    found.cut();
    found.open.retain(|open| !closed(open));
    let wanted = found.open.iter().map(|open| (open.trace, open.object_ref)).collect();
    let lifetimes = Lifetimes::read(&opened.traces, &wanted)?;
    let makers = lifetimes.iter().filter_map(|(trace, _, lifetime)| Some((trace, lifetime.created_by?))).collect();
    let makers = Processes::read(&opened.traces, &makers)?;
    let mut findings: Vec<Finding> = found.open.iter().map(|open| finding(open, &lifetimes, &makers)).collect();
    findings.extend(super::more("world_accessible", found.more, "objects that others may use"));
    Ok(findings)
}

fn finding(open: &Open, lifetimes: &Lifetimes, makers: &Processes) -> Finding {
    let object = lifetimes.label(open.trace, open.object_ref);
    let maker = lifetimes.get(open.trace, open.object_ref).and_then(|lifetime| lifetime.created_by);
    let maker = maker.map(|maker| format!(" by {}", makers.label(open.trace, maker))).unwrap_or_default();
    let may = match open.mode & OTHERS {
        0o002 => "change",
        0o004 => "read",
        _ => "read and change",
    };
    let tight = open.mode & !OTHERS;
    Finding {
        kind: "world_accessible",
        grade: Grade::Certain,
        trace: open.trace,
        what: format!("Made{maker} with mode {:04o}: every user of the machine may {may} it.", open.mode),
        remedy: format!("Make it with mode {tight:04o}, and give those who share it a group."),
        object: Some(object),
        object_ref: Some(open.object_ref),
        since_ns: Some(open.end_ns),
        doubts: Vec::new(),
        evidence: open.call_id.into_iter().collect(),
    }
}

/// The calls that made System V objects with such a mode, the earliest of them.
struct MadeOpen;

#[derive(Default)]
struct Found {
    open: Vec<Open>,
    /// How many more.
    more: u64,
}

impl Found {
    fn add(&mut self, open: Open) {
        self.open.push(open);
        if self.open.len() > 2 * OBJECTS_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.open.sort_unstable();
        self.more += self.open.len().saturating_sub(OBJECTS_MAX) as u64;
        self.open.truncate(OBJECTS_MAX);
    }
}

impl Query for MadeOpen {
    type Partial = Found;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["created", "object_kind", "object_ref", "flags", "end_ns", "call_id"]
    }

    fn only(&self) -> Option<Only> {
        Some(Only::Filled("created"))
    }

    fn empty(&self) -> Found {
        Found::default()
    }

    fn fold(&self, found: &mut Found, batch: &Batch) -> Result<(), Error> {
        let (created, kinds, flags) = (batch.boolean("created")?, batch.text("object_kind")?, batch.int32("flags")?);
        let (refs, ends, ids) = (batch.int64("object_ref")?, batch.int64("end_ns")?, batch.int64("call_id")?);
        for row in 0..batch.rows() {
            let is_made = created.value(row) && matches!(kinds.get(row), Some("sem" | "shm" | "msg"));
            let flags = int32_at(flags, row).unwrap_or(0);
            let known = PERMISSIONS | GETTING | if kinds.get(row) == Some("shm") { OF_SEGMENTS } else { 0 };
            // Bits that mean nothing: a number that was never meant as a mode.
            let mode = if flags & !known == 0 { flags & PERMISSIONS } else { 0 };
            if let (true, Some(object_ref), Some(end_ns)) = (is_made, int64_at(refs, row), int64_at(ends, row))
                && mode & OTHERS != 0
            {
                let call_id = Some(ids.value(row));
                found.add(Open { end_ns, trace: batch.trace, object_ref, call_id, mode });
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Found, from: Found) {
        into.more += from.more;
        from.open.into_iter().for_each(|open| into.add(open));
        into.cut();
    }
}
