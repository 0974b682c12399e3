//! Arguments in memory that another process rewrites while the call is known to sleep.
//!
//! For each kind of argument one process makes COUNT calls that sleep; the first process rewrites the memory that the
//! arguments lie in, and then ends the call. The kernel took the arguments at entry, so the result shows the first ones.
//! In `kept` the same bytes are written again: that is no change.
//!
//! The result's `rewritten` has per kind: `kind`, `pid`, `syscall`, and whether the memory `changes`. Exact counts: those
//! of `performed`.

use super::interrupted::handle;
use super::make_set;
use crate::call::{Attributes, Caller, QueueName, bit, id, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, process};
use libc::{SIG_BLOCK, SIGUSR1, SIGUSR2};
use libc::{SYS_mq_timedreceive, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_semop, SYS_semtimedop};
use serde_json::json;
use std::sync::atomic::AtomicI64;

/// What a call waits for.
struct Place {
    set: i32,
    queue: i32,
}

/// The arguments of a call: what is in memory, and where each register points.
type Memory = [i64; 4];

struct Kind {
    name: &'static str,
    number: i64,
    first: Memory,
    second: Memory,
    /// The registers, for arguments at an address and a buffer of 64 bytes.
    registers: fn(&Place, u64, u64) -> [u64; 6],
    end: fn(&mut Caller, &Place, i32) -> Result<()>,
}

/// `{0, add, 0}, {1, 0, 0}` as two `struct sembuf`, in 12 of 16 bytes.
const fn sops(add: i16) -> [i64; 2] {
    [((add as u16 as i64) << 16) | (1 << 48), 0]
}

const fn timed(timeout_s: i64) -> Memory {
    [sops(-1)[0], sops(-1)[1], timeout_s, 0]
}

fn raise(caller: &mut Caller, place: &Place, _waiter: i32) -> Result<()> {
    succeed("semop", caller.semop(place.set, &[sop(0, 1, 0)])).map(drop)
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "sops",
        number: SYS_semop,
        first: [sops(-1)[0], sops(-1)[1], 0, 0],
        second: [sops(-2)[0], sops(-2)[1], 0, 0],
        registers: |place, address, _| [place.set as u64, address, 2, 0, 0, 0],
        end: raise,
    },
    Kind {
        name: "kept",
        number: SYS_semop,
        first: [sops(-1)[0], sops(-1)[1], 0, 0],
        second: [sops(-1)[0], sops(-1)[1], 0, 0],
        registers: |place, address, _| [place.set as u64, address, 2, 0, 0, 0],
        end: raise,
    },
    Kind {
        name: "timeout",
        number: SYS_semtimedop,
        first: timed(200),
        second: timed(201),
        registers: |place, address, _| [place.set as u64, address, 2, address + 16, 0, 0],
        end: raise,
    },
    Kind {
        name: "deadline",
        number: SYS_mq_timedreceive,
        first: [4_000_000_000, 0, 0, 0],
        second: [4_000_000_001, 0, 0, 0],
        registers: |place, address, buffer| [place.queue as u64, buffer, 64, 0, address, 0],
        end: |caller, place, _| succeed("mq_timedsend", caller.mq_send(place.queue, b"x", 0, None)).map(drop),
    },
    Kind {
        name: "set",
        number: SYS_rt_sigtimedwait,
        first: [bit(SIGUSR2) as i64, 0, 0, 0],
        second: [(bit(SIGUSR2) | bit(SIGUSR1)) as i64, 0, 0, 0],
        registers: |_, address, _| [address, 0, 0, 8, 0, 0],
        end: |_, _, waiter| process::signal(waiter, SIGUSR2),
    },
    Kind {
        name: "mask",
        number: SYS_rt_sigsuspend,
        first: [bit(SIGUSR2) as i64, 0, 0, 0],
        second: [(bit(SIGUSR2) | bit(libc::SIGHUP)) as i64, 0, 0, 0],
        registers: |_, address, _| [address, 8, 0, 0, 0, 0],
        end: |_, _, waiter| process::signal(waiter, SIGUSR1),
    },
];

/// The memory that both processes see: the turn that may begin, the turn that ended, the arguments, a buffer.
struct Shared {
    begun: &'static AtomicI64,
    ended: &'static AtomicI64,
    arguments: &'static [AtomicI64],
    buffer: &'static [AtomicI64],
}

impl Shared {
    fn new() -> Result<Shared> {
        let [begun, ended, rest @ ..] = board::new(2 + 4 + 8)? else { return Err(Failure::new("no board")) };
        let (arguments, buffer) = rest.split_at(4);
        Ok(Shared { begun, ended, arguments, buffer })
    }

    fn fill(&self, memory: &Memory) {
        for (cell, value) in self.arguments.iter().zip(memory) {
            board::write(cell, *value);
        }
    }
}

fn wait(context: &Context, kind: &Kind, place: &Place, shared: &Shared, count: u64) -> Result<()> {
    handle(0);
    let mut caller = context.caller(1);
    succeed("sigprocmask", caller.sigprocmask(SIG_BLOCK, Some(bit(SIGUSR2)), None, 8))?;
    let registers = (kind.registers)(place, shared.arguments.as_ptr() as u64, shared.buffer.as_ptr() as u64);
    for turn in 1..=count as i64 {
        shared.fill(&kind.first);
        caller.announce(kind.number);
        board::write(shared.begun, turn);
        // SAFETY: arguments and buffer lie in memory that is never unmapped, and the buffer has room for 64 bytes; both
        // are atomics, which may change at any time.
        match unsafe { caller.unseen(kind.number, registers) } {
            Ok(_) => {}
            Err(libc::EINTR) if kind.number == SYS_rt_sigsuspend => {}
            Err(errno) => return Err(Failure::new(format!("{}: the call failed with errno {errno}", kind.name))),
        }
        board::write(shared.ended, turn);
    }
    caller.finish()
}

fn rewrite(context: &mut Context, caller: &mut Caller, kind: &Kind, place: &Place, count: u64) -> Result<i32> {
    let shared = Shared::new()?;
    let waiter = process::fork(context, |context| wait(context, kind, place, &shared, count))?;
    for turn in 1..=count as i64 {
        board::wait_for(shared.begun, turn)?;
        process::wait_until_inside(waiter, kind.number)?;
        shared.fill(&kind.second);
        (kind.end)(caller, place, waiter)?;
        board::wait_for(shared.ended, turn)?;
    }
    process::wait_all(&[waiter])?;
    Ok(waiter)
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("rewriter");
    let mut caller = context.caller(5 + 6 * count);
    let set = make_set(context, &mut caller, 2)?;
    let name = QueueName::own("rewriter");
    context.guard.add_queue(name.as_str())?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let queue = id("mq_open", caller.mq_open(&name, flags, Some(&Attributes::room(1, 64))))?;
    let place = Place { set, queue };
    let mut rewritten = Vec::new();
    for kind in &KINDS {
        let pid = rewrite(context, &mut caller, kind, &place, count)?;
        let changes = kind.first != kind.second;
        rewritten.push(json!({ "kind": kind.name, "pid": pid, "changes": changes }));
    }
    super::remove_set(&mut caller, set)?;
    succeed("mq_unlink", caller.mq_unlink(&name))?;
    context.put("rewritten", rewritten);
    caller.finish()
}
