//! `show`: one line per call, in the order in which the calls ended, as strace prints them.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::human::{self, Zone};
use crate::part::{self, Checksum, OpenPart};
use crate::report::{Column, Rows, Table, Unit, Value, column};
use crate::scan::{self, RowGroupReader};
use crate::sem_ops::{Operations, SemOps};
use crate::trace::{Part, Trace};
use arrow::array::{Array, BooleanArray};
use ipc_schema::flags::{SEM_FLAGS, SIGNALS, name, write_flags};
use ipc_schema::tables::{self, Kind};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Operations of one call that a line shows, as strace does.
const OPERATIONS_SHOWN: usize = 32;

/// The calls of one trace, batch by batch, in the order of the files.
struct CallReader<'a> {
    trace: usize,
    selection: &'a Selection,
    columns: Vec<&'static str>,
    parts: VecDeque<Part>,
    open: Option<(OpenPart, VecDeque<usize>)>,
    reader: Option<RowGroupReader>,
}

impl<'a> CallReader<'a> {
    fn new(trace: usize, parts: &[Part], selection: &'a Selection, columns: &[&'static str]) -> CallReader<'a> {
        let mut columns = columns.to_vec();
        for column in selection.columns() {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        CallReader { trace, selection, columns, parts: parts.iter().cloned().collect(), open: None, reader: None }
    }

    fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                let batch = scan::select(batch?, self.selection)?;
                if batch.rows() > 0 {
                    return Ok(Some(batch));
                }
                continue;
            }
            self.reader = None;
            if let Some((open, groups)) = &mut self.open
                && let Some(group) = groups.pop_front()
            {
                self.reader = Some(RowGroupReader::new(self.trace, open, group, &self.columns)?);
                continue;
            }
            let Some(part) = self.parts.pop_front() else { return Ok(None) };
            let open = part::open(&part, Checksum::Verify)?;
            let groups = open.metadata.metadata().row_groups().iter().enumerate();
            let kept =
                groups.filter(|(_, group)| self.selection.may_match(self.trace, group)).map(|(i, _)| i).collect();
            self.open = Some((open, kept));
        }
    }
}

/// Where one trace stands.
struct Cursor<'a> {
    reader: CallReader<'a>,
    batch: Batch,
    row: usize,
    operations: SemOps<'a>,
}

impl<'a> Cursor<'a> {
    fn open(trace: usize, traces: &'a [Trace], selection: &'a Selection) -> Result<Option<Cursor<'a>>, Error> {
        let parts = traces[trace].parts_of(&tables::CALLS);
        let mut reader = CallReader::new(trace, parts, selection, &call_columns());
        let Some(batch) = reader.next_batch()? else { return Ok(None) };
        let mut operations = SemOps::new(trace, &traces[trace]);
        operations.load(&batch)?;
        Ok(Some(Cursor { reader, batch, row: 0, operations }))
    }

    /// Open calls come last.
    fn end_ns(&self) -> Result<i64, Error> {
        Ok(int64_at(self.batch.int64("end_ns")?, self.row).unwrap_or(i64::MAX))
    }

    /// False when there is no further call.
    fn advance(&mut self) -> Result<bool, Error> {
        self.row += 1;
        if self.row < self.batch.rows() {
            return Ok(true);
        }
        let Some(batch) = self.reader.next_batch()? else { return Ok(false) };
        self.operations.load(&batch)?;
        self.batch = batch;
        self.row = 0;
        Ok(true)
    }
}

/// Calls `visit` with each call, those of several traces merged by their ends.
fn for_each_call<'a>(
    traces: &'a [Trace],
    selection: &'a Selection,
    mut visit: impl FnMut(&Cursor<'a>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut cursors = Cursors::open(traces, selection)?;
    while let Some(cursor) = cursors.current()? {
        if !visit(cursor)? {
            break;
        }
        cursors.advance()?;
    }
    Ok(())
}

/// The cursors of all traces, and which of them is next.
struct Cursors<'a> {
    cursors: Vec<Cursor<'a>>,
    current: usize,
}

