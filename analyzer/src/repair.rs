//! `repair`: completes what a crash left. What stands in the log becomes parts, and then the log is removed; everything up
//! to then can be done again.

use crate::error::Error;
use crate::files::Files;
use crate::recover;
use crate::trace;
use ipc_schema::manifest::{self, Manifest};
use ipc_schema::tables::{CALLS, TABLES};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    if manifest.log_from.is_none() {
        return Ok(None);
    }
    if let Files::Packed(..) = files {
        return Err(Error::Usage(format!(
            "{} is a tar: unpack it with tar -xf, and repair what comes out",
            path.display()
        )));
    }
    let failed = |error: io::Error| Error::Usage(format!("cannot repair {}: {error}", path.display()));
    if files.is_being_recorded().map_err(failed)? {
        return Err(Error::Usage(format!("{} is still being recorded: end ipc-recorder first", path.display())));
    }
    let folder = tempfile::Builder::new().prefix(".repair").tempdir_in(path).map_err(failed)?;
    let mut recovered = recover::read_into(&files, &mut manifest, folder, true)?;
    let unlisted = trace::unlisted_parts(&files, &manifest)?;
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
    write_manifest(path, &manifest).map_err(failed)?;
    fs::remove_dir_all(path.join(recover::FOLDER)).map_err(failed)?;
    Ok(Some(Repaired { calls, damage: recovered.damage }))
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
