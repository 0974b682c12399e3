//! Which limit a failure means: what the kernel checks before it answers with an errno, as data.
//!
//! From ipc/sem.c, ipc/shm.c, ipc/msg.c, ipc/util.c, ipc/mqueue.c and the man pages. Errors that a program counts on
//! (EAGAIN on a full queue) are no limits; nor is ERANGE: SEMVMX is a constant that nobody uses up.

/// One way in which a call meets a limit.
#[derive(Debug)]
pub struct Rule {
    /// The operations; empty: all.
    pub syscalls: &'static [&'static str],
    /// The errno.
    pub error: &'static str,
    /// The value of `command`, if it must have one.
    pub command: Option<&'static str>,
    /// What else gives this errno to these calls: it must be ruled out.
    pub unless: &'static [Unless],
    /// The limits, in the order in which the kernel looks at them.
    pub limits: &'static [Limit],
}

/// One limit.
#[derive(Debug)]
pub struct Limit {
    /// Its name, as in the table `limits`.
    pub name: &'static str,
    /// Whose it is.
    pub scope: Scope,
    /// What of it a call takes.
    pub takes: Takes,
}

/// Whose a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of each IPC namespace.
    Namespace,
    /// Of each process.
    Process,
    /// Of each process, but its usage is counted per user.
    User,
    /// Of the machine.
    Host,
}

/// What of a limit a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One of many.
    One,
    /// As many as the column says.
    Column(Request),
    /// So many bytes in pages.
    Pages(Request),
    /// What the kernel accounts for a queue of the size asked for.
    QueueBytes,
    /// Nothing that adds up: what the column says must not exceed the limit. Beyond `most` no setting of the limit could
    /// grant it: then it is a wrong argument.
    AtMost(Request, i64),
    /// Not told by the arguments.
    Unknown,
}

/// The columns that hold what a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// nsems.
    SemCount,
    /// How many operations.
    SemOps,
    /// Size of a segment or message, bytes.
    Size,
    /// mq_maxmsg.
    QueueMessages,
    /// mq_msgsize, bytes.
    QueueMessageBytes,
}

/// The columns of [`Request`], in its order.
pub const REQUESTS: [&str; 5] =
    ["sem_count", "sem_ops_total", "size_bytes", "queue_max_messages", "queue_max_message_bytes"];

/// What else can give the same errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unless {
    /// The object exists and is smaller; not with IPC_PRIVATE or IPC_EXCL.
    Smaller,
    /// The object does not exist.
    NoObject,
    /// The message's type is not above 0.
    NoType,
    /// Huge pages were asked for: programs try and do without.
    HugePages,
}

use Request::*;
use Scope::*;

const fn limit(name: &'static str, scope: Scope, takes: Takes) -> Limit {
    Limit { name, scope, takes }
}

const fn rule(syscalls: &'static [&'static str], error: &'static str, limits: &'static [Limit]) -> Rule {
    Rule { syscalls, error, command: None, unless: &[], limits }
}

/// A page of x86-64, bytes.
pub const PAGE_BYTES: i64 = 4096;
// More does not fit what the kernel allocates for a set, a call's operations, or maps into a process; HARD_MSGMAX and
// HARD_MSGSIZEMAX of ipc_namespace.h.
const SEMAPHORES_MOST: i64 = 1 << 25;
const OPERATIONS_MOST: i64 = i32::MAX as i64 / 6;
const SEGMENT_MOST: i64 = 1 << 47;
const MESSAGE_MOST: i64 = i32::MAX as i64;
const QUEUE_MESSAGES_MOST: i64 = 65_536;
const QUEUE_MESSAGE_MOST: i64 = 16 << 20;

