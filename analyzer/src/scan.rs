//! Reads row groups in parallel: prunes them by their statistics, decodes the columns that are needed in small batches,
//! filters, folds per thread, merges. Memory is one partial answer per thread and one batch per thread.

use crate::batch::{Batch, int64_at};
use crate::codes::{Codes, Values};
use crate::error::Error;
use crate::filter::Selection;
use crate::pages;
use crate::part::{self, Checksum, Input, OpenPart, PartFile};
use crate::progress::Progress;
use crate::query::{GroupStatistics, Only, Query};
use crate::trace::{Part, Trace};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use bytes::Bytes;
use ipc_schema::tables::{self, Table, arrow_schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use std::collections::VecDeque;
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
    let group = CodedGroup::new(task)?;
    if selection.is_everything() && query.fold_codes(partial, &group)? {
        return Ok(());
    }
    let mut columns = query.columns(&StatisticsOf(group.group));
    for column in selection.columns() {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let mut chosen = match query.only() {
        Some(only) => choose(task, &group, only)?,
        None => Chosen::default(),
    };
    if chosen.rows.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    if let Some((column, others)) = query.instead_of()
        && group.is_filled(column, &mut chosen)
    {
        columns.retain(|name| !others.contains(name) || selection.columns().contains(name));
    }
    for batch in RowGroupReader::of_rows(task.trace, &task.part, group.input, task.row_group, &columns, chosen)? {
        let batch = select(batch?, selection)?;
        if batch.rows() > 0 {
            query.fold(partial, &batch)?;
        }
    }
    Ok(())
}

/// The rows of a row group that are wanted.
#[derive(Default)]
struct Chosen {
    /// Which, rising; `None`: all.
    rows: Option<Vec<u32>>,
    /// The columns that were read to choose them, of these rows.
    known: Vec<(&'static str, Codes)>,
}

impl Chosen {
    fn rows(rows: Vec<u32>) -> Chosen {
        Chosen { rows: Some(rows), known: Vec::new() }
    }

    /// Takes a column that is known.
    fn take(&mut self, column: &str) -> Option<Codes> {
        let place = self.known.iter().position(|(name, _)| *name == column)?;
        Some(self.known.swap_remove(place).1)
    }
}

/// The rows of a row group that matter, found by statistics or by reading one column.
fn choose(task: &Task, group: &CodedGroup<'_>, only: Only) -> Result<Chosen, Error> {
    let statistics = StatisticsOf(group.group);
    let (Only::Filled(column) | Only::Positive(column) | Only::Named(column, _)) = only;
    match only {
        Only::Filled(_) if statistics.null_count(column) == Some(0) => return Ok(Chosen::default()),
        _ if statistics.is_all_null(column) => return Ok(Chosen::rows(Vec::new())),
        Only::Positive(_) if statistics.is_at_most(column, 0) => return Ok(Chosen::rows(Vec::new())),
        _ => {}
    }
    if let Some(chosen) = group.choose(only) {
        return Ok(chosen);
    }
    let (mut rows, mut first) = (Vec::new(), 0);
    for batch in RowGroupReader::new(task.trace, &task.part, task.row_group, &[column])? {
        let batch = batch?;
        let here = 0..batch.rows();
        let found: Vec<usize> = match only {
            Only::Filled(_) => here.filter(|row| batch.record.column(0).is_valid(*row)).collect(),
            Only::Positive(_) => {
                let numbers = batch.int64(column)?;
                here.filter(|row| int64_at(numbers, *row).is_some_and(|number| number > 0)).collect()
            }
            Only::Named(_, is_wanted) => {
                let texts = batch.text(column)?;
                here.filter(|row| texts.get(*row).is_some_and(is_wanted)).collect()
            }
        };
        rows.extend(found.into_iter().map(|row| first + row as u32));
        first += batch.rows() as u32;
    }
    Ok(Chosen::rows(rows))
}

/// A row group whose columns are read as codes.
#[derive(Debug)]
pub struct CodedGroup<'a> {
    trace: usize,
    input: PartFile,
    group: &'a RowGroupMetaData,
    table: &'static Table,
}

impl<'a> CodedGroup<'a> {
    fn new(task: &'a Task) -> Result<CodedGroup<'a>, Error> {
        let input = part::open_file(&task.part.part)?;
        let group = task.part.metadata.metadata().row_group(task.row_group);
        Ok(CodedGroup { trace: task.trace, input, group, table: task.part.part.table })
    }

    /// The index of the trace.
    pub fn trace(&self) -> usize {
        self.trace
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        usize::try_from(self.group.num_rows()).unwrap_or(0)
    }

    /// How many NULLs a column has, `None` if that is not known.
    pub fn null_count(&self, column: &str) -> Option<u64> {
        StatisticsOf(self.group).null_count(column)
    }

    /// Whether a text column certainly holds nothing but `value`.
    pub fn is_always(&self, column: &str, value: &str) -> bool {
        StatisticsOf(self.group).is_always(column, value)
    }

    /// A column as codes. `None`: the file holds it in another way.
    pub fn codes(&self, column: &str) -> Option<Codes> {
        let field = self.field(column)?;
        let codes = if StatisticsOf(self.group).is_all_null(column) {
            Codes::nulls(self.rows(), field.data_type())
        } else {
            self.read(&field, None)
        };
        // A damaged file may allow NULL where the table does not: the other way tells so.
        codes.filter(|codes| !codes.has_nulls || field.is_nullable()).filter(|codes| !has_long_texts(&codes.values))
    }

    /// A column as the table declares it.
    fn field(&self, column: &str) -> Option<Field> {
        arrow_schema::fields(self.table.column(column)?).into_iter().next()
    }

    fn read(&self, field: &Field, wanted: Option<&[u32]>) -> Option<Codes> {
        match read_chunk(&self.input, self.group, field, wanted) {
            Some(Ok(Chunk::Codes(codes))) => Some(codes),
            // What cannot be read is told by who reads it in the other way.
            _ => None,
        }
    }

    /// The rows in which a column is not NULL. `None`: the file holds it in another way.
    fn present(&self, column: &str) -> Option<Vec<u32>> {
        let (column, start, length) = chunk_of(self.group, column)?;
        let decode = |bytes: &[u8]| part::guard(|| Codes::present(bytes, column, self.rows()).ok_or("no codes")).ok();
        self.input.read(start, length, decode).ok()?
    }

    /// The rows that `only` tells. `None`: the file holds its column in another way.
    fn choose(&self, only: Only) -> Option<Chosen> {
        match only {
            Only::Filled(column) => self.present(column).map(Chosen::rows),
            Only::Positive(column) => {
                let codes = self.codes(column)?;
                let rows = codes.positive()?;
                let known = vec![(column, codes.of_rows(&rows))];
                Some(Chosen { rows: Some(rows), known })
            }
            Only::Named(column, is_wanted) => self.named(column, is_wanted).map(Chosen::rows),
        }
    }

    /// The rows in which a column has a text that `is_wanted`.
    fn named(&self, column: &str, is_wanted: fn(&str) -> bool) -> Option<Vec<u32>> {
        let mut rows = self.present(column)?;
        let codes = self.read(&self.field(column)?, Some(&rows))?;
        let Values::Text(values) = &codes.values else { return None };
        let wanted: Vec<bool> = values.iter().map(|value| value.is_some_and(is_wanted)).collect();
        let mut of_rows = codes.rows.iter();
        let is_wanted = |code: &u32| wanted.get(*code as usize).copied().unwrap_or(false);
        rows.retain(|_| of_rows.next().is_some_and(is_wanted));
        Some(rows)
    }

    /// Whether a column is certainly NULL in none of the chosen rows.
    fn is_filled(&self, column: &'static str, chosen: &mut Chosen) -> bool {
        if self.null_count(column) == Some(0) {
            return true;
        }
        if StatisticsOf(self.group).is_all_null(column) {
            return false;
        }
        let read = |field: Field| self.read(&field, chosen.rows.as_deref());
        let Some(codes) = self.field(column).and_then(read) else { return false };
        let is_filled = !codes.has_nulls;
        chosen.known.push((column, codes));
        is_filled
    }
}

/// The statistics of a row group by the names of the columns.
#[derive(Debug)]
pub struct StatisticsOf<'a>(pub &'a RowGroupMetaData);

impl StatisticsOf<'_> {
    fn of(&self, column: &str) -> Option<&Statistics> {
        self.0.columns().iter().find(|c| c.column_path().string() == column)?.statistics()
    }

    /// Whether a column is certainly NULL in every row.
    fn is_all_null(&self, column: &str) -> bool {
        self.null_count(column).is_some_and(|nulls| i64::try_from(nulls) == Ok(self.0.num_rows()))
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
        self.is_all_null(column)
            || matches!(self.of(column), Some(Statistics::Boolean(bounds)) if bounds.max_opt() == Some(&false))
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
    batch.filtered(&mask)
}

/// Decodes one row group batch by batch.
pub struct RowGroupReader {
    trace: usize,
    file: String,
    /// The columns asked for, as the table declares them.
    fields: Vec<Field>,
    /// Those of them that the file holds as codes.
    codes: Vec<Option<Codes>>,
    /// For the others that have values.
    reader: Option<ParquetRecordBatchReader>,
    /// For a column without values: NULLs enough for any batch.
    nulls: Vec<Option<ArrayRef>>,
    rows_done: usize,
    rows_left: usize,
    text_bytes_max: usize,
}

impl RowGroupReader {
    /// Begins to read `columns` (absent ones are NULL).
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn new(trace: usize, part: &OpenPart, row_group: usize, columns: &[&str]) -> Result<RowGroupReader, Error> {
        RowGroupReader::of_rows(trace, part, part::open_file(&part.part)?, row_group, columns, Chosen::default())
    }

    /// [`RowGroupReader::new`] of some rows, which rise.
    fn of_rows(
        trace: usize,
        part: &OpenPart,
        input: PartFile,
        row_group: usize,
        columns: &[&str],
        mut chosen: Chosen,
    ) -> Result<RowGroupReader, Error> {
        let file = part.part.path.display().to_string();
        let metadata = part.metadata.clone();
        let group = metadata.metadata().row_group(row_group);
        let rows_of_group = usize::try_from(group.num_rows()).unwrap_or(0);
        let fields = declared_fields(part.part.table, columns).map_err(|what| Error::damaged(&file, what))?;
        let mut codes = Vec::with_capacity(fields.len());
        let (mut others, mut loaded) = (Vec::new(), Vec::new());
        for field in &fields {
            if let Some(of_column) = chosen.take(field.name()) {
                codes.push(Some(of_column));
                continue;
            }
            // Most columns concern other families of calls than most calls: what is all NULL is not decoded.
            let is_filled = !StatisticsOf(group).is_all_null(field.name());
            let chunk = if is_filled { read_chunk(&input, group, field, chosen.rows.as_deref()) } else { None };
            match chunk.transpose().map_err(|what| undecodable(&file, &what))? {
                Some(Chunk::Codes(of_column)) => codes.push(Some(of_column)),
                Some(Chunk::Other(start, bytes)) => {
                    loaded.push((start, bytes));
                    codes.push(None);
                    others.push(field.name().as_str());
                }
                None => codes.push(None),
            }
        }
        if !part::can_be_loaded(group) {
            let is_filled = |name: &&str| !StatisticsOf(group).is_all_null(name);
            others = fields.iter().map(|field| field.name().as_str()).filter(is_filled).collect();
        }
        let input = if part::can_be_loaded(group) { Input::Loaded(loaded) } else { Input::File(input) };
        let held: usize = codes.iter().flatten().map(|codes| codes.values.bytes()).sum();
        if i64::try_from(held).is_ok_and(|held| held > pages::PAGES_BYTES_MAX) {
            return Err(undecodable(&file, &format!("its dictionaries take {held} bytes at the same time: refused")));
        }
        let is_other = |name: &str| others.contains(&name);
        let batch_rows = pages::check(&input, group, is_other, BATCH_ROWS).map_err(|what| undecodable(&file, &what))?;
        let mask = ProjectionMask::columns(metadata.parquet_schema(), others.iter().copied());
        let read_others = || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, metadata.clone())
                .with_row_groups(vec![row_group])
                .with_projection(mask)
                .with_batch_size(batch_rows);
            match &chosen.rows {
                Some(rows) => builder.with_row_selection(row_selection(rows, rows_of_group)).build(),
                None => builder.build(),
            }
        };
        let reader = if others.is_empty() { None } else { Some(part::guard(read_others)) };
        let reader = reader.transpose().map_err(|what| undecodable(&file, &what))?;
        let (nulls, rows_left) = (vec![None; fields.len()], chosen.rows.as_ref().map_or(rows_of_group, Vec::len));
        let is_session = part.part.table.name == tables::SESSION.name;
        let text_bytes_max = if is_session { DOCUMENT_BYTES_MAX } else { TEXT_BYTES_MAX };
        Ok(RowGroupReader { trace, file, fields, codes, reader, nulls, rows_done: 0, rows_left, text_bytes_max })
    }

    /// The next rows of the columns that are no codes.
    fn next_of_others(&mut self) -> Option<Result<RecordBatch, Error>> {
        let Some(reader) = &mut self.reader else {
            let options = RecordBatchOptions::new().with_row_count(Some(self.rows_left.min(BATCH_ROWS)));
            let none = RecordBatch::try_new_with_options(Schema::empty().into(), Vec::new(), &options);
            return (self.rows_left > 0).then(|| none.map_err(|error| undecodable(&self.file, &error.to_string())));
        };
        match part::guard(|| reader.next().transpose()) {
            Ok(None) if self.rows_left == 0 => None,
            Ok(None) => {
                let what = format!("a row group ends {} rows early; copy the trace again", self.rows_left);
                self.rows_left = 0;
                Some(Err(Error::damaged(&self.file, what)))
            }
            Ok(Some(record)) if record.num_rows() <= self.rows_left => Some(Ok(record)),
            Ok(Some(_)) => {
                self.rows_left = 0;
                Some(Err(undecodable(&self.file, "a row group holds more rows than its footer says")))
            }
            Err(what) => {
                self.rows_left = 0;
                Some(Err(undecodable(&self.file, &what)))
            }
        }
    }

    /// Puts the columns into the order asked for, NULL where the file has none.
    fn arrange(&mut self, record: &RecordBatch) -> Result<Batch, Error> {
        let rows = record.num_rows();
        let mut fields = Vec::with_capacity(self.fields.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.fields.len());
        let of_codes = |codes: &Codes| codes.array(self.rows_done..self.rows_done + rows);
        for ((field, nulls), codes) in self.fields.iter().zip(&mut self.nulls).zip(&self.codes) {
            let of_others = || record.column_by_name(field.name()).cloned();
            let array = match codes.as_ref().and_then(of_codes).or_else(of_others) {
                Some(array) => array,
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
        Ok(Batch::new(self.trace, record))
    }
}

impl Iterator for RowGroupReader {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.next_of_others()? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let batch = self.arrange(&record);
        self.rows_done += record.num_rows();
        self.rows_left -= record.num_rows();
        Some(batch)
    }
}

