//! `leaks` on exact small cases.

use crate::rows::{LASTED_NS, Rows};
use crate::{findings, rows};
use ipc_schema::tables::{CALLS, LIFETIMES, LIMITS, OBJECTS, PROCESSES, SEM_OPS};
use serde_json::{Value, json};
use tempfile::TempDir;

const NAMESPACE: i64 = 5;
const SECOND: i64 = 1_000_000_000;
const SEM_UNDO: i32 = 4096;

fn merged(mut row: Value, more: Value) -> Value {
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// A process; `exit`: second and code.
fn process(id: i64, exit: Option<(i64, i32)>) -> Value {
    json!({ "process_id": id, "pid": 100 + id, "comm": format!("p{id}"), "ipc_ns": NAMESPACE,
            "exit_ns": exit.map(|(second, _)| second * SECOND), "exit_code": exit.map(|(_, code)| code) })
}

/// Set 7, made by process 1 in call 1 after a second.
fn lifetime(more: Value) -> Value {
    let row = json!({
        "object_ref": 1, "object_kind": "sem", "object_id": 7, "key": 0, "ipc_ns": NAMESPACE, "created_ns": SECOND,
        "created_by_process_id": 1, "created_call_id": 1, "how_known": "seen"
    });
    merged(row, more)
}

/// The snapshot at the end visited the namespace.
fn visited() -> Value {
    json!([{ "snapshot_ns": LASTED_NS, "phase": "end", "ipc_ns": NAMESPACE, "name": "SEMMNI", "value": 100, "in_use": 1,
             "how_known": "snapshot" }])
}

/// It found the set.
fn listed(more: Value) -> Value {
    let row = json!({ "snapshot_ns": LASTED_NS, "phase": "end", "object_ref": 1, "ipc_ns": NAMESPACE, "object_kind": "sem",
                      "object_id": 7, "mode": 0o600 });
    json!([merged(row, more)])
}

fn making(mode: i32) -> Value {
    call(1, 1, json!({ "call_id": 1, "syscall": "semget", "created": true, "flags": 0o1000 | mode }))
}

/// A call on the set that ended after so many seconds.
fn call(process_id: i64, second: i64, more: Value) -> Value {
    let row = json!({
        "process_id": process_id, "start_ns": second * SECOND - 1000, "end_ns": second * SECOND, "object_kind": "sem",
        "object_ref": 1, "object_id": 7, "ipc_ns": NAMESPACE, "call_id": second * 10 + process_id
    });
    merged(row, more)
}

fn operation(process_id: i64, second: i64, operation: i32, flags: i32) -> Value {
    let row = json!({ "sem_num": 0, "sem_op": operation, "sem_flags": flags, "sem_ops_total": 1 });
    call(process_id, second, row)
}

/// A trace in which process 1 made set 7.
fn left(exit: Option<(i64, i32)>, calls: &[Value]) -> Rows {
    let mut all = vec![making(0o600)];
    all.extend_from_slice(calls);
    Rows::new()
        .with(&PROCESSES, json!([process(1, exit), process(2, None), process(3, Some((50, 0)))]))
        .with(&LIFETIMES, json!([lifetime(json!({}))]))
        .with(&LIMITS, visited())
        .with(&CALLS, Value::Array(all))
}

fn leaks(rows: &Rows, arguments: &[&str]) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    findings("leaks", &trace, arguments).into_iter().map(|finding| finding.join(" ")).collect()
}

