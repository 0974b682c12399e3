//! Waits that end in every way there is, each once: the waiter is known to sleep before the waker acts.
//!
//! The result's `wakings` has one object per case: `case`, `waiter` (process), `syscall` (what it waits in), `waker`,
//! `waker_tid`, `waker_syscall` (null: no IPC call), `reason`, `error` of the wait (null: none), and `from_ns`, `to_ns`:
//! the boot clock just before the waker acted, and after the wait. Exact counts: those of `performed`.

mod cases;

use super::senders::resize;
use crate::call::{Attributes, Caller, QueueName, id, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::totals::errno_name;
use crate::{Failure, Result, board, clock, process};
use cases::{CASES, Case};
use serde_json::{Value, json};
use std::sync::atomic::AtomicI64;

/// How many bytes the queue of a case holds: 4 messages of 256.
const QUEUE_BYTES: u64 = 1024;

/// What a case waits for: two semaphores at 0, an empty System V queue, an empty POSIX queue for one message.
struct Place {
    set: i32,
    queue: i32,
    posix: i32,
    name: QueueName,
}

impl Place {
    fn new(context: &Context, caller: &mut Caller) -> Result<Place> {
        let set = super::make_set(context, caller, 2)?;
        let queue = id("msgget", caller.msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600))?;
        context.guard.add(Kind::Msg, queue)?;
        resize(caller, queue, QUEUE_BYTES)?;
        let name = QueueName::own("wakers");
        context.guard.add_queue(name.as_str())?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        let posix = id("mq_open", caller.mq_open(&name, flags, Some(&Attributes::room(1, 64))))?;
        Ok(Place { set, queue, posix, name })
    }

    /// Removes what the case left.
    fn remove(self, caller: &mut Caller) -> Result<()> {
        for outcome in [caller.sem_remove(self.set), caller.msg_remove(self.queue)] {
            if !matches!(outcome, Ok(_) | Err(libc::EINVAL)) {
                succeed("IPC_RMID", outcome)?;
            }
        }
        succeed("mq_unlink", caller.mq_unlink(&self.name))?;
        // SAFETY: the descriptor is this place's own.
        unsafe { libc::close(self.posix) };
        Ok(())
    }
}

/// What the processes of a case agree on.
struct Turns {
    /// 1: the waker is ready, 2: the waiter sleeps.
    turn: &'static AtomicI64,
    waiter: &'static AtomicI64,
    waker_tid: &'static AtomicI64,
    from_ns: &'static AtomicI64,
    to_ns: &'static AtomicI64,
}

impl Turns {
    fn new() -> Result<Turns> {
        let [turn, waiter, waker_tid, from_ns, to_ns] = board::new(5)? else { return Err(Failure::new("no board")) };
        Ok(Turns { turn, waiter, waker_tid, from_ns, to_ns })
    }

    /// The waker is about to act.
    fn act(&self) {
        board::write(self.waker_tid, process::own_tid().into());
        board::write(self.from_ns, clock::boot_ns());
    }
}

fn wake(context: &Context, case: &Case, place: &Place, turns: &Turns) -> Result<()> {
    let mut caller = context.caller(80);
    (case.prepare)(&mut caller, place)?;
    board::write(turns.turn, 1);
    board::wait_for(turns.turn, 2)?;
    let waiter = board::read(turns.waiter) as i32;
    let act = |caller: &mut Caller| {
        turns.act();
        (case.wake)(caller, place, waiter)
    };
    if case.in_thread {
        let acted = std::thread::scope(|scope| scope.spawn(|| act(&mut caller)).join());
        acted.map_err(|_| Failure::new("a thread panicked"))??;
    } else {
        act(&mut caller)?;
    }
    caller.finish()
}

fn wait(context: &Context, case: &Case, place: &Place, turns: &Turns) -> Result<()> {
    super::interrupted::handle(0);
    let mut caller = context.caller(10);
    let outcome = (case.wait)(&mut caller, place);
    board::write(turns.to_ns, clock::boot_ns());
    let seen = outcome.err();
    if seen != case.error {
        return Err(Failure::new(format!("{}: the wait ended with {seen:?} instead of {:?}", case.name, case.error)));
    }
    caller.finish()
}

fn run_case(context: &mut Context, caller: &mut Caller, case: &Case) -> Result<Value> {
    let (place, turns) = (Place::new(context, caller)?, Turns::new()?);
    let waker = process::fork(context, |context| wake(context, case, &place, &turns))?;
    board::wait_for(turns.turn, 1)?;
    let waiter = process::fork(context, |context| wait(context, case, &place, &turns))?;
    process::wait_until_inside(waiter, case.number)?;
    board::write(turns.waiter, waiter.into());
    board::write(turns.turn, 2);
    process::wait_all(&[waker, waiter])?;
    place.remove(caller)?;
    Ok(json!({
        "case": case.name, "waiter": waiter, "syscall": case.syscall,
        "waker": waker, "waker_tid": board::read(turns.waker_tid), "waker_syscall": case.waker_syscall,
        "reason": case.reason, "error": case.error.map(errno_name),
        "from_ns": board::read(turns.from_ns), "to_ns": board::read(turns.to_ns),
    }))
}

pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.name("special-wakers");
    let mut caller = context.caller(8 * CASES.len() as u64);
    let wakings: Result<Vec<Value>> = CASES.iter().map(|case| run_case(context, &mut caller, case)).collect();
    context.put("wakings", wakings?);
    caller.finish()
}
