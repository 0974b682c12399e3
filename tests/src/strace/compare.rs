//! A trace beside what strace saw of the same run.

use super::{Thread, Witnessed};
use crate::calls::{self, Call};
use crate::cells::{Cell, Cells};
use crate::trace::Trace;
use std::collections::BTreeMap;

/// The columns that strace can tell, besides those of [`crate::calls::Told`].
const COLUMNS: &[&str] = &[
    "object_id",
    "object_name",
    "key",
    "created",
    "flags",
    "flags_text",
    "command",
    "sem_count",
    "sem_num",
    "sem_op",
    "sem_flags",
    "sem_ops_total",
    "sem_value",
    "size_bytes",
    "address",
    "msg_type",
    "msg_type_requested",
    "msg_priority",
    "queue_max_messages",
    "queue_max_message_bytes",
    "timeout_ns",
    "deadline_ns",
    "sig_how",
    "sig_set",
    "sig_set_text",
    "sig_old",
    "sig_after",
    "signal",
    "disposition",
];

/// How many differences of a kind are shown.
const SHOWN: usize = 3;

/// Differences by kind: how many, and the first.
#[derive(Default)]
struct Differences(BTreeMap<String, (usize, Vec<String>)>);

impl Differences {
    fn add(&mut self, kind: String, what: impl FnOnce() -> String) {
        let (count, shown) = self.0.entry(kind).or_default();
        *count += 1;
        if shown.len() < SHOWN {
            shown.push(what());
        }
    }

    /// # Panics
    /// When there are any.
    fn check(&self) {
        for (kind, (count, shown)) in &self.0 {
            println!("{count} × {kind}");
            shown.iter().for_each(|what| println!("    {what}"));
        }
        assert!(self.0.is_empty(), "{} kinds of differences from strace, see above", self.0.len());
    }
}

/// Compares all calls of all threads that strace saw: thread by thread, in order. Returns how many by operation.
///
/// # Panics
/// With every kind of difference, if there is one.
pub fn compare(trace: &Trace, witnesses: &BTreeMap<i32, Thread>) -> BTreeMap<String, usize> {
    let cells = Cells::read(trace, "calls", &[COLUMNS, &["restarts"]].concat());
    let mut threads: BTreeMap<i32, Vec<(usize, Call)>> = BTreeMap::new();
    for (row, call) in calls::read(trace).into_iter().enumerate() {
        // strace's own calls, and those of its child before its execve, at which strace does not look yet.
        if call.comm != "strace" {
            threads.entry(call.tid).or_default().push((row, call));
        }
    }
    let mut differences = Differences::default();
    let mut compared = BTreeMap::new();
    for (tid, witnessed) in witnesses {
        let mut calls = threads.remove(tid).unwrap_or_default();
        calls.sort_by_key(|(_, call)| call.start_ns);
        compare_count(&mut differences, *tid, calls.len(), witnessed);
        for ((row, call), witnessed) in calls.iter().zip(&witnessed.calls) {
            if was_skipped(call, witnessed) {
                continue;
            }
            compare_told(&mut differences, call, witnessed);
            compare_columns(&mut differences, &cells, *row, witnessed);
            *compared.entry(call.syscall.clone()).or_default() += 1;
        }
    }
    for (tid, calls) in threads {
        differences.add("thread that strace did not see".to_owned(), || format!("thread {tid}: {calls:?}"));
    }
    differences.check();
    compared
}

/// The columns that strace told nothing of in a whole run: the comparison proved nothing about them.
pub fn untold(witnesses: &BTreeMap<i32, Thread>) -> Vec<&'static str> {
    let calls = || witnesses.values().flat_map(|thread| &thread.calls);
    let is_told = |column: &str| calls().any(|call| call.columns.get(column).is_some_and(|values| !values.is_empty()));
    COLUMNS.iter().copied().filter(|column| !is_told(column)).collect()
}

/// Whether the kernel skipped a call because its thread was killed while strace had stopped it: strace reads it from a
/// thread that is gone, and prints what another thread did, or `???()`.
fn was_skipped(call: &Call, witnessed: &Witnessed) -> bool {
    witnessed.is_unseen && call.told.error.as_deref() == Some("ENOSYS")
}

/// Of a thread killed between strace's stop and the kernel's tracepoint, one of them saw one call more.
fn compare_count(differences: &mut Differences, tid: i32, rows: usize, thread: &Thread) {
    let seen = thread.calls.len();
    if rows != seen && !(thread.is_killed && rows.abs_diff(seen) == 1) {
        differences.add("number of calls".to_owned(), || format!("thread {tid}: {rows} rows, strace saw {seen}"));
    }
}

fn compare_told(differences: &mut Differences, call: &Call, witnessed: &Witnessed) {
    let mut expected = witnessed.told.clone();
    if witnessed.is_unseen {
        (expected.return_value, expected.error) = (call.told.return_value, call.told.error.clone());
    }
    let place = || format!("call {} of thread {}: {}", call.call_id, call.tid, witnessed.line);
    if call.told != expected {
        let kind = format!("{}: result or operations", expected.entry_point);
        differences.add(kind, || format!("{:?} in {}", call.told, place()));
    }
    let outcome = if expected.error.is_some() { "error" } else { "ok" };
    if !witnessed.is_unseen && call.outcome != outcome {
        let kind = format!("{}: outcome", expected.entry_point);
        differences.add(kind, || format!("{} in {}", call.outcome, place()));
    }
}

fn compare_columns(differences: &mut Differences, cells: &Cells, row: usize, witnessed: &Witnessed) {
    for column in COLUMNS {
        let cell = spelt_alike(column, cells.get(column, row));
        let is_equal = match witnessed.columns.get(column) {
            Some(values) if values.is_empty() => true,
            Some(values) => values.iter().any(|value| spelt_alike(column, value) == cell),
            // Of a thread that died strace may not have printed all arguments.
            None => cell == Cell::Null || witnessed.is_unseen,
        };
        // What a thread that died was to learn is unknown.
        let is_unknown = witnessed.is_unseen && cell == Cell::Null;
        if !is_equal && !is_unknown {
            let expected = witnessed.columns.get(column);
            let kind = format!("{}: {column}", witnessed.told.entry_point);
            differences.add(kind, || format!("{cell:?} instead of {expected:?} in {}", witnessed.line));
        }
    }
    let restarts = cells.get("restarts", row).integer().unwrap_or(0);
    if restarts != witnessed.restarts && !witnessed.is_unseen {
        let kind = format!("{}: restarts", witnessed.told.entry_point);
        differences.add(kind, || format!("{restarts} instead of {} in {}", witnessed.restarts, witnessed.line));
    }
}

/// Lists of names without what has none, without the prefix that strace omits, in alphabetical order.
fn spelt_alike(column: &str, cell: &Cell) -> Cell {
    let (Cell::Text(text), true) = (cell, column.ends_with("_text")) else { return cell.clone() };
    let mut names: Vec<&str> = text.split('|').map(|name| name.strip_prefix("SIG").unwrap_or(name)).collect();
    // Permission bits and unnamed bits, `SIG_???`, and the signal 32 that strace calls by the header's name.
    names.retain(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic()) && !name.contains('?'));
    names.iter_mut().filter(|name| **name == "RTMIN").for_each(|name| *name = "RT_0");
    names.sort_unstable();
    Cell::Text(names.join("|"))
}
