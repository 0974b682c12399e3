//! Reads row groups in parallel: prunes them by their statistics, decodes the columns that are needed in small batches,
//! filters, folds per thread, merges. Memory is one partial answer per thread and one batch per thread.

use crate::batch::Batch;
use crate::error::Error;
use crate::filter::Selection;
use crate::pages;
use crate::part::{self, Checksum, OpenPart};
use crate::progress::Progress;
use crate::query::{GroupStatistics, Query};
use crate::trace::{Part, Trace};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, Int32Type, Schema};
use ipc_schema::tables::{self, Table, arrow_schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::data_type::ByteArray;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use std::collections::{HashSet, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Rows decoded at once: 64 KiB per Int64 column stay in the cache.
pub const BATCH_ROWS: usize = 8192;
/// No text of a trace is longer, but documents of the table `session`.
const TEXT_BYTES_MAX: usize = 64 << 10;
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// While fewer row groups wait, a thread opens the next part: its checksum is made beside the decoding of others.
const ROW_GROUPS_AHEAD: usize = 64;

/// One row group to read.
struct Task {
    trace: usize,
    part: Arc<OpenPart>,
    row_group: usize,
}

/// What a thread does next.
enum Work<'a> {
    Open(usize, &'a Part),
    Fold(Task),
}

/// What is left to do.
struct Queue<'a> {
    parts: VecDeque<(usize, &'a Part)>,
    tasks: VecDeque<Task>,
    opening: usize,
    failure: Option<Error>,
}

/// The threads of one scan.
struct Scan<'a, Q> {
    selection: &'a Selection,
    query: &'a Q,
    progress: Progress,
    queue: Mutex<Queue<'a>>,
    changed: Condvar,
}

/// Asks `query` of every row that `selection` keeps.
///
/// # Errors
/// The first file that cannot be believed.
pub fn fold<Q: Query>(traces: &[Trace], selection: &Selection, query: &Q) -> Result<Q::Partial, Error> {
    let table = query.table();
    let parts: VecDeque<(usize, &Part)> =
        traces.iter().enumerate().flat_map(|(i, trace)| trace.parts_of(table).iter().map(move |p| (i, p))).collect();
    let progress = Progress::new(table.name, parts.iter().map(|(_, p)| p.bytes).sum());
    let queue = Mutex::new(Queue { parts, tasks: VecDeque::new(), opening: 0, failure: None });
    let scan = Scan { selection, query, progress, queue, changed: Condvar::new() };
    let partials = rayon::broadcast(|_| scan.work());
    if let Some(error) = scan.lock().failure.take() {
        return Err(error);
    }
    let mut partials = partials.into_iter();
    let mut partial = partials.next().unwrap_or_else(|| query.empty());
    for learnt in partials {
        query.merge(&mut partial, learnt);
    }
    Ok(partial)
}

/// What `read` takes out of every row of a small table, in no order.
///
/// # Errors
/// The first file that cannot be believed.
pub fn collect<T: Send>(
    traces: &[Trace],
    table: &'static Table,
    columns: &[&'static str],
    read: impl Fn(&Batch, &mut Vec<T>) -> Result<(), Error> + Sync,
) -> Result<Vec<T>, Error> {
    fold(traces, &Selection::everything(), &Collect { table, columns, read, of: PhantomData })
}

/// The question behind [`collect`].
struct Collect<'a, T, F> {
    table: &'static Table,
    columns: &'a [&'static str],
    read: F,
    of: PhantomData<fn() -> T>,
}

impl<T: Send, F: Fn(&Batch, &mut Vec<T>) -> Result<(), Error> + Sync> Query for Collect<'_, T, F> {
    type Partial = Vec<T>;

    fn table(&self) -> &'static Table {
        self.table
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        self.columns.to_vec()
    }

    fn empty(&self) -> Vec<T> {
        Vec::new()
    }

    fn fold(&self, found: &mut Vec<T>, batch: &Batch) -> Result<(), Error> {
        (self.read)(batch, found)
    }

    fn merge(&self, into: &mut Vec<T>, from: Vec<T>) {
        into.extend(from);
    }
}

impl<'a, Q: Query> Scan<'a, Q> {
    fn lock(&self) -> MutexGuard<'_, Queue<'a>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one thread learns.
    fn work(&self) -> Q::Partial {
        let mut partial = self.query.empty();
        while let Some(work) = self.next() {
            let result = match work {
                Work::Open(trace, part) => self.open(trace, part),
                Work::Fold(task) => {
                    let result = fold_row_group(&task, self.selection, self.query, &mut partial);
                    self.progress.add(group_bytes(&task));
                    result
                }
            };
            if let Err(error) = result {
                self.lock().failure.get_or_insert(error);
                self.changed.notify_all();
            }
        }
        partial
    }

