//! Rows that no part holds: those of a trace that is still being recorded, or whose recording did not end. They stand in the
//! log, which is believed block by block, and become parts in a folder that goes with the trace.

mod open;

use crate::error::Error;
use crate::files::Files;
use crate::part;
use ipc_schema::losses::{self, Source};
use ipc_schema::manifest::{Manifest, Part};
use ipc_schema::store::convert::{Conversion, Numbers, Place};
use ipc_schema::store::log::{self, Blocks, Rows, Standing};
use ipc_schema::store::loss::{self, Loss};
use ipc_schema::store::session;
use ipc_schema::tables::{CALLS, LOSSES, SESSION, Table};
use open::Open;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CREATED_BY: &str = concat!("ipc-analyzer ", env!("CARGO_PKG_VERSION"));

/// What the log of a trace holds.
#[derive(Debug)]
pub struct Recovered {
    /// Where its parts are.
    pub folder: TempDir,
    /// What a manifest would say of them.
    pub parts: Vec<Part>,
    /// Everything that ended before this instant is in the trace, nanoseconds since the epoch; `None`: the log is empty.
    pub until_ns: Option<i64>,
    /// What of the log could not be read.
    pub damage: Vec<String>,
}

/// Whether the recorder still has its lock on the trace.
///
/// # Errors
/// The file system has no locks.
pub fn is_being_recorded(trace: &Path) -> io::Result<bool> {
    match File::open(trace)?.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads the log of a trace; `None` if it has none.
///
/// # Errors
/// There is no room for what it holds.
pub fn read(trace: &Files, manifest: &mut Manifest) -> Result<Option<Recovered>, Error> {
    if manifest.log_from.is_none() {
        return Ok(None);
    }
    let folder = TempDir::new().map_err(|error| no_room(trace.path(), &std::env::temp_dir(), &error.to_string()))?;
    read_into(trace, manifest, folder, false).map(Some)
}

/// [`read`], of a trace that has one, into a folder; `for_good`: with whatever a trace has that ended. What the manifest says
/// of the session is brought up to date.
///
/// # Errors
/// As there.
pub fn read_into(trace: &Files, manifest: &mut Manifest, folder: TempDir, for_good: bool) -> Result<Recovered, Error> {
    let place = folder.path().to_owned();
    let conversion = Conversion::new(Folder(place.clone()), CREATED_BY, &Numbers::behind(&manifest.parts));
    let (open, damage) = (Open::default(), Vec::new());
    let mut reading =
        Reading { folder, conversion, open, until_ns: None, gap_from_ns: None, written_ns: 0, lost_calls: 0, damage };
    let read = reading.read_all(trace, &segments(trace, manifest.log_from.unwrap_or(0))?, manifest);
    read.and_then(|()| reading.finish(manifest, for_good)).map_err(|what| no_room(trace.path(), &place, &what))
}

fn no_room(trace: &Path, folder: &Path, what: &str) -> Error {
    let (trace, folder) = (trace.display(), folder.display());
    Error::Usage(format!("no room in {folder} for what the log of {trace} holds ({what}); TMPDIR names another place"))
}

/// A log while it is read.
struct Reading {
    folder: TempDir,
    conversion: Conversion<Folder>,
    open: Open,
    until_ns: Option<i64>,
    /// What was read last before something that could not be read.
    gap_from_ns: Option<i64>,
    /// When the log was last written to, nanoseconds since the epoch.
    written_ns: i64,
    /// As many as the log says.
    lost_calls: i64,
    damage: Vec<String>,
}

impl Reading {
    /// Reads segments, in order.
    fn read_all(&mut self, trace: &Files, segments: &[(u32, PathBuf)], manifest: &Manifest) -> Result<(), String> {
        let mut next = manifest.log_from;
        for (number, path) in segments {
            if next != Some(*number) {
                self.miss(manifest, format!("there is no segment before {}", path.display()));
            }
            next = number.checked_add(1);
            let is_last = segments.last().is_some_and(|(last, _)| last == number);
            self.read(trace, path, is_last, manifest)?;
        }
        Ok(())
    }

    /// Something is missing behind what was read.
    fn miss(&mut self, manifest: &Manifest, what: String) {
        self.damage.push(what);
        self.gap_from_ns = self.gap_from_ns.or(Some(self.until_ns.unwrap_or(manifest.session.start_ns)));
    }

    /// Reads a segment, as far as it is whole.
    fn read(&mut self, trace: &Files, path: &Path, is_last: bool, manifest: &Manifest) -> Result<(), String> {
        let opened = trace.find(path).and_then(|found| Ok((found.reader()?, found)));
        let (reader, found) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // it became parts meanwhile
            Err(error) => {
                self.miss(manifest, format!("{}: {error}", path.display()));
                return Ok(());
            }
        };
        self.written_ns = self.written_ns.max(found.modified_ns);
        let mut blocks = Blocks::new(reader);
        let mut is_closed = is_last;
        loop {
            match part::guard(|| blocks.next().transpose()) {
                Ok(None) if is_closed => return Ok(()),
                Ok(None) => {
                    self.miss(manifest, format!("{} is not whole: it ends too early", path.display()));
                    return Ok(());
                }
                Ok(Some(block)) => {
                    is_closed = is_last || block.is_empty();
                    self.bridge(&block, manifest)?;
                    self.take(&block)?;
                }
                Err(what) => {
                    let (left, path) = (found.bytes.saturating_sub(blocks.whole_bytes), found.path.display());
                    let what = format!("the last {left} bytes of {path} are not whole and left out: {what}");
                    self.miss(manifest, what);
                    return Ok(());
                }
            }
        }
    }

    /// A block behind something that could not be read: what is between is lost, and nobody knows which calls ended there.
    fn bridge(&mut self, block: &[Rows], manifest: &Manifest) -> Result<(), String> {
        let (Some(from_ns), Some(rows)) = (self.gap_from_ns, block.first()) else { return Ok(()) };
        self.gap_from_ns = None;
        self.open.forget_calls();
        self.add(&lost(manifest, losses::LOG_DAMAGED, from_ns, rows.until_ns)?)
    }

    fn take(&mut self, block: &[Rows]) -> Result<(), String> {
        for rows in block {
            self.until_ns = self.until_ns.max(Some(rows.until_ns));
            self.open.take(rows).map_err(|error| error.to_string())?;
            if rows.standing == Standing::Final {
                self.add(rows)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, rows: &Rows) -> Result<(), String> {
        if rows.table.name == LOSSES.name {
            self.lost_calls = self.lost_calls.saturating_add(loss::calls_of(&rows.batch));
        }
        self.conversion.add(rows).map_err(|error| error.to_string())
    }

    fn finish(mut self, manifest: &mut Manifest, for_good: bool) -> Result<Recovered, String> {
        let open = std::mem::take(&mut self.open).into_rows().map_err(|error| error.to_string())?;
        open.iter().try_for_each(|rows| self.add(rows))?;
        // Where the log says nothing, nobody knows since when.
        let until_ns = self.until_ns.unwrap_or(0).max(manifest.session.start_ns);
        self.add(&lost(manifest, losses::TAIL, until_ns, self.written_ns)?)?;
        manifest.session.end_ns = manifest.session.end_ns.max(until_ns);
        self.conversion.finish().map_err(|error| error.to_string())?;
        let parts = manifest.parts.iter().chain(&self.conversion.done);
        let calls: u64 = parts.filter(|part| part.table == CALLS.name).map(|part| part.rows).sum();
        manifest.session.calls = i64::try_from(calls).unwrap_or(i64::MAX);
        manifest.session.lost_calls = manifest.session.lost_calls.saturating_add(self.lost_calls);
        if for_good {
            let (standing, until_ns) = (Standing::Final, 0);
            self.add(&Rows { table: &SESSION, standing, until_ns, batch: session::row(manifest)? })?;
            self.conversion
                .fill_up(&manifest.parts)
                .and_then(|()| self.conversion.finish())
                .map_err(|error| error.to_string())?;
        }
        let Reading { folder, conversion, until_ns, damage, .. } = self;
        Ok(Recovered { folder, parts: conversion.done, until_ns, damage })
    }
}

/// A loss of which nobody knows how much it is.
fn lost(manifest: &Manifest, source: Source, from_ns: i64, to_ns: i64) -> Result<Rows, String> {
    Loss { source, from_ns, to_ns, count: None }.row(&manifest.trace_id)
}

/// The segments of a log, in order.
fn segments(trace: &Files, first: u32) -> Result<Vec<(u32, PathBuf)>, Error> {
    let number = |path: PathBuf| {
        let number = log::number_of(path.file_name()?.to_str()?)?;
        (number >= first).then_some((number, path))
    };
    let mut found: Vec<(u32, PathBuf)> = trace.list(log::FOLDER)?.into_iter().filter_map(number).collect();
    found.sort();
    Ok(found)
}

/// Parts as files of a folder.
struct Folder(PathBuf);

impl Place for Folder {
    type To = File;

    fn begin(&mut self, table: &'static Table, name: &str) -> io::Result<File> {
        let folder = self.0.join(table.name);
        fs::create_dir_all(&folder)?;
        File::create_new(folder.join(name))
    }

    fn end(&mut self, _: &'static Table, _: &str, _: File) -> io::Result<()> {
        Ok(())
    }
}
