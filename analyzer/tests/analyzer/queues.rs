//! `queues` on exact small cases.

use crate::rows::{LASTED_NS, Rows};
use crate::{findings, on, rows, stdout};
use ipc_schema::tables::{CALLS, LIFETIMES, OBJECTS};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 10 ms, in nanoseconds.
const TICK: i64 = 10_000_000;

/// Queue 1, System V, that process 1 made at the start.
fn system_v() -> Rows {
    Rows::new().with(&LIFETIMES, life(1, "msg", Some(0)))
}

fn life(object_ref: i64, kind: &str, created: Option<i64>) -> Value {
    json!([{ "object_ref": object_ref, "object_kind": kind, "object_id": 7, "created_ns": created, "how_known": "seen" }])
}

fn call(syscall: &str, start: i64, end: Option<i64>, more: Value) -> Value {
    let kind = if syscall.starts_with("mq") { "mq" } else { "msg" };
    let mut row = json!({
        "syscall": syscall, "start_ns": start, "end_ns": end, "object_kind": kind, "object_ref": 1, "object_id": 7,
        "process_id": if syscall.ends_with("send") || syscall.ends_with("snd") { 1 } else { 2 }, "slept": false
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// A message of `class` and 10 bytes, sent from `start` to `end`.
fn send(start: i64, end: i64, class: i64) -> Value {
    call("msgsnd", start, Some(end), json!({ "msg_type": class, "size_bytes": 10, "return_value": 0 }))
}

fn receive(start: i64, end: i64, class: i64) -> Value {
    call("msgrcv", start, Some(end), json!({ "msg_type": class, "msg_type_requested": class, "return_value": 10 }))
}

fn ask(rows_of: &Rows, section: &str) -> Vec<Value> {
    let directory = TempDir::new().unwrap();
    let trace = rows_of.write(directory.path(), "t");
    rows("queues", &trace, &[]).into_iter().filter(|row| row["section"] == section).collect()
}

fn wrong(rows_of: &Rows) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let trace = rows_of.write(directory.path(), "t");
    findings("queues", &trace, &[]).into_iter().map(|finding| finding.join(" ")).collect()
}

fn has(row: &Value, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name} of {row}");
    }
}

#[test]
fn a_message_is_in_the_queue_from_the_end_of_its_send_to_the_end_of_its_receive() {
    let calls = json!([send(0, 10, 1), send(10, 20, 1), receive(40, 50, 1)]);
    let found = ask(&system_v().with(&CALLS, calls), "queue");
    has(
        &found[0],
        json!({
            "object": "msg:7", "sends": 2, "receives": 1, "bytes_sent": 20, "bytes_received": 10, "depth": 1, "max_depth": 2,
            "how_known": "reconstructed", "known_ns": LASTED_NS, "empty_ns": 10, "full_ns": 0, "stay_max_ns": 40,
            "stay_p50_ns": 40, "mean_depth": 1
        }),
    );
}

#[test]
fn a_receiver_that_returns_before_its_sender_makes_no_message() {
    let calls = json!([receive(0, 30, 1), send(20, 35, 1), send(40, 50, 1), receive(60, 70, 1)]);
    let found = ask(&system_v().with(&CALLS, calls), "queue");
    has(&found[0], json!({ "max_depth": 1, "depth": 0, "stay_max_ns": 20, "stay_p50_ns": 10 }));
    let class = &ask(&system_v().with(&CALLS, json!([receive(0, 30, 1), send(20, 35, 1)])), "class")[0];
    has(class, json!({ "msg_type": 1, "sends": 1, "receives": 1, "queued": 0, "longest_stay_ns": 0 }));
}

#[test]
fn messages_from_before_the_trace_are_taken_for_no_others() {
    let counted = json!([{
        "snapshot_ns": 5, "phase": "start", "object_ref": 1, "object_kind": "msg", "object_id": 7, "messages": 3,
        "queued_bytes": 30, "max_bytes": 100
    }]);
    let before = Rows::new().with(&LIFETIMES, life(1, "msg", None)).with(&OBJECTS, counted);
    let calls =
        json!([receive(10, 20, 1), receive(20, 30, 1), receive(30, 40, 1), send(50, 60, 1), receive(70, 80, 1)]);
    let rows = before.with(&CALLS, calls);
    has(
        &ask(&rows, "queue")[0],
        json!({
            "how_known": "reconstructed", "max_depth": 3, "depth": 0, "known_ns": LASTED_NS - 5, "stay_max_ns": 20,
            "max_bytes": 100
        }),
    );
    let nothing = Rows::new().with(&LIFETIMES, life(1, "msg", None)).with(&CALLS, json!([send(50, 60, 1)]));
    has(
        &ask(&nothing, "queue")[0],
        json!({
            "how_known": "reconstructed without anchor", "depth": 1, "known_ns": LASTED_NS - 50, "max_bytes": null
        }),
    );
}

