//! What `ipc-workload battery` says that the rows of its calls must hold, and the comparison with a trace.
//!
//! Every call of the battery stands between two markers, semctl calls on an id that nobody else uses. Between them the
//! thread has that one row; what the C library does on its own is outside.

use crate::calls;
use crate::cells::{Cell, Cells};
use crate::trace::Trace;
use ipc_schema::tables;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// One call of the battery.
pub struct Expected {
    /// The case, and how it was called.
    pub case: String,
    tid: i64,
    marker: i64,
    /// The values of columns that the case knows; NULL is a value.
    pub columns: Map<String, Value>,
}

/// What a comparison found.
#[derive(Default)]
pub struct Comparison {
    /// Calls whose row was found between their markers.
    pub rows: usize,
    /// Values compared.
    pub values: usize,
    /// Every difference, with its case.
    pub differences: Vec<String>,
}

/// Column of all operations of a call: it is a table of its own in a trace.
const OPERATIONS: &str = "sem_ops";
/// The ids from which markers go down.
const FIRST_MARKER: i64 = -1_000;

impl Expected {
    /// A text that the call is known by.
    ///
    /// # Panics
    /// When the case does not know the column.
    pub fn text(&self, column: &str) -> &str {
        self.columns[column].as_str().unwrap()
    }
}

/// The expectations in the files `PID-TID.expect.jsonl` of a folder.
pub fn read(folder: &Path) -> Vec<Expected> {
    let mut expected = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((_, tid)) = name.strip_suffix(".expect.jsonl").and_then(|ids| ids.split_once('-')) else { continue };
        let tid = tid.parse().unwrap();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let columns = line["expect"].as_object().unwrap().clone();
            let case = line["case"].as_str().unwrap().to_owned();
            expected.push(Expected { case, tid, marker: line["marker"].as_i64().unwrap(), columns });
        }
    }
    expected
}

/// The rows of a trace, and which of them stand between the markers of a thread.
struct Told {
    cells: Cells,
    operations: HashMap<i64, Vec<[i64; 3]>>,
    /// By thread and marker: the rows between.
    between: BTreeMap<(i64, i64), Vec<usize>>,
    /// Markers that did not come in pairs.
    unpaired: Vec<String>,
}

impl Told {
    fn read(trace: &Trace, columns: &[&'static str]) -> Told {
        let all = [columns, &["call_id", "tid", "start_ns", "syscall", "command", "object_id"]].concat();
        let cells = Cells::read(trace, "calls", &all);
        let operations = calls::read(trace).into_iter().map(|call| (call.call_id, call.told.sops)).collect();
        let mut told = Told { cells, operations, between: BTreeMap::new(), unpaired: Vec::new() };
        told.pair_markers();
        told
    }

    /// A row's marker, and whether it stands before the call.
    fn marker(&self, row: usize) -> Option<(i64, bool)> {
        let is_semctl = self.cells.get("syscall", row).text() == Some("semctl");
        let id = self.cells.get("object_id", row).integer().filter(|id| is_semctl && *id <= FIRST_MARKER)?;
        Some((id, self.cells.get("command", row).text() == Some("GETVAL")))
    }

    fn pair_markers(&mut self) {
        let mut order: Vec<usize> = (0..self.cells.count()).collect();
        order.sort_by_key(|row| (self.cells.integer("tid", *row), self.cells.integer("start_ns", *row)));
        let mut open: Option<(i64, i64)> = None;
        for row in order {
            let tid = self.cells.integer("tid", row);
            match (self.marker(row), open) {
                (Some((marker, true)), before) => {
                    let left = before.map(|(tid, marker)| format!("thread {tid}: the marker {marker} has no end"));
                    self.unpaired.extend(left);
                    open = Some((tid, marker));
                    if self.between.insert((tid, marker), Vec::new()).is_some() {
                        self.unpaired.push(format!("thread {tid}: the marker {marker} came twice"));
                    }
                }
                (Some((marker, false)), Some(begun)) if begun == (tid, marker) => open = None,
                (Some((marker, false)), _) => {
                    self.unpaired.push(format!("thread {tid}: the marker {marker} has no beginning"));
                }
                (None, Some(begun)) if begun.0 == tid => self.between.entry(begun).or_default().push(row),
                (None, _) => {}
            }
        }
    }

    /// A value as the expectations write it.
    fn value(&self, column: &str, row: usize) -> Value {
        if column == OPERATIONS {
            let operations = self.operations.get(&self.cells.integer("call_id", row));
            return operations.filter(|list| !list.is_empty()).map_or(Value::Null, |list| json!(list));
        }
        match self.cells.get(column, row) {
            Cell::Null => Value::Null,
            Cell::Integer(value) => (*value).into(),
            Cell::Text(text) => text.clone().into(),
        }
    }
}

/// Booleans are 0 and 1 in a trace's cells, and a call without operations has none.
fn normal(value: &Value) -> Value {
    match value {
        Value::Bool(value) => i64::from(*value).into(),
        Value::Array(list) if list.is_empty() => Value::Null,
        _ => value.clone(),
    }
}

/// Compares every expected call with the row between its markers, column by column.
pub fn compare(trace: &Trace, expected: &[Expected]) -> Comparison {
    let declared = tables::by_name("calls").unwrap();
    let names: BTreeSet<&String> = expected.iter().flat_map(|call| call.columns.keys()).collect();
    let columns: Vec<&'static str> =
        names.iter().filter_map(|name| declared.column(name).map(|column| column.name)).collect();
    let mut found = Comparison::default();
    let unknown = names.iter().filter(|name| **name != OPERATIONS && !columns.contains(&name.as_str()));
    found.differences.extend(unknown.map(|name| format!("calls has no column {name}")));
    let mut told = Told::read(trace, &columns);
    found.differences.append(&mut told.unpaired);
    for call in expected {
        match told.between.remove(&(call.tid, call.marker)).as_deref() {
            Some([row]) => compare_row(&mut found, call, &told, *row, &columns),
            Some(rows) => {
                let rows: Vec<Value> = rows.iter().map(|row| told.value("syscall", *row)).collect();
                found.differences.push(format!("{}: not one row between its markers: {rows:?}", call.case));
            }
            None => found.differences.push(format!("{}: the trace has not its markers", call.case)),
        }
    }
    let left = told.between.keys().map(|(tid, marker)| format!("thread {tid}: nobody expected the marker {marker}"));
    found.differences.extend(left);
    found
}

fn compare_row(found: &mut Comparison, call: &Expected, told: &Told, row: usize, columns: &[&str]) {
    found.rows += 1;
    for (column, known) in &call.columns {
        if column != OPERATIONS && !columns.contains(&column.as_str()) {
            continue;
        }
        found.values += 1;
        let (value, known) = (told.value(column, row), normal(known));
        if value != known {
            found.differences.push(format!("{}: {column} is {value}, not {known}", call.case));
        }
    }
}
