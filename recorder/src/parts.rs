//! Segments of the log become parts: complete Parquet files.
//!
//! A `*.parquet` is always whole: it is written under a dot-name, synced, renamed, its directory synced, and only then
//! listed in `trace.json`, which is itself replaced atomically, and which says in the same stroke that the segment is done.

use crate::bounds::Bounds;
use crate::directory::{Directory, Error, named};
use crate::log::{GivenUp, Segment};
use ipc_schema::losses::{ROTATED_OUT, WRITE_FAILED};
use ipc_schema::manifest::{self, Manifest, Part, Session};
use ipc_schema::store::convert::{Conversion, Numbers, Place};
use ipc_schema::store::log::{self, Blocks, Rows, Standing};
use ipc_schema::store::loss::{self, Loss};
use ipc_schema::store::session;
use ipc_schema::tables::{CALLS, LOSSES, SESSION, Table};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};

const CREATED_BY: &str = concat!("ipc-recorder ", env!("CARGO_PKG_VERSION"));

/// What one segment became, as far as it may be deleted: what was lost stays told.
struct Group {
    files: Vec<String>,
    bytes: u64,
    /// The loss that its deletion is.
    loss: Loss,
}

/// The parts of a trace.
pub struct Parts {
    directory: Directory,
    bounds: Bounds,
    /// What `trace.json` holds.
    pub manifest: Manifest,
    numbers: Numbers,
    /// The oldest first.
    groups: VecDeque<Group>,
    /// Calls that were written and are lost.
    pub lost_calls: i64,
}

