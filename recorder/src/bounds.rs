//! How much of the machine a recording may take.

use indicatif::HumanBytes;
use rustix::fs::statvfs;
use std::path::Path;

/// A segment of the log is closed when it is this large, on a large disk.
const SEGMENT_BYTES: u64 = 64 << 20;
/// No segment is smaller.
const SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// A segment takes at most this part of what there is.
const SEGMENTS: u64 = 8;

/// What the footers of all tables, the session and `trace.json` may take.
const TABLES_BYTES: u64 = 512 << 10;

/// What of the disk is kept free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepFree {
    /// 10 %, but at most 4 GiB: a tenth of a large disk is more than anybody misses.
    Default,
    /// Percent of the file system.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl KeepFree {
    fn bytes_of(self, size: u64) -> u64 {
        match self {
            KeepFree::Default => (size / 10).min(4 << 30),
            KeepFree::Percent(percent) => size / 100 * u64::from(percent),
            KeepFree::Bytes(bytes) => bytes,
        }
    }
}

/// What may be used of memory, bytes; the rest of it is what is known of threads and processes, and the encoding of parts.
#[derive(Clone, Copy, Debug)]
pub struct Memory(pub u64);

impl Memory {
    /// The ring of each of so many CPUs: a power of two; together half of it.
    pub fn ring_bytes(self, cpus: u64) -> u32 {
        const LARGEST: u64 = 8 << 20;
        const SMALLEST: u64 = 64 << 10;
        let share = (self.0 / 2 / cpus.max(1)).clamp(SMALLEST, LARGEST);
        1 << share.ilog2()
    }

    /// What waits for the writer.
    pub fn queue_bytes(self) -> usize {
        self.share(8)
    }

    /// What waits for the disk, compressed.
    pub fn backlog_bytes(self) -> usize {
        self.share(8)
    }

    /// What a flight recorder keeps, compressed.
    pub fn window_bytes(self) -> usize {
        self.share(4)
    }

    fn share(self, of: u64) -> usize {
        usize::try_from(self.0 / of).unwrap_or(usize::MAX)
    }
}

/// What a recording may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a trace; the oldest parts go first.
    pub max_bytes: u64,
    /// What of the disk is kept free.
    pub keep_free: KeepFree,
    /// Bytes of a segment of the log; `None`: what suits the disk.
    pub segment_bytes: Option<u64>,
    /// Bytes of memory for what cannot be written yet.
    pub backlog_bytes: usize,
}

impl Bounds {
    /// No bounds: for what is small.
    pub const NONE: Bounds =
        Bounds { max_bytes: u64::MAX, keep_free: KeepFree::Bytes(0), segment_bytes: None, backlog_bytes: usize::MAX };

    /// The bytes of a segment in this directory.
    pub fn segment_bytes_in(&self, directory: &Path) -> u64 {
        let fitting = || Disk::of(directory).available.min(self.max_bytes) / SEGMENTS;
        self.segment_bytes.unwrap_or_else(|| fitting().clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES))
    }

    /// What of it the parts may take.
    pub fn max_parts_bytes(&self) -> u64 {
        self.max_bytes - self.max_log_bytes()
    }

    fn max_log_bytes(&self) -> u64 {
        const MOST: u64 = 1 << 30;
        (self.max_bytes / SEGMENTS * 2).min(MOST)
    }

    /// Why nothing more may be written to this directory, where the log takes so much already, which may take as much again
    /// for a while as it becomes parts; `at_end`: what was to be kept free may be used.
    pub fn refuses(&self, directory: &Path, log: u64, at_end: bool) -> Option<String> {
        if log > self.max_log_bytes() {
            return Some(format!(
                "--max-size allows no more before the log has become parts ({} of it)",
                HumanBytes(log)
            ));
        }
        let disk = Disk::of(directory);
        let reserve = log + TABLES_BYTES + if at_end { 0 } else { self.keep_free.bytes_of(disk.size) };
        let (free, reserve) = (HumanBytes(disk.available), HumanBytes(reserve));
        (free.0 < reserve.0).then(|| format!("{free} of the disk are free, {reserve} are to stay so"))
    }
}

/// A file system. One that does not tell has room.
struct Disk {
    size: u64,
    available: u64,
}

impl Disk {
    fn of(path: &Path) -> Disk {
        match statvfs(path) {
            Ok(found) => Disk { size: found.f_blocks * found.f_frsize, available: found.f_bavail * found.f_frsize },
            Err(_) => Disk { size: 0, available: u64::MAX },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_take_at_most_half_of_the_memory() {
        let memory = Memory(256 << 20);
        assert_eq!(memory.ring_bytes(2), 8 << 20);
        assert_eq!(memory.ring_bytes(16), 8 << 20);
        assert_eq!(memory.ring_bytes(17), 4 << 20);
        assert_eq!(memory.ring_bytes(256), 512 << 10);
    }

    #[test]
    fn of_a_large_disk_less_than_a_tenth_is_kept_free() {
        assert_eq!(KeepFree::Default.bytes_of(10 << 30), 1 << 30);
        assert_eq!(KeepFree::Default.bytes_of(1 << 40), 4 << 30);
        assert_eq!(KeepFree::Percent(50).bytes_of(1000), 500);
    }
}
