//! The calls of a trace as rows, for comparing one by one.

use crate::trace::Trace;
use std::collections::{BTreeMap, HashMap};

/// One call, as a trace or another witness tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The kernel entry.
    pub entry_point: String,
    /// What user space saw; `None` where the witness does not know.
    pub return_value: Option<i64>,
    /// The errno.
    pub error: Option<String>,
    /// Semaphore operations: number, what is added, flags.
    pub sops: Vec<[i64; 3]>,
}

/// A row of `calls`, with its operations.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is a column of tables::CALLS, documented there")]
pub struct Call {
    pub call_id: i64,
    pub told: Told,
    pub syscall: String,
    pub abi: String,
    pub outcome: String,
    pub began: String,
    pub pid: i32,
    pub tid: i32,
    pub comm: String,
    pub start_ns: i64,
    pub start_time_us: i64,
    pub end_ns: Option<i64>,
    pub duration_ns: Option<i64>,
    /// The integer columns of [`SCALARS`], in that order.
    pub scalars: Vec<Option<i64>>,
}

/// Integer columns that hold an argument.
pub const SCALARS: &[&str] =
    &["key", "flags", "sem_count", "size_bytes", "object_id", "sem_ops_total", "msg_type_requested", "signal"];

impl Call {
    /// A scalar by its column.
    pub fn scalar(&self, column: &str) -> Option<i64> {
        SCALARS.iter().position(|name| *name == column).and_then(|place| self.scalars[place])
    }
}

/// Every call of a trace, in the order of the rows.
pub fn read(trace: &Trace) -> Vec<Call> {
    let mut sops = read_sops(trace);
    let texts = ["syscall", "entry_point", "abi", "outcome", "began", "comm", "error"];
    let integers = ["call_id", "pid", "tid", "start_ns", "start_time", "end_ns", "duration_ns", "return_value"];
    let first = ["sem_num", "sem_op", "sem_flags"];
    let columns: Vec<&str> = [&texts[..], &integers, &first, SCALARS].concat();
    let rows = trace.table("calls", &columns);
    let text: HashMap<&str, Vec<Option<String>>> = texts.map(|name| (name, rows.texts(name))).into();
    let integer: HashMap<&str, Vec<Option<i64>>> =
        columns[texts.len()..].iter().map(|name| (*name, rows.integers(name))).collect();
    let word = |name: &str, row: usize| text[name][row].clone().unwrap();
    let number = |name: &str, row: usize| integer[name][row].unwrap();
    let call = |row: usize| {
        let call_id = number("call_id", row);
        let one = || first.map(|name| integer[name][row]).into_iter().collect::<Option<Vec<i64>>>();
        let sops = sops.remove(&call_id).or_else(|| Some(vec![one()?.try_into().unwrap()])).unwrap_or_default();
        Call {
            call_id,
            told: Told {
                entry_point: word("entry_point", row),
                return_value: integer["return_value"][row],
                error: text["error"][row].clone(),
                sops,
            },
            syscall: word("syscall", row),
            abi: word("abi", row),
            outcome: word("outcome", row),
            began: word("began", row),
            pid: number("pid", row) as i32,
            tid: number("tid", row) as i32,
            comm: word("comm", row),
            start_ns: number("start_ns", row),
            start_time_us: number("start_time", row),
            end_ns: integer["end_ns"][row],
            duration_ns: integer["duration_ns"][row],
            scalars: SCALARS.iter().map(|name| integer[name][row]).collect(),
        }
    };
    (0..rows.count()).map(call).collect()
}

/// The operations of the calls that have more than one, in order.
fn read_sops(trace: &Trace) -> HashMap<i64, Vec<[i64; 3]>> {
    let names = ["call_id", "position", "sem_num", "sem_op", "sem_flags"];
    let rows = trace.table("sem_ops", &names);
    let columns = names.map(|name| rows.integers(name));
    let mut sops: HashMap<i64, Vec<[i64; 3]>> = HashMap::new();
    for row in 0..rows.count() {
        let [call_id, position, number, added, flags] = columns.each_ref().map(|column| column[row].unwrap());
        let list = sops.entry(call_id).or_default();
        assert_eq!(position, list.len() as i64, "the positions of call {call_id} rise by one from 0");
        list.push([number, added, flags]);
    }
    sops
}

/// The calls by thread, each in the order of their starts.
pub fn by_thread(calls: Vec<Call>) -> BTreeMap<i32, Vec<Call>> {
    let mut threads: BTreeMap<i32, Vec<Call>> = BTreeMap::new();
    for call in calls {
        threads.entry(call.tid).or_default().push(call);
    }
    for calls in threads.values_mut() {
        calls.sort_by_key(|call| call.start_ns);
    }
    threads
}

/// Whether an entry point belongs to the signal calls, which the C library makes too.
pub fn is_signal(entry_point: &str) -> bool {
    entry_point.starts_with("rt_sig") || entry_point.starts_with("sig")
}
