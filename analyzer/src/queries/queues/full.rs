//! The time in which a queue was full: it held as much as it takes, or a sender slept on it.
//!
//! When a sleeping sender began is known only when its call ends, so intervals come in the order of their ends and may
//! swallow earlier ones. The latest ones are kept open for that.

use std::collections::VecDeque;

/// Full again within this time counts as full all the time: a slot that a receiver frees is taken by the next sender.
const GAP_NS: i64 = 1_000_000;
/// Fewer than these are never kept open.
const KEPT_MIN: usize = 16;

/// A time without interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its begin, nanoseconds since the epoch.
    pub from_ns: i64,
    /// Its end.
    pub to_ns: i64,
    /// How long senders slept in it, in total.
    pub blocked_ns: i64,
    /// How many sends slept in it.
    pub blocked: u64,
}

impl Stretch {
    /// How long it is, nanoseconds.
    pub fn length_ns(&self) -> i64 {
        self.to_ns.saturating_sub(self.from_ns)
    }

    fn swallow(&mut self, other: Stretch) {
        self.from_ns = self.from_ns.min(other.from_ns);
        self.to_ns = self.to_ns.max(other.to_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.blocked += other.blocked;
    }
}

/// The times in which one queue was full.
#[derive(Clone, Debug, Default)]
pub struct Full {
    /// Apart from each other, by time.
    open: VecDeque<Stretch>,
    settled_ns: i64,
    /// The end of what is settled.
    settled_to_ns: Option<i64>,
    current: Option<Stretch>,
    /// The longest with [`GAP_NS`] forgiven of those that qualified.
    pub worst: Option<Stretch>,
    /// How many qualified.
    pub qualified: u64,
    /// Intervals that began before what was settled already.
    pub cut_off: u64,
}

impl Full {
    /// Adds an interval; `kept` are kept open, and what is then settled qualifies if `qualifies`.
    pub fn add(&mut self, stretch: Stretch, kept: usize, qualifies: &impl Fn(&Stretch) -> bool) {
        let mut stretch = stretch;
        if let Some(settled_to_ns) = self.settled_to_ns
            && stretch.from_ns < settled_to_ns
        {
            stretch.from_ns = settled_to_ns;
            stretch.to_ns = stretch.to_ns.max(settled_to_ns);
            self.cut_off += 1;
        }
        // An interval that ends before the last one (rows arrive a little late) goes where it belongs.
        let mut later = Vec::new();
        while let Some(last) = self.open.pop_back() {
            if last.from_ns > stretch.to_ns {
                later.push(last);
            } else if last.to_ns < stretch.from_ns {
                self.open.push_back(last);
                break;
            } else {
                stretch.swallow(last);
            }
        }
        self.open.push_back(stretch);
        self.open.extend(later.into_iter().rev());
        while self.open.len() > kept.max(KEPT_MIN) {
            self.settle(qualifies);
        }
    }

    /// How long it was full in total, nanoseconds: when no interval is to come.
    pub fn finish(&mut self, qualifies: &impl Fn(&Stretch) -> bool) -> i64 {
        while !self.open.is_empty() {
            self.settle(qualifies);
        }
        self.end_current(qualifies);
        self.settled_ns
    }

    fn settle(&mut self, qualifies: &impl Fn(&Stretch) -> bool) {
        let Some(stretch) = self.open.pop_front() else { return };
        self.settled_ns = self.settled_ns.saturating_add(stretch.length_ns());
        self.settled_to_ns = Some(stretch.to_ns);
        match &mut self.current {
            Some(current) if stretch.from_ns.saturating_sub(current.to_ns) <= GAP_NS => current.swallow(stretch),
            _ => {
                self.end_current(qualifies);
                self.current = Some(stretch);
            }
        }
    }

    fn end_current(&mut self, qualifies: &impl Fn(&Stretch) -> bool) {
        let Some(ended) = self.current.take().filter(qualifies) else { return };
        self.qualified += 1;
        if self.worst.is_none_or(|worst| worst.length_ns() < ended.length_ns()) {
            self.worst = Some(ended);
        }
    }
}
