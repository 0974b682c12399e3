//! Which of the signals that were pending were blocked, by whom, and whether anybody was to fetch them.

use super::calls::{Awaited, Interest, Origin, Shard, Uses, Watch};
use super::pending::{Episode, Fate, PENDING_NS};
use super::threads::{Thread, Threads};
use hashbrown::{HashMap, HashSet};

/// Threads of a process that are asked whether they blocked a signal.
const ASKED_MAX: usize = 64;
/// Generations over which an inherited mask is followed.
const GENERATIONS_MAX: usize = 16;

/// A signal that was pending, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The signal.
    pub episode: Episode,
    /// Whether the threads that it could go to blocked it; `None`: not known.
    pub is_blocked: Option<bool>,
    /// Whether the process has a signalfd for it or waits for it with sigtimedwait.
    pub is_awaited: bool,
    /// Whether the process ignores it.
    pub is_ignored: bool,
    /// Who blocked it; `None`: it was blocked before the recording.
    pub blocker: Option<Blocker>,
}

/// Who blocked a signal.
#[derive(Clone, Copy, Debug)]
pub struct Blocker {
    /// The thread.
    pub thread_id: i64,
    /// Its call.
    pub call_id: i64,
    /// When that ended, nanoseconds since the epoch.
    pub at_ns: i64,
    /// Generations between it and the thread that inherited the mask; 0: that thread itself.
    pub generations: usize,
}

/// Whom to ask: for each episode a chain of threads, each the creator of the one before, with the question's number.
#[derive(Debug, Default)]
pub struct Questions {
    /// For the fold.
    pub interest: Interest,
    chains: Vec<Vec<(i64, usize)>>,
}

impl Questions {
    /// Those about `episodes`.
    pub fn new(episodes: &[Episode], threads: &Threads) -> Questions {
        let targets: HashSet<i64> = episodes.iter().map(|episode| episode.process_id).collect();
        let mut of_process: HashMap<i64, Vec<(i64, &Thread)>> = HashMap::new();
        for (thread_id, thread) in threads.iter().filter(|(_, thread)| targets.contains(&thread.process_id)) {
            of_process.entry(thread.process_id).or_default().push((thread_id, thread));
        }
        for list in of_process.values_mut() {
            list.sort_unstable_by_key(|(thread_id, thread)| (thread.start_ns, *thread_id));
        }
        let mut questions = Questions::default();
        let mut number = 0;
        for (index, episode) in episodes.iter().enumerate() {
            let all = of_process.get(&episode.process_id).map_or(&[][..], Vec::as_slice);
            questions.ask(index, episode, all, threads, &mut number);
        }
        let interest = &mut questions.interest;
        interest.watches.values_mut().for_each(|list| list.sort_unstable_by_key(|watch| watch.at_ns));
        interest.origins.values_mut().for_each(|list| list.sort_unstable_by_key(|origin| origin.before_ns));
        interest.awaited.values_mut().for_each(|list| list.sort_unstable_by_key(|awaited| awaited.since_ns));
        questions
    }

    fn ask(&mut self, index: usize, episode: &Episode, all: &[(i64, &Thread)], threads: &Threads, number: &mut usize) {
        let bit = episode.bit();
        let is_there = |thread: &Thread| {
            thread.start_ns.is_none_or(|start_ns| start_ns <= episode.since_ns)
                && thread.exit_ns.is_none_or(|exit_ns| exit_ns >= episode.since_ns)
        };
        let is_asked =
            |(id, thread): &&(i64, &Thread)| episode.thread_id.is_none_or(|own| own == *id) && is_there(thread);
        let asked: Vec<i64> = all.iter().filter(is_asked).map(|(id, _)| *id).take(ASKED_MAX).collect();
        for thread_id in &asked {
            let watch = Watch { at_ns: episode.since_ns, episode: index, bit };
            self.interest.watches.entry(*thread_id).or_default().push(watch);
        }
        let awaited = Awaited { episode: index, since_ns: episode.since_ns };
        self.interest.awaited.entry((episode.process_id, episode.thread_id, bit)).or_default().push(awaited);
        self.interest.processes.insert(episode.process_id);
        let (mut chain, mut next, mut before_ns) = (Vec::new(), asked.first().copied(), episode.since_ns);
        while let (Some(thread_id), true) = (next, chain.len() < GENERATIONS_MAX) {
            let Some(thread) = threads.get(thread_id) else { break };
            self.interest.origins.entry(thread_id).or_default().push(Origin { number: *number, before_ns, bit });
            self.interest.processes.insert(thread.process_id);
            chain.push((thread_id, *number));
            *number += 1;
            next = thread.parent;
            before_ns = thread.start_ns.unwrap_or(i64::MAX).min(before_ns);
        }
        self.chains.push(chain);
    }

