//! Batches become complete Parquet files.
//!
//! A `*.parquet` is always whole: it is written under a dot-name, synced, renamed, its directory synced, and only then
//! listed in `trace.json`, which is itself replaced atomically.

use arrow::array::RecordBatch;
use ipc_schema::manifest::{self, BLOCK_BYTES, Manifest, Part};
use ipc_schema::tables::{Encoding, Kind, TABLES, Table, arrow_schema, twin};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding as ParquetEncoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use twox_hash::{XxHash3_64, XxHash3_128};

/// Rows of a row group: smaller ones cost space (10,000: a third more), larger ones memory.
const ROW_GROUP_ROWS: usize = 122_880;
/// A part is closed when it is this large…
const PART_BYTES: u64 = 256 << 20;
/// …or this old.
const PART_AGE: Duration = Duration::from_secs(300);

/// Why a trace cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error("{}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |e| Error::Write { path: path.to_owned(), error: e.to_string() }
}

/// Makes the directory of a new trace; one that exists must be empty and nobody else's. Returns whether it was made.
///
/// # Errors
/// It exists and is not empty, is not a directory, or others may write to it.
pub fn create_directory(path: &Path) -> Result<bool, Error> {
    let refuse = |reason: String| Err(Error::Directory { path: path.to_owned(), reason });
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return refuse("its parent directory does not exist; create it, or name another with -o".into());
        }
        Err(e) => return refuse(format!("cannot be created: {e}")),
    }
    let found = fs::symlink_metadata(path).map_err(write_error(path))?;
    if !found.is_dir() {
        return refuse("exists and is not a directory; name another with -o".into());
    }
    if fs::read_dir(path).map_err(write_error(path))?.next().is_some() {
        return refuse("exists and is not empty, and nothing is ever overwritten; name another with -o".into());
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user || found.mode() & 0o022 != 0 {
        return refuse("belongs to or can be written by another user; name another with -o".into());
    }
    Ok(false)
}

/// A file that hashes what is written to it.
struct HashedFile {
    file: File,
    hash: XxHash3_128,
    blocks: Blocks,
    bytes: u64,
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

impl Write for HashedFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.hash.write(&data[..written]);
        self.blocks.add(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The part of one table that is being written.
struct OpenPart {
    writer: ArrowWriter<HashedFile>,
    hidden: PathBuf,
    begun: Instant,
    rows: u64,
    /// The last value of the column the table is sorted by.
    last: Option<i64>,
}

/// The parts of one table.
struct TableSink {
    table: &'static Table,
    next_part: u32,
    open: Option<OpenPart>,
}

/// A trace that is being written.
pub struct Sink {
    directory: PathBuf,
    tables: Vec<TableSink>,
    /// What `trace.json` holds.
    pub manifest: Manifest,
}

impl Sink {
    /// A sink that writes into `directory`, which exists and is empty.
    pub fn new(directory: &Path, manifest: Manifest) -> Sink {
        let tables = TABLES.iter().map(|table| TableSink { table, next_part: 0, open: None }).collect();
        Sink { directory: directory.to_owned(), tables, manifest }
    }

    /// Puts a first `trace.json` there: who waits for it knows that the recording runs.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn announce(&self) -> Result<(), Error> {
        self.write_manifest()
    }

    /// Where the trace is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes of the complete parts and, as far as they are encoded, of the open ones.
    pub fn bytes(&self) -> u64 {
        let open = self.tables.iter().filter_map(|t| t.open.as_ref());
        let open: u64 = open.map(|p| p.writer.inner().bytes + p.writer.in_progress_size() as u64).sum();
        self.manifest.parts.iter().map(|p| p.bytes).sum::<u64>() + open
    }

    /// Adds rows to a table; begins a new part when the open one is large or old, or when the rows do not continue it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&mut self, table: &Table, batch: &RecordBatch) -> Result<(), Error> {
        let range = table.sorted_by.and_then(|column| range_of(batch, column));
        let index = self.index(table);
        let must_close = self.tables[index].open.as_ref().is_some_and(|open| {
            let breaks_order = matches!((open.last, range), (Some(last), Some((first, _))) if first < last);
            breaks_order || open.writer.inner().bytes >= PART_BYTES || open.begun.elapsed() >= PART_AGE
        });
        if must_close {
            self.close_part(index)?;
        }
        if self.tables[index].open.is_none() {
            self.tables[index].open = Some(self.begin_part(index)?);
        }
        let Some(open) = &mut self.tables[index].open else { return Ok(()) };
        let hidden = open.hidden.clone();
        open.writer.write(batch).map_err(|e| Error::Write { path: hidden, error: e.to_string() })?;
        open.rows += batch.num_rows() as u64;
        open.last = range.map(|r| r.1).or(open.last);
        Ok(())
    }

