//! Signals from known senders to known targets, and what becomes of each.
//!
//! The result's `signals` has per case: `case`, `target` (process), `signal`, and `events` in order: `event` (generate,
//! deliver), `sender` (process; null: the kernel), `thread` (whether it was sent to the thread), `result` of a generate
//! (delivered: it is queued; ignored; pending: it was there already). Exact counts: those of `performed`.

use crate::call::{Attributes, Caller, QueueName, bit, id, succeed};
use crate::context::Context;
use crate::{Failure, Result, board, process};
use libc::{SIG_BLOCK, SIG_UNBLOCK, SIGUSR1, SIGUSR2};
use serde_json::{Value, json};
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// A real-time signal: each one sent is queued.
const REAL_TIME: i32 = 40;

/// Who sends.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    First,
    Target,
    Kernel,
}

/// One event that a case causes.
#[derive(Clone, Copy)]
enum Event {
    /// Sent to the process, with this result.
    Generate(Sender, &'static str),
    /// Sent to the thread.
    GenerateToThread(Sender),
    Deliver,
}

struct Case {
    name: &'static str,
    signal: i32,
    /// What the target does first, and after the sending.
    prepare: fn(&mut Caller, i32) -> Result<()>,
    send: fn(&mut Caller, i32, i32) -> Result<()>,
    after: fn(&mut Caller) -> Result<()>,
    events: &'static [Event],
}

use Event::{Deliver, Generate, GenerateToThread};

const DELIVERED: &str = "delivered";

fn nothing(_: &mut Caller) -> Result<()> {
    Ok(())
}

extern "C" fn handler(_signal: i32) {}

fn dispose(signal: i32, disposition: libc::sighandler_t) {
    // SAFETY: the disposition is SIG_IGN or a handler that does nothing.
    unsafe { libc::signal(signal, disposition) };
}

fn handle(_: &mut Caller, _queue: i32) -> Result<()> {
    for signal in [SIGUSR1, SIGUSR2, REAL_TIME] {
        dispose(signal, handler as extern "C" fn(i32) as libc::sighandler_t);
    }
    Ok(())
}

fn change_mask(caller: &mut Caller, how: i32) -> Result<()> {
    let set = bit(SIGUSR1) | bit(SIGUSR2) | bit(REAL_TIME);
    succeed("sigprocmask", caller.sigprocmask(how, Some(set), None, 8)).map(drop)
}

fn handle_later(caller: &mut Caller, queue: i32) -> Result<()> {
    handle(caller, queue)?;
    change_mask(caller, SIG_BLOCK)
}

fn unblock(caller: &mut Caller) -> Result<()> {
    change_mask(caller, SIG_UNBLOCK)
}

fn raise(signal: i32) -> Result<()> {
    to_thread(process::own_pid(), signal)
}

fn to_thread(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: tgkill takes three numbers.
    if unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) } != 0 {
        return Err(Failure::last("cannot send a signal to a thread"));
    }
    Ok(())
}

/// Asks for SIGUSR2 when a message comes into the empty queue.
fn notify_by_signal(caller: &mut Caller, queue: i32) -> Result<()> {
    handle(caller, queue)?;
    // `struct sigevent`: 64 bytes, sigev_signo and sigev_notify after sigev_value.
    let mut event = [0_u32; 16];
    (event[2], event[3]) = (SIGUSR2 as u32, libc::SIGEV_SIGNAL as u32);
    caller.announce(libc::SYS_mq_notify);
    let args = [queue as u64, event.as_ptr() as u64, 0, 0, 0, 0];
    // SAFETY: the kernel only reads the event.
    succeed("mq_notify", unsafe { caller.unseen(libc::SYS_mq_notify, args) }).map(drop)
}

/// A timer that fires once, soon.
fn start_timer(caller: &mut Caller, queue: i32) -> Result<()> {
    handle(caller, queue)?;
    // SAFETY: zero is a valid sigevent and a valid itimerspec; the calls get pointers to valid structures.
    let started = unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = SIGUSR1;
        let mut once: libc::itimerspec = std::mem::zeroed();
        once.it_value.tv_nsec = 1_000_000;
        let mut timer = std::mem::zeroed();
        libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) == 0
            && libc::timer_settime(timer, 0, &once, std::ptr::null_mut()) == 0
    };
    if started { Ok(()) } else { Err(Failure::last("cannot start a timer")) }
}

const KILL: Case = Case {
    name: "kill",
    signal: SIGUSR1,
    prepare: handle,
    send: |_, target, _| process::signal(target, SIGUSR1),
    after: nothing,
    events: &[Generate(Sender::First, DELIVERED), Deliver],
};