#[test]
fn the_kernels_depth_replaces_what_was_counted() {
    let at = |depth: i64| json!({ "queue_depth": depth, "queue_max_messages": 4, "msg_priority": 0, "size_bytes": 1 });
    let calls = json!([
        call("mq_timedsend", 10, Some(20), at(2)),
        // Somebody else took all of them.
        call("mq_timedsend", 100, Some(110), at(0)),
        call("mq_timedreceive", 120, Some(130), at(1))
    ]);
    let rows = Rows::new().with(&LIFETIMES, life(1, "mq", None)).with(&CALLS, calls);
    has(
        &ask(&rows, "queue")[0],
        json!({
            "how_known": "kernel", "max_depth": 3, "depth": 0, "max_messages": 4, "empty_ns": LASTED_NS - 130 + 10,
            "stay_max_ns": 20
        }),
    );
}

#[test]
fn a_look_at_a_message_takes_none() {
    let look = call("msgrcv", 30, Some(40), json!({ "msg_type": 1, "return_value": 10, "flags": 0o40000 | 0o4000 }));
    let found = ask(&system_v().with(&CALLS, json!([send(0, 10, 1), look])), "queue");
    has(&found[0], json!({ "receives": 0, "depth": 1 }));
}

/// A sender that sleeps `count` times for `sleep` in a queue of two messages, `pause` apart.
fn pressed(count: i64, sleep: i64, pause: i64) -> Value {
    let mut calls = vec![send(0, 10, 1), send(20, 30, 1)];
    for i in 0..count {
        let start = 100 + i * (sleep + pause);
        let slept = json!({
            "msg_type": 1, "size_bytes": 10, "return_value": 0, "slept": true, "wait_ns": sleep - 10, "wakings": 1
        });
        calls.push(receive(start + sleep - 20, start + sleep - 15, 1));
        calls.push(call("msgsnd", start, Some(start + sleep), slept));
    }
    json!(calls)
}

#[test]
fn a_queue_that_holds_senders_up_for_a_second_is_a_finding() {
    let full = system_v().with(&CALLS, pressed(11, 10 * TICK, 1000));
    assert_eq!(wrong(&full), ["back_pressure certain msg:7"]);
    has(
        &ask(&full, "queue")[0],
        json!({
            "sends_blocked": 11, "sends_blocked_ns": 11 * (10 * TICK - 10), "sends_blocked_max_ns": 10 * TICK - 10,
            "full_ns": 11 * 10 * TICK, "receives_blocked": 0
        }),
    );
    assert_eq!(wrong(&full.losing(1)), ["back_pressure likely msg:7"]);
    // Too short; often, but with time to breathe in between; a sender that is merely faster.
    assert_eq!(wrong(&system_v().with(&CALLS, pressed(9, 10 * TICK, 1000))), [""; 0]);
    assert_eq!(wrong(&system_v().with(&CALLS, pressed(30, 10 * TICK, TICK))), [""; 0]);
    assert_eq!(wrong(&system_v().with(&CALLS, pressed(3000, TICK / 20, 100))), [""; 0]);
}

#[test]
fn a_sender_that_never_returns_is_held_up_until_the_end() {
    let open = call("msgsnd", 100, None, json!({ "size_bytes": 10, "slept": null }));
    let rows = system_v().with(&CALLS, json!([send(0, 10, 1), open]));
    assert_eq!(wrong(&rows), ["back_pressure certain msg:7"]);
    has(
        &ask(&rows, "queue")[0],
        json!({
            "sends_open": 1, "sends_open_at_least_ns": LASTED_NS - 100, "full_ns": LASTED_NS - 100, "sends_blocked": 0
        }),
    );
}

