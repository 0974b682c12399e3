//! What `ipc-analyzer` answers is what DuckDB and Spark compute from the same files: by the views that it writes for them, and
//! by the SQL in `tests/answers`, where command, SQL and tolerance stand side by side. What it exports says the same.

use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let mut command = Command::new(programs::path("ipc-recorder"));
    command
        .args(["record", "--duration", "2s", "-o"])
        .arg(&trace)
        .arg("--")
        .arg(programs::path("ipc-workload"))
        .args(scenario);
    run(command, folder.folder(), "record").with_code(0);
    trace
}

/// What `script ANALYZER ARGUMENTS` prints; it must find no difference.
fn compare(script: &str, folder: &Recording, arguments: &[&Path]) {
    let Some(python) = environment::python() else { return };
    let mut command = programs::script(python, script);
    command.arg(programs::path("ipc-analyzer")).args(arguments);
    println!("{}", run(command, folder.folder(), script).with_code(0).stdout);
}

#[test]
fn every_number_is_what_duckdb_computes() {
    let Some(_live) = Live::ready() else { return };
    let folder = Recording::new();
    let traces: Vec<PathBuf> = SCENARIOS.iter().map(|(name, scenario)| record(&folder, name, scenario)).collect();
    let answers = Path::new(env!("CARGO_MANIFEST_DIR")).join("answers");
    let all: Vec<&Path> = [answers.as_path()].into_iter().chain(traces.iter().map(PathBuf::as_path)).collect();
    compare("answers.py", &folder, &all);
    for trace in &traces {
        compare("views.py", &folder, &[Path::new("duckdb"), trace]);
        compare("timelines.py", &folder, &[trace]);
    }
}

/// A host is a name here: each recorder runs in a UTS namespace of its own.
#[test]
fn a_lake_of_three_hosts_answers_as_their_traces_do() {
    let Some(_live) = Live::as_root("only root gives a machine another name") else { return };
    let folder = Recording::new();
    let hosts = [("db1", "waiters"), ("db2", "deadlock"), ("10", "senders")];
    let record = |(host, name): (&str, &str)| {
        let (_, scenario) = SCENARIOS.iter().find(|(of, _)| *of == name).expect("it is a scenario");
        let trace = folder.path(host);
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-c", "hostname $0 && exec \"$@\"", host]);
        command.arg(programs::path("ipc-recorder")).args(["record", "--duration", "2s", "-o"]).arg(&trace);
        command.arg("--").arg(programs::path("ipc-workload")).args(*scenario);
        run(command, folder.folder(), "record").with_code(0);
        trace
    };
    let traces = hosts.map(record);
    let lake = folder.path("lake");
    for _again in 0..2 {
        let mut export = programs::analyzer(&["export", "--to", "lake", "--output"], &lake);
        export.args(&traces);
        run(export, folder.folder(), "export").with_code(0);
    }
    let of_hosts = |table: &str| {
        let folders = std::fs::read_dir(lake.join(table)).unwrap();
        let mut names: Vec<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(of_hosts("calls"), ["host=10", "host=db1", "host=db2"]);
    assert_eq!(
        std::fs::read_dir(&lake).unwrap().count(),
        ipc_schema::tables::TABLES.len(),
        "nothing unfinished is left"
    );
    for engine in ["duckdb", "spark"] {
        let arguments = [Path::new(engine), &lake].into_iter().chain(traces.iter().map(PathBuf::as_path));
        compare("views.py", &folder, &arguments.collect::<Vec<_>>());
    }
}