const CASES: &[Case] = &[
    KILL,
    Case {
        name: "ignored",
        prepare: |_, _| {
            dispose(SIGUSR1, libc::SIG_IGN);
            Ok(())
        },
        events: &[Generate(Sender::First, "ignored")],
        ..KILL
    },
    Case {
        name: "twice while blocked",
        prepare: handle_later,
        send: |_, target, _| {
            process::signal(target, SIGUSR1)?;
            process::signal(target, SIGUSR1)
        },
        after: unblock,
        events: &[Generate(Sender::First, DELIVERED), Generate(Sender::First, "pending"), Deliver],
        ..KILL
    },
    Case {
        name: "twice while blocked, real-time",
        signal: REAL_TIME,
        prepare: handle_later,
        send: |_, target, _| {
            process::signal(target, REAL_TIME)?;
            process::signal(target, REAL_TIME)
        },
        after: unblock,
        events: &[Generate(Sender::First, DELIVERED), Generate(Sender::First, DELIVERED), Deliver, Deliver],
    },
    Case {
        name: "to the thread",
        send: |_, target, _| to_thread(target, SIGUSR1),
        events: &[GenerateToThread(Sender::First), Deliver],
        ..KILL
    },
    Case {
        name: "to itself",
        send: |_, _, _| Ok(()),
        after: |_| raise(SIGUSR1),
        events: &[GenerateToThread(Sender::Target), Deliver],
        ..KILL
    },
    Case {
        name: "by a timer",
        prepare: start_timer,
        send: |_, _, _| {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        },
        events: &[Generate(Sender::Kernel, DELIVERED), Deliver],
        ..KILL
    },
    Case {
        name: "by mq_notify",
        signal: SIGUSR2,
        prepare: notify_by_signal,
        send: |caller, _, queue| succeed("mq_timedsend", caller.mq_send(queue, b"x", 0, None)).map(drop),
        after: nothing,
        events: &[Generate(Sender::First, DELIVERED), Deliver],
    },
    Case {
        name: "consumed by sigtimedwait",
        prepare: handle_later,
        after: |caller| succeed("sigtimedwait", caller.sigtimedwait(bit(SIGUSR1), Duration::from_secs(5), 8)).map(drop),
        events: &[Generate(Sender::First, DELIVERED)],
        ..KILL
    },
];

fn be_target(context: &Context, case: &Case, queue: i32, turn: &AtomicI64) -> Result<()> {
    let mut caller = context.caller(4);
    (case.prepare)(&mut caller, queue)?;
    board::write(turn, 1);
    board::wait_for(turn, 2)?;
    (case.after)(&mut caller)?;
    caller.finish()
}

fn told(event: &Event, target: i32) -> Value {
    let pid = |sender: &Sender| match sender {
        Sender::First => Some(process::own_pid()),
        Sender::Target => Some(target),
        Sender::Kernel => None,
    };
    match event {
        Generate(sender, result) => {
            json!({ "event": "generate", "sender": pid(sender), "thread": false, "result": result })
        }
        GenerateToThread(sender) => {
            json!({ "event": "generate", "sender": pid(sender), "thread": true, "result": DELIVERED })
        }
        Deliver => json!({ "event": "deliver" }),
    }
}

fn run_case(context: &mut Context, caller: &mut Caller, case: &Case) -> Result<Value> {
    let name = QueueName::own("signals");
    context.guard.add_queue(name.as_str())?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let queue = id("mq_open", caller.mq_open(&name, flags, Some(&Attributes::room(1, 64))))?;
    let turn = &board::new(1)?[0];
    let target = process::fork(context, |context| be_target(context, case, queue, turn))?;
    board::wait_for(turn, 1)?;
    (case.send)(caller, target, queue)?;
    board::write(turn, 2);
    process::wait_all(&[target])?;
    succeed("mq_unlink", caller.mq_unlink(&name))?;
    // SAFETY: the descriptor is this case's own.
    unsafe { libc::close(queue) };
    let events: Vec<Value> = case.events.iter().map(|event| told(event, target)).collect();
    Ok(json!({ "case": case.name, "target": target, "signal": case.signal, "events": events }))
}

pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.name("signals");
    let mut caller = context.caller(3 * CASES.len() as u64);
    let signals: Result<Vec<Value>> = CASES.iter().map(|case| run_case(context, &mut caller, case)).collect();
    context.put("signals", signals?);
    caller.finish()
}
