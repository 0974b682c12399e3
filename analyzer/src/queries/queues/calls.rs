//! The calls on queues, in the order of their ends, each queue in one shard.

use super::known::KnownQueues;
use super::queue::{Queue, Settings};
use crate::batch::{Batch, Text, int32_at, int64_at};
use crate::error::Error;
use crate::ordered::{self, OrderedQuery};
use crate::query::GroupStatistics;
use arrow::array::{Array, BooleanArray, Int32Array, Int64Array};
use hashbrown::HashMap;
use ipc_schema::flags;

/// Queues that all shards know at most, the first ones of each: some 1 KiB each without their messages.
const QUEUES_MAX: usize = 1 << 17;
/// Messages on their way that all shards remember at most, 16 bytes each.
const MESSAGES_MAX: usize = 1 << 22;
/// Types and priorities that all shards tell apart at most, some 200 bytes each.
const CLASSES_MAX: usize = 1 << 18;
/// Stretches of fullness that all shards hold open at most, 40 bytes each.
const STRETCHES_MAX: usize = 1 << 19;
/// Bytes that the distributions of all shards take at most.
const TIMES_BYTES_MAX: usize = 128 << 20;

/// Which end of the queue a call is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It sends.
    Send,
    /// It receives.
    Receive,
}

/// A call on a queue.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The lifetime.
    pub object_ref: i64,
    /// Its id.
    pub call_id: i64,
    /// Who called.
    pub process_id: i64,
    /// Entry, nanoseconds since the epoch.
    pub start_ns: i64,
    /// Exit; `None`: open.
    pub end_ns: Option<i64>,
    /// What it does.
    pub end: End,
    /// Whether a message went in or out.
    pub moved: bool,
    /// Whether it was turned away: the queue was full or held nothing for it, and it was not to wait (any longer).
    pub refused: bool,
    /// How long it slept, nanoseconds; `None`: not at all. Of an open call nothing is known: 0.
    pub slept_ns: Option<i64>,
    /// Bytes of the message that moved, or that was to be sent.
    pub bytes: i64,
    /// Its type or priority.
    pub class: Option<i64>,
    /// Whether it is on a POSIX queue: the oldest message of the highest priority goes first.
    pub is_posix: bool,
    /// What msgrcv asks for: its type, and whether for any other one; `None`: not known, or not System V.
    pub asks_for: Option<(i64, bool)>,
    /// Messages in the queue at entry, as the kernel counted.
    pub depth: Option<i64>,
    /// How many it takes.
    pub max_messages: Option<i64>,
}

impl Call {
    /// What is known of the number of messages at its entry: told by the kernel, or none, since nothing was there for
    /// a receiver that takes whatever there is.
    pub fn depth_at_entry(&self) -> Option<i64> {
        self.depth.or_else(|| (self.found_nothing() && self.asks_for == Some((0, false))).then_some(0))
    }

    /// Whether nothing that it asked for was there at its entry.
    pub fn found_nothing(&self) -> bool {
        self.end == End::Receive && (self.slept_ns.is_some() || self.refused)
    }
}

/// The question.
pub struct QueueCalls<'a> {
    /// What was known of the queues beforehand.
    pub known: &'a KnownQueues,
    /// What to look for, and when.
    pub settings: &'a Settings,
    /// How many shards there are.
    pub shards: usize,
}

/// The queues of one shard.
#[derive(Default)]
pub struct Shard {
    /// By lifetime.
    pub queues: HashMap<i64, Queue>,
    /// Calls on queues beyond the bound.
    pub calls_left_out: u64,
    room: Room,
}

/// How much more may be remembered.
#[derive(Default)]
pub struct Room {
    /// Messages.
    pub messages: usize,
    /// Types and priorities.
    pub classes: usize,
    /// Stretches of fullness, shared by the queues.
    pub stretches: usize,
    /// Bytes of distributions.
    pub times_bytes: isize,
}

const COLUMNS: [&str; 20] = [
    "object_ref",
    "syscall",
    "outcome",
    "call_id",
    "process_id",
    "start_ns",
    "end_ns",
    "duration_ns",
    "error",
    "flags",
    "return_value",
    "size_bytes",
    "msg_type",
    "msg_type_requested",
    "msg_priority",
    "queue_depth",
    "queue_max_messages",
    "slept",
    "wait_ns",
    "object_kind",
];

