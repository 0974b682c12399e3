//! The flight recorder: each trigger on a real incident, the signals, and what it keeps.

use ipc_schema::manifest::FILE_NAME;
use ipc_tests::calls;
use ipc_tests::environment::Live;
use ipc_tests::programs;
use ipc_tests::running::{Ended, LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use ipc_tests::usage::memory;
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A flight recorder that runs, and its traces.
struct Flight {
    recording: Recording,
    recorder: Running,
}

impl Flight {
    fn start(options: &[&str]) -> Flight {
        let recording = Recording::new();
        let mut command = Command::new(programs::path("ipc-recorder"));
        command.arg("flight").arg("-o").arg(recording.path("traces")).args(options);
        let recorder = Running::start(command, recording.folder(), "flight");
        let flight = Flight { recording, recorder };
        // It writes nothing: that it records shows in what it is inside of.
        wait_until("its probes are attached", || flight.recorder.has_thread("capture"));
        flight
    }

    fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.recording.path("traces")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    /// The traces that are whole.
    fn traces(&self) -> Vec<Trace> {
        let has_manifest = |path: &PathBuf| path.join(FILE_NAME).exists();
        let traces = self.paths().into_iter().filter(has_manifest).map(|path| Trace::open(&path));
        traces.filter(|trace| trace.manifest.complete).collect()
    }

    fn wait_for_traces(&self, count: usize) {
        wait_until(&format!("{count} traces"), || self.traces().len() >= count);
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(programs::workload(arguments), self.recording.folder(), "workload").with_code(0)
    }

    /// Ends it, and has the analyzer check what it wrote.
    fn end(self, signal: Signal) -> (Recording, Vec<Trace>, Ended) {
        self.recorder.signal(signal);
        let (paths, recording) = (self.recording.path("traces"), self.recording);
        let ended = self.recorder.wait(LONG).with_code(0);
        let mut traces: Vec<PathBuf> = fs::read_dir(paths).unwrap().flatten().map(|entry| entry.path()).collect();
        traces.sort();
        for path in &traces {
            run(programs::analyzer(&["verify"], path), recording.folder(), "verify").with_code(0);
        }
        let traces = traces.iter().map(|path| Trace::open(path)).collect();
        (recording, traces, ended)
    }
}

/// What the trace says of the call that it was written for: wait, error, outcome.
fn call_of(trace: &Trace) -> (Option<i64>, Option<String>, Option<String>) {
    let trigger = trace.manifest.session.trigger.clone().unwrap();
    let id: i64 = trigger.rsplit_once("call_id ").unwrap().1.parse().unwrap();
    let rows = trace.table("calls", &["call_id", "wait_ns", "error", "outcome"]);
    let row = rows.integers("call_id").iter().position(|call_id| *call_id == Some(id));
    let row = row.unwrap_or_else(|| panic!("{trigger}: its call is in the trace"));
    (rows.integers("wait_ns")[row], rows.texts("error")[row].clone(), rows.texts("outcome")[row].clone())
}

#[test]
fn a_call_that_waited_too_long() {
    let Some(_live) = Live::ready() else { return };
    let flight = Flight::start(&["--keep", "2s", "--when", "wait>80ms"]);
    flight.run(&["holds", "--count", "3", "--hold", "10ms"]);
    flight.run(&["holds", "--count", "1", "--hold", "100ms"]);
    flight.wait_for_traces(1);
    let (_recording, traces, _) = flight.end(Signal::TERM);
    assert_eq!(traces.len(), 1, "SIGTERM writes none, and 10 ms were no reason");
    assert!(call_of(&traces[0]).0.unwrap() > 80_000_000);
    assert!(traces[0].manifest.session.trigger.as_deref().unwrap().starts_with("wait>80ms: semtimedop"));
}

#[test]
fn a_call_that_failed_so() {
    let Some(_live) = Live::ready() else { return };
    let flight = Flight::start(&["--keep", "2s", "--when", "error=EFBIG"]);
    flight.run(&["families"]);
    flight.run(&["failures"]);
    flight.wait_for_traces(1);
    let (_recording, traces, _) = flight.end(Signal::TERM);
    assert_eq!(traces.len(), 1);
    assert_eq!(call_of(&traces[0]).1.as_deref(), Some("EFBIG"));
}

#[test]
fn calls_that_do_not_end_are_a_reason_once() {
    let Some(_live) = Live::ready() else { return };
    let flight = Flight::start(&["--keep", "1s", "--when", "open>1s"]);
    let deadlock = Running::start(programs::workload(&["deadlock"]), flight.recording.folder(), "deadlock");
    flight.wait_for_traces(1);
    std::thread::sleep(Duration::from_millis(2500));
    deadlock.signal(Signal::TERM);
    deadlock.wait(LONG);
    let (recording, traces, _) = flight.end(Signal::TERM);
    let triggers: Vec<_> = traces.iter().map(|trace| trace.manifest.session.trigger.clone()).collect();
    assert!(traces.len() <= 2, "three processes that stand still are not asked about again and again: {triggers:?}");
    assert_eq!(call_of(&traces[0]).2.as_deref(), Some("open"));
    let path = fs::read_dir(recording.path("traces")).unwrap().flatten().map(|entry| entry.path()).min().unwrap();
    let told = run(programs::analyzer(&["deadlocks", "--check"], &path), recording.folder(), "deadlocks");
    assert_eq!(told.code(), 1, "the deadlock is in it:\n{}", told.stdout);
}

#[test]
fn signals_ask_for_a_trace_of_what_was_kept_and_no_more() {
    let Some(_live) = Live::ready() else { return };
    let flight = Flight::start(&["--keep", "1s", "--traces", "2"]);
    flight.run(&["ping-pong", "--count", "1000"]);
    std::thread::sleep(Duration::from_millis(1500));
    let waits = Running::start(programs::workload(&["open"]), flight.recording.folder(), "open");
    std::thread::sleep(Duration::from_millis(200));
    flight.recorder.signal(Signal::USR1);
    flight.wait_for_traces(1);
    let first = &flight.traces()[0];
    let read = calls::read(first);
    assert!(
        read.iter().any(|call| call.outcome == "open" && call.comm == "ipc-workload"),
        "what is open is in it: {read:?}"
    );
    assert!(read.len() < 100, "what is older than a second is not: {} calls", read.len());
    assert_eq!(first.manifest.session.calls as usize, read.len());
    let seconds = (first.manifest.session.end_ns - first.manifest.session.start_ns) as f64 / 1e9;
    assert!((0.9..1.3).contains(&seconds), "{seconds} s of the last 1 s");
    for _ in 0..2 {
        flight.run(&["families"]);
        flight.recorder.signal(Signal::USR1);
        std::thread::sleep(Duration::from_millis(400));
    }
    waits.signal(Signal::TERM);
    waits.wait(LONG);
    let (_recording, traces, ended) = flight.end(Signal::INT);
    assert_eq!(traces.len(), 2, "--traces 2");
    assert!(ended.stderr.contains("as many as --traces allows"), "{}", ended.stderr);
}

#[test]
fn ctrl_c_writes_what_there_is_and_memory_is_bounded() {
    let Some(_live) = Live::ready() else { return };
    let flight = Flight::start(&["--memory", "32MiB", "--syscall", "%sem"]);
    flight.run(&["ping-pong", "--count", "300000"]); // its window is full
    let before = memory(flight.recorder.pid(), "VmRSS").unwrap();
    flight.run(&["ping-pong", "--count", "600000"]);
    let after = memory(flight.recorder.pid(), "VmRSS").unwrap();
    let (_recording, traces, _) = flight.end(Signal::INT);
    assert_eq!(traces.len(), 1);
    let kept = traces[0].manifest.session.calls;
    println!("{kept} calls kept of 3.6 million; {before} and {after} KiB of memory");
    assert!((100_000..2_000_000).contains(&kept), "the window is bounded, and not empty: {kept} calls");
    assert!(after < before + 24_576, "{before} KiB, and then {after} KiB");
}
