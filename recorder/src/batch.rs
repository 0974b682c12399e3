//! Rows become Arrow columns.
//!
//! Each table has a function that fills a column by its name; a column that it does not know is NULL in every row. The
//! order comes from `ipc_schema::tables`.

use crate::call::{Call, comm_text};
use crate::finished::Loss;
use crate::history::{LimitRow, ObjectRow, QueuedRow};
use crate::objects::Lifetime;
use crate::signals::SignalRow;
use crate::stacks::StackRow;
use crate::tasks::{Execution, Process, Thread};
use crate::waits::Waker;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, DictionaryArray, Int32Array, Int32Builder, ListBuilder,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use arrow::error::ArrowError;
use ipc_schema::catalogue::{Family, Meaning};
use ipc_schema::store::compact;
use ipc_schema::tables::Table;
use ipc_schema::wire::Sembuf;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What every table needs to be written.
#[derive(Clone)]
pub struct Frame {
    /// The value of `trace_id`.
    pub trace_id: Arc<str>,
    /// Added to CLOCK_BOOTTIME to make instants, nanoseconds.
    pub clock_offset_ns: i64,
}

impl Frame {
    /// An instant of the boot clock, in nanoseconds since the epoch.
    pub fn epoch(&self, boot_ns: u64) -> i64 {
        boot_ns as i64 + self.clock_offset_ns
    }

    /// The rows of `table`, as [`compact`] says; `fill` gives a column by its name, or `None` for one that is NULL in every
    /// row.
    ///
    /// # Errors
    /// A column that may not be NULL is, or there is no memory for it.
    pub fn batch<R>(
        &self,
        table: &Table,
        rows: &[R],
        fill: impl Fn(&Frame, &str, &[R]) -> Option<ArrayRef>,
    ) -> Result<RecordBatch, ArrowError> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for column in table.columns {
            let filled = match column.name {
                "trace_id" => same(&text_of(&self.trace_id), rows.len()),
                name => fill(self, name, rows),
            };
            if let Some(values) = filled {
                fields.push(Field::new(column.name, values.data_type().clone(), column.nullable));
                columns.push(values);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }
}

/// A column of one value; there is memory for that.
fn same(value: &ArrayRef, rows: usize) -> Option<ArrayRef> {
    compact::constant(value, rows).ok()
}

fn text_of(text: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values([text]))
}

/// What all rows have in common, if anything.
fn common<R, V: PartialEq>(rows: &[R], value: impl Fn(&R) -> V) -> Option<V> {
    let first = value(rows.first()?);
    rows.iter().all(|row| value(row) == first).then_some(first)
}

fn number<R, T: ArrowPrimitiveType>(rows: &[R], value: impl Fn(&R) -> Option<T::Native>) -> Option<ArrayRef> {
    match common(rows, &value) {
        Some(same_value) => same(&(Arc::new(PrimitiveArray::<T>::from_value(same_value?, 1)) as ArrayRef), rows.len()),
        None => Some(Arc::new(rows.iter().map(value).collect::<PrimitiveArray<T>>())),
    }
}

fn int64<R>(rows: &[R], value: impl Fn(&R) -> Option<i64>) -> Option<ArrayRef> {
    number::<R, Int64Type>(rows, value)
}

fn int32<R>(rows: &[R], value: impl Fn(&R) -> Option<i32>) -> Option<ArrayRef> {
    number::<R, Int32Type>(rows, value)
}

fn boolean<R>(rows: &[R], value: impl Fn(&R) -> Option<bool>) -> Option<ArrayRef> {
    match common(rows, &value) {
        Some(same_value) => same(&(Arc::new(BooleanArray::from(vec![same_value?])) as ArrayRef), rows.len()),
        None => Some(Arc::new(rows.iter().map(value).collect::<BooleanArray>())),
    }
}

