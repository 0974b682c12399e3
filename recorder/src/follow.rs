//! Which processes, threads and calls are kept: the filters of the command line.

use crate::scan::is_selected;
use ipc_schema::catalogue::{EntryPoint, OPERATIONS};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::{Path, PathBuf};

/// What is kept; empty lists keep everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Follow {
    /// Processes.
    pub pids: FxHashSet<u32>,
    /// Operations.
    #[serde(deserialize_with = "operations")]
    pub operations: Vec<&'static str>,
    /// Never kept: the recorder and its helper.
    pub never: Vec<u32>,
}

impl Follow {
    /// Whether a process is followed.
    pub fn follows(&self, pid: u32) -> bool {
        !self.never.contains(&pid) && (self.pids.is_empty() || self.pids.contains(&pid))
    }

    /// Whether a call is kept.
    pub fn wants(&self, entry: &'static EntryPoint, call: u64) -> bool {
        is_selected(&self.operations, entry, call)
    }
}

/// Operations by their names.
fn operations<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<&'static str>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    Ok(OPERATIONS.iter().copied().filter(|o| names.iter().any(|name| name == o)).collect())
}

/// Where cgroup v2 is mounted.
fn cgroup_root() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.exists() { unified.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

/// The id of a cgroup: the inode of its folder. `path` is below the root, as `/proc/PID/cgroup` tells it, or absolute.
pub fn cgroup_id(path: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let root = cgroup_root();
    let path = Path::new(path);
    let folder =
        if path.starts_with(&root) { path.to_owned() } else { root.join(path.strip_prefix("/").unwrap_or(path)) };
    std::fs::metadata(folder).ok().map(|m| m.ino())
}
