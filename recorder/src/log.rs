//! The log: what is recorded is in it, on the disk, half a second later, and stays there until parts hold it.
//!
//! It is cut into segments. A closed one becomes parts beside the recording, so that what the rings hold never waits for an
//! encoder: writing a row to the log takes a quarter of the time of encoding it as Parquet.

use crate::directory::{Directory, Error, named};
use arrow::array::RecordBatch;
use ipc_schema::store::log::{self, BlockWriter, Standing};
use ipc_schema::tables::Table;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The folder of the log.
pub const FOLDER: &str = "log";
/// A segment is closed when it is this large…
const SEGMENT_BYTES: u64 = 64 << 20;
/// …or this old.
const SEGMENT_AGE: Duration = Duration::from_secs(300);

/// The name of a segment in it.
pub fn name_of(number: u32) -> String {
    format!("{number:05}.{}", log::EXTENSION)
}

/// The segment that is being written.
pub struct Log {
    folder: Directory,
    number: u32,
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    begun: Instant,
    block: BlockWriter,
}

impl Log {
    /// The first segment of a trace.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Directory) -> Result<Log, Error> {
        let folder = directory.folder(FOLDER)?;
        let file = Arc::new(folder.create_file(&name_of(0))?);
        folder.sync()?;
        let path = folder.path().join(name_of(0));
        let block = BlockWriter::new().map_err(named(&path))?;
        Ok(Log { folder, number: 0, path, file, bytes: 0, begun: Instant::now(), block })
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
        if self.block.is_empty() {
            return Ok(());
        }
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
        self.bytes >= SEGMENT_BYTES || (self.bytes > 0 && self.begun.elapsed() >= SEGMENT_AGE)
    }

    /// Begins the next segment; the number of the one that is closed, whose rows are on the disk.
    ///
    /// # Errors
    /// The disk refuses: the segment goes on.
    pub fn close_segment(&mut self) -> Result<u32, Error> {
        self.write()?;
        self.file.sync_data().map_err(named(&self.path))?;
        let name = name_of(self.number + 1);
        self.file = Arc::new(self.folder.create_file(&name)?);
        self.folder.sync()?;
        (self.path, self.bytes, self.begun) = (self.folder.path().join(name), 0, Instant::now());
        self.number += 1;
        Ok(self.number - 1)
    }
}
