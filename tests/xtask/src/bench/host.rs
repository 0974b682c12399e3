//! `cargo xtask bench host`: what a recorder costs a machine that has other things to do: PostgreSQL, a neighbour that
//! waits for the same disk, and system calls and wake-ups that are no IPC.
//!
//! A service runs all the time, and what is beside it changes: a round is a window of each, the next round the same in
//! the opposite order, and a figure is the ratio of two windows of one round. A window begins when what is beside it has
//! been attached, and ends when it has ended: what a recorder converts and writes at its end belongs to what a call
//! costs. It is no part of the 99th percentile, for it happens once in a recording.

mod background;
mod beside;
mod page;
mod postgresql;
mod service;

use super::load::Load;
use super::watch::Watch;
use super::{Scale, measure};
use crate::setup::Need;
use crate::{Result, place};
use beside::{Beside, Companion, Recorded, Storm, Window};
use postgresql::Server;
use service::{Operations, Service};
use std::fs;
use std::time::Duration;

/// What is measured, and beside what.
pub struct Comparison {
    service: Service,
    /// As the page calls it.
    title: &'static str,
    besides: &'static [Beside],
}

/// The windows of a service beside one thing, one of each round.
pub struct Series {
    beside: &'static Beside,
    samples: Vec<Sample>,
}

/// What a window showed.
#[derive(Debug)]
pub struct Sample {
    /// Operations of the service.
    per_s: f64,
    /// Of their durations, until the recorder was told to stop.
    p99_ns: f64,
    /// The same until it had ended.
    p99_with_end_ns: f64,
    /// The processor time of the service for each of them.
    cpu_ns: Option<f64>,
    /// Calls of the storm.
    storm_per_s: Option<f64>,
    recorded: Option<Recorded>,
    seconds: f64,
}

/// Calls of semop per second: so few that the service keeps its processors. A storm at full speed takes one for itself.
const RATE: u32 = 20_000;

/// The first is the noise of the machine.
const BESIDE_POSTGRESQL: &[Beside] = &[
    Beside { title: "nothing, once more", storm: Storm::None, companion: Companion::Nobody, versus: Some("nothing") },
    Beside { title: "nothing", storm: Storm::None, companion: Companion::Nobody, versus: None },
    Beside {
        title: "an empty pair of eBPF programs",
        storm: Storm::None,
        companion: Companion::EmptyPair,
        versus: Some("nothing"),
    },
    Beside { title: "ipc-recorder", storm: Storm::None, companion: Companion::Recorder(&[]), versus: Some("nothing") },
    Beside {
        title: "ipc-recorder --no-wakers",
        storm: Storm::None,
        companion: Companion::Recorder(&["--no-wakers"]),
        versus: Some("nothing"),
    },
    Beside { title: "a storm", storm: Storm::Rate(RATE), companion: Companion::Nobody, versus: None },
    Beside {
        title: "a storm and ipc-recorder",
        storm: Storm::Rate(RATE),
        companion: Companion::Recorder(&[]),
        versus: Some("a storm"),
    },
];

/// The recorder comes before the writer, which writes as much. Two storms tell what it is alone that no processor is idle.
const BESIDE_NEIGHBOUR: &[Beside] = &[
    Beside { title: "nothing", storm: Storm::None, companion: Companion::Nobody, versus: None },
    Beside { title: "a storm", storm: Storm::FullSpeed(1), companion: Companion::Nobody, versus: Some("nothing") },
    Beside {
        title: "a storm and ipc-recorder",
        storm: Storm::FullSpeed(1),
        companion: Companion::Recorder(&[]),
        versus: Some("a storm"),
    },
    Beside {
        title: "a storm and a program that writes as much",
        storm: Storm::FullSpeed(1),
        companion: Companion::Writer,
        versus: Some("a storm"),
    },
    Beside {
        title: "a storm of two processes",
        storm: Storm::FullSpeed(2),
        companion: Companion::Nobody,
        versus: Some("a storm"),
    },
];

const COMPARISONS: &[Comparison] = &[
    Comparison {
        service: Service::Select,
        title: "PostgreSQL that only reads: pgbench --select-only, prepared, 2 clients",
        besides: BESIDE_POSTGRESQL,
    },
    Comparison {
        service: Service::Write,
        title: "PostgreSQL that writes: pgbench's own transactions, prepared, 2 clients, every commit synced",
        besides: BESIDE_POSTGRESQL,
    },
    Comparison {
        service: Service::Neighbour,
        title: "A neighbour on the disk of the trace: appends 4 KiB and waits for fdatasync, beside one process in a loop \
                of semop at full speed",
        besides: BESIDE_NEIGHBOUR,
    },
];

