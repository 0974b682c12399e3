//! The flight recorder: the last of what happened, in memory; a trace of it when somebody asks or something happens.

use crate::bounds::Bounds;
use crate::directory::{Directory, Error, named};
use crate::parts::{Parts, Tally};
use crate::priority;
use crate::record::summarize;
use crate::session;
use crate::writer::Destination;
use arrow::array::RecordBatch;
use indicatif::HumanBytes;
use ipc_schema::losses::Source;
use ipc_schema::manifest::{Manifest, Session};
use ipc_schema::store::log::{BlockWriter, Blocks, Rows, Standing};
use ipc_schema::tables::Table;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What is kept is forgotten in this many pieces.
const PIECES: i64 = 16;

/// Blocks of some time.
struct Piece {
    blocks: Vec<u8>,
    from_ns: i64,
    to_ns: i64,
}

/// What was asked for.
pub struct Settings {
    /// Where the traces go, a folder each.
    pub directory: PathBuf,
    /// How far back a trace goes.
    pub keep: Duration,
    /// How many traces are written at most.
    pub traces: usize,
    /// What it may take.
    pub bounds: Bounds,
}

/// The rows of the last seconds.
pub struct Flight {
    settings: Settings,
    manifest: Manifest,
    pieces: VecDeque<Arc<Piece>>,
    piece: Piece,
    block: BlockWriter,
    /// The trace that is about to be written: for what, and what lives.
    asked: Option<(String, BlockWriter)>,
    writing: Option<JoinHandle<Result<Manifest, Error>>>,
    written: Vec<Manifest>,
    /// Why the last trace that could not be written was not.
    failed: Option<Error>,
}

impl Flight {
    /// Begins with nothing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn begin(settings: Settings, manifest: Manifest) -> Result<Flight, Error> {
        let from_ns = manifest.session.start_ns;
        let block = BlockWriter::new().map_err(named(&settings.directory))?;
        let piece = Piece { blocks: Vec::new(), from_ns, to_ns: from_ns };
        let pieces = VecDeque::new();
        Ok(Flight {
            settings,
            manifest,
            pieces,
            piece,
            block,
            asked: None,
            writing: None,
            written: Vec::new(),
            failed: None,
        })
    }

    fn max_bytes(&self) -> usize {
        self.settings.bounds.backlog_bytes
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.blocks.len()).sum::<usize>() + self.piece.blocks.len()
    }

    fn close_piece(&mut self) {
        let to_ns = self.piece.to_ns;
        let next = Piece { blocks: Vec::new(), from_ns: to_ns, to_ns };
        self.pieces.push_back(Arc::new(std::mem::replace(&mut self.piece, next)));
    }

    /// Forgets what is older than it has to be, or has no room.
    fn forget(&mut self) {
        let keep_ns = i64::try_from(self.settings.keep.as_nanos()).unwrap_or(i64::MAX);
        let is_old = |piece: &Arc<Piece>| self.piece.to_ns.saturating_sub(piece.to_ns) >= keep_ns;
        while self.pieces.front().is_some_and(is_old) || self.bytes() > self.max_bytes() {
            if self.pieces.pop_front().is_none() {
                break;
            }
        }
    }

    /// Why no further trace can be written.
    fn refuses(&self) -> Option<String> {
        if self.written.len() >= self.settings.traces {
            return Some(format!("{} traces were written, as many as --traces allows", self.written.len()));
        }
        let parts = self.written.iter().flat_map(|manifest| &manifest.parts);
        let (room, there) = (self.bytes() as u64, parts.map(|part| part.bytes).sum::<u64>());
        if there + room > self.settings.bounds.max_bytes {
            return Some(format!("{} of traces were written, --max-size allows no more", HumanBytes(there)));
        }
        self.settings.bounds.refuses(&self.settings.directory, room, false)
    }

    /// Waits for the trace before; that it failed is no reason to stop.
    fn collect(&mut self) {
        match self.writing.take().map(JoinHandle::join) {
            Some(Ok(Ok(manifest))) => self.written.push(manifest),
            Some(Ok(Err(error))) => {
                anstream::eprintln!("ipc-recorder: {error}");
                self.failed = Some(error);
            }
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => {}
        }
    }

    /// Begins to write the trace that was asked for.
    fn write_trace(&mut self, trigger: &str, mut living: BlockWriter) -> Result<(), Error> {
        let directory = self.settings.directory.clone();
        let living = living.finish().map_err(named(&directory))?;
        self.close_piece();
        let pieces: Vec<Arc<Piece>> = self.pieces.iter().cloned().collect();
        let session = Session {
            start_ns: pieces.first().map_or(self.piece.from_ns, |piece| piece.from_ns),
            end_ns: self.piece.to_ns,
            trigger: Some(trigger.to_owned()),
            ..self.manifest.session.clone()
        };
        let path = directory.join(name(&directory, &session));
        let manifest = Manifest { session, ..self.manifest.clone() };
        let work = move || write_trace(&path, manifest, &pieces, &living);
        let thread = std::thread::Builder::new().name("dumper".into()).spawn(work);
        self.writing = Some(thread.map_err(named(&directory))?);
        Ok(())
    }
}

