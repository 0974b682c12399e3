//! Snapshots: every object of every IPC namespace that a process lives in, the messages queued in it, and the limits.
//!
//! A process of its own takes them ([`Snapshots`]): it keeps the privileges that capture gives up, and visits the
//! namespaces one after the other. Namespaces that no process lives in (held by a bind mount or a descriptor) and POSIX
//! queues that are unlinked but still open are in no list that a tool can read: they are not here.
//!
//! What a snapshot costs those who use the objects: per System V object one look under its lock; per set of up to
//! [`sysv::DETAILED_SEMAPHORES`] semaphores three more per semaphore, each under the lock of the whole set; per queued
//! System V message a copy of it under the lock of its queue, for [`sysv::MESSAGES_PER_QUEUE`] messages of a queue at
//! most. A POSIX queue is opened and read, which moves its file's access and change times, never its messages.
//!
//! Measured with 32,000 semaphores, while a process used them as fast as it could: 32,000 sets of one take 250 ms of a
//! processor, and 70 ms of the recorder's (and 140 KB on disk), 64 sets of 500 24 ms, one set 3 ms. Its `semop` took no
//! longer on average; the longest took 6 ms, and 0.6 ms without.

mod channel;
mod control;
mod filter;
mod helper;
mod limits;
mod mqueue;
mod namespaces;
mod sysv;
#[cfg(test)]
mod tests;

pub use channel::Channel;
pub use helper::{Helper, SUBCOMMAND, Snapshots, serve};

use ipc_schema::manifest::Missing;
use serde::{Deserialize, Serialize};

/// What may be withheld, as a snapshot's `missing` names it.
pub const FEATURES: &[&str] = &[namespaces::FEATURE, sysv::VALUES, sysv::MESSAGES, mqueue::FEATURE, mqueue::SOME];

/// Everything that one visit found. Instants of the snapshot are CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it began.
    pub time_ns: u64,
    /// When it ended: what it tells was true at some time in between, not all at one.
    pub end_ns: u64,
    /// One entry per IPC namespace, by rising inode.
    pub namespaces: Vec<Namespace>,
    /// Limits that no IPC namespace has: of the host, and of users.
    pub limits: Vec<Limit>,
    /// What privilege or kernel withheld; one entry per feature, with the first reason.
    pub missing: Vec<Missing>,
}

/// What one IPC namespace holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode.
    pub ipc_ns: u32,
    /// Its objects: sets, segments, queues, POSIX queues.
    pub objects: Vec<Object>,
    /// The messages in its System V queues; POSIX queues cannot be looked into.
    pub queued: Vec<Queued>,
    /// Its limits.
    pub limits: Vec<Limit>,
}

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A System V semaphore set.
    Sem,
    /// A System V shared memory segment.
    Shm,
    /// A System V message queue.
    Msg,
    /// A POSIX message queue.
    Mq,
}

impl ObjectKind {
    /// The value of the column `object_kind`.
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Sem => "sem",
            ObjectKind::Shm => "shm",
            ObjectKind::Msg => "msg",
            ObjectKind::Mq => "mq",
        }
    }
}

/// One object: the columns of the table `objects`, which documents them, and `sem_count`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    pub object_kind: ObjectKind,
    pub object_id: i64,
    pub key: Option<i32>,
    pub name: Option<String>,
    pub owner_uid: Option<i64>,
    pub creator_uid: Option<i64>,
    pub mode: Option<i32>,
    /// Nanoseconds since the epoch. Of a POSIX queue always `None`: reading it moves its file's change time.
    pub change_ns: Option<i64>,
    /// Nanoseconds since the epoch. Of a POSIX queue its file's modification time: the last message moved, or its
    /// creation.
    pub use_ns: Option<i64>,
    pub creator_pid: Option<i32>,
    pub last_send_pid: Option<i32>,
    pub last_receive_pid: Option<i32>,
    pub attach_count: Option<i64>,
    pub removed_pending: Option<bool>,
    pub size_bytes: Option<i64>,
    pub messages: Option<i64>,
    pub queued_bytes: Option<i64>,
    pub max_bytes: Option<i64>,
    pub max_messages: Option<i64>,
    pub max_message_bytes: Option<i64>,
    /// How many semaphores the set has, also where their values are withheld.
    pub sem_count: Option<i32>,
    pub sem_values: Option<Vec<i32>>,
    /// Those that wait for more and those that wait for zero; `None` above [`sysv::DETAILED_SEMAPHORES`].
    pub sem_waiters: Option<Vec<i32>>,
    /// 0: never changed, or by a process of another pid namespace; `None` above [`sysv::DETAILED_SEMAPHORES`].
    pub sem_last_pids: Option<Vec<i32>>,
}

