//! How large a change is. Durations by Cliff's delta: the share of pairs, one call of each trace, in which the later one
//! is the longer, less the share in which it is the shorter; it asks nothing of the shape of the distribution, and means
//! the same for microseconds and minutes. Failures by Cohen's h of their shares.

use super::measure::{By, Measure, Measures};
use crate::distribution::Distribution;
use crate::human;
use std::cmp::Reverse;

/// Fewer calls than this in one of the traces tell nothing.
const CALLS_MIN: u64 = 20;
/// A change of both median and mean below this is no change, however sure it is.
const RATIO_MIN: f64 = 1.05;
/// How many standard deviations two shares must be apart.
const SURE: f64 = 3.0;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Slower,
    Faster,
    More,
    Fewer,
    New,
    Gone,
    TooFew,
    No,
}

impl Change {
    /// The value of the column `change`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Change::Slower => "slower",
            Change::Faster => "faster",
            Change::More => "more",
            Change::Fewer => "fewer",
            Change::New => "new",
            Change::Gone => "gone",
            Change::TooFew => "too few calls",
            Change::No => "no change",
        }
    }
}

/// How large a change is, by the usual bounds of its measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Size {
    None,
    Small,
    Medium,
    Large,
}

impl Size {
    /// The value of the column `size`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Size::None => "none",
            Size::Small => "small",
            Size::Medium => "medium",
            Size::Large => "large",
        }
    }

    /// Of a Cliff's delta (Romano and others, 2006).
    fn of_delta(delta: f64) -> Size {
        Size::by(delta.abs(), [0.147, 0.33, 0.474])
    }

    /// Of a Cohen's h (Cohen, 1988).
    fn of_h(h: f64) -> Size {
        Size::by(h.abs(), [0.2, 0.5, 0.8])
    }

    fn by(effect: f64, bounds: [f64; 3]) -> Size {
        match bounds.iter().filter(|bound| effect >= **bound).count() {
            0 => Size::None,
            1 => Size::Small,
            2 => Size::Medium,
            _ => Size::Large,
        }
    }
}

/// One group in one trace.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub count: u64,
    pub p50_ns: Option<i64>,
    pub p99_ns: Option<i64>,
    pub mean_ns: Option<i128>,
    pub slept: u64,
    pub wait_ns: i128,
    pub wait_p99_ns: Option<i64>,
}

/// How long the calls of a group took, before and after.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    pub by: By,
    pub name: String,
    pub sides: [Side; 2],
    pub change: Change,
    pub size: Size,
    /// Cliff's delta in thousandths; above 0: slower.
    pub effect_permille: Option<i64>,
}

/// How often an operation failed with an errno, before and after.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub syscall: String,
    pub error: String,
    pub counts: [u64; 2],
    pub calls: [u64; 2],
    pub change: Change,
    pub size: Size,
}

impl Timing {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        let [before, after] = &self.sides;
        match (self.change, before.p50_ns, after.p50_ns) {
            (Change::Slower | Change::Faster, Some(before_ns), Some(after_ns)) => {
                let p99 = [before, after].map(|side| human::duration(side.p99_ns.unwrap_or(0).into()));
                let [before_ns, after_ns] = [before_ns, after_ns].map(|ns| human::duration(ns.into()));
                let [p99_before, p99_after] = p99;
                format!(
                    "{} (p50 {before_ns} → {after_ns}, p99 {p99_before} → {p99_after}, {} effect)",
                    self.name,
                    self.size.name()
                )
            }
            _ => format!("{} ({} → {} calls)", self.name, before.count, after.count),
        }
    }

    /// The object, where `--object` takes its name.
    pub(super) fn object(&self) -> Option<String> {
        (self.by == By::Object && self.name.contains(':')).then(|| self.name.clone())
    }
}

impl Failing {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        let of =
            |i: usize| format!("{} of {}", human::count(self.counts[i].into()), human::count(self.calls[i].into()));
        format!("{} {} ({} → {} calls)", self.syscall, self.error, of(0), of(1))
    }
}

/// All groups, the largest change first.
pub(super) fn timings(mut measures: Measures) -> Vec<Timing> {
    let groups = [By::Syscall, By::Comm, By::Object];
    let mut timings: Vec<Timing> = groups
        .into_iter()
        .flat_map(|by| measures.take_groups(by).into_iter().map(move |(name, sides)| timing(by, name, sides)))
        .collect();
    timings.sort_by_key(|t| (Reverse(t.size), t.by, Reverse(t.sides[0].count + t.sides[1].count), t.name.clone()));
    timings
}

fn timing(by: By, name: String, measures: [Measure; 2]) -> Timing {
    let delta = cliffs_delta(&measures[0].durations, &measures[1].durations);
    let sides = measures.map(side);
    let [before, after] = &sides;
    let change = match (before.count, after.count) {
        (0, 0) => Change::No,
        (0, n) if n >= CALLS_MIN => Change::New,
        (n, 0) if n >= CALLS_MIN => Change::Gone,
        (a, b) if a < CALLS_MIN || b < CALLS_MIN => Change::TooFew,
        _ if delta.is_some_and(|delta| Size::of_delta(delta) == Size::None) || !differ(before, after) => Change::No,
        _ if delta.is_some_and(|delta| delta > 0.0) => Change::Slower,
        _ => Change::Faster,
    };
    let is_known = matches!(change, Change::Slower | Change::Faster);
    let size = delta.filter(|_| is_known).map_or(Size::None, Size::of_delta);
    let effect_permille = delta.map(|delta| (delta * 1000.0).round() as i64);
    Timing { by, name, sides, change, size, effect_permille }
}