impl<'a> Cursors<'a> {
    fn open(traces: &'a [Trace], selection: &'a Selection) -> Result<Cursors<'a>, Error> {
        let mut cursors = Vec::new();
        for trace in 0..traces.len() {
            cursors.extend(Cursor::open(trace, traces, selection)?);
        }
        Ok(Cursors { cursors, current: 0 })
    }

    fn current(&mut self) -> Result<Option<&Cursor<'a>>, Error> {
        let mut earliest = None;
        for (i, cursor) in self.cursors.iter().enumerate() {
            let end_ns = cursor.end_ns()?;
            if earliest.is_none_or(|(_, least)| end_ns < least) {
                earliest = Some((i, end_ns));
            }
        }
        self.current = earliest.map_or(0, |(i, _)| i);
        Ok(self.cursors.get(self.current))
    }

    fn advance(&mut self) -> Result<(), Error> {
        if !self.cursors[self.current].advance()? {
            self.cursors.remove(self.current);
        }
        Ok(())
    }
}

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
    for_each_call(traces, selection, |cursor| {
        if let Some(pace) = &mut pace {
            out.flush()?;
            pace.wait_for(cursor.end_ns()?);
        }
        line.clear();
        let end_ns = traces[cursor.batch.trace].manifest.session.end_ns;
        Call { batch: &cursor.batch, row: cursor.row, operations: &cursor.operations, end_ns, zone: lines.zone }
            .write_line(&mut line)?;
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

/// One call.
struct Call<'a> {
    batch: &'a Batch,
    row: usize,
    operations: &'a SemOps<'a>,
    end_ns: i64,
    zone: Zone,
}

impl Call<'_> {
    fn text(&self, column: &str) -> Result<Option<&str>, Error> {
        Ok(self.batch.text(column)?.get(self.row))
    }

    fn int64(&self, column: &str) -> Result<Option<i64>, Error> {
        Ok(int64_at(self.batch.int64(column)?, self.row))
    }

    fn int32(&self, column: &str) -> Result<Option<i32>, Error> {
        Ok(int32_at(self.batch.int32(column)?, self.row))
    }

    /// `12:00:01.123456789 [1234/1235 worker] semtimedop(sem:5, [{0, -1, SEM_UNDO}], timeout=2.00 s) = 0 <1.20 ms>`
    fn write_line(&self, line: &mut String) -> Result<(), Error> {
        let start_ns = self.int64("start_ns")?.unwrap_or(0);
        let bound = if self.text("began")? == Some("before_trace") { "≤" } else { "" };
        let (pid, tid) = (self.int32("pid")?.unwrap_or(0), self.int32("tid")?.unwrap_or(0));
        let comm = self.text("comm")?.unwrap_or("?");
        let syscall = self.text("syscall")?.unwrap_or("?");
        let time = human::time_of_day(start_ns, self.zone);
        // Writing to a String cannot fail.
        let _ = write!(line, "{bound}{time} [{pid}/{tid} {comm}] {syscall}({}) = ", self.arguments()?.join(", "));
        self.write_result(line, start_ns)
    }

    fn write_result(&self, line: &mut String, start_ns: i64) -> Result<(), Error> {
        let outcome = self.text("outcome")?.unwrap_or("?");
        let duration = self.int64("duration_ns")?;
        match (outcome, self.int64("return_value")?, self.text("error")?) {
            ("killed", _, _) => line.push_str("? killed"),
            (_, Some(value), Some(error)) => drop(write!(line, "{value} {error}")),
            (_, Some(value), None) => drop(write!(line, "{value}")),
            (_, None, Some(error)) => drop(write!(line, "-1 {error}")),
            (_, None, None) => line.push('?'),
        }
        let lasted = match duration {
            Some(ns) => human::duration(ns.into()),
            None => format!("open ≥ {}", human::duration(self.end_ns.saturating_sub(start_ns).into())),
        };
        let _ = write!(line, " <{lasted}>");
        Ok(())
    }

    fn arguments(&self) -> Result<Vec<String>, Error> {
        let mut arguments: Vec<String> = self.object()?.into_iter().collect();
        if let Some(operations) = self.semaphore_operations()? {
            arguments.push(operations);
        } else if let Some(number) = self.int32("sem_num")? {
            arguments.push(format!("semnum={number}"));
        }
        if let Some(count) = self.int32("sem_count")? {
            arguments.push(format!("nsems={count}"));
        }
        if let Some(signal) = self.int32("signal")? {
            // Real-time signals have no names.
            arguments.push(name(SIGNALS, signal.into()).map_or_else(|| format!("signal={signal}"), str::to_owned));
        }
        for (name, column) in
            [("size", "size_bytes"), ("type", "msg_type_requested"), ("type", "msg_type"), ("priority", "msg_priority")]
        {
            if let Some(value) = self.int64(column)? {
                arguments.push(format!("{name}={value}"));
            }
        }
        if let Some(address) = self.int64("address")? {
            arguments.push(format!("address={address:#x}"));
        }
        for column in ["command", "sig_how", "sig_set_text", "disposition"] {
            if let Some(text) = self.text(column)? {
                arguments.push(text.to_owned());
            }
        }
        match (self.text("flags_text")?, self.int32("flags")?) {
            (Some(text), _) => arguments.push(text.to_owned()),
            (None, Some(flags)) => arguments.push(format!("flags={flags:#x}")),
            (None, None) => {}
        }
        if let Some(timeout) = self.int64("timeout_ns")? {
            arguments.push(format!("timeout={}", human::duration(timeout.into())));
        }
        if let Some(deadline) = self.int64("deadline_ns")? {
            arguments.push(format!("deadline={}", human::time_of_day(deadline, self.zone)));
        }
        Ok(arguments)
    }

    /// `sem:5`, `key=0x51`, `mq:/jobs`.
    fn object(&self) -> Result<Option<String>, Error> {
        let kind = self.text("object_kind")?.unwrap_or("?");
        let (id, key) = (self.int64("object_id")?, self.int32("key")?);
        let key = key.map(|key| if key == 0 { "IPC_PRIVATE".to_owned() } else { format!("key={key:#x}") });
        Ok(match (self.text("object_name")?, id, key) {
            (Some(name), _, _) => Some(format!("{kind}:{name}")),
            // A get call has a key, and an id only by its result.
            (None, _, Some(key)) if self.text("syscall")?.is_some_and(|name| name.ends_with("get")) => Some(key),
            (None, Some(id), _) => Some(format!("{kind}:{id}")),
            (None, None, key) => key,
        })
    }

    /// `[{0, -1, SEM_UNDO}, {1, 1, 0}]`.
    fn semaphore_operations(&self) -> Result<Option<String>, Error> {
        let Some(total) = self.int32("sem_ops_total")? else { return Ok(None) };
        let all = match (total, self.int64("call_id")?) {
            (2.., Some(call_id)) => self.operations.of(call_id),
            _ => None,
        };
        let first = || -> Result<Operations, Error> {
            let number = self.int32("sem_num")?;
            let (operation, flags) = (self.int32("sem_op")?, self.int32("sem_flags")?);
            Ok(number.map(|number| vec![(number, operation.unwrap_or(0), flags.unwrap_or(0))]).unwrap_or_default())
        };
        let operations = match all {
            Some(all) => all.clone(),
            None => first()?,
        };
        let mut text = String::from("[");
        for (i, (number, operation, flags)) in operations.iter().take(OPERATIONS_SHOWN).enumerate() {
            let separator = if i > 0 { ", " } else { "" };
            let _ = write!(text, "{separator}{{{number}, {operation}, ");
            let _ = write_flags(&mut text, SEM_FLAGS, *flags, false);
            text.push('}');
        }
        let shown = operations.len().min(OPERATIONS_SHOWN);
        if usize::try_from(total).is_ok_and(|total| total > shown) {
            let _ = write!(text, "{}... {total} in all", if shown > 0 { ", " } else { "" });
        }
        text.push(']');
        Ok(Some(text))
    }
}

