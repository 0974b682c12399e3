//! The calls that wait: open at the end of the recording, or at a moment in it.
//!
//! A thread is in one call at a time: there are no more of them than there were threads.

use super::{Moments, Place, QUEUE};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::names;
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use crate::sem_ops::{Operations, SemOps};
use crate::trace::Trace;
use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// What a call can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lack {
    /// That a semaphore can be taken.
    Semaphore,
    /// That a semaphore is 0.
    Zero,
    /// A message in a queue.
    Message,
    /// Room in a queue.
    Room,
}

impl Lack {
    /// The value of the column `lacks`.
    pub const fn name(self) -> &'static str {
        match self {
            Lack::Semaphore => "semaphore",
            Lack::Zero => "zero",
            Lack::Message => "message",
            Lack::Room => "room",
        }
    }
}

/// A call that waits.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The index of the trace.
    pub trace: usize,
    /// The call.
    pub call_id: i64,
    /// Its process.
    pub process_id: i64,
    /// Its thread.
    pub thread_id: i64,
    /// The process, as people know it.
    pub pid: i32,
    /// The thread, as people know it.
    pub tid: i32,
    /// The name of the thread.
    pub comm: String,
    /// The operation.
    pub syscall: &'static str,
    /// As `--object` takes it.
    pub object: String,
    /// The lifetime of the object; `None`: unknown.
    pub object_ref: Option<i64>,
    /// When it began; a bound for those that began before the trace.
    pub start_ns: i64,
    /// Whether it began before the trace.
    pub before_trace: bool,
    /// How long it waits at most.
    pub timeout_ns: Option<i64>,
    /// Until when it waits at most.
    pub deadline_ns: Option<i64>,
    /// The semaphore operations, in order; empty for queues, or if they are not known.
    pub operations: Operations,
    /// The message type that a msgrcv asks for; 0: any.
    pub msg_type: i64,
    /// The first semaphore, as `calls` has it.
    pub sem_num: Option<i32>,
    /// How many semaphore operations there are, known or not.
    pub operations_total: i32,
    /// Its end, if it ended after the moment that is asked about.
    pub ended: Option<Ended>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub ns: i64,
    /// Why.
    pub by: End,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its thread was killed.
    Killed,
    /// Its object was removed.
    Removed,
    /// Otherwise.
    Returned,
}

impl Wait {
    /// What a queue call waits for; `None`: a semaphore call.
    pub fn queue_lack(&self) -> Option<Lack> {
        match self.syscall {
            "msgsnd" | "mq_timedsend" => Some(Lack::Room),
            "msgrcv" | "mq_timedreceive" => Some(Lack::Message),
            _ => None,
        }
    }

    /// The places that may be in its way, each once.
    pub fn places(&self) -> Vec<(Place, Lack)> {
        let Some(object_ref) = self.object_ref else { return Vec::new() };
        if let Some(lack) = self.queue_lack() {
            return vec![((self.trace, object_ref, QUEUE), lack)];
        }
        let lack = |operation| if operation < 0 { Lack::Semaphore } else { Lack::Zero };
        let blocking = self.operations.iter().filter(|(number, operation, _)| *operation <= 0 && *number >= 0);
        let mut places: Vec<_> =
            blocking.map(|(number, operation, _)| ((self.trace, object_ref, *number), lack(*operation))).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// The operations that can wait.
const SYSCALLS: [&str; 6] = ["semop", "semtimedop", "msgsnd", "msgrcv", "mq_timedsend", "mq_timedreceive"];

const COLUMNS: &[&str] = &[
    "call_id",
    "began",
    "start_ns",
    "end_ns",
    "outcome",
    "error",
    "syscall",
    "pid",
    "tid",
    "process_id",
    "thread_id",
    "comm",
    "object_kind",
    "object_ref",
    "object_id",
    "object_name",
    "sem_num",
    "sem_op",
    "sem_flags",
    "sem_ops_total",
    "msg_type_requested",
    "timeout_ns",
    "deadline_ns",
];

/// Reads them, by their call ids.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, moments: &Moments) -> Result<Vec<Wait>, Error> {
    let query = WaitsQuery { traces: &opened.traces, moments };
    let mut waits = scan::fold(&opened.traces, &opened.selection, &query)?.waits;
    waits.sort_by_key(|wait| (wait.trace, wait.call_id));
    Ok(waits)
}

struct WaitsQuery<'a> {
    traces: &'a [Trace],
    moments: &'a Moments,
}

/// The waits that one thread found, and its readers of `sem_ops`.
struct Found<'a> {
    waits: Vec<Wait>,
    operations: HashMap<usize, SemOps<'a>>,
}

