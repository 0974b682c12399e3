//! One line: the calls that want the same semaphore, or to send to or receive from the same queue.
//!
//! Calls come from the last row of the trace to the first, by falling ends. What ends a wait lies before the end of its
//! call, by the wake-up delay, so the moments wait in a heap until no earlier row can bring a later one: how many waited at
//! once is exact, without sorting, and the heap holds no more than two moments per thread.

use crate::distribution::Distribution;
use hashbrown::HashMap;
use std::collections::BinaryHeap;

/// Threads of a line whose last give is remembered; beyond it all are forgotten, and some holds are not measured.
const GIVES_MAX: usize = 1 << 16;
/// Convoys of one line that are kept: the longest.
const SPELLS_MAX: usize = 256;
/// What a remembered give takes, bytes.
const GIVE_BYTES: isize = 24;

/// When waiting is a convoy.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// So many wait at every moment…
    pub waiters: u64,
    /// …of so long a time,
    pub for_ns: i64,
    /// each of them for so long. What is shorter is the price of handing on.
    pub wait_ns: i64,
}

/// What a line is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// A semaphore, or a set.
    Semaphore,
    /// The senders of a queue.
    Send,
    /// The receivers of a queue.
    Receive,
}

/// What tells lines of one trace apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineKey {
    /// The lifetime of the object.
    pub object_ref: i64,
    /// `None`: a queue, or calls with several operations on a set.
    pub sem_num: Option<i32>,
    /// What it is of.
    pub side: Side,
}

/// A call that slept.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Entry.
    pub start_ns: i64,
    /// The end of the call, by which rows are ordered.
    pub end_ns: i64,
    /// Entry to last waking.
    pub wait_ns: i64,
    /// Last waking to exit.
    pub delay_ns: Option<i64>,
    /// How often it was woken.
    pub wakings: i32,
    /// Whether another call on the object ended it.
    pub is_handoff: bool,
    /// Whether its timeout ended it.
    pub is_timeout: bool,
}

/// What is known of a line.
#[derive(Default)]
pub struct Line {
    /// Calls.
    pub operations: u64,
    /// Calls that had not ended.
    pub open: u64,
    /// The longest of them had lasted so long.
    pub open_at_least_ns: i64,
    /// The waits, if there was one.
    pub waited: Option<Box<Waited>>,
    /// From the end of a thread's take to the start of its give.
    pub holds: Distribution,
    /// Per thread the start of its next give.
    gives: HashMap<i64, i64>,
}

/// The waits of a line.
#[derive(Default)]
pub struct Waited {
    /// Ended by a peer.
    pub handoffs: u64,
    /// Ended by their timeout.
    pub timeouts: u64,
    /// All wakings.
    pub wakings: u64,
    /// Waits with more than one waking.
    pub woken_again: u64,
    /// How long they were.
    pub waits: Distribution,
    /// How long the woken took to leave the kernel.
    pub delays: Distribution,
    /// Who waited when.
    pub sweep: Sweep,
}

impl Line {
    /// Adds a call that slept and ended; returns the memory that it took, bytes.
    pub fn wait(&mut self, wait: &Wait, rules: &Rules) -> isize {
        let mut grown_bytes = 0;
        let waited = self.waited.get_or_insert_with(|| {
            grown_bytes += size_of::<Waited>() as isize;
            Box::default()
        });
        waited.waits.add(wait.wait_ns, &mut grown_bytes);
        if let Some(delay_ns) = wait.delay_ns {
            waited.delays.add(delay_ns, &mut grown_bytes);
        }
        waited.handoffs += u64::from(wait.is_handoff);
        waited.timeouts += u64::from(wait.is_timeout);
        waited.wakings += u64::try_from(wait.wakings).unwrap_or(0);
        waited.woken_again += u64::from(wait.wakings > 1);
        let woken_ns = wait.start_ns.saturating_add(wait.wait_ns);
        waited.sweep.add(wait.start_ns, woken_ns, wait.end_ns, wait.is_handoff, rules);
        grown_bytes
    }

