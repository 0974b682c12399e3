//! Opens one Parquet file of a trace: checksum first, then the footer within bounds, then the schema against the
//! declared one. Only then may it be decoded.

use crate::codes;
use crate::error::Error;
use crate::files::{Span, SpanReader};
use crate::footer;
use crate::trace::Part;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::{Buf, Bytes};
use ipc_schema::manifest::BLOCK_BYTES;
use ipc_schema::tables::{Table, arrow_schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// A footer of a trace with all columns takes some 20 KiB per row group.
const FOOTER_BYTES_MAX: u32 = 32 << 20;
/// The recorder rotates its parts long before.
const ROW_GROUPS_MAX: usize = 100_000;
/// Other writers make row groups of a million rows; some queries hold a few columns of a row group.
const ROW_GROUP_ROWS_MAX: i64 = 1 << 20;
/// What one column of one row group may decode to.
const COLUMN_BYTES_MAX: i64 = 1 << 30;
/// The headers of the pages alone make it less: what claims more is a few bytes that decode for hours.
const ROWS_PER_BYTE_MAX: u64 = 1024;
/// Of a column chunk that is read whole: a hundred times what the recorder writes.
const CHUNK_BYTES_MAX: i64 = 32 << 20;
const MAGIC: &[u8; 4] = b"PAR1";
/// Fits the second-level cache together with what else is there.
const HASH_BUFFER_BYTES: usize = 64 << 10;

/// A file read by position, so that threads can share it.
#[derive(Clone, Debug)]
pub struct PartFile {
    span: Span,
    /// What vouches for its blocks, if anything does.
    blocks: Option<Arc<[u64]>>,
}

/// Why bytes cannot be had.
const BLOCK_DIFFERS: &str = "a checksum differs from trace.json: the file was damaged after recording";

impl PartFile {
    /// Calls `read` with `length` bytes from `start`, which the checksums of their blocks vouch for where there are some.
    /// They are read once: what is hashed is what is decoded.
    ///
    /// # Errors
    /// They lie outside the file, cannot be read, or are not those that were recorded.
    pub fn read<T>(&self, start: u64, length: usize, read: impl FnOnce(&[u8]) -> T) -> ParquetResult<T> {
        // Before the allocation: a damaged length must not take memory.
        let end = start
            .checked_add(length as u64)
            .filter(|end| *end <= self.len())
            .ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} of a file of {} bytes", self.len())))?;
        let block = BLOCK_BYTES as u64;
        let (from, to) = match self.blocks {
            Some(_) => (start / block * block, end.next_multiple_of(block).min(self.len())),
            None => (start, end),
        };
        let wanted = usize::try_from(to - from).map_err(|error| ParquetError::General(error.to_string()))?;
        READ_BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            let bytes = &mut buffer[..wanted];
            self.span.read_exact_at(bytes, from)?;
            self.verify_blocks(from / block, bytes)?;
            let skipped = (start - from) as usize;
            let value = read(&bytes[skipped..skipped + length]);
            buffer.truncate(READ_BUFFER_BYTES_MAX);
            Ok(value)
        })
    }

    /// Compares whole blocks, of which the first has number `first`.
    fn verify_blocks(&self, first: u64, bytes: &[u8]) -> ParquetResult<()> {
        let Some(blocks) = &self.blocks else { return Ok(()) };
        let expected = usize::try_from(first).ok().and_then(|first| blocks.get(first..)).unwrap_or_default();
        let mut found = bytes.chunks(BLOCK_BYTES).map(XxHash3_64::oneshot);
        let differs = || ParquetError::General(BLOCK_DIFFERS.to_owned());
        let same = expected.len() >= bytes.len().div_ceil(BLOCK_BYTES)
            && expected.iter().zip(&mut found).all(|(a, b)| *a == b);
        if same { Ok(()) } else { Err(differs()) }
    }
}

/// What a thread keeps of its buffer between two reads.
const READ_BUFFER_BYTES_MAX: usize = 4 << 20;

