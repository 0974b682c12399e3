//! The tables: what threads blocked, and which signals waited for it.

use super::Answered;
use super::judge::Judged;
use super::masks::Blocked;
use super::pending::Fate;
use crate::names::Processes;
use crate::report::{Column, Rows, Table, Unit, Value, column};
use ipc_schema::flags::write_signal_set;
use std::cmp::Reverse;

/// More names than this in a set are a number for people.
const NAMES_MAX: u32 = 4;

/// The names of a set: `SIGTERM|SIGHUP`.
pub fn names(set: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_signal_set(&mut text, set);
    text
}

/// The same, short: `all but SIGKILL|SIGSTOP`, `34 signals`.
fn short(set: u64) -> String {
    match (set.count_ones(), set.count_zeros()) {
        (..=NAMES_MAX, _) => names(set),
        (_, 1..=NAMES_MAX) => format!("all but {}", names(!set)),
        (64, _) => "all".to_owned(),
        (many, _) => format!("{many} signals"),
    }
}

/// One row per thread and set of signals with the same history, those blocked for longest first.
pub fn blocked<'a>(answered: &[Answered]) -> Table<'a> {
    let mut found: Vec<(&Answered, Option<i64>, u64, u64, Blocked)> = Vec::new();
    for of in answered {
        found.extend(
            of.blocked.iter().map(|(thread_id, threads, set, blocked)| (of, *thread_id, *threads, *set, *blocked)),
        );
    }
    found.sort_by_key(|(of, thread_id, _, set, blocked)| {
        (blocked.since_ns.is_none(), Reverse(blocked.longest_ns), of.trace, *thread_id, *set)
    });
    let row = |(of, thread_id, threads, set, blocked): (&Answered, Option<i64>, u64, u64, Blocked)| {
        let thread = thread_id.and_then(|thread_id| of.threads.get(thread_id));
        vec![
            Value::Text(of.trace_id.clone()),
            Value::int(thread_id),
            Value::int(thread.map(|thread| thread.process_id)),
            Value::int(thread.map(|thread| thread.tid)),
            Value::text(thread.and_then(|thread| of.threads.comm(thread))),
            Value::Int(threads.into()),
            Value::Int((set as i64).into()),
            Value::Text(names(set)),
            Value::Text(short(set)),
            Value::Int(blocked.intervals.into()),
            Value::Int(blocked.total_ns.into()),
            Value::Int(blocked.longest_ns.into()),
            Value::Bool(blocked.since_ns.is_some()),
            Value::int(blocked.since_ns),
        ]
    };
    table("blocked", "Blocked, those that still are first", &BLOCKED_COLUMNS, found.into_iter().map(row).collect())
}

const BLOCKED_COLUMNS: [Column; 14] = [
    column("trace_id", "", Unit::Text),
    column("thread_id", "", Unit::Id),
    column("process_id", "", Unit::Id),
    column("tid", "tid", Unit::Id),
    column("comm", "comm", Unit::Text),
    column("threads", "", Unit::Count),
    column("sig_set", "", Unit::Id),
    column("sig_set_text", "", Unit::Text),
    column("signals", "signals", Unit::Text),
    column("intervals", "times", Unit::Count),
    column("blocked_ns", "total", Unit::Duration),
    column("longest_ns", "longest", Unit::Duration),
    column("still_blocked", "still", Unit::Text),
    column("since_ns", "", Unit::Instant),
];

/// One row per signal that waited because it was blocked, the longest first.
pub fn pending<'a>(answered: &[Answered], processes: &Processes) -> Table<'a> {
    let mut found: Vec<(&Answered, &Judged)> = Vec::new();
    for of in answered {
        found.extend(of.judged.iter().filter(|judged| judged.is_blocked != Some(false)).map(|judged| (of, judged)));
    }
    found.sort_by_key(|(of, judged)| (Reverse(judged.episode.length_ns()), of.trace, judged.episode));
    let rows = found.into_iter().map(|(of, judged)| pending_row(of, judged, processes)).collect();
    table("pending", "Sent while blocked, those that waited for longest first", &PENDING_COLUMNS, rows)
}

const PENDING_COLUMNS: [Column; 16] = [
    column("trace_id", "", Unit::Text),
    column("signal", "", Unit::Id),
    column("signal_name", "signal", Unit::Text),
    column("target_process_id", "", Unit::Id),
    column("target_thread_id", "", Unit::Id),
    column("target_pid", "for", Unit::Id),
    column("target_comm", "", Unit::Text),
    column("sender_process_id", "", Unit::Id),
    column("sender_pid", "from", Unit::Id),
    column("sender_comm", "", Unit::Text),
    column("sent", "times", Unit::Count),
    column("since_ns", "", Unit::Instant),
    column("until_ns", "", Unit::Instant),
    column("pending_ns", "waited", Unit::Duration),
    column("result", "then", Unit::Text),
    column("ignored", "ignored", Unit::Text),
];

fn pending_row(of: &Answered, judged: &Judged, processes: &Processes) -> Vec<Value> {
    let episode = &judged.episode;
    let target = processes.get(of.trace, episode.process_id);
    let sender = episode.sender.and_then(|process_id| processes.get(of.trace, process_id));
    vec![
        Value::Text(of.trace_id.clone()),
        Value::Int(episode.signal.into()),
        Value::Text(names(episode.bit())),
        Value::Int(episode.process_id.into()),
        Value::int(episode.thread_id),
        Value::int(target.map(|process| process.pid)),
        Value::text(target.and_then(|process| process.comm.clone())),
        Value::int(episode.sender),
        Value::int(sender.map(|process| process.pid)),
        Value::text(sender.and_then(|process| process.comm.clone())),
        Value::Int(episode.sent.into()),
        Value::Int(episode.since_ns.into()),
        Value::Int(episode.until_ns.into()),
        Value::Int(episode.length_ns().into()),
        Value::Text(result(of, judged).to_owned()),
        Value::Bool(judged.is_ignored),
    ]
}

/// What became of it, in a word.
fn result(of: &Answered, judged: &Judged) -> &'static str {
    match (judged.episode.fate, judged.is_awaited) {
        (Fate::Delivered, _) => "delivered",
        (Fate::Fetched, _) => "fetched",
        // Who reads a signalfd is in no trace.
        (Fate::Pending, true) => "perhaps fetched",
        (Fate::Pending, false) if judged.episode.until_ns < of.end_ns => "ended with its target",
        (Fate::Pending, false) => "still pending",
    }
}

fn table<'a>(section: &'static str, title: &str, columns: &[Column], rows: Vec<Vec<Value>>) -> Table<'a> {
    let rows: Rows<'a> = Box::new(rows.into_iter().map(Ok));
    Table {
        section: Some(section),
        title: title.to_owned(),
        columns: columns.to_vec(),
        rows,
        sparse: false,
        text_limit: 10,
    }
}