    /// Adds a call that has not ended; it waits until the end of the trace.
    pub fn open(&mut self, start_ns: i64, trace_end_ns: i64, rules: &Rules) -> isize {
        self.open += 1;
        self.open_at_least_ns = self.open_at_least_ns.max(trace_end_ns.saturating_sub(start_ns));
        let grown_bytes = if self.waited.is_none() { size_of::<Waited>() as isize } else { 0 };
        // Rows of open calls are the last of a trace.
        self.waited.get_or_insert_default().sweep.add(start_ns, trace_end_ns, i64::MAX, false, rules);
        grown_bytes
    }

    /// A thread gave the semaphore back, from this moment on.
    pub fn give(&mut self, thread: i64, start_ns: i64) -> isize {
        if self.gives.len() >= GIVES_MAX {
            self.gives.clear();
        }
        if self.gives.insert(thread, start_ns).is_none() { GIVE_BYTES } else { 0 }
    }

    /// A thread had taken the semaphore, by this moment: a hold, if what it did next was to give it back.
    pub fn take(&mut self, thread: i64, end_ns: i64, rules: &Rules) -> isize {
        let Some(give_ns) = self.gives.remove(&thread) else { return 0 };
        let mut grown_bytes = -GIVE_BYTES;
        let hold_ns = give_ns.saturating_sub(end_ns);
        if hold_ns >= 0 {
            self.holds.add(hold_ns, &mut grown_bytes);
            if let Some(waited) = &mut self.waited {
                waited.sweep.held(Hold { thread, give_ns, hold_ns }, end_ns, rules);
            }
        }
        grown_bytes
    }
}

/// One hold of a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who held it.
    pub thread: i64,
    /// Until when.
    pub give_ns: i64,
    /// For how long.
    pub hold_ns: i64,
}

/// A time in which a convoy may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spell {
    /// Its begin.
    pub since_ns: i64,
    /// Its end.
    pub until_ns: i64,
    /// The most that waited at once.
    pub waiters_max: u64,
    /// How many left the line because a peer woke them.
    pub handoffs: u64,
    /// How many of these had waited for long.
    slow: u64,
    /// The longest time in which none left.
    pub standstill_ns: i64,
    /// When the one left that came after the moment the sweep is at.
    next_ns: i64,
    /// The longest hold that ended in it.
    pub longest_hold: Option<Hold>,
}

impl Spell {
    fn until(until_ns: i64) -> Spell {
        Spell {
            since_ns: until_ns,
            until_ns,
            waiters_max: 0,
            handoffs: 0,
            slow: 0,
            standstill_ns: 0,
            next_ns: until_ns,
            longest_hold: None,
        }
    }

    /// How long it lasted.
    pub fn length_ns(&self) -> i64 {
        self.until_ns.saturating_sub(self.since_ns)
    }

    /// Whether it was long enough, the line moved, and those who moved had mostly waited for long.
    fn may_be_convoy(&self, rules: &Rules) -> bool {
        self.length_ns() >= rules.for_ns && self.handoffs > 0 && self.slow.saturating_mul(2) >= self.handoffs
    }

    /// The next moment, earlier than all others, at which one left or the spell began.
    fn moved(&mut self, at_ns: i64) {
        self.standstill_ns = self.standstill_ns.max(self.next_ns.saturating_sub(at_ns));
        self.next_ns = at_ns;
    }

    fn note(&mut self, hold: Hold) {
        if self.longest_hold.is_none_or(|longest| hold.hold_ns > longest.hold_ns) {
            self.longest_hold = Some(hold);
        }
    }
}

/// A moment at which a wait began (`start_ns` is the moment) or ended (`start_ns` is before).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at_ns: i64,
    start_ns: i64,
    /// Whether the wait was a long one.
    is_long: bool,
    is_handoff: bool,
}

/// The waits of a line, from the last moment to the first.
pub struct Sweep {
    moments: BinaryHeap<Moment>,
    /// No later row brings a moment after it.
    frontier_ns: i64,
    waiting: u64,
    /// Those of them that wait for long.
    waiting_long: u64,
    /// The most that waited at once.
    pub waiters_max: u64,
    /// Rows that came after one with an earlier end: their waits were cut short.
    pub disordered: u64,
    /// While enough wait.
    current: Option<Spell>,
    /// Those that may be convoys, the last first.
    pub spells: Vec<Spell>,
}

impl Default for Sweep {
    fn default() -> Sweep {
        Sweep {
            moments: BinaryHeap::new(),
            frontier_ns: i64::MAX,
            waiting: 0,
            waiting_long: 0,
            waiters_max: 0,
            disordered: 0,
            current: None,
            spells: Vec::new(),
        }
    }
}

