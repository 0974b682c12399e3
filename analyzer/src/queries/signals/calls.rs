//! The calls about signals, in the order of their ends, each process in one shard.

use super::masks::{Blocked, Mask, UNBLOCKABLE};
use super::threads::Threads;
use crate::batch::{Batch, Text, int32_at, int64_at};
use crate::error::Error;
use crate::ordered::{self, OrderedQuery};
use crate::query::GroupStatistics;
use arrow::array::{Int32Array, Int64Array};
use hashbrown::{HashMap, HashSet};

/// Threads whose masks are followed at a time, some 300 bytes each; beyond them those that ended are added up.
const FOLLOWED_MAX: usize = 1 << 18;

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// sigprocmask.
    SetMask,
    /// sigsuspend.
    Suspend,
    /// sigtimedwait.
    Fetch,
    /// signalfd.
    Descriptor,
    /// sigaction.
    Handle,
}

/// A call about signals.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    operation: Operation,
    call_id: i64,
    process_id: i64,
    thread_id: i64,
    start_ns: i64,
    end_ns: Option<i64>,
    is_ok: bool,
    set: Option<u64>,
    old: Option<u64>,
    after: Option<u64>,
    /// What sigtimedwait took, what sigaction is about; as a bit.
    signal: u64,
    /// What sigaction sets: whether it ignores the signal.
    ignores: Option<bool>,
}

/// A signal and a thread that it could go to: did the thread block it at that time?
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// When it was generated, nanoseconds since the epoch.
    pub at_ns: i64,
    /// The index of the episode.
    pub episode: usize,
    /// The signal.
    pub bit: u64,
}

/// Which call of a thread was the last before a time to block a signal?
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The index of the question.
    pub number: usize,
    /// Before this time, nanoseconds since the epoch.
    pub before_ns: i64,
    /// The signal.
    pub bit: u64,
}

/// A signal that might be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// The index of the episode.
    pub episode: usize,
    /// Since when it is pending, nanoseconds since the epoch.
    pub since_ns: i64,
}

/// Whom a signal is for: the process, the thread (`None`: any); and the signal as a bit.
pub type Target = (i64, Option<i64>, u64);

/// What to look for beside the masks.
#[derive(Debug, Default)]
pub struct Interest {
    /// By thread, each list by time.
    pub watches: HashMap<i64, Vec<Watch>>,
    /// By thread, each list by time.
    pub origins: HashMap<i64, Vec<Origin>>,
    /// By target, each list by time.
    pub awaited: HashMap<Target, Vec<Awaited>>,
    /// Processes of which it matters how they take signals.
    pub processes: HashSet<i64>,
}

/// How a process takes signals: sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uses {
    /// What sigtimedwait asked for.
    pub fetches: u64,
    /// What a signalfd is for.
    pub descriptors: u64,
    /// What it ignores, of what it set.
    pub ignores: u64,
    /// What it set.
    pub handles: u64,
}

/// The question.
pub struct SignalCalls<'a> {
    /// The threads of the trace.
    pub threads: &'a Threads,
    /// What to look for.
    pub interest: &'a Interest,
    /// Begin and end of the recording, nanoseconds since the epoch.
    pub span: (i64, i64),
    /// How many shards there are.
    pub shards: usize,
}

/// What is known of the processes of one shard.
#[derive(Default)]
pub struct Shard {
    /// By thread.
    pub threads: HashMap<i64, Followed>,
    /// Of threads that ended and found no room: by set of signals, how many there were.
    pub ended: HashMap<u64, (u64, Blocked)>,
    /// By process.
    pub processes: HashMap<i64, Uses>,
    /// By episode: threads that blocked it, threads that did not.
    pub votes: HashMap<usize, (u64, u64)>,
    /// By question: the call, and its end.
    pub origins: HashMap<usize, (i64, i64)>,
    /// By episode: the end of the first call that fetched such a signal after it was generated.
    pub fetched: HashMap<usize, i64>,
    /// How many of those awaited have been fetched.
    fetches: HashMap<Target, usize>,
    /// Threads beyond which those that ended are let go.
    most: usize,
}

