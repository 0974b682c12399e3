//! The log: what no part holds yet. It is cut into segments; a closed segment becomes parts and is removed.
//!
//! A disk that refuses is no reason to stop: blocks wait in memory, as many as are allowed, until it takes them.

use crate::bounds::Bounds;
use crate::directory::{Directory, Error, named};
use arrow::array::RecordBatch;
use ipc_schema::losses::{self, Source};
use ipc_schema::store::log::{self, BlockWriter, Blocks, Rows, Standing};
use ipc_schema::store::loss::Loss;
use ipc_schema::tables::{CALLS, SEM_OPS, SIGNALS, Table};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A segment is closed when it is this old, however small.
const SEGMENT_AGE: Duration = Duration::from_secs(300);

/// The tables that there is much of.
const BULK: [&Table; 3] = [&CALLS, &SEM_OPS, &SIGNALS];

fn is_bulk(table: &Table) -> bool {
    BULK.iter().any(|bulk| bulk.name == table.name)
}

/// What waited when there was no more time to wait.
pub struct GivenUp {
    /// The calls among it.
    pub lost: Loss,
    /// What there is little of is not lost.
    pub kept: Vec<Rows>,
}

/// A segment that nothing is added to any more.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// Its size.
    pub bytes: u64,
    /// Calls that were written to it.
    pub calls: u64,
    /// What it holds ended between these instants, nanoseconds since the epoch.
    pub from_ns: i64,
    /// As above.
    pub to_ns: i64,
    /// It, to be synced.
    pub file: Arc<File>,
}

/// Rows that are to be written at once.
struct Block {
    bytes: Vec<u8>,
    calls: u64,
    until_ns: i64,
}

/// The log of a trace.
pub struct Log {
    folder: Directory,
    bounds: Bounds,
    segment_bytes: u64,
    segment: Segment,
    begun: Instant,
    /// Nothing more can be added to the segment: it ends with half a block, or its disk has lost some of it.
    is_broken: bool,
    block: BlockWriter,
    block_calls: u64,
    until_ns: i64,
    waiting: VecDeque<Block>,
    waiting_bytes: usize,
}