/// A text column from a key that is cheap to compare; `spell` is called once per distinct key.
fn text_by<R, K: Copy + Eq + std::hash::Hash>(
    rows: &[R],
    key: impl Fn(&R) -> Option<K>,
    spell: impl Fn(&R) -> Option<String>,
) -> Option<ArrayRef> {
    if let Some(same_key) = common(rows, &key) {
        same_key?;
        return same(&text_of(&spell(rows.first()?)?), rows.len());
    }
    let mut seen: FxHashMap<K, Option<i32>> = FxHashMap::default();
    let mut values: Vec<String> = Vec::new();
    let mut last: Option<(K, Option<i32>)> = None;
    let keys = rows.iter().map(|row| {
        let key = key(row)?;
        if let Some((_, code)) = last.filter(|(k, _)| *k == key) {
            return code;
        }
        let code = *seen.entry(key).or_insert_with(|| {
            let text = spell(row)?;
            values.push(text);
            Some(values.len() as i32 - 1)
        });
        last = Some((key, code));
        code
    });
    let keys: Int32Array = keys.collect();
    Some(Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from_iter_values(&values)))))
}

/// A text column of names that live for ever.
fn name<R>(rows: &[R], value: impl Fn(&R) -> Option<&'static str>) -> Option<ArrayRef> {
    let place = |row: &R| value(row).map(|v| (v.as_ptr(), v.len())); // equal names may stand twice: then so does the text
    text_by(rows, place, |row| value(row).map(str::to_owned))
}

/// A text column of anything.
fn text<R>(rows: &[R], value: impl Fn(&R) -> Option<String>) -> Option<ArrayRef> {
    let texts: Vec<Option<String>> = rows.iter().map(value).collect();
    let is_null = texts.iter().all(Option::is_none);
    (!is_null).then(|| Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>()) as ArrayRef)
}

/// A text column from names that many rows share.
fn shared<R>(rows: &[R], value: impl Fn(&R) -> Option<Arc<str>>) -> Option<ArrayRef> {
    text(rows, |row| value(row).map(|v| v.to_string()))
}

fn int32_list<R>(rows: &[R], value: impl Fn(&R) -> Option<&[i32]>) -> Option<ArrayRef> {
    let mut lists =
        ListBuilder::new(Int32Builder::new()).with_field(Arc::new(Field::new("element", DataType::Int32, false)));
    for row in rows {
        lists.append_option(value(row).map(|v| v.iter().copied().map(Some)));
    }
    Some(Arc::new(lists.finish()))
}

fn comm<R>(rows: &[R], value: impl Fn(&R) -> Option<[u8; 16]>) -> Option<ArrayRef> {
    text_by(rows, &value, |row| value(row).map(|c| comm_text(&c).into_owned()))
}

/// Which calls can have a value in a column; none: all.
fn families_of(column: &str) -> &'static [Family] {
    match column {
        "sem_count" | "sem_num" | "sem_op" | "sem_flags" | "sem_ops_total" | "sem_value" => &[Family::Sem],
        "address" => &[Family::Shm],
        "msg_type" | "msg_type_requested" => &[Family::Msg],
        "msg_priority" | "queue_depth" | "queue_bytes" | "queue_max_messages" | "queue_max_message_bytes" => {
            &[Family::Mq, Family::Msg]
        }
        "deadline_ns" => &[Family::Mq],
        "sig_how" | "sig_set" | "sig_set_text" | "sig_old" | "sig_after" | "disposition" => {
            &[Family::Sig, Family::Libc]
        }
        "signal" => &[Family::Sig, Family::Libc, Family::Mq],
        _ => &[],
    }
}

/// Fills the columns of `calls`, of these rows, but does not ask each for what none of its family has.
pub fn calls(rows: &[&Call]) -> impl Fn(&Frame, &str, &[&Call]) -> Option<ArrayRef> + use<> {
    let mut families: Vec<Family> = Vec::new();
    for call in rows {
        if !families.contains(&call.family()) {
            families.push(call.family());
        }
    }
    move |frame, column, rows| {
        let of = families_of(column);
        let can_tell = of.is_empty() || families.iter().any(|family| *family == Family::Ipc || of.contains(family));
        if can_tell { call_columns(frame, column, rows) } else { None }
    }
}

