//! `trace.json`: what the table `session` holds, and every part with its checksum.

use crate::version::FormatVersion;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// The name of the file in the trace's directory.
pub const FILE_NAME: &str = "trace.json";

/// What is larger is none: a manifest holds some 150 bytes per part.
pub const BYTES_MAX: u64 = 64 << 20;

/// The whole of `trace.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the trace format; checked before anything else is believed.
    pub format_version: u32,
    /// The trace: the value of `trace_id` in every row.
    pub trace_id: String,
    /// False while recording; a trace that stays false was cut short.
    pub complete: bool,
    /// What the table `session` holds.
    pub session: Session,
    /// Every complete part.
    pub parts: Vec<Part>,
    /// The first segment of the log whose rows are in no part; `None`: in all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_from: Option<u32>,
}

/// One complete Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The table.
    pub table: String,
    /// The path relative to the trace's directory, with `/`: `calls/part-00000.parquet`.
    pub file: String,
    /// How many rows it holds.
    pub rows: u64,
    /// Its size, bytes.
    pub bytes: u64,
    /// `xxh3_128:` and 32 hexadecimal digits over the whole file (as `xxh128sum` prints them).
    pub checksum: String,
    /// XXH3 64 of each [`BLOCK_BYTES`] of the file, the last one shorter: 16 hexadecimal digits each, one after the other.
    /// They vouch for what a reader needs without the whole file being read. Older traces have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<String>,
}

/// Bytes of one block of a part.
pub const BLOCK_BYTES: usize = 1 << 16;

/// The fields of the table `session`, in its order; see there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is a column of tables::SESSION, documented there")]
pub struct Session {
    pub format_version: u32,
    pub recorder_version: String,
    pub host: String,
    pub kernel: String,
    pub arch: String,
    pub boot_id: Option<String>,
    pub command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    pub start_ns: i64,
    pub end_ns: i64,
    pub clock_offset_ns: i64,
    pub clock_samples: Vec<ClockSample>,
    pub filters: Filters,
    pub attach: Vec<Attached>,
    pub missing: Vec<Missing>,
    pub calls: i64,
    #[serde(default)]
    pub dropped: Vec<Dropped>,
    pub lost_calls: i64,
    pub lost_records: i64,
    pub late_records: i64,
}

/// The boot clock and the wall clock, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSample {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub boot_ns: i64,
    /// CLOCK_REALTIME, nanoseconds since the epoch.
    pub epoch_ns: i64,
}

/// What was asked to be kept; empty lists ask for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// Process ids.
    pub pids: Vec<i32>,
    /// Whether their descendants are kept too.
    pub follow: bool,
    /// Operations.
    pub syscalls: Vec<String>,
    /// Thread names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comms: Vec<String>,
    /// cgroups, as they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<String>,
    /// Shorter calls were left out, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_duration_ns: Option<i64>,
}

impl Filters {
    /// Whether anything was left out.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty()
            && self.syscalls.is_empty()
            && self.comms.is_empty()
            && self.cgroups.is_empty()
            && self.min_duration_ns.is_none()
    }
}

/// One hook, and how it was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The hook: sys_enter, sys_exit, sched_process_fork…
    pub hook: String,
    /// btf-tracepoint, raw-tracepoint, tracepoint.
    pub way: String,
    /// Why a lighter way was not taken.
    pub reason: Option<String>,
}

/// How many calls a filter left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// pid, comm, cgroup, min_duration.
    pub filter: String,
    /// How many calls.
    pub calls: i64,
}

/// What privilege or kernel withheld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What is not there.
    pub feature: String,
    /// Why.
    pub reason: String,
    /// What helps.
    pub remedy: String,
}

impl Part {
    /// Its path, if it is relative and stays inside the trace.
    pub fn inside(&self) -> Option<&Path> {
        let is_inside = Path::new(&self.file).components().all(|part| matches!(part, Component::Normal(_)));
        (is_inside && !self.file.is_empty()).then(|| Path::new(&self.file))
    }
}

impl Manifest {
    /// The version as a version.
    pub fn version(&self) -> FormatVersion {
        FormatVersion(self.format_version)
    }
}
