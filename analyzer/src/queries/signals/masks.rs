//! What each thread blocked, over time: its mask when it began, and what its calls made of it.
//!
//! A handler, sigreturn, ppoll, pselect and epoll_pwait change the mask too and are in no trace: the mask that a call
//! found puts that right.

/// SIGKILL and SIGSTOP: the kernel strips them from every mask.
pub const UNBLOCKABLE: u64 = 1 << 8 | 1 << 18;

/// For how long a signal was blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocked {
    /// How long in total, nanoseconds.
    pub total_ns: i64,
    /// The longest time without interruption, nanoseconds.
    pub longest_ns: i64,
    /// How many times.
    pub intervals: u64,
    /// Since when it is blocked; `None`: it is not.
    pub since_ns: Option<i64>,
}

impl Blocked {
    fn toggle(&mut self, at_ns: i64) {
        match self.since_ns.take() {
            Some(since_ns) => self.add(at_ns.saturating_sub(since_ns).max(0)),
            None => {
                self.since_ns = Some(at_ns);
                self.intervals += 1;
            }
        }
    }

    fn add(&mut self, length_ns: i64) {
        self.total_ns = self.total_ns.saturating_add(length_ns);
        self.longest_ns = self.longest_ns.max(length_ns);
    }
}

/// The mask of one thread.
#[derive(Clone, Debug)]
pub struct Mask {
    /// What is blocked; bit n-1 = signal n. `None`: not known yet.
    pub now: Option<u64>,
    /// Signals with the same history so far, together: there are few kinds.
    histories: Vec<(u64, Blocked)>,
}

impl Mask {
    /// Of a thread that blocks `mask` from `at_ns` on.
    pub fn new(mask: Option<u64>, at_ns: i64) -> Mask {
        let mut new = Mask { now: None, histories: vec![(u64::MAX, Blocked::default())] };
        if let Some(mask) = mask {
            new.set(at_ns, mask);
        }
        new
    }

    /// From `at_ns` on it is `mask`.
    pub fn set(&mut self, at_ns: i64, mask: u64) {
        let changed = self.now.unwrap_or(0) ^ mask;
        self.now = Some(mask);
        if changed == 0 {
            return;
        }
        for place in 0..self.histories.len() {
            let (signals, blocked) = self.histories[place];
            match signals & changed {
                0 => {}
                all if all == signals => self.histories[place].1.toggle(at_ns),
                some => {
                    self.histories[place].0 = signals & !some;
                    let mut apart = blocked;
                    apart.toggle(at_ns);
                    self.histories.push((some, apart));
                }
            }
        }
    }

    /// What was blocked at some time, by `end_ns`: sets of signals of which all numbers are the same.
    pub fn finish(mut self, end_ns: i64) -> Vec<(u64, Blocked)> {
        for (_, blocked) in &mut self.histories {
            if let Some(since_ns) = blocked.since_ns {
                blocked.add(end_ns.saturating_sub(since_ns).max(0));
            }
        }
        self.histories.retain(|(signals, blocked)| *signals != 0 && blocked.intervals > 0);
        self.histories.sort_unstable_by_key(|(signals, blocked)| (*blocked, *signals));
        let mut joined: Vec<(u64, Blocked)> = Vec::new();
        for (signals, blocked) in self.histories {
            match joined.last_mut() {
                Some((together, last)) if *last == blocked => *together |= signals,
                _ => joined.push((signals, blocked)),
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_its_own_history() {
        let mut mask = Mask::new(Some(0b001), 10);
        mask.set(20, 0b011);
        mask.set(25, 0b010);
        mask.set(26, 0b011);
        mask.set(40, 0b000);
        let blocked = |total_ns, longest_ns, intervals| Blocked { total_ns, longest_ns, intervals, since_ns: None };
        assert_eq!(mask.clone().finish(100), [(0b010, blocked(20, 20, 1)), (0b001, blocked(29, 15, 2))]);
        mask.set(90, 0b100);
        let still = Blocked { total_ns: 10, longest_ns: 10, intervals: 1, since_ns: Some(90) };
        assert_eq!(mask.finish(100)[0], (0b100, still));
    }

    #[test]
    fn an_unknown_mask_blocks_nothing_until_it_is_known() {
        let mut mask = Mask::new(None, 0);
        assert_eq!(mask.now, None);
        mask.set(5, 0b1);
        assert_eq!(mask.finish(9), [(0b1, Blocked { total_ns: 4, longest_ns: 4, intervals: 1, since_ns: Some(5) })]);
    }
}
