//! A disk that logs what is written to it, and what a power cut leaves of it.
//!
//! The log is that of qemu's driver `blklogwrites`, the format of `Documentation/admin-guide/device-mapper/log-writes.rst`:
//! every write and every flush in order. What was written before the last flush is on the disk; of what came behind, any part
//! may be.

use crate::environment::random;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One entry of the log.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where on the disk, bytes.
    pub offset: u64,
    /// How much, bytes.
    pub bytes: u64,
    flags: u64,
    /// Where the data are in the log.
    data: u64,
}

/// The log of a disk.
pub struct DiskLog {
    file: File,
    /// In order.
    pub entries: Vec<Entry>,
}

/// What of the unflushed writes a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// The disk had them all written.
    All,
    /// The disk had none of them written.
    Nothing,
    /// Each was written or not.
    Some,
}

impl DiskLog {
    /// Reads a log up to where the emulator was killed.
    pub fn read(path: &Path) -> DiskLog {
        let file = File::open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let sector = u64::from(u32::from_le_bytes(at(&file, 24)));
        assert_eq!((number(&file, 0), sector), (MAGIC, 512), "a log of writes");
        let (mut entries, mut place) = (Vec::new(), sector);
        while place + sector <= length {
            let [first, sectors, flags, data] = [0, 8, 16, 24].map(|field| number(&file, place + field));
            let data_bytes = if flags & DISCARD == 0 { sectors * sector } else { 0 };
            let is_nothing = sectors == 0 && flags & (FLUSH | FUA) == 0;
            if is_nothing || flags > 15 || data != 0 || place + sector + data_bytes > length {
                break;
            }
            let (offset, bytes) = (first * sector, sectors * sector);
            entries.push(Entry { offset, bytes, flags, data: place + sector });
            place += sector + data_bytes;
        }
        DiskLog { file, entries }
    }

    /// The data of an entry.
    pub fn data(&self, entry: &Entry) -> Vec<u8> {
        let mut data = vec![0; entry.bytes as usize];
        self.file.read_exact_at(&mut data, entry.data).unwrap();
        data
    }

    /// Writes to `disk`, which is as it was at the beginning, what is on it when the power goes before entry `cut`.
    pub fn cut(&self, disk: &File, cut: usize, left: Left, state: &mut u64) {
        let flushed = self.entries[..cut].iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |last| last + 1);
        for (index, entry) in self.entries[..cut].iter().enumerate() {
            let is_written = index < flushed || entry.flags & FUA != 0;
            let is_lucky = match left {
                Left::All => true,
                Left::Nothing => false,
                Left::Some => random(state).is_multiple_of(2),
            };
            // A discard only forgets.
            if entry.flags & DISCARD == 0 && entry.bytes > 0 && (is_written || is_lucky) {
                disk.write_all_at(&self.data(entry), entry.offset).unwrap();
            }
        }
    }
}

fn number(file: &File, offset: u64) -> u64 {
    u64::from_le_bytes(at(file, offset))
}

fn at<const BYTES: usize>(file: &File, offset: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}