fn side(mut measure: Measure) -> Side {
    let durations = &mut measure.durations;
    let percentiles = durations.percentiles([0.5, 0.99]);
    let count = i128::from(durations.count);
    Side {
        count: measure.calls,
        p50_ns: percentiles.map(|[p50, _]| p50),
        p99_ns: percentiles.map(|[_, p99]| p99),
        mean_ns: (count > 0).then(|| (durations.sum + count / 2) / count.max(1)),
        slept: measure.slept,
        wait_ns: measure.waits.sum,
        wait_p99_ns: measure.waits.percentiles([0.99]).map(|[p99]| p99),
    }
}

/// Whether median or mean changed enough to matter.
fn differ(before: &Side, after: &Side) -> bool {
    let ratio = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) if a > 0.0 && b > 0.0 => (a / b).max(b / a) >= RATIO_MIN,
        (a, b) => a != b,
    };
    ratio(before.p50_ns.map(|ns| ns as f64), after.p50_ns.map(|ns| ns as f64))
        || ratio(before.mean_ns.map(|ns| ns as f64), after.mean_ns.map(|ns| ns as f64))
}

/// Cliff's delta of two distributions, by their buckets (0.1 % wide): −1…1, above 0 when the second has the longer ones.
fn cliffs_delta(before: &Distribution, after: &Distribution) -> Option<f64> {
    if before.count == 0 || after.count == 0 {
        return None;
    }
    let mut buckets: Vec<(u16, u64, u64)> = Vec::new();
    before.for_each_bucket(|bucket, count| buckets.push((bucket, count, 0)));
    after.for_each_bucket(|bucket, count| buckets.push((bucket, 0, count)));
    buckets.sort_unstable_by_key(|(bucket, ..)| *bucket);
    let (mut shorter_before, mut shorter_after, mut sum) = (0u64, 0u64, 0.0);
    for of_bucket in buckets.chunk_by(|a, b| a.0 == b.0) {
        let here = |side: fn(&(u16, u64, u64)) -> u64| of_bucket.iter().map(side).sum::<u64>();
        let (a, b) = (here(|(_, a, _)| *a), here(|(_, _, b)| *b));
        sum += b as f64 * shorter_before as f64 - a as f64 * shorter_after as f64;
        shorter_before += a;
        shorter_after += b;
    }
    Some(sum / (before.count as f64 * after.count as f64))
}

/// All failures, the largest change first.
pub(super) fn failings(measures: &Measures) -> Vec<Failing> {
    let calls = measures.calls();
    let failing = |(syscall, error, counts): (String, String, [u64; 2])| {
        let calls = calls.get(syscall.as_str()).copied().unwrap_or_default();
        let (change, size) = share_change(counts, calls);
        Failing { syscall, error, counts, calls, change, size }
    };
    let mut failings: Vec<Failing> = measures.errors().into_iter().map(failing).collect();
    failings.sort_by_key(|f| (Reverse(f.size), Reverse(f.counts[0] + f.counts[1]), f.syscall.clone(), f.error.clone()));
    failings
}

/// What became of a share, and by Cohen's h how large that is.
fn share_change(counts: [u64; 2], calls: [u64; 2]) -> (Change, Size) {
    if calls.iter().any(|calls| *calls < CALLS_MIN) {
        return (Change::TooFew, Size::None);
    }
    let [a, b] = [0, 1].map(|i| counts[i] as f64 / calls[i] as f64);
    let all = (counts[0] + counts[1]) as f64 / (calls[0] + calls[1]) as f64;
    let deviation = (all * (1.0 - all) * (1.0 / calls[0] as f64 + 1.0 / calls[1] as f64)).sqrt();
    if (a - b).abs() <= SURE * deviation {
        return (Change::No, Size::None);
    }
    let angle = |share: f64| 2.0 * share.min(1.0).sqrt().asin();
    let size = Size::of_h(angle(b) - angle(a)).max(Size::Small);
    let change = match counts {
        [0, _] => Change::New,
        [_, 0] => Change::Gone,
        _ if b > a => Change::More,
        _ => Change::Fewer,
    };
    (change, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(values: &[i64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.add(*value, &mut 0));
        distribution
    }

    /// The definition, pair by pair.
    fn by_pairs(before: &[i64], after: &[i64]) -> f64 {
        let sum: i64 = before.iter().flat_map(|a| after.iter().map(move |b| (b - a).signum())).sum();
        sum as f64 / (before.len() * after.len()) as f64
    }

    #[test]
    fn delta_is_what_the_pairs_say() {
        let cases: [(&[i64], &[i64]); 5] =
            [(&[1, 2, 3], &[1, 2, 3]), (&[1], &[2]), (&[9], &[2, 2]), (&[1, 5, 5, 9], &[5, 6]), (&[3, 1], &[2])];
        for (before, after) in cases {
            let found = cliffs_delta(&distribution(before), &distribution(after));
            let is_near = |found: f64| (found - by_pairs(before, after)).abs() < 1e-9;
            assert!(found.is_some_and(is_near), "{before:?} {after:?}: {found:?}");
        }
        assert_eq!(cliffs_delta(&distribution(&[]), &distribution(&[1])), None);
    }

    #[test]
    fn shares_change_when_chance_would_not_do_it() {
        assert_eq!(share_change([10, 12], [1000, 1000]).0, Change::No);
        assert_eq!(share_change([10, 60], [1000, 1000]).0, Change::More);
        assert_eq!(share_change([0, 60], [1000, 1000]).0, Change::New);
        assert_eq!(share_change([60, 0], [1000, 1000]).0, Change::Gone);
        assert_eq!(share_change([0, 5], [1000, 5]).0, Change::TooFew);
        assert_eq!(share_change([10, 900], [1000, 1000]), (Change::More, Size::Large));
    }
}
