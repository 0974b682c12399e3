//! The recorder's own health: what it tells Prometheus and a service manager is so.

use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::manager::Manager;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, send, wait_until};
use ipc_tests::usage::children;
use rustix::process::Signal;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// What Prometheus' parser finds in a file.
fn metrics(path: &Path) -> Option<Value> {
    let mut script = programs::script(environment::python()?, "metrics.py");
    let output = script.arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn number(samples: &Value, name: &str) -> f64 {
    samples[name].as_f64().unwrap_or_else(|| panic!("no {name} in {samples}"))
}

#[test]
fn the_last_metrics_are_those_of_the_trace() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let file = recording.text("ipc.prom");
    // Too small a ring: calls are lost.
    recording.record(&["--metrics", &file, "--ring-size", "4KiB"], &["storm", "--count", "200000"]);
    let Some(samples) = metrics(&recording.path("ipc.prom")) else { return };
    let trace = recording.trace();
    let session = &trace.manifest.session;
    let bytes: u64 = trace.manifest.parts.iter().map(|part| part.bytes).sum();
    let lost: f64 = samples.as_object().unwrap().iter().filter(|(name, _)| name.contains("_lost_calls_")).fold(
        0.0, // of all sources
        |sum, (_, value)| sum + value.as_f64().unwrap(),
    );
    assert_eq!(number(&samples, "ipc_recorder_calls_total"), session.calls as f64);
    assert_eq!(lost, session.lost_calls as f64);
    assert!(lost > 0.0, "a ring of one page loses calls of a storm");
    assert_eq!(number(&samples, "ipc_recorder_lost_calls_total{source=ring_full}"), lost);
    assert_eq!(number(&samples, "ipc_recorder_trace_bytes"), bytes as f64);
    assert_eq!(number(&samples, "ipc_recorder_recording"), 0.0);
    assert_eq!(number(&samples, "ipc_recorder_queue_length"), 0.0);
    for (name, ns) in [("start_time", session.start_ns), ("durable_timestamp", session.end_ns)] {
        let told = number(&samples, &format!("ipc_recorder_{name}_seconds"));
        assert!((told - ns as f64 / 1e9).abs() < 1e-3, "{name}: {told}, {ns}"); // as exact as JSON is read
    }
}

#[test]
fn metrics_are_fresh_and_whole_while_it_records() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let (file, text) = (recording.path("ipc.prom"), recording.text("ipc.prom"));
    let recorder = recording.start_alone(&["--metrics", &text, "--syscall", "%sem"]);
    let storm = Running::start(programs::workload(&["storm", "--count", "20000"]), recording.folder(), "workload");
    let performed = Performed::read(&storm.wait(LONG).stdout).total() as f64;
    let value =
        |text: &str, name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    let read = || std::fs::read_to_string(&file).unwrap();
    let lines = read().lines().count();
    wait_until("the metrics have the calls of the workload", || {
        let text = read();
        assert_eq!(text.lines().count(), lines, "the file is replaced, never half of one:\n{text}");
        value(&text, "ipc_recorder_calls_total ").unwrap() >= performed
    });
    let Some(samples) = metrics(&file) else { return };
    assert_eq!(number(&samples, "ipc_recorder_recording"), 1.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for name in ["captured", "durable"] {
        let age = now - number(&samples, &format!("ipc_recorder_{name}_timestamp_seconds"));
        println!("{name}: {age:.1} s ago");
        // The file is five seconds old at most, what it tells of a second.
        assert!((0.0..20.0).contains(&age), "{name}: {age} s ago");
    }
    recorder.signal(Signal::TERM);
    recorder.wait(LONG).with_code(0);
    let left: Vec<_> = std::fs::read_dir(recording.folder()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "a temporary file is left: {left:?}");
}

#[test]
fn metrics_that_cannot_be_written_are_told_at_once() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    std::fs::write(recording.path("mine.prom"), "mine").unwrap();
    for (file, reason) in [("nowhere/ipc.prom", "must exist"), ("mine.prom", "not overwritten")] {
        let mut command = recording.command(&["--metrics", &recording.text(file)]);
        command.args(["--", "touch", &recording.text("ran")]);
        let said = run(command, recording.folder(), "record").with_code(1).stderr;
        assert!(said.lines().count() == 1 && said.contains(file) && said.contains(reason), "{said}");
    }
    assert!(!recording.trace_path().exists() && !recording.path("ran").exists(), "nothing was begun");
    assert_eq!(std::fs::read_to_string(recording.path("mine.prom")).unwrap(), "mine");
}