fn call_columns(frame: &Frame, column: &str, rows: &[&Call]) -> Option<ArrayRef> {
    match column {
        "call_id" => int64(rows, |c| Some(c.call_id)),
        "began" => name(rows, |c| Some(if c.began_before { "before_trace" } else { "in_trace" })),
        "start_ns" => int64(rows, |c| Some(frame.epoch(c.start_ns))),
        "end_ns" => int64(rows, |c| c.end_ns.map(|t| frame.epoch(t))),
        "duration_ns" => int64(rows, |c| c.end_ns.map(|t| (t - c.start_ns) as i64)),
        "outcome" => name(rows, |c| Some(c.outcome.name())),
        "syscall" => name(rows, |c| Some(c.operation())),
        "entry_point" => name(rows, |c| Some(c.entry.name)),
        "abi" => name(rows, |c| Some(c.abi.name())),
        "cpu" => int32(rows, |c| Some(i32::from(c.cpu))),
        "pid" => int32(rows, |c| Some(c.pid as i32)),
        "tid" => int32(rows, |c| Some(c.tid as i32)),
        "process_id" => int64(rows, |c| Some(c.process_id)),
        "thread_id" => int64(rows, |c| Some(c.thread_id)),
        "comm" => comm(rows, |c| Some(c.identity.comm)),
        "uid" => int64(rows, |c| c.identity.uid.map(i64::from)),
        "cgroup_id" => int64(rows, |c| c.identity.cgroup_id.map(|i| i as i64)),
        "ipc_ns" => int64(rows, |c| c.identity.ipc_ns.map(i64::from)),
        "object_kind" => name(rows, |c| c.family().object_kind()),
        "object_ref" => int64(rows, |c| c.object_ref),
        "object_id" => int64(rows, |c| c.object_id()),
        "object_name" => shared(rows, |c| c.object_name()),
        "return_value" => int64(rows, |c| c.return_value()),
        "error" => text_by(rows, |c| c.error().and(c.ret), |c| c.error().map(Into::into)),
        "restarts" => int32(rows, |c| Some(c.restarts)),
        _ => call_arguments(column, rows),
    }
}

/// The columns of `calls` that come from arguments.
fn call_arguments(column: &str, rows: &[&Call]) -> Option<ArrayRef> {
    match column {
        "key" => int32(rows, |c| c.int(Meaning::Key)),
        "created" => boolean(rows, |c| c.created),
        "flags" => int32(rows, |c| c.flags()),
        "flags_text" => {
            text_by(rows, |c| c.flags().map(|f| (c.operation(), f, c.int(Meaning::Mode))), |c| c.flags_text())
        }
        "command" => name(rows, |c| c.command()),
        "sem_count" => int32(rows, |c| c.int(Meaning::SemCount)),
        "sem_num" => int32(rows, |c| c.sem_num()),
        "sem_op" => int32(rows, |c| c.first_sop.map(|s| i32::from(s.sem_op))),
        "sem_flags" => int32(rows, |c| c.first_sop.map(|s| i32::from(s.sem_flg))),
        "sem_ops_total" => int32(rows, |c| c.sem_ops_total()),
        "sem_value" => int32(rows, |c| c.sem_value()),
        "size_bytes" => int64(rows, |c| c.argument(Meaning::Size)),
        "address" => int64(rows, |c| c.address()),
        "msg_type" => int64(rows, |c| c.msg_type()),
        "msg_type_requested" => int64(rows, |c| c.argument(Meaning::MessageType)),
        "msg_priority" => int64(rows, |c| c.msg_priority()),
        "queue_depth" => int64(rows, |c| c.queue_at_entry().map(|q| q.messages as i64)),
        "queue_bytes" => int64(rows, |c| c.queue_at_entry().map(|q| q.bytes as i64)),
        "queue_max_messages" => int64(rows, |c| c.queue_max_messages()),
        "queue_max_message_bytes" => int64(rows, |c| c.queue_max_message_bytes()),
        "timeout_ns" => int64(rows, |c| c.timeout_ns()),
        "deadline_ns" => int64(rows, |c| c.deadline_ns()),
        _ => call_signals(column, rows).or_else(|| call_waits(column, rows)),
    }
}

