//! One round of message queues: 1 msgget, 3 msgsnd, 3 msgrcv, 2 msgctl. Nothing fails.

use crate::Result;
use crate::call::{Caller, Message, id, succeed};
use crate::context::Context;
use crate::guard::Kind;

pub(crate) fn round(context: &Context, caller: &mut Caller) -> Result<()> {
    let queue = id("msgget", caller.msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Msg, queue)?;
    let worked = work(caller, queue);
    succeed("msgctl IPC_RMID", caller.msg_remove(queue))?;
    worked
}

fn work(caller: &mut Caller, queue: i32) -> Result<()> {
    for kind in 1..=3 {
        let flags = if kind == 2 { libc::IPC_NOWAIT } else { 0 };
        succeed("msgsnd", caller.msgsnd(queue, &Message::new(kind), 16 * kind as u64, flags))?;
    }
    let mut message = Message::new(0);
    succeed("msgrcv", caller.msgrcv(queue, &mut message, 256, 2, libc::IPC_NOWAIT))?;
    succeed("msgrcv", caller.msgrcv(queue, &mut message, 4, -3, libc::MSG_NOERROR))?;
    succeed("msgrcv", caller.msgrcv(queue, &mut message, 256, 0, 0))?;
    // SAFETY: zero is a valid value of every field of msqid_ds, integers all.
    let mut state: libc::msqid_ds = unsafe { std::mem::zeroed() };
    succeed("msgctl IPC_STAT", caller.msgctl(queue, libc::IPC_STAT, Some(&mut state)))?;
    Ok(())
}
