//! Calls that can be told one from the other, by processes that write down when each ended, until SIGTERM, SIGINT or the
//! time is over.
//!
//! Process P of the result's `senders` has a queue of its own: its call 2 N − 2 sends a message of type N and of N mod 256
//! bytes, its call 2 N − 1 receives it, for N = 1, 2, 3…; nothing fails, and nobody waits. With `--ends DIR` the boot clock
//! after each of them stands in DIR/P.ends as a 64-bit number of this machine's byte order, 0 for those that have not ended:
//! the file is shared memory, right at any instant. Thread T of the process `blocker` waits for semaphore T.
//!
//! When all wait and before anything is sent a line `{"waiting": [{"tid", "before_ns", "inside_ns"}…], "senders": […]}`
//! appears. Exact counts: 1 semget, 1 semctl (IPC_RMID), as many semtimedop as threads (all end with EIDRM), and per sender
//! 1 msgget, 1 msgctl (IPC_RMID); how many msgsnd and msgrcv, the result tells.

use super::open::{listen, wait_to_be_told};
use super::{make_set, remove_set};
use crate::call::{Message, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::{Failure, Result, board, clock, process};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// The options.
pub(crate) struct Numbered {
    pub(crate) processes: u16,
    pub(crate) blocked: u16,
    pub(crate) ends: Option<PathBuf>,
    pub(crate) pause: Duration,
    pub(crate) hold: Duration,
}

/// So many calls of a process are written down; it ends behind them.
const CALLS_MAX: usize = 1 << 23;
/// A process that pauses does so after as many pairs of calls.
const PAIRS_BETWEEN: i64 = 16;

/// When the calls of a process ended.
enum Ends {
    Nowhere,
    File(&'static [AtomicI64]),
}

impl Ends {
    fn create(folder: Option<&Path>, own: u16) -> Result<Ends> {
        let Some(folder) = folder else { return Ok(Ends::Nowhere) };
        let path = folder.join(format!("{own}.ends"));
        let failed = |error| Failure::new(format!("cannot make {}: {error}", path.display()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
        file.set_len((CALLS_MAX * size_of::<AtomicI64>()) as u64).map_err(failed)?;
        board::map(CALLS_MAX, libc::MAP_SHARED, file.as_raw_fd()).map(Ends::File)
    }

    /// Writes down that a call has ended.
    #[inline]
    fn note(&self, call: usize) {
        if let Ends::File(cells) = self {
            board::write(&cells[call], clock::boot_ns());
        }
    }
}

fn send(context: &Context, numbered: &Numbered, own: u16, go: &[AtomicI64]) -> Result<()> {
    let ends = Ends::create(numbered.ends.as_deref(), own)?;
    let mut caller = context.caller(0);
    let queue = id("msgget", caller.msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Msg, queue)?;
    board::wait_for(&go[0], 1)?;
    for number in 1..=(CALLS_MAX / 2) as i64 {
        let first = 2 * (number as usize - 1);
        let mut message = Message::new(number);
        succeed("msgsnd", caller.msgsnd(queue, &message, number as u64 % 256, 0))?;
        ends.note(first);
        succeed("msgrcv", caller.msgrcv(queue, &mut message, 256, number, 0))?;
        ends.note(first + 1);
        if board::read(&go[1]) > 0 {
            break;
        }
        if number % PAIRS_BETWEEN == 0 && !numbered.pause.is_zero() {
            std::thread::sleep(numbered.pause);
        }
    }
    succeed("msgctl IPC_RMID", caller.msg_remove(queue))?;
    caller.finish()
}

/// What a thread waits for never comes; the set's removal ends it.
fn wait(context: &Context, set: i32, own: u16, cells: &[AtomicI64]) -> Result<()> {
    let mut caller = context.caller(0);
    let sops = [sop(own, -1, 0)];
    caller.announce(libc::SYS_semtimedop);
    board::write(&cells[1], clock::boot_ns());
    board::write(&cells[0], process::own_tid().into());
    // SAFETY: the kernel only reads `sops`, and a NULL timeout is allowed.
    match unsafe { caller.unseen(libc::SYS_semtimedop, [set as u64, sops.as_ptr() as u64, 1, 0, 0, 0]) } {
        Err(libc::EIDRM) => Ok(()),
        other => Err(Failure::new(format!("semop on a semaphore that nobody raises ended with {other:?}"))),
    }
}

/// Starts the process whose threads wait; returns it, and what is known of them.
fn block(context: &mut Context, set: i32, threads: u16) -> Result<(i32, Vec<Value>)> {
    let cells = board::new(2 * usize::from(threads))?;
    let blocker = process::fork(context, |context| {
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..threads)
                .zip(cells.chunks(2))
                .map(|(own, cells)| scope.spawn(move || wait(context, set, own, cells)))
                .collect();
            waiting.into_iter().try_for_each(|w| w.join().map_err(|_| Failure::new("a thread panicked"))?)
        })
    })?;
    let known = |cells: &[AtomicI64]| {
        board::wait_for(&cells[0], 1)?;
        let tid = board::read(&cells[0]);
        let inside_ns = process::wait_until_inside(tid as i32, libc::SYS_semtimedop)?;
        Ok(json!({ "tid": tid, "before_ns": board::read(&cells[1]), "inside_ns": inside_ns }))
    };
    let waiting: Result<Vec<Value>> = cells.chunks(2).map(known).collect();
    Ok((blocker, waiting?))
}

pub(crate) fn run(context: &mut Context, numbered: &Numbered) -> Result<()> {
    context.name("numbered");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, numbered.blocked.max(1))?;
    let (blocker, waiting) = block(context, set, numbered.blocked)?;
    // Go, and stop.
    let go = board::new(2)?;
    let mut senders = Vec::new();
    for own in 0..numbered.processes {
        senders.push(process::fork(context, |context| send(context, numbered, own, go))?);
    }
    listen();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", json!({ "waiting": waiting, "blocker": blocker, "senders": senders }))
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::new(format!("cannot write to stdout: {e}")))?;
    board::write(&go[0], 1);
    wait_to_be_told(numbered.hold);
    board::write(&go[1], 1);
    process::wait_all(&senders)?;
    remove_set(&mut caller, set)?;
    process::wait_all(&[blocker])?;
    context.put("senders", senders);
    context.put("blocker", blocker);
    caller.finish()
}
