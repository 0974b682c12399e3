//! `contention` on exact small cases.

use crate::rows::Rows;
use crate::{findings, fixture, on, rows, stderr, stdout};
use clap::Parser;
use ipc_analyzer::filter::Filter;
use ipc_analyzer::opened::Opened;
use ipc_analyzer::queries::contention::Contention;
use ipc_schema::tables::{CALLS, LIFETIMES, PROCESSES, THREADS};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

const MS: i64 = 1_000_000;

fn object(kind: &str, object_ref: i64) -> Value {
    let name = (kind == "mq").then(|| format!("/q{object_ref}"));
    json!({ "object_ref": object_ref, "object_kind": kind, "object_id": 10 + object_ref, "name": name, "how_known": "seen" })
}

fn extended(mut row: Value, more: Value) -> Value {
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// An operation on semaphore 0 of the set 11.
fn sem(thread: i64, operation: i32, start: i64, end: i64, more: Value) -> Value {
    let row = json!({
        "process_id": thread, "start_ns": start, "end_ns": end, "object_kind": "sem", "object_ref": 1, "object_id": 11,
        "sem_num": 0, "sem_op": operation, "sem_ops_total": 1, "slept": false, "wait_ns": 0, "wakings": 0
    });
    extended(row, more)
}

/// What a call says that slept `wait_ns` until `waker` handed on.
fn slept(wait_ns: i64, waker: i64) -> Value {
    json!({
        "slept": true, "wait_ns": wait_ns, "wakings": 1, "wake_reason": "peer", "waker_process_id": waker,
        "waker_thread_id": waker, "waker_comm": format!("p{waker}"), "waker_syscall": "semtimedop"
    })
}

fn trace(calls: Value) -> Rows {
    Rows::new().with(&LIFETIMES, json!([object("sem", 1), object("msg", 2), object("mq", 3)])).with(&CALLS, calls)
}

fn section(rows_of: &Rows, section: &str, arguments: &[&str]) -> Vec<Value> {
    let directory = TempDir::new().unwrap();
    let trace = rows_of.write(directory.path(), "t");
    rows("contention", &trace, arguments).into_iter().filter(|row| row["section"] == section).collect()
}

/// The columns of a row, as they stand in `expected`.
fn assert_columns(row: &Value, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name} of {row}");
    }
}

#[test]
fn each_figure_of_a_semaphore_is_what_it_is_defined_to_be() {
    let again = json!({ "wakings": 3, "wakeup_delay_ns": 30 });
    let timeout = json!({ "slept": true, "wait_ns": 300, "wakings": 1, "wake_reason": "timeout", "error": "EAGAIN" });
    let calls = json!([
        sem(1, -1, 0, 10, json!({})),
        sem(2, -1, 20, 150, extended(slept(100, 1), json!({ "wakeup_delay_ns": 10 }))),
        sem(3, -1, 30, 260, extended(slept(200, 2), again)),
        sem(1, 1, 119, 121, json!({})),
        sem(2, 1, 229, 231, json!({})),
        sem(4, -1, 40, 345, timeout),
        sem(5, -1, 400, 0, json!({ "end_ns": null, "wait_ns": null, "slept": null, "wakings": null })),
    ]);
    let lines = section(&trace(calls), "semaphore", &[]);
    assert_eq!(lines.len(), 1);
    let expected = json!({
        "object": "sem:11", "object_ref": 1, "sem_num": 0, "side": null, "operations": 7, "contended": 3,
        "contended_permille": 429, "wait_total_ns": 600, "wait_mean_ns": 200, "wait_p50_ns": 200, "wait_p90_ns": 280,
        "wait_p99_ns": 298, "wait_max_ns": 300, "waiters_max": 3, "open": 1, "open_at_least_ns": 99_999_999_600_i64,
        "handoffs": 2, "handoff_permille": 667, "timeouts": 1, "wakings": 5, "woken_again": 1, "wakings_permille": 1667,
        "wakeup_delay_p50_ns": 20, "wakeup_delay_max_ns": 30, "holds": 2, "hold_p50_ns": 94, "hold_max_ns": 109
    });
    assert_columns(&lines[0], expected);
}

