//! Sets used before they are ready, made anew under those who wait, and used when they are gone.

use super::object::{Object, SYSTEM_V, draw_key, set_text};
use super::plan::{Expected, Plan};
use super::{add, perhaps_forever};
use crate::call::{Caller, SemArgument, fail, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::scenarios::set_value;
use crate::{Failure, Result, board, process};
use libc::{EAGAIN, IPC_NOWAIT, SEM_UNDO, SYS_semtimedop};
use std::thread::sleep;

/// What the second process does before the first has initialised the set.
#[derive(Clone, Copy, PartialEq)]
enum Early {
    /// Adds to a semaphore whose value is still to be set.
    Post,
    /// Finds it taken, because it is still 0.
    Try,
    /// Sets it, as the first one will.
    Initialise,
}

fn come_early(context: &Context, key: i32, early: Early) -> Result<()> {
    let mut caller = context.caller(3);
    let set = id("semget", caller.semget(key, 1, 0o600))?;
    match early {
        Early::Post => add(&mut caller, set, 0, 1, 0)?,
        Early::Try => fail("semop", caller.semop(set, &[sop(0, -1, IPC_NOWAIT)]), EAGAIN)?,
        Early::Initialise => set_value(&mut caller, set, 0, 1)?,
    }
    caller.finish()
}

pub(super) fn init_race(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(5);
    let key = draw_key(plan);
    let set = Object::make(context, &mut caller, Kind::Sem, key, 0o600, "")?;
    plan.expect(Expected::new("races", "init_race", &["certain", "likely"]).on(&[set.text()]));
    let kinds = [("post", Early::Post), ("try", Early::Try), ("setval", Early::Initialise)];
    let early = plan.choice("early", &kinds);
    let second = process::fork(context, |context| come_early(context, key, early))?;
    process::wait_all(&[second])?;
    sleep(plan.time("initialised_after_ms", 1..=100));
    set_value(&mut caller, set.id, 0, 1)?;
    add(&mut caller, set.id, 0, -1, SEM_UNDO)?;
    add(&mut caller, set.id, 0, 1, SEM_UNDO)?;
    set.remove(&mut caller)?;
    caller.finish()
}

pub(super) fn reinit_under_waiters(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(10);
    let set = crate::scenarios::make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 1)?;
    plan.expect(Expected::new("races", "reinit_under_waiters", &["certain", "likely"]).on(&[set_text(set)]));
    let [has_it, is_over] = board::new(2)? else { return Err(Failure::new("no board")) };
    let holder = process::fork(context, |context| {
        let mut caller = context.caller(2);
        add(&mut caller, set, 0, -1, SEM_UNDO)?;
        board::write(has_it, 1);
        board::wait_for(is_over, 1)?;
        add(&mut caller, set, 0, 1, SEM_UNDO)?;
        caller.finish()
    })?;
    let wait_and_leave = |context: &Context| {
        let mut caller = context.caller(2);
        succeed("semop", perhaps_forever(&mut caller, SYS_semtimedop, set, &[sop(0, -1, SEM_UNDO)]))?;
        add(&mut caller, set, 0, 1, SEM_UNDO)?;
        caller.finish()
    };
    board::wait_for(has_it, 1)?;
    // Fewer than a convoy.
    let waiters = (0..plan.number("waiters", 1..=2)).map(|_| process::fork(context, wait_and_leave));
    let waiters: Vec<i32> = waiters.collect::<Result<_>>()?;
    waiters.iter().try_for_each(|pid| process::wait_until_inside(*pid, SYS_semtimedop).map(drop))?;
    sleep(plan.time("waited_ms", 50..=400));
    // Two are in the critical section then, or, with 0, the next one waits on.
    let value = plan.number("value", 0..=1) as u16;
    if plan.flip("by_setall") {
        let mut values = [0; 512];
        values[0] = value;
        succeed("semctl SETALL", caller.semctl(set, 0, libc::SETALL, SemArgument::Values(&mut values)))?;
    } else {
        set_value(&mut caller, set, 0, value.into())?;
    }
    sleep(std::time::Duration::from_millis(50));
    board::write(is_over, 1);
    process::wait_all(&[&[holder][..], &waiters].concat())?;
    crate::scenarios::remove_set(&mut caller, set)?;
    caller.finish()
}

/// A call on what is gone: EINVAL.
fn use_again(caller: &mut Caller, object: &Object) -> Result<()> {
    let outcome = match object.kind {
        Kind::Sem => caller.semop(object.id, &[sop(0, 1, 0)]),
        Kind::Shm => caller.shmat(object.id, 0, 0),
        _ => object.send(caller, 1),
    };
    fail("use after removal", outcome, libc::EINVAL)
}

pub(super) fn use_after_removal(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let kind = plan.choice("kind", &SYSTEM_V);
    let object = Object::private(context, &mut caller, kind, "gone")?;
    plan.expect(Expected::new("races", "use_after_removal", &["certain"]).on(&[object.text()]));
    let (uses, uses_after) = (plan.number("uses", 1..=10), plan.number("uses_after", 1..=5));
    let is_gone = &board::new(2)?;
    let user = process::fork(context, |context| {
        let mut caller = context.caller(40);
        (0..uses).try_for_each(|_| object.work(&mut caller))?;
        board::write(&is_gone[0], 1);
        board::wait_for(&is_gone[1], 1)?;
        (0..uses_after).try_for_each(|_| use_again(&mut caller, &object))?;
        caller.finish()
    })?;
    board::wait_for(&is_gone[0], 1)?;
    sleep(plan.time("removed_after_ms", 1..=200));
    object.remove(&mut caller)?;
    board::write(&is_gone[1], 1);
    process::wait_all(&[user])?;
    caller.finish()
}
