//! The log: what is recorded is in it, on the disk, half a second later, and stays there until parts hold it.
//!
//! It is cut into segments. A closed one becomes parts beside the recording, so that what the rings hold never waits for an
//! encoder: writing a row to the log takes a quarter of the time of encoding it as Parquet.

use crate::directory::{self, Error, named};
use arrow::array::RecordBatch;
use ipc_schema::store::log::{self, BlockWriter, Standing};
use ipc_schema::tables::Table;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The folder of the log.
pub const FOLDER: &str = "log";
/// A segment is closed when it is this large…
pub const SEGMENT_BYTES: u32 = 64 << 20;
/// …or this old.
const SEGMENT_AGE: Duration = Duration::from_secs(300);

/// The path of a segment.
pub fn path_of(directory: &Path, number: u32) -> PathBuf {
    directory.join(FOLDER).join(format!("{number:05}.{}", log::EXTENSION))
}

/// The segment that is being written.
pub struct Log {
    directory: PathBuf,
    number: u32,
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    begun: Instant,
    segment_bytes: u32,
    block: BlockWriter,
}

impl Log {
    /// The first segment of a trace; each is closed when it has `segment_bytes`.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Path, segment_bytes: u32) -> Result<Log, Error> {
        directory::create_folder(&directory.join(FOLDER))?;
        let path = path_of(directory, 0);
        let file = Arc::new(directory::create_file(&path)?);
        directory::sync(&directory.join(FOLDER))?;
        let block = BlockWriter::new().map_err(named(&path))?;
        let (directory, begun) = (directory.to_owned(), Instant::now());
        Ok(Log { directory, number: 0, path, file, bytes: 0, begun, segment_bytes, block })
    }

    /// Adds rows to the block that [`Log::write`] writes.
    ///
    /// # Errors
    /// They are not rows of a table.
    pub fn add(&mut self, table: &Table, standing: Standing, until_ns: i64, rows: &RecordBatch) -> Result<(), Error> {
        self.block.add(table, standing, until_ns, rows).map_err(|error| Error::write(&self.path, error))
    }

    /// Writes what was added.
    ///
    /// # Errors
    /// The disk refuses: then the segment ends with the block before.
    pub fn write(&mut self) -> Result<(), Error> {
        if self.block.is_empty() { Ok(()) } else { self.write_block() }
    }

    fn write_block(&mut self) -> Result<(), Error> {
        let block = self.block.finish().map_err(named(&self.path))?;
        let mut file = self.file.as_ref();
        if let Err(error) = file.write_all(&block) {
            // Nothing may follow half a block.
            rustix::fs::ftruncate(&self.file, self.bytes).map_err(|error| Error::write(&self.path, error))?;
            rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(self.bytes))
                .map_err(|e| Error::write(&self.path, e))?;
            return Err(named(&self.path)(error));
        }
        self.bytes += block.len() as u64;
        Ok(())
    }

    /// The file of the segment, to be synced.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Bytes of the segment.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is time for the next segment.
    pub fn is_full(&self) -> bool {
        self.bytes >= u64::from(self.segment_bytes) || (self.bytes > 0 && self.begun.elapsed() >= SEGMENT_AGE)
    }

    /// Begins the next segment; the number of the one that is closed, whose rows are on the disk.
    ///
    /// # Errors
    /// The disk refuses: the segment goes on.
    pub fn close_segment(&mut self) -> Result<u32, Error> {
        self.write()?;
        // An empty one: that nothing of the segment is missing.
        self.write_block()?;
        self.file.sync_data().map_err(named(&self.path))?;
        let path = path_of(&self.directory, self.number + 1);
        self.file = Arc::new(directory::create_file(&path)?);
        directory::sync(&self.directory.join(FOLDER))?;
        (self.path, self.bytes, self.begun) = (path, 0, Instant::now());
        self.number += 1;
        Ok(self.number - 1)
    }
}
