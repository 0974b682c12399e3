//! How recordings end: with calls still open, by signals, by time, with the command.

use ipc_tests::calls::{self, Call};
use ipc_tests::environment::{Live, boot_ns};
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const EVERYONES_SEMAPHORES: [&str; 3] = ["-a", "--syscall", "%sem"];

/// Starts the scenario `open` and returns it with the thread that waits.
fn start_open(recording: &Recording) -> (Running, i32) {
    let workload = Running::start(programs::workload(&["open", "--hold", "60s"]), recording.folder(), "workload");
    wait_until("the workload waits in semop", || workload.stdout().contains('\n'));
    let said: serde_json::Value = serde_json::from_str(workload.stdout().lines().next().unwrap()).unwrap();
    let tid = said["waiting_tid"].as_i64().unwrap() as i32;
    (workload, tid)
}

/// The only call of the thread: open, without an end.
fn check_open(trace: &Trace, tid: i32, before_ns: i64) {
    let mut calls = calls::read(trace);
    let open_from = calls.iter().position(|call| call.end_ns.is_none()).expect("an open call");
    assert!(calls[open_from..].iter().all(|call| call.end_ns.is_none()), "open calls come last");
    calls.retain(|call| call.tid == tid);
    let [Call { told, outcome, began, duration_ns, start_ns, .. }] = &calls[..] else {
        panic!("one call of thread {tid}: {calls:?}")
    };
    assert_eq!((outcome.as_str(), told.entry_point.as_str()), ("open", "semtimedop"));
    assert_eq!((told.return_value, told.error.as_deref(), *duration_ns), (None, None, None));
    assert_eq!(told.sops, [[0, -1, 0]]);
    assert_eq!(began, "in_trace");
    assert!(*start_ns >= before_ns, "it began after the workload was started");
}

/// Records a waiting call, ends the recording by `signal` and looks.
fn end_by(signal: Signal) {
    let recording = Recording::new();
    let recorder = recording.start_alone(&EVERYONES_SEMAPHORES);
    let before_ns = boot_ns();
    let (workload, tid) = start_open(&recording);
    recorder.signal(signal);
    let ended = recorder.wait(LONG).with_code(0);
    workload.signal(Signal::TERM);
    workload.wait(LONG).with_code(0);
    let trace = recording.trace();
    check_open(&trace, tid, before_ns + trace.manifest.session.clock_offset_ns);
    assert!(trace.manifest.complete, "everything is written");
    assert!(ended.stdout.is_empty(), "messages go to stderr, not to stdout: {}", ended.stdout);
}

#[test]
fn a_call_open_at_sigint_is_open() {
    let Some(_live) = Live::ready() else { return };
    end_by(Signal::INT);
}

#[test]
fn a_call_open_at_sigterm_is_open() {
    let Some(_live) = Live::ready() else { return };
    end_by(Signal::TERM);
}

#[test]
fn a_call_open_when_the_time_is_over_is_open() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let started = Instant::now();
    let recorder = recording.start_alone(&[&EVERYONES_SEMAPHORES[..], &["--duration", "3s"]].concat());
    let before_ns = boot_ns();
    let (workload, tid) = start_open(&recording);
    recorder.wait(LONG).with_code(0);
    let elapsed = started.elapsed();
    drop(workload);
    assert!(elapsed >= Duration::from_secs(3) && elapsed < Duration::from_secs(20), "--duration 3s took {elapsed:?}");
    let trace = recording.trace();
    check_open(&trace, tid, before_ns + trace.manifest.session.clock_offset_ns);
}

#[test]
fn everything_is_written_when_a_signal_ends_the_recording() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let recorder = recording.start_alone(&EVERYONES_SEMAPHORES);
    let storm = programs::workload(&["storm", "--count", "20000"]);
    let performed = Performed::read(&Running::start(storm, recording.folder(), "workload").wait(LONG).stdout);
    // At once: what is still in the rings counts too.
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    let trace = recording.trace();
    let pids = performed.pids();
    let rows = trace.table("calls", &["pid"]).integers("pid");
    let rows = rows.iter().filter(|pid| pids.contains(&(pid.unwrap() as i32))).count() as u64;
    assert_eq!((rows, trace.lost_calls()), (performed.total(), 0), "rows of the workload, losses");
}

#[test]
fn a_signal_is_forwarded_to_the_command() {
    let Some(_live) = Live::ready() else { return };
    for signal in [Signal::TERM, Signal::INT] {
        let recording = Recording::new();
        let recorder = recording.start(&[], &["open", "--hold", "60s"]);
        wait_until("the workload waits in semop", || recorder.stdout().contains('\n'));
        recorder.signal(signal);
        // The workload ends by itself when it is told to, and its waiting call fails with EIDRM.
        let ended = recorder.wait(Duration::from_secs(30)).with_code(0);
        let performed = Performed::read(&ended.stdout);
        let calls = calls::read(&recording.trace());
        let waiting = calls.iter().find(|call| call.told.error.as_deref() == Some("EIDRM"));
        assert!(waiting.is_some(), "the command ran to its end: {}", performed.json);
    }
}

#[test]
fn the_commands_exit_code_is_returned() {
    let Some(_live) = Live::ready() else { return };
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let recording = Recording::new();
        let mut command = recording.command(&[]);
        command.args(["--", "sh", "-c", script]);
        Running::start(command, recording.folder(), "record").wait(LONG).with_code(code);
        assert!(recording.trace().manifest.complete, "the trace of `{script}` is complete");
    }
}
