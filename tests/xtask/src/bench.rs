//! `cargo xtask bench`: what recording costs, beside an empty pair of programs and `perf record`.
//!
//! The runs of a round follow each other, so that a slow minute hits all; a figure is the median over the rounds of the
//! difference to the unwatched run of the same round. A run in which anything was lost is not counted.

mod page;
mod watch;

use crate::build::{self, Profile};
use crate::command::{command, output};
use crate::setup::{self, Consent, Need};
use crate::{Result, place};
use std::fs;
use std::path::PathBuf;
use watch::Watch;

/// What is run under each [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One process in a short loop of semop that never waits: what it makes fits into the rings.
    SemopBurst,
    /// The same for seconds: the watcher must keep up.
    Semop,
    /// One process in a loop of getppid: no call is traced.
    Bystander,
    /// Two processes in a loop of semop, on two processors.
    SemopTwice,
}

/// One run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Time of one call as the load sees it, nanoseconds.
    pub call_ns: f64,
    /// Calls or samples that the watcher lost.
    pub lost: u64,
    /// What the watcher wrote per call.
    pub bytes_per_call: Option<f64>,
    /// The watcher's own processor time per call, nanoseconds.
    pub cpu_ns_per_call: Option<f64>,
}

/// The runs of one pair of load and watch; in step with the unwatched ones.
pub struct Series {
    /// What ran.
    pub load: Load,
    /// What watched.
    pub watch: Watch,
    /// In step with those of the other watches; None where something was lost.
    pub samples: Vec<Option<Sample>>,
    /// What was lost in all rounds.
    pub lost: u64,
}

/// How long and how often.
pub struct Scale {
    /// How often everything is measured.
    pub rounds: usize,
    /// Calls of a semop loop.
    pub semops: u64,
    /// Calls of a getppid loop.
    pub bystanders: u64,
}

const FULL: Scale = Scale { rounds: 9, semops: 3_000_000, bystanders: 10_000_000 };
const QUICK: Scale = Scale { rounds: 3, semops: 500_000, bystanders: 2_000_000 };

/// 200 bytes of perf's ring and 152 of ours per call: 6 MB of 8 MiB.
const BURST: u64 = 30_000;

/// Which loads run under which watches.
const PLAN: &[(Load, &[Watch])] = &[
    (Load::SemopBurst, &[Watch::Nothing, Watch::EmptyPair, Watch::Recorder, Watch::Perf]),
    (Load::Semop, &[Watch::Nothing, Watch::EmptyPair, Watch::Recorder, Watch::Perf]),
    (Load::Bystander, &[Watch::Nothing, Watch::EmptyPair, Watch::Recorder, Watch::Perf]),
    (Load::SemopTwice, &[Watch::Nothing, Watch::Recorder]),
];

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build, Need::Bench], Consent::from_options(options)?)?;
    if !rustix::process::geteuid().is_root() {
        return Err("recording for a measurement needs root; run it with sudo".to_owned());
    }
    build::build(Profile::Release, &["ipc-recorder", "ipc-workload"])?;
    let is_quick = options.iter().any(|option| option == "--quick");
    let scale = if is_quick { QUICK } else { FULL };
    place::empty(&place::target("bench"))?;
    let series = measure(&scale)?;
    let page = page::write(&scale, &series)?;
    print!("{page}");
    if is_quick {
        return Ok(());
    }
    let path = place::root().join("docs/performance.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

fn measure(scale: &Scale) -> Result<Vec<Series>> {
    let new = |load, watch| Series { load, watch, samples: Vec::new(), lost: 0 };
    let mut all: Vec<Series> =
        PLAN.iter().flat_map(|(load, watches)| watches.iter().map(|watch| new(*load, *watch))).collect();
    for round in 1..=scale.rounds {
        for series in &mut all {
            for _ in 0..series.load.repetitions() {
                let sample = series.watch.run(&series.load, scale)?;
                eprintln!("round {round}: {:?} under {:?}: {sample:?}", series.load, series.watch);
                series.lost += sample.lost;
                series.samples.push((sample.lost == 0).then_some(sample));
            }
        }
    }
    Ok(all)
}

impl Load {
    /// How many calls it makes, all processes together.
    fn calls(self, scale: &Scale) -> u64 {
        match self {
            Load::SemopBurst => BURST,
            Load::Semop => scale.semops,
            Load::Bystander => scale.bystanders,
            Load::SemopTwice => 2 * scale.semops,
        }
    }

    /// Runs per round: a short one is uncertain by itself.
    fn repetitions(self) -> usize {
        if self == Load::SemopBurst { 5 } else { 1 }
    }

    /// Whether it makes so many traced calls that what a trace costs at its start and end vanishes in what a call costs.
    fn is_long(self) -> bool {
        matches!(self, Load::Semop | Load::SemopTwice)
    }

    fn processes(self) -> u64 {
        if self == Load::SemopTwice { 2 } else { 1 }
    }

    /// Program and arguments.
    fn command(self, scale: &Scale) -> Vec<String> {
        let count = (self.calls(scale) / self.processes()).to_string();
        let processes = self.processes().to_string();
        let arguments = match self {
            Load::Bystander => vec!["bystander", "--count", &count],
            _ => vec!["storm", "--processes", &processes, "--pin", "--count", &count],
        };
        let program = release("ipc-workload").display().to_string();
        std::iter::once(program).chain(arguments.into_iter().map(str::to_owned)).collect()
    }
}

fn release(name: &str) -> PathBuf {
    Profile::Release.folder().join(name)
}

/// The number behind `"name":` in a JSON text. Enough for what our own programs write.
fn number(json: &str, name: &str) -> Result<u64> {
    let rest = json.split_once(&format!("\"{name}\":")).map(|(_, rest)| rest.trim_start());
    let digits = rest.map(|rest| &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]);
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| format!("there is no number {name:?} in: {json}"))
}

/// The machine in one line, without its name.
fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let processors = std::thread::available_parallelism().map_err(|error| error.to_string())?;
    let kernel = output(command("uname").args(["-srm"]))?;
    Ok(format!("{processors} × {}, {}", model.unwrap_or("unknown processor"), kernel.trim()))
}