#[test]
fn a_type_that_waits_while_later_ones_go_starves() {
    let later = json!([send(0, 10, 7), send(20, 30, 2), receive(40, 50, 2)]);
    let starving = system_v().with(&CALLS, later);
    assert_eq!(wrong(&starving), ["starvation certain msg:7"]);
    has(
        &ask(&starving, "class")[0],
        json!({ "msg_type": 7, "starved": 1, "queued": 1, "oldest_waits_ns": LASTED_NS - 10 }),
    );
    // What went was sent before; nothing went at all; it did not wait long; a receiver saw that it was gone.
    let earlier = json!([send(20, 30, 2), send(35, 38, 7), receive(40, 50, 2)]);
    assert_eq!(wrong(&system_v().with(&CALLS, earlier)), [""; 0]);
    assert_eq!(wrong(&system_v().with(&CALLS, json!([send(0, 10, 7), send(20, 30, 2)]))), [""; 0]);
    let short = json!([send(0, 10, 7), send(20, 30, 2), receive(40, 50, 2), receive(60, 100 * TICK, 7)]);
    assert_eq!(wrong(&system_v().with(&CALLS, short)), [""; 0]);
    let gone = call("msgrcv", 60, Some(70), json!({ "error": "ENOMSG", "msg_type_requested": 0, "return_value": -1 }));
    let seen = json!([send(0, 10, 7), send(20, 30, 2), receive(40, 50, 2), gone]);
    assert_eq!(wrong(&system_v().with(&CALLS, seen)), [""; 0]);
}

#[test]
fn a_receiver_that_does_not_ask_for_the_priority_takes_the_highest() {
    let at = |depth: i64, priority: Option<i64>| json!({ "queue_depth": depth, "queue_max_messages": 9, "msg_priority": priority });
    let calls = json!([
        call("mq_timedsend", 0, Some(10), at(0, Some(1))),
        call("mq_timedsend", 20, Some(30), at(1, Some(5))),
        call("mq_timedreceive", 40, Some(50), at(2, None)),
        call("mq_timedreceive", 60, Some(110 * TICK), at(1, None))
    ]);
    let rows = Rows::new().with(&LIFETIMES, life(1, "mq", None)).with(&CALLS, calls);
    assert_eq!(wrong(&rows), ["starvation certain mq:7"]);
    let classes = ask(&rows, "class");
    has(&classes[0], json!({ "msg_priority": 1, "receives": 1, "longest_stay_ns": 110 * TICK - 10 }));
    has(&classes[1], json!({ "msg_priority": 5, "receives": 1, "longest_stay_ns": 20 }));
}

#[test]
fn the_series_covers_the_time_in_sixty_parts() {
    let half = LASTED_NS / 2;
    let found = ask(&system_v().with(&CALLS, json!([send(half - 10, half, 1)])), "depth");
    assert_eq!(found.len(), 60);
    has(&found[28], json!({ "bucket": 28, "min_depth": 0, "max_depth": 0, "mean_depth": 0 }));
    has(&found[31], json!({ "bucket": 31, "min_depth": 1, "max_depth": 1, "mean_depth": 1 }));
    let known: i64 = found.iter().map(|row| row["known_ns"].as_i64().unwrap()).sum();
    assert_eq!(known, LASTED_NS);
}

#[test]
fn filters_nothing_and_two_traces_have_answers() {
    let directory = TempDir::new().unwrap();
    let full = system_v().with(&CALLS, pressed(11, 10 * TICK, 1000));
    let (a, b) = (full.write(directory.path(), "a"), Rows::new().write(directory.path(), "b"));
    assert_eq!(findings("queues", &a, &["--pid", "1"])[0][1], "likely");
    assert_eq!(rows("queues", &b, &[]), [Value::Null; 0]);
    assert_eq!(findings("queues", &b, &[a.to_str().unwrap()]).len(), 1);
    assert_eq!(on("queues", &a, &["--check"]).status.code(), Some(1));
    assert_eq!(on("queues", &b, &["--check"]).status.code(), Some(0));
    let half = rows("queues", &a, &["--since", "+1s"]);
    assert_eq!(half.iter().find(|row| row["section"] == "queue").unwrap()["known_ns"], LASTED_NS - 1_000_000_000);
    let text = stdout(&on("queues", &a, &[]));
    assert!(text.contains("▇") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
