//! Too many at one place: convoys, slow receivers, messages that nobody takes.

use super::add;
use super::object::{Object, QUEUES, set_text};
use super::plan::{Expected, Plan};
use crate::Result;
use crate::call::{Caller, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::scenarios::senders::resize;
use crate::scenarios::{make_set, remove_set, set_value};
use crate::{board, process};
use libc::{SEM_UNDO, SYS_mq_timedsend, SYS_msgsnd, SYS_semtimedop};
use std::sync::atomic::AtomicI64;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Critical sections, one after the other, until the time is over.
fn contend(context: &Context, set: i32, flags: i32, hold: Duration, until: Instant) -> Result<()> {
    let mut caller = context.caller(100);
    while Instant::now() < until {
        add(&mut caller, set, 0, -1, flags)?;
        sleep(hold);
        add(&mut caller, set, 0, 1, flags)?;
    }
    caller.finish()
}

/// One long critical section that others wait for; starts the waiters when it has begun.
pub(super) fn hold_while_others_wait(
    context: &mut Context,
    set: i32,
    flags: i32,
    waiters: u64,
    hold: Duration,
) -> Result<()> {
    let mut caller = context.caller(2);
    add(&mut caller, set, 0, -1, flags)?;
    let mut pids = Vec::new();
    for _ in 0..waiters {
        pids.push(process::fork(context, |context| {
            let mut caller = context.caller(2);
            add(&mut caller, set, 0, -1, flags)?;
            add(&mut caller, set, 0, 1, flags)?;
            caller.finish()
        })?);
    }
    pids.iter().try_for_each(|pid| process::wait_until_inside(*pid, SYS_semtimedop).map(drop))?;
    sleep(hold);
    add(&mut caller, set, 0, 1, flags)?;
    process::wait_all(&pids)?;
    caller.finish()
}

pub(super) fn convoy(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(3);
    let set = make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 1)?;
    plan.expect(Expected::new("contention", "convoy", &["certain"]).on(&[set_text(set)]));
    let flags = plan.choice("flags", &[("none", 0), ("SEM_UNDO", SEM_UNDO)]);
    if plan.flip("one_long_hold") {
        let waiters = plan.number("waiters", 3..=6);
        hold_while_others_wait(context, set, flags, waiters, plan.time("hold_ms", 1300..=2000))?;
    } else {
        // With one holding and one on its way there are always three that wait.
        let processes = plan.number("processes", 6..=9);
        let (hold, until) = (plan.time("hold_ms", 30..=120), Instant::now() + Duration::from_millis(1800));
        let mut pids = Vec::new();
        for _ in 0..processes {
            pids.push(process::fork(context, |context| contend(context, set, flags, hold, until))?);
        }
        process::wait_all(&pids)?;
    }
    remove_set(&mut caller, set)?;
    caller.finish()
}

/// A queue for so many messages of 16 bytes.
pub(super) fn make_queue(context: &Context, caller: &mut Caller, kind: Kind, room: u64) -> Result<Object> {
    if kind == Kind::Mq {
        return Object::make_posix(context, caller, "congestion", room as i64);
    }
    let queue = Object::private(context, caller, kind, "congestion")?;
    resize(caller, queue.id, 16 * room)?;
    Ok(queue)
}

pub(super) fn send_many(context: &Context, queue: &Object, count: u64) -> Result<()> {
    let mut caller = context.caller(count + 1);
    let queue = queue.open(&mut caller)?;
    for _ in 0..count {
        succeed("sending", queue.send(&mut caller, 1))?;
    }
    caller.finish()
}

pub(super) fn receive_many(caller: &mut Caller, queue: &Object, count: u64) -> Result<()> {
    (0..count).try_for_each(|_| succeed("receiving", queue.receive(caller, 0)).map(drop))
}

/// Waits until all sleep in sending.
pub(super) fn wait_until_blocked(queue: &Object, senders: &[i32]) -> Result<()> {
    let number = if queue.kind == Kind::Mq { SYS_mq_timedsend } else { SYS_msgsnd };
    senders.iter().try_for_each(|pid| process::wait_until_inside(*pid, number).map(drop))
}

pub(super) fn back_pressure(context: &mut Context, plan: &mut Plan) -> Result<()> {
    const SENDERS: u64 = 2;
    let mut caller = context.caller(200);
    let kind = plan.choice("kind", &QUEUES);
    let room = plan.number("room", 2..=8);
    let queue = make_queue(context, &mut caller, kind, room)?;
    plan.expect(Expected::new("queues", "back_pressure", &["certain", "likely"]).on(&[queue.text()]));
    // A receiver that stands still, or one that is slow.
    let (pause, taken_slowly) = match plan.flip("receiver_stalls") {
        true => (plan.time("stalled_ms", 1400..=2000), 0),
        false => {
            let pause = plan.time("pause_ms", 150..=400);
            (pause, 2200 / pause.as_millis() as u64 + 1)
        }
    };
    // Neither is done before the other waits, too.
    let each = room + taken_slowly + 4;
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        senders.push(process::fork(context, |context| send_many(context, &queue, each))?);
    }
    wait_until_blocked(&queue, &senders)?;
    sleep(pause);
    for _ in 0..taken_slowly {
        receive_many(&mut caller, &queue, 1)?;
        sleep(pause);
    }
    receive_many(&mut caller, &queue, SENDERS * each - taken_slowly)?;
    process::wait_all(&senders)?;
    queue.remove(&mut caller)?;
    caller.finish()
}

/// Receives a message of the later kind whenever one more was sent.
fn take_later_ones(context: &Context, queue: &Object, count: u64, later: u32, sent: &AtomicI64) -> Result<()> {
    let mut caller = context.caller(count + 1);
    let queue = queue.open(&mut caller)?;
    for received in 0..count {
        board::wait_for(sent, received as i64 + 1)?;
        succeed("receiving", queue.receive(&mut caller, later.into()))?;
    }
    caller.finish()
}

pub(super) fn starvation(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(200);
    let kind = plan.choice("kind", &QUEUES);
    let queue = make_queue(context, &mut caller, kind, 8)?;
    plan.expect(Expected::new("queues", "starvation", &["certain", "likely"]).on(&[queue.text()]));
    // Of a POSIX queue the highest priority goes first, and a higher one is always there.
    let (starving, later) = (plan.number("starving", 1..=3) as u32, plan.number("later", 4..=9) as u32);
    let (pause, ahead) = (plan.time("pause_ms", 20..=80), plan.number("ahead", 1..=3));
    let count = 1800 / pause.as_millis() as u64 + 1;
    let sent = &board::new(1)?[0];
    succeed("sending", queue.send(&mut caller, starving))?;
    for _ in 0..ahead {
        succeed("sending", queue.send(&mut caller, later))?;
    }
    let receiver = process::fork(context, |context| take_later_ones(context, &queue, count, later, sent))?;
    for round in 1..=count {
        succeed("sending", queue.send(&mut caller, later))?;
        board::write(sent, round as i64);
        sleep(pause);
    }
    process::wait_all(&[receiver])?;
    if plan.flip("taken_in_the_end") {
        receive_many(&mut caller, &queue, ahead + 1)?;
    }
    queue.remove(&mut caller)?;
    caller.finish()
}