impl Destination for Flight {
    fn write(&mut self, table: &Table, standing: Standing, until_ns: i64, batch: &RecordBatch) -> Result<(), Error> {
        let block = match (standing, &mut self.asked) {
            (Standing::Final, _) => &mut self.block,
            (Standing::Open, Some((_, living))) => living,
            (Standing::Open, None) => return Ok(()), // it is told again when a trace is asked for
        };
        self.piece.to_ns = until_ns;
        block.add(table, standing, until_ns, batch).map_err(|error| Error::write(&self.settings.directory, error))
    }

    fn flush(&mut self) {
        if !self.block.is_empty()
            && let Ok(block) = self.block.finish()
        {
            self.piece.blocks.extend_from_slice(&block);
        }
        let age_ns = u128::from(self.piece.to_ns.abs_diff(self.piece.from_ns));
        let is_old = age_ns * PIECES as u128 >= self.settings.keep.as_nanos();
        if is_old || self.piece.blocks.len() * PIECES as usize >= self.max_bytes() {
            self.close_piece();
            self.forget();
        }
    }

    fn refuses(&self, _: &Table) -> Option<Source> {
        None
    }

    fn turn(&mut self) -> bool {
        false
    }

    fn ask(&mut self, trigger: &str) -> Result<(), Error> {
        self.collect();
        match self.refuses() {
            Some(reason) => anstream::eprintln!("ipc-recorder: {trigger}: no trace: {reason}"),
            None => {
                let living = BlockWriter::new().map_err(named(&self.settings.directory))?;
                self.asked = Some((trigger.to_owned(), living));
            }
        }
        Ok(())
    }

    fn all_told(&mut self) -> Result<(), Error> {
        match self.asked.take() {
            Some((trigger, living)) => self.write_trace(&trigger, living),
            None => Ok(()),
        }
    }

    fn sync(&self, _: i64) {}

    fn durable_until_ns(&self) -> i64 {
        0
    }

    fn bytes(&self) -> u64 {
        self.bytes() as u64
    }

    fn finish(mut self: Box<Self>, _: Session) -> Result<Vec<Manifest>, Error> {
        self.collect();
        self.failed.map_or(Ok(self.written), Err)
    }
}

/// A name that no trace has.
fn name(directory: &Path, session: &Session) -> String {
    let name = session::default_name(&Session { start_ns: session.end_ns, ..session.clone() });
    let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
    names.into_iter().find(|name| directory.join(name).symlink_metadata().is_err()).unwrap_or(name)
}

fn write_trace(path: &Path, manifest: Manifest, pieces: &[Arc<Piece>], living: &[u8]) -> Result<Manifest, Error> {
    priority::set(priority::CONVERTER);
    let (directory, _) = Directory::create(path)?;
    let mut session = manifest.session.clone();
    let mut parts = Parts::begin(&directory, manifest, Bounds::NONE)?;
    let blocks = pieces.iter().map(|piece| piece.blocks.as_slice()).chain([living]);
    Tally { calls: session.calls, lost_calls: session.lost_calls } = parts.fill(blocks.flat_map(rows_of))?;
    parts.complete(session, None)?;
    anstream::eprintln!("ipc-recorder: {}", parts.manifest.session.trigger.as_deref().unwrap_or_default());
    summarize(path, &parts.manifest);
    Ok(parts.manifest)
}

/// The rows of blocks that this program wrote.
fn rows_of(blocks: &[u8]) -> impl Iterator<Item = Rows> {
    let mut blocks = Blocks::new(blocks);
    std::iter::from_fn(move || blocks.next()?.ok()).flatten()
}
