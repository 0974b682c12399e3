//! The page with the figures.

use super::watch::Watch;
use super::{Load, Sample, Scale, Series, machine};
use crate::Result;
use crate::command::{command, output};

/// The whole page, in Markdown.
pub fn write(scale: &Scale, all: &[Series]) -> Result<String> {
    let date = output(command("date").args(["--utc", "+%Y-%m-%d"]))?;
    let mut page = format!(
        "# What recording costs\n\nWritten by `cargo xtask bench` on {}: {}.\n\n\
         {} rounds, every run of a round after the other; a figure is the median over the rounds, *added* the median \
         difference to the unwatched run of the same round (in brackets the smallest and the largest). A run in which \
         anything was lost does not count. Whole system recorded, rings of 8 MiB per processor for both recorders. \
         Compare ratios, not nanoseconds: they are another machine's.\n",
        date.trim(),
        machine()?,
        scale.rounds
    );
    for (load, title) in [
        (Load::SemopBurst, "A traced call: 30,000 semop that never wait, in a burst that the rings hold"),
        (Load::Semop, "A traced call: one process in a loop of semop for seconds, the watcher on the other processor"),
        (Load::Bystander, "An untraced call: one process in a loop of getppid"),
        (Load::SemopTwice, "Two processes in loops of semop at full speed, no processor left for the recorder"),
    ] {
        page += &format!("\n## {title}\n\n");
        page += "| watched by | ns per call | added ns | added / empty pair | added / perf | bytes per call | \
                 watcher's CPU ns per call | lost | runs that count |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for series in all.iter().filter(|series| series.load == load) {
            page += &row(series, all);
        }
    }
    Ok(page)
}

fn row(series: &Series, all: &[Series]) -> String {
    let added = added(series, all);
    let ratio = |watch| {
        let other = all.iter().find(|other| other.load == series.load && other.watch == watch)?;
        let is_of_use = series.watch != Watch::Nothing && series.watch != watch;
        is_of_use.then_some(median(&added)? / median(&self::added(other, all))?)
    };
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
        "| {} | {} | {spread} | {} | {} | {} | {} | {} | {} of {} |\n",
        series.watch.title(),
        text(of(|sample| Some(sample.call_ns)), 0),
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
    let unwatched = all.iter().find(|other| other.load == series.load && other.watch == Watch::Nothing);
    let Some(unwatched) = unwatched else { return Vec::new() };
    let pairs = series.samples.iter().zip(&unwatched.samples);
    pairs.filter_map(|(sample, base)| Some(sample.as_ref()?.call_ns - base.as_ref()?.call_ns)).collect()
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn text(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

impl Watch {
    fn title(self) -> &'static str {
        match self {
            Watch::Nothing => "nothing",
            Watch::EmptyPair => "an empty pair of eBPF programs",
            Watch::Recorder => "ipc-recorder",
            Watch::Perf => "perf record of the two tracepoints",
        }
    }
}
