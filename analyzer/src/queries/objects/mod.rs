//! `objects`: the story of each object, and who used which.

mod uses;

use super::Ask;
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::human;
use crate::names::{Lifetime, Lifetimes, Processes, Wanted};
use crate::opened::Opened;
use crate::report::{Answer, Column, Rows, Table, Unit, Value, column};
use crate::scan;
use hashbrown::HashMap;
use ipc_schema::tables;
use uses::{ObjectUse, Use, Uses};

/// Objects in an answer: the busiest.
const OBJECTS_MAX: usize = 1 << 20;
/// So few objects have their story told in sentences.
const STORIES_MAX: usize = 3;
const TEXT_ROWS: usize = 20;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Objects {}

/// What the last snapshot of a recording says of an object that was there.
#[derive(Clone, Copy, Debug, Default)]
struct AtEnd {
    snapshot_ns: i64,
    owner_uid: Option<i64>,
    mode: Option<i32>,
    attach_count: Option<i64>,
    size_bytes: Option<i64>,
    messages: Option<i64>,
    queued_bytes: Option<i64>,
    sem_count: Option<i32>,
}

/// Trace and `object_ref`.
type Key = (usize, i64);

/// All that the rows need.
struct Story {
    trace_ids: Vec<String>,
    starts_ns: Vec<i64>,
    lifetimes: Lifetimes,
    processes: Processes,
    at_end: HashMap<Key, AtEnd>,
}

impl Ask for Objects {
    const COMMAND: &'static str = "objects";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let mut uses = Uses::read(opened)?;
        let lifetimes = if opened.selection.is_everything() {
            let lifetimes = Lifetimes::read_if(&opened.traces, |_, _| true)?;
            uses.add_unused(lifetimes.iter().map(|(trace, object_ref, _)| (trace, object_ref)), OBJECTS_MAX);
            lifetimes
        } else {
            Lifetimes::read(&opened.traces, &uses.objects.iter().map(|object| object.key).collect())?
        };
        let mut wanted: Wanted = uses.pairs.iter().map(|pair| (pair.key.0, pair.process_id)).collect();
        for (trace, _, lifetime) in lifetimes.iter() {
            wanted.extend(lifetime.created_by.into_iter().chain(lifetime.removed_by).map(|id| (trace, id)));
        }
        let story = Story {
            trace_ids: opened.traces.iter().map(|trace| trace.manifest.trace_id.clone()).collect(),
            starts_ns: opened.traces.iter().map(|trace| trace.manifest.session.start_ns).collect(),
            lifetimes,
            processes: Processes::read(&opened.traces, &wanted)?,
            at_end: read_ends(opened)?,
        };
        let preface = if uses.objects.len() <= STORIES_MAX { story.tell(&uses) } else { Vec::new() };
        let mut closing = Vec::new();
        if uses.left_out > 0 {
            let pairs = human::counted(uses.left_out.into(), "pair");
            closing.push(format!("{pairs} of process and object with fewer calls are left out"));
        }
        Ok(Answer { preface, tables: tables_of(story, uses), closing, ..Answer::default() })
    }
}

/// The last snapshot of each object that the final one found.
fn read_ends(opened: &Opened) -> Result<HashMap<Key, AtEnd>, Error> {
    let columns = [
        "snapshot_ns",
        "phase",
        "object_ref",
        "owner_uid",
        "mode",
        "attach_count",
        "size_bytes",
        "messages",
        "queued_bytes",
        "sem_count",
    ];
    let found = scan::collect(&opened.traces, &tables::OBJECTS, &columns, read_end)?;
    let mut ends: HashMap<Key, AtEnd> = HashMap::new();
    for (key, end) in found {
        let known = ends.entry(key).or_insert(end);
        if known.snapshot_ns < end.snapshot_ns {
            *known = end;
        }
    }
    Ok(ends)
}

fn read_end(batch: &Batch, found: &mut Vec<(Key, AtEnd)>) -> Result<(), Error> {
    let (times, phases, refs) = (batch.int64("snapshot_ns")?, batch.text("phase")?, batch.int64("object_ref")?);
    let (owners, modes, counts) = (batch.int64("owner_uid")?, batch.int32("mode")?, batch.int32("sem_count")?);
    let (attaches, sizes) = (batch.int64("attach_count")?, batch.int64("size_bytes")?);
    let (messages, bytes) = (batch.int64("messages")?, batch.int64("queued_bytes")?);
    for row in (0..batch.rows()).filter(|row| phases.get(*row) == Some("end")) {
        let end = AtEnd {
            snapshot_ns: times.value(row),
            owner_uid: int64_at(owners, row),
            mode: int32_at(modes, row),
            attach_count: int64_at(attaches, row),
            size_bytes: int64_at(sizes, row),
            messages: int64_at(messages, row),
            queued_bytes: int64_at(bytes, row),
            sem_count: int32_at(counts, row),
        };
        found.push(((batch.trace, refs.value(row)), end));
    }
    Ok(())
}

