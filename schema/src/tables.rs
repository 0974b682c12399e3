//! Every table of a trace and every column, declared once: the Parquet schema, the page `docs/format.md` and the checks
//! of the reader derive from here.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed 64-bit integer.
    Int64,
    /// A signed 32-bit integer.
    Int32,
    /// True or false.
    Boolean,
    /// UTF-8, dictionary-encoded.
    Text,
    /// A point in time: an Int64 `*_ns` (nanoseconds since the epoch) *and* its twin `*_time`
    /// (Timestamp(µs, UTC)), because Spark refuses nanosecond timestamps and DuckDB before 2 truncates them.
    Instant,
    /// A list of signed 32-bit integers.
    Int32List,
}

/// How the values of a column reach the disk; chosen by measuring, see `docs/decisions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RLE_DICTIONARY with a fallback to PLAIN.
    Dictionary,
    /// DELTA_BINARY_PACKED: for values that rise.
    Delta,
}

/// What `ipc-recorder pack --redact` makes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redaction {
    /// It stays as it is: numbers, times, and words of the format.
    Plain,
    /// Each word, or part of a path, becomes a pseudonym.
    Names,
    /// JSON: names and paths in it become pseudonyms.
    Json,
    /// `function+0xOFFSET`: the function becomes a pseudonym.
    Symbol,
    /// A System V key becomes another, and IPC_PRIVATE stays.
    Key,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The name in the file; of an instant the `*_ns` name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether NULL is allowed: NULL means absent or unknown, never a special number.
    pub nullable: bool,
    /// How it is encoded.
    pub encoding: Encoding,
    /// What becomes of it when a trace is given away.
    pub redaction: Redaction,
    /// What it means, with its unit.
    pub doc: &'static str,
}

/// One table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The name: of the folder too.
    pub name: &'static str,
    /// What a row is.
    pub doc: &'static str,
    /// The column by which the rows of a part rise, if any (an instant by its `*_ns` name); NULLs last.
    pub sorted_by: Option<&'static str>,
    /// The columns, in order.
    pub columns: &'static [Column],
}

impl Table {
    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// The table with this name.
pub fn by_name(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|t| t.name == name)
}

/// The name of an instant's twin: `start_ns` → `start_time`, `time_ns` → `time`.
#[cfg(feature = "arrow")]
pub fn twin(name: &str) -> String {
    match name.strip_suffix("_ns").unwrap_or(name) {
        "time" => "time".to_owned(),
        stem => format!("{stem}_time"),
    }
}

macro_rules! one {
    ($name:ident $kind:ident $doc:literal) => {
        one!(@ $name $kind false Dictionary (undecided!($kind)) $doc)
    };
    ($name:ident $kind:ident ? $doc:literal) => {
        one!(@ $name $kind true Dictionary (undecided!($kind)) $doc)
    };
    ($name:ident $kind:ident delta $doc:literal) => {
        one!(@ $name $kind false Delta (undecided!($kind)) $doc)
    };
    ($name:ident $kind:ident ? delta $doc:literal) => {
        one!(@ $name $kind true Delta (undecided!($kind)) $doc)
    };
    ($name:ident $kind:ident $redaction:ident $doc:literal) => {
        one!(@ $name $kind false Dictionary (redaction!($redaction)) $doc)
    };
    ($name:ident $kind:ident ? $redaction:ident $doc:literal) => {
        one!(@ $name $kind true Dictionary (redaction!($redaction)) $doc)
    };
    (@ $name:ident $kind:ident $nullable:literal $encoding:ident ($redaction:expr) $doc:literal) => {
        Column {
            name: stringify!($name),
            kind: Kind::$kind,
            nullable: $nullable,
            encoding: Encoding::$encoding,
            redaction: $redaction,
            doc: $doc,
        }
    };
}

// Numbers stay as they are unless said otherwise. Of text it must be said.
macro_rules! undecided {
    (Text) => {
        compile_error!("a column of text says what becomes of it under --redact: plain, names, json or symbol")
    };
    ($kind:ident) => {
        Redaction::Plain
    };
}

