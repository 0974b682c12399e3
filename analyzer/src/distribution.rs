//! Durations of one group: count, sum, smallest and largest exactly; percentiles exactly up to [`EXACT_MAX`] values and
//! within 0.05 % beyond.
//!
//! The buckets are log-linear: values below 2048 each have their own, then 1024 per power of two. A group that outgrows
//! exact values keeps the number of each value's bucket (2 bytes), a large one counts per bucket, in pages of 32 that
//! exist only where something fell.

use crate::groups::Durations;
use std::mem;

/// Up to so many values are kept as they are.
pub const EXACT_MAX: usize = 1024;
/// Up to so many values the bucket of each is kept: beyond it, counts take less.
const LISTED_MAX: usize = 16_384;
/// So many values are counted at a time.
const PENDING_MAX: usize = 4_096;
const SUB_BITS: u32 = 10;
const SUB: u64 = 1 << SUB_BITS;
const PAGE_BITS: u32 = 5;
const PAGE: usize = 1 << PAGE_BITS;
/// A power of two, so that no index needs a check; the last bucket is number 55,295.
const PAGES: usize = (1 << 16) / PAGE;

/// The bucket of a duration; a negative one counts as 0.
#[inline]
pub const fn bucket_of(value: i64) -> u16 {
    let value = if value < 0 { 0 } else { value as u64 };
    if value < 2 * SUB {
        return value as u16;
    }
    let exponent = 63 - value.leading_zeros();
    let shift = exponent - SUB_BITS;
    (SUB * shift as u64 + (value >> shift)) as u16
}

/// The middle of a bucket.
pub const fn middle_of(bucket: u16) -> i64 {
    let (lower, width) = bounds_of(bucket);
    lower + (width - 1) / 2
}

/// The smallest value of a bucket, and how many values it spans.
pub const fn bounds_of(bucket: u16) -> (i64, i64) {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return (bucket as i64, 1);
    }
    let shift = bucket / SUB - 1;
    let mantissa = bucket - SUB * shift;
    ((mantissa << shift) as i64, 1 << shift)
}

/// What is known of the durations of a group.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: i128,
    /// The smallest; `i64::MAX` if there is none.
    pub min: i64,
    /// The largest; `i64::MIN` if there is none.
    pub max: i64,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Exact(Vec<i64>),
    Listed(Vec<u16>),
    Counted(Box<Buckets>),
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution { count: 0, sum: 0, min: i64::MAX, max: i64::MIN, values: Values::Exact(Vec::new()) }
    }
}

impl Distribution {
    /// Adds a value; `grown_bytes` follows the memory that it takes.
    #[inline]
    pub fn add(&mut self, value: i64, grown_bytes: &mut isize) {
        self.count += 1;
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        match &mut self.values {
            Values::Counted(buckets) => buckets.add(bucket_of(value), 1, grown_bytes),
            Values::Listed(buckets) if buckets.len() < buckets.capacity() => buckets.push(bucket_of(value)),
            Values::Exact(values) if values.len() < values.capacity() => values.push(value),
            Values::Listed(_) | Values::Exact(_) => self.values.push_slow(value, grown_bytes),
        }
    }