/// A thread whose mask is followed.
pub struct Followed {
    /// Its mask.
    pub mask: Mask,
    /// How many of its watches have been answered.
    answered: usize,
    /// How many questions about who blocked a signal.
    told: usize,
    /// Signals, each with the last call that blocked it: the call, and its end. Only of threads that are asked.
    added: Vec<(u64, i64, i64)>,
}

const COLUMNS: [&str; 12] = [
    "syscall",
    "outcome",
    "call_id",
    "process_id",
    "thread_id",
    "start_ns",
    "end_ns",
    "sig_set",
    "sig_old",
    "sig_after",
    "signal",
    "disposition",
];

impl OrderedQuery for SignalCalls<'_> {
    type Piece = Vec<Call>;
    type Shard = Shard;

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        // Calls about signals are about no object.
        if statistics.null_count("object_kind") == Some(0) { vec!["call_id"] } else { COLUMNS.to_vec() }
    }

    fn piece(&self) -> Vec<Call> {
        Vec::new()
    }

    fn cut(&self, batch: &Batch, pieces: &mut [Vec<Call>]) -> Result<(), Error> {
        if !batch.has("syscall") {
            return Ok(());
        }
        let columns = Columns::of(batch)?;
        ordered::deal((0..batch.rows()).filter_map(|row| columns.call(row)), |call| call.process_id, pieces);
        Ok(())
    }

    fn shard(&self) -> Shard {
        Shard { most: FOLLOWED_MAX / self.shards.max(1), ..Shard::default() }
    }

    fn fold(&self, shard: &mut Shard, piece: &Vec<Call>) -> Result<(), Error> {
        for call in piece {
            match call.operation {
                Operation::SetMask => self.set_mask(shard, call),
                Operation::Suspend => self.suspend(shard, call),
                Operation::Fetch => self.fetch(shard, call),
                Operation::Descriptor | Operation::Handle => {}
            }
            if self.interest.processes.contains(&call.process_id) {
                shard.processes.entry(call.process_id).or_default().add(call);
            }
            if shard.threads.len() > shard.most {
                self.let_go(shard, call.end_ns.unwrap_or(self.span.1));
                // Those that live stay: look again when there are many more.
                shard.most = shard.most.max(shard.threads.len().saturating_mul(2));
            }
        }
        Ok(())
    }
}

