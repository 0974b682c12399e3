//! Rows plus losses are the calls performed, to the call.
//!
//! Needs nothing but the programs: the same tests run in small virtual machines with other kernels.

use ipc_schema::manifest::FILE_NAME;
use ipc_tests::calls::{self, Call, is_signal};
use ipc_tests::environment::{self, Live, boot_ns};
use ipc_tests::logs::Performed;
use ipc_tests::running::{LONG, Recording, Running, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

/// The rows by operation without the signal calls, of which the C library makes some of its own.
fn ipc_rows(trace: &Trace) -> BTreeMap<String, u64> {
    let mut rows = trace.calls_by_operation();
    rows.retain(|operation, _| !is_signal(operation));
    rows
}

/// The performed calls without the signal calls.
fn ipc_performed(performed: &Performed) -> BTreeMap<String, u64> {
    let mut calls = performed.calls.clone();
    calls.retain(|operation, _| !is_signal(operation));
    calls
}

/// The manifest, the session and the tables tell the same counts.
fn check_totals(trace: &Trace) {
    let rows = trace.calls_by_operation().values().sum::<u64>() as i64;
    let session = &trace.manifest.session;
    assert_eq!(session.calls, rows, "session.calls and the rows of calls");
    assert_eq!(session.lost_calls, trace.lost_calls() as i64, "session.lost_calls and the table losses");
    assert!(trace.manifest.complete, "the manifest says that the trace is complete");
    for part in &trace.manifest.parts {
        let table: Vec<_> = trace.manifest.parts.iter().filter(|p| p.file == part.file).collect();
        assert_eq!(table.len(), 1, "{} is listed once", part.file);
    }
}

/// Records a scenario and compares each operation's count; nothing may be lost.
pub(super) fn record_exactly(options: &[&str], arguments: &[&str]) -> (Recording, Performed) {
    let recording = Recording::new();
    let ended = recording.record(options, arguments);
    let performed = Performed::read(&ended.stdout);
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost:\n{}", ended.stderr);
    assert_eq!(ipc_rows(&trace), ipc_performed(&performed), "rows and calls performed");
    check_totals(&trace);
    (recording, performed)
}

pub(super) fn ping_pong(options: &[&str]) {
    // 4 calls a round and about 170 ring bytes a call: 500,000 rounds fill two default rings of 8 MiB twenty times.
    let rounds = environment::count(20_000, 500_000).to_string();
    let (recording, performed) = record_exactly(options, &["ping-pong", "--count", &rounds]);
    let bytes: u64 = recording.trace().manifest.parts.iter().map(|part| part.bytes).sum();
    println!(
        "{} calls, none lost, {:.2} bytes a call on disk",
        performed.total(),
        bytes as f64 / performed.total() as f64
    );
}

#[test]
fn ping_pong_loses_nothing() {
    let Some(_live) = Live::ready() else { return };
    ping_pong(&[]);
}

#[test]
fn ping_pong_by_raw_tracepoints_loses_nothing() {
    let Some(_live) = Live::ready() else { return };
    ping_pong(&["--attach", "raw-tracepoint"]);
}

#[test]
fn each_entry_point_counts_for_itself() {
    let Some(_live) = Live::ready() else { return };
    for (entry, operation) in [("semop", "semop"), ("semtimedop", "semtimedop"), ("libc", "semtimedop")] {
        let (recording, _) = record_exactly(&[], &["ping-pong", "--count", "50", "--entry", entry]);
        assert_eq!(ipc_rows(&recording.trace())[operation], 200, "--entry {entry}");
    }
}

/// Two processes at full speed.
pub(super) fn storm(options: &[&str]) {
    let count = environment::count(200_000, 5_000_000).to_string();
    let recording = Recording::new();
    let options = [&["--syscall", "%sem"], options].concat();
    let ended = recording.record(&options, &["storm", "--processes", "2", "--count", &count]);
    let performed = Performed::read(&ended.stdout);
    let trace = recording.trace();
    let rows: u64 = trace.calls_by_operation().values().sum();
    println!("{} calls, {} lost", performed.total(), trace.lost_calls());
    assert_eq!(rows + trace.lost_calls(), performed.total(), "rows + losses = performed");
    check_totals(&trace);
}

#[test]
fn storm_adds_up() {
    let Some(_live) = Live::ready() else { return };
    storm(&[]);
}

#[test]
fn a_storm_with_a_rate_is_no_faster_and_adds_up() {
    let Some(_live) = Live::ready() else { return };
    let (_, performed) = record_exactly(
        &["--syscall", "%sem"],
        &["storm", "--processes", "1", "--duration", "500ms", "--rate", "10000"],
    );
    let number = |name: &str| performed.json[name].as_u64().unwrap();
    let (calls, elapsed_ns) = (number("calls"), number("elapsed_ns"));
    println!("{calls} calls in {elapsed_ns} ns");
    assert_eq!(calls, performed.calls["semtimedop"]);
    assert!(elapsed_ns >= 500_000_000 && calls > 0 && calls <= elapsed_ns / 100_000, "{calls} in {elapsed_ns} ns");
}

/// Threads, sleepers, every family.
pub(super) fn mixture(options: &[&str]) {
    // What they make fits into the rings, so that nothing is lost on a busy machine either.
    for _ in 0..environment::count(1, 50).max(1) {
        record_exactly(options, &["threads", "--threads", "4", "--count", "1000"]);
        record_exactly(options, &["waiters", "--threads", "16", "--count", "20", "--hold", "50us"]);
        record_exactly(options, &["families", "--count", "50"]);
    }
}

#[test]
fn threads_and_families_and_failures_are_exact() {
    let Some(_live) = Live::ready() else { return };
    mixture(&[]);
}

#[test]
fn every_failure_has_its_errno() {
    let Some(_live) = Live::ready() else { return };
    let (recording, performed) = record_exactly(&[], &["failures", "--count", "2"]);
    let mut errors: BTreeMap<(String, String), u64> = BTreeMap::new();
    for call in calls::read(&recording.trace()) {
        let Call { syscall, told, outcome, .. } = call;
        assert_eq!(outcome == "error", told.error.is_some(), "{syscall}: outcome {outcome}, error {:?}", told.error);
        if let Some(error) = told.error {
            assert_eq!(told.return_value, Some(-1), "{syscall} with {error}");
            *errors.entry((syscall, error)).or_default() += 1;
        }
    }
    assert_eq!(errors, performed.errors(), "errors by operation and errno");
}

/// A storm in three bursts; the recorder is stopped during the second. Returns the boot clock around its stop, and when
/// the last burst was over.
fn stop_in_the_middle(recording: &Recording, mut recorder: Running) -> ([i64; 3], Running) {
    let path = |name: String| recording.path(&name);
    let go = |name: &str| std::fs::write(path(format!("{name}.go")), "").unwrap();
    let done = |burst: u32| (0..2).all(|process| path(format!("burst-{burst}-{process}.done")).exists());
    go("start");
    go("burst-1");
    wait_until("the first burst is over", || {
        assert!(!recorder.has_ended(), "the recorder ended early:\n{}", recorder.stderr());
        done(1)
    });
    // What the first burst left in the rings is consumed.
    std::thread::sleep(Duration::from_millis(500));
    recorder.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", recorder.pid());
    wait_until("the recorder is stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    let stopped_ns = boot_ns();
    go("burst-2");
    wait_until("the second burst is over", || done(2));
    let continued_ns = boot_ns();
    recorder.signal(Signal::CONT);
    // The rings are drained before the third burst, so that it finds room.
    std::thread::sleep(Duration::from_millis(500));
    go("burst-3");
    wait_until("the third burst is over", || done(3));
    ([stopped_ns, continued_ns, boot_ns()], recorder)
}

#[test]
fn a_stopped_consumer_loses_to_the_call_and_says_where() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let gate = recording.text("");
    // The outer bursts fit into the ring, so that losses can only fall into the one between.
    let storm = ["storm", "--processes", "2", "--count", "200,20000,200", "--pin", "--gate", gate.as_str()];
    let recorder = recording.start(&["--ring-size", "64KiB", "--syscall", "%sem"], &storm);
    let (around, recorder) = stop_in_the_middle(&recording, recorder);
    let ended = recorder.wait(LONG).with_code(0);
    let performed = Performed::read(&ended.stdout);
    let trace = recording.trace();
    let rows: u64 = trace.calls_by_operation().values().sum();
    println!("{} calls performed, {rows} rows, {} lost", performed.total(), trace.lost_calls());
    for loss in trace.losses() {
        println!("{loss:?}");
    }
    assert_eq!(rows + trace.lost_calls(), performed.total(), "rows + losses = performed");
    assert!(trace.lost_calls() > 0, "a ring of 64 KiB holds no burst");
    check_totals(&trace);
    check_places(&trace, around);
}

/// Stops the recorder at random times until the workload has printed its result. Returns how often.
fn stop_at_random(recording: &Recording, recorder: &mut Running, state: &mut u64) -> u64 {
    let manifest = recording.trace_path().join(FILE_NAME);
    // A stop makes the kernel give up the program that it is checking. In an emulated machine one program takes 70 ms:
    // until all are there, the time between two stops grows.
    let pause = |state: &mut u64, stops: u64| {
        let limit = if manifest.exists() { 20_000 } else { 20_000 + 10_000 * stops };
        std::thread::sleep(Duration::from_micros(environment::random(state) % limit));
    };
    let stat = format!("/proc/{}/stat", recorder.pid());
    let mut stops = 0;
    while !recorder.stdout().ends_with("}\n") && !recorder.has_ended() {
        recorder.signal(Signal::STOP);
        // Or a zombie: it may have ended since it was asked.
        let is_still = |stat: &str| stat.contains(") T ") || stat.contains(") Z ");
        wait_until("the recorder is stopped", || is_still(&std::fs::read_to_string(&stat).unwrap()));
        pause(state, 0);
        recorder.signal(Signal::CONT);
        pause(state, stops);
        stops += 1;
    }
    stops
}

#[test]
fn a_consumer_stopped_at_random_loses_to_the_call() {
    let Some(_live) = Live::ready() else { return };
    let mut state = environment::seed();
    let rounds = environment::count(50_000, 2_000_000).to_string();
    let few = environment::count(200, 5000).to_string();
    // What sleeps across a stop loses its entry and keeps its exit, or the reverse; what is killed loses its death.
    let scenarios: [&[&str]; 5] = [
        &["ping-pong", "--count", &rounds],
        &["waiters", "--threads", "8", "--count", &few, "--hold", "300us"],
        &["killed", "--count", &few],
        &["threads", "--threads", "8", "--count", &rounds],
        &["failures", "--count", "50"],
    ];
    for scenario in scenarios {
        let recording = Recording::new();
        let options = ["--ring-size", "16KiB", "--syscall", "%sem,%shm,%msg,%mq"];
        let mut recorder = recording.start(&options, scenario);
        let stops = stop_at_random(&recording, &mut recorder, &mut state);
        let performed = Performed::read(&recorder.wait(LONG).with_code(0).stdout);
        let trace = recording.trace();
        let rows: u64 = trace.calls_by_operation().values().sum();
        let expected: u64 = ipc_performed(&performed).values().sum();
        println!("{}: {expected} calls, {rows} rows, {} lost, {stops} stops", scenario[0], trace.lost_calls());
        assert_eq!(rows + trace.lost_calls(), expected, "{}: rows + losses = performed", scenario[0]);
        check_totals(&trace);
        let open = trace.table("calls", &["end_ns"]).integers("end_ns").iter().filter(|end| end.is_none()).count();
        assert_eq!(open, 0, "{}: open calls, though every process has ended", scenario[0]);
    }
}

/// Each loss lies in the time in which the recorder was stopped, on a CPU of its own.
fn check_places(trace: &Trace, [stopped_ns, continued_ns, over_ns]: [i64; 3]) {
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let (stopped_ns, continued_ns, over_ns) = (stopped_ns + offset_ns, continued_ns + offset_ns, over_ns + offset_ns);
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for loss in trace.losses().iter().filter(|loss| loss.is_calls()) {
        assert_eq!(loss.source, "ring_full", "{loss:?}");
        let cpu = loss.cpu.expect("a full ring belongs to a CPU");
        assert!(loss.from_ns <= loss.to_ns, "{loss:?}");
        assert!(loss.from_ns >= stopped_ns, "{loss:?} begins before the recorder was stopped at {stopped_ns}");
        assert!(loss.from_ns <= continued_ns, "{loss:?} begins after the recorder went on at {continued_ns}");
        // Its end is the next record of the CPU: of the third burst, for which every CPU had a process.
        assert!(loss.to_ns <= over_ns, "{loss:?} ends after the third burst at {over_ns}");
        let before = last.insert(cpu, loss.to_ns).unwrap_or(i64::MIN);
        assert!(before <= loss.from_ns, "{loss:?} overlaps another of its CPU");
    }
}

#[test]
fn a_killed_call_is_killed() {
    let Some(_live) = Live::ready() else { return };
    let (recording, performed) = record_exactly(&[], &["killed", "--count", "5"]);
    let trace = recording.trace();
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let calls = calls::read(&trace);
    let killed: Vec<&Call> = calls.iter().filter(|call| call.outcome == "killed").collect();
    assert_eq!(killed.len(), 5, "killed calls");
    for expected in performed.json["killed"].as_array().unwrap() {
        let time = |name: &str| expected[name].as_i64().unwrap() + offset_ns;
        let tid = expected["tid"].as_i64().unwrap();
        let call = killed.iter().find(|call| i64::from(call.tid) == tid).expect("a killed call of the thread");
        assert_eq!(call.told.entry_point, "semtimedop");
        assert_eq!(call.told.return_value, None, "user space saw no value");
        assert_eq!(call.told.error, None, "user space saw no error");
        assert_eq!(call.told.sops, [[0, -1, 0]]);
        let end_ns = call.end_ns.expect("a killed call has an end");
        assert!(call.start_ns <= time("inside_ns"), "it began after it was seen inside");
        assert!(end_ns >= time("kill_ns"), "it ended {} ns before the kill", time("kill_ns") - end_ns);
        assert!(end_ns <= time("reaped_ns"), "it ended {} ns after it was reaped", end_ns - time("reaped_ns"));
        assert_eq!(call.duration_ns, Some(end_ns - call.start_ns));
    }
}

#[test]
fn an_i386_call_is_no_x86_64_call() {
    let Some(_live) = Live::ready() else { return };
    let (recording, performed) = record_exactly(&[], &["int80", "--count", "1000"]);
    let made = performed.json["getppid"].as_u64().unwrap();
    println!("{made} getppid by int 0x80; i386 emulation: {}", performed.json["i386"]);
    let semgets = recording.trace().calls_by_operation().remove("semget");
    assert_eq!(semgets, None, "getppid of i386 has the number of semget of x86-64");
}
