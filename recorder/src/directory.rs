//! The directory of a trace: made for one recording, nobody else's, durable when it says so.
//!
//! What is done in it is done relative to its descriptor, in the very directory that was checked, whatever its path leads
//! to by then; no link is followed in it, and no file that is there is written to.

use crate::privilege::Caller;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

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
pub fn named<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error + '_ {
    move |error| Error::write(path, error)
}

/// Links on the way to a directory before they are taken for a circle, as the kernel has it.
const MOST_LINKS: usize = 40;

/// How each directory is opened.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    descriptor: Arc<OwnedFd>,
}

/// Where a directory was made, to take it away again.
#[derive(Debug)]
pub struct Made {
    parent: OwnedFd,
    name: OsString,
}

impl Made {
    /// Nothing was recorded: leaves nothing behind. A directory that is not empty stays.
    pub fn remove(self) {
        let _ = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}

impl Directory {
    /// Makes the directory of a new trace; one that exists must be empty and nobody else's. Under sudo it is given to the
    /// user who called it. Also tells whether it was made.
    ///
    /// # Errors
    /// It exists and is not empty, is not a directory, or others may write to it; or the way to it leads through a link
    /// that another user could have planted, or to a place where others could replace it.
    pub fn create(path: &Path) -> Result<(Directory, Option<Made>), Error> {
        let refuse = |reason: String| Error::Directory { path: path.to_owned(), reason };
        let (parent, name) = parent_of(path).map_err(refuse)?;
        let is_new = match rustix::fs::mkdirat(&parent, &name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(refuse(format!("cannot be created: {error}"))),
        };
        let descriptor = rustix::fs::openat(&parent, &name, FOLDER, Mode::empty()).map_err(|error| {
            refuse(match error {
                Errno::NOTDIR | Errno::LOOP => {
                    "exists and is not a directory (links are not followed); name another with -o".into()
                }
                _ => format!("cannot be opened: {error}; name another with -o"),
            })
        })?;
        // Also of one just made: it may have been replaced.
        check_is_own(&descriptor).map_err(refuse)?;
        if let Some(Caller { user, group }) = Caller::of_sudo() {
            rustix::fs::fchown(&descriptor, Some(user), Some(group)).map_err(named(path))?;
        }
        let directory = Directory { path: path.to_owned(), descriptor: Arc::new(descriptor) };
        Ok((directory, is_new.then_some(Made { parent, name })))
    }

    /// Its path when it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it, which is made unless it is there.
    ///
    /// # Errors
    /// The system refuses, or it is no folder.
    pub fn folder(&self, name: &str) -> Result<Directory, Error> {
        let path = self.path.join(name);
        match rustix::fs::mkdirat(&self.descriptor, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::write(&path, error)),
        }
        let opened = rustix::fs::openat(&self.descriptor, name, FOLDER, Mode::empty());
        let descriptor = Arc::new(opened.map_err(named(&path))?);
        Ok(Directory { path, descriptor })
    }

    /// Makes a file that is not there.
    ///
    /// # Errors
    /// It is there, or the system refuses.
    pub fn create_file(&self, name: &str) -> Result<File, Error> {
        self.open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// Opens a file to be read.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open_file(&self, name: &str) -> Result<File, Error> {
        self.open(name, OFlags::RDONLY)
    }