/// The columns of `calls` about signals.
fn call_signals(column: &str, rows: &[&Call]) -> Option<ArrayRef> {
    let set = |value: fn(&Call) -> Option<u64>| int64(rows, move |c| value(c).map(|s| s as i64));
    match column {
        "sig_how" => name(rows, |c| c.sig_how()),
        "sig_set" => set(Call::sig_set),
        "sig_set_text" => text_by(
            rows,
            |c| c.sig_set(),
            |c| {
                let mut text = String::new();
                ipc_schema::flags::write_signal_set(&mut text, c.sig_set()?).ok()?;
                Some(text)
            },
        ),
        "sig_old" => set(Call::sig_old),
        "sig_after" => set(Call::sig_after),
        "signal" => int32(rows, |c| c.signal()),
        "disposition" => name(rows, |c| c.disposition()),
        _ => None,
    }
}

/// The columns of `calls` about waits, and what is known of the call as a whole.
fn call_waits(column: &str, rows: &[&Call]) -> Option<ArrayRef> {
    let known = |c: &Call| c.wait_known && c.end_ns.is_some();
    let waker = |c: &Call| -> Option<Waker> { c.wait.as_deref()?.ended_by.as_ref()?.1.clone() };
    match column {
        "slept" => boolean(rows, |c| known(c).then_some(c.wait.is_some())),
        "wait_ns" => int64(rows, |c| c.wait_ns().map(|ns| ns as i64)),
        "wakeup_delay_ns" => int64(rows, |c| {
            let last_ns = c.wait.as_deref().filter(|_| known(c))?.last_ns;
            Some(c.end_ns?.saturating_sub(last_ns) as i64)
        }),
        "wakings" => int32(rows, |c| known(c).then(|| c.wait.as_deref().map_or(0, |w| w.wakings))),
        "wake_reason" => name(rows, |c| Some(c.wait.as_deref()?.ended_by.as_ref()?.0.name())),
        "waker_process_id" => int64(rows, |c| Some(waker(c)?.process_id)),
        "waker_thread_id" => int64(rows, |c| Some(waker(c)?.thread_id)),
        "waker_call_id" => int64(rows, |c| waker(c)?.call_id),
        "waker_comm" => comm(rows, |c| Some(waker(c)?.comm)),
        "waker_syscall" => name(rows, |c| waker(c)?.operation),
        "stack_id" => int64(rows, |c| c.stack_id),
        "args_changed" => boolean(rows, |c| c.args_changed),
        _ => None,
    }
}

/// One operation of a call, with its place in it.
pub struct SemOp {
    call_id: i64,
    position: i32,
    operation: Sembuf,
}

/// The operations of calls with more than one.
pub fn sem_op_rows(calls: &[&Call]) -> Vec<SemOp> {
    let of_call = |c: &&Call| {
        let call_id = c.call_id;
        let operations: Vec<_> = c.sops.iter().copied().enumerate().collect();
        operations.into_iter().map(move |(i, operation)| SemOp { call_id, position: i as i32, operation })
    };
    calls.iter().filter(|c| !c.sops.is_empty()).flat_map(of_call).collect()
}

/// Fills the columns of `sem_ops`.
pub fn sem_ops(_: &Frame, column: &str, rows: &[SemOp]) -> Option<ArrayRef> {
    match column {
        "call_id" => int64(rows, |o| Some(o.call_id)),
        "position" => int32(rows, |o| Some(o.position)),
        "sem_num" => int32(rows, |o| Some(i32::from(o.operation.sem_num))),
        "sem_op" => int32(rows, |o| Some(i32::from(o.operation.sem_op))),
        "sem_flags" => int32(rows, |o| Some(i32::from(o.operation.sem_flg))),
        _ => None,
    }
}