    /// Puts together what the shards learnt. `executed`: the processes that called execve, of those of interest.
    pub fn judge(
        &self,
        episodes: Vec<Episode>,
        shards: Vec<Shard>,
        threads: &Threads,
        executed: &HashSet<i64>,
    ) -> Vec<Judged> {
        let mut learnt = Learnt::default();
        shards.into_iter().for_each(|shard| learnt.add(shard));
        for episode in episodes.iter().filter(|episode| episode.fate == Fate::Fetched) {
            *learnt.unseen.entry(episode.process_id).or_default() |= episode.bit();
        }
        let judge = |(index, episode)| self.judge_one(index, episode, &learnt, threads, executed);
        let judged = episodes.into_iter().enumerate().map(judge);
        judged.filter(|judged| judged.episode.length_ns() >= PENDING_NS).collect()
    }

    fn judge_one(
        &self,
        index: usize,
        mut episode: Episode,
        learnt: &Learnt,
        threads: &Threads,
        executed: &HashSet<i64>,
    ) -> Judged {
        if let (Some(end_ns), true) = (learnt.fetched.get(&index), episode.fate != Fate::Delivered) {
            episode.fate = Fate::Fetched;
            episode.until_ns = episode.until_ns.min(*end_ns);
        }
        let chain = self.chains.get(index).map_or(&[][..], Vec::as_slice);
        let family = Family { chain, threads, uses: &learnt.uses, executed };
        let is_blocked = match learnt.votes.get(&index) {
            Some((1.., 0)) => Some(true),
            Some((_, 1..)) => Some(false),
            _ => None,
        };
        let was_fetched = learnt.unseen.get(&episode.process_id).is_some_and(|bits| bits & episode.bit() != 0);
        Judged {
            is_blocked,
            is_awaited: was_fetched || family.awaits(&episode),
            is_ignored: family.ignores(&episode),
            blocker: blocker(chain, &episode, threads, &learnt.origins),
            episode,
        }
    }
}

/// What all shards learnt.
#[derive(Default)]
struct Learnt {
    uses: HashMap<i64, Uses>,
    votes: HashMap<usize, (u64, u64)>,
    origins: HashMap<usize, (i64, i64)>,
    fetched: HashMap<usize, i64>,
    /// By process: what was fetched, though no call of the trace tells.
    unseen: HashMap<i64, u64>,
}

impl Learnt {
    fn add(&mut self, shard: Shard) {
        self.uses.extend(shard.processes);
        self.votes.extend(shard.votes);
        self.origins.extend(shard.origins);
        self.fetched.extend(shard.fetched);
    }
}

/// The thread of the chain that blocked the signal: the first of which a call is known.
fn blocker(
    chain: &[(i64, usize)],
    episode: &Episode,
    threads: &Threads,
    origins: &HashMap<usize, (i64, i64)>,
) -> Option<Blocker> {
    for (generations, (thread_id, number)) in chain.iter().enumerate() {
        if let Some((call_id, at_ns)) = origins.get(number) {
            return Some(Blocker { thread_id: *thread_id, call_id: *call_id, at_ns: *at_ns, generations });
        }
        let inherited = threads.get(*thread_id)?.mask? & episode.bit() != 0;
        if !inherited {
            return None;
        }
    }
    None
}

/// A process and those before it, as far as they are known.
struct Family<'a> {
    chain: &'a [(i64, usize)],
    threads: &'a Threads,
    uses: &'a HashMap<i64, Uses>,
    executed: &'a HashSet<i64>,
}

impl Family<'_> {
    fn processes(&self) -> impl Iterator<Item = (i64, &Thread)> {
        let threads = self.chain.iter().filter_map(|(thread_id, _)| self.threads.get(*thread_id));
        let mut last = None;
        threads.map(|thread| (thread.process_id, thread)).filter(move |(id, _)| last.replace(*id) != Some(*id))
    }

    /// Whether the process is to fetch the signal: a signalfd is inherited, but a new program would not know of it.
    fn awaits(&self, episode: &Episode) -> bool {
        let own = self.uses.get(&episode.process_id).copied().unwrap_or_default();
        if (own.fetches | own.descriptors) & episode.bit() != 0 {
            return true;
        }
        for (process_id, _) in self.processes() {
            if self.uses.get(&process_id).is_some_and(|uses| uses.descriptors & episode.bit() != 0) {
                return true;
            }
            if self.executed.contains(&process_id) {
                return false;
            }
        }
        false
    }

    /// Whether the process ignores the signal: that is inherited, by a new program too.
    fn ignores(&self, episode: &Episode) -> bool {
        for (process_id, thread) in self.processes() {
            if let Some(uses) = self.uses.get(&process_id).filter(|uses| uses.handles & episode.bit() != 0) {
                return uses.ignores & episode.bit() != 0;
            }
            if let Some(ignored) = thread.ignored {
                return ignored & episode.bit() != 0;
            }
        }
        false
    }
}
