//! Processes whose ids recur: a few process ids, each worn by one process after the other.
//!
//! Exact counts for COUNT pairs of processes: 2 COUNT semget, each for the key 0x5e000000 + serial, which fails with
//! ENOENT, and 2 COUNT semctl (GETVAL) of the set -1 and the semaphore `serial`, which fails with EINVAL. The serials
//! rise from 0. The first process of a pair, of an even serial, creates the second; each is called `serial-N`, and exits
//! with the code serial % 100. The result's `forced` holds the process ids, in turn: serial N wears the N-th.
//! The processes write no log, for its name would recur.

use crate::call::{Caller, SemArgument, fail};
use crate::context::Context;
use crate::{Failure, Result, process};
use serde_json::{Value, json};
use std::ffi::CString;
use std::path::Path;

const KEYS_FROM: i32 = 0x5e00_0000;

/// How many process ids: an odd number, so that every id is worn by first and by second processes.
const IDS: usize = 5;

/// `struct clone_args`, `include/uapi/linux/sched.h`, up to and with `set_tid_size`.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// Forks a process with this id, which runs `body` and exits with the code it returns. Only for a program with one
/// thread.
fn fork_as(pid: i32, body: impl FnOnce() -> Result<i32>) -> Result<()> {
    let ids = [pid];
    let arguments = CloneArguments {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: ids.as_ptr() as u64,
        set_tid_size: 1,
        ..CloneArguments::default()
    };
    // SAFETY: the arguments are valid for their size; without CLONE_VM the child has memory of its own and goes on here,
    // and no lock of another thread is held in it, since there is none.
    match unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of::<CloneArguments>()) } {
        -1 => Err(Failure::last(&format!("cannot create a process with the id {pid}"))),
        0 => match body() {
            Ok(code) => process::leave(code),
            Err(failure) => {
                eprintln!("ipc-workload: {failure}");
                process::leave(101)
            }
        },
        _ => Ok(()),
    }
}

/// Waits for the process and checks its exit code.
fn wait_for(pid: i32, serial: i32) -> Result<()> {
    match process::wait(pid)? {
        status if status == code(serial) << 8 => Ok(()),
        status => Err(Failure::new(format!("the process of serial {serial} ended with wait status {status:#x}"))),
    }
}

fn code(serial: i32) -> i32 {
    serial % 100
}

/// What each process does.
fn work(context: &Context, serial: i32) -> Result<()> {
    process::set_alarm(context.timeout);
    let name = CString::new(format!("serial-{serial}")).unwrap_or_default();
    // SAFETY: PR_SET_PDEATHSIG takes a number, PR_SET_NAME a NUL-terminated string.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    let mut caller = Caller::new(context.totals, None, 0);
    fail("semget of no set", caller.semget(KEYS_FROM + serial, 0, 0), libc::ENOENT)?;
    fail("semctl of no set", caller.semctl(-1, serial, libc::GETVAL, SemArgument::None), libc::EINVAL)?;
    caller.finish()
}

/// Ids that nobody wears, far from those that the kernel will give next.
fn free_ids() -> Result<Vec<i32>> {
    let path = "/proc/sys/kernel/pid_max";
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
    let limit: i32 = text.trim().parse().map_err(|_| Failure::new(format!("{path} holds no number")))?;
    let own = process::own_pid();
    let start = if own < limit / 2 { limit } else { limit / 2 };
    let is_free = |pid: &i32| !Path::new(&format!("/proc/{pid}")).exists();
    Ok((1..start).rev().filter(is_free).take(IDS).collect())
}

pub(crate) fn run(context: &mut Context, count: i32) -> Result<()> {
    context.name("recurring");
    let ids = free_ids()?;
    let id = |serial: i32| ids[serial as usize % ids.len()];
    for first in (0..2 * count).step_by(2) {
        let second = first + 1;
        fork_as(id(first), || {
            work(context, first)?;
            fork_as(id(second), || work(context, second).map(|()| code(second)))?;
            wait_for(id(second), second)?;
            Ok(code(first))
        })?;
        wait_for(id(first), first)?;
    }
    context.put("forced", ids.iter().map(|id| json!(id)).collect::<Vec<Value>>());
    context.put("keys_from", KEYS_FROM);
    Ok(())
}
