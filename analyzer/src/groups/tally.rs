//! The durations of a few large groups: a flat array of counters per group, so that a row costs little more than one
//! addition.

use super::{Durations, Group};

/// Groups that are tallied; each takes 256 KiB.
const SLOTS_MAX: usize = 32;
/// Counters per group: one per bucket.
const BUCKETS: usize = 1 << 16;
/// Before a counter can overflow, the tallies are added to their groups.
const ROWS_MAX: u64 = 1 << 31;
/// No group of the tallies.
pub const NONE: u32 = u32::MAX;

/// What has not been added to its group yet.
#[derive(Default)]
pub struct Tallies {
    slots: Vec<Slot>,
    counts: Vec<u32>,
    rows: u64,
}

struct Slot {
    group: u32,
    sum: i128,
    min: i64,
    max: i64,
}

impl Tallies {
    /// The place of a group that only has counts, as all large ones; [`NONE`] for others.
    pub fn slot_of(&mut self, number: u32, groups: &[Group]) -> u32 {
        if let Some(slot) = self.slots.iter().position(|slot| slot.group == number) {
            return slot as u32;
        }
        let is_counted = groups.get(number as usize).is_some_and(|group| group.durations.is_counted());
        if !is_counted || self.slots.len() == SLOTS_MAX {
            return NONE;
        }
        self.slots.push(Slot { group: number, sum: 0, min: i64::MAX, max: i64::MIN });
        self.counts.resize(self.slots.len() * BUCKETS, 0);
        self.slots.len() as u32 - 1
    }

    /// Adds the rows of a row group: each has a number, for which `slots` has the slot. Returns the rows without slot.
    pub fn add(&mut self, numbers: &[u32], slots: &[u32], durations: &[u32], of: &Durations<'_>) -> Vec<u32> {
        let mut others = Vec::new();
        let mut sums = vec![0i64; self.slots.len()];
        for (row, (number, duration)) in numbers.iter().zip(durations).enumerate() {
            let (slot, duration) = (slots[*number as usize], *duration as usize);
            if slot == NONE {
                others.push(row as u32);
                continue;
            }
            let (slot, value) = (slot as usize, of.values[duration]);
            self.counts[slot * BUCKETS + usize::from(of.buckets[duration])] += 1;
            sums[slot] += value;
            let limits = &mut self.slots[slot];
            if value > limits.max {
                limits.max = value;
            }
            if value < limits.min {
                limits.min = value;
            }
        }
        self.slots.iter_mut().zip(sums).for_each(|(slot, sum)| slot.sum += i128::from(sum));
        self.rows += numbers.len() as u64;
        others
    }

    /// Whether a counter could overflow soon.
    pub fn is_full(&self) -> bool {
        self.rows > ROWS_MAX
    }

    /// Adds everything to the groups; returns the memory that they grew by.
    pub fn settle(&mut self, groups: &mut [Group]) -> isize {
        let mut grown_bytes = 0;
        for (slot, counts) in self.slots.iter().zip(self.counts.chunks_exact(BUCKETS)) {
            if let Some(group) = groups.get_mut(slot.group as usize) {
                group.durations.add_tally(counts, (slot.sum, slot.min, slot.max), &mut grown_bytes);
            }
        }
        *self = Tallies::default();
        grown_bytes
    }
}