macro_rules! redaction {
    (plain) => {
        Redaction::Plain
    };
    (names) => {
        Redaction::Names
    };
    (json) => {
        Redaction::Json
    };
    (symbol) => {
        Redaction::Symbol
    };
    (key) => {
        Redaction::Key
    };
}

// NAME KIND [?] [delta] [REDACTION] "meaning"; a question mark allows NULL.
macro_rules! table {
    ($constant:ident $name:literal $sorted_by:expr, $doc:literal { $([$($column:tt)*])* }) => {
        #[doc = $doc]
        pub const $constant: Table = Table {
            name: $name,
            doc: $doc,
            sorted_by: $sorted_by,
            columns: &[one!(trace_id Text plain "the trace: ids are unique in one trace only"), $(one!($($column)*)),*],
        };
    };
}

/// Every table, in the order of the documentation.
pub const TABLES: &[&Table] = &[
    &SESSION, &CALLS, &SEM_OPS, &PROCESSES, &EXECS, &THREADS, &OBJECTS, &LIFETIMES, &QUEUED, &LIMITS, &SIGNALS,
    &LOSSES, &STACKS,
];

table!(
    SESSION "session" None,
    "One row: the recording itself." {
    [format_version Int32 "version of the trace format"]
    [recorder_version Text plain "version of ipc-recorder"]
    [host Text names "host name"]
    [kernel Text plain "kernel release and version"]
    [arch Text plain "machine architecture"]
    [boot_id Text ? names "boot id of the host"]
    [command Text ? names "the command that was recorded, if any"]
    [trigger Text ? plain "of a flight recorder: what the trace was written for"]
    [start_ns Instant "the probes were live"]
    [end_ns Instant "the probes were detached"]
    [clock_offset_ns Int64 "what was added to the boot clock to make instants, nanoseconds"]
    [clock_samples Text plain "JSON: [{\"boot_ns\", \"epoch_ns\"}…], nanoseconds, at start and end"]
    [filters Text json "JSON: what was asked to be kept"]
    [attach Text json "JSON: each hook with the way it was attached and, for a fallback, the reason"]
    [missing Text json "JSON: what privilege or kernel withheld: [{\"feature\", \"reason\", \"remedy\"}…]"]
    [calls Int64 "rows in `calls`"]
    [dropped Text ? plain "JSON: calls that each filter left out: [{\"filter\", \"calls\"}…]"]
    [lost_calls Int64 "calls performed but not recorded"]
    [lost_records Int64 "context, fork, exec and exit records lost: they cost names, not calls"]
    [late_records Int64 "records that arrived behind the reorder window"]
    }
);