/// Fills the columns of `processes`.
pub fn processes(frame: &Frame, column: &str, rows: &[Process]) -> Option<ArrayRef> {
    match column {
        "process_id" => int64(rows, |p| Some(p.process_id)),
        "pid" => int32(rows, |p| Some(p.pid as i32)),
        "ns_pid" => int32(rows, |p| p.ns_pid),
        "start_ns" => int64(rows, |p| p.start.ns().map(|t| frame.epoch(t))),
        "parent_process_id" => int64(rows, |p| p.parent_process_id),
        "comm" => comm(rows, |p| p.comm),
        "exe" => text(rows, |p| p.exe.clone()),
        "cmdline" => text(rows, |p| p.cmdline.clone()),
        "uid" => int64(rows, |p| p.uid.map(i64::from)),
        "cgroup" => text(rows, |p| p.cgroup.clone()),
        "container_id" => text(rows, |p| container_id(p.cgroup.as_deref()?)),
        "ipc_ns" => int64(rows, |p| p.ipc_ns.map(i64::from)),
        "exit_ns" => int64(rows, |p| p.exit_ns.map(|t| frame.epoch(t))),
        "exit_code" => int32(rows, |p| p.exit_code),
        _ => None,
    }
}

/// The 64 hexadecimal digits by which Docker, containerd, CRI-O and Podman name a container's cgroup.
fn container_id(cgroup: &str) -> Option<String> {
    let is_id = |p: &&str| p.len() == 64 && p.bytes().all(|b| b.is_ascii_hexdigit());
    cgroup.split(['/', '-', '.', ':']).rfind(is_id).map(str::to_owned)
}

/// Fills the columns of `threads`.
pub fn threads(frame: &Frame, column: &str, rows: &[Thread]) -> Option<ArrayRef> {
    match column {
        "thread_id" => int64(rows, |t| Some(t.thread_id)),
        "process_id" => int64(rows, |t| Some(t.process_id)),
        "tid" => int32(rows, |t| Some(t.tid as i32)),
        "comm" => comm(rows, |t| Some(t.identity.comm).filter(|c| c[0] != 0)),
        "ns_tid" => int32(rows, |t| t.ns_tid),
        "start_ns" => int64(rows, |t| t.start.ns().map(|s| frame.epoch(s))),
        "exit_ns" => int64(rows, |t| t.exit_ns.map(|s| frame.epoch(s))),
        "parent_thread_id" => int64(rows, |t| t.parent_thread_id),
        "clone_flags" => int64(rows, |t| t.clone_flags.map(|f| f as i64)),
        "mask_at_start" => int64(rows, |t| t.signals.blocked.map(|s| s as i64)),
        "pending_at_start" => int64(rows, |t| t.signals.pending.map(|s| s as i64)),
        "ignored_at_start" => int64(rows, |t| t.signals.ignored.map(|s| s as i64)),
        _ => None,
    }
}

/// Fills the columns of `execs`.
pub fn executions(frame: &Frame, column: &str, rows: &[Execution]) -> Option<ArrayRef> {
    match column {
        "process_id" => int64(rows, |e| Some(e.process_id)),
        "exec_ns" => int64(rows, |e| Some(frame.epoch(e.exec_ns))),
        "comm" => comm(rows, |e| Some(e.comm)),
        "exe" => text(rows, |e| e.exe.clone()),
        _ => None,
    }
}

