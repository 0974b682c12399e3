//! Sleeping calls that signals interrupt: some go on as if nothing had been (the kernel restarts them, one call of the
//! program), some fail with EINTR.
//!
//! The result's `calls` has one object per case: `case`, `tid`, `syscall`, `restarts`, `error` (null: none), and by the
//! boot clock `begun_ns` (it slept for the first time), `last_ns` (it slept for the last time) and `ended_ns`. Exact
//! counts: those of `performed`.

use super::interrupted::{handle, handled};
use crate::call::{Attributes, Caller, Message, Outcome, QueueName, bit, deadline, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::totals::errno_name;
use crate::{Failure, Result, board, clock, process};
use libc::{EINTR, ETIMEDOUT, SA_RESTART, SIGUSR1};
use serde_json::{Value, json};
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

/// What interrupts.
enum Interruption {
    /// SIGUSR1, whose handler has these flags.
    Handler(i32),
    /// SIGSTOP, then SIGCONT: no handler runs.
    Stop,
}

struct Case {
    name: &'static str,
    syscall: &'static str,
    number: i64,
    wait: fn(&mut Caller, &Place) -> Outcome,
    by: Interruption,
    times: i32,
    /// Ends the wait after the interruptions; the last interruption did, or time does, when there is nothing to do.
    end: fn(&mut Caller, &Place, i32) -> Result<()>,
    restarts: i32,
    error: Option<i32>,
}

/// A set with one semaphore at 0, an empty System V queue, an empty POSIX queue for one message.
struct Place {
    set: i32,
    queue: i32,
    posix: i32,
}

fn nothing(_: &mut Caller, _: &Place, _: i32) -> Result<()> {
    Ok(())
}

fn send(caller: &mut Caller, place: &Place, _: i32) -> Result<()> {
    succeed("msgsnd", caller.msgsnd(place.queue, &Message::new(1), 8, 0)).map(drop)
}

fn mq_send(caller: &mut Caller, place: &Place, _: i32) -> Result<()> {
    succeed("mq_timedsend", caller.mq_send(place.posix, b"x", 0, None)).map(drop)
}

/// mq_timedreceive goes on after a handler with SA_RESTART.
const RECEIVE: Case = Case {
    name: "mq_timedreceive, SA_RESTART",
    syscall: "mq_timedreceive",
    number: libc::SYS_mq_timedreceive,
    wait: |caller, place| caller.mq_receive(place.posix, &mut [0; 64], None, None),
    by: Interruption::Handler(SA_RESTART),
    times: 3,
    end: mq_send,
    restarts: 3,
    error: None,
};

const MSGRCV: Case = Case {
    name: "msgrcv, SA_RESTART",
    syscall: "msgrcv",
    number: libc::SYS_msgrcv,
    wait: |caller, place| caller.msgrcv(place.queue, &mut Message::new(0), 256, 0, 0),
    times: 1,
    end: nothing,
    restarts: 0,
    error: Some(EINTR),
    ..RECEIVE
};

const CASES: &[Case] = &[
    RECEIVE,
    Case {
        name: "mq_timedreceive until its deadline, SA_RESTART",
        wait: |caller, place| {
            let until = deadline(Duration::from_millis(300));
            caller.mq_receive(place.posix, &mut [0; 64], None, Some(&until))
        },
        times: 2,
        end: nothing,
        restarts: 2,
        error: Some(ETIMEDOUT),
        ..RECEIVE
    },
    Case {
        name: "mq_timedreceive, no SA_RESTART",
        by: Interruption::Handler(0),
        times: 1,
        end: nothing,
        restarts: 0,
        error: Some(EINTR),
        ..RECEIVE
    },
    Case { name: "mq_timedreceive, stopped", by: Interruption::Stop, times: 2, restarts: 2, ..RECEIVE },
    MSGRCV,
    Case { name: "msgrcv, stopped", by: Interruption::Stop, times: 4, end: send, restarts: 4, error: None, ..MSGRCV },
    Case {
        name: "msgsnd, stopped",
        syscall: "msgsnd",
        number: libc::SYS_msgsnd,
        // More than the queue may hold is refused at once; so it is filled first.
        wait: |caller, place| {
            while caller.msgsnd(place.queue, &Message::new(1), 256, libc::IPC_NOWAIT).is_ok() {}
            caller.msgsnd(place.queue, &Message::new(1), 256, 0)
        },
        by: Interruption::Stop,
        times: 2,
        end: |caller, place, _| {
            succeed("msgrcv", caller.msgrcv(place.queue, &mut Message::new(0), 256, 0, 0)).map(drop)
        },
        restarts: 2,
        error: None,
    },
    Case {
        name: "semtimedop, SA_RESTART",
        syscall: "semtimedop",
        number: libc::SYS_semtimedop,
        wait: |caller, place| caller.semop(place.set, &[sop(0, -1, 0)]),
        ..MSGRCV
    },
    Case {
        name: "semtimedop, stopped",
        syscall: "semtimedop",
        number: libc::SYS_semtimedop,
        wait: |caller, place| caller.semop(place.set, &[sop(0, -1, 0)]),
        by: Interruption::Stop,
        ..MSGRCV
    },
    Case {
        name: "sigsuspend, stopped",
        syscall: "sigsuspend",
        number: libc::SYS_rt_sigsuspend,
        wait: |caller, _| caller.sigsuspend(bit(libc::SIGUSR2), 8),
        by: Interruption::Stop,
        times: 2,
        end: |_, _, waiter| process::signal(waiter, SIGUSR1),
        restarts: 2,
        error: Some(EINTR),
    },
    Case {
        name: "sigtimedwait, stopped",
        syscall: "sigtimedwait",
        number: libc::SYS_rt_sigtimedwait,
        wait: |caller, _| caller.sigtimedwait(bit(libc::SIGUSR2), Duration::from_secs(60), 8),
        by: Interruption::Stop,
        ..MSGRCV
    },
];

/// Waits until the process is stopped.
fn wait_until_stopped(pid: i32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if process::state(pid)? == Some('T') {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Err(Failure::new(format!("process {pid} did not stop within 20 s")))
}

fn interrupt(waiter: i32, by: &Interruption) -> Result<()> {
    match by {
        Interruption::Handler(_) => process::signal(waiter, SIGUSR1),
        Interruption::Stop => {
            process::signal(waiter, libc::SIGSTOP)?;
            wait_until_stopped(waiter)?;
            process::signal(waiter, libc::SIGCONT)
        }
    }
}

fn wait(context: &Context, case: &Case, place: &Place, ended_ns: &AtomicI64) -> Result<()> {
    handle(if let Interruption::Handler(flags) = case.by { flags } else { 0 });
    let mut caller = context.caller(70);
    let outcome = (case.wait)(&mut caller, place);
    board::write(ended_ns, clock::boot_ns());
    // Two signals that meet are one: then there would be fewer restarts than the case says.
    if matches!(case.by, Interruption::Handler(_)) && handled() != i64::from(case.times) {
        return Err(Failure::new(format!("{}: the handler ran {} times", case.name, handled())));
    }
    let seen = outcome.err();
    if seen != case.error {
        return Err(Failure::new(format!("{}: the call ended with {seen:?} instead of {:?}", case.name, case.error)));
    }
    caller.finish()
}

fn run_case(context: &mut Context, caller: &mut Caller, case: &Case, place: &Place) -> Result<Value> {
    let ended_ns = &board::new(1)?[0];
    let waiter = process::fork(context, |context| wait(context, case, place, ended_ns))?;
    let begun_ns = process::wait_until_inside(waiter, case.number)?;
    let mut last_ns = begun_ns;
    for time in 1..=case.times {
        interrupt(waiter, &case.by)?;
        if time <= case.restarts {
            last_ns = process::wait_until_inside(waiter, case.number)?;
        }
    }
    (case.end)(caller, place, waiter)?;
    process::wait_all(&[waiter])?;
    Ok(json!({
        "case": case.name, "tid": waiter, "syscall": case.syscall, "restarts": case.restarts,
        "error": case.error.map(errno_name),
        "begun_ns": begun_ns, "last_ns": last_ns, "ended_ns": board::read(ended_ns),
    }))
}

pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.name("restarts");
    let mut caller = context.caller(10);
    let set = super::make_set(context, &mut caller, 1)?;
    let queue = id("msgget", caller.msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Msg, queue)?;
    let name = QueueName::own("restarts");
    context.guard.add_queue(name.as_str())?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let posix = id("mq_open", caller.mq_open(&name, flags, Some(&Attributes::room(1, 64))))?;
    let place = Place { set, queue, posix };
    let calls: Result<Vec<Value>> = CASES.iter().map(|case| run_case(context, &mut caller, case, &place)).collect();
    super::remove_set(&mut caller, set)?;
    succeed("msgctl IPC_RMID", caller.msg_remove(queue))?;
    succeed("mq_unlink", caller.mq_unlink(&name))?;
    context.put("calls", calls?);
    caller.finish()
}