#[test]
fn what_outlives_its_maker_and_its_users_is_an_orphan() {
    let there = || listed(json!({}));
    let killed = left(Some((50, 9)), &[]).with(&OBJECTS, there());
    assert_eq!(leaks(&killed, &[]), ["orphan certain sem:7"]);
    let both_ended = left(Some((50, 0)), &[operation(3, 40, 1, 0)]).with(&OBJECTS, there());
    assert_eq!(leaks(&both_ended, &[]), ["orphan certain sem:7"]);
    // Somebody who lives has used it: before the last minute, so that it is not unused.
    let in_use = left(Some((50, 0)), &[operation(2, 60, 1, 0)]).with(&OBJECTS, there());
    assert_eq!(leaks(&in_use, &[]), [""; 0]);
    // A call that failed is no use.
    let refused = merged(operation(2, 60, 1, 0), json!({ "error": "EACCES" }));
    assert_eq!(leaks(&left(Some((50, 0)), &[refused]).with(&OBJECTS, there()), &[]), ["orphan certain sem:7"]);
    let lossy = left(Some((50, 9)), &[]).with(&OBJECTS, there()).losing(3);
    assert_eq!(leaks(&lossy, &[]), ["orphan likely sem:7"]);
    let filtered = left(Some((50, 9)), &[]).with(&OBJECTS, there()).session(|session| session.filters.pids = vec![101]);
    assert_eq!(leaks(&filtered, &[]), ["orphan likely sem:7"]);
}

#[test]
fn what_is_gone_attached_or_older_is_no_orphan() {
    // The snapshot at the end did not find it: its removal was not seen.
    assert_eq!(leaks(&left(Some((50, 9)), &[]), &[]), [""; 0]);
    let attached = left(Some((50, 9)), &[]).with(&OBJECTS, listed(json!({ "attach_count": 1 })));
    assert_eq!(leaks(&attached, &[]), [""; 0]);
    let going = left(Some((50, 9)), &[]).with(&OBJECTS, listed(json!({ "removed_pending": true })));
    assert_eq!(leaks(&going, &[]), [""; 0]);
    let before = Rows::new()
        .with(&PROCESSES, json!([process(1, Some((50, 9)))]))
        .with(&LIFETIMES, json!([lifetime(json!({ "created_ns": null, "how_known": "snapshot" }))]))
        .with(&LIMITS, visited())
        .with(&OBJECTS, listed(json!({})));
    assert_eq!(leaks(&before, &[]), [""; 0]);
}

#[test]
fn without_a_last_snapshot_an_orphan_is_likely_as_long_as_its_namespace_lives() {
    let trace = |other: Option<(i64, i32)>| {
        Rows::new()
            .with(&PROCESSES, json!([process(1, Some((50, 9))), process(2, other)]))
            .with(&LIFETIMES, json!([lifetime(json!({}))]))
            .with(&CALLS, json!([making(0o600)]))
    };
    assert_eq!(leaks(&trace(None), &[]), ["orphan likely sem:7"]);
    assert_eq!(leaks(&trace(Some((60, 0))), &[]), [""; 0]);
}

#[test]
fn a_parent_that_lives_may_clean_up() {
    let maker = merged(process(1, Some((50, 9))), json!({ "parent_process_id": 2 }));
    let trace = Rows::new()
        .with(&PROCESSES, json!([maker, process(2, None)]))
        .with(&LIFETIMES, json!([lifetime(json!({}))]))
        .with(&LIMITS, visited())
        .with(&OBJECTS, listed(json!({})))
        .with(&CALLS, json!([making(0o600)]));
    assert_eq!(leaks(&trace, &[]), ["orphan likely sem:7"]);
}

#[test]
fn what_nobody_uses_for_a_minute_is_unused() {
    // It was made 99 s before the end.
    assert_eq!(leaks(&left(None, &[]).with(&OBJECTS, listed(json!({}))), &[]), ["unused likely sem:7"]);
    let used = |second: i64| left(None, &[operation(2, second, 1, 0)]).with(&OBJECTS, listed(json!({})));
    assert_eq!(leaks(&used(40), &[]), ["unused suspect sem:7"]);
    assert_eq!(leaks(&used(41), &[]), [""; 0]);
    assert_eq!(leaks(&used(41), &["--unused-for", "59s"]), ["unused suspect sem:7"]);
    // Somebody whom the recording left out used it.
    let by_another = left(None, &[]).with(&OBJECTS, listed(json!({ "use_ns": 80 * SECOND })));
    assert_eq!(leaks(&by_another, &[]), [""; 0]);
    // Who waits uses it.
    let waits = merged(operation(2, 20, -1, 0), json!({ "end_ns": null }));
    assert_eq!(leaks(&left(None, &[waits]).with(&OBJECTS, listed(json!({}))), &[]), [""; 0]);
    let late = Rows::new()
        .with(&PROCESSES, json!([process(1, None)]))
        .with(&LIFETIMES, json!([lifetime(json!({ "created_ns": 98 * SECOND }))]))
        .with(&LIMITS, visited())
        .with(&OBJECTS, listed(json!({})));
    assert_eq!(leaks(&late, &[]), [""; 0]);
}