table!(
    CALLS "calls" Some("end_ns"),
    "One row per call, in the order of their ends; open calls last." {
    [call_id Int64 delta "unique in the trace"]
    [began Text plain "in_trace; before_trace: start is then when it was found, a bound"]
    [start_ns Instant delta "entry"]
    [end_ns Instant ? delta "exit; NULL: still open; killed: the death"]
    [duration_ns Int64 ? "end - start, nanoseconds"]
    [outcome Text plain "ok, error, open, killed"]
    [syscall Text plain "the operation, whatever way it came in"]
    [entry_point Text plain "the kernel entry: semtimedop, ipc, mq_timedreceive_time32…; with --libc the library function"]
    [abi Text plain "x86_64, i386"]
    [cpu Int32 "CPU at entry"]
    [pid Int32 "process id, host pid namespace"]
    [tid Int32 "thread id, host pid namespace"]
    [process_id Int64 "joins processes, safe under pid reuse"]
    [thread_id Int64 "joins threads, safe under tid reuse"]
    [comm Text names "thread name at the call"]
    [uid Int64 ? "user id at the call"]
    [cgroup_id Int64 ? "cgroup v2 id at the call"]
    [ipc_ns Int64 ? "inode of the IPC namespace"]
    [object_kind Text ? plain "sem, shm, msg, mq"]
    [object_ref Int64 ? "one lifetime of one object"]
    [object_id Int64 ? "semid, shmid, msqid; inode of a POSIX queue"]
    [object_name Text ? names "name of a POSIX queue"]
    [key Int32 ? key "System V key"]
    [created Boolean ? "this get or open made the object"]
    [flags Int32 ? "raw flags"]
    [flags_text Text ? plain "IPC_CREAT|IPC_EXCL|0600"]
    [command Text ? plain "IPC_RMID…"]
    [return_value Int64 ? "what user space saw: -1 on error"]
    [error Text ? plain "errno name"]
    [restarts Int32 ? "how often the kernel restarted the call; the pieces are one row"]
    [sem_count Int32 ? "nsems"]
    [sem_num Int32 ? "first operation: semaphore"]
    [sem_op Int32 ? "first operation: what is added"]
    [sem_flags Int32 ? "first operation: IPC_NOWAIT 2048, SEM_UNDO 4096"]
    [sem_value Int32 ? "semctl: the value that SETVAL set or GETVAL returned"]
    [sem_ops_total Int32 ? "how many operations; all of a longer call stand in sem_ops"]
    [size_bytes Int64 ? "requested size, bytes"]
    [address Int64 ? "attach address"]
    [msg_type Int64 ? "type of the message moved"]
    [msg_type_requested Int64 ? "msgrcv's argument"]
    [msg_priority Int64 ? "priority of the message moved"]
    [queue_depth Int64 ? "POSIX queues: messages in it at entry"]
    [queue_bytes Int64 ? "POSIX queues: their bytes at entry"]
    [queue_max_messages Int64 ? "POSIX queues: how many it takes"]
    [queue_max_message_bytes Int64 ? "POSIX queues: how long they may be, bytes"]
    [timeout_ns Int64 ? "relative, nanoseconds"]
    [deadline_ns Instant ? "absolute; of the wall clock"]
    [sig_how Text ? plain "SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK"]
    [sig_set Int64 ? "the set given (sigaction: sa_mask; sigaddset, sigdelset: before) or, by sigpending, returned; bit n-1 = signal n"]
    [sig_set_text Text ? plain "the same as names"]
    [sig_old Int64 ? "sigprocmask, sigsuspend: the mask before; bit n-1 = signal n"]
    [sig_after Int64 ? "sigprocmask: the mask after; bit n-1 = signal n"]
    [signal Int32 ? "signal number: the argument, what sigtimedwait consumed, what mq_notify asks for"]
    [disposition Text ? plain "default, ignore, handler"]
    [slept Boolean ? "whether the call slept"]
    [wait_ns Int64 ? "entry to last waking, nanoseconds; 0: did not sleep; NULL: unknown"]
    [wakeup_delay_ns Int64 ? "last waking to exit, nanoseconds"]
    [wakings Int32 ? "how often it was woken"]
    [wake_reason Text ? plain "peer, removed, exit, signal, timeout, unknown"]
    [waker_process_id Int64 ? "who ended the wait"]
    [waker_thread_id Int64 ? "who ended the wait"]
    [waker_call_id Int64 ? "in which call"]
    [waker_comm Text ? names "thread name of the waker"]
    [waker_syscall Text ? plain "operation of the waker's call"]
    [args_changed Boolean ? "user memory differed between entry and exit"]
    [stack_id Int64 ? "joins stacks"]
    }
);

table!(
    SEM_OPS "sem_ops" None,
    "One row per operation of a semaphore call with more than one." {
    [call_id Int64 delta "joins calls"]
    [position Int32 "0 for the first"]
    [sem_num Int32 "semaphore in the set"]
    [sem_op Int32 "what is added; 0 waits for zero"]
    [sem_flags Int32 "IPC_NOWAIT 2048, SEM_UNDO 4096"]
    }
);

