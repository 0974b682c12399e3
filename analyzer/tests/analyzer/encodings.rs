//! How a file is encoded changes no answer. Columns with a dictionary have a reader of their own, which picks rows out of
//! packed bits; all others go through Parquet's reader. Both must say the same.

use crate::fixture::TraceWriter;
use crate::text::{commands, samples};
use crate::{on, stderr};
use ipc_schema::manifest::{FILE_NAME, Manifest};
use ipc_schema::tables;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::path::Path;
use tempfile::TempDir;

/// Few, so that a sample has several row groups.
const ROW_GROUP_ROWS: usize = 300;

/// Copies a trace; its calls are written anew, in small row groups, with or without dictionaries.
fn rewrite(sample: &Path, into: &Path, has_dictionaries: bool) {
    let text = fs::read_to_string(sample.join(FILE_NAME)).unwrap();
    let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
    let writer = TraceWriter { directory: into.to_owned(), trace_id: manifest.trace_id.clone() };
    for part in &mut manifest.parts {
        let (from, to) = (sample.join(&part.file), into.join(&part.file));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if part.table != tables::CALLS.name {
            fs::copy(from, to).unwrap();
            continue;
        }
        let calls = ParquetRecordBatchReaderBuilder::try_new(File::open(from).unwrap()).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(has_dictionaries)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let schema = calls.schema().clone();
        let mut file = ArrowWriter::try_new_with_options(File::create(to).unwrap(), schema, options).unwrap();
        calls.build().unwrap().for_each(|batch| file.write(&batch.unwrap()).unwrap());
        file.close().unwrap();
        *part = writer.listed(&tables::CALLS, &part.file, part.rows);
    }
    fs::write(into.join(FILE_NAME), serde_json::to_string(&manifest).unwrap()).unwrap();
}

#[test]
fn every_answer_is_the_same_with_and_without_dictionaries() {
    let mut compared = 0;
    for sample in samples() {
        let directory = TempDir::new().unwrap();
        let [coded, plain] = ["coded", "plain"].map(|name| directory.path().join(name));
        rewrite(&sample, &coded, true);
        rewrite(&sample, &plain, false);
        // `diff` needs two traces, and these are one.
        for command in commands().into_iter().filter(|command| command != "diff") {
            let answer = |trace: &Path| {
                let output = on(&command, trace, &["--format", "jsonl"]);
                assert!(output.status.success(), "{command} {}: {}", trace.display(), stderr(&output));
                // A remedy names the trace.
                String::from_utf8(output.stdout).unwrap().replace(trace.to_str().unwrap(), "TRACE")
            };
            let expected = answer(&sample);
            for trace in [&coded, &plain] {
                if command == "verify" {
                    answer(trace);
                } else {
                    assert_eq!(answer(trace), expected, "{command} {}", sample.display());
                }
                compared += expected.lines().count();
            }
        }
    }
    println!("{compared} rows compared");
    assert!(compared > 1_000, "{compared}");
}