/// Loads of which no call is traced.
const BYSTANDERS: &[(Load, &[Watch])] = &[
    (Load::EpollPwait, &[Watch::Nothing, Watch::EmptyPair, Watch::Recorder]),
    (Load::Pipe, &[Watch::Nothing, Watch::EmptyPair, Watch::Recorder]),
];

const FULL: Scale = Scale { rounds: 7, semops: 0, hand_offs: 0, bystanders: 3_000_000, pipes: 200_000 };
const QUICK: Scale = Scale { rounds: 2, ..FULL };

/// How long what is beside a service stays.
const WINDOW: Duration = Duration::from_secs(3);
/// Before the first window of a service.
const WARM_UP: Duration = Duration::from_secs(3);

/// The command; ten minutes. `--quick`: three, and no page.
pub fn run(options: &[String]) -> Result {
    super::prepare(options, Need::BenchHost)?;
    let is_quick = options.iter().any(|option| option == "--quick");
    let scale = if is_quick { QUICK } else { FULL };
    let server = Server::start(&place::target("bench").join("postgresql"))?;
    let measured = COMPARISONS.iter().map(|comparison| compare(comparison, &server, scale.rounds));
    let measured = measured.collect::<Result<Vec<_>>>()?;
    drop(server);
    let bystanders = measure(BYSTANDERS, &scale)?;
    let page = page::write(&scale, COMPARISONS.iter().zip(&measured), &bystanders)?;
    print!("{page}");
    if is_quick {
        return Ok(());
    }
    let path = place::root().join("docs/performance-host.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

/// All rounds of a service, one series for each thing beside it.
fn compare(comparison: &Comparison, server: &Server, rounds: usize) -> Result<Vec<Series>> {
    let running = comparison.service.start(server)?;
    std::thread::sleep(WARM_UP);
    let count = comparison.besides.len();
    let mut windows: Vec<Vec<Window>> = (0..count).map(|_| Vec::new()).collect();
    let mut bytes_per_s = 0.0;
    for round in 0..rounds {
        for turn in 0..count {
            let which = if round % 2 == 0 { turn } else { count - 1 - turn };
            let beside = &comparison.besides[which];
            let window = beside.window(&running, WINDOW, bytes_per_s)?;
            bytes_per_s = window.recorded.as_ref().map_or(bytes_per_s, |made| made.bytes as f64 / window.seconds());
            eprintln!("round {}: {:?} beside {}: {window:?}", round + 1, comparison.service, beside.title);
            windows[which].push(window);
        }
    }
    let operations = running.stop()?;
    let besides = comparison.besides.iter().zip(windows);
    besides.map(|(beside, windows)| Series::new(beside, windows, &operations)).collect()
}

impl Series {
    fn new(beside: &'static Beside, windows: Vec<Window>, operations: &Operations) -> Result<Series> {
        let sample = |window: Window| {
            let between = |to_ns| {
                let figures = operations.between(window.from_ns, to_ns);
                figures.ok_or_else(|| format!("the service did too little beside {}", beside.title))
            };
            let ((per_s, p99_with_end_ns), (_, p99_ns)) = (between(window.to_ns)?, between(window.told_ns)?);
            let seconds = window.seconds();
            let cpu_ns = window.service_cpu_ns.map(|cpu_ns| cpu_ns as f64 / (per_s * seconds));
            let (storm_per_s, recorded) = (window.storm_per_s, window.recorded);
            Ok(Sample { per_s, p99_ns, p99_with_end_ns, cpu_ns, storm_per_s, recorded, seconds })
        };
        Ok(Series { beside, samples: windows.into_iter().map(sample).collect::<Result<_>>()? })
    }

    /// The calls that recorders lost, if there were any recorders.
    fn lost(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| Some(sample.recorded.as_ref()?.lost)).reduce(|one, other| one + other)
    }
}

impl Sample {
    /// Of one processor.
    fn recorder_cpu(&self) -> Option<f64> {
        Some(self.recorded.as_ref()?.cpu_ns as f64 / 1e9 / self.seconds)
    }

    /// What it captured and lost: more than the storm's calls are those of somebody else.
    fn seen_per_s(&self) -> Option<f64> {
        let recorded = self.recorded.as_ref()?;
        Some((recorded.calls + recorded.lost) as f64 / self.seconds)
    }

    fn recorder_bytes_per_s(&self) -> Option<f64> {
        Some(self.recorded.as_ref()?.bytes as f64 / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_is_there_and_the_storms_are_the_same() {
        for Comparison { besides, .. } in COMPARISONS {
            for beside in *besides {
                let Some(versus) = beside.versus else { continue };
                let base = besides.iter().find(|other| other.title == versus);
                let base = base.unwrap_or_else(|| panic!("{}: {versus} is not there", beside.title));
                let is_recorded = matches!(beside.companion, Companion::Recorder(_));
                assert!(!is_recorded || base.storm == beside.storm, "{} and {versus}", beside.title);
            }
        }
    }
}
