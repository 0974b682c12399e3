//! Two processes hand a token over two semaphores.
//!
//! Exact counts for COUNT rounds: 1 semget, 2 semctl (SETVAL, IPC_RMID), 4 × COUNT semaphore operations: each of the two
//! processes takes (−1) and gives (+1) once a round. They are `semtimedop` by `--entry libc` (the C library's `semop()`)
//! and `--entry semtimedop`, `semop` by `--entry semop`. Nothing fails.

use super::{make_set, remove_set, set_value};
use crate::call::{SemWay, sop, succeed};
use crate::context::Context;
use crate::{Result, process};

/// One player: takes from `mine`, gives to `other`.
fn play(context: &Context, way: SemWay, set: i32, mine: u16, count: u64) -> Result<()> {
    let mut caller = context.caller(2 * count);
    let (take, give) = ([sop(mine, -1, 0)], [sop(1 - mine, 1, 0)]);
    for _ in 0..count {
        succeed("semop", caller.sem(way, set, &take))?;
        succeed("semop", caller.sem(way, set, &give))?;
    }
    caller.finish()
}

pub(crate) fn run(context: &mut Context, count: u64, way: SemWay) -> Result<()> {
    context.name("ping-pong");
    let mut caller = context.caller(3);
    let set = make_set(context, &mut caller, 2)?;
    set_value(&mut caller, set, 0, 1)?;
    let mut players = Vec::new();
    for mine in 0..2 {
        players.push(process::fork(context, |context| play(context, way, set, mine, count))?);
    }
    let played = process::wait_all(&players);
    remove_set(&mut caller, set)?;
    played?;
    context.put("rounds", count);
    caller.finish()
}