/// The length of the longest text of a column, if it has texts and they are not all short together.
fn longest_text(array: &ArrayRef) -> Option<usize> {
    longest(array.as_dictionary_opt::<Int32Type>()?.values().as_string_opt::<i32>()?)
}

fn has_long_texts(values: &Values) -> bool {
    matches!(values, Values::Text(texts) if longest(texts).is_some_and(|bytes| bytes > TEXT_BYTES_MAX))
}

fn longest(texts: &StringArray) -> Option<usize> {
    if texts.values().len() <= TEXT_BYTES_MAX {
        return None;
    }
    texts.offsets().lengths().max()
}

/// Some rows of a row group, as Parquet's own reader takes them.
fn row_selection(rows: &[u32], rows_of_group: usize) -> RowSelection {
    let ranges =
        rows.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(*run.first()? as usize..*run.last()? as usize + 1));
    RowSelection::from_consecutive_ranges(ranges, rows_of_group)
}

/// A column of one row group.
enum Chunk {
    Codes(Codes),
    /// What Parquet's own reader takes, and says what is wrong with it: where it begins, and its bytes.
    Other(u64, Bytes),
}

/// A column of a row group, where its bytes begin, and how many they are; `None`: the file does not have it, or the row
/// group is too large to be loaded.
fn chunk_of<'a>(group: &'a RowGroupMetaData, name: &str) -> Option<(&'a ColumnChunkMetaData, u64, usize)> {
    let leaf = |column: &&ColumnChunkMetaData| column.column_path().parts().first().is_some_and(|part| part == name);
    let column = group.columns().iter().find(leaf).filter(|_| part::can_be_loaded(group))?;
    let (start, length) = column.byte_range();
    Some((column, start, usize::try_from(length).ok()?))
}

