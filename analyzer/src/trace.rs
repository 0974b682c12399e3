//! Opens a trace. A trace is untrusted input: the format version is checked before anything else is
//! believed, the manifest cannot name a file outside the directory, and no part is decoded here.

use crate::error::Error;
use crate::files::{Files, Stored, Within};
use crate::recover::{self, Recovered};
use ipc_schema::manifest::{self, BLOCK_BYTES, Manifest};
use ipc_schema::store::convert::is_part;
use ipc_schema::tables::{self, Table};
use ipc_schema::version::FormatVersion;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a checksum begins in the manifest.
pub const CHECKSUM_PREFIX: &str = "xxh3_128:";

/// An opened trace.
#[derive(Debug)]
pub struct Trace {
    /// The directory or tar as it was given.
    pub path: PathBuf,
    /// `trace.json`.
    pub manifest: Manifest,
    /// The parts of each table, in the order of their names.
    pub parts: BTreeMap<&'static str, Vec<Part>>,
    /// What a reader of any answer should know about the files.
    pub warnings: Vec<String>,
    /// What no part holds; its files are there as long as this.
    pub recovered: Option<Arc<Recovered>>,
}

/// One Parquet file on disk.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its table.
    pub table: &'static Table,
    /// Where it is.
    pub path: PathBuf,
    /// Where in a tar, which `path` then names as well.
    pub within: Option<Within>,
    /// Its size on disk, bytes.
    pub bytes: u64,
    /// What the manifest says of it; `None`: the manifest does not list it.
    pub listed: Option<Listed>,
    /// The checksums of its blocks, as many as it has; `None` in older traces.
    pub blocks: Option<Arc<[u64]>>,
}

/// What the manifest says of a part.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Rows.
    pub rows: u64,
    /// XXH3 128 over the whole file.
    pub checksum: u128,
}

