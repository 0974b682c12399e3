//! Rings of semaphores: some are deadlocks, some only look like one.

use super::object::set_text;
use super::plan::{Expected, Plan};
use super::ring::Ring;
use super::{add, kill, outlast_recording, perhaps_forever};
use crate::call::succeed;
use crate::context::Context;
use crate::scenarios::{make_set, remove_set, set_value};
use crate::{Result, board, process};
use libc::{SEM_UNDO, SYS_semtimedop};
use std::thread::sleep;

/// How long it lasts before anything else happens, milliseconds.
const LASTS: std::ops::RangeInclusive<u64> = 1200..=1800;

fn deadlock(objects: &[String], grades: &'static [&'static str]) -> Expected {
    Expected::new("deadlocks", "deadlock", grades).on(objects)
}

/// A ring that is still closed when the recording ends.
fn until_the_end(
    context: &mut Context,
    plan: &mut Plan,
    operations: usize,
    grades: &'static [&'static str],
) -> Result<()> {
    let mut caller = context.caller(20);
    let mut ring = Ring::make(context, &mut caller, plan, operations, 1)?;
    plan.expect(deadlock(&ring.objects(), grades));
    ring.close(context)?;
    sleep(plan.time("lasts_ms", LASTS));
    outlast_recording(plan)?;
    kill(&ring.pids)?;
    ring.remove(&mut caller)?;
    caller.finish()
}

pub(super) fn semaphores(context: &mut Context, plan: &mut Plan) -> Result<()> {
    until_the_end(context, plan, 1, &["certain"])
}

pub(super) fn operations(context: &mut Context, plan: &mut Plan) -> Result<()> {
    until_the_end(context, plan, 2, &["likely"])
}

pub(super) fn killed(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let mut ring = Ring::make(context, &mut caller, plan, 1, 1)?;
    plan.expect(deadlock(&ring.objects(), &["certain", "likely"]));
    ring.close(context)?;
    sleep(plan.time("lasts_ms", LASTS));
    let victims = plan.choice("killed", &[("one", 1), ("all", ring.pids.len())]);
    kill(&ring.pids[..victims])?;
    // What the victim held came back by SEM_UNDO, so the others go on.
    process::wait_all(&ring.pids[victims..])?;
    ring.remove(&mut caller)?;
    caller.finish()
}

pub(super) fn removed(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let mut ring = Ring::make(context, &mut caller, plan, 1, 1)?;
    plan.expect(deadlock(&ring.objects(), &["certain", "likely"]));
    for object in ring.objects() {
        // EIDRM is what its waiters get.
        plan.expect(
            Expected::new("races", "use_after_removal", &["certain", "likely", "suspect"]).on(&[object]).optional(),
        );
    }
    ring.close(context)?;
    sleep(plan.time("lasts_ms", LASTS));
    ring.remove(&mut caller)?;
    process::wait_all(&ring.pids)?;
    caller.finish()
}

/// Posts each semaphore of the ring in the place of an initial value, and stays.
fn post_and_stay(context: &Context, ring: &Ring, posted: &std::sync::atomic::AtomicI64) -> Result<()> {
    let mut caller = context.caller(5);
    for own in 0..ring.processes() {
        let (set, number) = ring.place(own);
        add(&mut caller, set, number, 1, 0)?;
    }
    caller.finish()?;
    board::write(posted, 1);
    std::thread::sleep(context.timeout);
    Ok(())
}

pub(super) fn outsider(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let mut ring = Ring::make(context, &mut caller, plan, 1, 0)?;
    plan.expect(deadlock(&ring.objects(), &["likely", "suspect"]));
    let posted = &board::new(1)?[0];
    let outsider = process::fork(context, |context| post_and_stay(context, &ring, posted))?;
    board::wait_for(posted, 1)?;
    ring.close(context)?;
    sleep(plan.time("lasts_ms", LASTS));
    outlast_recording(plan)?;
    kill(&[&ring.pids[..], &[outsider]].concat())?;
    ring.remove(&mut caller)?;
    caller.finish()
}

pub(super) fn broken(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let mut ring = Ring::make(context, &mut caller, plan, 1, 1)?;
    plan.expect(deadlock(&ring.objects(), &["likely", "suspect"]).optional());
    ring.close(context)?;
    sleep(plan.time("lasts_ms", LASTS));
    let (set, number) = ring.place(plan.number("posted", 0..=4) as u16);
    let outsider = process::fork(context, |context| {
        let mut caller = context.caller(2);
        add(&mut caller, set, number, 1, 0)?;
        // When all have gone through, what was lent is taken back.
        std::thread::sleep(std::time::Duration::from_millis(200));
        add(&mut caller, set, number, -1, 0)?;
        caller.finish()
    })?;
    process::wait_all(&[&ring.pids[..], &[outsider]].concat())?;
    ring.remove(&mut caller)?;
    caller.finish()
}

/// Takes a unit of semaphore `own`, then waits for one of the other.
fn want_both(context: &Context, set: i32, own: u16, holders: &std::sync::atomic::AtomicI64, all: i64) -> Result<()> {
    let mut caller = context.caller(4);
    add(&mut caller, set, own, -1, SEM_UNDO)?;
    holders.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    board::wait_for(holders, all)?;
    let sops = [crate::call::sop(1 - own, -1, SEM_UNDO)];
    succeed("semop", perhaps_forever(&mut caller, SYS_semtimedop, set, &sops))?;
    add(&mut caller, set, 1 - own, 1, SEM_UNDO)?;
    add(&mut caller, set, own, 1, SEM_UNDO)?;
    caller.finish()
}

/// Takes a unit of semaphore `own`, works for a while, and gives it back.
fn hold_one(context: &Context, set: i32, own: u16, holders: &std::sync::atomic::AtomicI64, until: i64) -> Result<()> {
    let mut caller = context.caller(2);
    add(&mut caller, set, own, -1, SEM_UNDO)?;
    holders.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    board::wait_for(holders, until)?;
    add(&mut caller, set, own, 1, SEM_UNDO)?;
    caller.finish()
}

pub(super) fn counting(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(4);
    let units = plan.number("units", 2..=4) as u16;
    let set = make_set(context, &mut caller, 2)?;
    for own in [0, 1] {
        set_value(&mut caller, set, own, units.into())?;
    }
    plan.expect(deadlock(&[set_text(set)], &["suspect"]).optional());
    let holders = &board::new(1)?[0];
    let all = 2 * i64::from(units);
    let mut others = Vec::new();
    for own in [0, 1] {
        for _ in 1..units {
            // They let go when the parent has added one more.
            others.push(process::fork(context, |context| hold_one(context, set, own, holders, all + 1))?);
        }
    }
    let mut waiters = Vec::new();
    for own in [0, 1] {
        waiters.push(process::fork(context, |context| want_both(context, set, own, holders, all))?);
    }
    waiters.iter().try_for_each(|pid| process::wait_until_inside(*pid, SYS_semtimedop).map(drop))?;
    sleep(plan.time("lasts_ms", LASTS));
    let ends_first = plan.flip("recording_ends_first");
    if ends_first {
        outlast_recording(plan)?;
    }
    holders.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    process::wait_all(&[waiters, others].concat())?;
    remove_set(&mut caller, set)?;
    caller.finish()
}
