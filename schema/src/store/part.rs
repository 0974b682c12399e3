//! A part: one whole Parquet file, its checksums made as it is written.

use super::chunk::{Chunk, Codec};
use super::compact;
use crate::manifest::{BLOCK_BYTES, Part};
use crate::tables::{Column, Encoding, Kind, Table, arrow_schema, twin};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowWriterOptions, compute_leaves};
use parquet::basic::{Compression, Encoding as ParquetEncoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use std::hash::Hasher;
use std::io::{self, Write};
use std::sync::Arc;
use twox_hash::{XxHash3_64, XxHash3_128};

/// Rows of a row group: smaller ones cost space (10,000: a third more), larger ones memory.
const ROW_GROUP_ROWS: usize = 122_880;

/// The part of a table that is being written.
pub struct PartWriter<W: Write + Send> {
    table: &'static Table,
    file: SerializedFileWriter<Hashed<W>>,
    codec: Codec,
    /// The columns of the row group that is being filled.
    leaves: Vec<Leaf>,
    group_rows: usize,
    rows: u64,
    /// The last value of the column by which the table is sorted.
    last: Option<i64>,
}

impl<W: Write + Send> PartWriter<W> {
    /// A part of `table` that is written to `to`; `created_by` names the program.
    ///
    /// # Errors
    /// `to` refuses.
    pub fn new(table: &'static Table, created_by: &str, to: W) -> Result<PartWriter<W>> {
        let to = Hashed { to, hash: XxHash3_128::new(), blocks: Blocks::default(), bytes: 0 };
        let file =
            writer_of(arrow_schema::schema(table), properties(table, created_by), to)?.into_serialized_writer()?.0;
        let codec = Codec::new(ZstdLevel::default())?;
        Ok(PartWriter { table, file, codec, leaves: Vec::new(), group_rows: 0, rows: 0, last: None })
    }

    /// Whether rows can follow: whether they rise from the last ones in the column by which the table is sorted.
    pub fn continues_with(&self, batch: &RecordBatch) -> bool {
        match (self.last, range_of(self.table, batch)) {
            (Some(last), Some((first, _))) => first >= last,
            _ => true,
        }
    }

    /// Adds rows, as they stand in a log or complete.
    ///
    /// # Errors
    /// Whatever the rows are written to refuses, or they are not those of the table.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        compact::check(self.table, batch).map_err(ParquetError::General)?;
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (batch.num_rows() - from).min(ROW_GROUP_ROWS - self.group_rows);
            self.add(&batch.slice(from, rows))?;
            from += rows;
            if self.group_rows == ROW_GROUP_ROWS {
                self.end_group()?;
            }
        }
        self.rows += batch.num_rows() as u64;
        self.last = range_of(self.table, batch).map(|(_, last)| last).or(self.last);
        Ok(())
    }

    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.leaves.is_empty() {
            let leaves = self.table.columns.iter().flat_map(|column| Leaf::of(self.table, column));
            self.leaves = leaves.collect::<Result<_>>()?;
        }
        let mut leaves = self.leaves.iter_mut();
        for column in self.table.columns {
            let values = rows.column_by_name(column.name);
            for (leaf, is_twin) in leaves.by_ref().take(leaves_of(column)).zip([false, true]) {
                let twin =
                    if is_twin { values.map(compact::flat).transpose()?.as_ref().map(compact::time_of) } else { None };
                leaf.add(twin.as_ref().or(values), rows.num_rows())?;
            }
        }
        self.group_rows += rows.num_rows();
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let columns = self.file.schema_descr().columns().to_vec();
        let mut group = self.file.next_row_group()?;
        for (leaf, column) in self.leaves.drain(..).zip(columns) {
            match leaf.values {
                Values::Few(chunk) => {
                    let (bytes, closed) = chunk.close(&column, &mut self.codec)?;
                    group.append_column(&bytes, closed)?;
                }
                Values::Many(writer) => writer.close()?.append_to_row_group(&mut group)?,
            }
        }
        group.close()?;
        self.group_rows = 0;
        Ok(())
    }

    /// Bytes so far, as far as they are encoded.
    pub fn bytes(&self) -> u64 {
        let in_progress: usize = self.leaves.iter().map(Leaf::bytes).sum();
        self.file.inner().bytes + in_progress as u64
    }

    /// Completes the part; what the manifest says of it, under the name `file`.
    ///
    /// # Errors
    /// Whatever the rows are written to refuses.
    pub fn finish(mut self, file: String) -> Result<(W, Part)> {
        self.end_group()?;
        let Hashed { to, hash, blocks, bytes } = self.file.into_inner()?;
        let part = Part {
            table: self.table.name.into(),
            file,
            rows: self.rows,
            bytes,
            checksum: format!("xxh3_128:{:032x}", hash.finish_128()),
            blocks: Some(blocks.finish()),
        };
        Ok((to, part))
    }
}

