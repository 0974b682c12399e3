//! What goes from the capture to the writer.

use crate::call::Call;
use crate::history::Snapshot;
use crate::objects::Lifetime;
use crate::signals::SignalRow;
use crate::stacks::{Met, Stacks};
use crate::tasks::{Execution, Process, Thread};
use ipc_schema::losses::Source;

/// Something that was lost, and when; CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Before it.
    pub from_ns: u64,
    /// After it.
    pub to_ns: u64,
    /// How.
    pub source: Source,
    /// Of which CPU.
    pub cpu: Option<u16>,
    /// How many; `None`: unknown.
    pub count: Option<i64>,
}

/// Calls, each in its box: a call is large, and made and written by different threads, so it is not moved, and a box that was
/// written is filled again.
pub type Calls = Vec<Box<Call>>;

/// What the join has finished since it was last taken.
#[derive(Default)]
pub struct Finished {
    /// Calls, in the order of their ends.
    pub calls: Calls,
    /// Processes that ended.
    pub processes: Vec<Process>,
    /// Threads that ended.
    pub threads: Vec<Thread>,
    /// Executions.
    pub executions: Vec<Execution>,
    /// Lifetimes of objects that ended.
    pub lifetimes: Vec<Lifetime>,
    /// Signals.
    pub signals: Vec<SignalRow>,
    /// Snapshots of objects.
    pub snapshots: Vec<Snapshot>,
    /// Losses.
    pub losses: Vec<Loss>,
    /// At the end: the user stacks.
    pub stacks: Option<Stacks>,
    /// Everything before this instant was taken, CLOCK_BOOTTIME nanoseconds.
    pub until_ns: u64,
    /// Now and then, what lives.
    pub living: Option<Living>,
    /// A trace is to be written, for this.
    pub asked_for: Option<String>,
}

impl Finished {
    /// Adds what came later.
    pub fn append(&mut self, mut later: Finished) {
        self.calls.append(&mut later.calls);
        self.processes.append(&mut later.processes);
        self.threads.append(&mut later.threads);
        self.executions.append(&mut later.executions);
        self.lifetimes.append(&mut later.lifetimes);
        self.signals.append(&mut later.signals);
        self.snapshots.append(&mut later.snapshots);
        self.losses.append(&mut later.losses);
        self.stacks = self.stacks.take().or(later.stacks);
        self.living = later.living;
        self.asked_for = later.asked_for.or(self.asked_for.take());
        self.until_ns = later.until_ns;
    }

    /// Rows, but for those of snapshots.
    pub fn len(&self) -> usize {
        let tasks = self.processes.len() + self.threads.len() + self.executions.len();
        self.calls.len() + tasks + self.lifetimes.len() + self.signals.len() + self.snapshots.len() + self.losses.len()
    }
}

/// What lives and what has not ended: what a crash would otherwise take with it.
#[derive(Default)]
pub struct Living {
    /// Calls.
    pub calls: Calls,
    /// Processes.
    pub processes: Vec<Process>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Lifetimes of objects.
    pub lifetimes: Vec<Lifetime>,
    /// User stacks.
    pub stacks: Met,
    /// Whether this is all that lives, not what has changed.
    pub is_all: bool,
}
