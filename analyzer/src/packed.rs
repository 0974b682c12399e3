//! A trace in a tar, as `ipc-recorder pack` makes it. It is read where it lies: of the tar only the headers are looked at, and
//! nothing is unpacked. A tar is untrusted input: what is not a plain file or folder under a plain name is refused.

use crate::error::Error;
use ipc_schema::manifest;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::{EntryType, Header, PaxExtensions};

/// Headers, and what they describe, begin at a multiple of this.
const BLOCK: usize = 512;
/// A part takes minutes to fill: more files than this are no recording.
const MEMBERS_MAX: usize = 100_000;
/// What stands before a header and adds to it.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// An opened tar with one trace.
#[derive(Debug)]
pub struct Packed {
    /// The tar.
    pub file: Arc<File>,
    /// Its files, by their paths relative to the trace.
    pub members: BTreeMap<PathBuf, Member>,
}

/// One file in a tar.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// When it was last written to, nanoseconds since the epoch.
    pub modified_ns: i64,
}

impl Packed {
    /// Opens the tar at `path`, which is a regular file.
    ///
    /// # Errors
    /// [`Error::NotATrace`], [`Error::Damaged`].
    pub fn open(path: &Path) -> Result<Packed, Error> {
        let unreadable = |error| Error::unreadable(path, &error);
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        let not_a_trace = |why: String| Error::NotATrace { path: path.display().to_string(), why };
        let mut walk = Walk { file, bytes, position: 0, modified_ns: None, members: BTreeMap::new() };
        if !walk.header().is_ok_and(|header| is_header(&header)) {
            return Err(not_a_trace(
                "it is a file, and no tar (one that is compressed must be decompressed)".to_owned(),
            ));
        }
        while walk.step().map_err(|what| Error::damaged(path.display().to_string(), what))? {}
        let Walk { file, members, .. } = walk;
        let members = of_one_trace(members).map_err(not_a_trace)?;
        Ok(Packed { file: Arc::new(file), members })
    }
}

/// The members below the folder of the one `trace.json`.
fn of_one_trace(members: BTreeMap<PathBuf, Member>) -> Result<BTreeMap<PathBuf, Member>, String> {
    let is_manifest = |path: &&PathBuf| path.file_name() == Some(OsStr::new(manifest::FILE_NAME));
    let manifests: Vec<PathBuf> = members.keys().filter(is_manifest).cloned().collect();
    let folder = match &manifests[..] {
        [one] => one.parent().unwrap_or(Path::new("")),
        [] => return Err(format!("it holds no {}", manifest::FILE_NAME)),
        several => return Err(format!("it holds {} traces; pack each by itself", several.len())),
    };
    let below = |(path, member): (&PathBuf, &Member)| Some((path.strip_prefix(folder).ok()?.to_owned(), *member));
    Ok(members.iter().filter_map(below).collect())
}

/// On the way from header to header.
struct Walk {
    file: File,
    bytes: u64,
    position: u64,
    /// What an extension says of the file that follows.
    modified_ns: Option<i64>,
    members: BTreeMap<PathBuf, Member>,
}

impl Walk {
    fn header(&self) -> Result<Header, String> {
        let mut header = Header::new_old();
        let read = self.file.read_exact_at(header.as_mut_bytes(), self.position);
        read.map_err(|_| "truncated: the end of the tar is not there; copy it again".to_owned())?;
        Ok(header)
    }

    /// Takes one entry; whether there may be another.
    fn step(&mut self) -> Result<bool, String> {
        let header = self.header()?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        let (start, damaged) = (self.position, || "damaged: its headers are not whole; copy it again".to_owned());
        if !is_header(&header) {
            return Err(damaged());
        }
        let bytes = header.entry_size().map_err(|_| damaged())?;
        let offset = start + BLOCK as u64;
        let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(BLOCK as u64));
        self.position = end.filter(|end| *end <= self.bytes).ok_or_else(|| {
            format!("truncated: a file of {bytes} bytes is announced at {start} of {}; copy it again", self.bytes)
        })?;
        match header.entry_type() {
            EntryType::Regular => self.add(&header, offset, bytes)?,
            EntryType::Directory => drop(inside(&header.path_bytes())?),
            EntryType::XHeader | EntryType::XGlobalHeader => self.extend(offset, bytes)?,
            _ => {
                let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
                return Err(format!("{name:?} in it is a link, or no file: refused; use ipc-recorder pack"));
            }
        }
        Ok(true)
    }

    fn add(&mut self, header: &Header, offset: u64, bytes: u64) -> Result<(), String> {
        let name = inside(&header.path_bytes())?;
        let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        let modified_ns = self.modified_ns.take().unwrap_or_else(|| seconds.saturating_mul(1_000_000_000));
        if self.members.len() >= MEMBERS_MAX {
            return Err(format!("holds more than {MEMBERS_MAX} files: refused"));
        }
        match self.members.insert(name.clone(), Member { offset, bytes, modified_ns }) {
            None => Ok(()),
            Some(_) => Err(format!("{} is in it twice: refused", name.display())),
        }
    }

    /// An extension may tell a time more exactly; one that tells another name or size is refused.
    fn extend(&mut self, offset: u64, bytes: u64) -> Result<(), String> {
        if bytes > EXTENSION_BYTES_MAX {
            return Err(format!("a header of {bytes} bytes in it: refused"));
        }
        let mut text = vec![0; bytes as usize];
        self.file.read_exact_at(&mut text, offset).map_err(|error| format!("cannot be read: {error}"))?;
        for extension in PaxExtensions::new(&text) {
            let extension = extension.map_err(|_| "damaged: an extended header is none; copy it again".to_owned())?;
            match extension.key_bytes() {
                b"mtime" => self.modified_ns = extension.value().ok().and_then(nanoseconds),
                b"path" | b"linkpath" | b"size" | b"hdrcharset" => return Err(tricky()),
                key if key.starts_with(b"GNU.sparse") => return Err(tricky()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn tricky() -> String {
    "names or stores a file in a way that no trace needs: refused; use ipc-recorder pack".to_owned()
}

/// Whether the checksum of a header is right.
fn is_header(header: &Header) -> bool {
    let mut computed = header.clone();
    computed.set_cksum();
    header.cksum().is_ok_and(|claimed| computed.cksum().is_ok_and(|checksum| checksum == claimed))
}

/// A name that stays inside, without `./`.
fn inside(name: &[u8]) -> Result<PathBuf, String> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(**part, [] | [b'.'])).collect();
    if name.first() == Some(&b'/') || parts.contains(&&b".."[..]) {
        return Err(format!("{:?} in it lies outside: refused", String::from_utf8_lossy(name)));
    }
    Ok(parts.iter().map(|part| OsStr::from_bytes(part)).collect())
}

/// `1795384382.5` as nanoseconds.
fn nanoseconds(seconds: &str) -> Option<i64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)
}