/// The Parquet columns of a column: an instant has a twin.
fn leaves_of(column: &Column) -> usize {
    if column.kind == Kind::Instant { 2 } else { 1 }
}

/// A column of a row group that is being filled.
struct Leaf {
    table: &'static Table,
    field: Field,
    /// Whether its values rise: codes are no use as soon as there are two of them.
    rises: bool,
    values: Values,
}

/// Its values.
enum Values {
    Few(Chunk),
    Many(Box<ArrowColumnWriter>),
}

impl Leaf {
    /// Those of a column.
    fn of(table: &'static Table, column: &'static Column) -> impl Iterator<Item = Result<Leaf>> {
        arrow_schema::fields(column).into_iter().map(move |field| {
            let values = match Chunk::new(field.data_type()) {
                Some(chunk) => Values::Few(chunk),
                None => Values::Many(Box::new(column_writer(table, &field)?)),
            };
            Ok(Leaf { table, field, rises: column.encoding == Encoding::Delta, values })
        })
    }

    fn add(&mut self, values: Option<&ArrayRef>, rows: usize) -> Result<()> {
        match &mut self.values {
            Values::Few(chunk) => {
                chunk.add(values, rows)?;
                if chunk.is_diverse(self.rises) {
                    let so_far = chunk.to_array(self.field.data_type())?;
                    let mut writer = column_writer(self.table, &self.field)?;
                    write(&mut writer, &self.field, &so_far)?;
                    self.values = Values::Many(Box::new(writer));
                }
                Ok(())
            }
            Values::Many(writer) => {
                let values = match values {
                    Some(values) => compact::flat(values)?,
                    None => new_null_array(self.field.data_type(), rows),
                };
                write(writer, &self.field, &values)
            }
        }
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::Few(chunk) => chunk.encoded_bytes(),
            Values::Many(writer) => writer.get_estimated_total_bytes(),
        }
    }
}

fn write(writer: &mut ArrowColumnWriter, field: &Field, values: &ArrayRef) -> Result<()> {
    compute_leaves(field, values)?.iter().try_for_each(|leaf| writer.write(leaf))
}

/// Parquet's writer of one column: that of a file which has no other, for only all of a file's are to be had at once, and
/// each holds what zstd needs.
fn column_writer(table: &Table, field: &Field) -> Result<ArrowColumnWriter> {
    let file = writer_of(Schema::new(vec![field.clone()]), properties(table, ""), io::sink())?;
    let mut writers = file.into_serialized_writer()?.1.create_column_writers(0)?;
    writers.pop().ok_or_else(|| ParquetError::General(format!("no column {}", field.name())))
}

fn writer_of<W: Write + Send>(schema: Schema, properties: WriterProperties, to: W) -> Result<ArrowWriter<W>> {
    // Without Arrow's own schema every reader sees plain UTF-8.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(to, Arc::new(schema), options)
}

