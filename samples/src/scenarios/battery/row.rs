//! What one row of `calls` must hold.

use serde_json::{Map, Value};

/// The columns that the battery speaks of. A column that does not belong to an operation must be NULL in its rows.
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
    "sem_ops",
    "size_bytes",
    "address",
    "msg_type",
    "msg_type_requested",
    "msg_priority",
    "queue_depth",
    "queue_bytes",
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

/// The columns that belong to an operation, and so may hold a value.
fn belonging(operation: &str) -> &'static str {
    match operation {
        "semget" => "object_id key created flags flags_text sem_count",
        "semop" => "object_id key sem_num sem_op sem_flags sem_ops_total sem_ops",
        "semtimedop" => "object_id key sem_num sem_op sem_flags sem_ops_total sem_ops timeout_ns",
        "semctl" => "object_id key command sem_num sem_value",
        "shmget" => "object_id key created flags flags_text size_bytes",
        "shmat" => "object_id key flags flags_text address",
        "shmdt" => "object_id key address",
        "shmctl" | "msgctl" => "object_id key command",
        "msgget" => "object_id key created flags flags_text",
        "msgsnd" => "object_id key flags flags_text size_bytes msg_type queue_depth queue_bytes",
        "msgrcv" => "object_id key flags flags_text size_bytes msg_type msg_type_requested queue_depth queue_bytes",
        "mq_open" => {
            "object_id object_name created flags flags_text queue_depth queue_bytes queue_max_messages \
             queue_max_message_bytes"
        }
        "mq_unlink" => "object_id object_name",
        "mq_timedsend" | "mq_timedreceive" => {
            "object_id object_name size_bytes msg_priority queue_depth queue_bytes queue_max_messages \
             queue_max_message_bytes deadline_ns"
        }
        "mq_notify" => {
            "object_id object_name signal queue_depth queue_bytes queue_max_messages queue_max_message_bytes"
        }
        "mq_getsetattr" => {
            "object_id object_name flags flags_text queue_depth queue_bytes queue_max_messages queue_max_message_bytes"
        }
        "sigprocmask" => "sig_how sig_set sig_set_text sig_old sig_after",
        "sigsuspend" => "sig_set sig_set_text sig_old sig_after",
        "sigaction" => "flags flags_text sig_set sig_set_text signal disposition",
        "sigpending" => "sig_set sig_set_text",
        "sigtimedwait" => "sig_set sig_set_text signal timeout_ns",
        "signalfd" => "flags flags_text sig_set sig_set_text",
        _ => "",
    }
}

fn object_kind(operation: &str) -> Option<&'static str> {
    ["sem", "shm", "msg", "mq"].into_iter().find(|kind| operation.starts_with(kind))
}

/// The expected values of a row; a column without one is not known, and not compared.
#[derive(Clone)]
pub(super) struct Row(Map<String, Value>);

impl Row {
    /// The row of an operation of which no argument is known yet.
    pub(super) fn of(operation: &str) -> Row {
        let belonging: Vec<&str> = belonging(operation).split_whitespace().collect();
        let foreign = COLUMNS.iter().filter(|column| !belonging.contains(column));
        let row = Row(foreign.map(|column| ((*column).to_owned(), Value::Null)).collect());
        row.set("syscall", operation).set("object_kind", object_kind(operation)).set("restarts", 0)
    }

    /// The row of a call that does nothing known.
    pub(super) fn unknown() -> Row {
        let mut row = Row::of("");
        row.forget("syscall");
        row
    }

    /// The operation.
    pub(super) fn operation(&self) -> &str {
        self.0.get("syscall").and_then(Value::as_str).unwrap_or("")
    }

    /// With a value, which may be NULL.
    pub(super) fn set(mut self, column: &str, value: impl Into<Value>) -> Row {
        self.put(column, value);
        self
    }

    /// Sets a value, which may be NULL.
    pub(super) fn put(&mut self, column: &str, value: impl Into<Value>) {
        self.0.insert(column.to_owned(), value.into());
    }

    /// Without knowledge of a column.
    pub(super) fn forget(&mut self, column: &str) {
        self.0.remove(column);
    }

    /// With `flags` and `flags_text`.
    pub(super) fn flags(self, value: i32, text: &str) -> Row {
        self.set("flags", value).set("flags_text", text)
    }

    /// With `sig_set` and `sig_set_text`.
    pub(super) fn signals(self, text: &str) -> Row {
        self.set("sig_set", super::words::set(text) as i64).set("sig_set_text", text)
    }

    /// As JSON.
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}
