//! The page with the figures.

use super::super::page::{median, sections, text};
use super::super::{Scale, built, machine};
use super::{Comparison, RATE, Sample, Series};
use crate::Result;
use crate::command::now;

/// A column: its head, and what stands in it for a series and that with which it is compared.
type Column = (&'static str, fn(&Series, Option<&Series>) -> String);

const COLUMNS: &[Column] = &[
    ("operations per s", |series, _| middle(series, |sample| Some(sample.per_s), 0)),
    ("change", |series, base| change(series, base, |sample| Some(sample.per_s))),
    ("p99, µs", |series, _| middle(series, |sample| Some(sample.p99_ns / 1e3), 0)),
    ("change", |series, base| change(series, base, |sample| Some(sample.p99_ns))),
    ("p99 with the end, µs", |series, _| middle(series, |sample| Some(sample.p99_with_end_ns / 1e3), 0)),
    ("CPU per operation, µs", |series, _| middle(series, |sample| Some(sample.cpu_ns? / 1e3), 1)),
    ("change", |series, base| change(series, base, |sample| sample.cpu_ns)),
    ("compared with", |_, base| base.map_or("–", |base| base.beside.title).to_owned()),
    ("storm's calls per s", |series, _| middle(series, |sample| sample.storm_per_s, 0)),
    ("recorder saw, calls per s", |series, _| middle(series, Sample::seen_per_s, 0)),
    ("recorder's CPU, % of one", |series, _| middle(series, |sample| Some(sample.recorder_cpu()? * 100.0), 1)),
    ("recorder writes, MB per s", |series, _| middle(series, |sample| Some(sample.recorder_bytes_per_s()? / 1e6), 2)),
    ("lost", |series, _| series.lost().map_or("–".to_owned(), |lost| lost.to_string())),
];

/// The whole page, in Markdown.
pub fn write<'a>(
    scale: &Scale,
    measured: impl Iterator<Item = (&'a Comparison, &'a Vec<Series>)>,
    bystanders: &[super::super::Series],
) -> Result<String> {
    let built = if built().is_some() { "programs that were built before" } else { "a release" };
    let mut page = format!(
        "# What recording costs a host\n\nWritten by `cargo xtask bench host` on {}: {}; {built}.\n\n\
         A service runs all the time; what is beside it changes from window to window. {} rounds have a window of each, \
         every other round in the opposite order. A figure is the median over the rounds; a *change* is the median of the \
         ratios of two windows of the same round, in brackets the smallest and the largest: *nothing, once more* is the \
         noise of the machine. A window begins when the recorder (`ipc-recorder record -a`, rings of 8 MiB per \
         processor) is attached and ends when its process has ended: what it converts and writes at its end belongs to \
         the throughput and the CPU time, but not to the 99th percentile, which is of what ended before the recorder was \
         told to stop. The CPU time is that of the service's own processes: what recording adds to their calls, less \
         noisy than the throughput. A storm is one process that calls semop {} times a second where it says nothing \
         else. The targets: at most 2 % of the throughput and 5 % of the 99th percentile.\n",
        now("+%Y-%m-%d")?,
        machine()?,
        scale.rounds,
        thousands(RATE),
    );
    for (comparison, all) in measured {
        page += &format!("\n## {}\n\n| beside |", comparison.title);
        COLUMNS.iter().for_each(|(head, _)| page += &format!(" {head} |"));
        page += &format!("\n|---{}|\n", "|--:".repeat(COLUMNS.len()));
        all.iter().for_each(|series| page += &row(series, all));
    }
    page += "\nThe calls and wake-ups of bystanders, none of them traced; the empty pair is the least that programs at the \
             entry and exit of every system call cost:\n";
    page += &sections(bystanders);
    Ok(page)
}

fn row(series: &Series, all: &[Series]) -> String {
    let base = series.beside.versus.and_then(|title| all.iter().find(|other| other.beside.title == title));
    let cells: String = COLUMNS.iter().map(|(_, cell)| format!(" {} |", cell(series, base))).collect();
    format!("| {} |{cells}\n", series.beside.title)
}

/// The median over the rounds.
fn middle(series: &Series, figure: fn(&Sample) -> Option<f64>, digits: usize) -> String {
    text(median(&series.samples.iter().filter_map(figure).collect::<Vec<_>>()), digits)
}

/// How a figure differs from that of the other window of the same round: the median, the least and the most.
fn change(series: &Series, base: Option<&Series>, figure: fn(&Sample) -> Option<f64>) -> String {
    let pairs = series.samples.iter().zip(base.iter().flat_map(|base| &base.samples));
    let percent = pairs.filter_map(|(sample, base)| Some(100.0 * (figure(sample)? / figure(base)? - 1.0)));
    let percent: Vec<f64> = percent.collect();
    let (least, most) = (percent.iter().copied().reduce(f64::min), percent.iter().copied().reduce(f64::max));
    match (median(&percent), least, most) {
        (Some(median), Some(least), Some(most)) => format!("{median:+.1} % ({least:+.1}…{most:+.1})"),
        _ => "–".to_owned(),
    }
}

/// 20000 as 20,000.
fn thousands(number: u32) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

#[cfg(test)]
mod tests {
    use super::super::beside::{Beside, Companion, Storm};
    use super::*;

    const NOTHING: Beside = Beside { title: "", storm: Storm::None, companion: Companion::Nobody, versus: None };

    fn series(rates: [f64; 3]) -> Series {
        let sample = |per_s| Sample {
            per_s,
            p99_ns: 0.0,
            p99_with_end_ns: 0.0,
            cpu_ns: None,
            storm_per_s: None,
            recorded: None,
            seconds: 1.0,
        };
        Series { beside: &NOTHING, samples: rates.map(sample).into() }
    }

    #[test]
    fn a_change_compares_the_windows_of_a_round() {
        // Of a machine that gets slower each round, and a companion that takes a hundredth, a fiftieth, a tenth.
        let (base, beside) = (series([1000.0, 500.0, 100.0]), series([990.0, 490.0, 90.0]));
        assert_eq!(change(&beside, Some(&base), |sample| Some(sample.per_s)), "-2.0 % (-10.0…-1.0)");
        assert_eq!(change(&beside, Some(&base), |sample| sample.cpu_ns), "–");
    }

    #[test]
    fn numbers_have_their_comma() {
        assert_eq!(thousands(20_000), "20,000");
    }
}