table!(
    PROCESSES "processes" None,
    "One row per process that the trace saw." {
    [process_id Int64 "unique in the trace"]
    [pid Int32 "host pid namespace"]
    [ns_pid Int32 ? "in its own pid namespace"]
    [start_ns Instant ? "its start; NULL: unknown"]
    [parent_process_id Int64 ? "NULL: not seen"]
    [comm Text ? names "name of its leader, the last one seen"]
    [exe Text ? names "path of its program"]
    [cmdline Text ? names "its arguments; only with --cmdline, for they may hold secrets"]
    [uid Int64 ? "user id, the last one seen"]
    [cgroup Text ? names "cgroup v2 path"]
    [container_id Text ? names "from the cgroup path"]
    [ipc_ns Int64 ? "inode of the IPC namespace"]
    [exit_ns Instant ? "its end; NULL: still there, or unknown"]
    [exit_code Int32 ? "as wait(2) reports it: low 7 bits the signal, else code << 8"]
    }
);

table!(
    EXECS "execs" None,
    "One row per execve that the trace saw." {
    [process_id Int64 "joins processes"]
    [exec_ns Instant "when"]
    [comm Text names "the new name"]
    [exe Text ? names "the new program"]
    }
);

table!(
    THREADS "threads" None,
    "One row per thread that the trace saw." {
    [thread_id Int64 "unique in the trace"]
    [process_id Int64 "joins processes"]
    [tid Int32 "host pid namespace"]
    [ns_tid Int32 ? "in its own pid namespace"]
    [comm Text ? names "its name, the last one seen"]
    [start_ns Instant ? "its start; NULL: unknown"]
    [exit_ns Instant ? "its end; NULL: still there, or unknown"]
    [parent_thread_id Int64 ? "who created it"]
    [clone_flags Int64 ? "flags of clone(2)"]
    [mask_at_start Int64 ? "blocked signals; bit n-1 = signal n"]
    [pending_at_start Int64 ? "pending signals"]
    [ignored_at_start Int64 ? "ignored signals"]
    }
);

table!(
    OBJECTS "objects" None,
    "One row per object and snapshot." {
    [snapshot_ns Instant "when"]
    [phase Text plain "start, periodic, failure, end"]
    [object_ref Int64 "one lifetime of one object"]
    [ipc_ns Int64 "inode of the IPC namespace"]
    [object_kind Text plain "sem, shm, msg, mq"]
    [object_id Int64 "semid, shmid, msqid; inode of a POSIX queue"]
    [key Int32 ? key "System V key"]
    [name Text ? names "name of a POSIX queue"]
    [owner_uid Int64 ? "owner"]
    [creator_uid Int64 ? "creator"]
    [mode Int32 ? "permission bits"]
    [change_ns Instant ? "last change by semctl, shmctl, msgctl; the wall clock of then, in seconds"]
    [use_ns Instant ? "last use; the wall clock of then, in seconds"]
    [creator_pid Int32 ? "segments only: the kernel keeps none for the others"]
    [last_send_pid Int32 ? "queues"]
    [last_receive_pid Int32 ? "queues"]
    [attach_count Int64 ? "segments"]
    [removed_pending Boolean ? "removed, but still attached"]
    [size_bytes Int64 ? "segments, bytes"]
    [messages Int64 ? "queues"]
    [queued_bytes Int64 ? "queues, bytes"]
    [max_bytes Int64 ? "queues, bytes"]
    [max_messages Int64 ? "POSIX queues"]
    [max_message_bytes Int64 ? "POSIX queues, bytes"]
    [sem_count Int32 ? "semaphores in the set"]
    [sem_values Int32List ? "value of each semaphore"]
    [sem_waiters Int32List ? "waiters of each semaphore"]
    [sem_last_pids Int32List ? "last modifier of each semaphore"]
    }
);

table!(
    LIFETIMES "lifetimes" None,
    "One row per lifetime of an object." {
    [object_ref Int64 "unique in the trace"]
    [ipc_ns Int64 ? "inode of the IPC namespace"]
    [object_kind Text plain "sem, shm, msg, mq"]
    [object_id Int64 "semid, shmid, msqid; inode of a POSIX queue"]
    [key Int32 ? key "System V key"]
    [name Text ? names "name of a POSIX queue"]
    [created_ns Instant ? "NULL: before the trace, or unknown"]
    [created_by_process_id Int64 ? "joins processes"]
    [created_call_id Int64 ? "joins calls"]
    [removed_ns Instant ? "NULL: still there, or unknown"]
    [removed_by_process_id Int64 ? "joins processes"]
    [removed_call_id Int64 ? "joins calls"]
    [how_known Text plain "seen, snapshot, inferred"]
    }
);

