//! `show`: one line per call, in the order in which the calls ended, as strace prints them.

use crate::batch::{Batch, int32_at, int64_at};
use crate::calls::{self, Call, Cursor, Cursors};
use crate::error::Error;
use crate::filter::Selection;
use crate::human::{self, Zone};
use crate::report::{Column, Rows, Table, Unit, Value, column};
use crate::sem_ops::Operations;
use crate::trace::Trace;
use arrow::array::{Array, BooleanArray};
use ipc_schema::tables::{self, Kind};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// The zone of the times.
    pub zone: Zone,
    /// Whether each line waits for its moment.
    pub realtime: bool,
    /// How many lines; `None`: all.
    pub limit: Option<usize>,
}

/// Writes one line per call to stdout.
///
/// # Errors
/// A part that cannot be believed; those of stdout.
pub fn write_lines(traces: &[Trace], selection: &Selection, lines: Lines) -> Result<(), Error> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut line = String::new();
    let mut pace = lines.realtime.then(Pace::default);
    let mut left = lines.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    calls::for_each(traces, selection, &calls::all_columns(), |cursor| {
        if let Some(pace) = &mut pace {
            out.flush()?;
            pace.wait_for(cursor.end_ns()?);
        }
        line.clear();
        write_line(&mut line, &cursor.call(), lines.zone)?;
        // Whatever traced programs chose, a terminal shows it and does nothing else.
        writeln!(out, "{}", human::escape(&line))?;
        left -= 1;
        Ok(left > 0)
    })?;
    out.flush()?;
    Ok(())
}

/// Lets time pass as it did in the trace.
#[derive(Default)]
struct Pace {
    first: Option<(i64, Instant)>,
}

impl Pace {
    fn wait_for(&mut self, end_ns: i64) {
        // Open calls never ended: their lines come when all others are out.
        if end_ns == i64::MAX {
            return;
        }
        let (first_ns, begun) = *self.first.get_or_insert_with(|| (end_ns, Instant::now()));
        let offset = Duration::from_nanos(u64::try_from(end_ns.saturating_sub(first_ns)).unwrap_or(0));
        if let Some(left) = offset.checked_sub(begun.elapsed()) {
            std::thread::sleep(left);
        }
    }
}

/// `12:00:01.123456789 [1234/1235 worker] semtimedop(sem:5, [{0, -1, SEM_UNDO}], timeout=2.00 s) = 0 <1.20 ms>`
fn write_line(line: &mut String, call: &Call<'_>, zone: Zone) -> Result<(), Error> {
    let start_ns = call.int64("start_ns")?.unwrap_or(0);
    let bound = if call.text("began")? == Some("before_trace") { "≤" } else { "" };
    let (pid, tid) = (call.int32("pid")?.unwrap_or(0), call.int32("tid")?.unwrap_or(0));
    let comm = call.text("comm")?.unwrap_or("?");
    let syscall = call.text("syscall")?.unwrap_or("?");
    let (time, arguments) = (human::time_of_day(start_ns, zone), call.arguments(zone)?.join(", "));
    // Writing to a String cannot fail.
    let _ = write!(line, "{bound}{time} [{pid}/{tid} {comm}] {syscall}({arguments}) = ");
    write_result(line, call, start_ns)
}

fn write_result(line: &mut String, call: &Call<'_>, start_ns: i64) -> Result<(), Error> {
    let outcome = call.text("outcome")?.unwrap_or("?");
    match (outcome, call.int64("return_value")?, call.text("error")?) {
        ("killed", _, _) => line.push_str("? killed"),
        (_, Some(value), Some(error)) => drop(write!(line, "{value} {error}")),
        (_, Some(value), None) => drop(write!(line, "{value}")),
        (_, None, Some(error)) => drop(write!(line, "-1 {error}")),
        (_, None, None) => line.push('?'),
    }
    let lasted = match call.int64("duration_ns")? {
        Some(ns) => human::duration(ns.into()),
        None => format!("open ≥ {}", human::duration(call.recording_end_ns.saturating_sub(start_ns).into())),
    };
    let _ = write!(line, " <{lasted}>");
    Ok(())
}

/// The columns of a table of the trace, an instant's twin behind it.
pub fn columns(table: &tables::Table) -> Vec<Column> {
    let mut columns = Vec::new();
    for known in table.columns {
        columns.push(column(known.name, known.name, Unit::Text));
        if known.kind == Kind::Instant {
            columns.push(Column { name: tables::twin(known.name).into(), heading: "", unit: Unit::Text, yields: 0 });
        }
    }
    columns
}

/// The calls as rows with every column that is not NULL, for JSON and CSV.
pub fn table<'a>(traces: &'a [Trace], selection: &'a Selection) -> Result<Table<'a>, Error> {
    let mut columns = columns(&tables::CALLS);
    columns.push(column("sem_ops", "", Unit::Text));
    let mut cursors = Cursors::open(traces, selection, &calls::all_columns())?;
    let mut failed = false;
    let rows: Rows<'a> = Box::new(std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let row = next_row(&mut cursors).transpose();
        failed = matches!(row, Some(Err(_)));
        row
    }));
    Ok(Table { section: None, title: String::new(), columns, rows, sparse: true, text_limit: 0 })
}

fn next_row(cursors: &mut Cursors<'_>) -> Result<Option<Vec<Value>>, Error> {
    let Some(cursor) = cursors.current()? else { return Ok(None) };
    let row = row_of(cursor)?;
    cursors.advance()?;
    Ok(Some(row))
}

fn row_of(cursor: &Cursor<'_>) -> Result<Vec<Value>, Error> {
    let mut values = values(&cursor.batch, cursor.row, &tables::CALLS)?;
    let call_id = cursor.call().int64("call_id")?;
    let operations = call_id.and_then(|call_id| cursor.operations.of(call_id));
    values.push(operations.map_or(Value::Null, |operations| Value::Json(operations_json(operations))));
    Ok(values)
}

/// What [`columns`] names, of one row.
///
/// # Errors
/// A column cannot be believed.
pub fn values(batch: &Batch, row: usize, table: &tables::Table) -> Result<Vec<Value>, Error> {
    let mut values = Vec::with_capacity(table.columns.len() + 4);
    for known in table.columns {
        match known.kind {
            Kind::Int64 => values.push(Value::int(int64_at(batch.int64(known.name)?, row))),
            Kind::Int32 => values.push(Value::int(int32_at(batch.int32(known.name)?, row))),
            Kind::Boolean => values.push(boolean_at(batch.boolean(known.name)?, row)),
            Kind::Text => values.push(Value::text(batch.text(known.name)?.get(row))),
            Kind::Instant => {
                let instant = int64_at(batch.int64(known.name)?, row);
                values.push(Value::int(instant));
                values.push(Value::text(instant.map(human::rfc3339_us)));
            }
            Kind::Int32List => {
                let numbers = batch.numbers(known.name, row)?;
                values
                    .push(numbers.map_or(Value::Null, |numbers| Value::Json(format!("{numbers:?}").replace(' ', ""))));
            }
        }
    }
    Ok(values)
}

fn boolean_at(column: &BooleanArray, row: usize) -> Value {
    if column.is_valid(row) { Value::Bool(column.value(row)) } else { Value::Null }
}

fn operations_json(operations: &Operations) -> String {
    let rows = operations.iter().enumerate().map(|(position, (number, operation, flags))| {
        format!("{{\"position\":{position},\"sem_num\":{number},\"sem_op\":{operation},\"sem_flags\":{flags}}}")
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}