    /// Adds many values: faster than one by one.
    pub fn add_all(&mut self, values: &[i64], grown_bytes: &mut isize) {
        let (min, max) = values.iter().fold((i64::MAX, i64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        self.count += values.len() as u64;
        // Plain sums of what cannot overflow are done many at a time.
        let plain = min >= 0 && max < 1 << 40 && values.len() < 1 << 20;
        self.sum +=
            if plain { i128::from(values.iter().sum::<i64>()) } else { values.iter().map(|v| i128::from(*v)).sum() };
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        for (i, value) in values.iter().enumerate() {
            match &mut self.values {
                Values::Exact(kept) if kept.len() < kept.capacity() => kept.push(*value),
                Values::Listed(kept) if kept.len() < kept.capacity() => kept.push(bucket_of(*value)),
                Values::Exact(_) | Values::Listed(_) => self.values.push_slow(*value, grown_bytes),
                Values::Counted(buckets) => {
                    values[i..].iter().for_each(|value| buckets.add(bucket_of(*value), 1, grown_bytes));
                    return;
                }
            }
        }
    }

    /// Adds values by their indices among the durations of a row group.
    pub fn add_codes(&mut self, codes: &[u32], of: &Durations<'_>, grown_bytes: &mut isize) {
        self.count += codes.len() as u64;
        let (mut min, mut max) = (self.min, self.max);
        if of.is_small {
            let mut sum = 0;
            for code in codes {
                let value = of.values[*code as usize];
                (sum, min, max) = (sum + value, min.min(value), max.max(value));
            }
            self.sum += i128::from(sum);
        } else {
            for code in codes {
                let value = of.values[*code as usize];
                (min, max) = (min.min(value), max.max(value));
                self.sum += i128::from(value);
            }
        }
        (self.min, self.max) = (min, max);
        self.values.extend(codes, of, grown_bytes);
    }

    /// Whether only counts per bucket are kept.
    pub fn is_counted(&self) -> bool {
        matches!(self.values, Values::Counted(_))
    }

    /// Adds values of which the counts per bucket are known, and their sum, smallest and largest.
    pub fn add_tally(&mut self, counts: &[u32], (sum, min, max): (i128, i64, i64), grown_bytes: &mut isize) {
        self.sum += sum;
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        let buckets = self.values.count(grown_bytes);
        for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.count += u64::from(*count);
            buckets.add(bucket as u16, u64::from(*count), grown_bytes);
        }
    }

    /// Adds all of another group.
    pub fn merge(&mut self, from: Distribution) {
        self.count += from.count;
        self.sum += from.sum;
        self.min = self.min.min(from.min);
        self.max = self.max.max(from.max);
        self.values.merge(from.values);
    }

    /// The percentiles `fractions` as DuckDB's `quantile_cont` defines them, rounded to whole nanoseconds; `None` without
    /// values.
    pub fn percentiles<const N: usize>(&mut self, fractions: [f64; N]) -> Option<[i64; N]> {
        self.measure(fractions, |_, _| {})
    }

    /// [`Distribution::percentiles`]; calls `visit` with buckets and how many values of each there are on the way.
    pub fn measure<const N: usize>(
        &mut self,
        fractions: [f64; N],
        mut visit: impl FnMut(u16, u64),
    ) -> Option<[i64; N]> {
        let last = self.count.checked_sub(1)?;
        let runs = match &mut self.values {
            Values::Exact(values) => {
                values.sort_unstable();
                values.iter().for_each(|value| visit(bucket_of(*value), 1));
                Vec::new()
            }
            Values::Listed(buckets) => runs_of(buckets, visit),
            Values::Counted(buckets) => {
                let mut counts = Vec::new();
                buckets.settle(&mut 0);
                buckets.for_each(|bucket, count| counts.push((bucket, count)));
                // In order but for the carries: a sort that finds it so.
                counts.sort();
                let mut runs = Runs::default();
                for (bucket, count) in counts {
                    visit(bucket, count);
                    runs.push(bucket, count);
                }
                runs.0
            }
        };
        Some(fractions.map(|fraction| {
            let position = last as f64 * fraction;
            let below = position.floor();
            let low = self.ranked(&runs, below as u64) as f64;
            let high = self.ranked(&runs, position.ceil() as u64) as f64;
            (low + (high - low) * (position - below)).round() as i64
        }))
    }

    /// The value with `rank` smaller ones.
    fn ranked(&self, runs: &[(u16, u64)], rank: u64) -> i64 {
        // The ends are known exactly.
        if rank == 0 {
            return self.min;
        }
        if rank + 1 >= self.count {
            return self.max;
        }
        if let Values::Exact(values) = &self.values {
            return values.get(rank as usize).copied().unwrap_or(self.max);
        }
        let bucket = runs.get(runs.partition_point(|(_, end)| *end <= rank)).map_or(0, |(bucket, _)| *bucket);
        middle_of(bucket).clamp(self.min, self.max)
    }

    /// The memory behind it, bytes.
    pub fn heap_bytes(&self) -> usize {
        match &self.values {
            Values::Exact(values) => values.capacity() * size_of::<i64>(),
            Values::Listed(buckets) => buckets.capacity() * size_of::<u16>(),
            Values::Counted(buckets) => {
                let pending = buckets.pending.capacity() * size_of::<u16>();
                size_of::<Buckets>() + buckets.pages.capacity() * size_of::<[u32; PAGE]>() + pending
            }
        }
    }

    /// Calls `visit` with buckets and how many values of each there are; a bucket may come more than once.
    pub fn for_each_bucket(&self, mut visit: impl FnMut(u16, u64)) {
        match &self.values {
            Values::Exact(values) => values.iter().for_each(|value| visit(bucket_of(*value), 1)),
            Values::Listed(buckets) => buckets.iter().for_each(|bucket| visit(*bucket, 1)),
            Values::Counted(buckets) => buckets.for_each(visit),
        }
    }
}

impl Values {
    /// Adds values by their indices.
    fn extend(&mut self, codes: &[u32], of: &Durations<'_>, grown_bytes: &mut isize) {
        let bucket = |code: &u32| of.buckets[*code as usize];
        match self {
            Values::Exact(values) if values.len() + codes.len() <= EXACT_MAX => {
                *grown_bytes += grow_by(values, codes.len(), EXACT_MAX);
                values.extend(codes.iter().map(|code| of.values[*code as usize]));
            }
            Values::Listed(buckets) if buckets.len() + codes.len() <= LISTED_MAX => {
                *grown_bytes += grow_by(buckets, codes.len(), LISTED_MAX);
                buckets.extend(codes.iter().map(bucket));
            }
            Values::Counted(buckets) => buckets.add_later(codes.iter().map(bucket), grown_bytes),
            _ => codes.iter().for_each(|code| self.push(of.values[*code as usize], bucket(code), 1, grown_bytes)),
        }
    }