impl Object {
    /// An object of which nothing else is known.
    fn new(object_kind: ObjectKind, object_id: i64) -> Self {
        Object {
            object_kind,
            object_id,
            key: None,
            name: None,
            owner_uid: None,
            creator_uid: None,
            mode: None,
            change_ns: None,
            use_ns: None,
            creator_pid: None,
            last_send_pid: None,
            last_receive_pid: None,
            attach_count: None,
            removed_pending: None,
            size_bytes: None,
            messages: None,
            queued_bytes: None,
            max_bytes: None,
            max_messages: None,
            max_message_bytes: None,
            sem_count: None,
            sem_values: None,
            sem_waiters: None,
            sem_last_pids: None,
        }
    }
}

/// One message in a System V queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The id of the queue.
    pub object_id: i64,
    /// 0 is the oldest.
    pub position: i32,
    /// Its type; `None` if it is longer than the namespace's `MSGMAX` is now, or than [`sysv`] copies.
    pub msg_type: Option<i64>,
    /// Its size; `None` as above.
    pub size_bytes: Option<i64>,
}

/// How a limit's usage is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HowKnown {
    /// The kernel told it.
    Snapshot,
    /// Computed from what the kernel told.
    Inferred,
}

impl HowKnown {
    /// The value of the column `how_known`.
    pub fn name(self) -> &'static str {
        match self {
            HowKnown::Snapshot => "snapshot",
            HowKnown::Inferred => "inferred",
        }
    }
}

/// One limit, with its usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The user, of a limit per user.
    pub uid: Option<i64>,
    /// Its name: SEMMNI, queues_max, RLIMIT_NOFILE…
    pub name: String,
    /// The limit; what exceeds 2⁶³-1, and `unlimited`, is 2⁶³-1.
    pub value: i64,
    /// What of it is in use.
    pub in_use: Option<i64>,
    /// How the usage is known.
    pub how_known: HowKnown,
}

/// What privilege or kernel withheld, each feature once.
#[derive(Default)]
struct Withheld(Vec<Missing>);

impl Withheld {
    fn note(&mut self, feature: &str, reason: impl std::fmt::Display, remedy: &str) {
        if self.0.iter().all(|m| m.feature != feature) {
            self.0.push(Missing { feature: feature.into(), reason: reason.to_string(), remedy: remedy.into() });
        }
    }
}

/// Visits every namespace. It is the calling thread that moves; it is back where it was at the end.
fn take() -> Snapshot {
    let mut snapshot = Snapshot {
        time_ns: boot_ns(),
        end_ns: 0,
        namespaces: Vec::new(),
        limits: limits::of_host(),
        missing: Vec::new(),
    };
    let mut withheld = Withheld::default();
    namespaces::visit(&mut withheld, |ipc_ns, withheld| {
        let mut found = sysv::read(withheld);
        let queues = mqueue::read(withheld);
        let limits = limits::of_namespace(&found.usage, queues.as_ref().map(Vec::len));
        found.objects.extend(queues.into_iter().flatten());
        snapshot.namespaces.push(Namespace { ipc_ns, objects: found.objects, queued: found.queued, limits });
    });
    snapshot.limits.extend(limits::of_users(&snapshot.namespaces));
    snapshot.missing = withheld.0;
    snapshot.end_ns = boot_ns();
    snapshot
}

fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