impl Story {
    /// A few objects in sentences.
    fn tell(&self, uses: &Uses) -> Vec<String> {
        let mut lines = Vec::new();
        for object in &uses.objects {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.extend(self.tell_one(object, uses));
        }
        lines
    }

    fn tell_one(&self, object: &ObjectUse, uses: &Uses) -> Vec<String> {
        let (trace, object_ref) = object.key;
        let start_ns = self.starts_ns.get(trace).copied().unwrap_or(0);
        let when = |ns: i64| format!("+{}", human::duration((i128::from(ns) - i128::from(start_ns)).max(0)));
        let who = |id: Option<i64>| id.map_or_else(|| "someone".to_owned(), |id| self.processes.label(trace, id));
        let call = |id: Option<i64>| id.map(|id| format!(" (call {id})")).unwrap_or_default();
        let mut lines = vec![human::escape(&self.lifetimes.label(trace, object_ref))];
        let mut add = |text: String| lines.push(human::escape(&format!("  {text}")));
        let lifetime = self.lifetimes.get(trace, object_ref);
        match lifetime.and_then(|l| l.created_ns.map(|ns| (l, ns))) {
            Some((l, ns)) => add(format!("{:>10}  made by {}{}", when(ns), who(l.created_by), call(l.created_call))),
            None => add("before the recording, or unseen: made".to_owned()),
        }
        for pair in uses.pairs.iter().filter(|pair| pair.key == object.key).take(TEXT_ROWS) {
            let calls = human::counted(pair.calls.into(), "call");
            let until = human::duration((i128::from(pair.last_ns) - i128::from(pair.first_ns)).max(0));
            let user = self.processes.label(trace, pair.process_id);
            add(format!("{:>10}  used by {user}: {calls} within {until}", when(pair.first_ns)));
        }
        match (lifetime.and_then(|l| l.removed_ns.map(|ns| (l, ns))), self.at_end.get(&object.key)) {
            (Some((l, ns)), _) => {
                add(format!("{:>10}  removed by {}{}", when(ns), who(l.removed_by), call(l.removed_call)))
            }
            (None, Some(_)) => add("still there at the end".to_owned()),
            (None, None) => add("no snapshot tells whether it was there at the end".to_owned()),
        }
        lines
    }

    fn object_row(&self, object: &ObjectUse) -> Vec<Value> {
        let (trace, object_ref) = object.key;
        let lifetime = self.lifetimes.get(trace, object_ref);
        let of = |get: fn(&Lifetime) -> Option<i64>| lifetime.and_then(get);
        let (created_by, removed_by) = (of(|l| l.created_by), of(|l| l.removed_by));
        let who = |id: Option<i64>| Value::text(id.map(|id| self.processes.label(trace, id)));
        let end = self.at_end.get(&object.key);
        let at_end = |get: fn(&AtEnd) -> Option<i64>| Value::int(end.and_then(get));
        let is_there = match (of(|l| l.removed_ns), end) {
            (Some(_), _) => Value::Bool(false),
            (None, Some(_)) => Value::Bool(true),
            (None, None) => Value::Null,
        };
        let used = |ns: i64| Value::int((object.calls > 0).then_some(ns));
        vec![
            Value::text(self.trace_ids.get(trace).map(String::as_str)),
            Value::Text(self.lifetimes.label(trace, object_ref)),
            Value::Int(object_ref.into()),
            Value::text(lifetime.map(|l| l.kind.as_str())),
            Value::int(lifetime.and_then(|l| l.key)),
            Value::int(of(|l| l.ipc_ns)),
            Value::int(of(|l| l.created_ns)),
            Value::int(created_by),
            Value::int(of(|l| l.created_call)),
            who(created_by),
            Value::Int(object.calls.into()),
            Value::Int(object.errors.into()),
            Value::Int(object.processes.into()),
            Value::Int(object.total_ns),
            Value::Int(object.wait_ns),
            used(object.first_ns),
            used(object.last_ns),
            Value::int(of(|l| l.removed_ns)),
            Value::int(removed_by),
            Value::int(of(|l| l.removed_call)),
            who(removed_by),
            is_there,
            at_end(|end| end.owner_uid),
            at_end(|end| end.mode.map(i64::from)),
            at_end(|end| end.attach_count),
            at_end(|end| end.size_bytes),
            at_end(|end| end.messages),
            at_end(|end| end.queued_bytes),
            at_end(|end| end.sem_count.map(i64::from)),
            Value::text(lifetime.map(|l| l.how_known.as_str())),
        ]
    }

