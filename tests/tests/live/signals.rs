//! Masks, signals and calls that signals interrupt.

use ipc_tests::differences::Differences;
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::recorded::Recorded;
use ipc_tests::running::{LONG, Recording, Running, wait_until};
use ipc_tests::trace::Trace;
use ipc_tests::waits;
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_restarted_call_is_one_row() {
    let Some(_live) = Live::ready() else { return };
    let Recorded { trace, json, .. } = &Recorded::run(&[], &["restarts"]);
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let waits = waits::read(trace);
    let mut differences = Differences::default();
    for case in json["calls"].as_array().unwrap() {
        let integer = |name: &str| case[name].as_i64().unwrap();
        let what = case["case"].as_str().unwrap();
        let (tid, begun_ns) = (integer("tid") as i32, integer("begun_ns") + offset_ns);
        // The thread's last call, and its only one that began before it was seen asleep and ended after that.
        let rows: Vec<_> = waits
            .iter()
            .filter(|wait| wait.tid == tid && Some(wait.syscall.as_str()) == case["syscall"].as_str())
            .filter(|wait| wait.end_ns.is_none_or(|end_ns| end_ns > begun_ns))
            .collect();
        let [row] = rows[..] else {
            differences.check(false, || format!("{what}: one row instead of {rows:?}"));
            continue;
        };
        differences.compare(&format!("{what}: restarts"), row.restarts.unwrap_or(0), integer("restarts"));
        differences.compare(&format!("{what}: error"), row.error.as_deref(), case["error"].as_str());
        let outcome = if case["error"].is_null() { "ok" } else { "error" };
        differences.compare(&format!("{what}: outcome"), row.outcome.as_str(), outcome);
        let (last_ns, ended_ns) = (integer("last_ns") + offset_ns, integer("ended_ns") + offset_ns);
        let whole = row.start_ns < begun_ns && row.end_ns.is_some_and(|end_ns| last_ns < end_ns && end_ns < ended_ns);
        differences.check(whole, || format!("{what}: from {} to {:?} is not all of it", row.start_ns, row.end_ns));
    }
    differences.none();
}

/// The columns of sigprocmask rows that the workload knows.
const MASKS: [&str; 3] = ["sig_set", "sig_old", "sig_after"];

#[test]
fn masks_before_and_after_are_the_kernels() {
    let Some(_live) = Live::ready() else { return };
    let count = environment::count(100, 10_000);
    let Recorded { trace, json, .. } = &Recorded::run(&[], &["masks", "--count", &count.to_string()]);
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let rows = trace.table("calls", &[&["tid", "start_ns", "syscall", "sig_how"][..], &MASKS].concat());
    let [tids, starts] = ["tid", "start_ns"].map(|name| rows.integers(name));
    let (syscalls, hows) = (rows.texts("syscall"), rows.texts("sig_how"));
    let masks = MASKS.map(|name| rows.integers(name));
    let [from_ns, to_ns] = ["from_ns", "to_ns"].map(|name| json[name].as_i64().unwrap() + offset_ns);
    let mut own: Vec<usize> = (0..rows.count())
        .filter(|row| tids[*row] == json["tid"].as_i64() && syscalls[*row].as_deref() == Some("sigprocmask"))
        .collect();
    own.sort_by_key(|row| starts[*row]);
    let told = |row: &usize| {
        let [set, old, after] = masks.each_ref().map(|column| column[*row]);
        json!({ "how": hows[*row], "set": set, "old": old, "after": after })
    };
    let inside = |row: &&usize| starts[**row].is_some_and(|start_ns| (from_ns..to_ns).contains(&start_ns));
    let calls: Vec<Value> = own.iter().filter(inside).map(told).collect();
    let mut differences = Differences::default();
    let known = json["calls"].as_array().unwrap();
    differences.compare("sigprocmask calls", calls.len(), known.len());
    for (place, (call, known)) in calls.iter().zip(known).enumerate() {
        differences.compare(&format!("sigprocmask {place}"), call, known);
    }
    // SIG_SETMASK between two masks: what one sets is what the next finds.
    let aliased: Vec<Value> = own.iter().filter(|row| starts[**row].is_some_and(|s| s >= to_ns)).map(told).collect();
    differences.compare("aliased calls", aliased.len() as u64, count + 2);
    for pair in aliased.windows(2) {
        differences.compare("a mask after", &pair[0]["after"], &pair[0]["set"]);
        differences.compare("the next mask before", &pair[1]["old"], &pair[0]["set"]);
    }
    differences.none();
}