/// The least and the last value of the column by which the rows of a table rise; NULLs come last.
fn range_of(table: &Table, batch: &RecordBatch) -> Option<(i64, i64)> {
    let column = compact::column(batch, table.sorted_by?)?;
    let values = column.as_primitive_opt::<Int64Type>()?;
    let filled = values.len() - values.null_count();
    (filled > 0).then(|| (values.value(0), values.value(filled - 1)))
}

fn properties(table: &Table, created_by: &str) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(created_by.to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    let mut leaf = 0;
    for column in table.columns {
        let names = match column.kind {
            Kind::Instant => vec![column.name.to_owned(), twin(column.name)],
            _ => vec![column.name.to_owned()],
        };
        if table.sorted_by == Some(column.name) {
            let rising = SortingColumn { column_idx: leaf, descending: false, nulls_first: false };
            builder = builder.set_sorting_columns(Some(vec![rising]));
        }
        leaf += names.len() as i32;
        for name in names.into_iter().filter(|_| column.encoding == Encoding::Delta) {
            let path = ColumnPath::new(vec![name]);
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, ParquetEncoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}

/// Hashes what is written.
struct Hashed<W> {
    to: W,
    hash: XxHash3_128,
    blocks: Blocks,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.to.write(data)?;
        self.hash.write(&data[..written]);
        self.blocks.add(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The checksums of the blocks of a file.
#[derive(Default)]
struct Blocks {
    hash: XxHash3_64,
    /// Bytes of the block that is being filled.
    filled: usize,
    /// The checksums of the others, as the manifest spells them.
    spelt: String,
}

impl Blocks {
    fn add(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(BLOCK_BYTES - self.filled));
            self.hash.write(now);
            self.filled += now.len();
            data = later;
            if self.filled == BLOCK_BYTES {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let hash = std::mem::take(&mut self.hash).finish();
        self.spelt += &format!("{hash:016x}");
        self.filled = 0;
    }

    fn finish(mut self) -> String {
        if self.filled > 0 {
            self.close();
        }
        self.spelt
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::tables::{CALLS, OBJECTS};
    use arrow::array::{
        BooleanArray, DictionaryArray, Int32Array, Int32Builder, Int64Array, ListBuilder, RecordBatchOptions,
    };
    use arrow::compute::{cast, concat_batches, sort};
    use arrow::datatypes::{DataType, Int32Type};
    use arrow::util::display::array_value_to_string;
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection};
    use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
    use parquet::file::page_index::column_index::ColumnIndexMetaData;
    use std::ops::Range;

    /// Numbers that look random; the same for the same seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// Values of a column in so many rows: one for all, in runs, alternating, all different, or none.
    fn numbers(random: &mut Random, habit: u64, nullable: bool, from: usize, rows: usize) -> Vec<Option<i64>> {
        let (mut value, mut left) = (None, 0);
        let base = random.next(1 << 30) as i64;
        let next = |row: usize| {
            if left == 0 {
                left = match habit {
                    0 => rows,
                    1 => 1 + random.next(50) as usize,
                    2 => 1 + random.next(3) as usize,
                    _ => 1,
                };
                let is_null = nullable && (habit == 5 || random.next(4) == 0);
                value = (!is_null).then(|| match habit {
                    0..=2 => random.next(5) as i64 - 2,
                    3 => base + (from + row) as i64,
                    _ => random.next(1 << 40) as i64 - (1 << 39),
                });
            }
            left -= 1;
            value
        };
        (0..rows).map(next).collect()
    }

    fn array(kind: &DataType, numbers: &[Option<i64>], long: bool) -> ArrayRef {
        let spell = |number: i64| if long { format!("{number:-^70}") } else { format!("text {number}") };
        match kind {
            DataType::Dictionary(..) => {
                let texts: Vec<Option<String>> = numbers.iter().map(|number| number.map(spell)).collect();
                Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
            }
            DataType::Boolean => Arc::new(numbers.iter().map(|n| n.map(|n| n > 0)).collect::<BooleanArray>()),
            DataType::Int32 => Arc::new(numbers.iter().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
            DataType::List(_) => {
                let element = Arc::new(Field::new("element", DataType::Int32, false));
                let mut lists = ListBuilder::new(Int32Builder::new()).with_field(element);
                numbers.iter().for_each(|n| lists.append_option(n.map(|n| (0..n % 3).map(|i| Some(i as i32)))));
                Arc::new(lists.finish())
            }
            _ => Arc::new(numbers.iter().copied().collect::<Int64Array>()),
        }
    }

    /// The first value, as a run of all rows.
    fn run_of(values: &ArrayRef, rows: usize) -> ArrayRef {
        let first = match values.data_type() {
            DataType::Dictionary(..) => cast(&values.slice(0, 1), &DataType::Utf8).unwrap(),
            _ => values.slice(0, 1),
        };
        compact::constant(&first, rows).unwrap()
    }

    /// Rows as they may stand in a log.
    fn rows(random: &mut Random, table: &Table, from: usize, rows: usize) -> RecordBatch {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for column in table.columns {
            let kind = arrow_schema::fields(column)[0].data_type().clone();
            let habit = if column.encoding == Encoding::Delta { 3 } else { random.next(6) };
            if column.nullable && habit == 5 && random.next(2) == 0 {
                continue;
            }
            let numbers = numbers(random, habit, column.nullable, from, rows);
            let values = array(&kind, &numbers, random.next(3) == 0);
            let is_run = habit == 0 && rows > 0 && numbers[0].is_some() && !matches!(kind, DataType::List(_));
            let values = if is_run { run_of(&values, rows) } else { values };
            fields.push(Field::new(column.name, values.data_type().clone(), column.nullable));
            columns.push(values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
    }

    fn read(bytes: &bytes::Bytes, schema: &Arc<Schema>) -> RecordBatch {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().with_batch_size(10_000);
        let text = |values: &ArrayRef, field: &Field| cast(values, field.data_type()).unwrap();
        let batches = reader.build().unwrap().map(|batch| {
            let columns = batch.unwrap().columns().iter().zip(schema.fields()).map(|(v, f)| text(v, f)).collect();
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        });
        concat_batches(schema, &batches.collect::<Vec<_>>()).unwrap()
    }

    fn footer(bytes: &bytes::Bytes) -> ParquetMetaData {
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        reader.try_parse(bytes).unwrap();
        reader.finish().unwrap()
    }

    fn statistics(chunk: &ColumnChunkMetaData) -> [Option<Vec<u8>>; 2] {
        let statistics = chunk.statistics().unwrap();
        [statistics.min_bytes_opt(), statistics.max_bytes_opt()].map(|bound| bound.map(<[u8]>::to_vec))
    }

    /// Parquet's own writer is the oracle: it writes the same rows, each column complete.
    fn check_against_parquet(table: &'static Table, seed: u64) {
        let mut random = Random(seed);
        let schema = Arc::new(arrow_schema::schema(table));
        let mut part = PartWriter::new(table, "test", Vec::new()).unwrap();
        let mut oracle = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(table, "test"))).unwrap();
        let (mut from, mut all) = (0, Vec::new());
        while from < ROW_GROUP_ROWS + 40_000 {
            let count = 1 + random.next(20_000) as usize;
            let batch = rows(&mut random, table, from, count);
            part.write(&batch).unwrap();
            let whole = compact::complete(table, &batch).unwrap();
            oracle.write(&whole).unwrap();
            all.push(whole);
            from += count;
        }
        let (bytes, part) = part.finish("part".into()).unwrap();
        assert_eq!((part.rows, part.bytes), (from as u64, bytes.len() as u64));
        let (bytes, expected) = (bytes::Bytes::from(bytes), bytes::Bytes::from(oracle.into_inner().unwrap()));
        let plain_text =
            |f: &Field| if f.data_type() == &arrow_schema::text() { DataType::Utf8 } else { f.data_type().clone() };
        let fields: Vec<Field> =
            schema.fields().iter().map(|f| f.as_ref().clone().with_data_type(plain_text(f))).collect();
        let spelt = Arc::new(Schema::new(fields));
        let all = concat_batches(&schema, &all).unwrap();
        let columns = all.columns().iter().zip(spelt.fields()).map(|(v, f)| cast(v, f.data_type()).unwrap()).collect();
        let all = RecordBatch::try_new(spelt.clone(), columns).unwrap();
        let back = read(&bytes, &spelt);
        for (index, field) in spelt.fields().iter().enumerate() {
            assert_eq!(back.column(index), all.column(index), "{} of seed {seed}", field.name());
        }
        let (found, expected) = (footer(&bytes), footer(&expected));
        assert_eq!(found.num_row_groups(), expected.num_row_groups());
        for (found, expected) in found.row_groups().iter().zip(expected.row_groups()) {
            assert_eq!((found.num_rows(), found.sorting_columns()), (expected.num_rows(), expected.sorting_columns()));
            for (found, expected) in found.columns().iter().zip(expected.columns()) {
                let name = found.column_path().string();
                assert_eq!(found.num_values(), expected.num_values(), "{name} of seed {seed}");
                let nulls = |chunk: &ColumnChunkMetaData| chunk.statistics().unwrap().null_count_opt();
                assert_eq!(nulls(found), nulls(expected), "{name} of seed {seed}");
                let (bounds, expected) = (statistics(found), statistics(expected));
                let is_long = expected.iter().flatten().any(|bound| bound.len() >= 64);
                assert!(bounds == expected || (is_long && bounds == [None, None]), "{name} of seed {seed}: {bounds:?}");
            }
        }
        check_pages(&bytes, &found, &all);
    }

    /// The least and the largest value of a page, spelt.
    fn bounds(index: &ColumnIndexMetaData, page: usize) -> [Option<String>; 2] {
        fn spelt<T: ToString>(bounds: [Option<&T>; 2]) -> [Option<String>; 2] {
            bounds.map(|bound| bound.map(T::to_string))
        }
        match index {
            ColumnIndexMetaData::BOOLEAN(of) => spelt([of.min_value(page), of.max_value(page)]),
            ColumnIndexMetaData::INT32(of) => spelt([of.min_value(page), of.max_value(page)]),
            ColumnIndexMetaData::INT64(of) => spelt([of.min_value(page), of.max_value(page)]),
            ColumnIndexMetaData::BYTE_ARRAY(of) => [of.min_value(page), of.max_value(page)]
                .map(|bound| bound.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())),
            other => panic!("{other:?}"),
        }
    }

    /// The same of rows.
    fn bounds_of(values: &ArrayRef) -> [Option<String>; 2] {
        let plain =
            if values.data_type() == &arrow_schema::time() { DataType::Int64 } else { values.data_type().clone() };
        let sorted = sort(&cast(values, &plain).unwrap(), None).unwrap();
        let filled = sorted.slice(sorted.null_count(), sorted.len() - sorted.null_count());
        let spell = |row| array_value_to_string(&filled, row).unwrap();
        let last = filled.len().checked_sub(1);
        [last.map(|_| spell(0)), last.map(spell)]
    }

    /// A reader that skips pages by what the file says of them finds what is there.
    fn check_pages(bytes: &bytes::Bytes, found: &ParquetMetaData, all: &RecordBatch) {
        let (mut from, mut edges) = (0, Vec::new());
        for (group, metadata) in found.row_groups().iter().enumerate() {
            let index = found.page_index_for_row_group(group);
            for (column, values) in all.columns().iter().enumerate() {
                let name = metadata.column(column).column_path().string();
                let pages = index.offset_index(column).unwrap().page_locations();
                let rows: Vec<usize> = pages.iter().map(|page| page.first_row_index as usize).collect();
                let ends = rows.iter().copied().skip(1).chain([metadata.num_rows() as usize]);
                for (page, (first, end)) in rows.iter().zip(ends).enumerate() {
                    edges.push(from + first);
                    let (values, index) = (values.slice(from + first, end - first), index.column_index(column));
                    let Some(index) = index.filter(|_| !matches!(values.data_type(), DataType::List(_))) else {
                        continue;
                    };
                    let is_null = values.null_count() == values.len();
                    assert_eq!(index.null_count(page), Some(values.null_count() as i64), "{name}, page {page}");
                    assert_eq!(index.is_null_page(page), is_null, "{name}, page {page}");
                    if !is_null {
                        let ([least, largest], expected) = (bounds(index, page), bounds_of(&values));
                        // Parquet's own writer cuts long ones short, the largest upwards.
                        let is_long = expected.iter().flatten().any(|bound| bound.len() > 64);
                        let is_within = is_long && least <= expected[0] && largest >= expected[1];
                        assert!(is_within || [least, largest] == expected, "{name}, page {page}: not {expected:?}");
                    }
                }
            }
            from += metadata.num_rows() as usize;
        }
        edges.sort_unstable();
        edges.dedup();
        let around = edges.iter().step_by(7).map(|edge| edge.saturating_sub(2)..(edge + 2).min(all.num_rows()));
        let mut apart: Vec<Range<usize>> = Vec::new();
        around.for_each(|range| {
            if apart.last().is_none_or(|last| last.end < range.start) {
                apart.push(range)
            }
        });
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
        let selection = RowSelection::from_consecutive_ranges(apart.iter().cloned(), all.num_rows());
        let batches: Vec<RecordBatch> = reader.with_row_selection(selection).build().unwrap().flatten().collect();
        let chosen: Vec<RecordBatch> = apart.iter().map(|rows| all.slice(rows.start, rows.len())).collect();
        let chosen = concat_batches(&all.schema(), &chosen).unwrap();
        let back = concat_batches(&batches[0].schema(), &batches).unwrap();
        for (back, chosen) in back.columns().iter().zip(chosen.columns()) {
            assert_eq!(&cast(back, chosen.data_type()).unwrap(), chosen, "rows that were chosen by their numbers");
        }
    }

    #[test]
    fn parts_hold_what_parquets_own_writer_would() {
        for seed in 0..2 {
            check_against_parquet(&CALLS, seed);
            check_against_parquet(&OBJECTS, seed);
        }
    }

    #[test]
    fn a_part_without_rows_and_columns_without_values_are_read() {
        let schema = Arc::new(arrow_schema::schema(&OBJECTS));
        let (bytes, part) = PartWriter::new(&OBJECTS, "test", Vec::new()).unwrap().finish("part".into()).unwrap();
        let mut rows = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
        assert_eq!((part.rows, rows.next().is_none()), (0, true));

        let filled = schema.fields().iter().filter(|field| !field.is_nullable());
        let (fields, columns): (Vec<_>, Vec<_>) = filled
            .map(|field| (field.clone(), array(field.data_type(), &[Some(7); 3], false)))
            .filter(|(field, values)| field.data_type() == values.data_type())
            .unzip();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mut part = PartWriter::new(&OBJECTS, "test", Vec::new()).unwrap();
        part.write(&rows).unwrap();
        let bytes = bytes::Bytes::from(part.finish("part".into()).unwrap().0);
        let mut back = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let back = back.next().unwrap().unwrap();
        for field in schema.fields().iter().filter(|field| field.is_nullable()) {
            assert_eq!(back.column_by_name(field.name()).unwrap().null_count(), 3, "{}", field.name());
        }
    }
}
