//! The cases, one after the other: who waits in what, and what ends it.

use super::{Place, QUEUE_BYTES, resize};
use crate::call::{Caller, Message, Outcome, SemArgument, bit, sop, succeed};
use crate::{Result, process};
use libc::{EIDRM, EINTR, SEM_UNDO, SIG_BLOCK, SIGUSR1, SIGUSR2};
use std::time::Duration;

pub(super) struct Case {
    pub(super) name: &'static str,
    /// The operation that waits, its system call number, and how it does it.
    pub(super) syscall: &'static str,
    pub(super) number: i64,
    pub(super) wait: fn(&mut Caller, &Place) -> Outcome,
    /// What the waker does before the wait, and what ends it: given the process that waits.
    pub(super) prepare: fn(&mut Caller, &Place) -> Result<()>,
    pub(super) wake: fn(&mut Caller, &Place, i32) -> Result<()>,
    /// Whether the waker does it in a second thread.
    pub(super) in_thread: bool,
    pub(super) reason: &'static str,
    /// The operation of the waker's call, if it makes one.
    pub(super) waker_syscall: Option<&'static str>,
    /// The errno that the wait ends with.
    pub(super) error: Option<i32>,
}

/// A taker of a semaphore, woken by who adds one.
const SEMOP: Case = Case {
    name: "semop",
    syscall: "semtimedop",
    number: libc::SYS_semtimedop,
    wait: |caller, place| caller.semop(place.set, &[sop(0, -1, 0)]),
    prepare: |_, _| Ok(()),
    wake: |caller, place, _| add(caller, place, 1),
    in_thread: false,
    reason: "peer",
    waker_syscall: Some("semtimedop"),
    error: None,
};

/// A receiver of an empty queue, woken by a sender.
const MSGRCV: Case = Case {
    name: "msgsnd",
    syscall: "msgrcv",
    number: libc::SYS_msgrcv,
    wait: |caller, place| caller.msgrcv(place.queue, &mut Message::new(0), 256, 0, 0),
    wake: |caller, place, _| succeed("msgsnd", caller.msgsnd(place.queue, &Message::new(1), 8, 0)).map(drop),
    waker_syscall: Some("msgsnd"),
    ..SEMOP
};

/// A sender to a full queue, woken by a receiver.
const MSGSND: Case = Case {
    name: "msgrcv",
    syscall: "msgsnd",
    number: libc::SYS_msgsnd,
    prepare: fill_queue,
    wait: |caller, place| caller.msgsnd(place.queue, &Message::new(1), 256, 0),
    wake: |caller, place, _| succeed("msgrcv", caller.msgrcv(place.queue, &mut Message::new(0), 256, 0, 0)).map(drop),
    waker_syscall: Some("msgrcv"),
    ..SEMOP
};

const MQ_RECEIVE: Case = Case {
    name: "mq_timedsend",
    syscall: "mq_timedreceive",
    number: libc::SYS_mq_timedreceive,
    wait: |caller, place| caller.mq_receive(place.posix, &mut [0; 64], None, None),
    wake: |caller, place, _| mq_send(caller, place),
    waker_syscall: Some("mq_timedsend"),
    ..SEMOP
};

/// A handler runs, and the wait fails.
const KILLED: Case = Case {
    name: "kill in semtimedop",
    wake: |_, _, waiter| process::signal(waiter, SIGUSR1),
    reason: "signal",
    waker_syscall: None,
    error: Some(EINTR),
    ..SEMOP
};

/// A process that waits for a blocked signal consumes it: no failure.
const CONSUMED: Case = Case {
    name: "kill in sigtimedwait",
    syscall: "sigtimedwait",
    number: libc::SYS_rt_sigtimedwait,
    wait: |caller, _| {
        caller.sigprocmask(SIG_BLOCK, Some(bit(SIGUSR2)), None, 8)?;
        caller.sigtimedwait(bit(SIGUSR2), Duration::from_secs(60), 8)
    },
    wake: |_, _, waiter| process::signal(waiter, SIGUSR2),
    error: None,
    ..KILLED
};

