//! The objects that are left, who made and used them; findings `orphan` and `unused`.

use super::left::{Left, Living, Object};
use super::more;
use super::undo::ended;
use super::uses::{self, Use};
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::human;
use crate::names::{Processes, Wanted};
use crate::opened::Opened;
use crate::report::{Column, Rows, Table, Unit, Value, column};
use crate::trace::Trace;
use ipc_schema::catalogue::Family;
use std::cmp::Reverse;

/// Findings of a kind that are told; the last one says how many more there are.
const FINDINGS_MAX: usize = 100;
const TEXT_ROWS: usize = 20;

/// What is left, with its use.
pub struct Objects {
    all: Vec<(Object, Use)>,
    processes: Processes,
}

impl Objects {
    /// Reads the use of what is left. With filters only what a call that was asked for concerns.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(opened: &Opened, left: &Left, living: &Living) -> Result<Objects, Error> {
        let made = |o: &Object| ((o.trace, o.object_ref), (o.lifetime.created_by, o.lifetime.created_call));
        let uses = uses::read(opened, &left.objects.iter().map(made).collect(), living)?;
        let use_of = |o: &Object| uses.get(&(o.trace, o.object_ref)).copied().unwrap_or_default();
        let mut all: Vec<(Object, Use)> = left.objects.iter().map(|object| (object.clone(), use_of(object))).collect();
        all.retain(|(_, of)| of.is_asked || opened.selection.is_everything());
        all.sort_by_key(|(o, _)| (o.lifetime.created_ns.is_none(), Reverse(bytes(o)), o.trace, o.object_ref));
        let makers: Wanted = all.iter().filter_map(|(o, _)| Some((o.trace, o.lifetime.created_by?))).collect();
        Ok(Objects { processes: Processes::read(&opened.traces, &makers)?, all })
    }

    /// What nobody will miss.
    pub fn findings(&self, opened: &Opened, living: &Living, unused_for_ns: i64) -> Vec<Finding> {
        let mut orphans = Vec::new();
        let mut unused = Vec::new();
        for (object, of) in &self.all {
            if let Some(finding) = self.orphan(opened, living, object, of) {
                orphans.push(finding);
            } else if let Some(finding) = self.unused(opened, object, of, unused_for_ns) {
                unused.push(finding);
            }
        }
        for (kind, findings, what) in [("orphan", &mut orphans, "orphans"), ("unused", &mut unused, "unused objects")] {
            findings.sort_by_key(|finding: &Finding| (finding.grade, finding.since_ns));
            let rest = findings.len().saturating_sub(FINDINGS_MAX) as u64;
            findings.truncate(FINDINGS_MAX);
            findings.extend(more(kind, rest, what));
        }
        orphans.append(&mut unused);
        orphans
    }

    /// An object that was made in the trace, whose maker has ended, and which nobody who lives has used.
    fn orphan(&self, opened: &Opened, living: &Living, object: &Object, of: &Use) -> Option<Finding> {
        object.lifetime.created_ns?;
        let maker = object.lifetime.created_by?;
        let process = self.processes.get(object.trace, maker)?;
        let exit_ns = process.exit_ns?;
        if of.living > 0 || attached(object) > 0 {
            return None;
        }
        let users = match of.users {
            0 => "nobody has used it".to_owned(),
            1 => "its only user has ended".to_owned(),
            users => format!("all {users} users have ended"),
        };
        let found = match (object.lifetime.key, &object.lifetime.name) {
            (Some(key), _) if key != 0 => format!("; by its key {key:#x} others can find it"),
            (_, Some(name)) => format!("; by its name {name} others can find it"),
            _ => String::new(),
        };
        let who = self.processes.label(object.trace, maker);
        let what = format!("Its maker {who} {} and did not remove it; {users}{found}.", ended(process.exit_code));
        let mut finding = self.finding("orphan", Grade::Certain, object, what, Some(exit_ns));
        finding.doubt(unlisted(object));
        if let Some(parent) = process.parent.filter(|parent| living.has(object.trace, *parent)) {
            finding.doubt([format!("the parent of its maker (process_id {parent}) still runs and may remove it")]);
        }
        finding.doubt(opened.doubts(object.trace, &families(&object.lifetime.kind)));
        Some(finding)
    }

    /// An object that was made in the trace and has not been used for long.
    fn unused(&self, opened: &Opened, object: &Object, of: &Use, unused_for_ns: i64) -> Option<Finding> {
        let created_ns = object.lifetime.created_ns?;
        let (_, end_ns) = opened.span_ns(object.trace);
        let last_ns = last_use_ns(object, of);
        let since_ns = last_ns.unwrap_or(created_ns).max(created_ns);
        let idle_ns = end_ns.saturating_sub(since_ns);
        if idle_ns < unused_for_ns || attached(object) > 0 {
            return None;
        }
        let who = object.lifetime.created_by.map(|maker| self.processes.label(object.trace, maker));
        let by = who.map(|who| format!(" by {who}")).unwrap_or_default();
        let idle = human::duration(idle_ns.into());
        // What was used may be used again.
        let (grade, what) = match last_ns {
            None => (Grade::Likely, format!("Made{by}, and not used in the {idle} until the recording ended.")),
            Some(_) => (Grade::Suspect, format!("Made{by}, and not used in the last {idle} of the recording.")),
        };
        let mut finding = self.finding("unused", grade, object, what, Some(since_ns));
        finding.doubt(unlisted(object));
        finding.doubt(opened.doubts(object.trace, &families(&object.lifetime.kind)));
        Some(finding)
    }

    fn finding(
        &self,
        kind: &'static str,
        grade: Grade,
        object: &Object,
        what: String,
        since_ns: Option<i64>,
    ) -> Finding {
        Finding {
            kind,
            grade,
            trace: object.trace,
            object: Some(object.lifetime.object()),
            object_ref: Some(object.object_ref),
            since_ns,
            what,
            remedy: remedy(object),
            doubts: Vec::new(),
            evidence: object.lifetime.created_call.into_iter().collect(),
        }
    }

    /// The table of what is left: what was made in the trace first, the largest first.
    pub fn table<'a>(self, traces: &'a [Trace]) -> Table<'a> {
        let title = format!("{} still there at the end", human::counted(self.all.len() as i128, "object"));
        let columns = columns(traces.len() > 1);
        let Objects { all, processes } = self;
        let row = move |(object, of): (Object, Use)| Ok(row(traces, &processes, &object, &of));
        let rows: Rows<'a> = Box::new(all.into_iter().map(row));
        Table { section: Some("object"), title, columns, rows, sparse: false, text_limit: TEXT_ROWS }
    }
}

