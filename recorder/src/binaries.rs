//! The binaries that processes have mapped, found by their build ids.

use crate::lookups::Lookups;
use crate::procfs;
use blazesym::helper::read_elf_build_id;
use ipc_schema::text;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A build id as the kernel tells it: zero-padded.
pub type BuildId = [u8; 20];

/// How many binaries are kept open: one that is deleted or in a container can then still be read at the end.
const MOST_OPEN: usize = 256;

/// How many processes are looked at for one build id before the end.
const MOST_ATTEMPTS: u8 = 8;

/// No file is as large as this: what lies behind is no offset.
const LARGEST_FILE: u64 = 1 << 40;

/// The longest `call` that is looked for: opcode, ModRM, SIB and 32 bits.
const MOST_CALL_BYTES: usize = 7;

/// `mov $15, %rax; syscall`: where signal handlers return to.
const SIGRETURN: &[u8] = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05";

/// Whether the first bytes end in a `call`: e8 and 32 bits, or ff /2 in its lengths.
fn follows_call(bytes: &[u8]) -> bool {
    let before = |length: usize, i: usize| bytes[MOST_CALL_BYTES - length + i];
    let is_indirect = |length: usize| before(length, 0) == 0xff && before(length, 1) >> 3 & 7 == 2;
    before(5, 0) == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}

/// A binary that stacks go through.
pub struct Binary {
    /// Its build id.
    pub build_id: BuildId,
    /// Where it was found.
    pub found: Option<Found>,
    attempts: u8,
}

/// The file of a binary.
pub struct Found {
    /// Its path, as its process sees it.
    pub path: Arc<str>,
    file: Option<File>,
    bytes: u64,
    /// Where it is mapped executable; empty: unknown.
    executable: Vec<Range<u64>>,
}

impl Found {
    /// A path that opens the file.
    pub fn openable(&self) -> PathBuf {
        match &self.file {
            Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            None => PathBuf::from(&*self.path),
        }
    }

    fn has_code_at(&self, offset: u64) -> bool {
        offset < self.bytes && (self.executable.is_empty() || self.executable.iter().any(|r| r.contains(&offset)))
    }

    /// Whether a call returns to this offset, or a signal handler does.
    fn is_returned_to(&self, offset: u64) -> bool {
        let mut bytes = [0; MOST_CALL_BYTES + SIGRETURN.len()];
        let Some(from) = offset.checked_sub(MOST_CALL_BYTES as u64) else { return false };
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, from),
            None => File::open(self.openable()).and_then(|file| file.read_exact_at(&mut bytes, from)),
        };
        read.is_err() || follows_call(&bytes) || bytes.ends_with(SIGRETURN)
    }
}

impl Binary {
    /// Whether an offset may be one of code; where the file is not known, any that a file can have.
    pub fn has_code_at(&self, offset: u64) -> bool {
        offset < LARGEST_FILE && self.found.as_ref().is_none_or(|f| f.has_code_at(offset))
    }

    /// Whether an offset may be one that an outer frame is at: this reads the file.
    pub fn is_returned_to(&self, offset: u64) -> bool {
        self.has_code_at(offset) && self.found.as_ref().is_none_or(|f| f.is_returned_to(offset))
    }
}

/// Every binary that stacks go through.
#[derive(Default)]
pub struct Binaries {
    places: FxHashMap<BuildId, u32>,
    list: Vec<Binary>,
    /// The build ids of the files seen, by device and inode.
    files: FxHashMap<(String, u64), Option<BuildId>>,
    open: usize,
    /// Opens the files of processes.
    pub lookups: Lookups,
}

impl Binaries {
    /// The place of a binary in the list; `pid` is a process that has it mapped.
    pub fn place(&mut self, build_id: BuildId, pid: u32) -> u32 {
        let next = self.list.len() as u32;
        let place = *self.places.entry(build_id).or_insert(next);
        if place == next {
            self.list.push(Binary { build_id, found: None, attempts: 0 });
        }
        let binary = &mut self.list[place as usize];
        if binary.found.is_none() && binary.attempts < MOST_ATTEMPTS {
            binary.attempts += 1;
            self.look_at_process(pid);
        }
        place
    }

    /// The binary at a place.
    pub fn at(&self, place: u32) -> Option<&Binary> {
        self.list.get(place as usize)
    }

    /// The binaries by their places, and their paths as far as they were found.
    pub fn known(&self) -> impl Iterator<Item = (BuildId, Option<Arc<str>>)> {
        self.list.iter().map(|binary| (binary.build_id, binary.found.as_ref().map(|found| found.path.clone())))
    }

    /// The recording is over: looks for those not found yet in `program` and in every process that is there.
    pub fn look_everywhere(&mut self, program: Option<&Path>) {
        if let Some(program) = program
            && self.lacks_any()
        {
            self.look_at_file(program);
        }
        for pid in procfs::pids() {
            if !self.lacks_any() {
                return;
            }
            self.look_at_process(pid);
        }
    }

    /// Whether the file with this build id is looked for.
    fn lacks(&self, build_id: Option<BuildId>) -> bool {
        let place = build_id.and_then(|id| self.places.get(&id));
        place.is_some_and(|place| self.list[*place as usize].found.is_none())
    }

    fn lacks_any(&self) -> bool {
        self.list.iter().any(|b| b.found.is_none())
    }

    fn look_at_file(&mut self, path: &Path) {
        let found = Found {
            path: text::of_bytes(path.as_os_str().as_encoded_bytes()).into(),
            file: None,
            bytes: bytes_of(path),
            executable: vec![],
        };
        self.take(build_id_of(path), path, found);
    }