/// A thread that stands still, until this is dropped.
struct Stopped(Child);

impl Stopped {
    fn thread(recorder: &Running, name: &str) -> Option<Stopped> {
        let mut script = programs::script(environment::python()?, "stop_thread.py");
        script.args([&recorder.pid().to_string(), name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let mut said = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Some(Stopped(child))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take()); // lets it go
        let _ = self.0.wait();
    }
}

const ALIVE: &str = "WATCHDOG=1";

#[test]
fn a_service_manager_hears_the_truth() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let mut command = recording.command(&["--syscall", "%sem"]);
    let mut manager = Manager::of(&mut command, recording.folder(), Duration::from_secs(2));
    let recorder = Running::start(command, recording.folder(), "record");
    manager.wait_for("READY=1");
    // Ready means: what is done from now on is recorded, and the trace is there.
    assert!(recording.trace_path().join(ipc_schema::manifest::FILE_NAME).exists());
    let storm = Running::start(programs::workload(&["storm", "--count", "1000"]), recording.folder(), "workload");
    let performed = Performed::read(&storm.wait(LONG).stdout);
    let heard = manager.listen(Duration::from_secs(4));
    let alive = heard.iter().filter(|line| *line == ALIVE).count();
    assert!((2..=5).contains(&alive), "once a second: {heard:?}");
    assert!(heard.iter().any(|line| line.starts_with("STATUS=recording ")), "{heard:?}");
    for (thread, said) in [("writer", "STATUS=the writer stands still"), ("capture", "STATUS=the capture stands still")]
    {
        let Some(stopped) = Stopped::thread(&recorder, thread) else { return };
        manager.listen(Duration::from_millis(2500)); // it may have moved since it was last told
        let heard = manager.listen(Duration::from_secs(3));
        assert!(!heard.iter().any(|line| line == ALIVE), "the {thread} stands still, and yet: {heard:?}");
        println!("{thread}: {heard:?}");
        assert!(heard.iter().any(|line| line.starts_with(said)), "{heard:?}");
        drop(stopped);
        manager.wait_for(ALIVE);
    }
    recorder.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    recorder.wait(LONG).with_code(0);
    let pids = performed.pids();
    let rows = recording.trace().table("calls", &["pid"]).integers("pid");
    let rows = rows.iter().filter(|pid| pids.contains(&(pid.unwrap() as i32))).count() as u64;
    assert_eq!(rows, performed.total(), "what was done after READY=1");
}

#[test]
fn a_helper_that_hangs_costs_names_and_no_calls() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let recorder = recording.start_alone(&["--syscall", "%sem"]);
    let storm = || {
        let workload = ["storm", "--processes", "4", "--count", "1000"];
        let storm = Running::start(programs::workload(&workload), recording.folder(), "workload");
        Performed::read(&storm.wait(LONG).stdout)
    };
    let before = storm();
    std::thread::sleep(Duration::from_secs(1)); // it was asked about these
    send(children(recorder.pid())[0], Signal::STOP);
    let during = storm();
    std::thread::sleep(Duration::from_secs(2));
    recorder.signal(Signal::INT);
    let ended = recorder.wait(LONG).with_code(0);

    let (trace, pids) = (recording.trace(), [before.pids(), during.pids()].concat());
    let rows = trace.table("calls", &["pid"]).integers("pid");
    let rows = rows.iter().filter(|pid| pids.contains(&(pid.unwrap() as i32))).count() as u64;
    assert_eq!((rows, trace.lost_calls()), (before.total() + during.total(), 0));
    let missing: Vec<_> = trace.manifest.session.missing.iter().map(|missing| missing.feature.as_str()).collect();
    assert!(missing.contains(&"processes") && missing.contains(&"snapshots"), "{missing:?}");
    assert!(ended.stderr.contains("did not answer"), "{}", ended.stderr);
    // The paths of programs come with their exec.
    let processes = trace.table("processes", &["pid", "exe"]);
    let programs: Vec<_> = processes.integers("pid").into_iter().zip(processes.texts("exe")).collect();
    for pid in pids {
        let is_named = |(of, exe): &&(Option<i64>, Option<String>)| *of == Some(pid.into()) && exe.is_some();
        assert_eq!(programs.iter().filter(is_named).count(), 1, "{pid} of {programs:?}");
    }
}
