//! The same calls told by others: by the workload's own logs, and by strace.

use ipc_schema::catalogue::{CATALOGUE, EntryPoint, Meaning};
use ipc_tests::calls::{self, Call, Told, is_signal};
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::{self, Logged};
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use ipc_tests::strace::{self, SOPS_KEPT};
use std::process::Command;

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

/// A scenario under `strace -f`, which is itself the command that is recorded.
fn compare_with_strace(scenario: &[&str]) -> usize {
    let recording = Recording::new();
    let mut command = recording.command(&[]);
    let strace = strace::command(&recording.path("strace"), programs::path("ipc-workload"));
    command.args(["--", "strace"]).args(strace.get_args()).args(scenario);
    run(command, recording.folder(), "record").with_code(0);
    let witnesses = strace::read(&std::fs::read_to_string(recording.path("strace")).unwrap());
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let compared = strace::compare(&trace, &witnesses).into_values().sum();
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