impl<'a> Query for WaitsQuery<'a> {
    type Partial = Found<'a>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        // Without an open call in it, a row group can only matter for a moment in the past.
        let is_over = !self.moments.are_asked && statistics.null_count("end_ns") == Some(0);
        if is_over { Vec::new() } else { COLUMNS.to_vec() }
    }

    fn empty(&self) -> Found<'a> {
        Found { waits: Vec::new(), operations: HashMap::new() }
    }

    fn fold(&self, found: &mut Found<'a>, batch: &Batch) -> Result<(), Error> {
        if !batch.has("call_id") {
            return Ok(());
        }
        let batch = self.waiting(batch)?;
        let Some(trace) = self.traces.get(batch.trace).filter(|_| batch.rows() > 0) else { return Ok(()) };
        let operations = found.operations.entry(batch.trace).or_insert_with(|| SemOps::new(batch.trace, trace));
        operations.load(&batch)?;
        read_rows(&batch, operations, &mut found.waits)
    }

    fn merge(&self, into: &mut Found<'a>, from: Found<'a>) {
        into.waits.extend(from.waits);
    }
}

impl WaitsQuery<'_> {
    /// The rows that are waits.
    fn waiting(&self, batch: &Batch) -> Result<Batch, Error> {
        let (start, end, syscall) = (batch.int64("start_ns")?, batch.int64("end_ns")?, batch.text("syscall")?);
        let at_ns = self.moments.at_ns(batch.trace);
        let spans = |row: usize| match int64_at(end, row) {
            None => start.value(row) <= at_ns,
            Some(end_ns) => self.moments.are_asked && start.value(row) <= at_ns && end_ns > at_ns,
        };
        let can_wait = |row: usize| syscall.get(row).is_some_and(|name| SYSCALLS.contains(&name));
        let keep = BooleanBuffer::collect_bool(batch.rows(), |row| spans(row) && can_wait(row));
        batch.filtered(&BooleanArray::new(keep, None))
    }
}

fn read_rows(batch: &Batch, operations: &SemOps<'_>, waits: &mut Vec<Wait>) -> Result<(), Error> {
    let ids = ["call_id", "process_id", "thread_id", "start_ns"].map(|name| batch.int64(name));
    let [call_id, process_id, thread_id, start_ns] = ids;
    let (call_id, process_id, thread_id, start_ns) = (call_id?, process_id?, thread_id?, start_ns?);
    let (pid, tid, comm) = (batch.int32("pid")?, batch.int32("tid")?, batch.text("comm")?);
    let (kind, object_id, name) = (batch.text("object_kind")?, batch.int64("object_id")?, batch.text("object_name")?);
    let (object_ref, sem_num) = (batch.int64("object_ref")?, batch.int32("sem_num")?);
    let operations_total = batch.int32("sem_ops_total")?;
    let (end_ns, outcome, error) = (batch.int64("end_ns")?, batch.text("outcome")?, batch.text("error")?);
    let (syscall, began, msg_type) = (batch.text("syscall")?, batch.text("began")?, batch.int64("msg_type_requested")?);
    let (timeout_ns, deadline_ns) = (batch.int64("timeout_ns")?, batch.int64("deadline_ns")?);
    for row in 0..batch.rows() {
        let Some(syscall) = SYSCALLS.into_iter().find(|known| syscall.get(row) == Some(known)) else { continue };
        waits.push(Wait {
            trace: batch.trace,
            call_id: call_id.value(row),
            process_id: process_id.value(row),
            thread_id: thread_id.value(row),
            pid: pid.value(row),
            tid: tid.value(row),
            comm: comm.get(row).unwrap_or("?").to_owned(),
            syscall,
            object: names::object(kind.get(row).unwrap_or("?"), int64_at(object_id, row), name.get(row)),
            object_ref: int64_at(object_ref, row),
            start_ns: start_ns.value(row),
            before_trace: began.get(row) == Some("before_trace"),
            timeout_ns: int64_at(timeout_ns, row),
            deadline_ns: int64_at(deadline_ns, row),
            operations: operations_of(batch, row, operations)?,
            msg_type: int64_at(msg_type, row).unwrap_or(0),
            sem_num: int32_at(sem_num, row),
            operations_total: int32_at(operations_total, row).unwrap_or(0),
            ended: ended(int64_at(end_ns, row), outcome.get(row), error.get(row)),
        });
    }
    Ok(())
}

fn ended(end_ns: Option<i64>, outcome: Option<&str>, error: Option<&str>) -> Option<Ended> {
    let by = match (outcome, error) {
        (Some("killed"), _) => End::Killed,
        (_, Some("EIDRM")) => End::Removed,
        _ => End::Returned,
    };
    end_ns.map(|ns| Ended { ns, by })
}

/// The operations of a semaphore call; empty if they are not known.
///
/// # Errors
/// A column that the batch does not have.
pub fn operations_of(batch: &Batch, row: usize, several: &SemOps<'_>) -> Result<Operations, Error> {
    let total = int32_at(batch.int32("sem_ops_total")?, row);
    if total.is_some_and(|total| total > 1)
        && let Some(operations) = several.of(batch.int64("call_id")?.value(row))
    {
        return Ok(operations.clone());
    }
    let one = ["sem_num", "sem_op", "sem_flags"].map(|name| batch.int32(name).map(|column| int32_at(column, row)));
    let [number, operation, flags] = one;
    Ok(match (number?, operation?) {
        (Some(number), Some(operation)) => vec![(number, operation, flags?.unwrap_or(0))],
        _ => Operations::new(),
    })
}
