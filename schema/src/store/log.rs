//! A log: rows that no part holds yet, in blocks that can be read as soon as they are written.
//!
//! A block is one zstd frame with a checksum. Decompressed it is one or more Arrow IPC streams, one after the other; the
//! metadata of each stream's schema says what its rows are ([`TABLE`], [`STANDING`], [`UNTIL_NS`]); their columns are as
//! [`compact`] says, but that Int64 may stand as Int32 ([`BASE`]). A log that was cut short is whole up to its last whole block. A
//! segment that another one follows ends with an empty block.

use super::compact;
use crate::tables::{self, Table};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use zstd::zstd_safe::DCtx;

/// The name of the table.
pub const TABLE: &str = "table";
/// One of [`Standing::name`].
pub const STANDING: &str = "standing";
/// Everything that ended before this instant is in the log up to here: nanoseconds since the epoch.
pub const UNTIL_NS: &str = "until_ns";

/// In the metadata of a column of Int32 that stands for one of Int64: what is to be added to its values.
pub const BASE: &str = "base";

/// The folder of a trace's log.
pub const FOLDER: &str = "log";
/// How the name of a segment ends.
const EXTENSION: &str = "arrows.zst";
/// Rows of one stream; more are cut.
const ROWS_MAX: usize = 16_384;
/// Bytes of a block, decompressed: a reader refuses larger ones.
const BLOCK_BYTES_MAX: u64 = 256 << 20;
/// Fast, and a fifth the size of none; measured in `docs/decisions`.
const LEVEL: i32 = 1;

/// The name of a segment.
pub fn name_of(number: u32) -> String {
    format!("{number:05}.{EXTENSION}")
}

/// The number of the segment with this name; `None`: it is the name of none.
pub fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()
}

/// Whether rows can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are as they will be in a part.
    Final,
    /// They tell what has not ended: a later row with the same id takes their place.
    Open,
}

impl Standing {
    /// The value of [`STANDING`].
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Final => "final",
            Standing::Open => "open",
        }
    }

    fn by_name(name: &str) -> Option<Standing> {
        [Standing::Final, Standing::Open].into_iter().find(|standing| standing.name() == name)
    }
}

/// Rows of one table.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The table.
    pub table: &'static Table,
    /// Whether they can still change.
    pub standing: Standing,
    /// Everything that ended before this instant is in the log up to here.
    pub until_ns: i64,
    /// The rows, as [`compact`] says.
    pub batch: RecordBatch,
}

/// Writes blocks.
pub struct BlockWriter {
    plain: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl BlockWriter {
    /// A writer of blocks.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> io::Result<BlockWriter> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(BlockWriter { plain: Vec::new(), compressor })
    }

    /// Adds rows to the block.
    ///
    /// # Errors
    /// They are not those of a table.
    pub fn add(
        &mut self,
        table: &Table,
        standing: Standing,
        until_ns: i64,
        batch: &RecordBatch,
    ) -> Result<(), ArrowError> {
        compact::check(table, batch).map_err(ArrowError::SchemaError)?;
        for first in (0..batch.num_rows()).step_by(ROWS_MAX) {
            let rows = batch.slice(first, ROWS_MAX.min(batch.num_rows() - first));
            let rows = narrow(&filled(table, &rows)?)?;
            let metadata = [
                (TABLE, table.name.to_owned()),
                (STANDING, standing.name().to_owned()),
                (UNTIL_NS, until_ns.to_string()),
            ];
            let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
            let schema = rows.schema_ref().as_ref().clone().with_metadata(HashMap::from(metadata));
            let mut stream = StreamWriter::try_new(&mut self.plain, &schema)?;
            stream.write(&rows)?;
            stream.finish()?;
        }
        Ok(())
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// The block; the next one begins.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn finish(&mut self) -> io::Result<Vec<u8>> {
        let block = self.compressor.compress(&self.plain)?;
        self.plain.clear();
        Ok(block)
    }

    /// An empty block, whatever was added: that nothing of a segment is missing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn end(&mut self) -> io::Result<Vec<u8>> {
        self.compressor.compress(&[])
    }
}