    fn next(&self) -> Option<Work<'a>> {
        let mut queue = self.lock();
        loop {
            if queue.failure.is_some() {
                return None;
            }
            if queue.tasks.len() < ROW_GROUPS_AHEAD
                && let Some((trace, part)) = queue.parts.pop_front()
            {
                queue.opening += 1;
                return Some(Work::Open(trace, part));
            }
            if let Some(task) = queue.tasks.pop_front() {
                return Some(Work::Fold(task));
            }
            if queue.opening == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Checks a part and puts its row groups into the queue.
    fn open(&self, trace: usize, part: &Part) -> Result<(), Error> {
        let opened = part::open(part, Checksum::Verify).map(Arc::new);
        let mut queue = self.lock();
        queue.opening -= 1;
        self.changed.notify_all();
        let part = opened?;
        for (row_group, group) in part.metadata.metadata().row_groups().iter().enumerate() {
            if group.num_rows() > 0 && self.selection.may_match(trace, group) {
                queue.tasks.push_back(Task { trace, part: part.clone(), row_group });
            }
        }
        Ok(())
    }
}

fn group_bytes(task: &Task) -> u64 {
    u64::try_from(task.part.metadata.metadata().row_group(task.row_group).compressed_size()).unwrap_or(0)
}

fn fold_row_group<Q: Query>(
    task: &Task,
    selection: &Selection,
    query: &Q,
    partial: &mut Q::Partial,
) -> Result<(), Error> {
    let group = task.part.metadata.metadata().row_group(task.row_group);
    let mut columns = query.columns(&StatisticsOf(group));
    for column in selection.columns() {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let rows = match query.only_with() {
        Some(column) => rows_with(task, column)?,
        None => Rows::All,
    };
    if matches!(rows, Rows::Some(0, _)) {
        return Ok(());
    }
    for batch in RowGroupReader::of_rows(task.trace, &task.part, task.row_group, &columns, rows)? {
        let batch = select(batch?, selection)?;
        if batch.rows() > 0 {
            query.fold(partial, &batch)?;
        }
    }
    Ok(())
}

/// Which rows of a row group to decode.
enum Rows {
    All,
    /// How many of them, and which.
    Some(u64, RowSelection),
}

/// The rows of a row group in which a column is not NULL: found by its statistics or by reading it alone.
fn rows_with(task: &Task, column: &'static str) -> Result<Rows, Error> {
    let group = task.part.metadata.metadata().row_group(task.row_group);
    match StatisticsOf(group).null_count(column) {
        Some(0) => return Ok(Rows::All),
        Some(nulls) if i64::try_from(nulls) == Ok(group.num_rows()) => {
            return Ok(Rows::Some(0, RowSelection::default()));
        }
        _ => {}
    }
    let mut masks = Vec::new();
    for batch in RowGroupReader::new(task.trace, &task.part, task.row_group, &[column])? {
        let array = batch?.record.column(0).clone();
        masks.push(arrow::compute::is_not_null(&array).map_err(|e| Error::damaged("the trace", e.to_string()))?);
    }
    let count = masks.iter().map(|mask| mask.true_count() as u64).sum();
    Ok(Rows::Some(count, RowSelection::from_filters(&masks)))
}

/// The statistics of a row group by the names of the columns.
#[derive(Debug)]
pub struct StatisticsOf<'a>(pub &'a RowGroupMetaData);

impl StatisticsOf<'_> {
    fn of(&self, column: &str) -> Option<&Statistics> {
        self.0.columns().iter().find(|c| c.column_path().string() == column)?.statistics()
    }
}

impl GroupStatistics for StatisticsOf<'_> {
    fn null_count(&self, column: &str) -> Option<u64> {
        self.of(column)?.null_count_opt()
    }

    fn is_at_most(&self, column: &str, bound: i64) -> bool {
        let Some(Statistics::Int64(bounds)) = self.of(column) else { return false };
        bounds.max_opt().is_some_and(|max| *max <= bound)
    }

    fn is_always(&self, column: &str, value: &str) -> bool {
        let Some(Statistics::ByteArray(bounds)) = self.of(column) else { return false };
        let only = |bound: Option<&ByteArray>| bound.is_some_and(|bound| bound.data() == value.as_bytes());
        bounds.null_count_opt() == Some(0) && only(bounds.min_opt()) && only(bounds.max_opt())
    }

    fn is_false(&self, column: &str) -> bool {
        let all_null = self.null_count(column) == u64::try_from(self.0.num_rows()).ok();
        all_null || matches!(self.of(column), Some(Statistics::Boolean(bounds)) if bounds.max_opt() == Some(&false))
    }
}

/// Keeps the rows of the selection.
///
/// # Errors
/// A column of the selection that the batch does not have.
pub fn select(batch: Batch, selection: &Selection) -> Result<Batch, Error> {
    if selection.is_everything() {
        return Ok(batch);
    }
    let mask = selection.mask(&batch)?;
    if mask.true_count() == batch.rows() {
        return Ok(batch);
    }
    let record = arrow::compute::filter_record_batch(&batch.record, &mask)
        .map_err(|error| Error::damaged("the trace", error.to_string()))?;
    Ok(Batch { trace: batch.trace, record })
}

/// Decodes one row group batch by batch.
pub struct RowGroupReader {
    trace: usize,
    file: String,
    /// The columns asked for, as the table declares them.
    fields: Vec<Field>,
    reader: ParquetRecordBatchReader,
    /// For a column without values: NULLs enough for any batch.
    nulls: Vec<Option<ArrayRef>>,
    rows_left: u64,
    text_bytes_max: usize,
}

