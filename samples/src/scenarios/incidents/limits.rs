//! Limits that are met, and permission that is refused.

use super::object::{KINDS, Object, draw_key};
use super::outlast_recording;
use super::plan::{Expected, Plan};
use crate::call::{Attributes, Caller, QueueName, fail};
use crate::context::Context;
use crate::guard::Kind;
use crate::scenarios::{make_set, remove_set};
use crate::{Failure, Result, board, process};
use libc::{EACCES, EINVAL, EMFILE, ENOSPC, IPC_CREAT, IPC_PRIVATE, O_CREAT, O_EXCL, O_RDWR};
use std::thread::sleep;
use std::time::Duration;

/// A program says what went wrong and cleans up; the recorder looks around meanwhile.
const AFTERMATH: Duration = Duration::from_millis(500);

/// A fresh IPC namespace with another limit: a path below /proc/sys and what to write.
fn lower(limit: &str, value: &str) -> Result<()> {
    process::leave_ipc_namespace()?;
    let path = format!("/proc/sys/{limit}");
    std::fs::write(&path, value).map_err(|e| Failure::new(format!("cannot write {value} to {path}: {e}")))
}

fn limit(name: &str, value: u64) -> Expected {
    Expected::new("failures", "limit", &["certain"]).saying(name).saying(value)
}

pub(super) fn semmni(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let (sets, tries) = (plan.number("SEMMNI", 5..=40), plan.number("tries", 1..=4));
    plan.expect(limit("SEMMNI", sets));
    let exhaust = process::fork(context, |context| {
        lower("kernel/sem", &format!("32000 1024000000 500 {sets}"))?;
        let mut caller = context.caller(2 * sets + tries);
        let made = (0..sets).map(|_| make_set(context, &mut caller, 1)).collect::<Result<Vec<i32>>>()?;
        for _ in 0..tries {
            fail("semget", caller.semget(IPC_PRIVATE, 1, IPC_CREAT | 0o600), ENOSPC)?;
        }
        sleep(AFTERMATH);
        made.iter().try_for_each(|set| remove_set(&mut caller, *set))?;
        caller.finish()
    })?;
    process::wait_all(&[exhaust])
}

pub(super) fn shmmax(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let (most, more) = (plan.number("SHMMAX", 1 << 20..=1 << 24), plan.number("more", 1..=1 << 24));
    plan.expect(limit("SHMMAX", most));
    let [is_refused, is_over] = board::new(2)? else { return Err(Failure::new("no board")) };
    let ask = process::fork(context, |context| {
        lower("kernel/shmmax", &most.to_string())?;
        let mut caller = context.caller(1);
        fail("shmget", caller.shmget(IPC_PRIVATE, most + more, IPC_CREAT | 0o600), EINVAL)?;
        caller.finish()?;
        board::write(is_refused, 1);
        board::wait_for(is_over, 1)
    })?;
    // Such a failure makes the recorder take no snapshot: the last one must still meet the namespace.
    board::wait_for(is_refused, 1)?;
    outlast_recording(plan)?;
    board::write(is_over, 1);
    process::wait_all(&[ask])
}

/// Becomes another user for good. The log's folder may be closed to it: a run with --log fails here.
fn become_user(uid: u64) -> Result<()> {
    // SAFETY: each takes numbers or an empty list; this process has one thread.
    let changed = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, 0) == 0
            && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    if !changed {
        return Err(Failure::last("cannot become another user (are you root?)"));
    }
    Ok(())
}

pub(super) fn rlimit_msgqueue(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let (uid, bytes) = (plan.number("uid", 40_000..=59_999), plan.number("RLIMIT_MSGQUEUE", 4_000..=60_000));
    plan.expect(limit("RLIMIT_MSGQUEUE", bytes));
    let room = Attributes::room(plan.number("messages", 2..=10) as i64, plan.number("bytes", 16..=200) as i64);
    let exhaust = process::fork(context, |context| {
        become_user(uid)?;
        let soft = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: a valid rlimit, which is only read.
        if unsafe { libc::setrlimit(libc::RLIMIT_MSGQUEUE, &soft) } != 0 {
            return Err(Failure::last("cannot lower RLIMIT_MSGQUEUE"));
        }
        let mut caller = context.caller(200);
        let made = fill(context, &mut caller, &room)?;
        sleep(AFTERMATH);
        made.iter().try_for_each(|name| crate::call::succeed("mq_unlink", caller.mq_unlink(name)).map(drop))?;
        caller.finish()
    })?;
    process::wait_all(&[exhaust])
}

/// Makes queues until there is no more room for them.
fn fill(context: &Context, caller: &mut Caller, room: &Attributes) -> Result<Vec<QueueName>> {
    let mut made = Vec::new();
    loop {
        let name = QueueName::own(&format!("fill-{}", made.len()));
        context.guard.add_queue(name.as_str())?;
        match caller.mq_open(&name, O_CREAT | O_EXCL | O_RDWR, Some(room)) {
            Ok(_) => made.push(name),
            Err(EMFILE) if !made.is_empty() => return Ok(made),
            Err(errno) => return Err(Failure::new(format!("mq_open failed with errno {errno}"))),
        }
    }
}

pub(super) fn eacces(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(5);
    let kind = plan.choice("kind", &KINDS);
    let key = draw_key(plan);
    let (uid, tries) = (plan.number("uid", 40_000..=59_999), plan.number("tries", 1..=5));
    let object = Object::make(context, &mut caller, kind, key, 0o600, "closed")?;
    let by_key = match kind {
        Kind::Sem => format!("sem:key={key:#x}"),
        Kind::Shm => format!("shm:key={key:#x}"),
        _ => format!("msg:key={key:#x}"),
    };
    plan.expect(Expected::new("failures", "permission", &["certain"]).on(&[object.text(), by_key]).saying(uid));
    let stranger = process::fork(context, |context| {
        become_user(uid)?;
        let mut caller = context.caller(tries);
        for _ in 0..tries {
            let outcome = match (kind, &object.name) {
                (Kind::Mq, Some(name)) => caller.mq_open(name, O_RDWR, None),
                (Kind::Sem, _) => caller.semget(key, 1, 0o600),
                (Kind::Shm, _) => caller.shmget(key, 4096, 0o600),
                _ => caller.msgget(key, 0o600),
            };
            fail("opening what is another's", outcome, EACCES)?;
        }
        sleep(AFTERMATH);
        caller.finish()
    })?;
    process::wait_all(&[stranger])?;
    object.remove(&mut caller)?;
    caller.finish()
}
