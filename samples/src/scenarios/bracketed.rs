//! One thread's calls between clock readings, for the times in a trace.
//!
//! Exact counts for COUNT calls: 1 semget and 1 semctl (IPC_RMID) around them, and the calls in turn: semtimedop +1,
//! semctl GETVAL, semtimedop −1, semget of a key that nobody has (ENOENT). Needs `--log`.

use super::{make_set, remove_set};
use crate::call::{SemArgument, fail, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result};

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("bracketed");
    if context.log.is_none() {
        return Err(Failure::new("bracketed is of no use without --log DIR: give one"));
    }
    let mut caller = context.caller(count + 2);
    let set = make_set(context, &mut caller, 1)?;
    for call in 0..count {
        match call % 4 {
            0 => succeed("semop", caller.semop(set, &[sop(0, 1, 0)])).map(drop),
            1 => succeed("semctl GETVAL", caller.semctl(set, 0, libc::GETVAL, SemArgument::None)).map(drop),
            2 => succeed("semop", caller.semop(set, &[sop(0, -1, 0)])).map(drop),
            _ => fail("semget of an unknown key", caller.semget(super::failures::own_key(0), 1, 0), libc::ENOENT),
        }?;
    }
    remove_set(&mut caller, set)?;
    caller.finish()
}
