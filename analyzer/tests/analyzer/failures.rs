//! `failures` on exact small cases.

use crate::fixture::{self, Parameters};
use crate::rows::Rows;
use crate::{findings, on, rows};
use ipc_analyzer::filter::Selection;
use ipc_analyzer::queries::failures::groups;
use ipc_analyzer::trace::Trace;
use ipc_schema::tables::{CALLS, LIFETIMES, LIMITS, OBJECTS, PROCESSES, Table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tempfile::TempDir;

const NAMESPACE: i64 = 4_026_531_839;

/// A call that failed at 1 s.
fn failed(syscall: &str, error: &str, more: Value) -> Value {
    let mut row = json!({
        "syscall": syscall, "error": error, "start_ns": 999_999_000, "end_ns": 1_000_000_000, "uid": 1000, "flags": 0o1600,
        "key": 0
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

/// A limit of the namespace by a snapshot so long after the failure.
fn limit(name: &str, value: i64, in_use: Option<i64>, later_ns: i64) -> Value {
    json!({
        "snapshot_ns": 1_000_000_000 + later_ns, "phase": "failure", "ipc_ns": NAMESPACE, "name": name, "value": value,
        "in_use": in_use, "how_known": "snapshot"
    })
}

fn sets(count: i64) -> Value {
    let set = |i: i64| {
        json!({ "object_ref": i, "object_kind": "sem", "object_id": i, "ipc_ns": NAMESPACE, "created_ns": 100 + i,
                "created_by_process_id": 1, "how_known": "seen" })
    };
    (1..=count).map(set).collect()
}

/// The findings of a trace: kind, grade, object and what they say.
fn told(rows: &Rows) -> Vec<(String, String)> {
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    let found = crate::rows("failures", &trace, &[]).into_iter().filter(|row| row["section"] == "finding");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    found.map(|row| (format!("{} {}", text(&row["finding"]), text(&row["grade"])), text(&row["what"]))).collect()
}

/// The only finding has this grade and says this.
fn tells(rows: &Rows, grade: &str, says: &[&str]) {
    let told = told(rows);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, grade, "{told:?}");
    says.iter().for_each(|text| assert!(told[0].1.contains(text), "{text} is not in {told:?}"));
}

fn with(table: &'static Table, call: Value, more: Value) -> Rows {
    Rows::new().with(&CALLS, json!([call])).with(table, more)
}

#[test]
fn no_more_sets_or_no_more_semaphores_is_what_the_snapshot_tells() {
    let call = || failed("semget", "ENOSPC", json!({ "sem_count": 3 }));
    let limits = |sets: (i64, i64), semaphores: (i64, i64), later_ns: i64| {
        let sets = limit("SEMMNI", sets.0, Some(sets.1), later_ns);
        with(&LIMITS, call(), json!([sets, limit("SEMMNS", semaphores.0, Some(semaphores.1), later_ns)]))
    };
    tells(&limits((5, 5), (1000, 9), 2_000_000), "limit certain", &["SEMMNI is 5, 5 in use 2.00 ms later"]);
    tells(&limits((50, 5), (10, 8), 2_000_000), "limit certain", &["SEMMNS is 10, 8 in use", "3 asked for"]);
    // Two left and three asked for is one too few; three left would do.
    tells(&limits((50, 5), (10, 7), 0), "limit likely", &["SEMMNS is 10"]);
    // Somebody may have removed or made some in 20 s.
    tells(&limits((5, 5), (1000, 9), 20_000_000_000), "limit likely", &["SEMMNI"]);
    tells(&Rows::new().with(&CALLS, json!([call()])), "limit likely", &["SEMMNS, whose value", ", or SEMMNI, whose"]);
    // By the time of the snapshot two were gone, but the trace knows how many lived then.
    let gone = limits((5, 3), (1000, 9), 2_000_000).with(&LIFETIMES, sets(5));
    tells(&gone, "limit certain", &["SEMMNI", "5 objects lived then, made: 5 by (process_id 1)"]);
}

#[test]
fn a_size_is_beyond_the_limit_only_if_nothing_else_explains_the_errno() {
    let asking = |size: i64, key: i32, flags: i32| {
        failed("shmget", "EINVAL", json!({ "size_bytes": size, "key": key, "flags": flags }))
    };
    let shmmax = |call: Value| with(&LIMITS, call, json!([limit("SHMMAX", 4096, None, 0)]));
    tells(&shmmax(asking(4097, 0, 0o1600)), "limit certain", &["SHMMAX is 4096, 4097 asked for"]);
    tells(&shmmax(asking(4097, 77, 0o1600)), "limit certain", &["SHMMAX"]);
    let smaller = json!([{ "object_ref": 1, "object_kind": "shm", "object_id": 4, "key": 77, "ipc_ns": NAMESPACE,
                           "how_known": "snapshot" }]);
    tells(&shmmax(asking(4097, 77, 0o1600)).with(&LIFETIMES, smaller), "limit likely", &["SHMMAX"]);
    for silent in [
        shmmax(asking(4096, 77, 0o1600)),
        shmmax(asking(0, 0, 0o1600)),
        shmmax(asking(-1, 0, 0o1600)),
        // No setting allows it.
        shmmax(asking(i64::MAX, 0, 0o1600)),
        // The value is unknown, and a smaller segment explains it.
        Rows::new().with(&CALLS, json!([asking(4097, 77, 0o1600)])),
    ] {
        assert_eq!(told(&silent), []);
    }
    // The value is unknown, and nothing else explains it.
    tells(&Rows::new().with(&CALLS, json!([asking(4097, 0, 0o1600)])), "limit certain", &["whose value no snapshot"]);
    tells(&Rows::new().with(&CALLS, json!([asking(4097, 77, 0o3600)])), "limit certain", &["whose value no snapshot"]);
}

#[test]
fn the_value_is_that_of_the_time_of_the_call() {
    let call = failed("semop", "E2BIG", json!({ "sem_ops_total": 9 }));
    let raised = json!([limit("SEMOPM", 8, None, -500_000_000), limit("SEMOPM", 100, None, 3_000_000_000)]);
    tells(&with(&LIMITS, call.clone(), raised), "limit certain", &["SEMOPM is 8, 9 asked for"]);
    let lowered = json!([limit("SEMOPM", 100, None, -500_000_000), limit("SEMOPM", 8, None, 3_000_000_000)]);
    assert_eq!(told(&with(&LIMITS, call, lowered)), []);
    let minus_one = failed("semop", "E2BIG", json!({ "sem_ops_total": -1 }));
    assert_eq!(told(&Rows::new().with(&CALLS, json!([minus_one]))), []);
}

#[test]
fn each_limit_of_messages_queues_and_files_is_told() {
    let queue = |messages: i64, bytes: i64| {
        failed("mq_open", "EINVAL", json!({ "queue_max_messages": messages, "queue_max_message_bytes": bytes }))
    };
    let limits =
        || json!([limit("msg_max", 10, None, 0), limit("msgsize_max", 100, None, 0), limit("MSGMAX", 50, None, 0)]);
    tells(&with(&LIMITS, queue(11, 100), limits()), "limit certain", &["msg_max is 10, 11 asked for"]);
    tells(&with(&LIMITS, queue(10, 101), limits()), "limit certain", &["msgsize_max is 100, 101 asked for"]);
    assert_eq!(told(&with(&LIMITS, queue(10, 0), limits())), []);
    assert_eq!(told(&with(&LIMITS, queue(10, i64::MAX), limits())), []);
    let send = |kind: i64| failed("msgsnd", "EINVAL", json!({ "size_bytes": 51, "msg_type": kind, "object_ref": 1 }));
    tells(&with(&LIMITS, send(1), limits()), "limit certain", &["MSGMAX is 50, 51 asked for"]);
    assert_eq!(told(&with(&LIMITS, send(0), limits())), []);
    for (syscall, error, name) in [
        ("msgget", "ENOSPC", "MSGMNI"),
        ("mq_open", "ENOSPC", "queues_max"),
        ("mq_open", "ENFILE", "FILE_MAX"),
        ("signalfd", "EMFILE", "RLIMIT_NOFILE"),
    ] {
        tells(&Rows::new().with(&CALLS, json!([failed(syscall, error, json!({}))])), "limit certain", &[name]);
    }
    let lock = failed("shmctl", "ENOMEM", json!({ "command": "SHM_LOCK" }));
    tells(&Rows::new().with(&CALLS, json!([lock])), "limit certain", &["RLIMIT_MEMLOCK"]);
    tells(
        &Rows::new().with(&CALLS, json!([failed("shmget", "ENOMEM", json!({}))])),
        "limit likely",
        &["kernel memory"],
    );
    let huge = failed("shmget", "ENOMEM", json!({ "flags": 0o5600 }));
    assert_eq!(told(&Rows::new().with(&CALLS, json!([huge]))), []);
}

#[test]
fn too_many_descriptors_or_too_many_bytes_of_queues() {
    let call = failed("mq_open", "EMFILE", json!({ "queue_max_messages": 10, "queue_max_message_bytes": 100 }));
    let of_process = |name: &str, value: i64, in_use: Option<i64>| {
        json!({ "snapshot_ns": 1_001_000_000, "phase": "failure", "process_id": 1, "name": name, "value": value,
                "in_use": in_use, "how_known": "snapshot" })
    };
    let of_user = json!({ "snapshot_ns": 1_001_000_000, "phase": "failure", "uid": 1000, "name": "RLIMIT_MSGQUEUE",
                          "value": 5000, "in_use": 3920, "how_known": "inferred" });
    let own = of_process("RLIMIT_MSGQUEUE", 4000, None);
    let few = json!([of_process("RLIMIT_NOFILE", 64, Some(7)), own, of_user]);
    // 10 · (100 + 48) + 10 · 48 = 1,960 bytes more than there are.
    let says = ["RLIMIT_MSGQUEUE is 4000, 3920 in use", "1960 asked for"];
    tells(&with(&LIMITS, call.clone(), few), "limit certain", &says);
    let many = json!([of_process("RLIMIT_NOFILE", 64, Some(64)), of_process("RLIMIT_MSGQUEUE", 819_200, None)]);
    tells(&with(&LIMITS, call.clone(), many), "limit likely", &["RLIMIT_NOFILE is 64, 64 in use"]);
    tells(&Rows::new().with(&CALLS, json!([call])), "limit likely", &["RLIMIT_NOFILE", ", or RLIMIT_MSGQUEUE"]);
}

#[test]
fn the_remedy_can_be_typed() {
    let limits = json!([
        limit("SEMMNI", 5, Some(5), 0),
        limit("SEMMNS", 1000, Some(9), 0),
        limit("SEMMSL", 250, None, 0),
        limit("SEMOPM", 32, None, 0)
    ]);
    let idle = |id: i64, use_ns: i64| {
        json!({ "snapshot_ns": 90_000_000_000_i64, "phase": "end", "object_ref": id, "ipc_ns": NAMESPACE,
                "object_kind": "sem", "object_id": id, "use_ns": use_ns })
    };
    let objects = json!([idle(3, 2_000_000_000), idle(4, 80_000_000_000)]);
    let call = failed("semget", "ENOSPC", json!({ "sem_count": 3 }));
    let directory = TempDir::new().unwrap();
    let trace = with(&LIMITS, call, limits).with(&OBJECTS, objects).write(directory.path(), "t");
    let remedy = rows("failures", &trace, &[])[0]["remedy"].as_str().unwrap().to_owned();
    assert!(remedy.contains("sysctl kernel.sem=\"250 1000 32 10\""), "{remedy}");
    assert!(remedy.contains("ipcrm -s 3") && !remedy.contains("ipcrm -s 4"), "{remedy}");
    assert_eq!(on("failures", &trace, &["--check"]).status.code(), Some(1));
}

fn process(id: i64, uid: i64) -> Value {
    json!({ "process_id": id, "pid": 100 + id, "comm": format!("p{id}"), "uid": uid })
}

#[test]
fn who_is_refused_and_whose_it_is() {
    let set = json!([{ "object_ref": 1, "object_kind": "sem", "object_id": 7, "key": 77, "ipc_ns": NAMESPACE,
                       "created_ns": 10, "created_by_process_id": 1, "how_known": "seen" }]);
    let refused = json!([
        failed("semget", "EACCES", json!({ "process_id": 2, "object_kind": "sem", "key": 77 })),
        failed("semop", "EACCES", json!({ "process_id": 2, "object_kind": "sem", "object_ref": 1, "object_id": 7 })),
    ]);
    let people = json!([process(1, 0), process(2, 1000)]);
    let rows = || Rows::new().with(&CALLS, refused.clone()).with(&LIFETIMES, set.clone());
    let says = ["102 p2 (uid 1000) was refused 2 times (EACCES)", "it belongs to uid 0, made by 101 p1"];
    tells(&rows().with(&PROCESSES, people.clone()), "permission certain", &says);
    let snapshot = json!([{ "snapshot_ns": 20, "phase": "start", "object_ref": 1, "ipc_ns": NAMESPACE, "object_kind": "sem",
                            "object_id": 7, "owner_uid": 33, "mode": 0o640 }]);
    let says = ["it belongs to uid 33, mode 0640"];
    tells(&rows().with(&PROCESSES, people).with(&OBJECTS, snapshot), "permission certain", &says);
    // By the real user id it would be allowed.
    tells(&rows().with(&PROCESSES, json!([process(1, 1000), process(2, 1000)])), "permission likely", &["uid 1000"]);
    tells(&Rows::new().with(&CALLS, json!([refused[1]])), "permission likely", &["whose it is was not seen"]);
}

#[test]
fn what_is_no_matter_of_permission_is_none() {
    let bad_name = failed("mq_open", "EACCES", json!({ "object_kind": "mq", "object_name": "/a/b" }));
    let huge = failed("shmget", "EPERM", json!({ "object_kind": "shm", "flags": 0o5600 }));
    let ordinary = ["EAGAIN", "ENOMSG", "EEXIST", "ENOENT", "EINTR", "ETIMEDOUT", "ERANGE", "EIDRM", "EFBIG"];
    let mut calls = vec![bad_name, huge];
    calls.extend(ordinary.map(|error| failed("semop", error, json!({ "object_ref": 1, "object_kind": "sem" }))));
    assert_eq!(told(&Rows::new().with(&CALLS, Value::Array(calls))), []);
}

#[test]
fn failures_are_counted_by_operation_error_object_and_process() {
    let (mut expected, parameters) = (BTreeMap::new(), Parameters::default());
    for call in fixture::calls(&parameters).filter(|call| call.error.is_some()) {
        let key = json!([call.syscall, call.error, call.object_kind, call.object_id, call.key, call.pid]).to_string();
        let of = expected.entry(key).or_insert((0, call.end_ns(), call.call_id, call.end_ns()));
        (of.0, of.3) = (of.0 + 1, call.end_ns());
    }
    let directory = TempDir::new().unwrap();
    let trace = fixture::write(&directory.path().join("t"), &parameters);
    let found = rows("failures", &trace, &["--limit", "0"]);
    assert_eq!(found.len(), expected.len());
    for row in &found {
        let key = ["syscall", "error", "object_kind", "object_id", "key", "process_id"].map(|name| row[name].clone());
        let (count, first_ns, call_id, last_ns) = expected[&Value::from(key.to_vec()).to_string()];
        assert_eq!(
            [&row["count"], &row["first_ns"], &row["call_id"], &row["last_ns"]],
            [&json!(count), &json!(first_ns), &json!(call_id), &json!(last_ns)]
        );
    }
    let is_ordinary: Vec<bool> = found.iter().map(|row| row["ordinary"].as_bool().unwrap()).collect();
    assert!(is_ordinary.is_sorted() && is_ordinary.contains(&false) && is_ordinary.contains(&true));
    assert_eq!(findings("failures", &trace, &[]), [[""; 3]; 0]);
}

/// Groups that do not fit the memory are counted in further passes, each once; those that are left out are counted too.
#[test]
fn a_tiny_memory_gives_the_same_failures() {
    let directory = TempDir::new().unwrap();
    let parameters = Parameters { calls: 20_000, parts: 4, ..Parameters::default() };
    let traces = [Trace::open(&fixture::write(&directory.path().join("t"), &parameters)).unwrap()];
    let ask = |bytes: usize, kept: usize| {
        let failures = groups::within(bytes, kept, &traces, &Selection::everything()).unwrap();
        let row = |(key, group): &(groups::Key, groups::Group)| {
            let (code, target) = failures.of(key).unwrap();
            let text = |number| failures.texts.get(number);
            let kind = text(target.kind);
            format!("{:?} {kind:?} {:?} {:?} {} {group:?}", failures.names(code), target.id, target.key, key.process_id)
        };
        (failures.groups.iter().map(row).collect::<Vec<_>>(), failures.left_out)
    };
    let (at_once, left_out) = ask(usize::MAX, usize::MAX);
    assert!(at_once.len() > 200 && left_out == (0, 0), "{}", at_once.len());
    for bytes in [3_000, 20_000] {
        assert_eq!(ask(bytes, usize::MAX), (at_once.clone(), (0, 0)));
    }
    let (first, left_out) = ask(20_000, 50);
    assert_eq!(first, at_once[..50]);
    assert_eq!(left_out.0 as usize, at_once.len() - 50);
}

#[test]
fn an_empty_trace_and_one_of_version_1_are_answered() {
    let directory = TempDir::new().unwrap();
    let trace = Rows::new().write(directory.path(), "t");
    assert!(rows("failures", &trace, &[]).is_empty());
    let contended = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/traces/contended");
    let waiters = rows("failures", &contended, &[]);
    assert_eq!(findings("failures", &contended, &[]), [[""; 3]; 0], "{waiters:?}");
}