impl Trace {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`Error::NotATrace`], [`Error::Newer`], [`Error::Damaged`].
    pub fn open(path: &Path) -> Result<Trace, Error> {
        let files = Files::open(path)?;
        let (manifest, recovered) = read_whole(&files)?;
        let mut trace =
            Trace { path: path.to_owned(), parts: BTreeMap::new(), warnings: Vec::new(), manifest, recovered: None };
        trace.add_listed_parts(&files, &trace.manifest.parts.clone())?;
        trace.add_unlisted_parts(&files)?;
        if let Some(recovered) = recovered {
            trace.add_listed_parts(&Files::Directory(recovered.folder.path().to_owned()), &recovered.parts)?;
            trace.warnings.extend(recovered.damage.iter().cloned());
            trace.recovered = Some(Arc::new(recovered));
        }
        for parts in trace.parts.values_mut() {
            // By their numbers: those of the log lie in another folder.
            parts.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
        }
        if !trace.manifest.complete {
            trace.warnings.push(match (&trace.recovered, files.is_being_recorded()) {
                (Some(_), Ok(true)) => "it is still being recorded: its last second is not here".to_owned(),
                (Some(_), _) if matches!(files, Files::Directory(_)) => format!(
                    "the recording did not end properly: what came behind its log is not here; `ipc-analyzer repair {}` \
                     completes the files",
                    path.display()
                ),
                _ => "the recording did not end properly: what came behind its log is not here".to_owned(),
            });
        }
        Ok(trace)
    }

    /// The parts of a table.
    pub fn parts_of(&self, table: &Table) -> &[Part] {
        self.parts.get(table.name).map_or(&[], Vec::as_slice)
    }

    /// The rows of a table as the manifest counts them; parts that it does not list count 0.
    pub fn listed_rows(&self, table: &Table) -> u64 {
        self.parts_of(table).iter().filter_map(|p| p.listed).map(|l| l.rows).fold(0, u64::saturating_add)
    }

    /// That its files are not all there is to know, and what helps; `None` if other readers see what this one does.
    pub fn incomplete(&self) -> Option<&'static str> {
        if self.recovered.is_some() {
            return Some("its log holds rows that no other reader would see; complete it first: ipc-analyzer repair");
        }
        self.parts_of(&tables::SESSION)
            .is_empty()
            .then_some("it has no table session: the recording was cut short at once")
    }

    /// Whether there are so many rows of snapshots that only the first and the last one are looked at, so that a long
    /// recording does not fill the memory.
    pub fn has_many_snapshots(&self) -> bool {
        const ROWS_MAX: u64 = 1 << 21;
        self.listed_rows(&tables::OBJECTS) > ROWS_MAX
    }

    /// The directory, for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn manifest_error(&self, what: String) -> Error {
        Error::damaged(self.path.join(manifest::FILE_NAME).display().to_string(), what)
    }

    /// Adds parts of a manifest, which are among `files`.
    fn add_listed_parts(&mut self, files: &Files, parts: &[manifest::Part]) -> Result<(), Error> {
        let mut seen = HashSet::new();
        for listed in parts {
            let outside = || self.manifest_error(format!("part {:?} lies outside the trace: refused", listed.file));
            let relative = listed.inside().ok_or_else(outside)?;
            // A table of a later minor change: its parts are nobody's business here.
            let Some(table) = tables::by_name(&listed.table) else { continue };
            if relative.parent() != Some(Path::new(table.name)) {
                return Err(self.manifest_error(format!("part {} is not in the folder {}", listed.file, table.name)));
            }
            if !seen.insert(relative.to_owned()) {
                return Err(self.manifest_error(format!("part {} is listed twice", listed.file)));
            }
            let checksum = parse_checksum(&listed.checksum).ok_or_else(|| {
                self.manifest_error(format!("part {} has no checksum of the form {CHECKSUM_PREFIX}…", listed.file))
            })?;
            let Stored { path, bytes, within, .. } = find_part(files, relative)?;
            if bytes != listed.bytes {
                let state = if bytes < listed.bytes { "truncated" } else { "longer than recorded" };
                let what = format!("{state}: {bytes} bytes, trace.json lists {}; copy the trace again", listed.bytes);
                return Err(Error::damaged(path.display().to_string(), what));
            }
            let blocks = listed.blocks.as_deref().map(|text| parse_blocks(text, bytes));
            if blocks.as_ref().is_some_and(Option::is_none) {
                let what = format!("part {} has not one checksum for each of its blocks", listed.file);
                return Err(self.manifest_error(what));
            }
            let listed = Some(Listed { rows: listed.rows, checksum });
            let part = Part { table, path, within, bytes, listed, blocks: blocks.flatten() };
            self.parts.entry(table.name).or_default().push(part);
        }
        Ok(())
    }

    fn add_unlisted_parts(&mut self, files: &Files) -> Result<(), Error> {
        if self.manifest.log_from.is_some() {
            return Ok(()); // the log has their rows
        }
        for (table, relative) in unlisted_parts(files, &self.manifest)? {
            let Stored { path, bytes, within, .. } = find_part(files, &relative)?;
            self.warnings.push(format!(
                "{} is not listed in trace.json: it is read, but no checksum vouches for it",
                path.display()
            ));
            let part = Part { table, path, within, bytes, listed: None, blocks: None };
            self.parts.entry(table.name).or_default().push(part);
        }
        Ok(())
    }
}

/// The parts that the manifest does not list, relative to the trace: finished Parquet files (the recorder's unfinished ones
/// begin with a dot).
///
/// # Errors
/// A folder cannot be read.
pub fn unlisted_parts(files: &Files, manifest: &Manifest) -> Result<Vec<(&'static Table, PathBuf)>, Error> {
    let known: HashSet<&Path> = manifest.parts.iter().map(|part| Path::new(&part.file)).collect();
    let is_finished = |path: &PathBuf| is_part(&path.file_name().unwrap_or_default().to_string_lossy());
    let mut unlisted = Vec::new();
    for table in tables::TABLES {
        let found =
            files.list(table.name)?.into_iter().filter(|path| is_finished(path) && !known.contains(path.as_path()));
        unlisted.extend(found.map(|path| (*table, path)));
    }
    Ok(unlisted)
}

