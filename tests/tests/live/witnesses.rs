//! The same calls told by others: by the workload's own logs, and by strace.

use ipc_schema::catalogue::{CATALOGUE, EntryPoint, Meaning};
use ipc_tests::calls::{self, Call, Told, is_signal};
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::{self, Logged};
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running};
use std::collections::BTreeMap;
use std::process::Command;

/// Semaphore operations that a trace keeps of one call.
const SOPS_KEPT: usize = 500;

fn entry_point(name: &str) -> &'static EntryPoint {
    CATALOGUE.iter().find(|entry| entry.name == name).expect("a line of the catalogue")
}

/// What an address holds is not known when it cannot be read, and operations beyond SEMOPM are refused unread.
fn expected(mut told: Told) -> Told {
    told.sops.truncate(SOPS_KEPT);
    told
}

/// The arguments that are numbers, by their columns.
fn check_scalars(call: &Call, args: &[i64], what: &str) {
    let entry = entry_point(&call.told.entry_point);
    for (argument, value) in entry.arguments.iter().zip(args) {
        let (column, value) = match argument.meaning {
            Meaning::Key => ("key", i64::from(*value as i32)),
            Meaning::Flags => ("flags", i64::from(*value as i32)),
            Meaning::SemCount => ("sem_count", i64::from(*value as i32)),
            Meaning::Size => ("size_bytes", *value),
            Meaning::SemOpCount => ("sem_ops_total", *value),
            Meaning::MessageType => ("msg_type_requested", *value),
            Meaning::Signal => ("signal", i64::from(*value as i32)),
            Meaning::ObjectId => ("object_id", i64::from(*value as i32)),
            _ => continue,
        };
        assert_eq!(call.scalar(column), Some(value), "{what}: {column}");
    }
}

/// The thread's calls in the trace are its log, in order. Signal calls count from its first to its last logged one:
/// outside, the C library makes some of its own.
fn compare(tid: i32, mut calls: Vec<Call>, logged: &[Logged], offset_ns: i64) -> usize {
    let mut signals = logged.iter().filter(|call| is_signal(&call.told.entry_point));
    let first = signals.next().map_or(i64::MAX, |call| call.before_boot_ns + offset_ns);
    let last = logged.iter().rfind(|call| is_signal(&call.told.entry_point));
    let last = last.map_or(i64::MIN, |call| call.after_boot_ns + offset_ns);
    calls.retain(|call| !is_signal(&call.told.entry_point) || (first..=last).contains(&call.start_ns));
    for (place, (call, logged)) in calls.iter().zip(logged).enumerate() {
        let what = format!("thread {tid}, call {place}, {logged:?}");
        assert_eq!(call.told, expected(logged.told.clone()), "{what}");
        assert_eq!(call.syscall, logged.syscall, "{what}");
        assert_eq!(call.abi, "x86_64", "{what}");
        check_scalars(call, &logged.args, &what);
    }
    assert_eq!(calls.len(), logged.len(), "calls of thread {tid}");
    calls.len()
}

fn compare_with_logs(arguments: &[&str]) {
    let recording = Recording::new();
    let log = recording.text("log");
    recording.record(&[], &[arguments, &["--log", &log]].concat());
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let mut threads = calls::by_thread(calls::read(&trace));
    let mut compared = 0;
    for (tid, logged) in logs::read(&recording.path("log")) {
        compared += compare(tid, threads.remove(&tid).unwrap_or_default(), &logged, offset_ns);
    }
    let others: Vec<_> = threads.into_values().flatten().filter(|call| !is_signal(&call.told.entry_point)).collect();
    assert!(others.is_empty(), "calls of threads that logged none: {others:?}");
    println!("{}: {compared} calls equal", arguments[0]);
}

#[test]
fn the_trace_is_the_log_of_every_thread() {
    let Some(_live) = Live::ready() else { return };
    let mut state = environment::seed();
    for _ in 0..environment::count(1, 100) {
        let threads = 1 + environment::random(&mut state) % 8;
        let count = 1 + environment::random(&mut state) % 1000;
        compare_with_logs(&["threads", "--threads", &threads.to_string(), "--count", &count.to_string()]);
        compare_with_logs(&["ping-pong", "--count", &count.to_string()]);
        compare_with_logs(&["waiters", "--threads", &(threads + 1).to_string(), "--count", "20", "--hold", "100us"]);
    }
}

#[test]
fn the_trace_is_the_log_of_every_family() {
    let Some(_live) = Live::ready() else { return };
    compare_with_logs(&["families", "--count", "20"]);
}

