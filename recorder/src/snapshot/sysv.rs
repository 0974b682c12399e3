//! The System V objects of the namespace that the calling thread is in.

use super::control::{self, MessageBuffer, Question};
use super::{Object, ObjectKind, Queued, Withheld};
use std::io;

/// Sets of more semaphores have their values read, at once, and nothing else: a look at each would take the lock of
/// the whole set for each.
pub const DETAILED_SEMAPHORES: usize = 500;

/// Messages of one queue that a snapshot looks at. The kernel walks to each from the head of the queue, so that the cost
/// rises with the square.
pub const MESSAGES_PER_QUEUE: i32 = 4096;

/// Messages with a longer body are listed without type and size.
const LONGEST_BODY: usize = 1 << 20;

/// What may be withheld.
pub const VALUES: &str = "semaphore values in snapshots";
/// What may be withheld.
pub const MESSAGES: &str = "queued messages in snapshots";

const SHM_DEST: u32 = 0o1000;
const PERMISSION_BITS: u32 = 0o777;
const REMEDY: &str = "run as root: it takes CAP_IPC_OWNER to read the objects of others";

/// What a namespace holds of System V.
#[derive(Default)]
pub struct SystemV {
    pub objects: Vec<Object>,
    pub queued: Vec<Queued>,
    pub usage: Usage,
}

/// What of the namespace's limits is in use; `None`: the kernel did not tell.
#[derive(Default)]
pub struct Usage {
    pub sets: Option<i64>,
    pub semaphores: Option<i64>,
    pub segments: Option<i64>,
    pub pages: Option<i64>,
    pub queues: Option<i64>,
}

/// Reads all objects. One that is removed meanwhile is left out, or listed without what came too late.
pub fn read(withheld: &mut Withheld) -> SystemV {
    let mut found = SystemV::default();
    if let Some(usage) = told(control::semaphore_usage(), "semaphore sets in snapshots", withheld) {
        (found.usage.sets, found.usage.semaphores) = (Some(usage.objects), Some(usage.contents));
        for (id, state) in each(&usage, control::semaphore_set) {
            found.objects.push(semaphore_set(id, &state, withheld));
        }
    }
    if let Some(usage) = told(control::segment_usage(), "segments in snapshots", withheld) {
        (found.usage.segments, found.usage.pages) = (Some(usage.objects), Some(usage.contents));
        found.objects.extend(each(&usage, control::segment).map(|(id, state)| segment(id, &state)));
    }
    if let Some(usage) = told(control::queue_usage(), "message queues in snapshots", withheld) {
        found.usage.queues = Some(usage.objects);
        for (id, state) in each(&usage, control::queue) {
            found.objects.push(queue(id, &state));
            messages(id, &state, &mut found.queued, withheld);
        }
    }
    found
}

/// The objects of all indexes in use; a free index, and one that a security module hides, answers with an error.
fn each<T>(usage: &control::Usage, look: impl Fn(i32) -> io::Result<T>) -> impl Iterator<Item = T> {
    (0..=usage.highest_index).filter_map(move |index| look(index).ok())
}

/// The answer, or a note that it was withheld; an object that is gone is no reason for a note.
fn told<T>(answer: io::Result<T>, feature: &str, withheld: &mut Withheld) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIDRM)) => None,
        Err(error) => {
            withheld.note(feature, error, REMEDY);
            None
        }
    }
}

fn object(kind: ObjectKind, id: i32, permissions: &libc::ipc_perm) -> Object {
    Object {
        key: Some(permissions.__key),
        owner_uid: Some(permissions.uid.into()),
        creator_uid: Some(permissions.cuid.into()),
        mode: Some((u32::from(permissions.mode) & PERMISSION_BITS) as i32),
        ..Object::new(kind, id.into())
    }
}

/// Seconds since the epoch; 0: never.
fn epoch_ns(seconds: i64) -> Option<i64> {
    (seconds != 0).then(|| seconds.saturating_mul(1_000_000_000))
}

