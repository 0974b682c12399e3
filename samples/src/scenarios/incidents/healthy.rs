//! Programs with nothing wrong, each near the border of an incident.

use super::add;
use super::congestion::{hold_while_others_wait, make_queue, receive_many, send_many, wait_until_blocked};
use super::object::{Object, QUEUES, SYSTEM_V, draw_key};
use super::plan::Plan;
use crate::Result;
use crate::call::{Caller, SemArgument, id, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::scenarios::{make_set, remove_set, set_value};
use crate::{Failure, process};
use libc::SEM_UNDO;
use std::thread::sleep;
use std::time::Duration;

/// What one process makes and leaves to others: it is no orphan.
pub(super) fn handed_over(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let kind = plan.choice("kind", &SYSTEM_V);
    let key = draw_key(plan);
    let maker = process::fork(context, |context| {
        let mut caller = context.caller(3);
        let object = Object::make(context, &mut caller, kind, key, 0o600, "")?;
        object.work(&mut caller)?;
        caller.finish()
    })?;
    process::wait_all(&[maker])?;
    sleep(plan.time("idle_ms", 10..=500));
    let got = match kind {
        Kind::Sem => caller.semget(key, 1, 0o600),
        Kind::Shm => caller.shmget(key, 4096, 0o600),
        _ => caller.msgget(key, 0o600),
    };
    let object = Object { kind, id: id("getting it", got)?, name: None };
    (0..plan.number("uses", 1..=5)).try_for_each(|_| object.work(&mut caller))?;
    object.remove(&mut caller)?;
    caller.finish()
}

/// Takes items that another adds, and ends: it holds nothing.
pub(super) fn producer_consumer(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(300);
    let set = make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 0)?;
    let (consumers, items) = (plan.number("consumers", 1..=3), plan.number("items", 5..=50));
    let mut pids = Vec::new();
    for _ in 0..consumers {
        pids.push(process::fork(context, |context| {
            let mut caller = context.caller(items);
            (0..items).try_for_each(|_| add(&mut caller, set, 0, -1, 0))?;
            caller.finish()
        })?);
    }
    let pause = plan.time("pause_ms", 1..=10);
    for _ in 0..consumers * items {
        sleep(pause);
        add(&mut caller, set, 0, 1, 0)?;
    }
    process::wait_all(&pids)?;
    remove_set(&mut caller, set)?;
    caller.finish()
}

/// Many that wait, and a full queue; neither for a second.
pub(super) fn short_waits(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(50);
    let set = make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 1)?;
    for _ in 0..plan.number("bursts", 2..=3) {
        let waiters = plan.number("waiters", 3..=6);
        hold_while_others_wait(context, set, SEM_UNDO, waiters, plan.time("hold_ms", 200..=500))?;
    }
    remove_set(&mut caller, set)?;
    let kind = plan.choice("kind", &QUEUES);
    let queue = make_queue(context, &mut caller, kind, 4)?;
    let sender = process::fork(context, |context| send_many(context, &queue, 10))?;
    wait_until_blocked(&queue, &[sender])?;
    sleep(plan.time("full_ms", 200..=500));
    receive_many(&mut caller, &queue, 10)?;
    process::wait_all(&[sender])?;
    queue.remove(&mut caller)?;
    caller.finish()
}

/// Waits until the set's maker has used it, as semget(2) advises.
fn wait_for_first_use(caller: &mut Caller, set: i32) -> Result<()> {
    // `struct semid64_ds` of x86-64: ipc64_perm has 48 bytes, then comes sem_otime.
    const LAST_OPERATION: usize = 6;
    for _ in 0..10_000 {
        let mut state = [0; 32];
        succeed("semctl IPC_STAT", caller.semctl(set, 0, libc::IPC_STAT, SemArgument::Buffer(&mut state)))?;
        if state[LAST_OPERATION] != 0 {
            return Ok(());
        }
        sleep(Duration::from_millis(2));
    }
    Err(Failure::new("the maker of the set did not use it"))
}

/// A set by key, which a second process finds half made, and waits.
pub(super) fn init_in_order(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(10);
    let key = draw_key(plan);
    let set = Object::make(context, &mut caller, Kind::Sem, key, 0o600, "")?;
    let second = process::fork(context, |context| {
        let mut caller = context.caller(300);
        let set = id("semget", caller.semget(key, 1, 0o600))?;
        wait_for_first_use(&mut caller, set)?;
        add(&mut caller, set, 0, -1, SEM_UNDO)?;
        add(&mut caller, set, 0, 1, SEM_UNDO)?;
        caller.finish()
    })?;
    sleep(plan.time("initialised_after_ms", 10..=100));
    set_value(&mut caller, set.id, 0, 0)?;
    add(&mut caller, set.id, 0, 1, 0)?;
    process::wait_all(&[second])?;
    set.remove(&mut caller)?;
    caller.finish()
}
