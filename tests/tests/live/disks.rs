//! Disks that fail, or take their time: no hang, and nothing is lost in silence. strace has the system calls of the recorder
//! fail; it may be a static program.

use ipc_schema::manifest::FILE_NAME;
use ipc_tests::environment::Live;
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{Ended, LONG, Recording, Running, run, send, wait_until};
use ipc_tests::usage::children;

use rustix::process::Signal;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What a disk does.
struct Trouble {
    what: &'static str,
    /// How strace makes it so.
    inject: &'static str,
    /// Whether only of the first segment of the log.
    of_log: bool,
    /// What the recorder says.
    says: &'static [&'static str],
    /// What of the calls may be lost, and as what.
    loses: &'static [&'static str],
}

const TROUBLES: &[Trouble] = &[
    Trouble {
        what: "every third fdatasync fails",
        inject: "fdatasync:error=EIO:when=3+3",
        of_log: false,
        says: &["Input/output error", "what is gone will be counted"],
        loses: &[],
    },
    Trouble {
        what: "writing the log fails for a while",
        inject: "write:error=EIO:when=4..9",
        of_log: true,
        says: &["cannot write: Input/output error", "writing again"],
        loses: &[],
    },
    Trouble {
        what: "the file system is full for a while, whatever it says",
        inject: "write:error=ENOSPC:when=4..9",
        of_log: true,
        says: &["cannot write: No space left on device", "writing again"],
        loses: &[],
    },
    Trouble {
        what: "syncs of the log take a second",
        inject: "fdatasync:delay_enter=1s",
        of_log: false,
        says: &[],
        loses: &[],
    },
    Trouble {
        what: "one write hangs for three seconds",
        inject: "write:delay_enter=3s:when=6",
        of_log: true,
        says: &[],
        loses: &["queue_full", "ring_full"],
    },
];

/// Records ping-pong where these system calls of the recorder fail, of all files or of one.
fn record(recording: &Recording, inject: &str, file: Option<PathBuf>) -> (Ended, Performed) {
    let calls = inject.split(':').next().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(recording.path("strace"));
    command.arg(format!("--trace={calls}")).arg(format!("--inject={inject}"));
    command.args(file.iter().flat_map(|file| ["-P".as_ref(), file.as_os_str()]));
    let recorder = recording.command(&["--syscall", "%sem", "--comm", "ipc-workload", "--segment-size", "2MiB"]);
    command.arg(recorder.get_program()).args(recorder.get_args());
    let strace = Running::start(command, recording.folder(), "record");
    wait_until("it records", || recording.trace_path().join(FILE_NAME).exists());
    let workload = programs::workload(&["ping-pong", "--count", "300000"]);
    let performed = Performed::read(&run(workload, recording.folder(), "workload").with_code(0).stdout);
    send(children(strace.pid())[0], Signal::INT);
    (strace.wait(LONG), performed)
}

fn check(trouble: &Trouble) {
    let recording = Recording::new();
    let log = trouble.of_log.then(|| recording.trace_path().join("log/00000.arrows.zst"));
    let begun = Instant::now();
    let (ended, performed) = record(&recording, trouble.inject, log);
    let ended = ended.with_code(0);
    let trace = recording.trace();
    let rows: u64 = trace.calls_by_operation().values().sum();
    println!("{}: {rows} rows, {} lost, {:.1?}", trouble.what, trace.lost_calls(), begun.elapsed());
    assert_eq!(rows + trace.lost_calls(), performed.total(), "{}: rows and losses", trouble.what);
    for loss in trace.losses().iter().filter(|loss| loss.is_calls()) {
        let is_allowed = trouble.loses.contains(&loss.source.as_str()) || loss.source == "ring_full";
        assert!(is_allowed, "{}: {loss:?}", trouble.what);
    }
    for words in trouble.says {
        assert!(ended.stderr.contains(words), "{}: {words:?} is not in:\n{}", trouble.what, ended.stderr);
    }
    run(programs::analyzer(&["verify"], &recording.trace_path()), recording.folder(), "verify").with_code(0);
    let injected = std::fs::read_to_string(recording.path("strace")).unwrap();
    assert!(injected.contains("INJECTED") || injected.contains("DELAYED"), "{}: nothing happened", trouble.what);
}

#[test]
fn a_disk_in_trouble_costs_what_is_counted_and_no_more() {
    let Some(_live) = Live::ready() else { return };
    TROUBLES.iter().for_each(check);
}

#[test]
fn a_trace_that_cannot_be_completed_says_so_and_is_repaired() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let (ended, performed) = record(&recording, "renameat:error=EIO:when=2+", None);
    let ended = ended.with_code(1);
    assert!(ended.stderr.contains("`ipc-analyzer repair "), "{}", ended.stderr);
    run(programs::analyzer(&["repair"], &recording.trace_path()), recording.folder(), "repair").with_code(0);
    let trace = recording.trace();
    let rows: u64 = trace.calls_by_operation().values().sum();
    let lost: i64 = trace.losses().iter().filter(|loss| loss.is_calls()).filter_map(|loss| loss.count).sum();
    println!("{rows} rows, {lost} lost: {}", ended.stderr);
    assert_eq!(rows + lost as u64, performed.total(), "the log had all of them");
    run(programs::analyzer(&["verify"], &recording.trace_path()), recording.folder(), "verify").with_code(0);
}