#[test]
fn a_hold_is_a_take_whose_thread_gives_next() {
    let several = json!({ "sem_ops_total": 2 });
    let failed = json!({ "error": "EAGAIN" });
    let holds = |calls: Value| {
        let rows = section(&trace(calls), "semaphore", &[]);
        let line = rows.into_iter().find(|row| row["sem_num"] == 0).unwrap();
        (line["holds"].as_i64().unwrap(), line["hold_max_ns"].as_i64())
    };
    let calls = json!([sem(1, -1, 0, 10, json!({})), sem(1, 1, 30, 31, json!({})), sem(1, 1, 50, 51, json!({}))]);
    assert_eq!(holds(calls), (1, Some(20)));
    let twice = json!([sem(1, -1, 0, 10, json!({})), sem(1, -1, 20, 25, json!({})), sem(1, 1, 30, 31, json!({}))]);
    assert_eq!(holds(twice), (1, Some(5)));
    let other = json!([sem(1, -1, 0, 10, json!({})), sem(2, 1, 30, 31, json!({}))]);
    assert_eq!(holds(other), (0, None));
    let without = json!([sem(1, -1, 0, 10, failed), sem(1, 1, 30, 31, json!({})), sem(1, -1, 40, 45, several.clone())]);
    assert_eq!(holds(without), (0, None));
    let between = json!([sem(1, -1, 0, 10, json!({})), sem(1, 1, 15, 16, several), sem(1, 1, 30, 31, json!({}))]);
    assert_eq!(holds(between), (1, Some(20)));
}

#[test]
fn waits_that_meet_do_not_overlap_and_the_wake_up_delay_is_no_wait() {
    let most = |calls: Value| section(&trace(calls), "semaphore", &[])[0]["waiters_max"].as_i64().unwrap();
    let meeting = json!([sem(1, -1, 0, 10, slept(10, 9)), sem(2, -1, 10, 20, slept(10, 9))]);
    assert_eq!(most(meeting), 1);
    let overlapping = json!([sem(1, -1, 0, 11, slept(11, 9)), sem(2, -1, 10, 20, slept(10, 9))]);
    assert_eq!(most(overlapping), 2);
    // Woken at 10, back at 50: the others wait without it, though their calls ended before.
    let delayed =
        json!([sem(1, -1, 0, 50, slept(10, 9)), sem(2, -1, 12, 20, slept(8, 9)), sem(3, -1, 22, 30, slept(8, 9))]);
    assert_eq!(most(delayed), 1);
}

