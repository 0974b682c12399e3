//! A part: one whole Parquet file, its checksums made as it is written.

use crate::manifest::{BLOCK_BYTES, Part};
use crate::tables::{Encoding, Kind, Table, arrow_schema, twin};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding as ParquetEncoding, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
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
    writer: ArrowWriter<Hashed<W>>,
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
        let options = ArrowWriterOptions::new()
            .with_properties(properties(table, created_by))
            // Without Arrow's own schema every reader sees plain UTF-8.
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(to, Arc::new(arrow_schema::schema(table)), options)?;
        Ok(PartWriter { table, writer, rows: 0, last: None })
    }

    /// Whether rows can follow: whether they rise from the last ones in the column by which the table is sorted.
    pub fn continues_with(&self, batch: &RecordBatch) -> bool {
        match (self.last, range_of(self.table, batch)) {
            (Some(last), Some((first, _))) => first >= last,
            _ => true,
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Whatever the rows are written to refuses, or they are not those of the table.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch)?;
        self.rows += batch.num_rows() as u64;
        self.last = range_of(self.table, batch).map(|(_, last)| last).or(self.last);
        Ok(())
    }

    /// Bytes so far, as far as they are encoded.
    pub fn bytes(&self) -> u64 {
        self.writer.inner().bytes + self.writer.in_progress_size() as u64
    }

    /// Completes the part; what the manifest says of it, under the name `file`.
    ///
    /// # Errors
    /// Whatever the rows are written to refuses.
    pub fn finish(self, file: String) -> Result<(W, Part)> {
        let Hashed { to, hash, blocks, bytes } = self.writer.into_inner()?;
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

/// The least and the last value of the column by which the rows of a table rise; NULLs come last.
fn range_of(table: &Table, batch: &RecordBatch) -> Option<(i64, i64)> {
    let values = batch.column_by_name(table.sorted_by?)?.as_primitive_opt::<Int64Type>()?;
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
