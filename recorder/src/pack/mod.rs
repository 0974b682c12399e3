//! `pack`: a trace as one file, a tar that the analyzer opens as it is; with pseudonyms for names, if they must not be seen.
//!
//! The directory may be somebody else's: no symbolic link in it is followed. The tar has its name only when it is whole.

mod pseudonyms;
mod redact;

use crate::Failure;
use crate::cli::Pack;
use crate::directory;
use crate::privilege::Caller;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use ipc_schema::manifest::{self, Manifest};
use ipc_schema::store::convert::is_part;
use ipc_schema::store::log;
use ipc_schema::tables::{self, TABLES};
use ipc_schema::text;
use ipc_schema::version::FormatVersion;
use pseudonyms::Pseudonyms;
use redact::Redactor;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tar::{Builder, Header};
use tempfile::NamedTempFile;
use twox_hash::XxHash3_128;

/// A secret that is shorter could be guessed.
const SECRET_BYTES_MIN: usize = 16;
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Packs a trace.
pub fn run(options: &Pack) -> Result<u8, Failure> {
    let redactor = if options.redact { Some(Redactor(Pseudonyms::new(&secret(options)?))) } else { None };
    let trace = Source::open(&options.directory)?;
    let output = options.output.clone().unwrap_or_else(|| trace.default_output(options.redact));
    if fs::symlink_metadata(&output).is_ok() {
        return Err(exists(&output));
    }
    let (bytes, files) = Archive::begin(&output)?.write(&trace, redactor.as_ref())?;
    let output = text::escape(&output.display().to_string());
    anstream::eprintln!("ipc-recorder: {files} files, {} in {output}", HumanBytes(bytes));
    if options.redact {
        anstream::eprintln!("  names and keys are pseudonyms; times, ids, sizes and user ids are what they were");
    }
    anstream::eprintln!("  next: ipc-analyzer summary {output}");
    Ok(0)
}

/// What pseudonyms rest on: the file that was given, else nothing that is kept.
fn secret(options: &Pack) -> Result<Vec<u8>, Failure> {
    let Some(path) = &options.redact_key else {
        let mut secret = vec![0; 32];
        rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
        return Ok(secret);
    };
    let (name, mut secret) = (path.display(), Vec::new());
    let read = File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX).read_to_end(&mut secret));
    read.map_err(|error| Failure::error(format!("cannot read {name}: {error}")))?;
    if secret.len() < SECRET_BYTES_MIN {
        let make = format!("make one with: head -c 32 /dev/urandom > {name}");
        return Err(Failure::error(format!(
            "{name} has fewer than {SECRET_BYTES_MIN} bytes and can be guessed; {make}"
        )));
    }
    Ok(secret)
}

fn exists(output: &Path) -> Failure {
    Failure::error(format!("{} exists, and nothing is ever overwritten; name another with -o", output.display()))
}

/// The directory of a trace that nobody writes to.
struct Source {
    path: PathBuf,
    /// Holds the lock that a recording cannot have meanwhile.
    directory: File,
    /// `trace.json` as it is.
    text: Vec<u8>,
    manifest: Manifest,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

impl Source {
    fn open(path: &Path) -> Result<Source, Failure> {
        let not_a_trace = |why: String| {
            let name = path.display();
            Failure::error(format!(
                "{name} is not a trace: {why}; give the directory that `ipc-recorder record -o` wrote"
            ))
        };
        let directory = File::open(path).map_err(|error| not_a_trace(error.to_string()))?;
        if !directory.metadata()?.is_dir() {
            return Err(not_a_trace("it is no directory".into()));
        }
        if let Err(TryLockError::WouldBlock) = directory.try_lock_shared() {
            let how = "end it first (Ctrl-C, or SIGINT to ipc-recorder), then pack it";
            return Err(Failure::error(format!("{} is still being recorded: {how}", path.display())));
        }
        let (file, _) = open_within(&directory, Path::new(manifest::FILE_NAME))
            .map_err(|error| not_a_trace(format!("its {} cannot be read: {error}", manifest::FILE_NAME)))?;
        let mut text = Vec::new();
        file.take(manifest::BYTES_MAX).read_to_end(&mut text)?;
        let no_manifest =
            |error: serde_json::Error| not_a_trace(format!("its {} is none: {error}", manifest::FILE_NAME));
        let version = FormatVersion(serde_json::from_slice::<Versioned>(&text).map_err(no_manifest)?.format_version);
        if !version.is_readable() {
            let found = format!("{} has format version {version}", path.display());
            return Err(Failure::error(format!("{found}, which this ipc-recorder does not know: use a newer one")));
        }
        let manifest = serde_json::from_slice(&text).map_err(no_manifest)?;
        Ok(Source { path: path.to_owned(), directory, text, manifest })
    }

