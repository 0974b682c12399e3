//! Signals: who sent which to whom, and what became of it.

use crate::tasks::Tasks;
use crate::waits::Waker;
use ipc_schema::flags::{self, SIGNAL_RESULTS};
use ipc_schema::wire::{self, Header};

/// One signal generated or delivered. CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug)]
pub struct SignalRow {
    /// When.
    pub time_ns: u64,
    /// `generate` or `deliver`.
    pub event: &'static str,
    /// Its number.
    pub signal: i32,
    /// Who sent it; `None`: the kernel, or not known.
    pub sender_process_id: Option<i64>,
    /// The process it is for.
    pub target_process_id: i64,
    /// The thread it is for; `None`: any of the process.
    pub target_thread_id: Option<i64>,
    /// What became of it.
    pub result: Option<&'static str>,
}

/// Collects signals.
#[derive(Default)]
pub struct Signals {
    /// Signals since they were last taken.
    pub rows: Vec<SignalRow>,
}

impl Signals {
    /// A signal was generated; returns its sender, if a task sent it.
    pub fn generated(&mut self, tasks: &mut Tasks, header: &Header, signal: &wire::Signal) -> Option<Waker> {
        let is_sent = is_sent_by_task(signal);
        let sender = is_sent.then(|| tasks.waker(header, [0; 16]));
        let (target_process_id, thread_id) = tasks.ids(signal.target_pid, signal.target_tid);
        self.rows.push(SignalRow {
            time_ns: header.time_ns,
            event: "generate",
            signal: signal.signal,
            sender_process_id: sender.as_ref().map(|s| s.process_id),
            target_process_id,
            target_thread_id: (signal.is_group == 0).then_some(thread_id),
            result: flags::name(SIGNAL_RESULTS, i64::from(signal.result)),
        });
        sender
    }

    /// A signal was delivered to the thread that runs.
    pub fn delivered(&mut self, tasks: &mut Tasks, header: &Header, signal: &wire::Signal) {
        let thread = tasks.thread(header);
        let (target_process_id, thread_id) = (thread.process_id, thread.thread_id);
        self.rows.push(SignalRow {
            time_ns: header.time_ns,
            event: "deliver",
            signal: signal.signal,
            sender_process_id: None,
            target_process_id,
            target_thread_id: Some(thread_id),
            result: Some(match signal.handler {
                0 => "default",
                1 => "ignore",
                _ => "handler",
            }),
        });
    }
}

/// Whether the task that ran sent it: `include/uapi/asm-generic/siginfo.h`. A timer's signal comes from an interrupt;
/// SIGCHLD is sent by the child as it dies.
fn is_sent_by_task(signal: &wire::Signal) -> bool {
    const SI_TIMER: i32 = -2;
    const SI_ASYNCIO: i32 = -4;
    const SI_SIGIO: i32 = -5;
    const SIGCHLD: i32 = 17;
    (signal.code <= 0 && ![SI_TIMER, SI_ASYNCIO, SI_SIGIO].contains(&signal.code)) || signal.signal == SIGCHLD
}
