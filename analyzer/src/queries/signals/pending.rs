//! Signals that were generated and not delivered at once: the table `signals`, in its order.

use super::threads::Threads;
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::part::{self, Checksum};
use crate::scan::RowGroupReader;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Signals that wait for less are everyday, nanoseconds.
pub const PENDING_NS: i64 = 10_000_000;
/// The longest that are kept; the others are counted.
const KEPT_MAX: usize = 4096;
/// Real-time signals of one number that are told apart while they are pending.
const QUEUED_MAX: usize = 64;
/// Targets with pending signals at a time, some 150 bytes each; beyond them those of ended processes are given up.
const TARGETS_MAX: usize = 1 << 18;
/// The first real-time signal: those before it are pending at most once.
const FIRST_REALTIME: i32 = 32;

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A thread took it.
    Delivered,
    /// It was gone when the next one came: sigtimedwait or a read from a signalfd.
    Fetched,
    /// It was pending when the recording or its process ended.
    Pending,
}

/// A signal that was pending for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Episode {
    /// Until when, nanoseconds since the epoch.
    pub until_ns: i64,
    /// Since when.
    pub since_ns: i64,
    /// The process it is for.
    pub process_id: i64,
    /// The thread it is for; `None`: any of the process.
    pub thread_id: Option<i64>,
    /// Its number.
    pub signal: i32,
    /// Who sent it first; `None`: the kernel, or not known.
    pub sender: Option<i64>,
    /// How often it was sent meanwhile.
    pub sent: u64,
    /// Whether it was pending before the recording began.
    pub is_older: bool,
    /// What became of it.
    pub fate: Fate,
}

impl Episode {
    /// How long, nanoseconds.
    pub fn length_ns(&self) -> i64 {
        self.until_ns.saturating_sub(self.since_ns).max(0)
    }

    /// The signal as a bit of a set; 0 for a number that is no signal.
    pub fn bit(&self) -> u64 {
        match self.signal {
            signal @ 1..=64 => 1 << (signal - 1),
            _ => 0,
        }
    }
}

/// Whom a signal is for, and its number.
type Target = (i64, Option<i64>, i32);

/// One signal that is pending.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at_ns: i64,
    sender: Option<i64>,
    times: u64,
    is_older: bool,
}

/// What was learnt of signals.
#[derive(Default)]
pub struct Pending {
    /// Those that were pending for at least [`PENDING_NS`], the longest [`KEPT_MAX`].
    pub episodes: Vec<Episode>,
    /// How many more there were.
    pub left_out: u64,
    open: HashMap<Target, VecDeque<Sent>>,
    kept: BinaryHeap<Reverse<(bool, i64, Episode)>>,
}

const COLUMNS: [&str; 7] =
    ["time_ns", "event", "signal", "sender_process_id", "target_process_id", "target_thread_id", "result"];