    /// Adds a value and its bucket `count` times.
    #[inline]
    fn push(&mut self, value: i64, bucket: u16, count: u32, grown_bytes: &mut isize) {
        for done in 0..count {
            match self {
                Values::Counted(buckets) => {
                    buckets.add(bucket, u64::from(count - done), grown_bytes);
                    return;
                }
                Values::Listed(buckets) if buckets.len() < buckets.capacity() => buckets.push(bucket),
                Values::Exact(values) if values.len() < values.capacity() => values.push(value),
                Values::Listed(_) | Values::Exact(_) => self.push_slow(value, grown_bytes),
            }
        }
    }

    /// Adds a value for which there is no room.
    #[cold]
    fn push_slow(&mut self, value: i64, grown_bytes: &mut isize) {
        match self {
            Values::Exact(values) if values.len() < EXACT_MAX => {
                *grown_bytes += grow(values, EXACT_MAX);
                values.push(value);
            }
            Values::Exact(_) => {
                self.list(grown_bytes);
                self.push_slow(value, grown_bytes);
            }
            Values::Listed(buckets) if buckets.len() < LISTED_MAX => {
                *grown_bytes += grow(buckets, LISTED_MAX);
                buckets.push(bucket_of(value));
            }
            Values::Listed(_) => self.count(grown_bytes).add(bucket_of(value), 1, grown_bytes),
            Values::Counted(buckets) => buckets.add(bucket_of(value), 1, grown_bytes),
        }
    }

    /// From exact values to the buckets of each.
    fn list(&mut self, grown_bytes: &mut isize) {
        if let Values::Exact(values) = self {
            let buckets: Vec<u16> = values.iter().map(|value| bucket_of(*value)).collect();
            *grown_bytes += size_of_val(buckets.as_slice()) as isize;
            *grown_bytes -= (values.capacity() * size_of::<i64>()) as isize;
            *self = Values::Listed(buckets);
        }
    }

    /// From whatever it is to counts.
    fn count(&mut self, grown_bytes: &mut isize) -> &mut Buckets {
        self.list(grown_bytes);
        if let Values::Listed(listed) = self {
            let mut buckets = Box::new(Buckets {
                directory: [0; PAGES],
                pages: Vec::new(),
                carries: Vec::new(),
                pending: Vec::new(),
            });
            *grown_bytes += size_of::<Buckets>() as isize;
            listed.iter().for_each(|bucket| buckets.add(*bucket, 1, grown_bytes));
            *grown_bytes -= (listed.capacity() * size_of::<u16>()) as isize;
            *self = Values::Counted(buckets);
        }
        match self {
            Values::Counted(buckets) => buckets,
            Values::Exact(_) | Values::Listed(_) => unreachable!("made above"),
        }
    }