    /// The folder in the tar. The directory's own name may name the host.
    fn folder(&self) -> String {
        let id: String = self.manifest.trace_id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        format!("ipctrace-{id}")
    }

    fn default_output(&self, redact: bool) -> PathBuf {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let beside = if self.path.file_name().is_some() { &self.path } else { &path };
        match beside.file_name().filter(|_| !redact) {
            Some(name) => {
                let mut name = name.to_owned();
                name.push(".tar");
                beside.with_file_name(name)
            }
            None => beside.with_file_name(format!("{}-redacted.tar", self.folder())),
        }
    }

    /// The parts that the analyzer would read: those that are listed and, when there is no log, those that are not.
    fn parts(&self) -> Result<BTreeSet<PathBuf>, Failure> {
        let mut parts = BTreeSet::new();
        for part in &self.manifest.parts {
            let inside = part.inside().filter(|path| path.parent() == Some(Path::new(&part.table)));
            if !inside.is_some_and(|path| parts.insert(path.to_owned())) {
                let what = "is listed twice, or not in the folder of its table";
                return Err(self.damaged(Path::new(&part.file), what));
            }
        }
        if self.manifest.log_from.is_none() {
            for table in TABLES {
                parts
                    .extend(self.list(table.name)?.filter(|name| is_part(name)).map(|n| Path::new(table.name).join(n)));
            }
        }
        Ok(parts)
    }

    /// The segments of the log that are in no part.
    fn segments(&self) -> Result<Vec<PathBuf>, Failure> {
        let Some(first) = self.manifest.log_from else { return Ok(Vec::new()) };
        let names = self.list(log::FOLDER)?.filter(|name| log::number_of(name).is_some_and(|number| number >= first));
        Ok(names.map(|name| Path::new(log::FOLDER).join(name)).collect())
    }

    /// The names in a folder; one that is not there has none.
    fn list(&self, folder: &str) -> Result<impl Iterator<Item = String>, Failure> {
        let path = self.path.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let entries = entries.map_err(|error| Failure::error(format!("cannot read {}: {error}", path.display())))?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()))
    }

    fn file(&self, path: &Path) -> Result<(File, fs::Metadata), Failure> {
        open_within(&self.directory, path).map_err(|error| self.damaged(path, error))
    }

    fn damaged(&self, path: &Path, what: impl std::fmt::Display) -> Failure {
        Failure::error(format!("{}: {what}; `ipc-analyzer verify` tells what is whole", self.path.join(path).display()))
    }
}

/// A regular file below a directory, through no symbolic link.
fn open_within(directory: &File, path: &Path) -> io::Result<(File, fs::Metadata)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = openat2(directory, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS);
    let file = File::from(opened.map_err(|error| match error {
        Errno::LOOP => io::Error::other("a symbolic link: refused"),
        error => error.into(),
    })?);
    let found = file.metadata()?;
    if found.is_file() { Ok((file, found)) } else { Err(io::Error::other("not a regular file: refused")) }
}

/// A tar that is being written.
struct Archive {
    output: PathBuf,
    builder: Builder<NamedTempFile>,
    files: usize,
}

impl Archive {
    fn begin(output: &Path) -> Result<Archive, Failure> {
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        let hidden =
            tempfile::Builder::new().prefix(&format!(".{name}.")).suffix(".partial").tempfile_in(folder(output));
        let hidden = hidden.map_err(|error| cannot_write(output, error))?;
        Ok(Archive { output: output.to_owned(), builder: Builder::new(hidden), files: 0 })
    }

    /// Writes the whole tar; its size and how many files are in it.
    fn write(mut self, trace: &Source, redactor: Option<&Redactor>) -> Result<(u64, usize), Failure> {
        let (parts, segments) = (trace.parts()?, trace.segments()?);
        let bar = ProgressBar::new((parts.len() + segments.len()) as u64);
        bar.set_style(ProgressStyle::with_template("packing {wide_bar} {pos} of {len} files").unwrap_or_else(|_| {
            ProgressStyle::default_bar() // the template is right
        }));
        let mut manifest = trace.manifest.clone();
        for path in bar.wrap_iter(parts.iter().chain(&segments)) {
            match redactor {
                None => {
                    let (file, found) = trace.file(path)?;
                    self.add(trace, path, file, &found, found.len())?;
                }
                Some(redactor) => self.add_redacted(trace, path, redactor, &mut manifest)?,
            }
        }
        let text = match redactor {
            None => trace.text.clone(),
            Some(redactor) => {
                manifest.session = redactor.session(&manifest.session).map_err(Failure::error)?;
                serde_json::to_vec_pretty(&manifest).map_err(Failure::error)?
            }
        };
        let name = Path::new(manifest::FILE_NAME);
        let (_, found) = trace.file(name)?;
        self.add(trace, name, &text[..], &found, text.len() as u64)?;
        self.finish()
    }

