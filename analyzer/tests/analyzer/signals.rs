//! `signals` on exact small cases.

use crate::rows::{LASTED_NS, Rows};
use crate::{findings, on, rows, stdout};
use ipc_schema::tables::{CALLS, EXECS, PROCESSES, SIGNALS, THREADS};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECOND: i64 = 1_000_000_000;
const SIGHUP: i64 = 1;
const SIGTERM: i64 = 1 << 14;

/// Process 1 makes process 2 at 100; each has one thread. The child's mask is `mask`.
fn family(mask: i64) -> Rows {
    let processes = json!([
        { "process_id": 1, "pid": 11, "start_ns": 1, "comm": "launcher" },
        { "process_id": 2, "pid": 12, "start_ns": 100, "comm": "server", "parent_process_id": 1 }
    ]);
    let threads = json!([
        { "thread_id": 1, "process_id": 1, "tid": 11, "start_ns": 1, "mask_at_start": 0 },
        { "thread_id": 2, "process_id": 2, "tid": 12, "start_ns": 100, "parent_thread_id": 1, "mask_at_start": mask }
    ]);
    Rows::new().with(&PROCESSES, processes).with(&THREADS, threads)
}

fn mask(process: i64, start: i64, old: i64, after: i64) -> Value {
    json!({
        "syscall": "sigprocmask", "process_id": process, "start_ns": start, "end_ns": start + 1, "sig_old": old,
        "sig_after": after
    })
}

/// SIGTERM from process 1 to process 2.
fn sent(at: i64) -> Value {
    signal(at, 15, "delivered")
}

fn signal(at: i64, number: i64, result: &str) -> Value {
    json!({
        "time_ns": at, "event": "generate", "signal": number, "sender_process_id": 1, "target_process_id": 2,
        "result": result
    })
}

fn delivered(at: i64) -> Value {
    json!({
        "time_ns": at, "event": "deliver", "signal": 15, "target_process_id": 2, "target_thread_id": 2, "result": "handler"
    })
}

fn ask(rows_of: &Rows, section: &str) -> Vec<Value> {
    let directory = TempDir::new().unwrap();
    let trace = rows_of.write(directory.path(), "t");
    rows("signals", &trace, &[]).into_iter().filter(|row| row["section"] == section).collect()
}

fn wrong(rows_of: &Rows) -> Vec<String> {
    ask(rows_of, "finding").iter().map(|row| row["grade"].as_str().unwrap().to_owned()).collect()
}

fn has(row: &Value, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name} of {row}");
    }
}

#[test]
fn times_blocked_are_counted_per_thread_and_signal() {
    let calls = json!([
        mask(1, 1000, 0, SIGTERM | SIGHUP),
        mask(1, 2000, SIGTERM | SIGHUP, SIGTERM),
        // A handler had blocked SIGHUP meanwhile: what the call found counts from its start.
        mask(1, 3000, SIGTERM | SIGHUP, 0),
    ]);
    let found = ask(&family(SIGTERM).with(&CALLS, calls), "blocked");
    assert_eq!(found.len(), 3);
    has(
        &found[0],
        json!({
            "tid": 12, "sig_set": SIGTERM, "sig_set_text": "SIGTERM", "intervals": 1, "blocked_ns": LASTED_NS - 100,
            "still_blocked": true, "since_ns": crate::fixture::START_NS + 100
        }),
    );
    has(
        &found[1],
        json!({
            "tid": 11, "sig_set": SIGTERM, "intervals": 1, "blocked_ns": 2000, "longest_ns": 2000, "still_blocked": false
        }),
    );
    has(&found[2], json!({ "tid": 11, "sig_set": SIGHUP, "intervals": 2, "blocked_ns": 1001, "longest_ns": 1000 }));
}

