//! Limits, and how much of each is in use.

use super::namespaces::numbers;
use super::sysv::Usage;
use super::{HowKnown, Limit, Namespace, Object, ObjectKind};
use crate::procfs;
use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};

/// The limits of an IPC namespace: name, file, which number of the file.
const FILES: [(&str, &str, usize); 15] = [
    ("SEMMSL", "/proc/sys/kernel/sem", 0),
    ("SEMMNS", "/proc/sys/kernel/sem", 1),
    ("SEMOPM", "/proc/sys/kernel/sem", 2),
    ("SEMMNI", "/proc/sys/kernel/sem", 3),
    ("SHMMAX", "/proc/sys/kernel/shmmax", 0),
    ("SHMALL", "/proc/sys/kernel/shmall", 0),
    ("SHMMNI", "/proc/sys/kernel/shmmni", 0),
    ("MSGMNI", "/proc/sys/kernel/msgmni", 0),
    ("MSGMNB", "/proc/sys/kernel/msgmnb", 0),
    ("MSGMAX", "/proc/sys/kernel/msgmax", 0),
    ("queues_max", "/proc/sys/fs/mqueue/queues_max", 0),
    ("msg_max", "/proc/sys/fs/mqueue/msg_max", 0),
    ("msgsize_max", "/proc/sys/fs/mqueue/msgsize_max", 0),
    ("msg_default", "/proc/sys/fs/mqueue/msg_default", 0),
    ("msgsize_default", "/proc/sys/fs/mqueue/msgsize_default", 0),
];

// sizeof(struct msg_msg) and sizeof(struct posix_msg_tree_node) on x86-64, and MQ_PRIO_MAX; ipc/mqueue.c.
const MESSAGE_HEADER_BYTES: i64 = 48;
const PRIORITY_NODE_BYTES: i64 = 48;
const PRIORITIES: i64 = 32_768;

fn limit(name: &str, value: i64, in_use: Option<i64>) -> Limit {
    Limit { uid: None, name: name.into(), value, in_use, how_known: HowKnown::Snapshot }
}

/// The number at a place of a line of numbers; one that no i64 can hold, and `unlimited`, is the greatest i64.
fn number(line: &str, place: usize) -> Option<i64> {
    match line.split_whitespace().nth(place)? {
        "unlimited" => Some(i64::MAX),
        word => word.parse::<u64>().ok().map(|number| i64::try_from(number).unwrap_or(i64::MAX)),
    }
}

/// The limits of the namespace that the calling thread is in. `queues` is how many POSIX queues have a name; those that
/// are unlinked but open count against `queues_max` too.
pub fn of_namespace(usage: &Usage, queues: Option<usize>) -> Vec<Limit> {
    let in_use = |name| match name {
        "SEMMNI" => usage.sets,
        "SEMMNS" => usage.semaphores,
        "SHMMNI" => usage.segments,
        "SHMALL" => usage.pages,
        "MSGMNI" => usage.queues,
        "queues_max" => queues.map(|count| count as i64),
        _ => None,
    };
    FILES
        .iter()
        .filter_map(|&(name, file, place)| Some(limit(name, number(&read_to_string(file).ok()?, place)?, in_use(name))))
        .collect()
}

/// The size of the system's file table. The kernel counts its usage per CPU and lets each be off by some dozen files: on
/// an idle machine it can be 0.
pub fn of_host() -> Vec<Limit> {
    let text = read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    number(&text, 2).map(|maximum| limit("FILE_MAX", maximum, number(&text, 0))).into_iter().collect()
}

/// What a POSIX queue adds to its owner's RLIMIT_MSGQUEUE: `mqueue_get_inode` in ipc/mqueue.c, getrlimit(2).
pub fn accounted_bytes(max_messages: i64, max_message_bytes: i64) -> i64 {
    let messages = max_messages.saturating_mul(max_message_bytes.saturating_add(MESSAGE_HEADER_BYTES));
    messages.saturating_add(max_messages.min(PRIORITIES) * PRIORITY_NODE_BYTES)
}

/// RLIMIT_MSGQUEUE of every user that owns a POSIX queue. The kernel shows its usage in no file: it is the sum over the
/// queues here, too low by those that are unlinked but open, and of the owner rather than of who created them. The value
/// is the lowest soft limit of the user's processes; a user without any has no row.
pub fn of_users(namespaces: &[Namespace]) -> Vec<Limit> {
    let mut bytes = BTreeMap::<i64, i64>::new();
    for queue in namespaces.iter().flat_map(|n| &n.objects).filter(|o| o.object_kind == ObjectKind::Mq) {
        if let Object { owner_uid: Some(uid), max_messages: Some(count), max_message_bytes: Some(size), .. } = queue {
            let sum = bytes.entry(*uid).or_default();
            *sum = sum.saturating_add(accounted_bytes(*count, *size));
        }
    }
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut lowest = BTreeMap::<i64, i64>::new();
    for pid in numbers("/proc") {
        if let Some(uid) = real_uid(pid).filter(|uid| bytes.contains_key(uid))
            && let Some(soft) = soft_limit(&limits_of(pid), "Max msgqueue size")
        {
            lowest.entry(uid).and_modify(|value| *value = soft.min(*value)).or_insert(soft);
        }
    }
    let row = |(uid, value)| Limit {
        uid: Some(uid),
        how_known: HowKnown::Inferred,
        ..limit("RLIMIT_MSGQUEUE", value, bytes.get(&uid).copied())
    };
    lowest.into_iter().map(row).collect()
}

/// The limits of one process that its IPC calls can meet: soft values.
pub fn of_process(pid: u32) -> Vec<Limit> {
    let text = limits_of(pid);
    let descriptors = || read_dir(format!("/proc/{pid}/fd")).ok().map(|entries| entries.count() as i64);
    [
        soft_limit(&text, "Max msgqueue size").map(|value| limit("RLIMIT_MSGQUEUE", value, None)),
        soft_limit(&text, "Max open files").map(|value| limit("RLIMIT_NOFILE", value, descriptors())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn limits_of(pid: u32) -> String {
    read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default()
}

fn soft_limit(text: &str, name: &str) -> Option<i64> {
    number(text.lines().find_map(|line| line.strip_prefix(name))?, 0)
}

/// The user whom the kernel charges.
fn real_uid(pid: u32) -> Option<i64> {
    let text = procfs::read(&format!("/proc/{pid}/status"))?;
    number(text.lines().find_map(|line| line.strip_prefix("Uid:"))?, 0)
}
