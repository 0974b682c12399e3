//! Signal masks: of calls, before and after, and of threads at their start.
//!
//! The result's `calls` has what one process's sigprocmask calls did, in order: `how` (null: a query), `set`, `old` (what
//! the kernel gave back) and `after` (what the next call gave back), `from_ns` and `to_ns` by the boot clock around all
//! of them, `tid`. One of them is made in a handler, whose mask is not what the program set. After them the same process
//! makes COUNT calls `sigprocmask(SIG_SETMASK, &s, &s)` (`aliased`).
//! `threads` has the masks that processes had when they started: `tid`, `blocked`, `pending`, `ignored`, from their
//! /proc/PID/status. The one with `older` true waits at the gate `older`. Exact counts: those of `performed`.

use crate::call::{Caller, SemArgument, bit, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, clock, process};
use libc::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, SIGUSR2};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What is done to the mask, starting from an empty one.
const STEPS: [(i32, Option<u64>); 9] = [
    (SIG_BLOCK, Some(bit(SIGUSR1))),
    (SIG_BLOCK, Some(bit(SIGHUP) | bit(35) | bit(64))),
    (SIG_UNBLOCK, Some(bit(SIGUSR1) | bit(SIGINT))),
    (SIG_BLOCK, None),
    // SIGKILL and SIGSTOP are taken out without a word.
    (SIG_BLOCK, Some(u64::MAX)),
    (SIG_UNBLOCK, Some(bit(SIGKILL) | bit(SIGTERM))),
    (SIG_SETMASK, Some(bit(SIGINT) | bit(SIGTERM))),
    (SIG_SETMASK, Some(bit(SIGKILL))),
    (SIG_BLOCK, Some(0)),
];

/// The two masks between which the aliased calls go.
const ALIASED: [u64; 2] = [bit(SIGUSR1), bit(SIGUSR1) | bit(SIGHUP)];

/// What the handler of SIGUSR2 found.
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

/// Asks for the mask; as a system call, which may be made in a handler.
fn ask() -> u64 {
    let mut old = 0_u64;
    // SAFETY: a NULL set only asks; `old` has the kernel's 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, SIG_BLOCK, 0, &raw mut old, 8) };
    old
}

extern "C" fn ask_in_handler(_signal: i32) {
    IN_HANDLER.store(ask(), Ordering::Relaxed);
}

fn how_name(how: i32) -> &'static str {
    ["SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"][how as usize]
}

/// One call, without what the mask was after it.
fn told(how: i32, set: Option<u64>, old: u64) -> Value {
    // Without a set the kernel does not look at `how`.
    json!({ "how": set.map(|_| how_name(how)), "set": set.map(|set| set as i64), "old": old as i64 })
}

/// Raises SIGUSR2, whose handler blocks SIGHUP and the signal itself, and asks there; 1 sigprocmask.
fn ask_under_handler(caller: &mut Caller) -> Result<Value> {
    // SAFETY: zero is a valid sigaction; the handler makes a system call and stores to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ask_in_handler as extern "C" fn(i32) as libc::sighandler_t;
        libc::sigaddset(&mut action.sa_mask, SIGHUP);
        libc::sigaction(SIGUSR2, &action, std::ptr::null_mut());
    }
    caller.announce(libc::SYS_rt_sigprocmask);
    process::signal(process::own_pid(), SIGUSR2)?;
    Ok(told(SIG_BLOCK, None, IN_HANDLER.load(Ordering::Relaxed)))
}

/// The calls of [`STEPS`] and two questions, one in a handler.
fn step(caller: &mut Caller) -> Result<Vec<Value>> {
    let mut calls = vec![ask_under_handler(caller)?];
    calls[0]["after"] = calls[0]["old"].clone();
    let mut old = 0;
    for (how, set) in STEPS.into_iter().chain([(SIG_BLOCK, None)]) {
        succeed("sigprocmask", caller.sigprocmask(how, set, Some(&mut old), 8))?;
        if let Some(previous) = calls.last_mut().filter(|previous| previous["after"].is_null()) {
            previous["after"] = json!(old as i64);
        }
        calls.push(told(how, set, old));
    }
    if let Some(last) = calls.last_mut() {
        last["after"] = json!(old as i64);
    }
    Ok(calls)
}