impl SignalCalls<'_> {
    fn set_mask(&self, shard: &mut Shard, call: &Call) {
        let (true, Some(old), Some(after), Some(end_ns)) = (call.is_ok, call.old, call.after, call.end_ns) else {
            return;
        };
        // What it found may be another mask than the last call left: a handler's, say.
        self.set(shard, call.thread_id, call.start_ns, old);
        self.set(shard, call.thread_id, end_ns, after);
        let added = after & !old;
        if let (1.., Some(origins)) = (added, self.interest.origins.get(&call.thread_id))
            && let Some(thread) = shard.threads.get_mut(&call.thread_id)
        {
            thread.tell(origins, end_ns, &mut shard.origins);
            thread.added.retain(|(bit, ..)| bit & added == 0);
            let bits = (0..64).map(|shift| 1 << shift).filter(|bit| added & bit != 0);
            thread.added.extend(bits.map(|bit| (bit, call.call_id, end_ns)));
        }
    }

    /// The mask is another one for as long as the call lasts.
    fn suspend(&self, shard: &mut Shard, call: &Call) {
        let (Some(old), Some(set)) = (call.old, call.set) else { return };
        self.set(shard, call.thread_id, call.start_ns, old);
        self.set(shard, call.thread_id, call.start_ns, set & !UNBLOCKABLE);
        if let Some(end_ns) = call.end_ns {
            self.set(shard, call.thread_id, end_ns, old);
        }
    }

    fn fetch(&self, shard: &mut Shard, call: &Call) {
        let (true, Some(end_ns)) = (call.is_ok, call.end_ns) else { return };
        for target in [None, Some(call.thread_id)].map(|thread_id| (call.process_id, thread_id, call.signal)) {
            let Some(awaited) = self.interest.awaited.get(&target) else { continue };
            let fetches = shard.fetches.entry(target).or_default();
            while let Some(next) = awaited.get(*fetches).filter(|next| next.since_ns <= end_ns) {
                shard.fetched.insert(next.episode, end_ns);
                *fetches += 1;
            }
        }
    }

    fn set(&self, shard: &mut Shard, thread_id: i64, at_ns: i64, mask: u64) {
        if self.threads.get(thread_id).is_none() {
            return;
        }
        let at_ns = at_ns.max(self.span.0);
        let thread = shard.threads.entry(thread_id).or_insert_with(|| self.begin(thread_id));
        let watches = self.interest.watches.get(&thread_id).map_or(&[][..], Vec::as_slice);
        while let Some(watch) = watches.get(thread.answered).filter(|watch| watch.at_ns < at_ns) {
            vote(&mut shard.votes, watch, thread.mask.now);
            thread.answered += 1;
        }
        thread.mask.set(at_ns, mask);
    }

    /// A thread before its first call.
    pub fn begin(&self, thread_id: i64) -> Followed {
        let thread = self.threads.get(thread_id);
        let start_ns = thread.and_then(|thread| thread.start_ns).unwrap_or(self.span.0).max(self.span.0);
        let mask = Mask::new(thread.and_then(|thread| thread.mask), start_ns);
        Followed { mask, answered: 0, told: 0, added: Vec::new() }
    }

    /// Answers what is left of the questions to all threads: nothing changes any more.
    pub fn finish(&self, shards: &mut [Shard]) {
        for (thread_id, watches) in &self.interest.watches {
            let Some(thread) = self.threads.get(*thread_id) else { continue };
            let Some(shard) = shards.get_mut(ordered::shard_of(thread.process_id, self.shards)) else { continue };
            let followed = shard.threads.get(thread_id);
            let (mask, answered) = followed.map_or((thread.mask, 0), |followed| (followed.mask.now, followed.answered));
            watches.iter().skip(answered).for_each(|watch| vote(&mut shard.votes, watch, mask));
        }
        for (thread_id, origins) in &self.interest.origins {
            let Some(thread) = self.threads.get(*thread_id) else { continue };
            let Some(shard) = shards.get_mut(ordered::shard_of(thread.process_id, self.shards)) else { continue };
            if let Some(followed) = shard.threads.get_mut(thread_id) {
                followed.tell(origins, i64::MAX, &mut shard.origins);
            }
        }
    }

    /// Adds up the threads that ended before `now_ns`.
    fn let_go(&self, shard: &mut Shard, now_ns: i64) {
        let has_ended = |thread_id: &i64| {
            let exit_ns = self.threads.get(*thread_id).and_then(|thread| thread.exit_ns);
            let is_asked =
                self.interest.watches.contains_key(thread_id) || self.interest.origins.contains_key(thread_id);
            exit_ns.filter(|exit_ns| *exit_ns <= now_ns && !is_asked)
        };
        let ended: Vec<(i64, i64)> = shard.threads.keys().filter_map(|id| Some((*id, has_ended(id)?))).collect();
        for (thread_id, exit_ns) in ended {
            let Some(thread) = shard.threads.remove(&thread_id) else { continue };
            for (signals, blocked) in thread.mask.finish(exit_ns) {
                let (threads, all) = shard.ended.entry(signals).or_default();
                *threads += 1;
                all.intervals += blocked.intervals;
                all.total_ns = all.total_ns.saturating_add(blocked.total_ns);
                all.longest_ns = all.longest_ns.max(blocked.longest_ns);
            }
        }
    }
}