thread_local! {
    /// New memory costs as much as reading into it.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Length for PartFile {
    fn len(&self) -> u64 {
        self.span.bytes()
    }
}

/// What Parquet's own reader gets of a file.
#[derive(Clone, Debug)]
pub enum Input {
    /// The column chunks that it will ask for, which were read already, and where they begin.
    Loaded(Vec<(u64, Bytes)>),
    /// All of it, page by page: of row groups that are too large to be loaded.
    File(PartFile),
}

impl Length for Input {
    fn len(&self) -> u64 {
        match self {
            Input::Loaded(chunks) => chunks.iter().map(|(start, bytes)| start + bytes.len() as u64).max().unwrap_or(0),
            Input::File(file) => file.len(),
        }
    }
}

impl ChunkReader for Input {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(match self {
            Input::Loaded(chunks) => Box::new(loaded(chunks, start)?.reader()),
            Input::File(file) => {
                Box::new(BufReader::with_capacity(512, SpanReader { span: file.span.clone(), position: start }))
            }
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Input::Loaded(chunks) => {
                let mut bytes = loaded(chunks, start)?;
                if length > bytes.len() {
                    return Err(ParquetError::EOF(format!("{length} bytes at {start}")));
                }
                Ok(bytes.split_to(length))
            }
            Input::File(file) => file.read(start, length, Bytes::copy_from_slice),
        }
    }
}

/// What was loaded from `start` on.
fn loaded(chunks: &[(u64, Bytes)], start: u64) -> ParquetResult<Bytes> {
    let of_chunk = |(begin, bytes): &(u64, Bytes)| {
        let skipped = usize::try_from(start.checked_sub(*begin)?).ok()?;
        (skipped < bytes.len()).then(|| bytes.slice(skipped..))
    };
    chunks.iter().find_map(of_chunk).ok_or_else(|| ParquetError::EOF(format!("nothing was read at {start}")))
}

/// A part whose checksum, footer and schema hold.
#[derive(Clone, Debug)]
pub struct OpenPart {
    /// Where it is.
    pub part: Part,
    /// Footer and schema; text columns are dictionaries.
    pub metadata: ArrowReaderMetadata,
}

/// Whether [`open`] reads the whole file to check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The whole file is read and compared with the manifest, whatever is needed of it.
    Whole,
    /// Where the manifest has checksums of blocks, those of what is read are compared as it is read; otherwise the whole
    /// file is.
    Verify,
    /// It was verified earlier in this run.
    Verified,
}

/// Opens a part.
///
/// # Errors
/// [`Error::Damaged`] with the first thing that is wrong.
pub fn open(part: &Part, checksum: Checksum) -> Result<OpenPart, Error> {
    let file = open_file(part)?;
    if checksum == Checksum::Whole || (checksum == Checksum::Verify && part.blocks.is_none()) {
        verify_checksum(part, &file)?;
    }
    let damaged = |what: String| Error::damaged(part.path.display().to_string(), what);
    let footer = read_footer(&file).map_err(damaged)?;
    check_bounds(&footer, file.len()).map_err(damaged)?;
    if let Some(listed) = part.listed.filter(|l| l.rows != rows_of(&footer)) {
        let what = format!("holds {} rows, trace.json lists {}; copy the trace again", rows_of(&footer), listed.rows);
        return Err(damaged(what));
    }
    if checksum == Checksum::Verify && part.blocks.is_some() && !footer.row_groups().iter().all(can_be_loaded) {
        verify_checksum(part, &file)?;
    }
    let metadata = guard(|| with_schema(part.table, footer)).map_err(damaged)?;
    Ok(OpenPart { part: part.clone(), metadata })
}

/// Whether the chunks of a row group are read whole, as those of the recorder's can be. Those of others are read page by
/// page, which the checksums of blocks cannot vouch for.
pub fn can_be_loaded(group: &RowGroupMetaData) -> bool {
    usize::try_from(group.num_rows()).is_ok_and(|rows| rows <= codes::ROWS_MAX)
        && group.columns().iter().all(|column| column.compressed_size() <= CHUNK_BYTES_MAX)
}

