//! A reader of traces for the tests: nothing of the recorder's or analyzer's code, only Parquet.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use ipc_schema::manifest::{FILE_NAME, Manifest};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A trace on disk.
pub struct Trace {
    path: PathBuf,
    /// `trace.json`.
    pub manifest: Manifest,
}

/// Some columns of a table.
pub struct Rows {
    batches: Vec<RecordBatch>,
}

impl Trace {
    /// Opens a trace.
    pub fn open(path: &Path) -> Trace {
        let file = path.join(FILE_NAME);
        let text = std::fs::read(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
        let manifest = serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Trace { path: path.to_owned(), manifest }
    }

    /// The files of a table, by the manifest.
    pub fn parts(&self, table: &str) -> Vec<PathBuf> {
        let parts = self.manifest.parts.iter().filter(|part| part.table == table);
        parts.map(|part| self.path.join(&part.file)).collect()
    }

    /// Whether a table has a column: an older trace may lack it.
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        let file = self.parts(table).into_iter().next().map(|part| File::open(part).unwrap());
        let part = file.map(|file| ParquetRecordBatchReaderBuilder::try_new(file).unwrap());
        part.is_some_and(|part| part.schema().field_with_name(column).is_ok())
    }

    /// Columns of a table, in the order of the parts.
    pub fn table(&self, name: &str, columns: &[&str]) -> Rows {
        let mut batches = Vec::new();
        for part in self.parts(name) {
            let file = File::open(&part).unwrap_or_else(|e| panic!("cannot open {}: {e}", part.display()));
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            for batch in builder.with_projection(mask).with_batch_size(65_536).build().unwrap() {
                batches.push(batch.unwrap());
            }
        }
        Rows { batches }
    }

    /// How many rows of `calls` each operation has.
    pub fn calls_by_operation(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.table("calls", &["syscall"]).each_text("syscall", |value| {
            let name = value.unwrap_or("NULL");
            match counts.get_mut(name) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(name.to_owned(), 1);
                }
            }
        });
        counts
    }

    /// The calls lost, by the table `losses`.
    ///
    /// # Panics
    /// When a count is unknown.
    pub fn lost_calls(&self) -> u64 {
        self.losses().iter().filter(|loss| loss.is_calls()).map(|loss| loss.count.unwrap() as u64).sum()
    }

    /// The table `losses`.
    pub fn losses(&self) -> Vec<Loss> {
        let rows = self.table("losses", &["from_ns", "to_ns", "source", "cpu", "count"]);
        let (from, to) = (rows.integers("from_ns"), rows.integers("to_ns"));
        let (source, cpu, count) = (rows.texts("source"), rows.integers("cpu"), rows.integers("count"));
        let row = |i: usize| Loss {
            from_ns: from[i].unwrap(),
            to_ns: to[i].unwrap(),
            source: source[i].clone().unwrap(),
            cpu: cpu[i],
            count: count[i],
        };
        (0..from.len()).map(row).collect()
    }
}

impl Loss {
    /// Whether calls were lost, and not only what is known of them.
    pub fn is_calls(&self) -> bool {
        ipc_schema::losses::by_name(&self.source).is_some_and(|s| s.counts_calls)
    }
}

/// A row of `losses`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is a column of tables::LOSSES, documented there")]
pub struct Loss {
    pub from_ns: i64,
    pub to_ns: i64,
    pub source: String,
    pub cpu: Option<i64>,
    pub count: Option<i64>,
}

impl Rows {
    /// How many rows.
    pub fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A column of integers, of instants or of booleans (0, 1).
    pub fn integers(&self, name: &str) -> Vec<Option<i64>> {
        let mut values = Vec::with_capacity(self.count());
        for batch in &self.batches {
            let column = cast(&column(batch, name), &DataType::Int64).unwrap();
            values.extend(column.as_primitive::<Int64Type>().iter());
        }
        values
    }

    /// A column of text.
    pub fn texts(&self, name: &str) -> Vec<Option<String>> {
        let mut values = Vec::with_capacity(self.count());
        self.each_text(name, |value| values.push(value.map(str::to_owned)));
        values
    }

    /// Each value of a column of text.
    pub fn each_text(&self, name: &str, mut each: impl FnMut(Option<&str>)) {
        for batch in &self.batches {
            let column = cast(&column(batch, name), &DataType::Utf8).unwrap();
            column.as_string::<i32>().iter().for_each(&mut each);
        }
    }
}

fn column(batch: &RecordBatch, name: &str) -> std::sync::Arc<dyn Array> {
    batch.column_by_name(name).unwrap_or_else(|| panic!("there is no column {name}")).clone()
}
