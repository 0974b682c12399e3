//! A thread's own log: kept in memory while the scenario runs, written at its end so as not to disturb it.

use crate::totals::errno_name;
use crate::{Failure, Result};
use ipc_schema::catalogue::{CATALOGUE, EntryPoint};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// One call.
#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
    /// Where its semaphore operations begin in the log's list, and how many there are.
    pub(crate) sops: (u32, u32),
    pub(crate) ret: i64,
    pub(crate) errno: i32,
    pub(crate) before_epoch_ns: i64,
    pub(crate) before_boot_ns: i64,
    pub(crate) after_boot_ns: i64,
}

/// The calls of one thread, in order.
pub(crate) struct Log {
    entries: Vec<Entry>,
    sops: Vec<libc::sembuf>,
}

impl Log {
    /// A log with room for `calls` calls, its memory touched so that no page fault falls between clock readings.
    pub(crate) fn new(calls: usize) -> Log {
        let empty = libc::sembuf { sem_num: 0, sem_op: 0, sem_flg: 0 };
        let mut log = Log { entries: vec![Entry { number: 1, ..Entry::default() }; calls], sops: vec![empty; calls] };
        log.sops.fill(libc::sembuf { sem_num: 1, ..empty });
        log.entries.clear();
        log.sops.clear();
        log
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Keeps the operations of the next entry and says where they are.
    #[inline]
    pub(crate) fn keep(&mut self, sops: &[libc::sembuf]) -> (u32, u32) {
        let from = self.sops.len() as u32;
        self.sops.extend_from_slice(sops);
        (from, sops.len() as u32)
    }

    /// Writes the log to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let fail = |e: std::io::Error| Failure::new(format!("cannot write the log {}: {e}", path.display()));
        let mut file = BufWriter::new(File::create_new(path).map_err(fail)?);
        let mut line = String::new();
        for entry in &self.entries {
            line.clear();
            self.format(entry, &mut line);
            file.write_all(line.as_bytes()).map_err(fail)?;
        }
        file.flush().map_err(fail)
    }

    fn format(&self, entry: &Entry, line: &mut String) {
        let Entry { number, args, ret, before_epoch_ns, before_boot_ns, after_boot_ns, .. } = *entry;
        let (operation, entry_point) =
            by_number(number).map_or(("unknown", "unknown"), |found| (found.operation, found.name));
        let count = by_number(number).map_or(6, |found| found.arguments.len());
        let args: Vec<i64> = args[..count].iter().map(|a| *a as i64).collect();
        let error = if entry.errno == 0 { "null".to_owned() } else { format!("\"{}\"", errno_name(entry.errno)) };
        // Writing to a String cannot fail.
        let _ = write!(line, "{{\"syscall\":\"{operation}\",\"entry_point\":\"{entry_point}\",\"args\":{args:?}");
        if entry.sops.1 > 0 {
            let from = entry.sops.0 as usize;
            let sops = self.sops[from..from + entry.sops.1 as usize].iter();
            let sops: Vec<[i32; 3]> =
                sops.map(|s| [i32::from(s.sem_num), i32::from(s.sem_op), i32::from(s.sem_flg)]).collect();
            let _ = write!(line, ",\"sops\":{sops:?}");
        }
        let _ = writeln!(
            line,
            ",\"ret\":{ret},\"errno\":{error},\"before_epoch_ns\":{before_epoch_ns},\
             \"before_boot_ns\":{before_boot_ns},\"after_boot_ns\":{after_boot_ns}}}"
        );
    }
}

fn by_number(number: i64) -> Option<&'static EntryPoint> {
    CATALOGUE.iter().find(|entry| entry.x86_64.map(i64::from) == Some(number))
}