    fn use_row(&self, pair: &Use) -> Vec<Value> {
        let (trace, object_ref) = pair.key;
        let process = self.processes.get(trace, pair.process_id);
        vec![
            Value::text(self.trace_ids.get(trace).map(String::as_str)),
            Value::Text(self.lifetimes.label(trace, object_ref)),
            Value::Int(object_ref.into()),
            Value::Int(pair.process_id.into()),
            Value::int(process.map(|process| process.pid)),
            Value::text(process.and_then(|process| process.comm.as_deref())),
            Value::Int(pair.calls.into()),
            Value::Int(pair.errors.into()),
            Value::Int(pair.total_ns),
            Value::Int(pair.wait_ns),
            Value::Int(pair.first_ns.into()),
            Value::Int(pair.last_ns.into()),
        ]
    }
}

fn tables_of(story: Story, uses: Uses) -> Vec<Table<'static>> {
    let many = story.trace_ids.len() > 1;
    let story = std::rc::Rc::new(story);
    let (of_objects, of_uses) = (story.clone(), story);
    let objects: Rows<'static> =
        Box::new(uses.objects.into_iter().map(move |object| Ok(of_objects.object_row(&object))));
    let pairs: Rows<'static> = Box::new(uses.pairs.into_iter().map(move |pair| Ok(of_uses.use_row(&pair))));
    let table = |section, title: &str, columns, rows| Table {
        section: Some(section),
        title: title.to_owned(),
        columns,
        rows,
        sparse: false,
        text_limit: TEXT_ROWS,
    };
    vec![
        table("object", "Objects, the busiest first", object_columns(many), objects),
        table("use", "Who used which", use_columns(many), pairs),
    ]
}

fn object_columns(many_traces: bool) -> Vec<Column> {
    vec![
        column("trace_id", if many_traces { "trace" } else { "" }, Unit::Text),
        column("object", "object", Unit::Text),
        column("object_ref", "", Unit::Id),
        column("object_kind", "", Unit::Text),
        column("key", "", Unit::Id),
        column("ipc_ns", "", Unit::Id),
        column("created_ns", "", Unit::Instant),
        column("created_by_process_id", "", Unit::Id),
        column("created_call_id", "", Unit::Id),
        column("created_by", "made by", Unit::Text),
        column("calls", "calls", Unit::Count),
        column("errors", "errors", Unit::Count),
        column("processes", "users", Unit::Count),
        column("total_ns", "", Unit::Duration),
        column("wait_ns", "waited", Unit::Duration),
        column("first_ns", "", Unit::Instant),
        column("last_ns", "", Unit::Instant),
        column("removed_ns", "", Unit::Instant),
        column("removed_by_process_id", "", Unit::Id),
        column("removed_call_id", "", Unit::Id),
        column("removed_by", "removed by", Unit::Text),
        column("there_at_end", "left", Unit::Text),
        column("owner_uid", "", Unit::Id),
        column("mode", "", Unit::Id),
        column("attach_count", "", Unit::Count),
        column("size_bytes", "", Unit::Count),
        column("messages", "", Unit::Count),
        column("queued_bytes", "", Unit::Count),
        column("sem_count", "", Unit::Count),
        column("how_known", "", Unit::Text),
    ]
}

fn use_columns(many_traces: bool) -> Vec<Column> {
    vec![
        column("trace_id", if many_traces { "trace" } else { "" }, Unit::Text),
        column("object", "object", Unit::Text),
        column("object_ref", "", Unit::Id),
        column("process_id", "", Unit::Id),
        column("pid", "pid", Unit::Id),
        column("comm", "comm", Unit::Text),
        column("calls", "calls", Unit::Count),
        column("errors", "errors", Unit::Count),
        column("total_ns", "total", Unit::Duration),
        column("wait_ns", "waited", Unit::Duration),
        column("first_ns", "", Unit::Instant),
        column("last_ns", "", Unit::Instant),
    ]
}