/// The file of a part, for decoding.
///
/// # Errors
/// [`Error::Damaged`] when it cannot be opened or has changed its size.
pub fn open_file(part: &Part) -> Result<PartFile, Error> {
    let unreadable = |error: io::Error| Error::unreadable(&part.path, &error);
    let span = match &part.within {
        Some(within) => within.span(part.bytes),
        None => File::open(&part.path).and_then(Span::whole).map_err(unreadable)?,
    };
    if span.bytes() != part.bytes {
        return Err(Error::damaged(part.path.display().to_string(), "changed while it was read; try again"));
    }
    Ok(PartFile { span, blocks: part.blocks.clone() })
}

fn rows_of(footer: &ParquetMetaData) -> u64 {
    u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0)
}

fn verify_checksum(part: &Part, file: &PartFile) -> Result<(), Error> {
    if part.listed.is_none() {
        return Ok(());
    }
    let found = read_through(part, file, |_| Ok(()))?;
    compare_checksum(part, found)
}

fn compare_checksum(part: &Part, found: u128) -> Result<(), Error> {
    if part.listed.is_none_or(|listed| listed.checksum == found) {
        return Ok(());
    }
    let what = "checksum differs from trace.json: the file was damaged after recording; copy the trace again";
    Err(Error::damaged(part.path.display().to_string(), what))
}

/// Copies a part as it is.
///
/// # Errors
/// It is not what was recorded, or cannot be read or written.
pub fn copy(part: &Part, to: &mut impl Write) -> Result<(), Error> {
    let found = read_through(part, &open_file(part)?, |bytes| Ok(to.write_all(bytes)?))?;
    compare_checksum(part, found)
}

