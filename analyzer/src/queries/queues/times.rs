//! Many durations of one kind within a bounded memory.

use super::calls::Room;
use crate::distribution::Distribution;

/// Durations: count, sum and largest always; percentiles while there is room for them.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Their sum, nanoseconds.
    pub total_ns: i128,
    /// The largest, nanoseconds.
    pub max_ns: i64,
    distribution: Distribution,
}

impl Times {
    /// Adds one.
    pub fn add(&mut self, ns: i64, room: &mut Room) {
        self.count += 1;
        self.total_ns += i128::from(ns);
        self.max_ns = self.max_ns.max(ns);
        if room.times_bytes > 0 {
            let mut grown_bytes = 0;
            self.distribution.add(ns, &mut grown_bytes);
            room.times_bytes -= grown_bytes;
        }
    }

    /// The largest; `None` without any.
    pub fn longest_ns(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max_ns)
    }

    /// The 50th and 99th percentile; `None` without any, or if some found no room.
    pub fn percentiles(&self) -> [Option<i64>; 2] {
        if self.distribution.count < self.count {
            return [None; 2];
        }
        self.distribution.clone().percentiles([0.5, 0.99]).map_or([None; 2], |found| found.map(Some))
    }
}