pub(super) const CASES: &[Case] = &[
    SEMOP,
    Case { name: "semop in a thread", in_thread: true, ..SEMOP },
    Case {
        name: "semop to zero",
        prepare: |caller, place| add(caller, place, 1),
        wait: |caller, place| caller.semop(place.set, &[sop(0, 0, 0)]),
        wake: |caller, place, _| add(caller, place, -1),
        ..SEMOP
    },
    Case { name: "SETVAL", wake: |caller, place, _| set_value(caller, place), waker_syscall: Some("semctl"), ..SEMOP },
    Case {
        name: "SETALL",
        wake: |caller, place, _| {
            let mut values = [1; 512];
            succeed("SETALL", caller.semctl(place.set, 0, libc::SETALL, SemArgument::Values(&mut values))).map(drop)
        },
        waker_syscall: Some("semctl"),
        ..SEMOP
    },
    Case {
        name: "IPC_RMID of a set",
        wake: |caller, place, _| succeed("IPC_RMID", caller.sem_remove(place.set)).map(drop),
        reason: "removed",
        waker_syscall: Some("semctl"),
        error: Some(EIDRM),
        ..SEMOP
    },
    Case {
        name: "exit with SEM_UNDO",
        prepare: |caller, place| {
            set_value(caller, place)?;
            succeed("semop", caller.semop(place.set, &[sop(0, -1, SEM_UNDO)])).map(drop)
        },
        // Nothing: the waker leaves.
        wake: |_, _, _| Ok(()),
        reason: "exit",
        waker_syscall: None,
        ..SEMOP
    },
    MSGRCV,
    MSGSND,
    Case {
        name: "IPC_SET of a queue's room",
        wake: |caller, place, _| resize(caller, place.queue, 2 * QUEUE_BYTES),
        waker_syscall: Some("msgctl"),
        ..MSGSND
    },
    Case {
        name: "IPC_RMID under a receiver",
        wake: remove_queue,
        reason: "removed",
        waker_syscall: Some("msgctl"),
        error: Some(EIDRM),
        ..MSGRCV
    },
    Case {
        name: "IPC_RMID under a sender",
        wake: remove_queue,
        reason: "removed",
        waker_syscall: Some("msgctl"),
        error: Some(EIDRM),
        ..MSGSND
    },
    MQ_RECEIVE,
    Case {
        name: "mq_timedreceive",
        syscall: "mq_timedsend",
        number: libc::SYS_mq_timedsend,
        prepare: mq_send,
        wait: |caller, place| caller.mq_send(place.posix, b"x", 0, None),
        wake: |caller, place, _| {
            succeed("mq_timedreceive", caller.mq_receive(place.posix, &mut [0; 64], None, None)).map(drop)
        },
        waker_syscall: Some("mq_timedreceive"),
        ..SEMOP
    },
    KILLED,
    Case { name: "kill in a thread", in_thread: true, ..KILLED },
    Case { name: "kill in msgrcv", syscall: "msgrcv", number: libc::SYS_msgrcv, wait: MSGRCV.wait, ..KILLED },
    Case {
        name: "kill in mq_timedreceive",
        syscall: "mq_timedreceive",
        number: libc::SYS_mq_timedreceive,
        wait: MQ_RECEIVE.wait,
        ..KILLED
    },
    Case {
        name: "kill in sigsuspend",
        syscall: "sigsuspend",
        number: libc::SYS_rt_sigsuspend,
        wait: |caller, _| caller.sigsuspend(0, 8),
        ..KILLED
    },
    CONSUMED,
    Case {
        name: "mq_notify in sigtimedwait",
        wait: |caller, place| {
            notify_by_signal(caller, place)?;
            (CONSUMED.wait)(caller, place)
        },
        wake: |caller, place, _| mq_send(caller, place),
        waker_syscall: Some("mq_timedsend"),
        ..CONSUMED
    },
];

fn add(caller: &mut Caller, place: &Place, amount: i16) -> Result<()> {
    succeed("semop", caller.semop(place.set, &[sop(0, amount, 0)])).map(drop)
}

fn set_value(caller: &mut Caller, place: &Place) -> Result<()> {
    super::super::set_value(caller, place.set, 0, 1)
}

fn mq_send(caller: &mut Caller, place: &Place) -> Result<()> {
    succeed("mq_timedsend", caller.mq_send(place.posix, b"x", 0, None)).map(drop)
}

fn fill_queue(caller: &mut Caller, place: &Place) -> Result<()> {
    for _ in 0..QUEUE_BYTES / 256 {
        succeed("msgsnd", caller.msgsnd(place.queue, &Message::new(1), 256, libc::IPC_NOWAIT))?;
    }
    Ok(())
}

fn remove_queue(caller: &mut Caller, place: &Place, _waiter: i32) -> Result<()> {
    succeed("IPC_RMID", caller.msg_remove(place.queue)).map(drop)
}

/// Asks for SIGUSR2 when a message comes into the empty queue; blocked first, for it may come at once.
fn notify_by_signal(caller: &mut Caller, place: &Place) -> Outcome {
    caller.sigprocmask(SIG_BLOCK, Some(bit(SIGUSR2)), None, 8)?;
    // `struct sigevent`: 64 bytes, sigev_signo and sigev_notify after sigev_value.
    let mut event = [0_u32; 16];
    (event[2], event[3]) = (SIGUSR2 as u32, libc::SIGEV_SIGNAL as u32);
    caller.announce(libc::SYS_mq_notify);
    let args = [place.posix as u64, event.as_ptr() as u64, 0, 0, 0, 0];
    // SAFETY: the kernel only reads the event.
    unsafe { caller.unseen(libc::SYS_mq_notify, args) }
}
