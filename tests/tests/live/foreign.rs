//! Programs that nobody here wrote, told call by call by strace.

use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use ipc_tests::strace;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;

/// What kinds of calls stress-ng and the Python program must have made, or the comparison proves nothing about them.
const OPERATIONS: &[&str] = &[
    "semget",
    "semtimedop",
    "semctl",
    "shmget",
    "shmat",
    "shmdt",
    "shmctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "mq_timedsend",
    "mq_timedreceive",
    "mq_notify",
    "mq_getsetattr",
    "sigaction",
];

/// What was found equal.
struct Compared {
    counts: BTreeMap<String, usize>,
    calls: usize,
    restarts: i64,
    /// Columns of which strace told nothing.
    untold: Vec<&'static str>,
}

/// Whether a program can be started; else a line that says how to get it.
fn is_installed(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        environment::skip(&format!("{program} is not installed: apt-get install {program}"));
    }
    is_there
}

/// Records `strace unshare --ipc PROGRAM`, so that what the program leaves behind goes with its namespace, and compares
/// every call.
fn compare(program: &Command) -> Compared {
    let recording = Recording::new();
    let mut command = recording.command(&[]);
    let strace = strace::command(&recording.path("strace"), "unshare");
    command.args(["--", "strace"]).args(strace.get_args()).args(["--ipc", "--"].map(OsStr::new));
    command.arg(program.get_program()).args(program.get_args());
    run(command, recording.folder(), "record").with_code(0);
    let witnesses = strace::read(&std::fs::read_to_string(recording.path("strace")).unwrap());
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let restarts: i64 = witnesses.values().flat_map(|thread| &thread.calls).map(|call| call.restarts).sum();
    let counts = strace::compare(&trace, &witnesses);
    let calls = counts.values().sum();
    println!("{calls} calls of {} threads, {restarts} restarts: {counts:?}", witnesses.len());
    for operation in OPERATIONS {
        assert!(counts.contains_key(*operation), "no {operation} was compared");
    }
    Compared { counts, calls, restarts, untold: strace::untold(&witnesses) }
}

#[test]
fn stress_ng_is_what_strace_saw() {
    let Some(_live) = Live::ready() else { return };
    if !is_installed("strace") || !is_installed("stress-ng") {
        return;
    }
    let mut stress = Command::new("stress-ng");
    for (stressor, normal) in [("sem-sysv", 200), ("msg", 200), ("mq", 200), ("shm-sysv", 20)] {
        let operations = environment::count(normal, 20 * normal).to_string();
        stress.args([&format!("--{stressor}"), "2", &format!("--{stressor}-ops"), &operations]);
    }
    // Together they do not always end by their operations.
    let compared = compare(stress.args(["--timeout", &environment::count(1, 20).max(1).to_string(), "--quiet"]));
    assert!(compared.calls > 2000, "{} calls are too few", compared.calls);
}

#[test]
fn python_libraries_are_what_strace_saw() {
    let Some(_live) = Live::ready() else { return };
    let Some(python) = environment::python() else { return };
    if !is_installed("strace") {
        return;
    }
    let rounds = environment::count(2, 50).to_string();
    let compared = compare(programs::script(python, "foreign_ipc.py").arg(rounds));
    for operation in ["sigtimedwait", "sigpending", "sigprocmask"] {
        assert!(compared.counts.contains_key(operation), "no {operation} was compared");
    }
    assert!(compared.restarts >= 2, "no call was restarted");
    assert!(compared.untold.is_empty(), "columns that were not compared: {:?}", compared.untold);
}