/// The first that fits a call is meant.
pub const RULES: &[Rule] = &[
    rule(
        &["semget"],
        "ENOSPC",
        &[limit("SEMMNS", Namespace, Takes::Column(SemCount)), limit("SEMMNI", Namespace, Takes::One)],
    ),
    rule(
        &["shmget"],
        "ENOSPC",
        &[limit("SHMALL", Namespace, Takes::Pages(Size)), limit("SHMMNI", Namespace, Takes::One)],
    ),
    rule(&["msgget"], "ENOSPC", &[limit("MSGMNI", Namespace, Takes::One)]),
    rule(&["mq_open"], "ENOSPC", &[limit("queues_max", Namespace, Takes::One)]),
    rule(&["semop", "semtimedop"], "E2BIG", &[limit("SEMOPM", Namespace, Takes::AtMost(SemOps, OPERATIONS_MOST))]),
    rule(&["semget"], "EINVAL", &[limit("SEMMSL", Namespace, Takes::AtMost(SemCount, SEMAPHORES_MOST))])
        .unless(&[Unless::Smaller]),
    rule(&["shmget"], "EINVAL", &[limit("SHMMAX", Namespace, Takes::AtMost(Size, SEGMENT_MOST))])
        .unless(&[Unless::Smaller]),
    rule(&["msgsnd"], "EINVAL", &[limit("MSGMAX", Namespace, Takes::AtMost(Size, MESSAGE_MOST))])
        .unless(&[Unless::NoObject, Unless::NoType]),
    rule(
        &["mq_open"],
        "EINVAL",
        &[
            limit("msg_max", Namespace, Takes::AtMost(QueueMessages, QUEUE_MESSAGES_MOST)),
            limit("msgsize_max", Namespace, Takes::AtMost(QueueMessageBytes, QUEUE_MESSAGE_MOST)),
        ],
    ),
    rule(
        &["mq_open"],
        "EMFILE",
        &[limit("RLIMIT_NOFILE", Process, Takes::One), limit("RLIMIT_MSGQUEUE", User, Takes::QueueBytes)],
    ),
    rule(&["signalfd"], "EMFILE", &[limit("RLIMIT_NOFILE", Process, Takes::One)]),
    rule(&[], "ENFILE", &[limit("FILE_MAX", Host, Takes::One)]),
    rule(&["shmctl"], "ENOMEM", &[limit("RLIMIT_MEMLOCK", User, Takes::Unknown)]).command("SHM_LOCK"),
    rule(&["shmget"], "ENOMEM", &[limit("kernel memory", Host, Takes::Unknown)]).unless(&[Unless::HugePages]),
    rule(&["shmat"], "ENOMEM", &[limit("address space", Process, Takes::Unknown)]),
    rule(&[], "ENOMEM", &[limit("kernel memory", Host, Takes::Unknown)]),
];

impl Rule {
    const fn unless(mut self, unless: &'static [Unless]) -> Rule {
        self.unless = unless;
        self
    }

    const fn command(mut self, command: &'static str) -> Rule {
        self.command = Some(command);
        self
    }

    /// Whether a call can be meant, by what every group of calls tells.
    pub fn concerns(&self, syscall: &str, error: &str) -> bool {
        self.error == error && (self.syscalls.is_empty() || self.syscalls.contains(&syscall))
    }
}

/// The limits of semaphores, in the order of `kernel.sem`.
pub const SEM: [&str; 4] = ["SEMMSL", "SEMMNS", "SEMOPM", "SEMMNI"];

/// The command that raises each limit; `{}` stands for the new value.
pub const REMEDIES: &[(&str, &str)] = &[
    ("SEMMSL", "sysctl kernel.sem=\"{}\""),
    ("SEMMNS", "sysctl kernel.sem=\"{}\""),
    ("SEMOPM", "sysctl kernel.sem=\"{}\""),
    ("SEMMNI", "sysctl kernel.sem=\"{}\""),
    ("SHMMAX", "sysctl kernel.shmmax={}"),
    ("SHMALL", "sysctl kernel.shmall={}"),
    ("SHMMNI", "sysctl kernel.shmmni={}"),
    ("MSGMNI", "sysctl kernel.msgmni={}"),
    ("MSGMAX", "sysctl kernel.msgmax={}"),
    ("queues_max", "sysctl fs.mqueue.queues_max={}"),
    ("msg_max", "sysctl fs.mqueue.msg_max={}"),
    ("msgsize_max", "sysctl fs.mqueue.msgsize_max={}"),
    ("RLIMIT_MSGQUEUE", "ulimit -q {}"),
    ("RLIMIT_NOFILE", "ulimit -n {}"),
    ("RLIMIT_MEMLOCK", "ulimit -l unlimited"),
    ("FILE_MAX", "sysctl fs.file-max={}"),
    ("kernel memory", "sysctl vm.overcommit_memory vm.overcommit_ratio; free -m"),
    ("address space", "ulimit -v unlimited; sysctl vm.max_map_count"),
];
