//! Two processes with a queue in each direction, which both wait for the other to act first.

use super::object::{Object, QUEUES};
use super::plan::{Expected, Plan};
use super::{kill, outlast_recording};
use crate::Result;
use crate::call::{Caller, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::process;
use crate::scenarios::senders::resize;
use libc::{SYS_mq_timedreceive, SYS_mq_timedsend, SYS_msgrcv, SYS_msgsnd};
use std::thread::sleep;

/// How many messages of 16 bytes a queue holds.
const ROOM: u64 = 4;

/// At what both wait.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// An empty queue: a message went amiss, each takes it to be the other's turn.
    Empty,
    /// A full queue: both have much to say before they listen.
    Full,
}

/// What both sides know.
#[derive(Clone, Copy)]
struct Talk {
    rounds: u64,
    at: At,
}

/// A side of the conversation: asks or answers for some rounds, then waits for the other.
fn talk(context: &Context, out: &Object, inward: &Object, asks: bool, talk: Talk) -> Result<()> {
    let mut caller = context.caller(2 * talk.rounds + 2 + ROOM);
    let (out, inward) = (out.open(&mut caller)?, inward.open(&mut caller)?);
    for _ in 0..talk.rounds {
        if asks {
            succeed("sending", out.send(&mut caller, 1))?;
        }
        succeed("receiving", inward.receive(&mut caller, 0))?;
        if !asks {
            succeed("sending", out.send(&mut caller, 1))?;
        }
    }
    if talk.at == At::Full {
        for _ in 0..ROOM {
            succeed("sending", out.send(&mut caller, 1))?;
        }
    }
    caller.announce(number(out.kind, talk.at));
    // Another caller performs it: this one has counted it, for it may not return.
    let mut uncounted = Caller::new(crate::totals::Totals::shared()?, None, 0);
    match talk.at {
        At::Empty => inward.receive(&mut uncounted, 0),
        At::Full => out.send(&mut uncounted, 1),
    }
    .map_or_else(|errno| Err(crate::Failure::new(format!("a wait at a queue ended with errno {errno}"))), |_| Ok(()))
}

const fn number(kind: Kind, at: At) -> i64 {
    match (kind, at) {
        (Kind::Mq, At::Empty) => SYS_mq_timedreceive,
        (Kind::Mq, At::Full) => SYS_mq_timedsend,
        (_, At::Empty) => SYS_msgrcv,
        (_, At::Full) => SYS_msgsnd,
    }
}

fn make(context: &Context, caller: &mut Caller, kind: Kind, label: &str) -> Result<Object> {
    if kind == Kind::Mq {
        let queue = Object::make_posix(context, caller, label, ROOM as i64)?;
        // Each side opens it by name: this process does not take part.
        queue.close();
        return Ok(queue);
    }
    let queue = Object::private(context, caller, kind, label)?;
    resize(caller, queue.id, 16 * ROOM)?;
    Ok(queue)
}

pub(super) fn queues(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(10);
    let kind = plan.choice("kind", &QUEUES);
    let at = plan.choice("at", &[("empty", At::Empty), ("full", At::Full)]);
    let shared = Talk { rounds: plan.number("rounds", 3..=40), at };
    let (there, back) = (make(context, &mut caller, kind, "there")?, make(context, &mut caller, kind, "back")?);
    plan.expect(Expected::new("deadlocks", "deadlock", &["likely"]).on(&[there.text(), back.text()]));
    if at == At::Full {
        for queue in [&there, &back] {
            // It is that, too; the deadlock says why.
            let grades = &["certain", "likely"];
            plan.expect(Expected::new("queues", "back_pressure", grades).on(&[queue.text()]).optional());
        }
    }
    let first = process::fork(context, |context| talk(context, &there, &back, true, shared))?;
    let second = process::fork(context, |context| talk(context, &back, &there, false, shared))?;
    for pid in [first, second] {
        process::wait_until_inside(pid, number(kind, at))?;
    }
    sleep(plan.time("lasts_ms", 1200..=1800));
    outlast_recording(plan)?;
    kill(&[first, second])?;
    there.remove(&mut caller)?;
    back.remove(&mut caller)?;
    caller.finish()
}