impl OrderedQuery for QueueCalls<'_> {
    type Piece = Vec<Call>;
    type Shard = Shard;

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        // Semaphores alone: most row groups of most traces.
        if statistics.is_always("object_kind", "sem") { vec!["object_ref"] } else { COLUMNS.to_vec() }
    }

    fn piece(&self) -> Vec<Call> {
        Vec::new()
    }

    fn cut(&self, batch: &Batch, pieces: &mut [Vec<Call>]) -> Result<(), Error> {
        if !batch.has("syscall") {
            return Ok(());
        }
        let columns = Columns::of(batch)?;
        ordered::deal((0..batch.rows()).filter_map(|row| columns.call(row)), |call| call.object_ref, pieces);
        Ok(())
    }

    fn shard(&self) -> Shard {
        let share = |all: usize| all / self.shards.max(1);
        let room = Room {
            messages: share(MESSAGES_MAX),
            classes: share(CLASSES_MAX),
            stretches: share(STRETCHES_MAX),
            times_bytes: share(TIMES_BYTES_MAX) as isize,
        };
        Shard { room, ..Shard::default() }
    }

    fn fold(&self, shard: &mut Shard, piece: &Vec<Call>) -> Result<(), Error> {
        for call in piece {
            if !shard.queues.contains_key(&call.object_ref) {
                if shard.queues.len() >= QUEUES_MAX / self.shards.max(1) {
                    shard.calls_left_out += 1;
                    continue;
                }
                let queue = Queue::new(self.known.get(call.object_ref), self.settings);
                shard.queues.insert(call.object_ref, queue);
            }
            let queues = shard.queues.len();
            if let Some(queue) = shard.queues.get_mut(&call.object_ref) {
                queue.add(call, &mut shard.room, queues, self.settings);
            }
        }
        Ok(())
    }
}

/// The columns of a batch, and what its few texts mean.
struct Columns<'a> {
    syscalls: Text<'a>,
    ends: Vec<Option<(End, bool)>>,
    outcomes: Text<'a>,
    errors: Text<'a>,
    refusals: Vec<bool>,
    int64s: [&'a Int64Array; 14],
    flags: &'a Int32Array,
    slept: &'a BooleanArray,
}

const INT64S: [&str; 14] = [
    "object_ref",
    "call_id",
    "process_id",
    "start_ns",
    "end_ns",
    "duration_ns",
    "return_value",
    "size_bytes",
    "msg_type",
    "msg_type_requested",
    "msg_priority",
    "queue_depth",
    "queue_max_messages",
    "wait_ns",
];

impl<'a> Columns<'a> {
    fn of(batch: &'a Batch) -> Result<Columns<'a>, Error> {
        let (syscalls, errors) = (batch.text("syscall")?, batch.text("error")?);
        let mut int64s = [batch.int64("object_ref")?; 14];
        for (column, name) in int64s.iter_mut().zip(INT64S) {
            *column = batch.int64(name)?;
        }
        Ok(Columns {
            syscalls,
            ends: syscalls.values.iter().map(|name| end_of(name.unwrap_or_default())).collect(),
            outcomes: batch.text("outcome")?,
            errors,
            refusals: errors.values.iter().map(|name| is_refusal(name.unwrap_or_default())).collect(),
            int64s,
            flags: batch.int32("flags")?,
            slept: batch.boolean("slept")?,
        })
    }

    /// The call of a row; `None` if it is none on a queue, or only looks at a message.
    fn call(&self, row: usize) -> Option<Call> {
        let (end, is_system_v) = self.ends[self.syscalls.index(row)?]?;
        let flags = int32_at(self.flags, row).unwrap_or(0);
        if is_system_v && end == End::Receive && flags & flag("MSG_COPY") != 0 {
            return None;
        }
        let [object_ref, call_id, process_id, start_ns, end_ns, duration_ns, ..] = self.int64s;
        let [.., return_value, size_bytes, msg_type, asked, msg_priority, depth, max_messages, wait_ns] = self.int64s;
        let moved = self.outcomes.get(row) == Some("ok");
        let slept = self.slept.is_valid(row) && self.slept.value(row);
        let slept_ns = match int64_at(end_ns, row) {
            Some(_) if slept => int64_at(wait_ns, row).or_else(|| int64_at(duration_ns, row)),
            Some(_) => None,
            None => (slept || self.slept.is_null(row)).then_some(0),
        };
        let asks_for = int64_at(asked, row).map(|asked| (asked, flags & flag("MSG_EXCEPT") != 0));
        Some(Call {
            object_ref: int64_at(object_ref, row)?,
            call_id: call_id.value(row),
            process_id: process_id.value(row),
            start_ns: start_ns.value(row),
            end_ns: int64_at(end_ns, row),
            end,
            moved,
            refused: self.errors.index(row).is_some_and(|index| self.refusals[index]),
            slept_ns,
            bytes: int64_at(if end == End::Send { size_bytes } else { return_value }, row).unwrap_or(0),
            class: int64_at(if is_system_v { msg_type } else { msg_priority }, row),
            is_posix: !is_system_v,
            asks_for: if end == End::Receive { asks_for } else { None },
            depth: int64_at(depth, row),
            max_messages: int64_at(max_messages, row),
        })
    }
}

/// Which end of which kind of queue an operation is at; whether of System V.
fn end_of(syscall: &str) -> Option<(End, bool)> {
    match syscall {
        "msgsnd" => Some((End::Send, true)),
        "msgrcv" => Some((End::Receive, true)),
        "mq_timedsend" => Some((End::Send, false)),
        "mq_timedreceive" => Some((End::Receive, false)),
        _ => None,
    }
}

fn is_refusal(error: &str) -> bool {
    matches!(error, "EAGAIN" | "ENOMSG" | "ETIMEDOUT")
}

fn flag(name: &str) -> i32 {
    flags::MSG_FLAGS.iter().find(|(_, flag)| *flag == name).map_or(0, |(value, _)| *value as i32)
}
