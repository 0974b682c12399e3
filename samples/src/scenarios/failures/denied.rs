//! Calls without permission, by a process without privilege on objects of mode 0.

use super::own_key;
use crate::call::{Caller, Message, SemArgument, fail, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::{Failure, Result, process};
use libc::{EACCES, EPERM, IPC_CREAT, IPC_EXCL};

/// The objects: semaphores, shared memory, a message queue.
#[derive(Clone, Copy)]
struct Objects {
    set: i32,
    segment: i32,
    queue: i32,
}

pub(super) fn round(context: &mut Context, caller: &mut Caller) -> Result<()> {
    let objects = make(context, caller)?;
    let key = own_key(4);
    let pid = process::fork(context, |context| {
        // Before the privilege goes: the log's folder may be closed to others, but its file is made at the end.
        let mut caller = context.caller(10);
        let tried = as_nobody().and_then(|()| attempts(&mut caller, objects, key));
        as_before()?;
        caller.finish()?;
        tried
    })?;
    let denied = process::wait_all(&[pid]);
    succeed("semctl IPC_RMID", caller.sem_remove(objects.set))?;
    succeed("shmctl IPC_RMID", caller.shm_remove(objects.segment))?;
    succeed("msgctl IPC_RMID", caller.msg_remove(objects.queue))?;
    denied
}

fn make(context: &Context, caller: &mut Caller) -> Result<Objects> {
    let key = own_key(4);
    let set = id("semget", caller.semget(key, 1, IPC_CREAT | IPC_EXCL))?;
    context.guard.add(Kind::Sem, set)?;
    let segment = id("shmget", caller.shmget(key, 4096, IPC_CREAT | IPC_EXCL))?;
    context.guard.add(Kind::Shm, segment)?;
    let queue = id("msgget", caller.msgget(key, IPC_CREAT | IPC_EXCL))?;
    context.guard.add(Kind::Msg, queue)?;
    Ok(Objects { set, segment, queue })
}

fn attempts(caller: &mut Caller, objects: Objects, key: i32) -> Result<()> {
    let Objects { set, segment, queue } = objects;
    fail("semget", caller.semget(key, 1, 0o600), EACCES)?;
    fail("semop", caller.semop(set, &[sop(0, 1, 0)]), EACCES)?;
    fail("semctl GETVAL", caller.semctl(set, 0, libc::GETVAL, SemArgument::None), EACCES)?;
    fail("shmget", caller.shmget(key, 4096, 0o600), EACCES)?;
    fail("shmat", caller.shmat(segment, 0, 0), EACCES)?;
    fail("msgget", caller.msgget(key, 0o600), EACCES)?;
    fail("msgsnd", caller.msgsnd(queue, &Message::new(1), 1, 0), EACCES)?;
    fail("msgrcv", caller.msgrcv(queue, &mut Message::new(0), 1, 0, 0), EACCES)?;
    // The owner may remove what it may not use, and without privilege this process is the owner.
    if is_root() {
        fail("semctl IPC_RMID", caller.sem_remove(set), EPERM)?;
        fail("msgctl IPC_RMID", caller.msg_remove(queue), EPERM)?;
    }
    Ok(())
}

fn is_root() -> bool {
    // SAFETY: getuid takes nothing and cannot fail.
    unsafe { libc::getuid() == 0 }
}

/// Gives up the effective user id of root, and with it the capabilities in effect; keeps the way back.
fn as_nobody() -> Result<()> {
    set_effective_user(65_534)
}

fn as_before() -> Result<()> {
    set_effective_user(0)
}

fn set_effective_user(uid: u64) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let keep = u64::MAX;
    // SAFETY: setresuid takes three numbers; this process has one thread.
    if unsafe { libc::syscall(libc::SYS_setresuid, keep, uid, keep) } != 0 {
        return Err(Failure::last("cannot change the effective user id"));
    }
    Ok(())
}