    /// Adds a file of the trace with pseudonyms in it; what the manifest says of a part is brought up to date.
    fn add_redacted(
        &mut self,
        trace: &Source,
        path: &Path,
        redactor: &Redactor,
        manifest: &mut Manifest,
    ) -> Result<(), Failure> {
        let (file, found) = trace.file(path)?;
        let mut hidden = tempfile::tempfile_in(folder(&self.output)).map_err(|e| cannot_write(&self.output, e))?;
        let table = path.parent().and_then(Path::to_str).and_then(tables::by_name);
        let listed = manifest.parts.iter_mut().find(|part| Path::new(&part.file) == path);
        match table {
            Some(table) => {
                if let Some(listed) = &listed {
                    check(&file, &listed.checksum).map_err(|what| trace.damaged(path, what))?;
                }
                let written = redactor.part(table, path.to_string_lossy().into_owned(), file, hidden);
                let (written, part) = written.map_err(|what| trace.damaged(path, what))?;
                hidden = written;
                if let Some(listed) = listed {
                    *listed = part;
                }
            }
            None if path.starts_with(log::FOLDER) => {
                redactor.segment(file, found.len(), &mut hidden).map_err(|what| trace.damaged(path, what))?;
            }
            None => {
                let what = "is of a table that this ipc-recorder does not know: use a newer one to redact it";
                return Err(trace.damaged(path, what));
            }
        }
        hidden.rewind().map_err(|error| cannot_write(&self.output, error))?;
        let bytes = hidden.metadata().map_err(|error| cannot_write(&self.output, error))?.len();
        self.add(trace, path, hidden, &found, bytes)
    }

    /// Adds `bytes` bytes under the name `path`.
    fn add(
        &mut self,
        trace: &Source,
        path: &Path,
        from: impl Read,
        found: &fs::Metadata,
        bytes: u64,
    ) -> Result<(), Failure> {
        if path.starts_with(log::FOLDER) {
            // When a log was last written to bounds what is missing behind it: in seconds alone the header has it.
            let modified = format!("{}.{:09}", found.mtime(), found.mtime_nsec());
            let exact = self.builder.append_pax_extensions([("mtime", modified.as_bytes())]);
            exact.map_err(|error| cannot_write(&self.output, error))?;
        }
        let mut header = Header::new_ustar();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
        let mut from = Counted { from: from.take(bytes), bytes: 0 };
        let name = Path::new(&trace.folder()).join(path);
        let added = self.builder.append_data(&mut header, name, &mut from);
        added.map_err(|error| cannot_write(&self.output, error))?;
        self.files += 1;
        if from.bytes == bytes { Ok(()) } else { Err(trace.damaged(path, "became shorter meanwhile")) }
    }

    /// Gives the tar its name.
    fn finish(self) -> Result<(u64, usize), Failure> {
        let failed = |error: io::Error| cannot_write(&self.output, error);
        let hidden = self.builder.into_inner().map_err(failed)?;
        hidden.as_file().sync_all().map_err(failed)?;
        let bytes = hidden.as_file().metadata().map_err(failed)?.len();
        if let Some(Caller { user, group }) = Caller::of_sudo() {
            rustix::fs::fchown(hidden.as_file(), Some(user), Some(group)).map_err(|error| failed(error.into()))?;
        }
        hidden.persist_noclobber(&self.output).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.output),
            _ => cannot_write(&self.output, error.error),
        })?;
        File::open(folder(&self.output)).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok((bytes, self.files))
    }
}

fn cannot_write(output: &Path, error: io::Error) -> Failure {
    Failure::from(directory::Error::write(output, error))
}

/// The folder of a file.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Compares a part with its checksum: what is damaged must not get a new one.
fn check(mut file: &File, expected: &str) -> Result<(), String> {
    let (mut hash, mut buffer) = (XxHash3_128::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => break,
            read => hash.write(&buffer[..read]),
        }
    }
    file.rewind().map_err(|error| error.to_string())?;
    if expected == format!("xxh3_128:{:032x}", hash.finish_128()) { Ok(()) } else { Err("its checksum differs".into()) }
}

/// Counts what is read.
struct Counted<R> {
    from: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