/// 0: none yet, or a process of another pid namespace.
fn process(pid: i32) -> Option<i32> {
    (pid != 0).then_some(pid)
}

fn semaphore_set(id: i32, state: &libc::semid_ds, withheld: &mut Withheld) -> Object {
    let count = state.sem_nsems as usize;
    let mut set = Object {
        change_ns: epoch_ns(state.sem_ctime),
        use_ns: epoch_ns(state.sem_otime),
        sem_count: i32::try_from(count).ok(),
        sem_values: told(control::semaphore_values(id, count), VALUES, withheld),
        ..object(ObjectKind::Sem, id, &state.sem_perm)
    };
    if count <= DETAILED_SEMAPHORES && set.sem_values.is_some() {
        let ask = |question| move |number| control::semaphore(id, number, question);
        let (more, zero) = (ask(Question::WaitersForMore), ask(Question::WaitersForZero));
        let waiters = (0..count as i32).map(|number| Ok(more(number)? + zero(number)?)).collect();
        set.sem_waiters = told(waiters, VALUES, withheld);
        set.sem_last_pids = told((0..count as i32).map(ask(Question::LastPid)).collect(), VALUES, withheld);
    }
    set
}

fn segment(id: i32, state: &libc::shmid_ds) -> Object {
    Object {
        change_ns: epoch_ns(state.shm_ctime),
        use_ns: epoch_ns(state.shm_atime.max(state.shm_dtime)),
        creator_pid: process(state.shm_cpid),
        attach_count: Some(state.shm_nattch as i64),
        removed_pending: Some(u32::from(state.shm_perm.mode) & SHM_DEST != 0),
        size_bytes: Some(state.shm_segsz as i64),
        ..object(ObjectKind::Shm, id, &state.shm_perm)
    }
}

fn queue(id: i32, state: &libc::msqid_ds) -> Object {
    Object {
        change_ns: epoch_ns(state.msg_ctime),
        use_ns: epoch_ns(state.msg_stime.max(state.msg_rtime)),
        last_send_pid: process(state.msg_lspid),
        last_receive_pid: process(state.msg_lrpid),
        messages: Some(state.msg_qnum as i64),
        queued_bytes: Some(state.__msg_cbytes as i64),
        max_bytes: Some(state.msg_qbytes as i64),
        ..object(ObjectKind::Msg, id, &state.msg_perm)
    }
}

/// Adds the messages of a queue, oldest first.
fn messages(id: i32, state: &libc::msqid_ds, queued: &mut Vec<Queued>, withheld: &mut Withheld) {
    let count = i32::try_from(state.msg_qnum).unwrap_or(i32::MAX).min(MESSAGES_PER_QUEUE);
    // No message is longer than all together. The kernel copies the whole buffer for each message: no byte too many.
    let mut buffer = MessageBuffer::new((state.__msg_cbytes as usize).min(LONGEST_BODY));
    for position in 0..count {
        let message = match buffer.peek(id, position) {
            Ok(message) => Some(message),
            Err(error) => match error.raw_os_error() {
                Some(libc::E2BIG) => None,
                Some(libc::EINVAL) if control::queue(index(id)).is_ok_and(|(now, _)| now == id) => None,
                Some(libc::ENOMSG | libc::EINVAL | libc::EIDRM) => return,
                Some(libc::ENOSYS) => {
                    return withheld.note(MESSAGES, error, "use a kernel with CONFIG_CHECKPOINT_RESTORE");
                }
                _ => return withheld.note(MESSAGES, error, REMEDY),
            },
        };
        queued.push(Queued {
            object_id: id.into(),
            position,
            msg_type: message.as_ref().map(|m| m.msg_type),
            size_bytes: message.map(|m| m.size_bytes),
        });
    }
}

/// The index in an id, unless the kernel runs with `ipcmni_extend`; then a queue with a message longer than MSGMAX
/// counts as gone.
fn index(id: i32) -> i32 {
    id & 0x7fff
}