/// Fills the columns of `lifetimes`.
pub fn lifetimes(frame: &Frame, column: &str, rows: &[Lifetime]) -> Option<ArrayRef> {
    match column {
        "object_ref" => int64(rows, |l| Some(l.object_ref)),
        "ipc_ns" => int64(rows, |l| Some(i64::from(l.identity.ipc_ns)).filter(|n| *n != 0)),
        "object_kind" => name(rows, |l| l.identity.family.object_kind()),
        "object_id" => int64(rows, |l| Some(l.identity.id)),
        "key" => int32(rows, |l| l.key),
        "name" => shared(rows, |l| l.name.clone()),
        "created_ns" => int64(rows, |l| l.created.map(|d| frame.epoch(d.time_ns))),
        "created_by_process_id" => int64(rows, |l| l.created.map(|d| d.process_id)),
        "created_call_id" => int64(rows, |l| l.created.map(|d| d.call_id)),
        "removed_ns" => int64(rows, |l| l.removed.map(|d| frame.epoch(d.time_ns))),
        "removed_by_process_id" => int64(rows, |l| l.removed.map(|d| d.process_id)),
        "removed_call_id" => int64(rows, |l| l.removed.map(|d| d.call_id)),
        "how_known" => name(rows, |l| Some(l.how_known.name())),
        _ => None,
    }
}

/// Fills the columns of `objects`.
pub fn objects(frame: &Frame, column: &str, rows: &[ObjectRow]) -> Option<ArrayRef> {
    match column {
        "snapshot_ns" => int64(rows, |r| Some(frame.epoch(r.time_ns))),
        "phase" => name(rows, |r| Some(r.phase.name())),
        "object_ref" => int64(rows, |r| Some(r.object_ref)),
        "ipc_ns" => int64(rows, |r| Some(i64::from(r.ipc_ns))),
        "object_kind" => name(rows, |r| Some(r.object.object_kind.name())),
        "object_id" => int64(rows, |r| Some(r.object.object_id)),
        "key" => int32(rows, |r| r.object.key),
        "name" => text(rows, |r| r.object.name.clone()),
        "owner_uid" => int64(rows, |r| r.object.owner_uid),
        "creator_uid" => int64(rows, |r| r.object.creator_uid),
        "mode" => int32(rows, |r| r.object.mode),
        "change_ns" => int64(rows, |r| r.object.change_ns),
        "use_ns" => int64(rows, |r| r.object.use_ns),
        "creator_pid" => int32(rows, |r| r.object.creator_pid),
        "last_send_pid" => int32(rows, |r| r.object.last_send_pid),
        "last_receive_pid" => int32(rows, |r| r.object.last_receive_pid),
        "attach_count" => int64(rows, |r| r.object.attach_count),
        "removed_pending" => boolean(rows, |r| r.object.removed_pending),
        "size_bytes" => int64(rows, |r| r.object.size_bytes),
        "messages" => int64(rows, |r| r.object.messages),
        "queued_bytes" => int64(rows, |r| r.object.queued_bytes),
        "max_bytes" => int64(rows, |r| r.object.max_bytes),
        "max_messages" => int64(rows, |r| r.object.max_messages),
        "max_message_bytes" => int64(rows, |r| r.object.max_message_bytes),
        "sem_count" => int32(rows, |r| r.object.sem_count),
        "sem_values" => int32_list(rows, |r| r.object.sem_values.as_deref()),
        "sem_waiters" => int32_list(rows, |r| r.object.sem_waiters.as_deref()),
        "sem_last_pids" => int32_list(rows, |r| r.object.sem_last_pids.as_deref()),
        _ => None,
    }
}

/// Fills the columns of `queued`.
pub fn queued(frame: &Frame, column: &str, rows: &[QueuedRow]) -> Option<ArrayRef> {
    match column {
        "snapshot_ns" => int64(rows, |r| Some(frame.epoch(r.time_ns))),
        "object_ref" => int64(rows, |r| Some(r.object_ref)),
        "position" => int32(rows, |r| Some(r.queued.position)),
        "msg_type" => int64(rows, |r| r.queued.msg_type),
        "size_bytes" => int64(rows, |r| r.queued.size_bytes),
        "how_known" => name(rows, |_| Some("snapshot")),
        _ => None,
    }
}

