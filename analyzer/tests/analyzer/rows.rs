//! Traces given row by row, for exact small cases.
//!
//! A row is a JSON object of the columns that matter. Instants count nanoseconds from [`START_NS`]. A call needs a
//! `start_ns`; what it does not say follows: without `end_ns` it is open, with `error` it failed, `process_id` is 1,
//! `thread_id` is the `process_id`, `pid`, `tid` and `comm` follow from these.

use crate::fixture::{self, Parameters, START_NS, TraceWriter};
use arrow::array::*;
use arrow::datatypes::Int32Type;
use ipc_schema::manifest::{Manifest, Session};
use ipc_schema::tables::{self, Column, Kind, Table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The end of every recording here, nanoseconds after its start.
pub const LASTED_NS: i64 = 100_000_000_000;

/// What a trace holds.
#[derive(Default)]
pub struct Rows {
    tables: BTreeMap<&'static str, Vec<Value>>,
    losses: Vec<(&'static str, Option<i32>, Option<i64>)>,
    session: Option<fn(&mut Session)>,
}

impl Rows {
    /// No rows.
    pub fn new() -> Rows {
        Rows::default()
    }

    /// Adds the rows of an array to a table.
    pub fn with(mut self, table: &'static Table, rows: Value) -> Rows {
        self.tables.entry(table.name).or_default().extend(rows.as_array().unwrap().iter().cloned());
        self
    }

    /// So many calls were lost.
    pub fn losing(mut self, calls: i64) -> Rows {
        self.losses.push(("ring_full", Some(0), Some(calls)));
        self
    }

    /// Changes what is said of the recording: filters, what is missing.
    pub fn session(mut self, change: fn(&mut Session)) -> Rows {
        self.session = Some(change);
        self
    }

    /// Writes the trace `name` into `folder` and returns its directory.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let directory = folder.join(name);
        let writer = TraceWriter { directory: directory.clone(), trace_id: name.to_owned() };
        let calls = self.calls();
        let parameters = Parameters { losses: self.losses.clone(), ..Parameters::default() };
        let mut session = fixture::session(&parameters, calls.len() as i64, START_NS + LASTED_NS);
        if let Some(change) = self.session {
            change(&mut session);
        }
        let mut parts = vec![
            writer.write_table(&tables::SESSION, 1, fixture::session_columns(&session)),
            writer.write_losses(&self.losses),
            write(&writer, &tables::CALLS, &calls),
        ];
        for table in tables::TABLES {
            if !["session", "losses", "calls"].contains(&table.name) {
                parts.push(write(&writer, table, self.tables.get(table.name).map_or(&[], Vec::as_slice)));
            }
        }
        let manifest = Manifest {
            format_version: ipc_schema::version::FormatVersion::CURRENT.0,
            trace_id: name.to_owned(),
            complete: true,
            session,
            parts,
            log_from: None,
        };
        fixture::write_manifest(&directory, &manifest);
        directory
    }

    /// The calls in the order of a trace, with what follows.
    fn calls(&self) -> Vec<Value> {
        let mut calls = self.tables.get("calls").cloned().unwrap_or_default();
        for (i, call) in calls.iter_mut().enumerate() {
            complete(call, i as i64 + 1);
        }
        calls.sort_by_key(|call| call["end_ns"].as_i64().unwrap_or(i64::MAX));
        calls
    }
}

/// Fills in what follows from the rest.
fn complete(call: &mut Value, number: i64) {
    let row = call.as_object_mut().unwrap();
    let of = |row: &serde_json::Map<String, Value>, name: &str| row.get(name).cloned().unwrap_or(Value::Null);
    let (start, end) = (of(row, "start_ns").as_i64().unwrap(), of(row, "end_ns").as_i64());
    let outcome = match (end, of(row, "error")) {
        (None, _) => "open",
        (_, Value::Null) => "ok",
        _ => "error",
    };
    let process = row.get("process_id").cloned().unwrap_or(json!(1));
    let thread = row.get("thread_id").cloned().unwrap_or(process.clone());
    let defaults = [
        ("call_id", json!(number)),
        ("began", json!("in_trace")),
        ("outcome", json!(outcome)),
        ("duration_ns", json!(end.map(|end| end - start))),
        ("syscall", json!("semtimedop")),
        ("comm", json!(format!("p{process}"))),
        ("pid", process.clone()),
        ("tid", thread.clone()),
        ("process_id", process),
        ("thread_id", thread),
        ("abi", json!("x86_64")),
        ("ipc_ns", json!(4_026_531_839_i64)),
    ];
    for (name, value) in defaults {
        row.entry(name).or_insert(value);
    }
    let syscall = of(row, "syscall");
    row.entry("entry_point").or_insert(syscall);
}

fn write(writer: &TraceWriter, table: &Table, rows: &[Value]) -> ipc_schema::manifest::Part {
    for name in rows.iter().flat_map(|row| row.as_object().unwrap().keys()) {
        assert!(table.column(name).is_some(), "{} has no column {name}", table.name);
    }
    let is_given = |column: &&Column| rows.iter().any(|row| row.get(column.name).is_some());
    let columns = table.columns.iter().filter(is_given).map(|column| (column.name, array(column, rows))).collect();
    writer.write_table(table, rows.len(), columns)
}

fn array(column: &Column, rows: &[Value]) -> ArrayRef {
    let values = || rows.iter().map(|row| row.get(column.name).filter(|value| !value.is_null()));
    let int32 = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    match column.kind {
        Kind::Int64 => Arc::new(Int64Array::from_iter(values().map(|v| v.map(|v| v.as_i64().unwrap())))),
        Kind::Instant => Arc::new(Int64Array::from_iter(values().map(|v| v.map(|v| v.as_i64().unwrap() + START_NS)))),
        Kind::Int32 => Arc::new(Int32Array::from_iter(values().map(|v| v.map(int32)))),
        Kind::Boolean => Arc::new(BooleanArray::from_iter(values().map(|v| v.map(|v| v.as_bool().unwrap())))),
        Kind::Text => {
            Arc::new(DictionaryArray::<Int32Type>::from_iter(values().map(|v| v.map(|v| v.as_str().unwrap()))))
        }
        Kind::Int32List => {
            let field = arrow::datatypes::Field::new("element", arrow::datatypes::DataType::Int32, false);
            let mut lists = ListBuilder::new(Int32Builder::new()).with_field(field);
            for value in values() {
                lists.append_option(
                    value.map(|v| v.as_array().unwrap().iter().map(|v| Some(int32(v))).collect::<Vec<_>>()),
                );
            }
            Arc::new(lists.finish())
        }
    }
}