/// A removed set with which processes 1, 2 and 3 worked; 3 ended at 50 s.
fn worked(removed: Option<i64>, calls: &[Value]) -> Vec<String> {
    let reset = call(1, 2, json!({ "syscall": "semctl", "command": "SETVAL", "sem_num": 0, "sem_value": 1 }));
    let mut all = vec![making(0o600), reset];
    all.extend_from_slice(calls);
    let rows = Rows::new()
        .with(&PROCESSES, json!([process(1, None), process(2, None), process(3, Some((50, 9)))]))
        .with(&LIFETIMES, json!([lifetime(json!({ "removed_ns": removed.map(|second| second * SECOND) }))]))
        .with(&LIMITS, visited())
        .with(&OBJECTS, if removed.is_none() { listed(json!({})) } else { json!([]) })
        .with(&CALLS, Value::Array(all));
    leaks(&rows, &[])
}

fn refused(second: i64) -> Value {
    merged(operation(2, second, -1, 2048), json!({ "error": "EAGAIN" }))
}

#[test]
fn who_dies_with_a_lock_taken_without_undo_is_told() {
    let death = ["undo_less_death likely sem:7"];
    let section = |p: i64, at: i64| [operation(p, at, -1, 0), operation(p, at + 1, 1, 0)];
    let held = |flags: i32| [section(2, 10).as_slice(), &[operation(3, 45, -1, flags)]].concat();
    assert_eq!(worked(Some(60), &[held(0), vec![refused(55)]].concat()), death);
    // Nobody wanted it any more; the set went before the death.
    assert_eq!(worked(Some(60), &held(0)), [""; 0]);
    assert_eq!(worked(Some(48), &[held(0), vec![refused(47)]].concat()), [""; 0]);
    // It is still there, used in the last minute.
    assert_eq!(worked(None, &held(0)), death);
    assert_eq!(worked(Some(60), &[held(SEM_UNDO), vec![refused(55)]].concat()), [""; 0]);
    // Given back by itself; what it took before the reset does not count.
    let given = [held(0), vec![operation(3, 46, 1, 0), refused(55)]].concat();
    assert_eq!(worked(Some(60), &given), [""; 0]);
    let reset = call(1, 47, json!({ "syscall": "semctl", "command": "SETALL" }));
    let before = [held(0), vec![reset, refused(55)], section(2, 56).to_vec()].concat();
    assert_eq!(worked(Some(60), &before), [""; 0]);
}

#[test]
fn who_consumes_what_others_supply_holds_nothing() {
    let consumer = [operation(3, 40, -1, 0), operation(3, 45, -1, 0), refused(55)];
    let supply = [operation(2, 39, 1, 0), operation(2, 44, 1, 0)];
    assert_eq!(worked(Some(60), &[supply.as_slice(), &consumer].concat()), [""; 0]);
    // A barrier: each takes one, nobody gives.
    assert_eq!(worked(Some(60), &consumer), [""; 0]);
    // The maker gave the first value, before anybody took.
    let lock =
        [operation(1, 3, 1, 0), operation(2, 10, -1, 0), operation(2, 11, 1, 0), operation(3, 45, -1, 0), refused(55)];
    assert_eq!(worked(Some(60), &lock), ["undo_less_death likely sem:7"]);
    let mut supplied = lock.to_vec();
    supplied.push(operation(1, 20, 1, 0));
    assert_eq!(worked(Some(60), &supplied), [""; 0]);
}

