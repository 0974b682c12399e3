//! `objects` and `diff` on exact small cases.

use crate::rows::Rows;
use crate::{findings, on, refuses, rows, stdout};
use ipc_schema::tables::{CALLS, LIFETIMES, OBJECTS, PROCESSES};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn section(rows: Vec<Value>, section: &str) -> Vec<Value> {
    rows.into_iter().filter(|row| row["section"] == section).collect()
}

/// Set 7 is made by process 1, used by 1 and 2, and removed; queue 9 was there and stays, untouched.
fn trace(directory: &Path) -> PathBuf {
    let of = |process: i64, start: i64, end: Option<i64>, error: Option<&str>| {
        json!({
            "process_id": process, "start_ns": start, "end_ns": end, "error": error, "object_kind": "sem",
            "object_ref": 1, "object_id": 7, "wait_ns": 3
        })
    };
    let calls = json!([of(1, 90, Some(100), None), of(2, 110, Some(150), Some("EAGAIN")), of(2, 160, None, None)]);
    let lifetimes = json!([
        { "object_ref": 1, "object_kind": "sem", "object_id": 7, "created_ns": 100, "created_by_process_id": 1,
          "created_call_id": 1, "removed_ns": 500, "removed_by_process_id": 2, "how_known": "seen" },
        { "object_ref": 2, "object_kind": "msg", "object_id": 9, "key": 81, "how_known": "snapshot" }
    ]);
    let objects = json!([
        { "snapshot_ns": 5, "phase": "start", "object_ref": 2, "object_kind": "msg", "messages": 1 },
        { "snapshot_ns": 900, "phase": "end", "object_ref": 2, "object_kind": "msg", "messages": 4, "mode": 384 }
    ]);
    let processes = json!([{ "process_id": 1, "pid": 11, "comm": "maker" }, { "process_id": 2, "pid": 12 }]);
    let rows = Rows::new().with(&CALLS, calls).with(&LIFETIMES, lifetimes);
    rows.with(&OBJECTS, objects).with(&PROCESSES, processes).write(directory, "t")
}

#[test]
fn each_object_has_its_story() {
    let directory = TempDir::new().unwrap();
    let trace = trace(directory.path());
    let objects = section(rows("objects", &trace, &[]), "object");
    let numbers = |row: &Value, names: &[&str]| names.iter().map(|name| row[*name].as_i64()).collect::<Vec<_>>();
    let counted = ["calls", "errors", "processes", "total_ns", "wait_ns"];
    assert_eq!(numbers(&objects[0], &counted), [3, 1, 2, 50, 9].map(Some));
    assert_eq!(objects[0]["there_at_end"], false);
    assert_eq!(numbers(&objects[1], &counted), [0; 5].map(Some));
    assert_eq!((&objects[1]["there_at_end"], &objects[1]["messages"]), (&json!(true), &json!(4)));
    let uses = section(rows("objects", &trace, &[]), "use");
    let of_uses: Vec<_> = uses.iter().map(|row| numbers(row, &["process_id", "pid", "calls", "errors"])).collect();
    assert_eq!(of_uses, [[2, 12, 2, 1].map(Some), [1, 11, 1, 0].map(Some)]);
    let told = stdout(&on("objects", &trace, &[]));
    for sentence in ["made by 11 maker (call 1)", "used by 12: 2 calls within 50 ns", "removed by 12", "still there"] {
        assert!(told.contains(sentence), "{sentence:?} is not in\n{told}");
    }
}

#[test]
fn a_question_about_one_object_leaves_out_the_others() {
    let directory = TempDir::new().unwrap();
    let trace = trace(directory.path());
    let objects = section(rows("objects", &trace, &["--object", "sem:7"]), "object");
    assert_eq!(objects.iter().map(|row| row["object"].clone()).collect::<Vec<_>>(), ["sem:7"]);
}

/// `count` calls of each operation, each `ns` long; every `failing`th fails.
fn made_of(directory: &Path, name: &str, operations: &[(&str, i64, i64, i64)]) -> PathBuf {
    let mut calls = Vec::new();
    for (syscall, count, ns, failing) in operations {
        for i in 0..*count {
            let error = (*failing > 0 && i % failing == 0).then_some("ENOSPC");
            let start = calls.len() as i64 * 10_000;
            calls.push(json!({ "syscall": syscall, "start_ns": start, "end_ns": start + ns + i % 7, "error": error }));
        }
    }
    Rows::new().with(&CALLS, json!(calls)).write(directory, name)
}

#[test]
fn diff_names_what_changed_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let before =
        made_of(directory.path(), "a", &[("semop", 100, 500, 0), ("msgsnd", 100, 500, 50), ("shmget", 50, 9, 0)]);
    let after =
        made_of(directory.path(), "b", &[("semop", 100, 900, 0), ("msgsnd", 100, 501, 2), ("mq_open", 50, 9, 0)]);
    let both = ["--format", "json", after.to_str().unwrap()];
    let answer: Value = serde_json::from_slice(&on("diff", &before, &both).stdout).unwrap();
    let of = |section: &str, name: &str| {
        let rows = answer["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["section"] == section && (row["name"] == name || row["syscall"] == name));
        let row = row.unwrap_or_else(|| panic!("{section} {name}"));
        (
            row["change"].as_str().unwrap().to_owned(),
            row["size"].as_str().unwrap().to_owned(),
            row["effect_permille"].clone(),
        )
    };
    let text = |change: &str, size: &str, effect: Value| (change.to_owned(), size.to_owned(), effect);
    assert_eq!(of("latency", "semop"), text("slower", "large", json!(1000)));
    assert_eq!(of("latency", "msgsnd").0, "no change");
    assert_eq!(of("latency", "shmget").0, "gone");
    assert_eq!(of("latency", "mq_open").0, "new");
    assert_eq!(of("failure", "msgsnd"), text("more", "large", Value::Null));
    assert_eq!(on("diff", &before, &[after.to_str().unwrap(), "--check"]).status.code(), Some(1));
    let found = findings("diff", &before, &[after.to_str().unwrap()]);
    assert_eq!(found.iter().map(|f| f[0].as_str()).collect::<Vec<_>>(), ["failing", "slower", "slower"]);
}

#[test]
fn the_same_trace_twice_over_is_no_change() {
    let directory = TempDir::new().unwrap();
    let operations = [("semop", 100, 500, 0), ("msgsnd", 100, 500, 50)];
    let before = made_of(directory.path(), "a", &operations);
    let after = made_of(directory.path(), "b", &operations);
    assert_eq!(findings("diff", &before, &[after.to_str().unwrap()]), [[""; 3]; 0]);
    assert!(stdout(&on("diff", &before, &[after.to_str().unwrap()])).contains("no change beyond what chance makes"));
    refuses(&on("diff", &before, &[]), 2, "diff compares two traces, before and after; 1 trace given");
}

#[test]
fn a_loss_in_one_trace_is_a_doubt_about_the_change() {
    let directory = TempDir::new().unwrap();
    let before = made_of(directory.path(), "a", &[("semop", 100, 500, 0)]);
    let calls: Vec<Value> =
        (0..100).map(|i| json!({ "syscall": "semop", "start_ns": i * 9000, "end_ns": i * 9000 + 900 })).collect();
    let after = Rows::new().with(&CALLS, json!(calls)).losing(7).write(directory.path(), "b");
    let found = rows("diff", &before, &[after.to_str().unwrap()]);
    let doubts = section(found, "finding")[0]["doubts"].to_string();
    assert!(doubts.contains("after only: 7 calls lost"), "{doubts}");
}
