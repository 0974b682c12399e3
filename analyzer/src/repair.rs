//! `repair`: completes what a crash left. What stands in the log becomes parts, and then the log is removed; everything up
//! to then can be done again.

use crate::error::Error;
use crate::files::Files;
use crate::recover;
use crate::trace;
use ipc_schema::manifest::{self, Manifest};
use ipc_schema::store::log;
use ipc_schema::tables::{CALLS, TABLES};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where parts are until they are whole.
const FOLDER: &str = ".repair";

/// What was done.
#[derive(Debug)]
pub struct Repaired {
    /// Calls that stood in the log.
    pub calls: u64,
    /// What of the log could not be read.
    pub damage: Vec<String>,
}

/// Completes a trace; `None`: there was nothing to do.
///
/// # Errors
/// It is still being recorded, is no trace, or the disk refuses.
pub fn repair(path: &Path) -> Result<Option<Repaired>, Error> {
    let files = Files::open(path)?;
    let mut manifest = trace::read_manifest(&files)?;
    let failed = |error: io::Error| Error::Usage(format!("cannot repair {}: {error}", path.display()));
    if let Files::Packed(..) = files {
        if manifest.log_from.is_none() {
            return Ok(None);
        }
        let unpack = "unpack it with tar -xf, and repair what comes out";
        return Err(Error::Usage(format!("{} is a tar: {unpack}", path.display())));
    }
    let (left_over, log) = (left_over(path), path.join(log::FOLDER));
    if manifest.log_from.is_none() && left_over.is_empty() && !log.exists() {
        return Ok(None);
    }
    if files.is_being_recorded().map_err(failed)? {
        return Err(Error::Usage(format!("{} is still being recorded: end ipc-recorder first", path.display())));
    }
    left_over.iter().try_for_each(|found| remove(found)).map_err(failed)?;
    let repaired = manifest.log_from.is_some().then(|| to_parts(&files, path, &mut manifest, failed)).transpose()?;
    remove(&log).map_err(failed)?;
    Ok(repaired)
}

/// Turns what stands in the log into parts, and lists them.
fn to_parts(
    files: &Files,
    path: &Path,
    manifest: &mut Manifest,
    failed: impl Fn(io::Error) -> Error + Copy,
) -> Result<Repaired, Error> {
    let folder = tempfile::Builder::new().prefix(FOLDER).rand_bytes(0).tempdir_in(path).map_err(failed)?;
    let mut recovered = recover::read_into(files, manifest, folder, true)?;
    let unlisted = trace::unlisted_parts(files, manifest)?;
    unlisted.iter().try_for_each(|(_, part)| fs::remove_file(path.join(part))).map_err(failed)?;
    let calls = recovered.parts.iter().filter(|part| part.table == CALLS.name).map(|part| part.rows).sum();
    for part in &recovered.parts {
        let (from, to) = (recovered.folder.path().join(&part.file), path.join(&part.file));
        fs::create_dir_all(to.parent().unwrap_or(path)).map_err(failed)?;
        File::open(&from).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&from, &to).map_err(failed)?;
    }
    TABLES.iter().try_for_each(|table| sync(&path.join(table.name))).map_err(failed)?;
    manifest.parts.append(&mut recovered.parts);
    manifest.log_from = None;
    write_manifest(path, manifest).map_err(failed)?;
    Ok(Repaired { calls, damage: recovered.damage })
}

/// What a recording or a repair leaves that dies while it writes a part: of no use, for the log has the rows.
fn left_over(path: &Path) -> Vec<PathBuf> {
    let folders = std::iter::once(path.to_owned()).chain(TABLES.iter().map(|table| path.join(table.name)));
    let entries = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let manifest = format!(".{}", manifest::FILE_NAME);
    let is_ours = |name: &str| name == FOLDER || name == manifest || name.starts_with(".part-");
    let found = entries.filter(|entry| is_ours(&entry.file_name().to_string_lossy()));
    found.map(|entry| entry.path()).collect()
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_manifest(path: &Path, manifest: &Manifest) -> io::Result<()> {
    let hidden: PathBuf = path.join(format!(".{}", manifest::FILE_NAME));
    let mut file = File::create(&hidden)?;
    file.write_all(serde_json::to_string_pretty(manifest)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&hidden, path.join(manifest::FILE_NAME))?;
    sync(path)
}

/// Has the names in a directory survive a power cut.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