impl Pending {
    /// Reads the signals of a trace. One after the other: what a signal means depends on those before it.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(trace: (usize, &Trace), threads: &Threads, span: (i64, i64)) -> Result<Pending, Error> {
        let mut pending = Pending::default();
        for (_, thread) in threads.iter().filter(|(_, thread)| thread.pending != 0) {
            for signal in (1..=64).filter(|signal| thread.pending >> (signal - 1) & 1 == 1) {
                let sent = Sent { at_ns: span.0, sender: None, times: 0, is_older: true };
                pending.open.entry((thread.process_id, None, signal)).or_insert_with(|| VecDeque::from([sent]));
            }
        }
        let (number, trace) = trace;
        for part in trace.parts_of(&tables::SIGNALS) {
            let part = part::open(part, Checksum::Verify)?;
            for group in 0..part.metadata.metadata().num_row_groups() {
                for batch in RowGroupReader::new(number, &part, group, &COLUMNS)? {
                    pending.add(&batch?, threads)?;
                }
            }
        }
        pending.finish(threads, span.1);
        Ok(pending)
    }

    fn add(&mut self, batch: &Batch, threads: &Threads) -> Result<(), Error> {
        let (times, signals) = (batch.int64("time_ns")?, batch.int32("signal")?);
        let (senders, processes) = (batch.int64("sender_process_id")?, batch.int64("target_process_id")?);
        let (thread_ids, results) = (batch.int64("target_thread_id")?, batch.text("result")?);
        let events = batch.text("event")?;
        for row in 0..batch.rows() {
            let (at_ns, thread_id) = (times.value(row), int64_at(thread_ids, row));
            let target = (processes.value(row), thread_id, signals.value(row));
            match (events.get(row), results.get(row)) {
                (Some("deliver"), _) => self.delivered(target, at_ns),
                (Some("generate"), Some(result @ ("delivered" | "pending"))) => {
                    let sent = Sent { at_ns, sender: int64_at(senders, row), times: 1, is_older: false };
                    self.generated(target, sent, result == "pending");
                }
                _ => {}
            }
            if self.open.len() > TARGETS_MAX {
                self.give_up_ended(threads, at_ns);
            }
        }
        Ok(())
    }

    /// `again`: the kernel says that the same signal was pending already.
    fn generated(&mut self, target: Target, sent: Sent, again: bool) {
        let queue = self.open.entry(target).or_default();
        if target.2 >= FIRST_REALTIME {
            if queue.len() < QUEUED_MAX {
                queue.push_back(sent);
            }
            return;
        }
        match queue.front_mut() {
            Some(first) if again => first.times += 1,
            Some(_) => {
                // It was not pending any more, and nobody took it: it was fetched.
                let gone = std::mem::replace(queue, VecDeque::from([sent]));
                gone.into_iter().for_each(|gone| self.end(target, gone, sent.at_ns, Fate::Fetched));
            }
            None => queue.push_back(sent),
        }
    }

    fn delivered(&mut self, (process_id, thread_id, signal): Target, at_ns: i64) {
        for target in [(process_id, thread_id, signal), (process_id, None, signal)] {
            let Some(queue) = self.open.get_mut(&target) else { continue };
            let taken = queue.pop_front();
            if queue.is_empty() {
                self.open.remove(&target);
            }
            if let Some(sent) = taken {
                return self.end(target, sent, at_ns, Fate::Delivered);
            }
        }
    }

    fn end(&mut self, (process_id, thread_id, signal): Target, sent: Sent, until_ns: i64, fate: Fate) {
        let (since_ns, sender, is_older) = (sent.at_ns, sent.sender, sent.is_older);
        let episode =
            Episode { until_ns, since_ns, process_id, thread_id, signal, sender, sent: sent.times, is_older, fate };
        if episode.length_ns() < PENDING_NS {
            return;
        }
        // What was fetched is no fault, and how long it waited is known by the next one at the latest: it gives way first.
        self.kept.push(Reverse((fate != Fate::Fetched, episode.length_ns(), episode)));
        if self.kept.len() > KEPT_MAX {
            self.kept.pop();
            self.left_out += 1;
        }
    }

    /// Signals of a process that has ended end with it.
    fn give_up_ended(&mut self, threads: &Threads, now_ns: i64) {
        let has_ended = |target: &Target| threads.exit_of(target.0).is_some_and(|exit_ns| exit_ns <= now_ns);
        let ended: Vec<Target> = self.open.keys().filter(|target| has_ended(target)).copied().collect();
        for target in ended {
            self.end_all(target, threads, now_ns);
        }
        // All of them live: the latest to come are left out.
        while self.open.len() > TARGETS_MAX {
            let Some(target) = self.open.keys().next().copied() else { break };
            self.open.remove(&target);
            self.left_out += 1;
        }
    }

    fn end_all(&mut self, target: Target, threads: &Threads, end_ns: i64) {
        let thread_exit_ns = target.1.and_then(|thread_id| threads.get(thread_id)?.exit_ns);
        let until_ns = thread_exit_ns.or(threads.exit_of(target.0)).unwrap_or(end_ns).min(end_ns);
        for sent in self.open.remove(&target).into_iter().flatten() {
            self.end(target, sent, until_ns, Fate::Pending);
        }
    }

    fn finish(&mut self, threads: &Threads, end_ns: i64) {
        let targets: Vec<Target> = self.open.keys().copied().collect();
        for target in targets {
            self.end_all(target, threads, end_ns);
        }
        self.episodes = std::mem::take(&mut self.kept).into_iter().map(|Reverse((.., episode))| episode).collect();
        self.episodes.sort_unstable_by_key(|e| (e.since_ns, e.process_id, e.thread_id, e.signal));
    }
}