/// Fills the columns of `limits`.
pub fn limits(frame: &Frame, column: &str, rows: &[LimitRow]) -> Option<ArrayRef> {
    match column {
        "snapshot_ns" => int64(rows, |r| Some(frame.epoch(r.time_ns))),
        "phase" => name(rows, |r| Some(r.phase.name())),
        "ipc_ns" => int64(rows, |r| r.ipc_ns.map(i64::from)),
        "process_id" => int64(rows, |r| r.process_id),
        "uid" => int64(rows, |r| r.limit.uid),
        "name" => text(rows, |r| Some(r.limit.name.clone())),
        "value" => int64(rows, |r| Some(r.limit.value)),
        "in_use" => int64(rows, |r| r.limit.in_use),
        "how_known" => name(rows, |r| Some(r.limit.how_known.name())),
        _ => None,
    }
}

/// Fills the columns of `signals`.
pub fn signals(frame: &Frame, column: &str, rows: &[SignalRow]) -> Option<ArrayRef> {
    match column {
        "time_ns" => int64(rows, |s| Some(frame.epoch(s.time_ns))),
        "event" => name(rows, |s| Some(s.event)),
        "signal" => int32(rows, |s| Some(s.signal)),
        "sender_process_id" => int64(rows, |s| s.sender_process_id),
        "target_process_id" => int64(rows, |s| Some(s.target_process_id)),
        "target_thread_id" => int64(rows, |s| s.target_thread_id),
        "result" => name(rows, |s| s.result),
        _ => None,
    }
}

/// Fills the columns of `stacks`.
pub fn stacks(_: &Frame, column: &str, rows: &[StackRow]) -> Option<ArrayRef> {
    let hexadecimal = |r: &StackRow| Some(r.build_id?.iter().map(|b| format!("{b:02x}")).collect());
    match column {
        "stack_id" => int64(rows, |r| Some(r.stack_id)),
        "frame" => int32(rows, |r| Some(r.frame)),
        "build_id" => text_by(rows, |r| r.build_id, hexadecimal),
        "offset" => int64(rows, |r| r.offset.map(|o| o as i64)),
        "module" => shared(rows, |r| r.module.clone()),
        "symbol" => shared(rows, |r| r.symbol.clone()),
        _ => None,
    }
}