#[test]
fn sides_of_queues_and_sets_are_lines_of_their_own() {
    let queue = |object: i64, syscall: &str, start: i64| json!({ "syscall": syscall, "object_ref": object, "start_ns": start, "end_ns": start + 9, "wait_ns": 5, "slept": true });
    let nothing = json!({ "object_ref": null });
    let calls = json!([
        queue(2, "msgsnd", 0),
        queue(2, "msgrcv", 10),
        queue(3, "mq_timedsend", 20),
        queue(3, "mq_timedreceive", 30),
        queue(3, "mq_open", 40),
        sem(1, -1, 50, 55, json!({})),
        sem(1, -1, 60, 65, json!({ "sem_num": 1 })),
        sem(1, -1, 70, 75, json!({ "sem_ops_total": 3 })),
        sem(1, -1, 80, 85, nothing),
    ]);
    let mut lines: Vec<String> = section(&trace(calls), "semaphore", &[])
        .iter()
        .map(|row| {
            format!("{} {} {} {}", row["object"], row["place"], row["sem_num"], row["operations"]).replace('"', "")
        })
        .collect();
    lines.sort();
    let expected = [
        "mq:/q3 receive null 1",
        "mq:/q3 send null 1",
        "msg:12 receive null 1",
        "msg:12 send null 1",
        "sem:11 [0] 0 1",
        "sem:11 [1] 1 1",
        "sem:11 set null 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn pairs_are_told_apart_by_process_thread_or_name() {
    let threads = |row: Value, process: i64| extended(row, json!({ "process_id": process, "comm": "worker" }));
    let calls = json!([
        threads(sem(21, -1, 0, 10, slept(10, 9)), 2),
        threads(sem(22, -1, 20, 50, slept(30, 9)), 2),
        threads(sem(31, -1, 60, 65, slept(5, 9)), 3),
        sem(4, -1, 70, 75, json!({ "slept": true, "wait_ns": 4, "wake_reason": "timeout" })),
        sem(4, -1, 80, 85, json!({})),
    ]);
    let calls = json!(
        calls
            .as_array()
            .unwrap()
            .iter()
            .zip([21, 22, 31, 4, 4])
            .map(|(row, thread)| extended(row.clone(), json!({ "thread_id": thread })))
            .collect::<Vec<_>>()
    );
    let trace = trace(calls)
        .with(&PROCESSES, json!([{ "process_id": 2, "pid": 200, "comm": "two" }, { "process_id": 9, "pid": 900 }]))
        .with(&THREADS, json!([{ "thread_id": 21, "process_id": 2, "tid": 210, "comm": "worker" }]));
    let shown = |by: &str| {
        let text = |row: &Value| {
            format!(
                "{} < {} {} {} {} {}",
                row["waiter"], row["waker"], row["wake_reason"], row["waits"], row["wait_total_ns"], row["wait_max_ns"]
            )
        };
        section(&trace, "pair", &["--pairs", by]).iter().map(|row| text(row).replace('"', "")).collect::<Vec<_>>()
    };
    let by_process =
        ["200 two < 900 peer 2 40 30", "(process_id 3) < 900 peer 1 5 5", "(process_id 4) < - timeout 1 4 4"];
    assert_eq!(shown("process"), by_process);
    assert_eq!(shown("comm"), ["worker < p9 peer 3 45 30", "p4 < - timeout 1 4 4"]);
    let by_thread = [
        "(thread_id 22) < (thread_id 9) peer 1 30 30",
        "210 worker < (thread_id 9) peer 1 10 10",
        "(thread_id 31) < (thread_id 9) peer 1 5 5",
        "(thread_id 4) < - timeout 1 4 4",
    ];
    assert_eq!(shown("thread"), by_thread);
}

/// `threads` threads take the semaphore in turn, hold it for `hold_ns` and come back at once; each gives to the next.
fn lock(threads: i64, hold_ns: i64, rounds: i64) -> Vec<Value> {
    let mut calls = Vec::new();
    for turn in 0..threads * rounds {
        let (thread, begin) = (turn % threads + 1, turn * hold_ns);
        let came = (begin - (threads - 1) * hold_ns).max(0);
        let waker = if thread == 1 { threads } else { thread - 1 };
        let more = if begin > came { slept(begin - came, waker) } else { json!({}) };
        calls.push(sem(thread, -1, came, begin + 10, more));
        calls.push(sem(thread, 1, begin + hold_ns - 20, begin + hold_ns - 10, json!({})));
    }
    calls
}

fn convoys(rows: &Rows, arguments: &[&str]) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    findings("contention", &trace, arguments).into_iter().map(|finding| finding.join(" ")).collect()
}

