//! Threads whose calls differ from those of every other thread, so that a call in the wrong thread shows.
//!
//! Exact counts for T threads and COUNT rounds each: 1 semget, T msgget, 1 semctl and T msgctl (IPC_RMID), and per
//! round and thread 2 semtimedop of 2 operations, 1 semctl (GETVAL), 1 msgsnd, 1 msgrcv.
//! Thread i works on semaphores 2i and 2i + 1 and adds i + 1; its messages have type i + 1. Nothing fails.

use super::{make_set, remove_set};
use crate::call::{Message, SemArgument, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::{Failure, Result, process};

fn work(context: &Context, set: i32, index: u16, count: u64) -> Result<i32> {
    let mut caller = context.caller(5 * count + 2);
    let queue = id("msgget", caller.msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Msg, queue)?;
    let (first, amount) = (2 * index, index as i16 + 1);
    let kind = i64::from(amount);
    let mut message = Message::new(kind);
    for _ in 0..count {
        succeed("semop", caller.semop(set, &[sop(first, amount, 0), sop(first + 1, 1, 0)]))?;
        succeed("semctl GETVAL", caller.semctl(set, first.into(), libc::GETVAL, SemArgument::None))?;
        succeed("msgsnd", caller.msgsnd(queue, &message, u64::from(index) % 256, 0))?;
        succeed("msgrcv", caller.msgrcv(queue, &mut message, 256, kind, 0))?;
        succeed("semop", caller.semop(set, &[sop(first, -amount, 0), sop(first + 1, -1, 0)]))?;
    }
    succeed("msgctl IPC_RMID", caller.msg_remove(queue))?;
    caller.finish()?;
    Ok(process::own_tid())
}

pub(crate) fn run(context: &mut Context, count: u64, threads: u16) -> Result<()> {
    context.name("threads");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, 2 * threads)?;
    let shared: &Context = context;
    let tids: Result<Vec<i32>> = std::thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|index| scope.spawn(move || work(shared, set, index, count))).collect();
        working.into_iter().map(|w| w.join().map_err(|_| Failure::new("a thread panicked"))?).collect()
    });
    remove_set(&mut caller, set)?;
    context.put("tids", tids?);
    caller.finish()
}
