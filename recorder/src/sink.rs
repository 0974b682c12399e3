//! Where rows go: into the log at once, from there into parts beside the recording.

use crate::bounds::Bounds;
use crate::directory::{Directory, Error};
use crate::log::{self, Log, Segment};
use crate::parts::Parts;
use crate::priority;
use crate::writer::Destination;
use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use ipc_schema::losses::Source;
use ipc_schema::manifest::{Manifest, Session};
use ipc_schema::store::log::Standing;
use ipc_schema::tables::Table;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long what failed waits before it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long the bounds refuse before that is said: parts that make room in time are no news.
const SAID_AFTER: Duration = Duration::from_secs(1);
/// How often it is said at most what is wrong with the disk.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// A trace that is being written.
pub struct Sink {
    directory: Directory,
    log: Log,
    /// Why the disk does not take what waits.
    trouble: Option<Trouble>,
    /// When anything was said last.
    said: Option<Instant>,
    /// Segments that still tell what lives.
    closed: Vec<Segment>,
    /// Whether the segment tells all that lives, and when that was asked for.
    is_told: bool,
    asked: Option<Instant>,
    converter: Converter,
    syncer: Syncer,
    /// Held as long as the trace is being written.
    _lock: Option<File>,
}

/// Why the disk does not take what waits.
struct Trouble {
    /// What is lost for it is lost as this.
    source: Source,
    since: Instant,
    is_said: bool,
}

impl Sink {
    /// Begins a trace in a directory, which exists and is empty.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Directory, manifest: Manifest, bounds: Bounds) -> Result<Sink, Error> {
        let lock = directory.lock();
        let log = Log::begin(directory, bounds, manifest.session.start_ns)?;
        let parts = Parts::begin(directory, manifest, bounds)?;
        let cannot_start = |error| Error::write(directory.path(), format!("no thread for it: {error}"));
        Ok(Sink {
            directory: directory.clone(),
            log,
            trouble: None,
            said: None,
            closed: Vec::new(),
            is_told: true,
            asked: None,
            converter: Converter::start(parts).map_err(cannot_start)?,
            syncer: Syncer::start().map_err(cannot_start)?,
            _lock: lock,
        })
    }

    /// Bytes of the log, but for the segment that is being written.
    fn log_bytes(&self) -> u64 {
        let closed = self.closed.iter().map(|segment| segment.bytes).sum::<u64>();
        self.converter.waiting_bytes() + closed
    }

    /// Says what is wrong, unless something was said a moment ago; whether it did.
    fn say(&mut self, what: &str) -> bool {
        let is_due = self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY);
        if is_due {
            self.said = Some(Instant::now());
            anstream::eprintln!("ipc-recorder: {}: {what}", self.directory.path().display());
        }
        is_due
    }

    /// The disk does not take what waits.
    fn suffer(&mut self, error: &io::Error) {
        let new = Trouble { source: log::source_of(error), since: Instant::now(), is_said: false };
        let mut trouble = self.trouble.take().unwrap_or(new);
        let is_news = error.raw_os_error().is_some() || trouble.since.elapsed() >= SAID_AFTER;
        if is_news && !trouble.is_said {
            let meanwhile = "what is recorded waits in memory, as long as that lasts";
            trouble.is_said = self.say(&format!("cannot write: {error}; {meanwhile}"));
        }
        self.trouble = Some(trouble);
    }

    /// Closes the segment; whether that was possible.
    fn close_segment(&mut self) -> bool {
        let closed = self.log.next_segment().map(|segment| self.converter.convert(segment));
        closed.is_ok()
    }

    /// Has what was written become parts, which are smaller; whether there may be room now.
    fn make_room(&mut self) -> bool {
        let is_closed = self.log.bytes() > 0 && self.close_segment();
        // It may have become parts already.
        (self.converter.waiting_bytes() > 0 && self.converter.wait()) || is_closed
    }
}

impl Destination for Sink {
    fn bytes(&self) -> u64 {
        self.converter.parts_bytes.load(Ordering::Relaxed) + self.log_bytes() + self.log.bytes()
    }

    fn write(&mut self, table: &Table, standing: Standing, until_ns: i64, batch: &RecordBatch) -> Result<(), Error> {
        self.log.add(table, standing, until_ns, batch)
    }

    fn flush(&mut self) {
        let written = self.log.write(self.log_bytes(), false);
        // To make room goes before what a crash would take.
        if self.is_told || written.is_err() {
            self.closed.drain(..).for_each(|segment| self.converter.convert(segment));
        }
        match written {
            Ok(()) => {
                if self.trouble.take().is_some_and(|trouble| trouble.is_said) {
                    anstream::eprintln!("ipc-recorder: {}: writing again", self.directory.path().display());
                }
            }
            Err(error) => self.suffer(&error),
        }
    }

    fn refuses(&self, table: &Table) -> Option<Source> {
        Some(self.trouble.as_ref()?.source).filter(|_| self.log.is_overfull(table))
    }

