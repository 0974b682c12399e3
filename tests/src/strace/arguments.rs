//! What each column must hold, by the arguments that strace printed.

use super::Witnessed;
use super::line::{Line, field, hexadecimal, names, number, signal_set, split};
use crate::calls::Told;
use crate::cells::Cell;
use ipc_schema::tables::{CALLS, Kind};
use std::collections::BTreeMap;

/// Semaphore operations that a trace keeps of one call.
pub const SOPS_KEPT: usize = 500;

/// `include/uapi/linux/limits.h`.
const NAME_MAX: usize = 255;

/// Which columns an argument fills.
enum Argument {
    /// One column.
    Number(&'static str),
    /// semctl's number: not every command has one.
    SemNum,
    Sops,
    Flags,
    Command,
    /// The id that a command works on; some take an index instead.
    IdOfCommand,
    /// semctl's last argument.
    SemValue,
    Address,
    Message,
    Name,
    Queue,
    NewAttributes,
    Attributes,
    Priority,
    Relative,
    Deadline,
    Notification,
    How,
    Set,
    OldSet,
    Disposition,
    Other,
}
use Argument::*;

/// The arguments in the order of the man pages.
const ARGUMENTS: &[(&str, &[Argument])] = &[
    ("semget", &[Number("key"), Number("sem_count"), Flags]),
    ("semop", &[Number("object_id"), Sops, Number("sem_ops_total")]),
    ("semtimedop", &[Number("object_id"), Sops, Number("sem_ops_total"), Relative]),
    ("semctl", &[IdOfCommand, SemNum, Command, SemValue]),
    ("shmget", &[Number("key"), Number("size_bytes"), Flags]),
    ("shmat", &[Number("object_id"), Other, Flags]),
    ("shmdt", &[Address]),
    ("shmctl", &[IdOfCommand, Command, Other]),
    ("msgget", &[Number("key"), Flags]),
    ("msgsnd", &[Number("object_id"), Message, Number("size_bytes"), Flags]),
    ("msgrcv", &[Number("object_id"), Message, Number("size_bytes"), Number("msg_type_requested"), Flags]),
    ("msgctl", &[IdOfCommand, Command, Other]),
    ("mq_open", &[Name, Flags, Other, Attributes]),
    ("mq_unlink", &[Name]),
    ("mq_timedsend", &[Queue, Other, Number("size_bytes"), Number("msg_priority"), Deadline]),
    ("mq_timedreceive", &[Queue, Other, Number("size_bytes"), Priority, Deadline]),
    ("mq_notify", &[Queue, Notification]),
    ("mq_getsetattr", &[Queue, NewAttributes, Attributes]),
    ("rt_sigprocmask", &[How, Set, OldSet, Other]),
    ("rt_sigaction", &[Number("signal"), Disposition, Other, Other]),
    ("rt_sigsuspend", &[Set, Other]),
    ("rt_sigpending", &[Set, Other]),
    ("rt_sigtimedwait", &[Set, Other, Relative, Other]),
    ("signalfd", &[Other, Set, Other]),
    ("signalfd4", &[Other, Set, Other, Flags]),
];

/// What is collected of one call.
struct Reader<'a> {
    line: &'a Line<'a>,
    returned: Option<i64>,
    columns: BTreeMap<&'static str, Vec<Cell>>,
}

/// The call of a line.
pub(super) fn witnessed(line: &Line, text: &str) -> Witnessed {
    let returned = line.returned();
    let value = returned.as_ref().filter(|(_, error)| error.is_none()).map(|(value, _)| *value);
    let mut reader = Reader { line, returned: value, columns: BTreeMap::new() };
    let (_, arguments) = ARGUMENTS.iter().find(|(name, _)| *name == line.name).unwrap();
    for (argument, text) in arguments.iter().zip(&line.arguments) {
        reader.read(argument, text);
    }
    reader.read_result();
    Witnessed {
        told: Told {
            entry_point: line.name.to_owned(),
            return_value: returned.as_ref().map(|(value, _)| *value),
            error: returned.as_ref().and_then(|(_, error)| error.clone()),
            sops: line.arguments.get(1).map_or(Vec::new(), |text| operations(text)),
        },
        is_unseen: returned.is_none(),
        restarts: 0,
        columns: reader.columns,
        line: text.to_owned(),
    }
}