/// The columns that tell anything.
fn filled(table: &Table, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema_ref();
    let tells = |index: &usize| {
        let is_column = table.column(schema.field(*index).name()).is_some(); // no twin
        is_column && rows.column(*index).null_count() < rows.num_rows()
    };
    rows.project(&(0..rows.num_columns()).filter(tells).collect::<Vec<usize>>())
}

/// Columns of 64 bits whose values lie near each other in 32 bits: there is half as much to compress, and twice as fast.
fn narrow(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    replace(rows, |field, values| {
        let wide = values.as_primitive_opt::<Int64Type>()?;
        let (least, largest) = (min(wide)?, max(wide)?);
        largest.checked_sub(least).filter(|range| *range <= i32::MAX.into())?;
        // What stands below a NULL may be anything.
        let offsets = wide.unary::<_, Int32Type>(|value| value.wrapping_sub(least) as i32);
        let metadata = HashMap::from([(BASE.to_owned(), least.to_string())]);
        let field = Field::new(field.name(), DataType::Int32, field.is_nullable()).with_metadata(metadata);
        Some((field, Arc::new(offsets) as ArrayRef))
    })
}

/// The opposite of [`narrow`].
fn widen(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    replace(rows, |field, values| {
        let base: i64 = field.metadata().get(BASE)?.parse().ok()?;
        let offsets = values.as_primitive_opt::<Int32Type>()?;
        let wide = offsets.unary::<_, Int64Type>(|offset| base.wrapping_add(offset.into()));
        Some((Field::new(field.name(), DataType::Int64, field.is_nullable()), Arc::new(wide) as ArrayRef))
    })
}

/// Rows with other columns in the places of some.
fn replace(
    rows: &RecordBatch,
    other: impl Fn(&Field, &ArrayRef) -> Option<(Field, ArrayRef)>,
) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema_ref();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, values)| {
        other(field, values)
            .map_or_else(|| (field.clone(), values.clone()), |(field, values)| (Arc::new(field), values))
    });
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = columns.unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// Reads the blocks of a log, which may be damaged or forged, until one is not whole.
pub struct Blocks<R> {
    reader: BufReader<R>,
    decompressor: DCtx<'static>,
    plain: Vec<u8>,
    /// Bytes of the whole blocks so far.
    pub whole_bytes: u64,
}

impl<R: Read> Blocks<R> {
    /// The blocks that `reader` yields.
    pub fn new(reader: R) -> Blocks<R> {
        Blocks { reader: BufReader::new(reader), decompressor: DCtx::create(), plain: Vec::new(), whole_bytes: 0 }
    }

    /// The rows of the next block; `None` behind the last one.
    ///
    /// # Errors
    /// What is wrong with it: neither it nor what follows can be believed.
    #[expect(clippy::should_implement_trait, reason = "it ends with the first error, and tells how far it came")]
    pub fn next(&mut self) -> Option<Result<Vec<Rows>, String>> {
        match self.reader.fill_buf() {
            Ok([]) => None,
            Ok(_) => Some(self.block()),
            Err(error) => Some(Err(error.to_string())),
        }
    }

    fn block(&mut self) -> Result<Vec<Rows>, String> {
        let mut counted = Counted { reader: &mut self.reader, bytes: 0 };
        self.plain.clear();
        let decoder = zstd::stream::read::Decoder::with_context(&mut counted, &mut self.decompressor);
        let mut decoder = decoder.single_frame().take(BLOCK_BYTES_MAX + 1);
        decoder.read_to_end(&mut self.plain).map_err(|error| error.to_string())?;
        if self.plain.len() as u64 > BLOCK_BYTES_MAX {
            return Err(format!("a block of more than {} MiB", BLOCK_BYTES_MAX >> 20));
        }
        drop(decoder);
        let bytes = counted.bytes;
        let rows = rows_of(&self.plain)?;
        self.whole_bytes += bytes;
        Ok(rows)
    }
}

/// Counts what is consumed.
struct Counted<'a, R> {
    reader: &'a mut R,
    bytes: u64,
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.bytes += amount as u64;
        self.reader.consume(amount);
    }
}