    fn merge(&mut self, mut from: Values) {
        let grown_bytes = &mut 0;
        // Into the coarser one, or the longer.
        if self.weight() < from.weight() {
            mem::swap(self, &mut from);
        }
        if let (Values::Exact(into), Values::Exact(from)) = (&mut *self, &from)
            && into.len() + from.len() <= EXACT_MAX
        {
            into.extend_from_slice(from);
            return;
        }
        self.list(grown_bytes);
        from.list(grown_bytes);
        match (&mut *self, from) {
            (Values::Listed(into), Values::Listed(from)) if into.len() + from.len() <= LISTED_MAX => {
                into.extend_from_slice(&from);
            }
            (_, Values::Listed(from)) => {
                let into = self.count(grown_bytes);
                from.iter().for_each(|bucket| into.add(*bucket, 1, grown_bytes));
            }
            (_, Values::Counted(from)) => {
                let into = self.count(grown_bytes);
                from.for_each(|bucket, count| into.add(bucket, count, grown_bytes));
            }
            (_, Values::Exact(_)) => unreachable!("listed above"),
        }
    }

    fn weight(&self) -> (u8, usize) {
        match self {
            Values::Exact(values) => (0, values.len()),
            Values::Listed(buckets) => (1, buckets.len()),
            Values::Counted(_) => (2, 0),
        }
    }
}

/// Makes room for `more` values; returns the bytes that it takes.
fn grow_by<T>(values: &mut Vec<T>, more: usize, most: usize) -> isize {
    let mut grown_bytes = 0;
    while values.capacity() - values.len() < more {
        let before = values.capacity();
        let room = before.max(more).max(2).min(most - values.len());
        values.reserve_exact(room);
        grown_bytes += ((values.capacity() - before) * size_of::<T>()) as isize;
    }
    grown_bytes
}

/// Buckets, which rise, and how many values lie in each or before it.
#[derive(Default)]
struct Runs(Vec<(u16, u64)>);

impl Runs {
    fn push(&mut self, bucket: u16, count: u64) {
        let before = self.0.last().map_or(0, |(_, end)| *end);
        self.0.push((bucket, before + count));
    }
}

/// The runs of a list. A long one is counted: the range of its values is shorter than the list, or little longer.
fn runs_of(buckets: &mut [u16], mut visit: impl FnMut(u16, u64)) -> Vec<(u16, u64)> {
    const SHORT: usize = 1_024;
    let mut runs = Runs::default();
    let mut add = |bucket: u16, count: u64| {
        visit(bucket, count);
        runs.push(bucket, count);
    };
    let (min, max) = buckets.iter().fold((u16::MAX, 0), |(min, max), bucket| (min.min(*bucket), max.max(*bucket)));
    if buckets.len() < SHORT || usize::from(max - min) > 4 * buckets.len() {
        buckets.sort_unstable();
        buckets.chunk_by(|a, b| a == b).for_each(|same| add(same[0], same.len() as u64));
    } else {
        let mut counts = vec![0u32; usize::from(max - min) + 1];
        buckets.iter().for_each(|bucket| counts[usize::from(*bucket - min)] += 1);
        let filled = (min..=max).zip(counts).filter(|(_, count)| *count > 0);
        filled.for_each(|(bucket, count)| add(bucket, count.into()));
    }
    runs.0
}

/// Makes room, twice as much as before but not beyond `most`; returns the bytes that it takes.
fn grow<T>(values: &mut Vec<T>, most: usize) -> isize {
    let before = values.capacity();
    let room = values.len().max(2).min(most - values.len());
    values.reserve_exact(room);
    ((values.capacity() - before) * size_of::<T>()) as isize
}

/// Counts per bucket, in pages that exist where something fell.
#[derive(Clone, Debug)]
struct Buckets {
    /// Per page its index in `pages` + 1; 0: not there.
    directory: [u16; PAGES],
    pages: Vec<[u32; PAGE]>,
    /// A bucket for each 2^32 values in it that its page has no room for: there are none but in the largest traces.
    carries: Vec<u16>,
    /// Values that are not counted yet.
    pending: Vec<u16>,
}

impl Buckets {
    #[inline]
    fn add(&mut self, bucket: u16, count: u64, grown_bytes: &mut isize) {
        let slot = &mut self.directory[usize::from(bucket >> PAGE_BITS)];
        if *slot == 0 {
            self.pages.push([0; PAGE]);
            *slot = self.pages.len() as u16;
            *grown_bytes += size_of::<[u32; PAGE]>() as isize;
        }
        let place = &mut self.pages[usize::from(*slot - 1)][usize::from(bucket) % PAGE];
        let sum = u64::from(*place) + count;
        *place = sum as u32;
        self.carries.extend((0..sum >> 32).map(|_| bucket));
    }

