//! `failures`: what failed, at which limit, and what to do.

pub mod groups;
mod holders;
mod incidents;
mod labels;
mod limit;
mod permission;
mod rules;
mod values;

use super::Ask;
use crate::error::Error;
use crate::human;
use crate::meaning::{is_ordinary, meaning};
use crate::opened::Opened;
use crate::report::{Answer, Column, Rows, Table, Unit, Value, column};
use crate::trace::Trace;
use groups::{Failures as Failed, Group, Key};
use labels::Labels;

/// Rows that a terminal shows without `--limit`.
const TEXT_ROWS: usize = 40;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Failures {}

impl Ask for Failures {
    const COMMAND: &'static str = "failures";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let failed = groups::ask(&opened.traces, &opened.selection)?;
        let labels = Labels::read(&opened.traces, &failed)?;
        let mut findings = limit::find(opened, &failed)?;
        findings.extend(permission::find(opened, &failed, &labels)?);
        let before_trace = failed.before_trace;
        let mut tables = Vec::new();
        if failed.left_out.0 > 0 {
            tables.push(left_out(failed.left_out));
        }
        tables.insert(0, table(failed, labels, &opened.traces));
        Ok(Answer { findings, tables, before_trace, ..Answer::default() })
    }
}

fn table<'a>(mut failed: Failed, labels: Labels, traces: &'a [Trace]) -> Table<'a> {
    let calls: u64 = failed.groups.iter().map(|(_, group)| group.count).sum();
    let total = human::counted((calls + failed.left_out.1).into(), "failed call");
    let title = format!("{total}, what is no part of normal work first");
    let groups = std::mem::take(&mut failed.groups);
    let row = move |(key, group): (Key, Group)| Ok(row(&failed, &labels, traces, &key, &group));
    let rows: Rows<'a> = Box::new(groups.into_iter().map(row));
    let columns = columns(traces.len() > 1);
    Table { section: Some("failure"), title, columns, rows, sparse: false, text_limit: TEXT_ROWS }
}

fn columns(many_traces: bool) -> Vec<Column> {
    vec![
        column("trace_id", if many_traces { "trace" } else { "" }, Unit::Text),
        column("count", "calls", Unit::Count),
        column("syscall", "syscall", Unit::Text),
        column("error", "error", Unit::Text),
        column("object", "object", Unit::Text),
        column("object_kind", "", Unit::Text),
        column("object_ref", "", Unit::Id),
        column("object_id", "", Unit::Id),
        column("object_name", "", Unit::Text),
        column("key", "", Unit::Id),
        column("ipc_ns", "", Unit::Id),
        column("process_id", "", Unit::Id),
        column("pid", "pid", Unit::Id),
        column("comm", "comm", Unit::Text),
        column("first_ns", "", Unit::Instant),
        column("last_ns", "", Unit::Instant),
        column("call_id", "", Unit::Id),
        column("ordinary", "", Unit::Text),
        column("meaning", "usually", Unit::Text),
    ]
}

fn row(failed: &Failed, labels: &Labels, traces: &[Trace], key: &Key, group: &Group) -> Vec<Value> {
    // Every key was made of a code and a target.
    let Some((code, target)) = failed.of(key) else { return Vec::new() };
    let trace = code.trace as usize;
    let (syscall, error) = failed.names(code);
    let object = labels.object(failed, trace, target);
    let unknown = || target.object_ref.map(|object_ref| format!("object {object_ref}"));
    let [pid, comm] = labels.process_values(trace, key.process_id);
    vec![
        Value::text(traces.get(trace).map(|trace| trace.manifest.trace_id.clone())),
        Value::Int(group.count.into()),
        Value::text(Some(syscall)),
        Value::text(Some(error)),
        Value::text(object.label().or_else(unknown)),
        Value::text(object.kind.as_deref()),
        Value::int(target.object_ref),
        Value::int(object.id),
        Value::text(object.name.as_deref()),
        Value::int(object.key),
        Value::int(object.ipc_ns),
        Value::Int(key.process_id.into()),
        pid,
        comm,
        Value::Int(group.first.0.into()),
        Value::Int(group.last_ns.into()),
        Value::Int(group.first.1.into()),
        Value::Bool(is_ordinary(error)),
        Value::text(meaning(syscall, error)),
    ]
}

/// What the table of failures does not hold.
fn left_out((groups, calls): (u64, u64)) -> Table<'static> {
    let row = vec![Value::Int(groups.into()), Value::Int(calls.into())];
    Table {
        section: Some("left_out"),
        title: "Left out: the rarest; ask for less with --pid, --object, --syscall".to_owned(),
        columns: vec![column("groups", "rows", Unit::Count), column("count", "calls", Unit::Count)],
        rows: Box::new(std::iter::once(Ok(row))),
        sparse: false,
        text_limit: 1,
    }
}