fn attached(object: &Object) -> i64 {
    object.state.map_or(0, |state| state.attached)
}

fn bytes(object: &Object) -> Option<i64> {
    object.state.and_then(|state| state.bytes)
}

/// By a call, or by what the last snapshot tells, which knows seconds.
fn last_use_ns(object: &Object, of: &Use) -> Option<i64> {
    of.last_ns.max(object.state.and_then(|state| state.use_ns))
}

fn unlisted(object: &Object) -> Option<String> {
    let is_listed = object.state.is_some_and(|state| state.is_final);
    (!is_listed).then(|| "no snapshot at the end of the recording shows that it is still there".to_owned())
}

fn families(kind: &str) -> Vec<Family> {
    Family::NAMES.iter().filter(|(name, _)| *name == kind).map(|(_, family)| *family).collect()
}

fn remedy(object: &Object) -> String {
    let id = object.lifetime.id;
    let line = match (object.lifetime.kind.as_str(), &object.lifetime.name) {
        ("sem", _) => format!("ipcrm -s {id}"),
        ("shm", _) => format!("ipcrm -m {id}"),
        ("msg", _) => format!("ipcrm -q {id}"),
        (_, Some(name)) => format!("rm /dev/mqueue{name}"),
        _ => "mq_unlink(3)".to_owned(),
    };
    let once = match object.lifetime.kind.as_str() {
        "shm" => "remove it (IPC_RMID) as soon as all have it attached",
        "mq" => "unlink it when its maker ends",
        _ => "remove it (IPC_RMID) when its maker ends, by a handler of signals too",
    };
    format!("Now: {line}. In the program: {once}.")
}

fn columns(many_traces: bool) -> Vec<Column> {
    vec![
        column("trace_id", if many_traces { "trace" } else { "" }, Unit::Text),
        column("object", "object", Unit::Text),
        column("object_kind", "", Unit::Text),
        column("object_ref", "", Unit::Id),
        column("key", "", Unit::Id),
        column("ipc_ns", "", Unit::Id),
        column("created_ns", "made", Unit::Instant),
        column("created_by_process_id", "", Unit::Id),
        column("created_by_pid", "by", Unit::Id),
        column("created_by_comm", "", Unit::Text),
        column("creator_alive", "alive", Unit::Text),
        column("users", "users", Unit::Count),
        column("last_use_ns", "", Unit::Instant),
        column("size_bytes", "bytes", Unit::Count),
        column("attach_count", "", Unit::Count),
        column("mode", "", Unit::Id),
        column("mode_text", "mode", Unit::Text),
    ]
}

fn row(traces: &[Trace], processes: &Processes, object: &Object, of: &Use) -> Vec<Value> {
    let lifetime = &object.lifetime;
    let maker = lifetime.created_by.and_then(|maker| processes.get(object.trace, maker));
    let mode = object.state.and_then(|state| state.mode);
    vec![
        Value::text(traces.get(object.trace).map(|trace| trace.manifest.trace_id.clone())),
        Value::Text(lifetime.object()),
        Value::Text(lifetime.kind.clone()),
        Value::Int(object.object_ref.into()),
        Value::int(lifetime.key),
        Value::int(lifetime.ipc_ns),
        Value::int(lifetime.created_ns),
        Value::int(lifetime.created_by),
        Value::int(maker.map(|process| process.pid)),
        Value::text(maker.and_then(|process| process.comm.clone())),
        maker.map_or(Value::Null, |process| Value::Bool(process.exit_ns.is_none())),
        Value::Int(of.users.into()),
        Value::int(last_use_ns(object, of)),
        Value::int(bytes(object)),
        Value::int(object.state.map(|state| state.attached).filter(|_| lifetime.kind == "shm")),
        Value::int(mode),
        Value::text(mode.map(|mode| format!("{mode:04o}"))),
    ]
}