impl Parts {
    /// Those of a trace that begins; puts a first `trace.json` there: who waits for it knows that the recording runs.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Directory, manifest: Manifest, bounds: Bounds) -> Result<Parts, Error> {
        let numbers = Numbers::behind(&manifest.parts);
        let groups = VecDeque::new();
        let parts = Parts { directory: directory.clone(), bounds, manifest, numbers, groups, lost_calls: 0 };
        parts.write_manifest(&parts.manifest)?;
        Ok(parts)
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.manifest.parts.iter().map(|part| part.bytes).sum()
    }

    /// Turns a closed segment into parts, and removes it; and the oldest parts, if there are too many.
    ///
    /// # Errors
    /// The disk refuses: then no part of it is listed, and the segment is still there.
    pub fn convert(&mut self, segment: &Segment) -> Result<(), Error> {
        let log = self.directory.folder(log::FOLDER)?;
        let name = log::name_of(segment.number);
        let (too_old, kept) = self.too_old(segment.bytes);
        let mut losses: Vec<Loss> = self.groups.range(..too_old).map(|group| group.loss).collect();
        losses.retain(|loss| loss.count != Some(0));
        let trace_id = self.manifest.trace_id.clone();
        let directory = self.directory.clone();
        let mut read = Tally::default();
        let parts = self.write(|conversion| {
            let failed = |what: &dyn std::fmt::Display| Error::write(directory.path(), what);
            read = Tally::add(conversion, Final::of(log.open_file(&name)?)).map_err(|error| failed(&error))?;
            losses.extend(unreadable(segment, read.calls));
            losses.iter().try_for_each(|loss| {
                let row = loss.row(&trace_id).map_err(|error| failed(&error))?;
                conversion.add(&row).map_err(|error| failed(&error))
            })
        })?;
        // What lives is told by the segment behind alone from here on, unless this is the last.
        if let Ok(next) = log.open_file(&log::name_of(segment.number + 1)) {
            let _ = next.sync_data(); // its own syncing finds out
        }
        let group = group(segment, read.calls, &parts);
        let lost_here: i64 = losses.iter().filter_map(|loss| loss.count).sum();
        let mut session = self.manifest.session.clone();
        session.lost_calls += read.lost_calls + lost_here; // what a crash would leave
        let manifest = Manifest {
            session,
            parts: kept.into_iter().chain(parts).collect(),
            log_from: Some(segment.number + 1),
            ..self.manifest.clone()
        };
        let is_durable = self.commit(manifest)?;
        self.lost_calls += lost_here;
        let removed: Vec<Group> = self.groups.drain(..too_old).collect();
        for file in removed.iter().flat_map(|group| &group.files) {
            self.remove(file);
        }
        self.groups.push_back(group);
        if is_durable {
            let _ = log.remove_file(&name); // trace.json says that it is done
        }
        Ok(())
    }

    /// Adds rows; what is among them.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn fill(&mut self, rows: impl Iterator<Item = Rows>) -> Result<Tally, Error> {
        let directory = self.directory.clone();
        let mut added = Tally::default();
        let parts = self.write(|conversion| {
            added = Tally::add(conversion, rows).map_err(|error| Error::write(directory.path(), error))?;
            Ok(())
        })?;
        self.manifest.parts.extend(parts);
        Ok(added)
    }

    /// How many groups have to go for so many bytes more, and the parts that stay.
    fn too_old(&self, more: u64) -> (usize, Vec<Part>) {
        let mut excess = (self.bytes() + more).saturating_sub(self.bounds.max_parts_bytes());
        let mut count = 0;
        while let Some(group) = self.groups.get(count).filter(|_| excess > 0) {
            excess = excess.saturating_sub(group.bytes);
            count += 1;
        }
        let goes = |part: &Part| self.groups.range(..count).any(|group| group.files.contains(&part.file));
        let kept = self.manifest.parts.iter().filter(|part| !goes(part)).cloned().collect();
        (count, kept)
    }

    /// Completes the trace, all segments of which were converted, with what of the log could not be written; a table without rows gets one empty part, so that every
    /// reader finds it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn complete(&mut self, mut session: Session, given_up: Option<GivenUp>) -> Result<(), Error> {
        self.lost_calls += given_up.as_ref().and_then(|given_up| given_up.lost.count).unwrap_or(0);
        session.calls -= self.lost_calls;
        session.lost_calls += self.lost_calls;
        let mut manifest = Manifest { session, ..self.manifest.clone() };
        let directory = self.directory.clone();
        let failed = |what: &dyn std::fmt::Display| Error::write(directory.path(), what);
        let batch = session::row(&manifest).map_err(|what| failed(&what))?;
        let mut rows = vec![Rows { table: &SESSION, standing: Standing::Final, until_ns: 0, batch }];
        if let Some(given_up) = given_up {
            rows.push(given_up.lost.row(&manifest.trace_id).map_err(|what| failed(&what))?);
            rows.extend(given_up.kept);
        }
        let mut parts = self.write(|conversion| {
            let added = rows.iter().try_for_each(|rows| conversion.add(rows)).and_then(|()| conversion.finish());
            added.and_then(|()| conversion.fill_up(&manifest.parts)).map_err(|error| failed(&error))
        })?;
        manifest.parts.append(&mut parts);
        manifest.log_from = None;
        manifest.complete = true;
        self.commit(manifest)?;
        let _ = self.directory.remove_folder(log::FOLDER); // trace.json says that there is none
        Ok(())
    }

    /// Removes a part that nothing lists: what is in it is elsewhere, or lost and counted.
    fn remove(&self, file: &str) {
        if let Some((folder, name)) = file.split_once('/') {
            let _ = self.directory.folder(folder).and_then(|folder| folder.remove_file(name));
        }
    }

    /// Writes what `fill` adds as parts, or nothing.
    fn write(&mut self, fill: impl FnOnce(&mut Conversion<Files>) -> Result<(), Error>) -> Result<Vec<Part>, Error> {
        let place = Files { directory: self.directory.clone(), made: Vec::new() };
        let mut conversion = Conversion::new(place, CREATED_BY, &self.numbers);
        let failed = |error| Error::write(self.directory.path(), error);
        match fill(&mut conversion).and_then(|()| conversion.finish().map_err(failed)) {
            Ok(()) => {
                self.numbers = conversion.numbers();
                Ok(conversion.done)
            }
            Err(error) => {
                conversion.into_place().remove();
                Err(error)
            }
        }
    }

    /// Replaces what `trace.json` says; parts that only the refused one lists are removed. Whether it survives a power cut.
    fn commit(&mut self, manifest: Manifest) -> Result<bool, Error> {
        if let Err(error) = self.write_manifest(&manifest) {
            for part in manifest.parts.iter().filter(|part| !self.manifest.parts.contains(part)) {
                self.remove(&part.file);
            }
            return Err(error);
        }
        self.manifest = manifest;
        Ok(self.directory.sync().is_ok())
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let hidden = format!(".{}", manifest::FILE_NAME);
        let path = self.directory.path().join(&hidden);
        let text = serde_json::to_string_pretty(manifest).map_err(|error| Error::write(&path, error))?;
        let _ = self.directory.remove_file(&hidden); // of a try that failed
        let mut file = self.directory.create_file(&hidden)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(named(&path))?;
        self.directory.rename(&hidden, manifest::FILE_NAME)
    }
}