    fn index(&self, table: &Table) -> usize {
        self.tables.iter().position(|t| t.table.name == table.name).unwrap_or(0)
    }

    fn begin_part(&self, index: usize) -> Result<OpenPart, Error> {
        let sink = &self.tables[index];
        let folder = self.directory.join(sink.table.name);
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(write_error(&folder)(e)),
            _ => {}
        }
        let hidden = folder.join(format!(".part-{:05}.parquet", sink.next_part));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&hidden);
        let file = file.map_err(write_error(&hidden))?;
        let file = HashedFile { file, hash: XxHash3_128::new(), blocks: Blocks::default(), bytes: 0 };
        let options = ArrowWriterOptions::new()
            .with_properties(properties(sink.table))
            // Without Arrow's own schema every reader sees plain UTF-8.
            .with_skip_arrow_metadata(true);
        let schema = Arc::new(arrow_schema::schema(sink.table));
        let writer = ArrowWriter::try_new_with_options(file, schema, options)
            .map_err(|e| Error::Write { path: hidden.clone(), error: e.to_string() })?;
        Ok(OpenPart { writer, hidden, begun: Instant::now(), rows: 0, last: None })
    }

    fn close_part(&mut self, index: usize) -> Result<(), Error> {
        let sink = &mut self.tables[index];
        let Some(open) = sink.open.take() else { return Ok(()) };
        let failed = |e: &dyn std::fmt::Display| Error::Write { path: open.hidden.clone(), error: e.to_string() };
        let file = open.writer.into_inner().map_err(|e| failed(&e))?;
        file.file.sync_all().map_err(|e| failed(&e))?;
        let name = format!("part-{:05}.parquet", sink.next_part);
        let folder = self.directory.join(sink.table.name);
        fs::rename(&open.hidden, folder.join(&name)).map_err(|e| failed(&e))?;
        sync_directory(&folder)?;
        sink.next_part += 1;
        self.manifest.parts.push(Part {
            table: sink.table.name.into(),
            file: format!("{}/{name}", sink.table.name),
            rows: open.rows,
            bytes: file.bytes,
            checksum: format!("xxh3_128:{:032x}", file.hash.finish_128()),
            blocks: Some(file.blocks.finish()),
        });
        self.write_manifest()
    }

    /// Closes every part; a table without rows gets one empty part, so that every reader finds it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(&mut self) -> Result<(), Error> {
        for index in 0..self.tables.len() {
            if self.tables[index].open.is_none() && self.tables[index].next_part == 0 {
                self.tables[index].open = Some(self.begin_part(index)?);
            }
            self.close_part(index)?;
        }
        self.manifest.complete = true;
        self.write_manifest()?;
        give_to_caller(&self.directory)
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let hidden = self.directory.join(format!(".{}", manifest::FILE_NAME));
        let text = serde_json::to_string_pretty(&self.manifest)
            .map_err(|e| Error::Write { path: hidden.clone(), error: e.to_string() })?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&hidden);
        let mut file = file.map_err(write_error(&hidden))?;
        file.write_all(text.as_bytes()).map_err(write_error(&hidden))?;
        file.sync_all().map_err(write_error(&hidden))?;
        fs::rename(&hidden, self.directory.join(manifest::FILE_NAME)).map_err(write_error(&hidden))?;
        sync_directory(&self.directory)
    }
}

/// Under sudo the trace belongs to the user who called it.
fn give_to_caller(directory: &Path) -> Result<(), Error> {
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (id("SUDO_UID"), id("SUDO_GID")) {
        (Some(user), Some(group)) if rustix::process::geteuid().is_root() => give(directory, user, group),
        _ => Ok(()),
    }
}

fn give(path: &Path, user: u32, group: u32) -> Result<(), Error> {
    if fs::symlink_metadata(path).map_err(write_error(path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(write_error(path))? {
            give(&entry.map_err(write_error(path))?.path(), user, group)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(user), Some(group)).map_err(write_error(path))
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|d| d.sync_all()).map_err(write_error(path))
}

/// The least and the last value of the column by which the rows rise.
fn range_of(batch: &RecordBatch, column: &str) -> Option<(i64, i64)> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;
    let values = batch.column_by_name(column)?.as_primitive_opt::<Int64Type>()?;
    let set = values.len() - values.null_count(); // NULLs come last
    (set > 0).then(|| (values.value(0), values.value(set - 1)))
}

fn properties(table: &Table) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("ipc-recorder ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    let mut leaf = 0;
    for column in table.columns {
        let names = match column.kind {
            Kind::Instant => vec![column.name.to_owned(), twin(column.name)],
            _ => vec![column.name.to_owned()],
        };
        if table.sorted_by == Some(column.name) {
            builder = builder.set_sorting_columns(Some(vec![SortingColumn {
                column_idx: leaf,
                descending: false,
                nulls_first: false,
            }]));
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
