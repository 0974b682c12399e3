//! What the workload says about itself: its result and its threads' logs.

use crate::calls::Told;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The result that `ipc-workload` prints.
pub struct Performed {
    /// Calls by operation.
    pub calls: BTreeMap<String, u64>,
    /// The whole result.
    pub json: Value,
}

impl Performed {
    /// From the program's standard output: the last line.
    pub fn read(stdout: &str) -> Performed {
        let line = stdout.trim_end().lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("no result of ipc-workload in {stdout:?}: {error}"));
        let calls = json["performed"].as_object().unwrap();
        let calls = calls.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect();
        Performed { calls, json }
    }

    /// How many calls in all.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }

    /// The calls that failed: operation, errno, how often.
    pub fn errors(&self) -> BTreeMap<(String, String), u64> {
        let mut errors = BTreeMap::new();
        for (operation, counts) in self.json["errors"].as_object().unwrap() {
            for (errno, count) in counts.as_object().unwrap() {
                errors.insert((operation.clone(), errno.clone()), count.as_u64().unwrap());
            }
        }
        errors
    }

    /// The processes that made calls.
    pub fn pids(&self) -> Vec<i32> {
        self.json["pids"].as_array().unwrap().iter().map(|pid| pid.as_i64().unwrap() as i32).collect()
    }
}

/// A call in a thread's own log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What it was and what it returned.
    pub told: Told,
    /// The operation.
    pub syscall: String,
    /// The argument registers.
    pub args: Vec<i64>,
    /// Wall clock before it.
    pub before_epoch_ns: i64,
    /// Boot clock before it.
    pub before_boot_ns: i64,
    /// Boot clock after it.
    pub after_boot_ns: i64,
}

/// The logs that `ipc-workload --log FOLDER` wrote, by thread.
pub fn read(folder: &Path) -> BTreeMap<i32, Vec<Logged>> {
    let mut logs = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let tid = name.split_once('-').unwrap().1.parse().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let before = logs.insert(tid, text.lines().map(line).collect());
        assert!(before.is_none(), "the thread id {tid} came twice: the comparison would mix them");
    }
    logs
}

fn line(text: &str) -> Logged {
    let json: Value = serde_json::from_str(text).unwrap();
    let integer = |value: &Value| value.as_i64().unwrap();
    let sops = json["sops"].as_array().map(Vec::as_slice).unwrap_or_default();
    Logged {
        told: Told {
            entry_point: json["entry_point"].as_str().unwrap().to_owned(),
            return_value: Some(integer(&json["ret"])),
            error: json["errno"].as_str().map(str::to_owned),
            sops: sops.iter().map(|sop| [0, 1, 2].map(|i| integer(&sop[i]))).collect(),
        },
        syscall: json["syscall"].as_str().unwrap().to_owned(),
        args: json["args"].as_array().unwrap().iter().map(integer).collect(),
        before_epoch_ns: integer(&json["before_epoch_ns"]),
        before_boot_ns: integer(&json["before_boot_ns"]),
        after_boot_ns: integer(&json["after_boot_ns"]),
    }
}