    /// Adds values that are counted when there are many: their counts are far apart, and by then out of the cache.
    fn add_later(&mut self, buckets: impl Iterator<Item = u16>, grown_bytes: &mut isize) {
        if self.pending.capacity() == 0 {
            self.pending.reserve_exact(PENDING_MAX);
            *grown_bytes += (self.pending.capacity() * size_of::<u16>()) as isize;
        }
        for bucket in buckets {
            if self.pending.len() == PENDING_MAX {
                self.settle(grown_bytes);
            }
            self.pending.push(bucket);
        }
    }

    /// Counts what is pending.
    fn settle(&mut self, grown_bytes: &mut isize) {
        let mut pending = mem::take(&mut self.pending);
        pending.drain(..).for_each(|bucket| self.add(bucket, 1, grown_bytes));
        self.pending = pending;
    }

    /// Each bucket with its count, in no order: one may come more than once.
    fn for_each(&self, mut visit: impl FnMut(u16, u64)) {
        for (number, slot) in self.directory.iter().enumerate().filter(|(_, slot)| **slot != 0) {
            let page = &self.pages[usize::from(*slot - 1)];
            for (place, count) in page.iter().enumerate().filter(|(_, count)| **count != 0) {
                visit((number * PAGE + place) as u16, u64::from(*count));
            }
        }
        self.carries.iter().for_each(|bucket| visit(*bucket, 1 << 32));
        self.pending.iter().for_each(|bucket| visit(*bucket, 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        assert_eq!(bucket_of(-1), 0);
        let mut expected = 0i64;
        for bucket in 0..=bucket_of(i64::MAX) {
            let (lower, width) = bounds_of(bucket);
            assert_eq!(lower, expected, "bucket {bucket}");
            assert_eq!(bucket_of(lower), bucket);
            assert_eq!(bucket_of(lower + (width - 1)), bucket);
            assert!(width == 1 || width as f64 / lower as f64 <= 1.0 / 1024.0);
            expected = lower.wrapping_add(width);
        }
        assert_eq!(expected, i64::MIN, "the last bucket ends with the largest value");
    }

    fn exact(sorted: &[i64], fraction: f64) -> f64 {
        let position = (sorted.len() - 1) as f64 * fraction;
        let (low, high) = (sorted[position.floor() as usize] as f64, sorted[position.ceil() as usize] as f64);
        low + (high - low) * position.fract()
    }

    #[test]
    fn percentiles_match_the_sorted_values() {
        const FRACTIONS: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
        let mut random = 1u64;
        for size in [1, 2, 3, 100, EXACT_MAX, EXACT_MAX + 1, LISTED_MAX, LISTED_MAX + 1, 2 * LISTED_MAX + 1] {
            let mut parts = [Distribution::default(), Distribution::default()];
            let mut values = Vec::new();
            for i in 0..size {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let value = (random >> 33) as i64 >> (random % 30);
                values.push(value);
                parts[i % 2].add(value, &mut 0);
            }
            values.sort_unstable();
            let [mut all, other] = parts;
            all.merge(other);
            assert_eq!(all.count, size as u64);
            assert_eq!(all.sum, values.iter().map(|v| i128::from(*v)).sum::<i128>());
            assert_eq!(Some(&all.max), values.last());
            for (fraction, found) in FRACTIONS.into_iter().zip(all.percentiles(FRACTIONS).into_iter().flatten()) {
                let expected = exact(&values, fraction);
                let allowed = if size <= EXACT_MAX { 0.5 } else { 0.5 + expected * 0.0005 };
                assert!((found as f64 - expected).abs() <= allowed, "{size} {fraction}: {found} {expected}");
            }
        }
        assert_eq!(Distribution::default().percentiles(FRACTIONS), None);
    }

    #[test]
    fn more_values_than_32_bits_hold_are_counted() {
        let mut all = Distribution::default();
        let mut counts = vec![0; 1 << 16];
        counts[100] = 1;
        counts[700] = u32::MAX;
        for _ in 0..3 {
            all.add_tally(&counts, (0, 100, 900), &mut 0);
            all.add(900, &mut 0);
        }
        let values = u64::from(u32::MAX) * 3;
        assert_eq!(all.count, values + 6);
        let mut found = 0;
        assert_eq!(
            all.measure([0.0, 0.001, 0.999, 1.0], |bucket, count| found += u64::from(bucket == 700) * count),
            Some([100, 700, 700, 900])
        );
        assert_eq!(found, values);
    }
}
