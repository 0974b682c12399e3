//! What can go wrong, each as one line that says what to do next, and the exit code it leads to.

use std::io;
use std::path::Path;

/// Anything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is neither a directory nor a tar with a trace.
    #[error("{path} is not a trace: {why}; give the directory that `ipc-recorder record -o` wrote, or a tar of it")]
    NotATrace {
        /// What was given.
        path: String,
        /// What is not there.
        why: String,
    },
    /// The trace was written by a newer recorder.
    #[error(
        "trace {path} has format version {found}; this ipc-analyzer reads up to {readable}: update ipc-analyzer to read it"
    )]
    Newer {
        /// The trace.
        path: String,
        /// Its version.
        found: u32,
        /// The newest version that this build reads.
        readable: u32,
    },
    /// A file of the trace cannot be believed.
    #[error("{file}: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// Under `--strict`: the answer rests on incomplete data.
    #[error("--strict: {0}")]
    Strict(String),
    /// A check found a fault.
    #[error("{0}")]
    Check(String),
    /// Under `--check`: there are findings.
    #[error("--check: {0}")]
    Found(String),
    /// The command line asks for something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// The results could not be written.
    #[error("cannot write the results: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// A file that cannot be believed.
    pub fn damaged(file: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Damaged { file: file.into(), what: what.into() }
    }

    /// A file that cannot be read.
    pub fn unreadable(file: &Path, error: &io::Error) -> Error {
        Error::damaged(file.display().to_string(), format!("cannot be read: {error}"))
    }

    /// The exit code: 1 error, 2 usage, 3 unreadable, damaged or incomplete under `--strict`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NotATrace { .. }
            | Error::Newer { .. }
            | Error::Damaged { .. }
            | Error::Strict(_)
            | Error::Check(_) => 3,
            Error::Usage(_) => 2,
            Error::Output(_) | Error::Found(_) => 1,
        }
    }

    /// Whether the reader of our output went away, which is no error.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