table!(
    QUEUED "queued" None,
    "One row per message that a snapshot found in a queue." {
    [snapshot_ns Instant "when"]
    [object_ref Int64 "joins lifetimes"]
    [position Int32 "0 is the oldest"]
    [msg_type Int64 ? "type"]
    [size_bytes Int64 ? "size, bytes"]
    [how_known Text plain "seen, snapshot, inferred"]
    }
);

table!(
    LIMITS "limits" None,
    "One row per limit and snapshot." {
    [snapshot_ns Instant "when"]
    [phase Text plain "start, periodic, failure, end"]
    [ipc_ns Int64 ? "inode of the IPC namespace"]
    [process_id Int64 ? "limits of a process"]
    [uid Int64 ? "limits of a user"]
    [name Text plain "SEMMNI, SHMALL, MSGMNB, queues_max…"]
    [value Int64 "the limit"]
    [in_use Int64 ? "its usage then"]
    [how_known Text plain "seen, snapshot, inferred"]
    }
);

table!(
    SIGNALS "signals" None,
    "One row per signal generated or delivered." {
    [time_ns Instant "when"]
    [event Text plain "generate, deliver"]
    [signal Int32 "number"]
    [sender_process_id Int64 ? "joins processes"]
    [target_process_id Int64 "joins processes"]
    [target_thread_id Int64 ? "joins threads; NULL: sent to the process"]
    [result Text ? plain "generate: delivered, ignored, pending, overflow, lose_info; deliver: default, ignore, handler"]
    }
);

table!(
    LOSSES "losses" None,
    "One row per place in time where something was lost." {
    [from_ns Instant "before it"]
    [to_ns Instant "after it"]
    [source Text plain "how; see the sources below"]
    [cpu Int32 ? "NULL: not of one CPU"]
    [count Int64 ? "how many; NULL: unknown"]
    }
);

table!(
    STACKS "stacks" None,
    "One row per frame of a distinct user stack, found by frame pointers; it ends where they do, or after 32 frames." {
    [stack_id Int64 "joins calls"]
    [frame Int32 "0 is the innermost"]
    [build_id Text ? names "of the binary, 20 bytes, zero-padded; NULL: code without one, only known for frame 0"]
    [offset Int64 ? "in the binary's file; of outer frames where the call returns to"]
    [module Text ? names "path of the binary; NULL: not found by its build id"]
    [symbol Text ? symbol "function+0xOFFSET; NULL: not found, or the trace is of a flight recorder or a recorder that was killed"]
    }
);

/// The Arrow schemas of the tables.
#[cfg(feature = "arrow")]
pub mod arrow_schema {
    use super::{Column, Kind, Table};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use std::sync::Arc;

    /// The Arrow fields of a column: one, or two for an instant.
    pub fn fields(column: &Column) -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, column.nullable);
        match column.kind {
            Kind::Int64 => vec![field(column.name, DataType::Int64)],
            Kind::Int32 => vec![field(column.name, DataType::Int32)],
            Kind::Boolean => vec![field(column.name, DataType::Boolean)],
            Kind::Text => vec![field(column.name, text())],
            Kind::Instant => vec![field(column.name, DataType::Int64), field(&super::twin(column.name), time())],
            Kind::Int32List => {
                vec![field(column.name, DataType::List(Arc::new(Field::new("element", DataType::Int32, false))))]
            }
        }
    }

    /// The Arrow type of a text column in memory; the file holds plain UTF-8 with dictionary pages.
    pub fn text() -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }

    /// The Arrow type of an instant's twin.
    pub fn time() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    /// The Arrow schema of a table, as it is in memory.
    pub fn schema(table: &Table) -> Schema {
        Schema::new(table.columns.iter().flat_map(fields).collect::<Vec<_>>())
    }
}
