//! What `ipc-analyzer` answers is what DuckDB computes from the same files: command, SQL and tolerance stand side by
//! side in `tests/answers`.

use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use std::path::{Path, PathBuf};

/// What is recorded: the name of the trace, and the scenario. What runs longer than two seconds is open at the end.
const SCENARIOS: &[(&str, &[&str])] = &[
    ("families", &["families", "--count", "30"]),
    ("failures", &["failures"]),
    ("waiters", &["waiters", "--threads", "6", "--count", "60", "--hold", "200us"]),
    ("ping-pong", &["ping-pong", "--count", "300"]),
    ("senders", &["senders", "--count", "20"]),
    ("deadlock", &["deadlock", "--hold", "3s"]),
    ("masks", &["masks"]),
    ("signals", &["signals"]),
    ("back-pressure", &["incident", "back-pressure", "--seed", "3"]),
    ("starvation", &["incident", "starvation", "--seed", "3"]),
    ("sigterm-blocked", &["incident", "sigterm-blocked", "--seed", "3"]),
    ("undo-less-death", &["incident", "undo-less-death", "--seed", "3"]),
];

/// Records a scenario into a folder of that name.
fn record(folder: &Recording, name: &str, scenario: &[&str]) -> PathBuf {
    let trace = folder.path(name);
    let mut command = std::process::Command::new(programs::path("ipc-recorder"));
    command
        .args(["record", "--duration", "2s", "-o"])
        .arg(&trace)
        .arg("--")
        .arg(programs::path("ipc-workload"))
        .args(scenario);
    run(command, folder.folder(), "record").with_code(0);
    trace
}

#[test]
fn every_number_is_what_duckdb_computes() {
    let Some(_live) = Live::ready() else { return };
    let Some(python) = environment::python() else { return };
    let folder = Recording::new();
    let traces: Vec<PathBuf> = SCENARIOS.iter().map(|(name, scenario)| record(&folder, name, scenario)).collect();
    let mut script = programs::script(python, "answers.py");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    script.arg(programs::path("ipc-analyzer")).arg(root.join("answers")).args(traces);
    println!("{}", run(script, folder.folder(), "answers").with_code(0).stdout);
}