impl Sweep {
    /// Adds the wait from `start_ns` to `woken_ns` of a call that ended at `end_ns`.
    fn add(&mut self, start_ns: i64, woken_ns: i64, end_ns: i64, is_handoff: bool, rules: &Rules) {
        self.disordered += u64::from(end_ns > self.frontier_ns);
        // A waking after the end of its call would be a fault of the file.
        let latest_ns = end_ns.min(self.frontier_ns);
        self.advance(latest_ns, rules);
        let woken_ns = woken_ns.min(latest_ns);
        if start_ns < woken_ns {
            let is_long = woken_ns.saturating_sub(start_ns) >= rules.wait_ns;
            self.moments.push(Moment { at_ns: woken_ns, start_ns, is_long, is_handoff });
        }
    }

    /// Notes a hold; the take ended at `end_ns`.
    fn held(&mut self, hold: Hold, end_ns: i64, rules: &Rules) {
        self.advance(end_ns.min(self.frontier_ns), rules);
        match &mut self.current {
            Some(spell) if hold.give_ns <= spell.until_ns => spell.note(hold),
            _ => {
                // Rows come by falling ends: an earlier spell than the last few is out of reach.
                let is_in = |spell: &&mut Spell| (spell.since_ns..=spell.until_ns).contains(&hold.give_ns);
                if let Some(spell) = self.spells.iter_mut().rev().take(4).find(is_in) {
                    spell.note(hold);
                }
            }
        }
    }

    /// All rows have come.
    pub fn finish(&mut self, rules: &Rules) {
        self.advance(i64::MIN, rules);
    }

    /// Goes back to `to_ns`: nothing after it is still to come.
    fn advance(&mut self, to_ns: i64, rules: &Rules) {
        self.frontier_ns = to_ns;
        while let Some(at_ns) = self.moments.peek().map(|moment| moment.at_ns).filter(|at_ns| *at_ns > to_ns) {
            let (mut begun, mut ended, mut handoffs) = (Counts::default(), Counts::default(), Counts::default());
            while let Some(moment) = self.moments.peek().copied().filter(|moment| moment.at_ns == at_ns) {
                self.moments.pop();
                if moment.start_ns == at_ns {
                    begun.add(moment.is_long);
                    continue;
                }
                ended.add(moment.is_long);
                if moment.is_handoff {
                    handoffs.add(moment.is_long);
                }
                self.moments.push(Moment { at_ns: moment.start_ns, is_handoff: false, ..moment });
            }
            // Whoever ends at a moment waited until it, whoever begins waits from it on.
            self.waiting = (self.waiting + ended.all).saturating_sub(begun.all);
            self.waiting_long = (self.waiting_long + ended.long).saturating_sub(begun.long);
            self.waiters_max = self.waiters_max.max(self.waiting);
            self.follow(at_ns, handoffs, rules);
        }
    }

    /// Before `at_ns`, `waiting_long` wait for long; at that moment so many were handed it.
    fn follow(&mut self, at_ns: i64, handoffs: Counts, rules: &Rules) {
        if self.waiting_long < rules.waiters {
            if let Some(spell) = self.current.take() {
                self.close(spell, at_ns, rules);
            }
            return;
        }
        let spell = self.current.get_or_insert_with(|| Spell::until(at_ns));
        spell.waiters_max = spell.waiters_max.max(self.waiting_long);
        spell.handoffs += handoffs.all;
        spell.slow += handoffs.long;
        if handoffs.all > 0 {
            spell.moved(at_ns);
        }
    }

    fn close(&mut self, mut spell: Spell, since_ns: i64, rules: &Rules) {
        spell.since_ns = since_ns;
        spell.moved(since_ns);
        if !spell.may_be_convoy(rules) {
            return;
        }
        if self.spells.len() >= SPELLS_MAX
            && let Some(shortest) = (0..self.spells.len()).min_by_key(|i| self.spells[*i].length_ns())
        {
            self.spells.remove(shortest);
        }
        self.spells.push(spell);
    }
}

/// Waits at one moment, and how many of them were long ones.
#[derive(Clone, Copy, Default)]
struct Counts {
    all: u64,
    long: u64,
}