#[test]
fn operations_of_longer_calls_count() {
    let several = merged(operation(3, 45, 0, 0), json!({ "sem_num": 1, "sem_ops_total": 2 }));
    let id = several["call_id"].clone();
    let operation_of = |position: i32, number: i32, operation: i32| json!({ "call_id": id, "position": position, "sem_num": number, "sem_op": operation, "sem_flags": 0 });
    let rows = Rows::new()
        .with(&PROCESSES, json!([process(1, None), process(2, None), process(3, Some((50, 9)))]))
        .with(&LIFETIMES, json!([lifetime(json!({}))]))
        .with(&LIMITS, visited())
        .with(&OBJECTS, listed(json!({})))
        .with(&CALLS, json!([making(0o600), operation(2, 10, -2, 0), operation(2, 11, 2, 0), several]))
        .with(&SEM_OPS, json!([operation_of(0, 1, 0), operation_of(1, 0, -2)]));
    assert_eq!(leaks(&rows, &[]), ["undo_less_death likely sem:7"]);
    let directory = TempDir::new().unwrap();
    let found = crate::rows("leaks", &rows.write(directory.path(), "t"), &[]);
    let balance = found.iter().find(|row| row["section"] == "balance").unwrap();
    assert_eq!([&balance["process_id"], &balance["sem_num"], &balance["taken"]], [&json!(3), &json!(0), &json!(2)]);
}

#[test]
fn a_mode_that_lets_others_in_is_told() {
    let made = |flags: i32, mode: Option<i32>| {
        let rows = Rows::new()
            .with(&PROCESSES, json!([process(1, None)]))
            .with(&LIFETIMES, json!([lifetime(json!({ "created_ns": 98 * SECOND }))]))
            .with(&LIMITS, visited())
            .with(&CALLS, json!([merged(making(0), json!({ "flags": flags }))]));
        let rows = if mode.is_some() { rows.with(&OBJECTS, listed(json!({ "mode": mode }))) } else { rows };
        leaks(&rows, &[])
    };
    let told = ["world_accessible certain sem:7"];
    for flags in [0o1666, 0o3604, 0o1602, 0o1622] {
        assert_eq!(made(flags, None), told, "{flags:o}");
    }
    for flags in [0o1600, 0o3660, -1, 0o1_001_666] {
        assert_eq!(made(flags, None), [""; 0], "{flags:o}");
    }
    // Closed afterwards by IPC_SET; made and got are two things.
    assert_eq!(made(0o1666, Some(0o600)), [""; 0]);
    let got = merged(making(0o666), json!({ "created": false }));
    assert_eq!(leaks(&Rows::new().with(&CALLS, json!([got])), &[]), [""; 0]);
}

#[test]
fn what_is_left_and_by_whom_is_counted() {
    let calls = [operation(2, 30, -1, 0), operation(2, 31, 1, 0), operation(1, 35, 1, 0), operation(3, 40, 1, 0)];
    let removed = lifetime(json!({ "object_ref": 2, "object_id": 8, "removed_ns": 5 * SECOND }));
    let rows_of = left(None, &calls)
        .with(&OBJECTS, listed(json!({ "use_ns": 39 * SECOND, "size_bytes": 4096 })))
        .with(&LIFETIMES, json!([removed]));
    let directory = TempDir::new().unwrap();
    let found = rows("leaks", &rows_of.write(directory.path(), "t"), &[]);
    let of = |section: &str| found.iter().find(|row| row["section"] == section).unwrap();
    let object = of("object");
    let start_ns = crate::fixture::START_NS;
    assert_eq!(
        [&object["object"], &object["users"], &object["mode_text"]],
        [&json!("sem:7"), &json!(3), &json!("0600")]
    );
    assert_eq!([&object["last_use_ns"], &object["creator_alive"]], [&json!(start_ns + 40 * SECOND), &json!(true)]);
    let creator = of("creator");
    let counts = ["comm", "made", "removed", "left", "bytes"].map(|name| creator[name].clone());
    assert_eq!(counts, [json!("p1"), json!(2), json!(1), json!(1), json!(4096)]);
}

#[test]
fn an_empty_trace_and_one_of_version_1_leave_nothing() {
    assert_eq!(leaks(&Rows::new(), &[]), [""; 0]);
    let contended = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/traces/contended");
    assert_eq!(findings("leaks", &contended, &[]), [[""; 3]; 0]);
}
