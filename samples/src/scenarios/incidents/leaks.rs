//! What outlives those who made it, and what is open to everybody.

use super::object::{KINDS, Object, SYSTEM_V, draw_key, set_text};
use super::plan::{Expected, Plan};
use super::{add, kill};
use crate::Result;
use crate::context::Context;
use crate::guard::Kind;
use crate::scenarios::{make_set, remove_set, set_value};
use crate::{Failure, board, process};
use libc::SIGKILL;
use std::sync::atomic::AtomicI64;
use std::thread::sleep;
use std::time::Duration;

/// The objects as they will be when their maker has told their ids; POSIX queues have names.
fn named(kind: Kind, maker: i32, cell: &AtomicI64, place: usize) -> String {
    match kind {
        Kind::Sem => set_text(board::read(cell) as i32),
        Kind::Shm => format!("shm:{}", board::read(cell)),
        Kind::Msg => format!("msg:{}", board::read(cell)),
        Kind::Mq => format!("mq:/ipc-workload-{maker}-leak-{place}"),
    }
}

/// Makes objects, uses each, and removes none.
fn make_and_use(context: &Context, kind: Kind, uses: u64, cells: &[AtomicI64]) -> Result<()> {
    let mut caller = context.caller(100);
    for (place, cell) in cells.iter().enumerate() {
        let object = Object::private(context, &mut caller, kind, &format!("leak-{place}"))?;
        (0..uses).try_for_each(|_| object.work(&mut caller))?;
        board::write(cell, object.id.into());
        object.close();
    }
    caller.finish()
}

fn expect_orphans(plan: &mut Plan, kind: Kind, maker: i32, cells: &[AtomicI64]) {
    for (place, cell) in cells.iter().enumerate() {
        let object = named(kind, maker, cell, place);
        plan.expect(Expected::new("leaks", "orphan", &["certain"]).on(std::slice::from_ref(&object)));
        plan.leave(object);
    }
}

pub(super) fn crash(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let kind = plan.choice("kind", &KINDS);
    let (cells, uses) = (board::new(plan.number("objects", 1..=3) as usize)?, plan.number("uses", 1..=20));
    let is_made = &board::new(1)?[0];
    let maker = process::fork(context, |context| {
        make_and_use(context, kind, uses, cells)?;
        board::write(is_made, 1);
        sleep(context.timeout);
        Ok(())
    })?;
    board::wait_for(is_made, 1)?;
    sleep(plan.time("crash_after_ms", 50..=400));
    process::signal(maker, SIGKILL)?;
    process::wait(maker)?;
    expect_orphans(plan, kind, maker, cells);
    Ok(())
}

pub(super) fn design(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let kind = plan.choice("kind", &KINDS);
    let (cells, uses) = (board::new(plan.number("requests", 3..=8) as usize)?, plan.number("uses", 1..=5));
    let server = process::fork(context, |context| make_and_use(context, kind, uses, cells))?;
    process::wait_all(&[server])?;
    expect_orphans(plan, kind, server, cells);
    Ok(())
}

/// Critical sections as they should be, without SEM_UNDO.
fn behave(context: &Context, set: i32, rounds: u64) -> Result<()> {
    let mut caller = context.caller(2 * rounds);
    for _ in 0..rounds {
        add(&mut caller, set, 0, -1, 0)?;
        add(&mut caller, set, 0, 1, 0)?;
    }
    caller.finish()
}

/// Takes the semaphore and does not live to give it back.
fn take_and_die(context: &Context, set: i32, rounds: u64, has_it: &AtomicI64, by_itself: bool) -> Result<()> {
    behave(context, set, rounds)?;
    let mut caller = context.caller(1);
    add(&mut caller, set, 0, -1, 0)?;
    caller.finish()?;
    board::write(has_it, 1);
    sleep(if by_itself { Duration::from_millis(50) } else { context.timeout });
    Err(Failure::new("the process that holds the semaphore gives up, as it should here"))
}

pub(super) fn undo_less_death(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(3);
    let set = make_set(context, &mut caller, 1)?;
    set_value(&mut caller, set, 0, 1)?;
    // The balance of its operations is an estimate, never a proof.
    plan.expect(Expected::new("leaks", "undo_less_death", &["likely"]).on(&[set_text(set)]));
    let rounds = plan.number("rounds", 2..=20);
    for _ in 0..plan.number("others", 1..=3) {
        let other = process::fork(context, |context| behave(context, set, rounds))?;
        process::wait_all(&[other])?;
    }
    let by_itself = plan.flip("exits_by_itself");
    let has_it = &board::new(1)?[0];
    let victim = process::fork(context, |context| take_and_die(context, set, rounds, has_it, by_itself))?;
    board::wait_for(has_it, 1)?;
    if by_itself {
        process::wait(victim)?;
    } else {
        kill(&[victim])?;
    }
    // Nobody gives it back: they try for a while and go.
    let (tries, patience) = (plan.number("tries", 2..=4), plan.time("patience_ms", 100..=200));
    for _ in 0..tries {
        let outcome = caller.semtimedop(set, &[crate::call::sop(0, -1, 0)], patience);
        crate::call::fail("semtimedop", outcome, libc::EAGAIN)?;
    }
    remove_set(&mut caller, set)?;
    caller.finish()
}

pub(super) fn world_accessible(context: &mut Context, plan: &mut Plan) -> Result<()> {
    let mut caller = context.caller(20);
    let kind = plan.choice("kind", &SYSTEM_V);
    let mode = plan.choice("mode", &[("0666", 0o666), ("0622", 0o622), ("0644", 0o644)]);
    let key = draw_key(plan);
    let object = Object::make(context, &mut caller, kind, key, mode, "open")?;
    plan.expect(Expected::new("leaks", "world_accessible", &["certain"]).on(&[object.text()]));
    (0..plan.number("uses", 1..=5)).try_for_each(|_| object.work(&mut caller))?;
    sleep(Duration::from_millis(100));
    object.remove(&mut caller)?;
    caller.finish()
}
