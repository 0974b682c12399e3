//! Message queues.

use super::{End, own_key, wait_and_end};
use crate::Result;
use crate::call::{Caller, Message, fail, id, succeed};
use crate::context::Context;
use crate::guard::Kind;
use libc::{E2BIG, EAGAIN, EEXIST, EIDRM, EINTR, EINVAL, ENOENT, ENOMSG};
use libc::{IPC_CREAT, IPC_EXCL, IPC_NOWAIT, IPC_SET, IPC_STAT, SYS_msgrcv};

pub(super) fn round(context: &mut Context, caller: &mut Caller) -> Result<()> {
    let key = own_key(3);
    fail("msgget of an unknown key", caller.msgget(key, 0), ENOENT)?;
    let queue = id("msgget", caller.msgget(key, IPC_CREAT | IPC_EXCL | 0o600))?;
    context.guard.add(Kind::Msg, queue)?;
    fail("msgget with IPC_EXCL", caller.msgget(key, IPC_CREAT | IPC_EXCL | 0o600), EEXIST)?;
    messages(caller, queue)?;
    let receive = |caller: &mut Caller| caller.msgrcv(queue, &mut Message::new(0), 16, 7, 0);
    wait_and_end(context, SYS_msgrcv, receive, End::Signal, EINTR)?;
    let mut remove = || succeed("msgctl IPC_RMID", caller.msg_remove(queue)).map(drop);
    wait_and_end(context, SYS_msgrcv, receive, End::Removal(&mut remove), EIDRM)?;
    fail("msgsnd to a removed queue", caller.msgsnd(queue, &Message::new(1), 1, 0), EINVAL)
}

fn messages(caller: &mut Caller, queue: i32) -> Result<()> {
    let mut message = Message::new(0);
    fail("msgrcv with IPC_NOWAIT", caller.msgrcv(queue, &mut message, 16, 0, IPC_NOWAIT), ENOMSG)?;
    fail("msgrcv from a bad id", caller.msgrcv(-1, &mut message, 16, 0, IPC_NOWAIT), EINVAL)?;
    fail("msgsnd of type 0", caller.msgsnd(queue, &Message::new(0), 1, 0), EINVAL)?;
    fail("msgsnd beyond MSGMAX", caller.msgsnd(queue, &Message::new(1), 1 << 40, 0), EINVAL)?;
    // SAFETY: zero is a valid value of every field of msqid_ds, integers all.
    let mut state: libc::msqid_ds = unsafe { std::mem::zeroed() };
    succeed("msgctl IPC_STAT", caller.msgctl(queue, IPC_STAT, Some(&mut state)))?;
    state.msg_qbytes = 100;
    succeed("msgctl IPC_SET", caller.msgctl(queue, IPC_SET, Some(&mut state)))?;
    succeed("msgsnd", caller.msgsnd(queue, &Message::new(1), 100, IPC_NOWAIT))?;
    fail("msgsnd to a full queue", caller.msgsnd(queue, &Message::new(1), 1, IPC_NOWAIT), EAGAIN)?;
    fail("msgrcv into too little", caller.msgrcv(queue, &mut message, 99, 0, 0), E2BIG)?;
    fail("msgctl with a bad command", caller.msgctl(queue, 99, None), EINVAL)?;
    fail("msgctl of a bad id", caller.msgctl(-1, IPC_STAT, Some(&mut state)), EINVAL)
}
