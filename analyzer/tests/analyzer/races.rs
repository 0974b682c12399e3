//! `races` on exact small cases.

use crate::rows::Rows;
use crate::{findings, on, rows};
use ipc_schema::tables::{CALLS, LIFETIMES};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A set 7 that process 1 made at 100.
fn made() -> Rows {
    let lifetime = json!([{
        "object_ref": 1, "object_kind": "sem", "object_id": 7, "created_ns": 100, "created_by_process_id": 1,
        "created_call_id": 1, "how_known": "seen"
    }]);
    let get = json!([call(1, 90, Some(100), json!({ "syscall": "semget", "created": true }))]);
    Rows::new().with(&LIFETIMES, lifetime).with(&CALLS, get)
}

/// A call on the set.
fn call(process: i64, start: i64, end: Option<i64>, more: Value) -> Value {
    let mut row = json!({
        "process_id": process, "start_ns": start, "end_ns": end, "object_kind": "sem", "object_ref": 1, "object_id": 7
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

fn set(process: i64, start: i64, end: i64) -> Value {
    call(process, start, Some(end), json!({ "syscall": "semctl", "command": "SETVAL", "sem_num": 0, "sem_value": 1 }))
}

fn operation(process: i64, start: i64, end: Option<i64>, slept: bool) -> Value {
    call(process, start, end, json!({ "sem_num": 0, "sem_op": -1, "sem_ops_total": 1, "slept": slept }))
}

fn races(rows: &Rows) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    findings("races", &trace, &[]).into_iter().map(|finding| finding.join(" ")).collect()
}

#[test]
fn a_set_that_is_used_after_its_initialisation_is_no_race() {
    let rows = made().with(&CALLS, json!([set(1, 110, 120), operation(2, 121, Some(130), false)]));
    assert_eq!(races(&rows), [""; 0]);
}

#[test]
fn a_set_that_is_used_before_its_initialisation_is_one() {
    let certain = made().with(&CALLS, json!([operation(2, 102, Some(108), false), set(1, 110, 120)]));
    assert_eq!(races(&certain), ["init_race certain sem:7"]);
    // The intervals meet: the kernel may have done them in the right order.
    let overlapping = made().with(&CALLS, json!([operation(2, 115, Some(130), false), set(1, 110, 120)]));
    assert_eq!(races(&overlapping), ["init_race likely sem:7"]);
    // It waited for the value: the order was luck.
    let waited = made().with(&CALLS, json!([operation(2, 102, Some(130), true), set(1, 110, 120)]));
    assert_eq!(races(&waited), ["init_race likely sem:7"]);
    // It took the 0 of a set that nobody had initialised for a semaphore in use.
    let mut tried = operation(2, 102, Some(108), false);
    tried["error"] = json!("EAGAIN");
    let tried = made().with(&CALLS, json!([tried, set(1, 110, 120)]));
    assert_eq!(races(&tried), ["init_race certain sem:7"]);
    // Its creator did it: it knows the order.
    let own = made().with(&CALLS, json!([operation(1, 102, Some(108), false), set(1, 110, 120)]));
    assert_eq!(races(&own), [""; 0]);
    let lossy = made().with(&CALLS, json!([operation(2, 102, Some(108), false), set(1, 110, 120)])).losing(3);
    assert_eq!(races(&lossy), ["init_race likely sem:7"]);
}

#[test]
fn calls_that_were_not_recorded_cannot_undo_what_others_show() {
    let rows = made().with(&CALLS, json!([operation(2, 102, Some(108), false), set(1, 110, 120)]));
    assert_eq!(races(&rows.session(|session| session.filters.pids = vec![1, 2])), ["init_race certain sem:7"]);
}

#[test]
fn two_initialisations_before_the_first_use_are_a_race() {
    let twice = made().with(&CALLS, json!([set(1, 110, 120), set(2, 112, 122), operation(2, 130, Some(131), false)]));
    assert_eq!(races(&twice), ["init_race certain sem:7"]);
    let handed_over = made().with(&CALLS, json!([set(2, 112, 122), operation(1, 130, Some(131), false)]));
    assert_eq!(races(&handed_over), [""; 0]);
    let later = json!([set(1, 110, 120), operation(2, 130, Some(131), false), set(2, 140, 141)]);
    assert_eq!(races(&made().with(&CALLS, later)), [""; 0]);
}

#[test]
fn a_set_that_is_initialised_anew_under_a_waiter_is_a_race() {
    let before = json!([set(1, 110, 120), operation(2, 130, Some(131), false)]);
    for (wait, expected) in [
        (operation(3, 150, None, true), vec!["reinit_under_waiters certain sem:7"]),
        (operation(3, 150, Some(300), true), vec!["reinit_under_waiters certain sem:7"]),
        // Over before it, after it, and of the one who sets.
        (operation(3, 150, Some(190), true), vec![]),
        (operation(3, 205, Some(300), true), vec![]),
        (operation(1, 150, Some(300), true), vec![]),
    ] {
        let rows = made().with(&CALLS, before.clone()).with(&CALLS, json!([wait, set(1, 200, 210)]));
        assert_eq!(races(&rows), expected, "{wait}");
    }
}

#[test]
fn calls_on_a_removed_object_are_races_unless_they_are_the_removers() {
    let lifetime = json!([
        { "object_ref": 5, "object_kind": "msg", "object_id": 9, "ipc_ns": 4026531839_i64, "removed_ns": 1000,
          "removed_by_process_id": 1, "removed_call_id": 3, "how_known": "seen" },
        { "object_ref": 6, "object_kind": "msg", "object_id": 9, "ipc_ns": 4026531839_i64, "created_ns": 5000,
          "how_known": "seen" }
    ]);
    let of = |process: i64, start: i64, error: &str| {
        json!([{
            "process_id": process, "start_ns": start, "end_ns": start + 600, "syscall": "msgrcv", "error": error,
            "object_kind": "msg", "object_id": 9
        }])
    };
    for (row, expected) in [
        (of(2, 500, "EIDRM"), vec!["use_after_removal likely msg:9"]),
        (of(2, 2000, "EINVAL"), vec!["use_after_removal certain msg:9"]),
        (of(1, 2000, "EINVAL"), vec![]),
        // Invalid for another reason: before the removal, or on the queue that has the id now.
        (of(2, 500, "EINVAL"), vec![]),
        (of(2, 6000, "EINVAL"), vec![]),
    ] {
        assert_eq!(races(&Rows::new().with(&LIFETIMES, lifetime.clone()).with(&CALLS, row.clone())), expected, "{row}");
    }
    for command in ["IPC_RMID", "IPC_STAT"] {
        let mut again = of(2, 2000, "EINVAL");
        again[0]["command"] = json!(command);
        let rows = Rows::new().with(&LIFETIMES, lifetime.clone()).with(&CALLS, again);
        assert_eq!(races(&rows), [""; 0], "{command}");
    }
}

#[test]
fn arguments_that_changed_are_named_by_process_and_operation() {
    let changed = |process: i64, start: i64| operation(process, start, Some(start + 5), false);
    let mut calls = [changed(2, 500), changed(2, 510), changed(3, 520)];
    calls.iter_mut().for_each(|call| call["args_changed"] = json!(true));
    let rows_ = made().with(&CALLS, json!(calls)).losing(1);
    let directory = TempDir::new().unwrap();
    let trace = rows_.write(directory.path(), "t");
    let found: Vec<Value> =
        rows("races", &trace, &[]).into_iter().filter(|row| row["finding"] == "args_changed").collect();
    let evidence: Vec<_> = found.iter().map(|row| (row["evidence"].to_string(), row["grade"].clone())).collect();
    assert_eq!(evidence, [("[2,3]".to_owned(), json!("likely")), ("[4]".to_owned(), json!("likely"))]);
    assert!(on("races", &trace, &["--check"]).status.code() == Some(1), "--check exits with 1");
}

#[test]
fn sets_made_in_the_trace_have_their_story() {
    let directory = TempDir::new().unwrap();
    let calls = json!([set(1, 110, 120), operation(2, 130, Some(131), false), operation(1, 140, Some(150), false)]);
    let trace = made().with(&CALLS, calls).write(directory.path(), "t");
    let creation = &rows("races", &trace, &[])[0];
    assert_eq!(creation["section"], "creation");
    let columns = ["window_ns", "initialised_by_process_id", "first_use_by_process_id"];
    assert_eq!(columns.map(|name| creation[name].as_i64()), [Some(20), Some(1), Some(2)]);
    assert!(on("races", &trace, &["--check"]).status.success());
}