impl RowGroupReader {
    /// Begins to read `columns` (absent ones are NULL).
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn new(trace: usize, part: &OpenPart, row_group: usize, columns: &[&str]) -> Result<RowGroupReader, Error> {
        RowGroupReader::of_rows(trace, part, row_group, columns, Rows::All)
    }

    fn of_rows(
        trace: usize,
        part: &OpenPart,
        row_group: usize,
        columns: &[&str],
        rows: Rows,
    ) -> Result<RowGroupReader, Error> {
        let file = part.part.path.display().to_string();
        let input = part::open_file(&part.part)?;
        let metadata = part.metadata.clone();
        let group = metadata.metadata().row_group(row_group);
        let rows_of_group = u64::try_from(group.num_rows()).unwrap_or(0);
        // Most columns concern other families of calls than most calls: what is all NULL is not decoded.
        let filled: HashSet<&str> = columns
            .iter()
            .copied()
            .filter(|name| StatisticsOf(group).null_count(name) != Some(rows_of_group))
            .collect();
        let mask = ProjectionMask::columns(metadata.parquet_schema(), filled.iter().copied());
        let (rows_left, selection) = match rows {
            Rows::All => (rows_of_group, None),
            Rows::Some(count, selection) => (count, Some(selection)),
        };
        let batch_rows = pages::check(&input, group, |name| filled.contains(name), BATCH_ROWS)
            .map_err(|what| undecodable(&file, &what))?;
        let reader = part::guard(|| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, metadata)
                .with_row_groups(vec![row_group])
                .with_projection(mask)
                .with_batch_size(batch_rows);
            match selection {
                Some(selection) => builder.with_row_selection(selection).build(),
                None => builder.build(),
            }
        })
        .map_err(|what| undecodable(&file, &what))?;
        let fields = declared_fields(part.part.table, columns).map_err(|what| Error::damaged(&file, what))?;
        let is_session = part.part.table.name == tables::SESSION.name;
        let text_bytes_max = if is_session { DOCUMENT_BYTES_MAX } else { TEXT_BYTES_MAX };
        Ok(RowGroupReader { trace, file, nulls: vec![None; fields.len()], fields, reader, rows_left, text_bytes_max })
    }

    /// Puts the columns into the order asked for, NULL where the file has none.
    fn arrange(&mut self, record: &RecordBatch) -> Result<Batch, Error> {
        let rows = record.num_rows();
        let mut fields = Vec::with_capacity(self.fields.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.fields.len());
        for (field, nulls) in self.fields.iter().zip(&mut self.nulls) {
            let array = match record.column_by_name(field.name()) {
                Some(array) => array.clone(),
                None => nulls.get_or_insert_with(|| new_null_array(field.data_type(), BATCH_ROWS)).slice(0, rows),
            };
            if !field.is_nullable() && array.null_count() > 0 {
                let what = format!("column {} holds NULL where none is allowed", field.name());
                return Err(Error::damaged(&self.file, what));
            }
            if let Some(bytes) = longest_text(&array).filter(|bytes| *bytes > self.text_bytes_max) {
                let what = format!("column {} holds a text of {bytes} bytes: refused", field.name());
                return Err(Error::damaged(&self.file, what));
            }
            // The file may allow NULL where the table does not.
            fields.push(field.clone().with_nullable(true).with_data_type(array.data_type().clone()));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let record = RecordBatch::try_new_with_options(Schema::new(fields).into(), arrays, &options)
            .map_err(|error| undecodable(&self.file, &error.to_string()))?;
        Ok(Batch { trace: self.trace, record })
    }
}

impl Iterator for RowGroupReader {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = &mut self.reader;
        let record = match part::guard(|| reader.next().transpose()) {
            Ok(None) if self.rows_left == 0 => return None,
            Ok(None) => {
                let what = format!("a row group ends {} rows early; copy the trace again", self.rows_left);
                self.rows_left = 0;
                return Some(Err(Error::damaged(&self.file, what)));
            }
            Ok(Some(record)) => record,
            Err(what) => {
                self.rows_left = 0;
                return Some(Err(undecodable(&self.file, &what)));
            }
        };
        self.rows_left = self.rows_left.saturating_sub(record.num_rows() as u64);
        Some(self.arrange(&record))
    }
}

/// The length of the longest text of a column, if it has texts and they are not all short together.
fn longest_text(array: &ArrayRef) -> Option<usize> {
    let texts = array.as_dictionary_opt::<Int32Type>()?.values().as_string_opt::<i32>()?;
    if texts.values().len() <= TEXT_BYTES_MAX {
        return None;
    }
    texts.offsets().lengths().max()
}

fn declared_fields(table: &Table, columns: &[&str]) -> Result<Vec<Field>, String> {
    let declared = arrow_schema::schema(table);
    let field = |name: &&str| declared.field_with_name(name).cloned();
    columns.iter().map(field).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn undecodable(file: &str, what: &str) -> Error {
    Error::damaged(file, format!("cannot be decoded: {what}; copy the trace again"))
}