/// `[{sem_num=0, sem_op=-1, sem_flg=0x800 /* IPC_NOWAIT */}, …]`
fn operations(text: &str) -> Vec<[i64; 3]> {
    let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return Vec::new() };
    let one = |text: &str| -> Option<[i64; 3]> {
        let value = |name| number(field(text, name)?);
        // A short, which strace prints without its sign.
        Some([value("sem_num")?, value("sem_op")?, i64::from(value("sem_flg")? as i16)])
    };
    split(list).into_iter().filter_map(one).take(SOPS_KEPT).collect()
}

impl Reader<'_> {
    fn is(&mut self, column: &'static str, value: impl Into<Cell>) {
        self.columns.insert(column, vec![value.into()]);
    }

    /// strace cannot tell.
    fn unknown(&mut self, column: &'static str) {
        self.columns.insert(column, Vec::new());
    }

    /// The value, or nothing: the call does not look at it.
    fn may_be(&mut self, column: &'static str, value: impl Into<Cell>) {
        self.columns.insert(column, vec![value.into(), Cell::Null]);
    }

    /// A number in the width of its column; unknown if it is none.
    fn number(&mut self, column: &'static str, text: &str) {
        let is_narrow = CALLS.column(column).unwrap().kind == Kind::Int32;
        match number(text) {
            Some(value) if is_narrow => self.is(column, i64::from(value as i32)),
            Some(value) => self.is(column, value),
            None => self.unknown(column),
        }
    }

    fn read(&mut self, argument: &Argument, text: &str) {
        match argument {
            Number(column) => self.number(column, text),
            SemNum => self.read_sem_num(text),
            Sops => self.read_operations(text),
            Flags => self.read_flags(text),
            Command => self.read_command(text),
            IdOfCommand if self.is_by_index() => self.unknown("object_id"),
            IdOfCommand => self.number("object_id", text),
            SemValue => self.read_value(text),
            Address => self.number("address", text),
            Message => self.read_message(text),
            Name => self.read_name(text),
            Queue => self.read_queue(text),
            NewAttributes => self.read_new_attributes(text),
            Attributes => self.read_attributes(text),
            Priority => self.read_priority(text),
            Relative => self.read_time("timeout_ns", text),
            Deadline => self.read_time("deadline_ns", text),
            Notification => self.read_notification(text),
            How => self.read_how(text),
            Set => self.read_set(text),
            OldSet => self.read_old_set(text),
            Disposition => self.read_disposition(text),
            Other => {}
        }
    }

    fn read_sem_num(&mut self, text: &str) {
        match self.line.arguments.get(2).map(|command| names(command)).as_deref() {
            Some(["GETVAL" | "SETVAL" | "GETPID" | "GETNCNT" | "GETZCNT"]) => self.number("sem_num", text),
            _ => self.unknown("sem_num"),
        }
    }

    /// A trace keeps as much of a name as a queue can have.
    fn read_name(&mut self, text: &str) {
        match hexadecimal(text) {
            Some(name) => self.is("object_name", format!("/{}", &name[..name.len().min(NAME_MAX)]).as_str()),
            None => self.unknown("object_name"),
        }
    }

    fn read_new_attributes(&mut self, text: &str) {
        match field(text, "mq_flags") {
            Some(flags) => self.read_flags(flags),
            None if text == "NULL" => {}
            None => ["flags", "flags_text"].into_iter().for_each(|column| self.unknown(column)),
        }
    }

    /// `[9]`; else the receiver did not ask, or did not get any.
    fn read_priority(&mut self, text: &str) {
        match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(priority) => self.number("msg_priority", priority),
            None => self.unknown("msg_priority"),
        }
    }

    fn read_operations(&mut self, text: &str) {
        let columns = ["sem_num", "sem_op", "sem_flags"];
        match operations(text).first() {
            Some(first) => columns.into_iter().zip(first).for_each(|(column, value)| self.is(column, *value)),
            None => columns.into_iter().for_each(|column| self.unknown(column)),
        }
    }

    fn read_flags(&mut self, text: &str) {
        self.number("flags", text);
        // A name for a shift is none for a bit, and what get calls do not know strace takes from their siblings.
        let is_strange =
            |name: &str| name == "SHM_HUGE_SHIFT" || (name == "IPC_NOWAIT" && self.line.name.ends_with("get"));
        let names: Vec<&str> = names(text).into_iter().filter(|name| !is_strange(name)).collect();
        self.is("flags_text", names.join("|").as_str());
    }

    fn read_command(&mut self, text: &str) {
        match names(text)[..] {
            [name] if !name.contains('?') => self.is("command", name),
            _ => self.unknown("command"),
        }
    }

    /// Commands whose first argument is the index of an object, or nothing.
    fn is_by_index(&self) -> bool {
        let names: Vec<&str> = self.line.arguments.iter().flat_map(|text| names(text)).collect();
        names.iter().any(|name| {
            ["_STAT_ANY", "_INFO", "SEM_STAT", "SHM_STAT", "MSG_STAT"].iter().any(|end| name.ends_with(end))
        })
    }

    fn read_value(&mut self, text: &str) {
        match names(self.line.arguments[2])[..] {
            ["SETVAL"] => self.number("sem_value", text),
            ["GETVAL"] => {
                if let Some(value) = self.returned {
                    self.is("sem_value", value);
                }
            }
            _ => {}
        }
    }

    fn read_message(&mut self, text: &str) {
        match field(text, "mtype") {
            Some(kind) => self.number("msg_type", kind),
            // What msgrcv did not receive has no type; what msgsnd could not read has one that nobody knows.
            None if self.line.name == "msgrcv" && self.returned.is_none() => {}
            None => self.unknown("msg_type"),
        }
    }

    /// `3</name>`; after mq_unlink `3</name>(deleted)`.
    fn read_queue(&mut self, text: &str) {
        let name = text.find('<').and_then(|from| hexadecimal(text[from..].trim_end_matches("(deleted)")));
        // The root of their file system: the path of any other file has more.
        match name.filter(|name| name.rfind('/') == Some(0)) {
            // A queue that is not open for this.
            Some(name) if self.is_bad_descriptor() => self.may_be("object_name", name.as_str()),
            Some(name) => self.is("object_name", name.as_str()),
            None => {}
        }
    }

    fn is_bad_descriptor(&self) -> bool {
        self.line.result.starts_with("-1 EBADF")
    }

    fn read_attributes(&mut self, text: &str) {
        let is_created = names(self.line.arguments[1]).contains(&"O_EXCL");
        let is_told = self.returned.is_some() && (self.line.name == "mq_getsetattr" || is_created);
        for (column, name) in [("queue_max_messages", "mq_maxmsg"), ("queue_max_message_bytes", "mq_msgsize")] {
            match field(text, name) {
                Some(value) if is_told => self.number(column, value),
                _ => self.unknown(column),
            }
        }
    }

    /// `{tv_sec=1, tv_nsec=2}`; what the kernel refuses as no time stands for nothing.
    fn read_time(&mut self, column: &'static str, text: &str) {
        let part = |name| field(text, name).and_then(number);
        match (part("tv_sec"), part("tv_nsec")) {
            (Some(seconds), Some(nanoseconds)) if (0..1_000_000_000).contains(&nanoseconds) && seconds >= 0 => {
                self.is(column, seconds * 1_000_000_000 + nanoseconds);
            }
            _ if text == "NULL" => {}
            _ => self.unknown(column),
        }
    }

    fn read_notification(&mut self, text: &str) {
        match field(text, "sigev_notify").map(number) {
            Some(Some(0)) => self.number("signal", field(text, "sigev_signo").unwrap()),
            Some(_) => {}
            None if text == "NULL" => {}
            None => self.unknown("signal"),
        }
    }

    fn read_how(&mut self, text: &str) {
        let is_query = self.line.arguments[1] == "NULL";
        match names(text)[..] {
            [name] if name.contains('?') => self.unknown("sig_how"),
            [name] if is_query => self.may_be("sig_how", name),
            [name] => self.is("sig_how", name),
            _ => self.unknown("sig_how"),
        }
    }

    fn read_set(&mut self, text: &str) {
        match signal_set(text) {
            Some(set) => self.is("sig_set", set),
            None if text == "NULL" => return,
            None => {
                self.unknown("sig_set");
                return self.unknown("sig_set_text");
            }
        }
        match text.starts_with('~') {
            // strace names those that are not in it.
            true => self.unknown("sig_set_text"),
            false => self.is("sig_set_text", names(text).join("|").as_str()),
        }
    }

    fn read_old_set(&mut self, text: &str) {
        let (Some(old), Some(_)) = (signal_set(text), self.returned) else {
            self.unknown("sig_old");
            return self.unknown("sig_after");
        };
        self.is("sig_old", old);
        let (how, set) = (names(self.line.arguments[0]), self.line.arguments[1]);
        let after = match (how[..].first(), signal_set(set)) {
            (_, None) => old,
            (Some(&"SIG_BLOCK"), Some(set)) => old | set,
            (Some(&"SIG_UNBLOCK"), Some(set)) => old & !set,
            (_, Some(set)) => set,
        };
        // SIGKILL and SIGSTOP cannot be blocked.
        self.is("sig_after", after & !(1 << 8 | 1 << 18));
    }

    fn read_disposition(&mut self, text: &str) {
        let columns = ["disposition", "flags", "flags_text", "sig_set", "sig_set_text"];
        let parts = ["sa_handler", "sa_flags", "sa_mask"].map(|name| field(text, name));
        let [Some(handler), Some(flags), Some(mask)] = parts else {
            if text != "NULL" {
                columns.into_iter().for_each(|column| self.unknown(column));
            }
            return;
        };
        let name = match number(handler) {
            Some(0) => "default",
            Some(1) => "ignore",
            _ => "handler",
        };
        self.is("disposition", name);
        self.read_flags(flags);
        self.read_set(mask);
    }

    /// What follows from the value returned.
    fn read_result(&mut self) {
        let is_get = ["semget", "shmget", "msgget"].contains(&self.line.name);
        match (self.line.name, self.returned) {
            ("shmat", Some(address)) => self.is("address", address),
            ("rt_sigtimedwait", Some(signal)) => self.is("signal", signal),
            // A failed query of what is pending returned no set.
            ("rt_sigpending", None) => ["sig_set", "sig_set_text"].into_iter().for_each(|column| self.unknown(column)),
            ("rt_sigsuspend", _) => self.unknown("sig_old"),
            ("shmdt", _) => self.unknown("object_id"),
            ("shmat", None) => self.unknown("address"),
            (name, _) if name.starts_with("mq_") => {
                // Columns of the queue, which a line of strace shows at best in part.
                for column in ["object_id", "queue_max_messages", "queue_max_message_bytes"] {
                    self.columns.entry(column).or_default();
                }
            }
            (_, Some(id)) if is_get => self.is("object_id", id),
            _ => {}
        }
        if is_get || self.line.name == "mq_open" {
            self.read_created();
        }
    }

    fn read_created(&mut self) {
        let all: Vec<&str> = self.line.arguments.iter().flat_map(|text| names(text)).collect();
        let has = |name: &str| all.contains(&name);
        let is_exclusive = (has("IPC_CREAT") && has("IPC_EXCL")) || (has("O_CREAT") && has("O_EXCL"));
        match self.returned {
            Some(_) if has("IPC_PRIVATE") || is_exclusive => self.is("created", 1),
            Some(_) if !has("IPC_CREAT") && !has("O_CREAT") => self.is("created", 0),
            _ => self.unknown("created"),
        }
    }
}