#[test]
fn sigsuspend_sets_another_mask_while_it_lasts() {
    let suspend = json!({
        "syscall": "sigsuspend", "process_id": 2, "start_ns": 1000, "end_ns": 5000, "sig_old": SIGTERM, "sig_set": SIGHUP,
        "error": "EINTR"
    });
    let found = ask(&family(SIGTERM).with(&CALLS, json!([suspend])), "blocked");
    has(&found[0], json!({ "sig_set": SIGTERM, "intervals": 2, "blocked_ns": 900 + LASTED_NS - 5000 }));
    has(&found[1], json!({ "sig_set": SIGHUP, "intervals": 1, "blocked_ns": 4000 }));
}

#[test]
fn a_signal_that_waits_for_an_inherited_mask_is_a_finding() {
    let blocks = mask(1, 50, 0, SIGTERM);
    let exec = json!([{ "process_id": 2, "exec_ns": 200, "comm": "server" }]);
    let rows = family(SIGTERM)
        .with(&CALLS, json!([blocks, mask(1, 300, SIGTERM, 0)]))
        .with(&SIGNALS, json!([sent(SECOND), signal(2 * SECOND, 15, "pending")]))
        .with(&EXECS, exec);
    let found = ask(&rows, "finding");
    assert_eq!(wrong(&rows), ["certain"]);
    let what = found[0]["what"].as_str().unwrap();
    assert!(what.starts_with("SIGTERM for 12 server from 11 launcher, sent 2 times has waited"), "{what}");
    assert!(what.contains("inherited the mask: 11 launcher had blocked the signal in call 1"), "{what}");
    assert!(found[0]["remedy"].as_str().unwrap().contains("kill -KILL 12"));
    assert_eq!(found[0]["evidence"], json!([1]));
    has(
        &ask(&rows, "pending")[0],
        json!({
            "signal": 15, "signal_name": "SIGTERM", "target_pid": 12, "sender_pid": 11, "sent": 2, "result": "still pending",
            "pending_ns": LASTED_NS - SECOND
        }),
    );
    assert_eq!(wrong(&rows.losing(2)), ["likely"]);
}

#[test]
fn one_that_the_process_blocked_itself_says_so() {
    let rows = family(0).with(&CALLS, json!([mask(2, 500, 0, SIGTERM)])).with(&SIGNALS, json!([sent(SECOND)]));
    let what = ask(&rows, "finding")[0]["what"].as_str().unwrap().to_owned();
    assert!(what.contains("blocked the signal itself, in call 1"), "{what}");
}

#[test]
fn who_fetches_a_signal_misses_none() {
    let pending = || family(SIGTERM).with(&SIGNALS, json!([sent(SECOND)]));
    assert_eq!(wrong(&pending()), ["certain"]);
    let of = |syscall: &str, start: i64, end: Option<i64>, set: i64| json!([{ "syscall": syscall, "process_id": 2, "start_ns": start, "end_ns": end, "sig_set": set, "return_value": 3 }]);
    // A signalfd, even from later; one that waits at the end; one that waits for another signal.
    assert_eq!(wrong(&pending().with(&CALLS, of("signalfd", 500, Some(600), SIGTERM))), [""; 0]);
    assert_eq!(wrong(&pending().with(&CALLS, of("sigtimedwait", 5 * SECOND, None, SIGTERM | SIGHUP))), [""; 0]);
    assert_eq!(wrong(&pending().with(&CALLS, of("signalfd", 500, Some(600), SIGHUP))), ["certain"]);
    // Its parent's descriptor, which a new program does not know.
    let parents = json!([{ "syscall": "signalfd", "process_id": 1, "start_ns": 50, "end_ns": 60, "sig_set": SIGTERM }]);
    let inherited = pending().with(&CALLS, parents);
    assert_eq!(wrong(&inherited), [""; 0]);
    let exec = json!([{ "process_id": 2, "exec_ns": 200, "comm": "server" }]);
    assert_eq!(wrong(&inherited.with(&EXECS, exec)), ["certain"]);
    // The kernel queued the next one: the first was gone, so somebody reads them.
    let twice = family(SIGTERM).with(&SIGNALS, json!([sent(SECOND), sent(4 * SECOND)]));
    assert_eq!(wrong(&twice), [""; 0]);
    let fetched = pending().with(&CALLS, json!([{
        "syscall": "sigtimedwait", "process_id": 2, "start_ns": 2 * SECOND, "end_ns": 3 * SECOND, "sig_set": SIGTERM,
        "signal": 15, "return_value": 15
    }]));
    has(&ask(&fetched, "pending")[0], json!({ "result": "fetched", "pending_ns": 2 * SECOND }));
}

