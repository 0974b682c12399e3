//! The calls of a trace with how they waited and who woke them.

use crate::trace::Trace;
use std::collections::HashMap;

/// Who ended a wait; every part NULL where nobody did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column `waker_…` of tables::CALLS, documented there")]
pub struct Waker {
    pub process_id: Option<i64>,
    pub thread_id: Option<i64>,
    pub call_id: Option<i64>,
    pub comm: Option<String>,
    pub syscall: Option<String>,
}

/// A row of `calls`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is a column of tables::CALLS, documented there")]
pub struct Wait {
    pub call_id: i64,
    pub began: String,
    pub outcome: String,
    pub syscall: String,
    pub error: Option<String>,
    pub restarts: Option<i64>,
    pub pid: i32,
    pub tid: i32,
    pub process_id: i64,
    pub thread_id: i64,
    pub comm: String,
    pub object_id: Option<i64>,
    pub start_ns: i64,
    pub end_ns: Option<i64>,
    pub duration_ns: Option<i64>,
    pub sem_num: Option<i64>,
    pub sem_op: Option<i64>,
    pub msg_type_requested: Option<i64>,
    pub slept: Option<i64>,
    pub wait_ns: Option<i64>,
    pub wakeup_delay_ns: Option<i64>,
    pub wakings: Option<i64>,
    pub wake_reason: Option<String>,
    pub waker: Waker,
    pub args_changed: Option<i64>,
}

impl Wait {
    /// When it was woken for the last time.
    pub fn woken_ns(&self) -> Option<i64> {
        Some(self.start_ns + self.wait_ns?)
    }

    /// The instant lies inside the call.
    pub fn surrounds(&self, instant_ns: i64) -> bool {
        self.start_ns <= instant_ns && self.end_ns.is_none_or(|end_ns| instant_ns <= end_ns)
    }

    /// Itself as the waker of another call.
    pub fn as_waker(&self) -> Waker {
        Waker {
            process_id: Some(self.process_id),
            thread_id: Some(self.thread_id),
            call_id: Some(self.call_id),
            comm: Some(self.comm.clone()),
            syscall: Some(self.syscall.clone()),
        }
    }
}

const TEXTS: [&str; 8] = ["began", "outcome", "syscall", "error", "comm", "wake_reason", "waker_comm", "waker_syscall"];

const INTEGERS: [&str; 21] = [
    "call_id",
    "restarts",
    "pid",
    "tid",
    "process_id",
    "thread_id",
    "object_id",
    "start_ns",
    "end_ns",
    "duration_ns",
    "sem_num",
    "sem_op",
    "msg_type_requested",
    "slept",
    "wait_ns",
    "wakeup_delay_ns",
    "wakings",
    "waker_process_id",
    "waker_thread_id",
    "waker_call_id",
    "args_changed",
];

/// The columns of a trace's calls.
struct Columns {
    texts: HashMap<&'static str, Vec<Option<String>>>,
    integers: HashMap<&'static str, Vec<Option<i64>>>,
}

impl Columns {
    fn text(&self, name: &str, row: usize) -> Option<String> {
        self.texts[name][row].clone()
    }

    fn integer(&self, name: &str, row: usize) -> Option<i64> {
        self.integers[name][row]
    }

    fn wait(&self, row: usize) -> Wait {
        Wait {
            call_id: self.integer("call_id", row).unwrap(),
            began: self.text("began", row).unwrap(),
            outcome: self.text("outcome", row).unwrap(),
            syscall: self.text("syscall", row).unwrap(),
            error: self.text("error", row),
            restarts: self.integer("restarts", row),
            pid: self.integer("pid", row).unwrap() as i32,
            tid: self.integer("tid", row).unwrap() as i32,
            process_id: self.integer("process_id", row).unwrap(),
            thread_id: self.integer("thread_id", row).unwrap(),
            comm: self.text("comm", row).unwrap(),
            object_id: self.integer("object_id", row),
            start_ns: self.integer("start_ns", row).unwrap(),
            end_ns: self.integer("end_ns", row),
            duration_ns: self.integer("duration_ns", row),
            sem_num: self.integer("sem_num", row),
            sem_op: self.integer("sem_op", row),
            msg_type_requested: self.integer("msg_type_requested", row),
            slept: self.integer("slept", row),
            wait_ns: self.integer("wait_ns", row),
            wakeup_delay_ns: self.integer("wakeup_delay_ns", row),
            wakings: self.integer("wakings", row),
            wake_reason: self.text("wake_reason", row),
            waker: Waker {
                process_id: self.integer("waker_process_id", row),
                thread_id: self.integer("waker_thread_id", row),
                call_id: self.integer("waker_call_id", row),
                comm: self.text("waker_comm", row),
                syscall: self.text("waker_syscall", row),
            },
            args_changed: self.integer("args_changed", row),
        }
    }
}

/// Every call of a trace, by its start.
pub fn read(trace: &Trace) -> Vec<Wait> {
    let rows = trace.table("calls", &[&TEXTS[..], &INTEGERS].concat());
    let columns = Columns {
        texts: TEXTS.map(|name| (name, rows.texts(name))).into(),
        integers: INTEGERS.map(|name| (name, rows.integers(name))).into(),
    };
    let mut waits: Vec<Wait> = (0..rows.count()).map(|row| columns.wait(row)).collect();
    waits.sort_by_key(|wait| wait.start_ns);
    waits
}

/// The `process_id` of a process that was there once.
pub fn process_id(trace: &Trace, pid: i32) -> i64 {
    only(trace, "processes", "pid", "process_id", pid)
}

/// The `thread_id` of a thread that was there once.
pub fn thread_id(trace: &Trace, tid: i32) -> i64 {
    only(trace, "threads", "tid", "thread_id", tid)
}

fn only(trace: &Trace, table: &str, number: &str, id: &str, wanted: i32) -> i64 {
    let rows = trace.table(table, &[number, id]);
    let numbers = rows.integers(number).into_iter().zip(rows.integers(id));
    let found: Vec<_> = numbers.filter(|(number, _)| *number == Some(wanted.into())).map(|(_, id)| id).collect();
    let [Some(id)] = found[..] else { panic!("rows of {table} with {number} {wanted}: {found:?}") };
    id
}