/// Reads a column, as codes only the rows `wanted`; `None`: there is no such chunk.
fn read_chunk(
    input: &PartFile,
    group: &RowGroupMetaData,
    field: &Field,
    wanted: Option<&[u32]>,
) -> Option<Result<Chunk, String>> {
    let (column, start, length) = chunk_of(group, field.name())?;
    let rows = usize::try_from(group.num_rows()).ok()?;
    let has_codes = matches!(field.data_type(), DataType::Int64 | DataType::Int32 | DataType::Dictionary(..));
    let decode = |bytes: &[u8]| {
        let decode = || Codes::decode(bytes, column, rows, wanted).ok_or("no codes");
        let codes = if has_codes { part::guard(decode).ok() } else { None };
        codes.map_or_else(|| Chunk::Other(start, Bytes::copy_from_slice(bytes)), Chunk::Codes)
    };
    Some(input.read(start, length, decode).map_err(|error| error.to_string()))
}

fn declared_fields(table: &Table, columns: &[&str]) -> Result<Vec<Field>, String> {
    let declared = arrow_schema::schema(table);
    let field = |name: &&str| declared.field_with_name(name).cloned();
    columns.iter().map(field).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn undecodable(file: &str, what: &str) -> Error {
    Error::damaged(file, format!("cannot be decoded: {what}; copy the trace again"))
}