#[test]
fn what_is_ignored_harmless_or_soon_delivered_is_none() {
    let ignore = json!([{
        "syscall": "sigaction", "process_id": 1, "start_ns": 20, "end_ns": 30, "signal": 15, "disposition": "ignore"
    }]);
    assert_eq!(wrong(&family(SIGTERM).with(&CALLS, ignore).with(&SIGNALS, json!([sent(SECOND)]))), [""; 0]);
    let child = family(1 << 16).with(&SIGNALS, json!([signal(SECOND, 17, "delivered")]));
    assert_eq!(wrong(&child), [""; 0]);
    let soon = json!([sent(SECOND), delivered(SECOND + 900_000_000)]);
    assert_eq!(wrong(&family(SIGTERM).with(&SIGNALS, soon)), [""; 0]);
    let late = json!([sent(SECOND), delivered(3 * SECOND)]);
    assert_eq!(wrong(&family(SIGTERM).with(&SIGNALS, late)), ["suspect"]);
    // Not blocked: it ended the process, which no delivery tells.
    assert_eq!(wrong(&family(0).with(&SIGNALS, json!([sent(SECOND)]))), [""; 0]);
    // The recording ended soon after.
    let just = |before: i64| family(SIGTERM).with(&SIGNALS, json!([sent(LASTED_NS - before)]));
    assert_eq!(wrong(&just(500_000_000)), ["suspect"]);
    assert_eq!(wrong(&just(50_000_000)), [""; 0]);
}

#[test]
fn every_thread_must_block_what_is_for_the_process() {
    let second = json!([{ "thread_id": 3, "process_id": 2, "tid": 13, "start_ns": 200, "parent_thread_id": 2, "mask_at_start": 0 }]);
    let open = || family(SIGTERM).with(&THREADS, second.clone());
    assert_eq!(wrong(&open().with(&SIGNALS, json!([sent(SECOND)]))), [""; 0]);
    let mut directed = sent(SECOND);
    directed["target_thread_id"] = json!(2);
    assert_eq!(wrong(&open().with(&SIGNALS, json!([directed]))), ["certain"]);
}

#[test]
fn a_process_from_before_the_recording_may_have_a_signalfd() {
    let processes = json!([{ "process_id": 2, "pid": 12, "start_ns": -SECOND, "comm": "server" }]);
    let threads =
        json!([{ "thread_id": 2, "process_id": 2, "tid": 12, "start_ns": -SECOND, "mask_at_start": SIGTERM }]);
    let older = Rows::new().with(&PROCESSES, processes).with(&THREADS, threads);
    assert_eq!(wrong(&older.with(&SIGNALS, json!([sent(SECOND)]))), ["likely"]);
}

#[test]
fn what_was_not_recorded_is_said_and_not_guessed() {
    let rows = family(SIGTERM).with(&SIGNALS, json!([sent(SECOND)]));
    let rows = rows.session(|session| session.filters.syscalls = vec!["semop".to_owned()]);
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    assert_eq!(findings("signals", &trace, &[]).len(), 0);
    let text = stdout(&on("signals", &trace, &[]));
    assert!(text.contains("record with --syscall %sig"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let empty = Rows::new().write(directory.path(), "empty");
    assert_eq!(rows_of(&empty), [Value::Null; 0]);
}

fn rows_of(trace: &std::path::Path) -> Vec<Value> {
    rows("signals", trace, &[])
}