/// The rows of a block's streams.
fn rows_of(mut plain: &[u8]) -> Result<Vec<Rows>, String> {
    let mut rows = Vec::new();
    while !plain.is_empty() {
        let mut stream = StreamReader::try_new(&mut plain, None).map_err(|error| error.to_string())?;
        let schema = stream.schema();
        let said = |key: &str| schema.metadata().get(key).ok_or_else(|| format!("a stream without {key}"));
        let table = tables::by_name(said(TABLE)?);
        let standing = Standing::by_name(said(STANDING)?);
        let until_ns = said(UNTIL_NS)?.parse().map_err(|_| format!("a stream whose {UNTIL_NS} is no number"))?;
        for batch in &mut stream {
            let batch = batch.map_err(|error| error.to_string())?;
            // A table or a standing of a later version is nobody's business here.
            if let (Some(table), Some(standing)) = (table, standing) {
                // A run of any length takes a few bytes.
                if batch.num_rows() > ROWS_MAX {
                    return Err(format!("{} rows in one batch", batch.num_rows()));
                }
                let batch = widen(&batch).map_err(|error| error.to_string())?;
                compact::check(table, &batch)?;
                rows.push(Rows { table, standing, until_ns, batch });
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::tables::{LOSSES, OBJECTS, arrow_schema};
    use arrow::array::{
        DictionaryArray, Int32Array, Int32Builder, Int64Array, ListBuilder, StringArray, new_null_array,
    };

    /// Rows of losses: some columns are filled.
    fn losses(from: i64, count: usize) -> RecordBatch {
        let text = |value: &str| -> ArrayRef {
            Arc::new(std::iter::repeat_n(Some(value), count).collect::<DictionaryArray<Int32Type>>())
        };
        let schema = arrow_schema::schema(&LOSSES);
        let column = |field: &Arc<Field>| -> ArrayRef {
            match field.name().as_str() {
                "trace_id" => text("t"),
                "source" => text("ring_full"),
                "count" => Arc::new((0..count).map(|i| (i % 3 > 0).then_some(i as i64)).collect::<Int64Array>()),
                _ => match field.data_type() {
                    DataType::Int64 => Arc::new((0..count).map(|i| from + i as i64).collect::<Int64Array>()),
                    DataType::Int32 => Arc::new(Int32Array::from_iter((0..count).map(|i| (i % 2 > 0).then_some(7)))),
                    other => time_or_null(other, from, count),
                },
            }
        };
        RecordBatch::try_new(Arc::new(schema.clone()), schema.fields().iter().map(column).collect()).unwrap()
    }

    fn time_or_null(kind: &DataType, from: i64, count: usize) -> ArrayRef {
        match kind {
            DataType::Timestamp(..) => {
                compact::time_of(&(Arc::new((0..count).map(|i| from + i as i64).collect::<Int64Array>()) as ArrayRef))
            }
            other => new_null_array(other, count),
        }
    }

    fn whole(rows: &Rows) -> RecordBatch {
        compact::complete(rows.table, &rows.batch).unwrap()
    }

    fn log(blocks: usize) -> (Vec<u8>, Vec<usize>) {
        let mut writer = BlockWriter::new().unwrap();
        let (mut log, mut ends) = (Vec::new(), vec![0]);
        for block in 0..blocks {
            writer.add(&LOSSES, Standing::Final, block as i64, &losses(1_000_000 * block as i64, 50)).unwrap();
            writer.add(&LOSSES, Standing::Open, block as i64, &losses(5, 2)).unwrap();
            log.extend(writer.finish().unwrap());
            ends.push(log.len());
        }
        (log, ends)
    }

    fn read(log: &[u8]) -> (Vec<Rows>, u64, Option<String>) {
        let mut blocks = Blocks::new(log);
        let (mut rows, mut error) = (Vec::new(), None);
        while let Some(block) = blocks.next() {
            match block {
                Ok(block) => rows.extend(block),
                Err(what) => {
                    error = Some(what);
                    break;
                }
            }
        }
        (rows, blocks.whole_bytes, error)
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let (log, ends) = log(3);
        let (rows, bytes, error) = read(&log);
        assert_eq!((rows.len(), bytes, error), (6, ends[3] as u64, None));
        for (block, rows) in rows.chunks(2).enumerate() {
            assert_eq!((rows[0].standing, rows[0].until_ns), (Standing::Final, block as i64));
            assert_eq!(whole(&rows[0]), losses(1_000_000 * block as i64, 50));
            assert_eq!((rows[1].standing, whole(&rows[1])), (Standing::Open, losses(5, 2)));
        }
    }

    #[test]
    fn numbers_far_from_each_other_and_from_zero_come_back() {
        let far = [i64::MIN, i64::MAX, i64::MIN + i64::from(i32::MAX), i64::MAX - i64::from(i32::MAX)];
        for numbers in
            [[far[0], far[1]], [far[0], far[2]], [far[0], far[2] + 1], [far[1], far[3]], [far[1], far[3] - 1]]
        {
            let values = Int64Array::from(vec![Some(numbers[0]), None, Some(numbers[1])]);
            let rows = RecordBatch::try_from_iter([("n", Arc::new(values) as ArrayRef)]).unwrap();
            let narrow = narrow(&rows).unwrap();
            let is_near = numbers[0].abs_diff(numbers[1]) <= i32::MAX as u64;
            assert_eq!(narrow.column(0).data_type() == &DataType::Int32, is_near, "{numbers:?}");
            assert_eq!(widen(&narrow).unwrap(), rows);
        }
    }

    #[test]
    fn lists_and_columns_without_any_value_come_back() {
        let schema = arrow_schema::schema(&OBJECTS);
        let mut lists =
            ListBuilder::new(Int32Builder::new()).with_field(Arc::new(Field::new("element", DataType::Int32, false)));
        lists.append_value([Some(1), Some(2)]);
        lists.append_null();
        let lists: ArrayRef = Arc::new(lists.finish());
        let column = |field: &Arc<Field>| -> ArrayRef {
            match (field.name().as_str(), field.data_type()) {
                ("sem_values", _) => lists.clone(),
                (_, DataType::Int64) => Arc::new(Int64Array::from(vec![1, 2])),
                (_, DataType::Timestamp(..)) => compact::time_of(&(Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)),
                (_, kind) if *kind == arrow_schema::text() => Arc::new(DictionaryArray::new(
                    Int32Array::from(vec![0, 0]),
                    Arc::new(StringArray::from(vec!["sem"])),
                )),
                (_, kind) => new_null_array(kind, 2),
            }
        };
        let Ok(rows) = RecordBatch::try_new(Arc::new(schema.clone()), schema.fields().iter().map(column).collect())
        else {
            panic!("rows of objects");
        };
        let mut writer = BlockWriter::new().unwrap();
        writer.add(&OBJECTS, Standing::Final, 0, &rows).unwrap();
        let (back, _, error) = read(&writer.finish().unwrap());
        assert_eq!((whole(&back[0]), error), (rows, None));
    }

    /// As [`losses`], in the way in which rows are built: the text columns are runs.
    fn losses_in_runs(count: usize) -> RecordBatch {
        let plain = losses(7, count);
        let columns =
            plain.schema_ref().fields().iter().zip(plain.columns()).map(|(field, values)| match field.data_type() {
                kind if *kind == arrow_schema::text() => {
                    let first = arrow::compute::cast(&values.slice(0, 1), &DataType::Utf8).unwrap();
                    let run = compact::constant(&first, count).unwrap();
                    (Field::new(field.name(), run.data_type().clone(), field.is_nullable()), run)
                }
                _ => (field.as_ref().clone(), values.clone()),
            });
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    #[test]
    fn runs_come_back_in_every_batch() {
        let count = 2 * ROWS_MAX + 100;
        let mut writer = BlockWriter::new().unwrap();
        writer.add(&LOSSES, Standing::Final, 0, &losses_in_runs(count)).unwrap();
        let (rows, _, error) = read(&writer.finish().unwrap());
        assert_eq!((rows.len(), error), (3, None));
        let back: Vec<RecordBatch> = rows.iter().map(whole).collect();
        let expected = losses(7, count);
        for (number, back) in back.iter().enumerate() {
            assert_eq!(back.num_rows(), [ROWS_MAX, ROWS_MAX, 100][number]);
            for (found, expected) in back.columns().iter().zip(expected.columns()) {
                let expected = expected.slice(number * ROWS_MAX, back.num_rows());
                let text = arrow_schema::text();
                let plain = |values: &ArrayRef| match values.data_type() {
                    kind if *kind == text => arrow::compute::cast(values, &DataType::Utf8).unwrap(),
                    _ => values.clone(),
                };
                assert_eq!(&plain(found), &plain(&expected));
            }
        }
        let ids = compact::column(&rows[1].batch, "trace_id").unwrap();
        assert_eq!((ids.len(), ids.null_count()), (ROWS_MAX, 0));
    }

    #[test]
    fn a_run_of_a_billion_rows_is_refused() {
        let run = |value: ArrayRef| compact::constant(&value, i32::MAX as usize).unwrap();
        let rows = RecordBatch::try_from_iter([("from_ns", run(Arc::new(Int64Array::from(vec![1]))))]).unwrap();
        let metadata =
            [(TABLE, "losses"), (STANDING, "final"), (UNTIL_NS, "0")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let schema = rows.schema().as_ref().clone().with_metadata(HashMap::from(metadata));
        let mut plain = Vec::new();
        let mut stream = StreamWriter::try_new(&mut plain, &schema).unwrap();
        stream.write(&rows).unwrap();
        stream.finish().unwrap();
        let (found, _, error) = read(&zstd::bulk::compress(&plain, 1).unwrap());
        assert_eq!((found.len(), error.as_deref()), (0, Some("2147483647 rows in one batch")));
    }

    #[test]
    fn a_list_is_no_run() {
        let schema = arrow_schema::schema(&OBJECTS);
        let told = schema.fields().iter().filter(|field| !field.is_nullable() || field.name() == "sem_values");
        let one = |field: &Arc<Field>| -> (Field, ArrayRef) {
            let value: ArrayRef = match field.data_type() {
                DataType::Dictionary(..) => Arc::new(StringArray::from(vec!["t"])),
                DataType::Int64 => Arc::new(Int64Array::from(vec![1])),
                kind => new_null_array(kind, 1),
            };
            let run = compact::constant(&value, 100).unwrap();
            (Field::new(field.name(), run.data_type().clone(), field.is_nullable()), run)
        };
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = told.map(one).unzip();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        assert!(
            compact::check(&OBJECTS, &rows).unwrap_err().starts_with("column sem_values of objects is RunEndEncoded")
        );
        let others: Vec<usize> =
            (0..rows.num_columns()).filter(|i| rows.schema_ref().field(*i).name() != "sem_values").collect();
        assert_eq!(compact::check(&OBJECTS, &rows.project(&others).unwrap()), Ok(()));
    }

    #[test]
    fn a_log_that_is_cut_anywhere_is_whole_to_its_last_block() {
        let (log, ends) = log(3);
        for length in 0..=log.len() {
            let whole = ends.iter().rposition(|end| *end <= length).unwrap();
            let (rows, bytes, error) = read(&log[..length]);
            assert_eq!((rows.len(), bytes), (2 * whole, ends[whole] as u64), "cut at {length}");
            assert_eq!(error.is_some(), !ends.contains(&length), "cut at {length}");
        }
    }

    #[test]
    fn a_byte_that_changed_changes_no_row() {
        let (log, ends) = log(3);
        let (whole, _, _) = read(&log);
        for place in 0..log.len() {
            for bit in 0..8 {
                let mut damaged = log.clone();
                damaged[place] ^= 1 << bit;
                let (rows, bytes, _) = read(&damaged);
                let before = ends.iter().rposition(|end| *end <= place).unwrap();
                assert!(bytes >= ends[before] as u64 && rows.len() >= 2 * before, "bit {bit} of {place}");
                for (rows, expected) in rows.iter().zip(&whole) {
                    assert_eq!(
                        (rows.until_ns, &rows.batch),
                        (expected.until_ns, &expected.batch),
                        "bit {bit} of {place}"
                    );
                }
            }
        }
    }
}
