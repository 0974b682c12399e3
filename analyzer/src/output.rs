//! A file that is written for somebody: it is there when it is whole, and is never a file of a trace.

use crate::error::Error;
use crate::trace::Trace;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where something is written to.
pub enum Output {
    /// stdout.
    Stdout(BufWriter<io::StdoutLock<'static>>),
    /// A file beside the one with this name, which it becomes.
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl Output {
    /// A file, or stdout.
    ///
    /// # Errors
    /// It would be in a trace, or cannot be made.
    pub fn new(path: Option<&Path>, traces: &[Trace]) -> Result<Output, Error> {
        let Some(path) = path else { return Ok(Output::Stdout(BufWriter::new(io::stdout().lock()))) };
        refuse_traces(path, traces)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".").suffix(".partial").permissions(readable()).tempfile_in(folder);
        let file = file.map_err(|error| refused(path, &error))?;
        if path.is_dir() {
            return Err(refused(path, &io::ErrorKind::IsADirectory.into()));
        }
        Ok(Output::File(BufWriter::new(file), path.to_owned()))
    }

    /// Now it is whole.
    ///
    /// # Errors
    /// What was left could not be written.
    pub fn finish(self) -> Result<(), Error> {
        match self {
            Output::Stdout(mut out) => Ok(out.flush()?),
            Output::File(file, path) => {
                let file = file.into_inner().map_err(|error| refused(&path, error.error()))?;
                file.persist(&path).map(drop).map_err(|error| refused(&path, &error.error))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout(out) => out.write(bytes),
            Output::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.flush(),
            Output::File(file, _) => file.flush(),
        }
    }
}

/// As other programs make files; the umask takes from it.
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// Refuses a path in a trace, or one that is a trace: nothing is ever written there.
///
/// # Errors
/// It is one.
pub fn refuse_traces(path: &Path, traces: &[Trace]) -> Result<(), Error> {
    let whole = |path: &Path| {
        let ancestors =
            path.ancestors().map(|ancestor| if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor });
        ancestors.filter_map(|ancestor| ancestor.canonicalize().ok()).next()
    };
    let place = whole(path);
    for trace in traces {
        let Ok(own) = trace.path.canonicalize() else { continue };
        if place.as_ref().is_some_and(|place| place.starts_with(&own)) {
            let what = "is, or lies in, the trace that is read; name another place";
            return Err(Error::Usage(format!("{}: {what}", path.display())));
        }
    }
    Ok(())
}

/// A place that cannot be written to.
pub fn refused(path: &Path, error: &io::Error) -> Error {
    Error::Usage(format!("cannot write {}: {error}", path.display()))
}
