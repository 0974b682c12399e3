//! Where rows go: into the log at once, from there into parts beside the recording.

use crate::directory::{self, Error};
use crate::log::Log;
use crate::parts::Parts;
use crate::priority;
use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use ipc_schema::manifest::{Manifest, Session};
use ipc_schema::store::log::Standing;
use ipc_schema::tables::Table;
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a segment waits that could not be converted.
const RETRY: Duration = Duration::from_secs(5);

/// A trace that is being written.
pub struct Sink {
    directory: PathBuf,
    log: Log,
    /// Segments that still tell what lives.
    closed: Vec<u32>,
    segments: Sender<u32>,
    converter: JoinHandle<(Parts, Result<(), Error>)>,
    /// What is to be synced, and until when it reaches; has room for one.
    unsynced: Sender<(Arc<File>, i64)>,
    durable_until_ns: Arc<AtomicI64>,
    parts_bytes: Arc<AtomicU64>,
    /// Held as long as the trace is being written.
    _lock: Option<File>,
}

impl Sink {
    /// Begins a trace in a directory, which exists and is empty.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Path, manifest: Manifest) -> Result<Sink, Error> {
        let lock = directory::lock(directory);
        let parts = Parts::begin(directory, manifest)?;
        let log = Log::begin(directory)?;
        let parts_bytes = Arc::new(AtomicU64::new(0));
        let (segments, closed) = crossbeam_channel::unbounded();
        let cannot_start = |error| Error::write(directory, format!("no thread for it: {error}"));
        let converter = {
            let bytes = parts_bytes.clone();
            let work = move || convert(parts, &closed, &bytes);
            std::thread::Builder::new().name("converter".into()).spawn(work).map_err(cannot_start)?
        };
        let (unsynced, to_sync) = crossbeam_channel::bounded::<(Arc<File>, i64)>(1);
        let durable_until_ns = Arc::new(AtomicI64::new(0));
        let sync = {
            let durable = durable_until_ns.clone();
            move || to_sync.iter().for_each(|(file, until_ns)| sync(&file, until_ns, &durable))
        };
        std::thread::Builder::new().name("syncer".into()).spawn(sync).map_err(cannot_start)?;
        Ok(Sink {
            directory: directory.to_owned(),
            log,
            closed: Vec::new(),
            segments,
            converter,
            unsynced,
            durable_until_ns,
            parts_bytes,
            _lock: lock,
        })
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.parts_bytes.load(Ordering::Relaxed) + self.log.bytes()
    }

    /// Everything before survives a power cut: nanoseconds since the epoch; 0: nothing yet.
    pub fn durable_until_ns(&self) -> i64 {
        self.durable_until_ns.load(Ordering::Relaxed)
    }

    /// Adds rows of a table, which [`Sink::flush`] writes; everything before `until_ns` was added before.
    ///
    /// # Errors
    /// They are not rows of the table.
    pub fn write(
        &mut self,
        table: &Table,
        standing: Standing,
        until_ns: i64,
        batch: &RecordBatch,
    ) -> Result<(), Error> {
        self.log.add(table, standing, until_ns, batch)
    }

    /// Writes what was added: the death of this process does not take it away any more.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.log.write()
    }

    /// Begins the next segment if it is time; then all that lives is to be told.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn turn(&mut self) -> Result<bool, Error> {
        if !self.log.is_full() || !self.closed.is_empty() {
            return Ok(false);
        }
        self.closed.push(self.log.close_segment()?);
        Ok(true)
    }

    /// The segment tells all that lives: the one before it is not needed any more.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn all_told(&mut self) -> Result<(), Error> {
        self.log.write()?;
        for segment in self.closed.drain(..) {
            let _ = self.segments.send(segment); // it ends with this sink
        }
        Ok(())
    }

    /// Has what was written, everything before `until_ns`, survive a power cut, soon: beside the recording, for a disk may
    /// take its time.
    pub fn sync(&self, until_ns: i64) {
        match self.unsynced.try_send((self.log.file(), until_ns)) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Completes the trace; what `trace.json` holds.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self, session: Session) -> Result<Manifest, Error> {
        self.closed.push(self.log.close_segment()?);
        self.all_told()?;
        drop(self.segments);
        let (mut parts, converted) = self
            .converter
            .join()
            .map_err(|_| Error::write(&self.directory, "a thread panicked; please report this"))?;
        converted?;
        parts.complete(session)?;
        Ok(parts.manifest)
    }
}

fn sync(file: &File, until_ns: i64, durable_until_ns: &AtomicI64) {
    if file.sync_data().is_ok() {
        durable_until_ns.store(until_ns, Ordering::Relaxed);
    }
}

/// Converts segments as they are closed, and again if that fails, until there will be no more.
fn convert(mut parts: Parts, closed: &Receiver<u32>, bytes: &AtomicU64) -> (Parts, Result<(), Error>) {
    priority::set(priority::CONVERTER);
    let mut waiting: VecDeque<u32> = VecDeque::new();
    let mut is_open = true;
    loop {
        let mut result = Ok(());
        while let Some(segment) = waiting.front() {
            result = parts.convert(*segment);
            if result.is_err() {
                break;
            }
            waiting.pop_front();
        }
        bytes.store(parts.bytes(), Ordering::Relaxed);
        if !is_open {
            return (parts, result);
        }
        match closed.recv_timeout(RETRY) {
            Ok(segment) => waiting.push_back(segment),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => is_open = false,
        }
    }
}
