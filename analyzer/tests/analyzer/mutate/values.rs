//! Well-formed files with values that no recorder writes.

use super::{Mutation, Source, bytes, hostile_number, hostile_text};
use crate::fixture::Random;
use ::bytes::Bytes;
use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::arrow::arrow_writer::ArrowWriterOptions;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use arrow::array::*;
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use std::sync::Arc;

/// Every row of a file.
pub fn read(content: &[u8]) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(content)).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// A file as small as it gets without compression.
pub fn write_small(batch: &RecordBatch) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(::parquet::file::properties::EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    let mut content = Vec::new();
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&mut content, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    content
}

fn write(batch: &RecordBatch, random: &mut Random) -> Vec<u8> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder()
        .set_compression(if random.below(3) == 0 { Compression::UNCOMPRESSED } else { zstd })
        .set_dictionary_enabled(random.below(2) == 0)
        .set_max_row_group_row_count(Some(1 + random.below(3000) as usize))
        .set_data_page_row_count_limit(1 + random.below(2000) as usize)
        .set_writer_version(if random.below(4) == 0 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 });
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut content, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    content
}

/// A part read, changed and written again.
pub fn rewrite(source: &Source, random: &mut Random) -> Mutation {
    let (file, content) = source.any_part(random);
    let batch = read(content);
    let (mut batch, mut what) = rearrange(&batch, random);
    for _ in 0..1 + random.below(4) {
        let at = random.below(batch.num_columns() as u64) as usize;
        let field = batch.schema().field(at).clone();
        let (array, how) = change(batch.column(at), random);
        what += &format!(" {} {how};", field.name());
        batch = with_column(&batch, at, field, array);
    }
    let mut content = write(&batch, random);
    if random.below(6) == 0 && break_text(&mut content, random) {
        what += " invalid UTF-8";
    }
    source.vouched(what, file, content, Some(batch.num_rows() as i64))
}

fn with_column(batch: &RecordBatch, at: usize, field: Field, array: ArrayRef) -> RecordBatch {
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let nullable = field.is_nullable() || array.null_count() > 0;
    fields[at] = field.with_data_type(array.data_type().clone()).with_nullable(nullable);
    let mut columns = batch.columns().to_vec();
    columns[at] = array;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Rows in another order, twice, or none.
fn rearrange(batch: &RecordBatch, random: &mut Random) -> (RecordBatch, String) {
    let rows = batch.num_rows() as u64;
    let picks: Vec<u32> = match random.below(6) {
        0 if rows > 0 => (0..random.below(5000)).map(|_| random.below(rows) as u32).collect(),
        1 => Vec::new(),
        _ => return (batch.clone(), String::new()),
    };
    let indices = UInt32Array::from(picks);
    let columns = batch.columns().iter().map(|column| take(column, &indices, None).unwrap()).collect();
    let rearranged = RecordBatch::try_new(batch.schema(), columns).unwrap();
    (rearranged, format!("{} rows at random;", indices.len()))
}

/// A few cells, all, or the type.
fn change(array: &ArrayRef, random: &mut Random) -> (ArrayRef, &'static str) {
    if random.below(24) == 0 {
        let wrong =
            [DataType::Utf8, DataType::Int32, DataType::Int64, DataType::Boolean][random.below(4) as usize].clone();
        let converted = cast(array, &wrong).unwrap_or_else(|_| new_null_array(&wrong, array.len()));
        return (converted, "of another type");
    }
    if random.below(16) == 0 {
        return (new_null_array(array.data_type(), array.len()), "all NULL");
    }
    let odds = [1, 2, 10, 100][random.below(4) as usize];
    let hits = |random: &mut Random| random.below(odds) == 0;
    let changed: ArrayRef = match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<arrow::datatypes::Int64Type>().iter();
            Arc::new(values.map(|v| if hits(random) { any_number(v, random) } else { v }).collect::<Int64Array>())
        }
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>().iter();
            let number = |v: Option<i32>, random: &mut Random| any_number(v.map(i64::from), random).map(|v| v as i32);
            Arc::new(values.map(|v| if hits(random) { number(v, random) } else { v }).collect::<Int32Array>())
        }
        DataType::Utf8 => {
            let text = hostile_text(random);
            let same = random.below(2) == 0;
            let other = |random: &mut Random| if same { text.clone() } else { hostile_text(random) };
            // Long texts in few rows only: the test has to hold them too.
            let values = array.as_string::<i32>().iter().enumerate();
            let values = values.map(|(row, v)| {
                let replaced = (row < 40 && hits(random)).then(|| other(random));
                replaced.or_else(|| v.map(str::to_owned))
            });
            Arc::new(values.collect::<StringArray>())
        }
        DataType::Boolean => Arc::new(array.as_boolean().iter().map(|v| v.map(|v| !v)).collect::<BooleanArray>()),
        DataType::List(_) => lists(array.len(), random),
        _ => return (array.clone(), "as it was"),
    };
    (changed, "other values")
}

fn any_number(was: Option<i64>, random: &mut Random) -> Option<i64> {
    (random.below(6) > 0).then(|| hostile_number(was.unwrap_or(0), random))
}

fn lists(rows: usize, random: &mut Random) -> ArrayRef {
    let longest = 1 << random.below(14);
    let lists = (0..rows).map(|_| {
        let length = random.below(longest);
        (random.below(3) > 0).then(|| (0..length).map(|i| any_number(Some(i as i64), &mut Random(i)).map(|v| v as i32)))
    });
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))
}

/// Makes a text that stands uncompressed in the file invalid.
fn break_text(content: &mut [u8], random: &mut Random) -> bool {
    let texts = [&b"semop"[..], b"ok", b"error", b"trace", b"in_trace", b"worker"];
    let text = texts[random.below(texts.len() as u64) as usize];
    match content.windows(text.len()).position(|window| window == text) {
        Some(at) => {
            content[at] = 0xff;
            true
        }
        None => false,
    }
}

/// Other times and totals, in `trace.json` and in the table `session` alike, so that they agree.
pub fn session(source: &Source, random: &mut Random) -> Mutation {
    const NUMBERS: [&str; 6] = ["start_ns", "end_ns", "calls", "lost_calls", "lost_records", "late_records"];
    let Some((file, content)) = source.parts.iter().find(|(file, _)| file.starts_with("session/")) else {
        return bytes::damage_part(source, random);
    };
    let (mut batch, mut manifest, mut what) = (read(content), source.manifest.clone(), String::new());
    for _ in 0..1 + random.below(3) {
        let name = NUMBERS[random.below(6) as usize];
        let number = hostile_number(manifest["session"][name].as_i64().unwrap(), random);
        manifest["session"][name] = number.into();
        let at = batch.schema().index_of(name).unwrap();
        let field = batch.schema().field(at).clone();
        batch = with_column(&batch, at, field, Arc::new(Int64Array::from(vec![number; batch.num_rows()])));
        what += &format!(" {name} = {number};");
    }
    let content = write(&batch, random);
    source.list_again(&mut manifest, file, &content, None);
    let files = vec![(file.clone(), content), ("trace.json".to_owned(), manifest.to_string().into_bytes())];
    Mutation { what: format!("{}: session and trace.json:{what}", source.name), files, checksum_holds: true }
}