/// Calls `each` with the whole file, piece by piece; its XXH3 128.
fn read_through(part: &Part, file: &PartFile, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<u128, Error> {
    let mut hasher = twox_hash::XxHash3_128::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut position = 0;
    loop {
        let read = file.span.read_at(&mut buffer, position);
        let read = read.map_err(|error| Error::unreadable(&part.path, &error))?;
        if read == 0 {
            return Ok(hasher.finish_128());
        }
        hasher.write(&buffer[..read]);
        each(&buffer[..read])?;
        position += read as u64;
    }
}

fn read_footer(file: &PartFile) -> Result<ParquetMetaData, String> {
    let not_parquet = || "not a Parquet file, or truncated; copy the trace again".to_owned();
    if file.len() < 12 {
        return Err(not_parquet());
    }
    let read = |start, length| file.read(start, length, <[u8]>::to_vec).map_err(|error| error.to_string());
    let head = read(0, 4)?;
    let tail = read(file.len() - 8, 8)?;
    if &head[..] != MAGIC || &tail[4..] != MAGIC {
        return Err(not_parquet());
    }
    let length = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    if u64::from(length) + 12 > file.len() {
        return Err(not_parquet());
    }
    if length > FOOTER_BYTES_MAX {
        return Err(format!("its footer claims {length} bytes, more than a trace can need: refused"));
    }
    let footer = Bytes::from(read(file.len() - 8 - u64::from(length), length as usize)?);
    footer::check(&footer)
        .and_then(|()| guard(|| ParquetMetaDataReader::decode_metadata(&footer)))
        .map_err(|what| format!("its footer is damaged: {what}"))
}

fn check_bounds(footer: &ParquetMetaData, file_bytes: u64) -> Result<(), String> {
    if footer.num_row_groups() > ROW_GROUPS_MAX {
        return Err(format!("claims {} row groups, more than a trace can need: refused", footer.num_row_groups()));
    }
    let (mut rows, mut chunk_bytes) = (0i64, 0u64);
    for group in footer.row_groups() {
        if !(0..=ROW_GROUP_ROWS_MAX).contains(&group.num_rows()) {
            return Err(format!("claims a row group of {} rows: refused", group.num_rows()));
        }
        rows = rows.saturating_add(group.num_rows());
        chunk_bytes = chunk_bytes.saturating_add(check_columns(group, file_bytes)?);
    }
    if chunk_bytes > file_bytes {
        return Err(format!("its columns take {chunk_bytes} bytes, the file has {file_bytes}: refused"));
    }
    if rows.unsigned_abs() > file_bytes.saturating_mul(ROWS_PER_BYTE_MAX) {
        return Err(format!("claims {rows} rows in {file_bytes} bytes: refused"));
    }
    if rows != footer.file_metadata().num_rows() {
        return Err(format!("its row groups hold {rows} rows, its footer says {}", footer.file_metadata().num_rows()));
    }
    Ok(())
}

/// The bytes that the columns of a row group take.
fn check_columns(group: &RowGroupMetaData, file_bytes: u64) -> Result<u64, String> {
    let mut total: u64 = 0;
    for column in group.columns() {
        let name = column.column_path().string();
        let bytes = column.uncompressed_size();
        if !(0..=COLUMN_BYTES_MAX).contains(&bytes) {
            return Err(format!("claims {bytes} bytes for column {name} of one row group: refused"));
        }
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let length = u64::try_from(column.compressed_size()).ok();
        let inside = u64::try_from(start)
            .ok()
            .zip(length)
            .and_then(|(start, length)| start.checked_add(length))
            .is_some_and(|end| end <= file_bytes);
        if !inside {
            return Err(format!("places column {name} outside the file; copy the trace again"));
        }
        total = total.saturating_add(length.unwrap_or(0));
    }
    Ok(total)
}

/// Checks the types against the declared ones and reads text as dictionaries.
fn with_schema(table: &Table, footer: ParquetMetaData) -> Result<ArrowReaderMetadata, String> {
    let footer = Arc::new(footer);
    let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::try_new(footer.clone(), options()).map_err(|error| error.to_string())?;
    let declared = arrow_schema::schema(table);
    check_schema(table, &declared, found.schema())?;
    let fields: Vec<Field> = found
        .schema()
        .fields()
        .iter()
        .map(|field| match declared.field_with_name(field.name()) {
            Ok(known) if known.data_type() == &arrow_schema::text() => {
                field.as_ref().clone().with_data_type(arrow_schema::text())
            }
            _ => field.as_ref().clone(),
        })
        .collect();
    ArrowReaderMetadata::try_new(footer, options().with_schema(Arc::new(Schema::new(fields))))
        .map_err(|error| error.to_string())
}

fn check_schema(table: &Table, declared: &Schema, found: &Schema) -> Result<(), String> {
    for field in declared.fields() {
        let name = field.name();
        match found.field_with_name(name) {
            Ok(column) if same_type(field.data_type(), column.data_type()) => {}
            Ok(column) => {
                let (is, should) = (column.data_type(), in_file(field.data_type()));
                return Err(format!(
                    "column {name} is {is}, the table {} wants {should}: not written by ipc-recorder",
                    table.name
                ));
            }
            // A column that this version added is NULL in older traces; twins say nothing new.
            Err(_) if field.is_nullable() || matches!(field.data_type(), DataType::Timestamp(..)) => {}
            Err(_) => {
                return Err(format!("has no column {name}: not a part of the table {}", table.name));
            }
        }
    }
    Ok(())
}

fn same_type(declared: &DataType, found: &DataType) -> bool {
    match (declared, found) {
        (DataType::List(a), DataType::List(b)) => a.data_type() == b.data_type(),
        _ => &in_file(declared) == found,
    }
}

fn in_file(declared: &DataType) -> DataType {
    match declared {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder on untrusted bytes: its errors and its panics become text.
///
/// # Errors
/// What the decoder said.
pub fn guard<T, E: std::fmt::Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(before);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("the decoder gave up: {}", text.unwrap_or("unknown cause")))
        }
    }
}

/// Keeps the panics that [`guard`] turns into errors from being printed as well.
pub fn silence_guarded_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !GUARDED.get() {
            print(info);
        }
    }));
}
