//! Whether a trace holds what was planted, judged without the analyzer: else its silence would prove nothing.

use crate::cells::{Cell, Cells};
use crate::trace::Trace;
use serde_json::Value;

/// What a call of an incident must look like; `None`: whatever.
struct Evidence {
    incident: &'static str,
    syscalls: &'static [&'static str],
    outcome: &'static str,
    error: Option<&'static str>,
    /// So many of them.
    least: usize,
}

const SEMOP: &[&str] = &["semop", "semtimedop"];
const OPEN_AT_QUEUES: &[&str] = &["msgsnd", "msgrcv", "mq_timedsend", "mq_timedreceive"];

const fn calls(
    incident: &'static str,
    syscalls: &'static [&'static str],
    outcome: &'static str,
    error: Option<&'static str>,
    least: usize,
) -> Evidence {
    Evidence { incident, syscalls, outcome, error, least }
}

const EVIDENCE: &[Evidence] = &[
    calls("deadlock-semaphores", SEMOP, "open", None, 2),
    calls("deadlock-operations", SEMOP, "open", None, 2),
    calls("deadlock-outsider", SEMOP, "open", None, 2),
    calls("deadlock-killed", SEMOP, "killed", None, 1),
    calls("deadlock-removed", SEMOP, "error", Some("EIDRM"), 1),
    calls("deadlock-queues", OPEN_AT_QUEUES, "open", None, 2),
    calls("undo-less-death", SEMOP, "error", Some("EAGAIN"), 2),
    calls("use-after-removal", &["semtimedop", "shmat", "msgsnd"], "error", Some("EINVAL"), 1),
    calls("semmni", &["semget"], "error", Some("ENOSPC"), 1),
    calls("shmmax", &["shmget"], "error", Some("EINVAL"), 1),
    calls("rlimit-msgqueue", &["mq_open"], "error", Some("EMFILE"), 1),
    calls("eacces", &["semget", "shmget", "msgget", "mq_open"], "error", Some("EACCES"), 1),
    calls("sigwait-daemon", &["sigtimedwait"], "ok", None, 2),
    calls("signalfd-daemon", &["signalfd"], "ok", None, 1),
];

/// Checks it, by the incident's own account.
///
/// # Panics
/// When something is not there.
pub fn check(incident: &str, account: &Value, trace: &Trace) {
    let columns = ["syscall", "outcome", "error", "wait_ns", "object_kind", "object_id", "object_name"];
    let rows = Cells::read(trace, "calls", &columns);
    for evidence in EVIDENCE.iter().filter(|evidence| evidence.incident == incident) {
        let is_such = |row: &usize| {
            evidence.syscalls.contains(&rows.text("syscall", *row))
                && rows.text("outcome", *row) == evidence.outcome
                && (evidence.error.is_none() || rows.get("error", *row).text() == evidence.error)
        };
        let count = (0..rows.count()).filter(is_such).count();
        let Evidence { syscalls, outcome, error, least, .. } = evidence;
        assert!(count >= *least, "{incident}: {count} calls {syscalls:?} {outcome} {error:?}, not {least}: {account}");
    }
    check_waits(incident, account, &rows);
    check_objects(incident, account, &rows);
    check_limits(incident, account, trace);
    check_leaks(account, trace);
    check_signals(incident, trace);
}

/// Convoys and queues: whoever waited, did so for long enough, all together.
fn check_waits(incident: &str, account: &Value, rows: &Cells) {
    let least_ns = match incident {
        "convoy" => 3_000_000_000,
        "back-pressure" => 1_000_000_000,
        _ => return,
    };
    let total: i64 = (0..rows.count()).filter_map(|row| rows.get("wait_ns", row).integer()).sum();
    assert!(total >= least_ns, "{incident}: all waits are {total} ns: {account}");
}

/// Each object that a finding must name is in the calls.
fn check_objects(incident: &str, account: &Value, rows: &Cells) {
    let text = |row: usize| {
        let kind = rows.get("object_kind", row).text().unwrap_or_default();
        match rows.get("object_name", row) {
            Cell::Text(name) => format!("{kind}:{name}"),
            _ => format!("{kind}:{}", rows.get("object_id", row).integer().unwrap_or(-1)),
        }
    };
    let seen: std::collections::BTreeSet<String> = (0..rows.count()).map(text).collect();
    for expected in account["expected"].as_array().unwrap() {
        let Some(objects) = expected["objects"].as_array() else { continue };
        let is_there = objects.iter().any(|object| seen.contains(object.as_str().unwrap()));
        assert!(is_there, "{incident}: none of {objects:?} is in {seen:?}");
    }
}

/// A limit that was met stands in `limits`, as it was drawn.
fn check_limits(incident: &str, account: &Value, trace: &Trace) {
    let limits = Cells::read(trace, "limits", &["name", "value"]);
    for name in ["SEMMNI", "SHMMAX", "RLIMIT_MSGQUEUE"] {
        let Some(value) = account["parameters"][name].as_i64() else { continue };
        let has = |row| limits.text("name", row) == name && limits.get("value", row).integer() == Some(value);
        assert!((0..limits.count()).any(has), "{incident}: {name} = {value} is not in the table limits");
    }
}

/// What was left behind is in the last snapshot.
fn check_leaks(account: &Value, trace: &Trace) {
    let Some(leaves) = account["leaves"].as_array() else { return };
    let objects = Cells::read(trace, "objects", &["phase", "object_kind", "object_id", "name"]);
    let text = |row: usize| {
        let kind = objects.text("object_kind", row);
        match objects.get("name", row) {
            Cell::Text(name) => format!("{kind}:{name}"),
            _ => format!("{kind}:{}", objects.integer("object_id", row)),
        }
    };
    for object in leaves {
        let is_left = |row| objects.text("phase", row) == "end" && text(row) == object.as_str().unwrap();
        assert!((0..objects.count()).any(is_left), "{object} is not there at the end");
    }
}

/// SIGTERM was generated and never delivered.
fn check_signals(incident: &str, trace: &Trace) {
    if incident != "sigterm-blocked" {
        return;
    }
    let signals = Cells::read(trace, "signals", &["event", "signal", "target_process_id"]);
    let count = |event: &str| {
        let is_such = |row: &usize| signals.text("event", *row) == event && signals.integer("signal", *row) == 15;
        (0..signals.count()).filter(is_such).count()
    };
    let counts = (count("generate"), count("deliver"));
    assert!(counts.0 >= 1 && counts.1 == 0, "SIGTERM: generated, delivered {counts:?}");
}
