//! The directory of a trace: made for one recording, nobody else's, durable when it says so.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a trace cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error("{}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

impl Error {
    /// A file cannot be written.
    pub fn write(path: &Path, error: impl std::fmt::Display) -> Error {
        Error::Write { path: path.to_owned(), error: error.to_string() }
    }
}

/// What turns an error of the system into one that names the file.
pub fn named(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |error| Error::write(path, error)
}

/// Makes the directory of a new trace; one that exists must be empty and nobody else's. Returns whether it was made.
///
/// # Errors
/// It exists and is not empty, is not a directory, or others may write to it.
pub fn create(path: &Path) -> Result<bool, Error> {
    let refuse = |reason: String| Err(Error::Directory { path: path.to_owned(), reason });
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return refuse("its parent directory does not exist; create it, or name another with -o".into());
        }
        Err(e) => return refuse(format!("cannot be created: {e}")),
    }
    let found = fs::symlink_metadata(path).map_err(named(path))?;
    if !found.is_dir() {
        return refuse("exists and is not a directory; name another with -o".into());
    }
    if fs::read_dir(path).map_err(named(path))?.next().is_some() {
        return refuse("exists and is not empty, and nothing is ever overwritten; name another with -o".into());
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user || found.mode() & 0o022 != 0 {
        return refuse("belongs to or can be written by another user; name another with -o".into());
    }
    Ok(false)
}

/// Says that the trace is being recorded for as long as the file is open: a reader tells by it a recording that goes on from
/// one that died. A file system without locks makes no difference to the recording.
pub fn lock(path: &Path) -> Option<File> {
    let directory = File::open(path).ok()?;
    directory.try_lock().ok()?;
    Some(directory)
}

/// Makes a folder of a trace, unless it is there.
///
/// # Errors
/// The system refuses.
pub fn create_folder(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(named(path)(e)),
        _ => Ok(()),
    }
}

/// Makes a file that is not there.
///
/// # Errors
/// It is there, or the system refuses.
pub fn create_file(path: &Path) -> Result<File, Error> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(named(path))
}

/// Has the names in a directory survive a power cut.
///
/// # Errors
/// The disk refuses.
pub fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|d| d.sync_all()).map_err(named(path))
}

/// Under sudo the trace belongs to the user who called it.
///
/// # Errors
/// The system refuses.
pub fn give_to_caller(directory: &Path) -> Result<(), Error> {
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (id("SUDO_UID"), id("SUDO_GID")) {
        (Some(user), Some(group)) if rustix::process::geteuid().is_root() => give(directory, user, group),
        _ => Ok(()),
    }
}

fn give(path: &Path, user: u32, group: u32) -> Result<(), Error> {
    if fs::symlink_metadata(path).map_err(named(path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(named(path))? {
            give(&entry.map_err(named(path))?.path(), user, group)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(user), Some(group)).map_err(named(path))
}