    fn turn(&mut self) -> bool {
        if let Some(error) = self.syncer.failure() {
            self.log.break_off(); // it is not tried again
            self.say(&format!("{error} as the disk was asked to keep what was written; what is gone will be counted"));
        }
        // That it cannot begin is no news: writing tells.
        if self.closed.is_empty()
            && self.log.is_full()
            && let Ok(segment) = self.log.next_segment()
        {
            // Before anything in the next one counts as durable.
            let folder = self.log.folder().ok();
            [Some(segment.file.clone()), folder].into_iter().flatten().for_each(|f| self.syncer.sync(f, segment.to_ns));
            self.closed.push(segment);
            (self.asked, self.is_told) = (None, false);
        }
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() >= RETRY);
        let wants_all = !self.is_told && is_due;
        if wants_all {
            self.asked = Some(Instant::now());
        }
        wants_all
    }

    fn ask(&mut self, _: &str) -> Result<(), Error> {
        Ok(()) // all of it is a trace
    }

    fn all_told(&mut self) -> Result<(), Error> {
        self.is_told = true;
        self.flush();
        Ok(())
    }

    fn sync(&self, until_ns: i64) {
        if self.trouble.is_none() {
            self.syncer.sync_soon(self.log.file(), until_ns);
        }
    }

    fn durable_until_ns(&self) -> i64 {
        self.syncer.state.durable_until_ns.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>, session: Session) -> Result<Vec<Manifest>, Error> {
        let unfinished = |directory: &Path, error: &dyn std::fmt::Display| {
            let name = directory.display();
            let what = format!("{error}; what was written is there: `ipc-analyzer repair {name}` completes it");
            Error::write(directory, what)
        };
        self.closed.drain(..).for_each(|segment| self.converter.convert(segment));
        if self.log.is_broken() {
            self.close_segment(); // what waits may still find a place
        }
        let mut given_up = None;
        while let Err(error) = self.log.write(self.log_bytes(), true) {
            if !self.make_room() {
                given_up = Some(self.log.give_up(&error));
                break;
            }
        }
        self.converter.convert(self.log.end());
        let (mut parts, converted) = self.converter.end();
        converted.map_err(|error| unfinished(self.directory.path(), &error))?;
        parts.complete(session, given_up).map_err(|error| unfinished(self.directory.path(), &error))?;
        Ok(vec![parts.manifest])
    }
}

/// The thread that turns segments into parts.
struct Converter {
    segments: Sender<Segment>,
    /// The bytes of each segment that was converted; `None`: it could not be.
    converted: Receiver<Option<u64>>,
    thread: JoinHandle<(Parts, Result<(), Error>)>,
    given_bytes: u64,
    taken_bytes: Cell<u64>,
    parts_bytes: Arc<AtomicU64>,
}

impl Converter {
    fn start(parts: Parts) -> io::Result<Converter> {
        let (segments, closed) = crossbeam_channel::unbounded();
        let (tell, converted) = crossbeam_channel::unbounded();
        let parts_bytes = Arc::new(AtomicU64::new(0));
        let bytes = parts_bytes.clone();
        let work = move || convert(parts, &closed, &tell, &bytes);
        let thread = std::thread::Builder::new().name("converter".into()).spawn(work)?;
        Ok(Converter { segments, converted, thread, given_bytes: 0, taken_bytes: Cell::new(0), parts_bytes })
    }

    fn convert(&mut self, segment: Segment) {
        self.given_bytes += segment.bytes;
        let _ = self.segments.send(segment); // it ends with this
    }

    /// Bytes of the segments that are no parts yet.
    fn waiting_bytes(&self) -> u64 {
        let taken: u64 = self.converted.try_iter().flatten().sum();
        self.taken_bytes.set(self.taken_bytes.get() + taken);
        self.given_bytes - self.taken_bytes.get()
    }

    /// Waits until a segment is converted; whether it could be.
    fn wait(&self) -> bool {
        let Ok(Some(bytes)) = self.converted.recv() else { return false };
        self.taken_bytes.set(self.taken_bytes.get() + bytes);
        true
    }

    fn end(self) -> (Parts, Result<(), Error>) {
        drop(self.segments);
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Converts segments as they are closed, and again if that fails, until there will be no more.
fn convert(
    mut parts: Parts,
    closed: &Receiver<Segment>,
    tell: &Sender<Option<u64>>,
    bytes: &AtomicU64,
) -> (Parts, Result<(), Error>) {
    priority::set(priority::CONVERTER);
    let mut waiting: VecDeque<Segment> = VecDeque::new();
    let mut is_open = true;
    loop {
        let mut result = Ok(());
        while let Some(segment) = waiting.pop_front() {
            result = parts.convert(&segment);
            let _ = tell.send(result.is_ok().then_some(segment.bytes)); // the sink may be gone
            if result.is_err() {
                waiting.push_front(segment);
                break;
            }
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

/// The thread that waits for the disk.
struct Syncer {
    /// With until when they reach.
    files: Sender<(Arc<File>, i64)>,
    state: Arc<SyncState>,
}

#[derive(Default)]
struct SyncState {
    is_asked: AtomicBool,
    failure: Mutex<Option<io::Error>>,
    /// Nanoseconds since the epoch.
    durable_until_ns: AtomicI64,
}

impl Syncer {
    fn start() -> io::Result<Syncer> {
        let (files, to_sync) = crossbeam_channel::unbounded::<(Arc<File>, i64)>();
        let state = Arc::new(SyncState::default());
        let of_thread = state.clone();
        let work = move || {
            for (file, until_ns) in to_sync {
                of_thread.is_asked.store(false, Ordering::Release);
                match file.sync_data() {
                    Ok(()) => of_thread.durable_until_ns.store(until_ns, Ordering::Relaxed),
                    Err(error) => *of_thread.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
                }
            }
        };
        std::thread::Builder::new().name("syncer".into()).spawn(work)?;
        Ok(Syncer { files, state })
    }

    /// In its turn.
    fn sync(&self, file: Arc<File>, until_ns: i64) {
        let _ = self.files.send((file, until_ns)); // it ends with this
    }

    /// In its turn, unless that is asked for already.
    fn sync_soon(&self, file: Arc<File>, until_ns: i64) {
        if !self.state.is_asked.swap(true, Ordering::AcqRel) {
            self.sync(file, until_ns);
        }
    }

    /// Why something may have been lost since this was last asked.
    fn failure(&self) -> Option<io::Error> {
        self.state.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
