//! The calls of traces one by one, in the order of their ends, with all that is known of each.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::human::{self, Zone};
use crate::part::{self, Checksum, OpenPart};
use crate::scan::{self, RowGroupReader};
use crate::sem_ops::{Operations, SemOps};
use crate::trace::{Part, Trace};
use arrow::array::Array;
use ipc_schema::flags::{SEM_FLAGS, SIGNALS, name, write_flags};
use ipc_schema::tables;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Operations of one call that are shown, as strace does.
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
pub struct Cursor<'a> {
    reader: CallReader<'a>,
    /// The rows around it.
    pub batch: Batch,
    /// Its row.
    pub row: usize,
    /// The operations of the calls of the batch.
    pub operations: SemOps<'a>,
    /// When the recording ended, nanoseconds since the epoch.
    recording_end_ns: i64,
}

impl<'a> Cursor<'a> {
    fn open(
        trace: usize,
        traces: &'a [Trace],
        selection: &'a Selection,
        columns: &[&'static str],
    ) -> Result<Option<Cursor<'a>>, Error> {
        let parts = traces[trace].parts_of(&tables::CALLS);
        let mut reader = CallReader::new(trace, parts, selection, columns);
        let Some(batch) = reader.next_batch()? else { return Ok(None) };
        let mut operations = SemOps::new(trace, &traces[trace]);
        operations.load(&batch)?;
        let recording_end_ns = traces[trace].manifest.session.end_ns;
        Ok(Some(Cursor { reader, batch, row: 0, operations, recording_end_ns }))
    }

    /// The call.
    pub fn call(&self) -> Call<'_> {
        let Cursor { batch, row, operations, recording_end_ns, .. } = self;
        Call { batch, row: *row, operations, recording_end_ns: *recording_end_ns }
    }

    /// When it ended, nanoseconds since the epoch; open calls come last.
    ///
    /// # Errors
    /// The column cannot be believed.
    pub fn end_ns(&self) -> Result<i64, Error> {
        Ok(self.call().int64("end_ns")?.unwrap_or(i64::MAX))
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

/// Calls `visit` with each call, those of several traces merged by their ends, until it says `false`.
///
/// # Errors
/// A part that cannot be believed, and those of `visit`.
pub fn for_each<'a>(
    traces: &'a [Trace],
    selection: &'a Selection,
    columns: &[&'static str],
    mut visit: impl FnMut(&Cursor<'a>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut cursors = Cursors::open(traces, selection, columns)?;
    while let Some(cursor) = cursors.current()? {
        if !visit(cursor)? {
            break;
        }
        cursors.advance()?;
    }
    Ok(())
}

/// The cursors of all traces, and which of them is next.
pub struct Cursors<'a> {
    cursors: Vec<Cursor<'a>>,
    current: usize,
}

impl<'a> Cursors<'a> {
    /// At the first call of each trace.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn open(traces: &'a [Trace], selection: &'a Selection, columns: &[&'static str]) -> Result<Cursors<'a>, Error> {
        let mut cursors = Vec::new();
        for trace in 0..traces.len() {
            cursors.extend(Cursor::open(trace, traces, selection, columns)?);
        }
        Ok(Cursors { cursors, current: 0 })
    }

    /// The trace whose call is next.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn current(&mut self) -> Result<Option<&Cursor<'a>>, Error> {
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

    /// Goes on to the next call.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn advance(&mut self) -> Result<(), Error> {
        if !self.cursors[self.current].advance()? {
            self.cursors.remove(self.current);
        }
        Ok(())
    }
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    batch: &'a Batch,
    row: usize,
    operations: &'a SemOps<'a>,
    /// When the recording ended, nanoseconds since the epoch.
    pub recording_end_ns: i64,
}

impl<'a> Call<'a> {
    /// A column of text.
    ///
    /// # Errors
    /// It was not read, or has another type.
    pub fn text(&self, column: &str) -> Result<Option<&'a str>, Error> {
        Ok(self.batch.text(column)?.get(self.row))
    }

    /// A column of Int64.
    ///
    /// # Errors
    /// It was not read, or has another type.
    pub fn int64(&self, column: &str) -> Result<Option<i64>, Error> {
        Ok(int64_at(self.batch.int64(column)?, self.row))
    }

    /// A column of Int32.
    ///
    /// # Errors
    /// It was not read, or has another type.
    pub fn int32(&self, column: &str) -> Result<Option<i32>, Error> {
        Ok(int32_at(self.batch.int32(column)?, self.row))
    }

    /// Whether a column of Boolean says so.
    ///
    /// # Errors
    /// It was not read, or has another type.
    pub fn is_true(&self, column: &str) -> Result<bool, Error> {
        let column = self.batch.boolean(column)?;
        Ok(column.is_valid(self.row) && column.value(self.row))
    }

    /// Its operations on semaphores, none if it is about something else.
    ///
    /// # Errors
    /// A column cannot be believed.
    pub fn operations(&self) -> Result<Operations, Error> {
        let several = match (self.int32("sem_ops_total")?, self.int64("call_id")?) {
            (None, _) => return Ok(Operations::new()),
            (Some(2..), Some(call_id)) => self.operations.of(call_id),
            _ => None,
        };
        if let Some(several) = several {
            return Ok(several.clone());
        }
        let (operation, flags) = (self.int32("sem_op")?, self.int32("sem_flags")?);
        let first = self.int32("sem_num")?.map(|number| (number, operation.unwrap_or(0), flags.unwrap_or(0)));
        Ok(first.into_iter().collect())
    }

    /// Its arguments as strace prints them.
    ///
    /// # Errors
    /// A column cannot be believed.
    pub fn arguments(&self, zone: Zone) -> Result<Vec<String>, Error> {
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
            arguments.push(format!("deadline={}", human::time_of_day(deadline, zone)));
        }
        Ok(arguments)
    }

    /// `sem:5`, `key=0x51`, `mq:/jobs`.
    ///
    /// # Errors
    /// A column cannot be believed.
    pub fn object(&self) -> Result<Option<String>, Error> {
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
        let operations = self.operations()?;
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
pub fn all_columns() -> Vec<&'static str> {
    tables::CALLS.columns.iter().map(|column| column.name).collect()
}