#[test]
fn a_lock_with_a_line_that_does_not_end_is_a_convoy() {
    let busy = trace(json!(lock(4, 10 * MS, 40)));
    assert_eq!(convoys(&busy, &[]), ["convoy certain sem:11"]);
    assert_eq!(convoys(&busy, &["--convoy-waiters", "4"]), [""; 0]);
    assert_eq!(convoys(&busy, &["--convoy-for", "2s"]), [""; 0]);
    assert_eq!(convoys(&busy, &["--convoy-wait", "31ms"]), [""; 0]);
    assert_eq!(convoys(&busy, &["--only", "pairs"]), [""; 0]);
    assert_eq!(convoys(&trace(json!(lock(3, 10 * MS, 50))), &[]), [""; 0], "two wait at a time");
    assert_eq!(convoys(&trace(json!(lock(4, 10 * MS, 24))), &[]), [""; 0], "less than a second");
    assert_eq!(convoys(&trace(json!(lock(5, 200_000, 2000))), &[]), [""; 0], "the pace of a lock in good use");
}

#[test]
fn what_could_change_a_convoy_makes_it_likely() {
    let busy = || trace(json!(lock(4, 10 * MS, 40)));
    assert_eq!(convoys(&busy().losing(5), &[]), ["convoy likely sem:11"]);
    assert_eq!(convoys(&busy(), &["--object", "sem:11"]), ["convoy likely sem:11"]);
    assert_eq!(convoys(&busy().session(|s| s.filters.pids = vec![1]), &[]), ["convoy certain sem:11"]);
    assert_eq!(convoys(&busy().session(|s| s.filters.min_duration_ns = Some(5)), &[]), ["convoy likely sem:11"]);
    let several = lock(4, 10 * MS, 40).into_iter().map(|row| extended(row, json!({ "sem_ops_total": 2 })));
    assert_eq!(convoys(&trace(several.collect()), &[]), ["convoy likely sem:11"]);
}

#[test]
fn one_long_hold_is_a_convoy_unless_the_holder_was_idle() {
    let mut calls = vec![sem(1, -1, 0, 10, json!({})), sem(1, 1, 1500 * MS, 1500 * MS + 10, json!({}))];
    calls.extend((2..6).map(|t| sem(t, -1, 50 * t, 1500 * MS + t, slept(1500 * MS - 50 * t, t - 1))));
    let held = trace(json!(calls));
    assert_eq!(convoys(&held, &[]), ["convoy likely sem:11"]);
    let found = &section(&held, "finding", &[])[0];
    assert!(found["doubts"][0].as_str().unwrap().contains("nobody got it"), "{found}");
    assert!(found["what"].as_str().unwrap().contains("1.50 s by"), "{found}");
    assert_eq!(found["evidence"].as_array().unwrap().len(), 4);
}

#[test]
fn idle_consumers_are_no_convoy() {
    // Thread 9 gives and never takes.
    let work = |row: Value| match row["sem_op"].as_i64() {
        Some(1) => extended(row, json!({ "process_id": 9 })),
        _ if row["wait_ns"] != 0 => extended(row, slept(1, 9)),
        _ => row,
    };
    let keep_wait = |row: Value| {
        let wait = row["wait_ns"].clone();
        extended(work(row), json!({ "wait_ns": wait }))
    };
    assert_eq!(convoys(&trace(lock(4, 10 * MS, 40).into_iter().map(keep_wait).collect()), &[]), [""; 0]);
    // Nor are receivers; senders to a full queue are.
    let on_queue = |syscall: &'static str| {
        let queue =
            json!({ "syscall": syscall, "object_ref": 2, "sem_num": null, "sem_op": null, "sem_ops_total": null });
        lock(4, 10 * MS, 40).into_iter().filter(|row| row["sem_op"] == -1).map(move |row| extended(row, queue.clone()))
    };
    assert_eq!(convoys(&trace(on_queue("msgrcv").collect()), &[]), [""; 0]);
    assert_eq!(convoys(&trace(on_queue("msgsnd").collect()), &[]), ["convoy certain msg:12"]);
    // Nobody ever gets it: no convoy, but a matter for `deadlocks`.
    let stuck = (1..6).map(|t| sem(t, -1, 50 * t, 0, json!({ "end_ns": null, "wait_ns": null })));
    assert_eq!(convoys(&trace(stuck.collect()), &[]), [""; 0]);
}