/// The manifest, and what stands in the log alone.
fn read_whole(files: &Files) -> Result<(Manifest, Option<Recovered>), Error> {
    const TRIES: usize = 5;
    let mut manifest = read_manifest(files)?;
    for _ in 0..TRIES {
        let recovered = recover::read(files, &mut manifest)?;
        // While it is recorded, a segment may have become parts meanwhile.
        let now = if recovered.is_some() { read_manifest(files)? } else { return Ok((manifest, None)) };
        if now.log_from == manifest.log_from {
            return Ok((manifest, recovered));
        }
        manifest = now;
    }
    Err(Error::damaged(files.path().display().to_string(), "changes faster than it can be read; try again"))
}

/// Reads and checks `trace.json`, its version first.
///
/// # Errors
/// As of [`Trace::open`].
pub fn read_manifest(files: &Files) -> Result<Manifest, Error> {
    let path = files.path();
    let not_a_trace = |why: String| Error::NotATrace { path: path.display().to_string(), why };
    let stored = files.find(Path::new(manifest::FILE_NAME)).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => not_a_trace(format!("its {} is not a regular file", manifest::FILE_NAME)),
        _ => not_a_trace(format!("it holds no {}", manifest::FILE_NAME)),
    })?;
    let (file, mut text) = (stored.path.clone(), Vec::new());
    let read = stored.reader().and_then(|reader| reader.take(manifest::BYTES_MAX + 1).read_to_end(&mut text));
    read.map_err(|error| Error::unreadable(&file, &error))?;
    let damaged = |what: String| Error::damaged(file.display().to_string(), what);
    if text.len() as u64 > manifest::BYTES_MAX {
        return Err(damaged(format!("larger than {} MiB: not a manifest", manifest::BYTES_MAX >> 20)));
    }
    let broken =
        |error: serde_json::Error| damaged(format!("not a manifest of a trace ({error}); copy the trace again"));
    let versioned: Versioned = serde_json::from_slice(&text).map_err(broken)?;
    check_version(path, versioned.format_version, damaged)?;
    serde_json::from_slice(&text).map_err(broken)
}

/// The one field that every version has; the rest is not even kept, it may be anything and large.
#[derive(Deserialize)]
struct Versioned {
    format_version: Option<u64>,
}

fn check_version(path: &Path, version: Option<u64>, damaged: impl Fn(String) -> Error) -> Result<(), Error> {
    let version = version.ok_or_else(|| damaged("has no format_version: not a manifest of a trace".to_owned()))?;
    let version = FormatVersion(u32::try_from(version).unwrap_or(u32::MAX));
    if version > FormatVersion::CURRENT {
        let readable = FormatVersion::CURRENT.0;
        return Err(Error::Newer { path: path.display().to_string(), found: version.0, readable });
    }
    if !version.is_readable() {
        return Err(damaged(format!("format version {version} never existed")));
    }
    Ok(())
}

/// The number behind `xxh3_128:`.
pub fn parse_checksum(text: &str) -> Option<u128> {
    let digits = text.strip_prefix(CHECKSUM_PREFIX)?;
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

/// The checksums of the blocks of a file of `bytes`; `None` if they are not as many, or no checksums.
fn parse_blocks(text: &str, bytes: u64) -> Option<Arc<[u64]>> {
    let (digits, rest) = text.as_bytes().as_chunks::<16>();
    if !rest.is_empty() || digits.len() as u64 != bytes.div_ceil(BLOCK_BYTES as u64) {
        return None;
    }
    let block = |digits: &[u8; 16]| {
        let is_hexadecimal = digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_hexadecimal)?;
        u64::from_str_radix(text, 16).ok()
    };
    digits.iter().map(block).collect()
}

fn find_part(files: &Files, relative: &Path) -> Result<Stored, Error> {
    files.find(relative).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "listed in trace.json but not there; copy the trace again, whole".to_owned(),
            io::ErrorKind::InvalidInput => error.to_string(),
            _ => format!("cannot be read: {error}"),
        };
        Error::damaged(files.path().join(relative).display().to_string(), what)
    })
}