/// `sigprocmask(SIG_SETMASK, &s, &s)`: the kernel writes to what it has read.
fn alias(caller: &mut Caller, count: u64) -> Result<()> {
    let mut set = ALIASED[0];
    succeed("sigprocmask", caller.sigprocmask(SIG_SETMASK, Some(set), None, 8))?;
    for call in 1..=count {
        set = ALIASED[call as usize % 2];
        let address = (&raw mut set) as u64;
        caller.announce(libc::SYS_rt_sigprocmask);
        // SAFETY: the kernel reads 8 bytes of `set`, then writes them.
        let outcome = unsafe { caller.unseen(libc::SYS_rt_sigprocmask, [2, address, address, 8, 0, 0]) };
        if outcome.is_err() || set != ALIASED[(call as usize + 1) % 2] {
            return Err(Failure::new("sigprocmask(how, &s, &s) did not give back the mask before"));
        }
    }
    Ok(())
}

/// Writes the masks of the running process, from its own status: blocked, pending, ignored.
fn write_own_masks(cells: &[AtomicI64]) -> Result<()> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(|e| Failure::new(format!("own status: {e}")))?;
    for (cell, names) in cells.iter().zip([&["SigBlk:"][..], &["SigPnd:", "ShdPnd:"], &["SigIgn:"]]) {
        let digits = names.iter().filter_map(|name| text.lines().find_map(|line| line.strip_prefix(name)));
        let masks = digits.filter_map(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        board::write(cell, masks.fold(0, |all, mask| all | mask) as i64);
    }
    Ok(())
}

/// Starts a process that inherits `mask` and makes one call; an older one has a pending signal and waits at its gate.
fn start_with(context: &mut Context, caller: &mut Caller, mask: u64, older: bool) -> Result<Value> {
    succeed("sigprocmask", caller.sigprocmask(SIG_SETMASK, Some(mask), None, 8))?;
    let cells = board::new(3)?;
    let pid = process::fork(context, |context| {
        if older {
            process::signal(process::own_pid(), SIGUSR1)?;
        }
        write_own_masks(cells)?;
        if older {
            context.wait_at_gate("older")?;
        }
        let mut caller = context.caller(1);
        // A call of the semaphore family that needs no object.
        crate::call::fail("semctl", caller.semctl(-1, 0, libc::GETVAL, SemArgument::None), libc::EINVAL)?;
        caller.finish()
    })?;
    process::wait_all(&[pid])?;
    let [blocked, pending, ignored] = [0, 1, 2].map(|cell| board::read(&cells[cell]));
    Ok(json!({ "tid": pid, "blocked": blocked, "pending": pending, "ignored": ignored, "older": older }))
}

fn ignore(signal: i32) {
    // SAFETY: signal takes two numbers.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("masks");
    let mut caller = context.caller(20);
    ignore(SIGHUP);
    let older = start_with(context, &mut caller, bit(SIGUSR1) | bit(40), true)?;
    let newer = start_with(context, &mut caller, bit(SIGTERM) | bit(1) | bit(64), false)?;
    let bare = start_with(context, &mut caller, 0, false)?;
    let from_ns = clock::boot_ns();
    let calls = step(&mut caller)?;
    let to_ns = clock::boot_ns();
    alias(&mut caller, count)?;
    succeed("sigprocmask", caller.sigprocmask(SIG_SETMASK, Some(0), None, 8))?;
    context.put("calls", calls);
    context.put("threads", json!([older, newer, bare]));
    context.put("tid", process::own_tid());
    context.put("from_ns", from_ns);
    context.put("to_ns", to_ns);
    context.put("aliased", count);
    caller.finish()
}
