//! The page with the figures.

use super::load::Load;
use super::watch::Watch;
use super::{Sample, Scale, Series, built, machine};
use crate::Result;
use crate::command::now;

/// The loads in the order of the page, and what it says of them.
const SECTIONS: &[(Load, &str)] = &[
    (Load::SemopBurst, "A traced call: 30,000 semop that never wait, in a burst that the rings hold"),
    (Load::Semop, "A traced call: one process in a loop of semop for seconds, the watcher on the other processor"),
    (
        Load::PingPong,
        "Traced calls that sleep and wake: two processes on one processor wait for each other in semop, every second \
         call sleeps",
    ),
    (Load::SemopTwice, "Two processes in loops of semop at full speed, no processor left for the recorder"),
    (Load::Bystander, "An untraced call: one process in a loop of getppid"),
    (
        Load::EpollPwait,
        "An untraced call that changes the signal mask: one process in a loop of epoll_pwait with a mask",
    ),
    (
        Load::Pipe,
        "Untraced wake-ups: `perf bench sched pipe` on one processor; a call is an operation, two writes and two reads",
    ),
];

/// The whole page, in Markdown.
pub fn write(scale: &Scale, all: &[Series]) -> Result<String> {
    let date = now("+%Y-%m-%d")?;
    let built = if built().is_some() { "programs that were built before" } else { "a release" };
    let mut page = format!(
        "# What recording costs\n\nWritten by `cargo xtask bench` on {}: {}; {built}.\n\n\
         {} rounds, every run of a round after the other; a figure is the median over the rounds, *added* the median \
         difference to the unwatched run of the same round (in brackets the smallest and the largest). A run in which \
         anything was lost does not count: every call of the load must be in what the watcher kept. Whole system \
         recorded, except by strace, which can only follow what it starts; rings of 8 MiB per processor for all. A \
         bpftrace line per call, perf trace and strace get one of 20 calls. The watcher's CPU time and bytes contain its \
         start and end. Compare ratios, not nanoseconds: they are another machine's.\n",
        date,
        machine()?,
        scale.rounds
    );
    page += &sections(all);
    Ok(page)
}

/// A table for each load that ran.
pub fn sections(all: &[Series]) -> String {
    let mut text = String::new();
    for (load, title) in SECTIONS.iter().filter(|(load, _)| all.iter().any(|series| series.load == *load)) {
        text += &format!("\n## {title}\n\n");
        text += "| watched by | ns per call | added ns | added % | added / empty pair | added / perf | bytes per call | \
                 watcher's CPU ns per call | lost | runs that count |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for series in all.iter().filter(|series| series.load == *load) {
            text += &row(series, all);
        }
    }
    text
}

fn row(series: &Series, all: &[Series]) -> String {
    let added = added(series, all);
    let ratio = |watch| {
        let other = all.iter().find(|other| other.load == series.load && other.watch == watch)?;
        let of_other = median(&self::added(other, all))?;
        // Where the other adds nothing that can be measured, a ratio to it says nothing.
        let is_of_use = series.watch != Watch::Nothing && series.watch != watch && of_other > 0.0;
        is_of_use.then_some(median(&added)? / of_other)
    };
    let share = unwatched(series, all).filter(|_| series.watch != Watch::Nothing).and_then(|base| {
        let base = base.samples.iter().flatten().map(|sample| sample.call_ns).collect::<Vec<_>>();
        Some(100.0 * median(&added)? / median(&base)?)
    });
    let of = |value: fn(&Sample) -> Option<f64>| {
        median(&series.samples.iter().flatten().filter_map(value).collect::<Vec<_>>())
    };
    let spread = match (added.iter().copied().reduce(f64::min), added.iter().copied().reduce(f64::max)) {
        (Some(least), Some(most)) if series.watch != Watch::Nothing => {
            format!("{} ({least:.0}…{most:.0})", text(median(&added), 0))
        }
        _ => "–".to_owned(),
    };
    format!(
        "| {} | {} | {spread} | {} | {} | {} | {} | {} | {} | {} of {} |\n",
        series.watch.title(),
        text(of(|sample| Some(sample.call_ns)), 0),
        text(share, 1),
        text(ratio(Watch::EmptyPair), 2),
        text(ratio(Watch::Perf), 2),
        text(of(|sample| sample.bytes_per_call), 1),
        text(of(|sample| sample.cpu_ns_per_call), 0),
        series.lost,
        series.samples.iter().flatten().count(),
        series.samples.len(),
    )
}

/// The difference to the unwatched run of the same round, nanoseconds per call, for each round that counts.
fn added(series: &Series, all: &[Series]) -> Vec<f64> {
    let Some(unwatched) = unwatched(series, all) else { return Vec::new() };
    let pairs = series.samples.iter().zip(&unwatched.samples);
    pairs.filter_map(|(sample, base)| Some(sample.as_ref()?.call_ns - base.as_ref()?.call_ns)).collect()
}

/// The runs of the same load that nothing watched.
fn unwatched<'a>(series: &Series, all: &'a [Series]) -> Option<&'a Series> {
    all.iter().find(|other| other.load == series.load && other.watch == Watch::Nothing)
}

/// The middle one, or what lies between the two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A figure of a table.
pub fn text(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}
