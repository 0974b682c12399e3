//! One file per scenario; each says its exact counts.

pub(crate) mod battery;
pub(crate) mod bracketed;
pub(crate) mod bystander;
mod crowd;
pub(crate) mod deadlock;
pub(crate) mod failures;
pub(crate) mod families;
pub(crate) mod forks;
pub(crate) mod handoffs;
pub(crate) mod holds;
pub(crate) mod incidents;
pub(crate) mod int80;
pub(crate) mod interrupted;
pub(crate) mod killed;
pub(crate) mod masks;
pub(crate) mod multitude;
pub(crate) mod numbered;
pub(crate) mod open;
pub(crate) mod ping_pong;
pub(crate) mod populated;
pub(crate) mod racer;
pub(crate) mod recurring;
pub(crate) mod restarts;
pub(crate) mod rewriter;
pub(crate) mod senders;
pub(crate) mod signals;
pub(crate) mod sigsets;
pub(crate) mod special_wakers;
pub(crate) mod storm;
pub(crate) mod threads;
pub(crate) mod timeouts;
pub(crate) mod trickle;
pub(crate) mod twins;
pub(crate) mod waiters;

use crate::Result;
use crate::call::{Caller, SemArgument, id, succeed};
use crate::context::Context;
use crate::guard::Kind;

/// Makes a private set of `count` semaphores: 1 semget.
fn make_set(context: &Context, caller: &mut Caller, count: u16) -> Result<i32> {
    let set = id("semget", caller.semget(libc::IPC_PRIVATE, count.into(), libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Sem, set)?;
    Ok(set)
}

/// Gives one semaphore a value: 1 semctl.
fn set_value(caller: &mut Caller, set: i32, number: u16, value: i32) -> Result<()> {
    let outcome = caller.semctl(set, number.into(), libc::SETVAL, SemArgument::Value(value));
    succeed("semctl SETVAL", outcome).map(drop)
}

/// Removes a set: 1 semctl.
fn remove_set(caller: &mut Caller, set: i32) -> Result<()> {
    succeed("semctl IPC_RMID", caller.sem_remove(set)).map(drop)
}