/// Every column of `calls` but the twins, which say the same in another form.
fn call_columns() -> Vec<&'static str> {
    tables::CALLS.columns.iter().map(|column| column.name).collect()
}

/// The calls as rows with every column that is not NULL, for JSON and CSV.
pub fn table<'a>(traces: &'a [Trace], selection: &'a Selection) -> Result<Table<'a>, Error> {
    let mut columns: Vec<Column> = Vec::new();
    for known in tables::CALLS.columns {
        columns.push(column(known.name, known.name, Unit::Text));
        if known.kind == Kind::Instant {
            columns.push(Column { name: tables::twin(known.name).into(), heading: "", unit: Unit::Text, yields: 0 });
        }
    }
    columns.push(column("sem_ops", "", Unit::Text));
    let mut cursors = Cursors::open(traces, selection)?;
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
    let (batch, row) = (&cursor.batch, cursor.row);
    let mut values = Vec::with_capacity(tables::CALLS.columns.len() + 4);
    for known in tables::CALLS.columns {
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
            Kind::Int32List => values.push(Value::Null),
        }
    }
    let call_id = int64_at(batch.int64("call_id")?, row);
    let operations = call_id.and_then(|call_id| cursor.operations.of(call_id));
    values.push(operations.map_or(Value::Null, |operations| Value::Json(operations_json(operations))));
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
