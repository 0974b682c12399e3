//! Arguments in memory that changes under the call.

use ipc_tests::differences::Differences;
use ipc_tests::environment::{self, Live};
use ipc_tests::recorded::Recorded;
use ipc_tests::trace::Trace;

/// What the call of a kind is, and what the kernel took at its entry: operation, column, value.
fn taken(kind: &str) -> (&'static str, &'static str, i64) {
    match kind {
        "sops" | "kept" => ("semop", "sem_op", -1),
        "timeout" => ("semtimedop", "timeout_ns", 200_000_000_000),
        "deadline" => ("mq_timedreceive", "deadline_ns", 4_000_000_000_000_000_000),
        // SIGUSR2 alone.
        "set" => ("sigtimedwait", "sig_set", 1 << 11),
        "mask" => ("sigsuspend", "sig_set", 1 << 11),
        _ => panic!("the workload has a kind {kind} that this test does not know"),
    }
}

#[test]
fn a_rewritten_argument_is_seen() {
    let Some(_live) = Live::ready() else { return };
    let count = environment::count(100, 1_000) as usize;
    let Recorded { trace, json, .. } = &Recorded::run(&[], &["rewriter", "--count", &count.to_string()]);
    let mut differences = Differences::default();
    for process in json["rewritten"].as_array().unwrap() {
        let kind = process["kind"].as_str().unwrap();
        let (syscall, column, value) = taken(kind);
        let rows = trace.table("calls", &["pid", "syscall", "args_changed", column]);
        let (pids, syscalls) = (rows.integers("pid"), rows.texts("syscall"));
        let (changed, values) = (rows.integers("args_changed"), rows.integers(column));
        let mut found = 0;
        for row in 0..rows.count() {
            if pids[row] == process["pid"].as_i64() && syscalls[row].as_deref() == Some(syscall) {
                let changes = i64::from(process["changes"].as_bool().unwrap());
                differences.compare(&format!("{kind} {found}: args_changed"), changed[row], Some(changes));
                differences.compare(&format!("{kind} {found}: {column}"), values[row], Some(value));
                found += 1;
            }
        }
        differences.compare(&format!("{kind}: calls"), found, count);
    }
    println!("{} values compared", differences.compared());
    differences.none();
}

/// How many calls a trace has; none of them changed.
fn check_quiet(what: &str, trace: &Trace) -> usize {
    let rows = trace.table("calls", &["syscall", "outcome", "args_changed"]);
    let (syscalls, outcomes, changed) = (rows.texts("syscall"), rows.texts("outcome"), rows.integers("args_changed"));
    let calls = changed.len();
    let mut compared = 0;
    for ((syscall, outcome), changed) in syscalls.iter().zip(outcomes).zip(changed) {
        assert_ne!(changed, Some(1), "{what}: args_changed of a {syscall:?}");
        // Operations lie in memory: that they did not change is known, not only unsaid.
        if matches!(syscall.as_deref(), Some("semop" | "semtimedop")) && outcome.as_deref() == Some("ok") {
            assert_eq!(changed, Some(0), "{what}: args_changed of a {syscall:?}");
            compared += 1;
        }
    }
    println!("{what}: {calls} quiet calls, {compared} of them certainly compared");
    calls
}

#[test]
fn quiet_calls_change_nothing() {
    let Some(_live) = Live::ready() else { return };
    let rounds = environment::count(200, 2_000).to_string();
    // Every kind of call, those that fail, those that sleep.
    let scenarios: [&[&str]; 4] = [
        &["families", "--count", &rounds],
        &["failures", "--count", "5"],
        &["senders", "--count", "50"],
        &["threads", "--threads", "4", "--count", &rounds],
    ];
    let check = |scenario: &[&str]| check_quiet(scenario[0], &Recorded::run(&[], scenario).trace);
    let some: usize = scenarios.into_iter().map(check).sum();
    // And very many: a million when soaked. Each recording fits into the rings, so that nothing is lost.
    let recordings = 0..environment::count(5, 50).max(1);
    let many: usize = recordings.map(|_| check(&["handoffs", "--count", "1250", "--tokens", "3"])).sum();
    println!("{} quiet calls", some + many);
}

#[test]
fn a_mask_that_the_call_itself_overwrites_is_no_change() {
    let Some(_live) = Live::ready() else { return };
    let count = environment::count(10_000, 100_000);
    let calls = check_quiet("masks", &Recorded::run(&[], &["masks", "--count", &count.to_string()]).trace);
    assert!(calls as u64 > count, "{calls} calls");
}