#[test]
fn check_fails_on_a_convoy_alone() {
    let directory = TempDir::new().unwrap();
    let busy = trace(json!(lock(4, 10 * MS, 40))).write(directory.path(), "busy");
    let found = on("contention", &busy, &["--check"]);
    assert_eq!(found.status.code(), Some(1), "{}", stderr(&found));
    assert!(stdout(&found).starts_with("certain convoy sem:11"), "{}", stdout(&found));
    let calm = trace(json!(lock(2, 10 * MS, 40))).write(directory.path(), "calm");
    assert_eq!(on("contention", &calm, &["--check"]).status.code(), Some(0));
}

#[test]
fn traces_stay_apart_and_an_empty_one_says_nothing() {
    let directory = TempDir::new().unwrap();
    let first = trace(json!([sem(1, -1, 0, 10, slept(10, 2))])).write(directory.path(), "first");
    let second = trace(json!([sem(1, -1, 0, 20, slept(20, 2))])).write(directory.path(), "second");
    let empty = Rows::new().write(directory.path(), "empty");
    let found = rows("contention", &first, &[second.to_str().unwrap(), empty.to_str().unwrap()]);
    let of = |section: &str| {
        let rows = found.iter().filter(|row| row["section"] == section);
        rows.map(|row| format!("{} {}", row["trace_id"], row["wait_total_ns"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(of("semaphore"), ["second 20", "first 10"]);
    assert_eq!(of("pair"), ["second 20", "first 10"]);
    assert_eq!(rows("contention", &empty, &[]), [Value::Null; 0]);
    assert!(stdout(&on("contention", &empty, &[])).contains("(none)"));
}

#[derive(Parser)]
struct Asked {
    #[command(flatten)]
    question: Contention,
}

fn ask_within(budget_bytes: usize, trace: &Path) -> Vec<String> {
    let opened = Opened::new(&[trace.to_owned()], Filter::default()).unwrap();
    let answer = Asked::parse_from(["contention"]).question.ask_within(budget_bytes, &opened).unwrap();
    let before_trace = answer.before_trace;
    let rows = answer.tables.into_iter().flat_map(|table| table.rows).map(|row| format!("{:?}", row.unwrap()));
    rows.chain([format!("{before_trace} before")]).collect()
}

/// What does not fit is put off to another pass: each line and each pair comes once, with all its calls.
#[test]
fn a_tiny_memory_gives_the_same_answer() {
    let directory = TempDir::new().unwrap();
    let mut random = fixture::Random(7);
    let calls = (0..3000i64).map(|i| {
        let (thread, wait) = (1 + random.below(40) as i64, random.below(1000) as i64 - 500);
        let more = if wait > 0 { slept(wait, 1 + random.below(40) as i64) } else { json!({}) };
        let began = if i % 100 == 0 { "before_trace" } else { "in_trace" };
        let place = json!({ "object_ref": random.below(200), "sem_num": random.below(3), "began": began });
        sem(thread, 1 - 2 * random.below(2) as i32, i * 100, i * 100 + 2000, extended(more, place))
    });
    let trace = trace(calls.collect()).write(directory.path(), "t");
    let at_once = ask_within(usize::MAX, &trace);
    assert!(at_once.len() > 1500, "{}", at_once.len());
    for budget_bytes in [1, 100_000] {
        assert_eq!(ask_within(budget_bytes, &trace), at_once);
    }
    assert_eq!(at_once.last().unwrap(), "30 before");
}

/// A trace of format version 1 knows neither lifetimes nor waits.
#[test]
fn of_an_old_trace_it_says_what_it_does_not_know() {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/traces/contended");
    assert_eq!(rows("contention", &old, &[]), [Value::Null; 0]);
    let said = stdout(&on("contention", &old, &[]));
    assert!(said.contains("1,600 calls on objects that are not known"), "{said}");
    assert!(said.contains("1,600 calls may have slept"), "{said}");
}