    fn look_at_process(&mut self, pid: u32) {
        for mapped in self.lookups.files(pid) {
            let key = (mapped.device.clone(), mapped.inode);
            let known = self.files.get(&key).copied();
            if known.is_some_and(|build_id| !self.lacks(build_id)) {
                continue;
            }
            let Some(file) = self.lookups.open(pid, &mapped) else { continue };
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let build_id = known.unwrap_or_else(|| build_id_of(&path));
            self.files.insert(key, build_id);
            let bytes = bytes_of(&path);
            let found = Found { path: mapped.path.into(), file: None, bytes, executable: mapped.executable };
            self.take(build_id, &path, found);
        }
    }

    /// Keeps a file if its build id is looked for; `path` opens it now.
    fn take(&mut self, build_id: Option<BuildId>, path: &Path, mut found: Found) {
        let Some(place) = build_id.and_then(|id| self.places.get(&id)) else { return };
        let binary = &mut self.list[*place as usize];
        if binary.found.is_none() {
            if self.open < MOST_OPEN {
                found.file = File::open(path).ok();
                self.open += 1;
            }
            binary.found = Some(found);
        }
    }
}

/// A file that a process has mapped executable.
#[derive(Serialize, Deserialize)]
pub struct Mapped {
    device: String,
    inode: u64,
    /// Its path, as the process sees it.
    pub path: String,
    /// Its first such mapping, as `/proc/PID/map_files` names it.
    pub mapping: String,
    executable: Vec<Range<u64>>,
}

impl Mapped {
    /// A path that opens the very file, in a container and deleted too; it may need CAP_CHECKPOINT_RESTORE.
    pub fn openable(&self, pid: u32) -> PathBuf {
        let mapping = PathBuf::from(format!("/proc/{pid}/map_files/{}", self.mapping));
        if File::open(&mapping).is_ok() { mapping } else { format!("/proc/{pid}/root{}", self.path).into() }
    }

    /// Opens it, and no other that has taken its path.
    pub fn open(&self, pid: u32) -> Option<File> {
        let file = File::open(self.openable(pid)).ok()?;
        (file.metadata().ok()?.ino() == self.inode).then_some(file)
    }
}

/// The files that a process has mapped executable.
pub fn mapped_files(pid: u32) -> Vec<Mapped> {
    let text = procfs::read(&format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut files: Vec<Mapped> = Vec::new();
    for found in text.lines().filter_map(mapped_file) {
        match files.iter_mut().find(|f| f.inode == found.inode && f.device == found.device) {
            Some(file) => file.executable.extend(found.executable),
            None => files.push(found),
        }
    }
    files
}

/// A line of `/proc/PID/maps`: `START-END r-xp OFFSET DEVICE INODE PATH`, numbers hexadecimal but the inode.
fn mapped_file(line: &str) -> Option<Mapped> {
    let mut words = line.split_ascii_whitespace();
    let (range, mode, offset) = (words.next()?, words.next()?, words.next()?);
    let (device, inode) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    if inode == 0 || !mode.contains('x') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
    let path = line.get(line.find('/')?..)?.trim_end_matches(" (deleted)").to_owned();
    let executable = offset..offset.checked_add(end.checked_sub(start)?)?;
    Some(Mapped { device, inode, path, mapping: format!("{start:x}-{end:x}"), executable: vec![executable] })
}

fn bytes_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

fn build_id_of(path: &Path) -> Option<BuildId> {
    let id = read_elf_build_id(&path).ok()??;
    let mut padded = BuildId::default();
    padded.get_mut(..id.len())?.copy_from_slice(&id);
    Some(padded)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn only_executable_files_are_mapped_files() {
        let line = "00401000-00402000 r-xp 00001000 08:01 77                 /tmp/a b (deleted)";
        let file = mapped_file(line).unwrap();
        assert_eq!((file.path.as_str(), file.inode, file.mapping.as_str()), ("/tmp/a b", 77, "401000-402000"));
        assert_eq!((file.executable.len(), file.executable[0].clone()), (1, 0x1000..0x2000));
        for other in ["7f00-7f01 rw-p 0 08:01 77 /tmp/a", "7f00-7f01 r-xp 0 00:00 0 [vdso]", "7f00-7f01 r-xp 0 00:00 0"]
        {
            assert!(mapped_file(other).is_none(), "{other}");
        }
    }

    #[test]
    fn calls_are_known_by_their_encoding() {
        assert!(follows_call(b"\0\0\xe8\x01\x02\x03\x04"), "call rel32");
        assert!(follows_call(b"\0\0\0\0\0\xff\xd0"), "call *%rax");
        assert!(follows_call(b"\0\xff\x15\x01\x02\x03\x04"), "call *rel32(%rip)");
        assert!(follows_call(b"\xff\x94\x24\x80\0\0\0"), "call *0x80(%rsp)");
        assert!(!follows_call(b"\x90\x90\x90\x90\x90\x0f\x05"), "syscall");
        assert!(!follows_call(b"\0\0\0\0\0\xff\xe0"), "jmp *%rax");
    }

    #[test]
    fn offsets_outside_of_code_are_known() {
        let found = |executable| Found { path: "x".into(), file: None, bytes: 100, executable };
        let binary = |found| Binary { build_id: [1; 20], found, attempts: 0 };
        assert!(binary(None).has_code_at(5_000) && !binary(None).has_code_at(0xffff_aa74_0000_0000));
        assert!(binary(Some(found(vec![]))).has_code_at(99) && !binary(Some(found(vec![]))).has_code_at(100));
        let mapped = binary(Some(found(vec![10..20, 30..40])));
        assert!(mapped.has_code_at(10) && mapped.has_code_at(39) && !mapped.has_code_at(25));
    }
}