/// Fills the columns of `losses`.
pub fn losses(frame: &Frame, column: &str, rows: &[Loss]) -> Option<ArrayRef> {
    match column {
        "from_ns" => int64(rows, |l| Some(frame.epoch(l.from_ns))),
        "to_ns" => int64(rows, |l| Some(frame.epoch(l.to_ns))),
        "source" => name(rows, |l| Some(l.source.name)),
        "cpu" => int32(rows, |l| l.cpu.map(i32::from)),
        "count" => int64(rows, |l| l.count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::call::Outcome;
    use crate::copies::Copies;
    use arrow::array::{Array, AsArray};
    use ipc_schema::catalogue::{Abi, CATALOGUE};
    use ipc_schema::tables;

    fn call(name: &str, arguments: [u64; 6], ret: i64) -> Call {
        let entry = CATALOGUE.iter().find(|e| e.name == name).unwrap();
        let mut call = Call::begun(7, 1_000, entry, Abi::X86_64, arguments);
        call.end_ns = Some(2_500);
        call.outcome = if ret < 0 { Outcome::Error } else { Outcome::Ok };
        call.identity.comm = *b"worker\0\0\0\0\0\0\0\0\0\0";
        call.ret = Some(ret);
        call
    }

    fn batch(rows: &[Call]) -> RecordBatch {
        let rows: &[&Call] = &rows.iter().collect::<Vec<_>>();
        let frame = Frame { trace_id: "t".into(), clock_offset_ns: 1_000_000 };
        compact::complete(&tables::CALLS, &frame.batch(&tables::CALLS, rows, calls(rows)).unwrap()).unwrap()
    }

    fn text_of(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
        let array =
            arrow::compute::cast(batch.column_by_name(column).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
        array.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
    }

    #[test]
    fn arguments_find_their_columns() {
        let batch = batch(&[
            call("semget", [5, 3, 0o3600, 0, 0, 0], 17),
            call("semget", [0, 3, 0o600, 0, 0, 0], -28),
            call("shmctl", [9, 0x100, 0, 0, 0, 0], 0),
        ]);
        assert_eq!(text_of(&batch, "flags_text"), [Some("IPC_CREAT|IPC_EXCL|0600".into()), Some("0600".into()), None]);
        assert_eq!(text_of(&batch, "error"), [None, Some("ENOSPC".into()), None]);
        assert_eq!(text_of(&batch, "command"), [None, None, Some("IPC_RMID".into())]);
        let id = batch.column_by_name("object_id").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
        assert_eq!((id.value(0), id.is_null(1), id.value(2)), (17, true, 9));
    }

    /// Calls through every entry point, with every argument and everything that can be copied, that ended in every way.
    fn everything() -> Vec<Call> {
        let small = ipc_schema::wire::Small { valid: u32::MAX >> 16, blocked: 5, ..bytemuck::Zeroable::zeroed() };
        let small = ipc_schema::wire::Small { a: [1; _], b: [1; _], ..small };
        let queue = ipc_schema::wire::Queue {
            small,
            inode: 1,
            messages: 2,
            bytes: 3,
            max_messages: 4,
            max_message_bytes: 5,
            ipc_ns: 6,
            padding: 0,
        };
        let copies = |family| {
            let queue = matches!(family, Family::Mq | Family::Msg).then_some(queue); // what others have is no queue
            Copies { before: Some(small), after: Some(small), queue, name: Some("name".into()) }
        };
        let mut calls = Vec::new();
        for entry in CATALOGUE.iter().filter(|entry| entry.family != Family::Ipc) {
            for (abi, ret, argument) in [Abi::X86_64, Abi::I386].into_iter().flat_map(|abi| {
                [0, 1, -11].into_iter().flat_map(move |ret| (1..20).map(move |argument| (abi, ret, argument)))
            }) {
                let mut call = Call::begun(7, 1_000, entry, abi, [argument; 6]);
                (call.end_ns, call.ret) = (Some(2_500), Some(ret));
                call.outcome = if ret < 0 { Outcome::Error } else { Outcome::Ok };
                call.copies = Some(Box::new(copies(entry.family)));
                calls.push(call);
            }
        }
        calls
    }

    #[test]
    fn no_call_is_not_asked_for_what_it_has() {
        let frame = Frame { trace_id: "t".into(), clock_offset_ns: 0 };
        let calls_of_all = everything();
        let mut told = 0;
        for call in &calls_of_all {
            let call = &[call];
            for column in tables::CALLS.columns {
                let all = call_columns(&frame, column.name, call);
                told += usize::from(all.is_some() && !families_of(column.name).is_empty());
                let asked = calls(call)(&frame, column.name, call);
                assert_eq!(asked.is_some(), all.is_some(), "{} of {}", column.name, call[0].entry.name);
            }
        }
        assert!(told > 1_000, "{told} values in columns of some families");
    }

    #[test]
    fn instants_have_twins() {
        let batch = batch(&[call("semget", [0; 6], 1)]);
        let ns = batch.column_by_name("end_ns").unwrap().as_primitive::<arrow::datatypes::Int64Type>().value(0);
        let twin =
            batch.column_by_name("end_time").unwrap().as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!((ns, twin.value(0)), (1_002_500, 1_002));
    }

    #[test]
    fn every_table_can_be_empty() {
        let frame = Frame { trace_id: "t".into(), clock_offset_ns: 0 };
        for table in tables::TABLES {
            let rows = frame.batch::<()>(table, &[], |_, _, _| None).unwrap();
            assert_eq!(compact::complete(table, &rows).unwrap().num_rows(), 0, "{}", table.name);
        }
    }

    #[test]
    fn a_container_is_found_in_its_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(container_id(&format!("/system.slice/docker-{id}.scope")), Some(id.clone()));
        assert_eq!(container_id(&format!("/kubepods/pod1/{id}")), Some(id));
        assert_eq!(container_id("/user.slice/user-0.slice"), None);
    }
}