/// The rows of the thread in `threads`: what was blocked, pending, ignored.
fn masks_at_start(trace: &Trace, thread: &Value) -> Vec<[Option<i64>; 3]> {
    let names = ["mask_at_start", "pending_at_start", "ignored_at_start"];
    let rows = trace.table("threads", &[&["tid"][..], &names].concat());
    let columns = names.map(|name| rows.integers(name));
    let tids = rows.integers("tid").into_iter().enumerate().filter(|(_, tid)| *tid == thread["tid"].as_i64());
    tids.map(|(row, _)| columns.each_ref().map(|column| column[row])).collect()
}

fn known_masks(thread: &Value) -> [Option<i64>; 3] {
    ["blocked", "pending", "ignored"].map(|name| thread[name].as_i64())
}

#[test]
fn masks_from_before_are_those_of_the_process_file() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let gate = recording.text("");
    let command = programs::workload(&["masks", "--count", "1", "--gate", &gate]);
    let workload = Running::start(command, recording.folder(), "workload");
    std::fs::write(recording.path("start.go"), "").unwrap();
    wait_until("the older process waits at its gate", || recording.path("older.waiting").exists());
    let recorder = recording.start_alone(&["-a", "--syscall", "%sem"]);
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    std::fs::write(recording.path("older.go"), "").unwrap();
    let json = Performed::read(&workload.wait(LONG).with_code(0).stdout).json;
    let older = json["threads"].as_array().unwrap().iter().find(|thread| thread["older"] == true).unwrap();
    assert_eq!(masks_at_start(&recording.trace(), older), [known_masks(older)], "blocked, pending, ignored");
}

#[test]
fn a_mask_at_the_start_is_the_one_inherited() {
    let Some(_live) = Live::ready() else { return };
    let Recorded { trace, json, .. } = &Recorded::run(&[], &["masks", "--count", "1"]);
    let threads = json["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 3);
    for thread in threads {
        let masks: Vec<_> = masks_at_start(trace, thread).into_iter().map(|[blocked, ..]| blocked).collect();
        assert_eq!(masks, [known_masks(thread)[0]], "blocked signals of {thread}");
    }
}

/// The rows of `signals` with these processes as targets, as the workload writes its own: by target and signal.
fn read_events(trace: &Trace, target: i64, signal: &Value) -> Vec<Value> {
    let names = ["time_ns", "signal", "sender_process_id", "target_process_id", "target_thread_id"];
    let rows = trace.table("signals", &[&names[..], &["event", "result"]].concat());
    let columns = names.map(|name| rows.integers(name));
    let (events, results) = (rows.texts("event"), rows.texts("result"));
    let mut found: Vec<usize> = (0..rows.count())
        .filter(|row| columns[3][*row] == Some(target) && columns[1][*row] == signal.as_i64())
        .collect();
    found.sort_by_key(|row| columns[0][*row]);
    let told = |row: &usize| match events[*row].as_deref() {
        Some("generate") => json!({
            "event": "generate", "sender": columns[2][*row], "thread": columns[4][*row].is_some(),
            "result": results[*row],
        }),
        other => json!({ "event": other, "thread": columns[4][*row] }),
    };
    found.iter().map(told).collect()
}

#[test]
fn each_signal_has_its_sender_and_its_fate() {
    let Some(_live) = Live::ready() else { return };
    let Recorded { trace, json, .. } = &Recorded::run(&[], &["signals"]);
    let mut differences = Differences::default();
    for case in json["signals"].as_array().unwrap() {
        let target = case["target"].as_i64().unwrap() as i32;
        let mut known = case["events"].as_array().unwrap().clone();
        for event in &mut known {
            if let Some(sender) = event["sender"].as_i64() {
                event["sender"] = waits::process_id(trace, sender as i32).into();
            }
            if event["event"] == "deliver" {
                event["thread"] = waits::thread_id(trace, target).into();
            }
        }
        let told = read_events(trace, waits::process_id(trace, target), &case["signal"]);
        differences.compare(case["case"].as_str().unwrap(), told, known);
    }
    differences.none();
}

#[test]
fn a_consumed_signal_is_in_its_call() {
    let Some(_live) = Live::ready() else { return };
    let Recorded { trace, json, .. } = &Recorded::run(&[], &["signals"]);
    let cases = json["signals"].as_array().unwrap();
    let case = cases.iter().find(|case| case["case"] == "consumed by sigtimedwait").expect("the case");
    let rows = trace.table("calls", &["pid", "syscall", "signal", "return_value"]);
    let (pids, syscalls) = (rows.integers("pid"), rows.texts("syscall"));
    let (signals, values) = (rows.integers("signal"), rows.integers("return_value"));
    let consumed: Vec<_> = (0..rows.count())
        .filter(|row| pids[*row] == case["target"].as_i64() && syscalls[*row].as_deref() == Some("sigtimedwait"))
        .map(|row| [signals[row], values[row]])
        .collect();
    assert_eq!(consumed, [[case["signal"].as_i64(); 2]], "signal and return value of the target's sigtimedwait");
}
