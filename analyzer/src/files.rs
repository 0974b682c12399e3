//! The files of a trace: in its directory, or in a tar.

use crate::error::Error;
use crate::packed::{Member, Packed};
use crate::recover;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a trace is.
#[derive(Debug)]
pub enum Files {
    /// A directory.
    Directory(PathBuf),
    /// A tar, at this path.
    Packed(PathBuf, Packed),
}

/// A file of a trace.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it is, for messages; and for opening it, unless it is in a tar.
    pub path: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
    /// When it was last written to, nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Where it is in a tar.
    pub within: Option<Within>,
}

/// A place in a tar.
#[derive(Clone, Debug)]
pub struct Within {
    file: Arc<File>,
    offset: u64,
}

impl Files {
    /// The files of the trace at `path`.
    ///
    /// # Errors
    /// [`Error::NotATrace`], [`Error::Damaged`].
    pub fn open(path: &Path) -> Result<Files, Error> {
        let not_a_trace = |why: String| Error::NotATrace { path: path.display().to_string(), why };
        let found = fs::metadata(path).map_err(|error| not_a_trace(error.to_string()))?;
        match found.file_type() {
            kind if kind.is_dir() => Ok(Files::Directory(path.to_owned())),
            kind if kind.is_file() => Ok(Files::Packed(path.to_owned(), Packed::open(path)?)),
            _ => Err(not_a_trace("it is neither a directory nor a file".to_owned())),
        }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        match self {
            Files::Directory(path) | Files::Packed(path, _) => path,
        }
    }

    /// A file by its path relative to the trace.
    ///
    /// # Errors
    /// It is not there, or no regular file.
    pub fn find(&self, relative: &Path) -> io::Result<Stored> {
        let path = self.path().join(relative);
        match self {
            Files::Directory(_) => {
                let found = fs::symlink_metadata(&path)?;
                if !found.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file: refused"));
                }
                let modified_ns = found.modified().map_or(0, nanoseconds);
                Ok(Stored { path, bytes: found.len(), modified_ns, within: None })
            }
            Files::Packed(_, packed) => {
                let found = packed.members.get(relative).ok_or(io::ErrorKind::NotFound)?;
                let Member { offset, bytes, modified_ns } = *found;
                let within = Some(Within { file: packed.file.clone(), offset });
                Ok(Stored { path, bytes, modified_ns, within })
            }
        }
    }

    /// The names in a folder of the trace; a folder that is not there has none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(&self, folder: &str) -> Result<Vec<PathBuf>, Error> {
        let path = self.path().join(folder);
        let failed = |error: io::Error| Error::unreadable(&path, &error);
        match self {
            Files::Packed(_, packed) => {
                let names = packed.members.keys().filter(|name| name.parent() == Some(Path::new(folder)));
                Ok(names.cloned().collect())
            }
            Files::Directory(_) => match fs::read_dir(&path) {
                Ok(entries) => {
                    let name = |entry: io::Result<fs::DirEntry>| Ok(Path::new(folder).join(entry?.file_name()));
                    entries.map(name).collect::<io::Result<_>>().map_err(failed)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(failed(error)),
            },
        }
    }

    /// Whether the recorder still has its lock on it.
    ///
    /// # Errors
    /// The file system has no locks.
    pub fn is_being_recorded(&self) -> io::Result<bool> {
        match self {
            Files::Directory(path) => recover::is_being_recorded(path),
            Files::Packed(..) => Ok(false),
        }
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|age| i64::try_from(age.as_nanos()).ok()).unwrap_or(0)
}

impl Stored {
    /// Its bytes, one after the other.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reader(&self) -> io::Result<Box<dyn Read>> {
        Ok(match &self.within {
            None => Box::new(File::open(&self.path)?), // all of it, it may have grown
            Some(within) => Box::new(SpanReader { span: within.span(self.bytes), position: 0 }),
        })
    }
}

impl Within {
    /// The bytes of a file that begins here.
    pub fn span(&self, bytes: u64) -> Span {
        Span { file: self.file.clone(), offset: self.offset, bytes }
    }
}

/// A part of a file that stands for a file, read by position, so that threads can share it.
#[derive(Clone, Debug)]
pub struct Span {
    file: Arc<File>,
    offset: u64,
    bytes: u64,
}

impl Span {
    /// The whole of a file.
    ///
    /// # Errors
    /// Its size cannot be had.
    pub fn whole(file: File) -> io::Result<Span> {
        let bytes = file.metadata()?.len();
        Ok(Span { file: Arc::new(file), offset: 0, bytes })
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `buffer` from `position` on.
    ///
    /// # Errors
    /// There is not as much, or it cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        if position.checked_add(buffer.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, self.offset + position)
    }

    /// Reads into `buffer` from `position` on; 0 at the end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.file.read_at(&mut buffer[..length], self.offset + position)
    }
}

/// A reader with a position of its own.
#[derive(Debug)]
pub struct SpanReader {
    /// What is read.
    pub span: Span,
    /// From where on.
    pub position: u64,
}

impl Read for SpanReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.span.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}
