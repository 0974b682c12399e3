//! Real traces with one table written anew.

use crate::fixture::TraceWriter;
use arrow::array::RecordBatch;
use ipc_schema::manifest::{FILE_NAME, Manifest};
use ipc_schema::tables::Table;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::path::Path;

/// Few, so that a sample has several row groups.
const ROW_GROUP_ROWS: usize = 300;

/// Copies a trace into the new directory `into`; the batches of `table` are changed, and written with or without
/// dictionaries in small row groups.
pub fn rewrite(
    sample: &Path,
    into: &Path,
    table: &Table,
    has_dictionaries: bool,
    change: impl Fn(RecordBatch) -> RecordBatch,
) {
    let text = fs::read_to_string(sample.join(FILE_NAME)).unwrap();
    let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
    let writer = TraceWriter { directory: into.to_owned(), trace_id: manifest.trace_id.clone() };
    for part in &mut manifest.parts {
        let (from, to) = (sample.join(&part.file), into.join(&part.file));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if part.table != table.name {
            fs::copy(from, to).unwrap();
            continue;
        }
        let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(from).unwrap()).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(has_dictionaries)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let schema = rows.schema().clone();
        let mut file = ArrowWriter::try_new_with_options(File::create(to).unwrap(), schema, options).unwrap();
        rows.build().unwrap().for_each(|batch| file.write(&change(batch.unwrap())).unwrap());
        file.close().unwrap();
        *part = writer.listed(table, &part.file, part.rows);
    }
    fs::write(into.join(FILE_NAME), serde_json::to_string(&manifest).unwrap()).unwrap();
}
