//! Busy bystanders: one process on every CPU that is inside an IPC call nearly all the time, and wakes nobody.
//!
//! Each works on a large set of its own: GETALL, which only reads, and SETALL, which could wake if anybody waited.

use super::storm::pin;
use crate::call::id;
use crate::context::Context;
use crate::guard::Kind;
use crate::{Failure, Result, board, process};
use std::sync::atomic::AtomicI64;

/// As many as the kernel allows by default: a call lasts tens of microseconds, so that there are few rows.
const SEMAPHORES: i32 = 32_000;

/// The bystanders.
pub(super) struct Crowd {
    pids: Vec<i32>,
    /// 1: they may go.
    done: &'static AtomicI64,
}

impl Crowd {
    /// Starts one process on each CPU that the program may use.
    pub(super) fn start(context: &mut Context) -> Result<Crowd> {
        let done = &board::new(1)?[0];
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let mut pids = Vec::new();
        for which in 0..count {
            pids.push(process::fork(context, |context| stand_by(context, which, done))?);
        }
        Ok(Crowd { pids, done })
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        self.pids.clone()
    }

    /// Lets them go and waits for them.
    pub(super) fn dismiss(self) -> Result<()> {
        board::write(self.done, 1);
        process::wait_all(&self.pids)
    }
}

fn stand_by(context: &Context, which: usize, done: &AtomicI64) -> Result<()> {
    pin(which)?;
    let mut caller = context.caller(0);
    let set = id("semget", caller.semget(libc::IPC_PRIVATE, SEMAPHORES, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Sem, set)?;
    let mut values = vec![0_u16; SEMAPHORES as usize];
    while board::read(done) == 0 {
        for command in [libc::GETALL, libc::SETALL] {
            caller.announce(libc::SYS_semctl);
            let args = [set as u64, 0, command as u64, values.as_mut_ptr() as u64, 0, 0];
            // SAFETY: `values` has a number for each semaphore of the set.
            unsafe { caller.unseen(libc::SYS_semctl, args) }
                .map_err(|errno| Failure::new(format!("a bystander's semctl failed with errno {errno}")))?;
        }
    }
    super::remove_set(&mut caller, set)?;
    caller.finish()
}