    fn open(&self, name: &str, how: OFlags) -> Result<File, Error> {
        let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, name, flags, Mode::RUSR | Mode::WUSR);
        opened.map(File::from).map_err(named(&self.path.join(name)))
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// The system refuses.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let renamed = rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to);
        renamed.map_err(named(&self.path.join(to)))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there, or the system refuses.
    pub fn remove_file(&self, name: &str) -> Result<(), Error> {
        let removed = rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty());
        removed.map_err(named(&self.path.join(name)))
    }

    /// Removes a folder of files.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove_folder(&self, name: &str) -> Result<(), Error> {
        let folder = self.folder(name)?;
        for file in names(&folder.descriptor).map_err(named(&folder.path))? {
            let removed = rustix::fs::unlinkat(&folder.descriptor, &file, AtFlags::empty());
            removed.map_err(named(&folder.path.join(&file)))?;
        }
        rustix::fs::unlinkat(&self.descriptor, name, AtFlags::REMOVEDIR).map_err(named(&folder.path))
    }

    /// Has the names in it survive a power cut.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.descriptor).map_err(named(&self.path))
    }

    /// Says that the trace is being recorded for as long as the file is open: a reader tells by it a recording that goes on
    /// from one that died. A file system without locks makes no difference to the recording.
    pub fn lock(&self) -> Option<File> {
        let opened = rustix::fs::openat(&self.descriptor, ".", FOLDER, Mode::empty()).ok()?;
        let directory = File::from(opened);
        directory.try_lock().ok()?;
        Some(directory)
    }
}

fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Refuses a directory that others own or can write to, and one that is not empty.
fn check_is_own(directory: &OwnedFd) -> Result<(), String> {
    let found = rustix::fs::fstat(directory).map_err(|error| error.to_string())?;
    if found.st_uid != rustix::process::geteuid().as_raw() || found.st_mode & 0o022 != 0 {
        return Err("belongs to or can be written by another user; name another with -o".into());
    }
    if names(directory).map_err(|error| error.to_string())?.is_empty() {
        return Ok(());
    }
    Err("exists and is not empty, and nothing is ever overwritten; name another with -o".into())
}

/// Opens the directory that a path is to be made in; the name in it.
fn parent_of(path: &Path) -> Result<(OwnedFd, OsString), String> {
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let way = if path.file_name().is_some() { path.parent().unwrap_or(Path::new("")) } else { path };
    let parent = walk(way)?;
    let found = rustix::fs::fstat(&parent).map_err(|error| error.to_string())?;
    if found.st_mode & 0o1002 == 0o002 && name != "." {
        let advice = "name another with -o, or chmod +t it";
        return Err(format!("everyone can write to its parent directory and so could replace it; {advice}"));
    }
    Ok((parent, name.to_owned()))
}

/// Opens a directory step by step, so that each link on the way is seen before it is followed.
fn walk(path: &Path) -> Result<OwnedFd, String> {
    const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let cannot = |error: Errno| match error {
        Errno::NOENT => "its parent directory does not exist; create it, or name another with -o".to_owned(),
        _ => format!("its parent directory cannot be opened: {error}"),
    };
    let mut here = rustix::fs::openat(CWD, ".", STEP, Mode::empty()).map_err(cannot)?;
    let mut ahead = steps(path);
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        let next = rustix::fs::openat(&here, &step, STEP, Mode::empty()).map_err(cannot)?;
        let found = rustix::fs::fstat(&next).map_err(cannot)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => here = next,
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(cannot(Errno::LOOP));
                }
                if could_be_planted(&rustix::fs::fstat(&here).map_err(cannot)?, &found) {
                    let step = step.display();
                    return Err(format!(
                        "{step} is a link that another user made in a place open to all; not followed"
                    ));
                }
                let target = rustix::fs::readlinkat(&next, "", Vec::new()).map_err(cannot)?;
                ahead.extend(steps(Path::new(&OsString::from_vec(target.into_bytes()))));
            }
            _ => return Err(cannot(Errno::NOTDIR)),
        }
    }
    Ok(here)
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    path.components().filter(|c| *c != Component::CurDir).map(|c| c.as_os_str().to_owned()).rev().collect()
}

/// As the kernel's `fs.protected_symlinks`, whatever that is set to: in a place where everyone may make files, only links of
/// root and of this user are followed.
fn could_be_planted(place: &Stat, link: &Stat) -> bool {
    place.st_mode & 0o1002 != 0 && link.st_uid != 0 && link.st_uid != rustix::process::geteuid().as_raw()
}
