//! Memory that is bounded for any number of groups: what does not fit is put off, by the last bits of a hash of its key,
//! and answered in a further pass over the same files.

use std::sync::atomic::{AtomicU32, Ordering};

/// Enough to put off all but one key.
const BITS_MAX: u32 = 40;

/// One pass: it answers the keys whose hash ends in its pattern.
#[derive(Debug)]
pub struct Pass {
    pattern: u64,
    /// How many bits of the pattern counted at first.
    bits_at_first: u32,
    /// How many count now: grows when memory runs short.
    bits: AtomicU32,
}

impl Pass {
    /// How many bits count by now.
    pub fn bits(&self) -> u32 {
        self.bits.load(Ordering::Relaxed)
    }

    /// Whether a key of this hash is answered where `bits` count.
    #[inline]
    pub fn holds(&self, hash: u64, bits: u32) -> bool {
        (hash ^ self.pattern) & ((1 << bits) - 1) == 0
    }

    /// Calls `drop` with what keys are still answered, if more were put off, by any thread, than where `bits` count.
    pub fn catch_up(&self, bits: &mut u32, drop: impl FnOnce(&dyn Fn(u64) -> bool)) {
        let now = self.bits();
        if *bits != now {
            *bits = now;
            drop(&|hash| self.holds(hash, now));
        }
    }

    /// Puts off half of the keys that are answered where `bits` count.
    pub fn put_off_half(&self, bits: u32) {
        self.bits.fetch_max((bits + 1).min(BITS_MAX), Ordering::Relaxed);
    }
}

/// The passes that are still to be made.
#[derive(Debug)]
pub struct Passes(Vec<(u64, u32)>);

impl Passes {
    /// One, for every key.
    pub fn new() -> Passes {
        Passes(vec![(0, 0)])
    }

    /// The next one.
    pub fn begin(&mut self) -> Option<Pass> {
        let (pattern, bits) = self.0.pop()?;
        Some(Pass { pattern, bits_at_first: bits, bits: AtomicU32::new(bits) })
    }

    /// What a pass put off is answered by further ones.
    pub fn end(&mut self, pass: &Pass) {
        let put_off = (pass.bits_at_first..pass.bits()).map(|bit| (pass.pattern ^ 1 << bit, bit + 1));
        self.0.extend(put_off);
    }
}

impl Default for Passes {
    fn default() -> Passes {
        Passes::new()
    }
}

/// A hash of numbers that is the same in every thread, pass and run.
#[inline]
pub fn stable_hash(numbers: &[u64]) -> u64 {
    // Odd, and otherwise of no meaning (2^64 divided by the golden ratio).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = numbers.iter().fold(SPREAD, |hash, number| (hash ^ number).wrapping_mul(SPREAD).rotate_left(29));
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_answered_once_however_often_memory_runs_short() {
        let mut passes = Passes::new();
        let mut answered = [0; 1000];
        let mut begun = 0;
        while let Some(pass) = passes.begin() {
            begun += 1;
            if begun <= 4 {
                pass.put_off_half(pass.bits());
                pass.put_off_half(pass.bits());
            }
            for (key, count) in answered.iter_mut().enumerate() {
                *count += i32::from(pass.holds(stable_hash(&[key as u64]), pass.bits()));
            }
            passes.end(&pass);
        }
        assert_eq!(begun, 9);
        assert_eq!(answered, [1; 1000]);
    }
}