impl Counts {
    fn add(&mut self, is_long: bool) {
        self.all += 1;
        self.long += u64::from(is_long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { waiters: 3, for_ns: 40, wait_ns: 5 };

    /// Numbers that are the same everywhere.
    fn random(state: &mut u64, below: u64) -> i64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((*state >> 33) % below) as i64
    }

    /// Waits as start, last waking, end of the call, hand-off; by rising ends.
    fn waits(seed: u64, count: usize) -> Vec<(i64, i64, i64, bool)> {
        let mut state = seed;
        let mut waits: Vec<_> = (0..count)
            .map(|_| {
                let (start, length) = (random(&mut state, 400), random(&mut state, 30));
                let delay = if random(&mut state, 4) == 0 { random(&mut state, 60) } else { 0 };
                (start, start + length, start + length + delay, random(&mut state, 3) > 0)
            })
            .collect();
        waits.sort_by_key(|wait| wait.2);
        waits
    }

    fn swept(waits: &[(i64, i64, i64, bool)]) -> Sweep {
        let mut sweep = Sweep::default();
        for (start, woken, end, is_handoff) in waits.iter().rev() {
            sweep.add(*start, *woken, *end, *is_handoff, &RULES);
        }
        sweep.finish(&RULES);
        sweep
    }

    /// The spells, moment by moment: since, until, most, hand-offs, longest standstill.
    fn spells_by_moments(waits: &[(i64, i64, i64, bool)]) -> Vec<(i64, i64, u64, u64, i64)> {
        let is_long = |wait: &&(i64, i64, i64, bool)| wait.1 - wait.0 >= RULES.wait_ns;
        let at = |t: i64| waits.iter().filter(is_long).filter(|w| w.0 <= t && t < w.1).count() as u64;
        let (mut spells, mut t) = (Vec::new(), 0);
        while t < 600 {
            let since = t;
            while at(t) >= RULES.waiters {
                t += 1;
            }
            if t - since >= RULES.for_ns {
                let left: Vec<_> = waits.iter().filter(|w| w.3 && w.1 > w.0 && since < w.1 && w.1 <= t).collect();
                let slow = left.iter().copied().filter(is_long).count();
                let mut moments: Vec<i64> = left.iter().map(|w| w.1).chain([since, t]).collect();
                moments.sort_unstable();
                let standstill = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
                let most = (since..t).map(at).max().unwrap_or(0);
                if !left.is_empty() && 2 * slow >= left.len() {
                    spells.push((since, t, most, left.len() as u64, standstill));
                }
            }
            t += 1;
        }
        spells
    }

    #[test]
    fn the_sweep_counts_what_counting_at_every_moment_counts() {
        let mut found = 0;
        for seed in 0..300 {
            let waits = waits(seed, 20 + seed as usize % 80);
            let sweep = swept(&waits);
            let at = |t: i64| waits.iter().filter(|w| w.0 <= t && t < w.1).count() as u64;
            assert_eq!(Some(sweep.waiters_max), (0..600).map(at).max(), "seed {seed}");
            let mut spells: Vec<_> = sweep
                .spells
                .iter()
                .map(|s| (s.since_ns, s.until_ns, s.waiters_max, s.handoffs, s.standstill_ns))
                .collect();
            spells.reverse();
            assert_eq!(spells, spells_by_moments(&waits), "seed {seed}");
            assert_eq!(sweep.disordered, 0);
            found += spells.len();
        }
        assert!(found > 100, "{found} spells");
    }

    #[test]
    fn a_row_out_of_order_is_cut_short_and_counted() {
        let sweep = swept(&[(0, 50, 50, true), (10, 90, 90, true), (20, 60, 60, true)]);
        assert_eq!((sweep.waiters_max, sweep.disordered), (3, 1));
        assert!(sweep.spells.is_empty());
    }

    #[test]
    fn the_longest_hold_belongs_to_the_spell_in_which_it_ended() {
        let mut sweep = Sweep::default();
        for start in [10, 11, 12] {
            sweep.add(start, 100, 100, true, &RULES);
        }
        sweep.held(Hold { thread: 7, give_ns: 120, hold_ns: 20 }, 100, &RULES);
        sweep.held(Hold { thread: 8, give_ns: 99, hold_ns: 94 }, 5, &RULES);
        sweep.finish(&RULES);
        assert_eq!(sweep.spells[0].longest_hold.map(|hold| hold.thread), Some(8));
    }
}