#[test]
fn the_trace_is_the_log_of_every_failure() {
    let Some(_live) = Live::ready() else { return };
    compare_with_logs(&["failures", "--count", "3"]);
}

/// What strace told, by thread.
fn read_strace(text: &str) -> BTreeMap<i32, Vec<Told>> {
    let mut told: BTreeMap<i32, Vec<Told>> = BTreeMap::new();
    let mut unfinished: BTreeMap<i32, String> = BTreeMap::new();
    for line in text.lines() {
        let (tid, rest) = line.split_once(' ').unwrap();
        let (tid, rest): (i32, &str) = (tid.parse().unwrap(), rest.trim_start());
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(tid, begun.to_owned());
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let begun = unfinished.remove(&tid).expect("a call is begun before it is resumed");
            let rest = resumed.split_once(" resumed>").unwrap().1;
            told.entry(tid).or_default().extend(strace_call(&format!("{begun}{rest}")));
        } else {
            told.entry(tid).or_default().extend(strace_call(rest));
        }
    }
    told
}

/// `NAME(ARGUMENTS) = VALUE`, if it is a call of the catalogue.
fn strace_call(line: &str) -> Option<Told> {
    let (name, rest) = line.split_once('(')?;
    CATALOGUE.iter().find(|entry| entry.name == name && entry.x86_64.is_some())?;
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or_else(|| panic!("no result in {line}"));
    let mut words = result.split(' ');
    let value = words.next().unwrap();
    let (return_value, error) = match value {
        // A restart code: user space saw EINTR.
        "?" => (Some(-1), Some("EINTR".to_owned())),
        "-1" => (Some(-1), words.next().map(str::to_owned)),
        _ => (Some(number(value)), None),
    };
    Some(Told { entry_point: name.to_owned(), return_value, error, sops: strace_sops(arguments) })
}

fn number(text: &str) -> i64 {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map(|value| value as i64),
        None => text.parse(),
    };
    value.unwrap_or_else(|e| panic!("{text} is no number: {e}"))
}

/// `[{sem_num=0, sem_op=-1, sem_flg=0x800}, …]`
fn strace_sops(arguments: &str) -> Vec<[i64; 3]> {
    let one = |text: &str| {
        let field = |name: &str| {
            let from = text.find(name)? + name.len();
            let length = text[from..].find([',', '}']).unwrap_or(text.len() - from);
            Some(number(&text[from..from + length]))
        };
        Some([field("sem_num=")?, field("sem_op=")?, field("sem_flg=")?])
    };
    arguments.split('{').filter_map(one).take(SOPS_KEPT).collect()
}

/// The families under `strace -f`, which is itself the command that is recorded.
fn record_under_strace(recording: &Recording, scenario: &[&str]) -> BTreeMap<i32, Vec<Told>> {
    let mut command = recording.command(&[]);
    command.args(["--", "strace", "-f", "-qq", "-v", "-X", "raw", "-s", "0", "-a", "1", "-e", "signal=none", "-o"]);
    command.arg(recording.path("strace")).arg(programs::path("ipc-workload")).args(scenario);
    Running::start(command, recording.folder(), "record").wait(LONG).with_code(0);
    read_strace(&std::fs::read_to_string(recording.path("strace")).unwrap())
}

fn compare_with_strace(scenario: &[&str]) -> usize {
    let recording = Recording::new();
    let witnesses = record_under_strace(&recording, scenario);
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let mut threads = calls::by_thread(calls::read(&trace));
    let mut compared = 0;
    for (tid, told) in witnesses {
        let mut calls = threads.remove(&tid).unwrap_or_default();
        // Before its execve the process was strace's child, and strace did not look yet.
        calls.retain(|call| call.comm != "strace");
        for (place, (call, told)) in calls.iter().zip(&told).enumerate() {
            assert_eq!(&call.told, told, "thread {tid}, call {place} of {}", call.call_id);
        }
        assert_eq!(calls.len(), told.len(), "calls of thread {tid}");
        compared += told.len();
    }
    println!("{}: {compared} calls equal to strace's", scenario[0]);
    compared
}

#[test]
fn the_trace_is_what_strace_saw() {
    let Some(_live) = Live::ready() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return environment::skip("strace is not installed: apt-get install strace");
    }
    let compared = compare_with_strace(&["families", "--count", "162"]);
    assert!(compared >= 10_000, "{compared} calls are too few");
    compare_with_strace(&["failures", "--count", "2"]);
    compare_with_strace(&["threads", "--threads", "4", "--count", "100"]);
    compare_with_strace(&["ping-pong", "--count", "300"]);
}
