//! What was there before the recording: calls that already wait, with their arguments.

use ipc_tests::calls::{self, Call};
use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use ipc_tests::waits::{self, Waker};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// The deadlock of the workload and what it says of it.
struct Deadlock {
    workload: Running,
    said: Value,
}

impl Deadlock {
    /// Starts it and waits until it stands.
    fn start(recording: &Recording) -> Deadlock {
        let command = programs::workload(&["deadlock", "--hold", "120s"]);
        let workload = Running::start(command, recording.folder(), "workload");
        wait_until("the processes wait for each other", || workload.stdout().contains('\n'));
        let said = serde_json::from_str(workload.stdout().lines().next().unwrap()).unwrap();
        Deadlock { workload, said }
    }

    /// Lets it stand for a while.
    fn grow_old(&self) {
        std::thread::sleep(Duration::from_secs(environment::count(10, 60)));
    }

    /// What the trace has of each waiting thread: one call, begun before the trace, with its operations.
    fn calls_in(&self, trace: &Trace) -> Vec<Call> {
        let mut threads = calls::by_thread(calls::read(trace));
        let waiting = self.said["waiting"].as_array().unwrap();
        assert_eq!(waiting.len(), 3);
        let check = |known: &Value| {
            let tid = known["tid"].as_i64().unwrap() as i32;
            let calls = threads.remove(&tid).unwrap_or_default();
            let [call] = &calls[..] else { panic!("one call of thread {tid}: {calls:?}") };
            let sops: Vec<[i64; 3]> = serde_json::from_value(known["sops"].clone()).unwrap();
            assert_eq!(call.told.sops, sops, "operations of thread {tid}");
            assert_eq!((call.began.as_str(), call.syscall.as_str()), ("before_trace", "semtimedop"), "{call:?}");
            assert_eq!((call.told.entry_point.as_str(), call.abi.as_str()), ("semtimedop", "x86_64"), "{call:?}");
            assert_eq!(call.scalar("object_id"), self.said["semid"].as_i64(), "{call:?}");
            assert_eq!(call.scalar("sem_ops_total"), Some(2), "{call:?}");
            assert_eq!((call.pid, call.comm.as_str()), (tid, "ipc-workload"), "{call:?}");
            let inside_ns = known["inside_ns"].as_i64().unwrap() + trace.manifest.session.clock_offset_ns;
            assert!(call.start_ns > inside_ns, "the scan came after it was seen inside: {call:?}");
            call.clone()
        };
        waiting.iter().map(check).collect()
    }

    fn end(self) {
        self.workload.signal(Signal::TERM);
        self.workload.wait(LONG).with_code(0);
    }
}

/// They did not end, and nothing is known of how they will.
fn check_open(deadlock: &Deadlock, trace: &Trace) {
    let calls = deadlock.calls_in(trace);
    for call in &calls {
        assert_eq!((call.outcome.as_str(), call.end_ns, call.duration_ns), ("open", None, None), "{call:?}");
        assert_eq!((call.told.return_value, call.told.error.as_deref()), (None, None), "{call:?}");
    }
    let tids: Vec<i32> = calls.iter().map(|call| call.tid).collect();
    for wait in waits::read(trace).iter().filter(|wait| tids.contains(&wait.tid)) {
        assert_eq!((wait.wait_ns, wait.wake_reason.as_deref()), (None, None), "{wait:?}");
        assert_eq!(wait.waker, Waker::default(), "{wait:?}");
    }
}

const SEMAPHORES: [&str; 3] = ["-a", "--syscall", "%sem"];

#[test]
fn an_old_deadlock_is_in_the_trace() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let deadlock = Deadlock::start(&recording);
    deadlock.grow_old();
    let command = recording.command(&[&SEMAPHORES[..], &["--duration", "5s"]].concat());
    run(command, recording.folder(), "record").with_code(0);
    let trace = recording.trace();
    check_open(&deadlock, &trace);
    deadlock.end();
}

#[test]
fn an_old_deadlock_is_in_a_snapshot_alone() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let deadlock = Deadlock::start(&recording);
    deadlock.grow_old();
    let mut command = Command::new(programs::path("ipc-recorder"));
    command.arg("snapshot").arg("-o").arg(recording.trace_path());
    run(command, recording.folder(), "snapshot").with_code(0);
    let trace = recording.trace();
    check_open(&deadlock, &trace);
    let objects = trace.table("objects", &["object_kind", "object_id"]);
    let kinds = objects.texts("object_kind").into_iter().zip(objects.integers("object_id"));
    let sets = kinds.filter(|(kind, id)| kind.as_deref() == Some("sem") && *id == deadlock.said["semid"].as_i64());
    assert!(sets.count() > 0, "the set that they wait for is among the objects");
    deadlock.end();
}

#[test]
fn the_end_of_an_old_call_completes_its_row() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let deadlock = Deadlock::start(&recording);
    let recorder = recording.start_alone(&SEMAPHORES);
    deadlock.workload.signal(Signal::TERM);
    wait_until("the workload ends", || deadlock.workload.stdout().lines().count() == 2);
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    let trace = recording.trace();
    let calls = deadlock.calls_in(&trace);
    for call in &calls {
        assert_eq!((call.outcome.as_str(), call.told.error.as_deref()), ("error", Some("EIDRM")), "{call:?}");
        assert_eq!(call.told.return_value, Some(-1), "{call:?}");
        assert!(call.end_ns.is_some_and(|end_ns| end_ns > call.start_ns), "{call:?}");
    }
    let tids: Vec<i32> = calls.iter().map(|call| call.tid).collect();
    for wait in waits::read(&trace).iter().filter(|wait| tids.contains(&wait.tid)) {
        // It fell asleep unseen; whether its waking can be told is up to the recorder, but not what it was.
        let told = wait.wake_reason.as_deref();
        assert!(matches!(told, None | Some("unknown" | "removed")), "{wait:?}");
        let remover = waits::process_id(&trace, deadlock.workload.pid());
        assert!(told != Some("removed") || wait.waker.process_id == Some(remover), "{wait:?}");
    }
    deadlock.end();
}