impl Log {
    /// The first segment of a trace that begins at `from_ns`.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Directory, bounds: Bounds, from_ns: i64) -> Result<Log, Error> {
        let folder = directory.folder(log::FOLDER)?;
        let file = create(&folder, 0)?;
        folder.sync()?;
        Ok(Log {
            bounds,
            segment_bytes: bounds.segment_bytes_in(directory.path()),
            segment: Segment { number: 0, bytes: 0, calls: 0, from_ns, to_ns: from_ns, file },
            begun: Instant::now(),
            is_broken: false,
            block: BlockWriter::new().map_err(named(folder.path()))?,
            folder,
            block_calls: 0,
            until_ns: from_ns,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        })
    }

    /// Adds rows to the block that [`Log::write`] writes.
    ///
    /// # Errors
    /// They are not rows of a table.
    pub fn add(&mut self, table: &Table, standing: Standing, until_ns: i64, rows: &RecordBatch) -> Result<(), Error> {
        let added = self.block.add(table, standing, until_ns, rows);
        added.map_err(|error| Error::write(self.folder.path(), error))?;
        self.until_ns = until_ns;
        if table.name == CALLS.name && standing == Standing::Final {
            self.block_calls += rows.num_rows() as u64;
        }
        Ok(())
    }

    /// Writes what was added, and what waits, as far as the bounds allow; `others`: bytes of the other segments. See
    /// [`Bounds::refuses`].
    ///
    /// # Errors
    /// The disk refuses: then it waits.
    pub fn write(&mut self, others: u64, at_end: bool) -> io::Result<()> {
        if !self.block.is_empty() {
            let block = Block { bytes: self.block.finish()?, calls: self.block_calls, until_ns: self.until_ns };
            self.block_calls = 0;
            self.waiting_bytes += block.bytes.len();
            self.waiting.push_back(block);
        }
        while let Some(block) = self.waiting.pop_front() {
            let refused = self.bounds.refuses(self.folder.path(), others + self.segment.bytes, at_end);
            if let Some(reason) = refused {
                self.waiting.push_front(block);
                return Err(io::Error::new(ErrorKind::StorageFull, reason));
            }
            if let Err(error) = self.write_block(&block) {
                self.waiting.push_front(block);
                return Err(error);
            }
            self.waiting_bytes -= block.bytes.len();
            self.segment.bytes += block.bytes.len() as u64;
            self.segment.calls += block.calls;
            self.segment.to_ns = block.until_ns;
        }
        Ok(())
    }

    fn write_block(&mut self, block: &Block) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("the disk lost what was written before"));
        }
        let mut file = self.segment.file.as_ref();
        let written = file.write_all(&block.bytes);
        if written.is_err() {
            // Nothing may follow half a block.
            let cut = rustix::fs::ftruncate(file, self.segment.bytes);
            let back = rustix::fs::seek(file, rustix::fs::SeekFrom::Start(self.segment.bytes));
            self.is_broken = cut.is_err() || back.is_err();
        }
        written
    }

    /// Whether memory holds as much that waits as it may; of what there is little of, twice as much.
    pub fn is_overfull(&self, table: &Table) -> bool {
        let share = if is_bulk(table) { 1 } else { 2 };
        self.waiting_bytes >= self.bounds.backlog_bytes.saturating_mul(share)
    }

    /// The disk has lost something of the segment: nothing is added to it any more.
    pub fn break_off(&mut self) {
        self.is_broken = true;
    }

    /// Whether nothing can be added to the segment any more.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The folder of the segments, to be synced: their names.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn folder(&self) -> Result<Arc<File>, Error> {
        self.folder.open_file(".").map(Arc::new)
    }

    /// The file of the segment, to be synced.
    pub fn file(&self) -> Arc<File> {
        self.segment.file.clone()
    }

    /// Bytes of the segment.
    pub fn bytes(&self) -> u64 {
        self.segment.bytes
    }

    /// Whether it is time for the next segment.
    pub fn is_full(&self) -> bool {
        self.is_broken
            || self.segment.bytes >= self.segment_bytes
            || (self.segment.bytes > 0 && self.begun.elapsed() >= SEGMENT_AGE)
    }

    /// Begins the next segment; the one that is closed. Neither it nor the folder is synced.
    ///
    /// # Errors
    /// The disk refuses: the segment goes on.
    pub fn next_segment(&mut self) -> Result<Segment, Error> {
        if !self.is_broken {
            let (bytes, until_ns) = (self.block.end().map_err(named(self.folder.path()))?, self.segment.to_ns);
            let end = Block { bytes, calls: 0, until_ns };
            self.write_block(&end).map_err(named(self.folder.path()))?;
            self.segment.bytes += end.bytes.len() as u64;
        }
        let (number, from_ns) = (self.segment.number + 1, self.segment.to_ns);
        let next = Segment { number, bytes: 0, calls: 0, from_ns, to_ns: from_ns, file: create(&self.folder, number)? };
        (self.begun, self.is_broken) = (Instant::now(), false);
        Ok(std::mem::replace(&mut self.segment, next))
    }

    /// What waits has no place.
    pub fn give_up(&mut self, error: &io::Error) -> GivenUp {
        let (from_ns, to_ns) = (self.segment.to_ns, self.until_ns);
        let (mut count, mut kept) = (0, Vec::new());
        self.waiting_bytes = 0;
        for block in self.waiting.drain(..) {
            count += block.calls as i64;
            let rows = Blocks::new(block.bytes.as_slice()).next().and_then(Result::ok).unwrap_or_default();
            kept.extend(rows.into_iter().filter(|rows| rows.standing == Standing::Final && !is_bulk(rows.table)));
        }
        GivenUp { lost: Loss { source: source_of(error), from_ns, to_ns, count: Some(count) }, kept }
    }

    /// The last segment.
    pub fn end(self) -> Segment {
        self.segment
    }
}

fn create(folder: &Directory, number: u32) -> Result<Arc<File>, Error> {
    let name = log::name_of(number);
    let _ = folder.remove_file(&name); // of a try that failed
    folder.create_file(&name).map(Arc::new)
}

/// Under which name what a disk refused is lost.
pub fn source_of(error: &io::Error) -> Source {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => losses::DISK_FULL,
        _ => losses::WRITE_FAILED,
    }
}