/// What is among rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Calls.
    pub calls: i64,
    /// Calls that they say are lost.
    pub lost_calls: i64,
}

impl Tally {
    fn add(conversion: &mut Conversion<Files>, rows: impl Iterator<Item = Rows>) -> parquet::errors::Result<Tally> {
        let mut tally = Tally::default();
        for rows in rows {
            match rows.table.name {
                name if name == CALLS.name => tally.calls += rows.batch.num_rows() as i64,
                name if name == LOSSES.name => tally.lost_calls += loss::calls_of(&rows.batch),
                _ => {}
            }
            conversion.add(&rows)?;
        }
        Ok(tally)
    }
}

/// What may be deleted of a segment's parts.
fn group(segment: &Segment, calls: i64, parts: &[Part]) -> Group {
    let files = parts.iter().filter(|part| part.table != LOSSES.name);
    let (from_ns, to_ns, count) = (segment.from_ns, segment.to_ns, Some(calls));
    Group {
        bytes: files.clone().map(|part| part.bytes).sum(),
        files: files.map(|part| part.file.clone()).collect(),
        loss: Loss { source: ROTATED_OUT, from_ns, to_ns, count },
    }
}

/// Calls that were written to a segment and cannot be read back.
fn unreadable(segment: &Segment, read: i64) -> Option<Loss> {
    let count = Some(segment.calls as i64 - read).filter(|count| *count > 0);
    let (from_ns, to_ns) = (segment.from_ns, segment.to_ns);
    count.map(|count| Loss { source: WRITE_FAILED, from_ns, to_ns, count: Some(count) })
}

/// The final rows of a segment, up to the first block that is not whole.
struct Final {
    blocks: Blocks<File>,
    rows: std::vec::IntoIter<Rows>,
}

impl Final {
    fn of(file: File) -> Final {
        Final { blocks: Blocks::new(file), rows: Vec::new().into_iter() }
    }
}

impl Iterator for Final {
    type Item = Rows;

    fn next(&mut self) -> Option<Rows> {
        loop {
            if let Some(rows) = self.rows.find(|rows| rows.standing == Standing::Final) {
                return Some(rows);
            }
            self.rows = self.blocks.next()?.ok()?.into_iter();
        }
    }
}

/// Parts as files, under a dot-name until they are whole.
struct Files {
    directory: Directory,
    /// What there is of them.
    made: Vec<(Directory, String)>,
}

impl Place for Files {
    type To = File;

    fn begin(&mut self, table: &'static Table, name: &str) -> io::Result<File> {
        let folder = self.directory.folder(table.name).map_err(io::Error::other)?;
        let hidden = format!(".{name}");
        let _ = folder.remove_file(&hidden); // of a try that failed
        let file = folder.create_file(&hidden).map_err(io::Error::other)?;
        self.made.push((folder, hidden));
        Ok(file)
    }

    fn end(&mut self, table: &'static Table, name: &str, written: File) -> io::Result<()> {
        let folder = self.directory.folder(table.name).map_err(io::Error::other)?;
        written.sync_all()?;
        folder.rename(&format!(".{name}"), name).map_err(io::Error::other)?;
        self.made.push((folder.clone(), name.to_owned()));
        folder.sync().map_err(io::Error::other)
    }
}

impl Files {
    /// Removes what was written: the log has it all.
    fn remove(self) {
        for (folder, name) in self.made {
            let _ = folder.remove_file(&name); // it has another name by now
        }
    }
}