impl Followed {
    /// Answers the questions about who blocked a signal before times up to `until_ns`.
    fn tell(&mut self, origins: &[Origin], until_ns: i64, found: &mut HashMap<usize, (i64, i64)>) {
        while let Some(origin) = origins.get(self.told).filter(|origin| origin.before_ns < until_ns) {
            if let Some((_, call_id, end_ns)) = self.added.iter().find(|(bit, ..)| *bit == origin.bit) {
                found.insert(origin.number, (*call_id, *end_ns));
            }
            self.told += 1;
        }
    }
}

fn vote(votes: &mut HashMap<usize, (u64, u64)>, watch: &Watch, mask: Option<u64>) {
    let (blocked, not) = votes.entry(watch.episode).or_default();
    match mask {
        Some(mask) if mask & watch.bit != 0 => *blocked += 1,
        Some(_) => *not += 1,
        None => {}
    }
}

impl Uses {
    fn add(&mut self, call: &Call) {
        match call.operation {
            // One that failed or has not ended awaits them too.
            Operation::Fetch => self.fetches |= call.set.unwrap_or(0) | if call.is_ok { call.signal } else { 0 },
            Operation::Descriptor if call.is_ok => self.descriptors |= call.set.unwrap_or(0),
            Operation::Handle if call.is_ok => {
                if let Some(ignores) = call.ignores {
                    self.handles |= call.signal;
                    self.ignores = if ignores { self.ignores | call.signal } else { self.ignores & !call.signal };
                }
            }
            _ => {}
        }
    }
}

/// The columns of a batch, and what its few texts mean.
struct Columns<'a> {
    syscalls: Text<'a>,
    operations: Vec<Option<Operation>>,
    outcomes: Text<'a>,
    dispositions: Text<'a>,
    signals: &'a Int32Array,
    int64s: [&'a Int64Array; 8],
}

const INT64S: [&str; 8] =
    ["call_id", "process_id", "thread_id", "start_ns", "end_ns", "sig_set", "sig_old", "sig_after"];

impl<'a> Columns<'a> {
    fn of(batch: &'a Batch) -> Result<Columns<'a>, Error> {
        let syscalls = batch.text("syscall")?;
        let mut int64s = [batch.int64("call_id")?; 8];
        for (column, name) in int64s.iter_mut().zip(INT64S) {
            *column = batch.int64(name)?;
        }
        Ok(Columns {
            syscalls,
            operations: syscalls.values.iter().map(|name| operation_of(name.unwrap_or_default())).collect(),
            outcomes: batch.text("outcome")?,
            dispositions: batch.text("disposition")?,
            signals: batch.int32("signal")?,
            int64s,
        })
    }

    fn call(&self, row: usize) -> Option<Call> {
        let operation = self.operations[self.syscalls.index(row)?]?;
        let [call_id, process_id, thread_id, start_ns, end_ns, set, old, after] = self.int64s;
        let bits = |column: &Int64Array| int64_at(column, row).map(|bits| bits as u64);
        let signal = match int32_at(self.signals, row) {
            Some(signal @ 1..=64) => 1 << (signal - 1),
            _ => 0,
        };
        Some(Call {
            operation,
            call_id: call_id.value(row),
            process_id: process_id.value(row),
            thread_id: thread_id.value(row),
            start_ns: start_ns.value(row),
            end_ns: int64_at(end_ns, row),
            is_ok: self.outcomes.get(row) == Some("ok"),
            set: bits(set),
            old: bits(old),
            after: bits(after),
            signal,
            ignores: self.dispositions.get(row).map(|disposition| disposition == "ignore"),
        })
    }
}

fn operation_of(syscall: &str) -> Option<Operation> {
    match syscall {
        "sigprocmask" => Some(Operation::SetMask),
        "sigsuspend" => Some(Operation::Suspend),
        "sigtimedwait" => Some(Operation::Fetch),
        "signalfd" => Some(Operation::Descriptor),
        "sigaction" => Some(Operation::Handle),
        _ => None,
    }
}
