//! `cargo xtask bench`: what recording costs, beside an empty pair of programs and other tracers.
//!
//! The runs of a round follow each other, so that a slow minute hits all; a figure is the median over the rounds of the
//! difference to the unwatched run of the same round. A run in which anything was lost is not counted: every call that the load made must be in what
//! the watcher kept.
//!
//! `IPC_BIN_DIR` names a folder with programs that are built already; without it a release is built.

mod analyzer;
mod host;
mod load;
mod page;
mod peers;
mod watch;

use crate::build::{self, Profile};
use crate::command::{command, output};
use crate::setup::{self, Consent, Need};
use crate::{Result, place};
use load::{Load, Run};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use watch::Watch;

/// One run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Time of one call as the load sees it, nanoseconds.
    pub call_ns: f64,
    /// Calls or samples that the watcher lost.
    pub lost: u64,
    /// What the watcher wrote per call.
    pub bytes_per_call: Option<f64>,
    /// The watcher's own processor time per call, its start and end included, nanoseconds.
    pub cpu_ns_per_call: Option<f64>,
}

/// What a watcher that keeps calls made of a run.
pub struct Record {
    /// Its own processor time.
    pub cpu_ns: u64,
    /// What it wrote.
    pub bytes: u64,
    /// The calls that it kept, those of bystanders among them.
    pub seen: u64,
    /// What it says itself that it lost.
    pub lost: u64,
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
    /// Calls of two processes that wait for each other.
    pub hand_offs: u64,
    /// Calls of a getppid loop.
    pub bystanders: u64,
    /// Operations on a pipe.
    pub pipes: u64,
}

const FULL: Scale =
    Scale { rounds: 7, semops: 3_000_000, hand_offs: 1_000_000, bystanders: 10_000_000, pipes: 500_000 };
const QUICK: Scale = Scale { rounds: 3, semops: 500_000, hand_offs: 400_000, bystanders: 2_000_000, pipes: 200_000 };

/// Which loads run under which watches.
const PLAN: &[(Load, &[Watch])] = &[
    (Load::SemopBurst, &[Watch::Nothing, Watch::EmptyPair, Watch::Recorder, Watch::RecorderWithoutWakers, Watch::Perf]),
    (
        Load::Semop,
        &[
            Watch::Nothing,
            Watch::EmptyPair,
            Watch::Recorder,
            Watch::RecorderWithoutWakers,
            Watch::Perf,
            Watch::BpftraceHistogram,
            Watch::BpftracePrint,
            Watch::PerfTrace,
            Watch::Strace,
        ],
    ),
    (
        Load::PingPong,
        &[
            Watch::Nothing,
            Watch::EmptyPair,
            Watch::Recorder,
            Watch::RecorderWithoutWakers,
            Watch::Perf,
            Watch::PerfWithWaking,
            Watch::BpftraceHistogram,
            Watch::BpftracePrint,
            Watch::PerfTrace,
            Watch::Strace,
        ],
    ),
    (Load::SemopTwice, &[Watch::Nothing, Watch::Recorder, Watch::RecorderWithoutWakers]),
    (
        Load::Bystander,
        &[
            Watch::Nothing,
            Watch::EmptyPair,
            Watch::Recorder,
            Watch::RecorderWithoutWakers,
            Watch::Perf,
            Watch::BpftraceHistogram,
            Watch::PerfTrace,
            Watch::Strace,
        ],
    ),
    (
        Load::Pipe,
        &[
            Watch::Nothing,
            Watch::EmptyPair,
            Watch::Recorder,
            Watch::RecorderWithoutWakers,
            Watch::Perf,
            Watch::PerfWithWaking,
        ],
    ),
];

/// The command.
pub fn run(options: &[String]) -> Result {
    if options.iter().any(|option| option == "analyzer") {
        return analyzer::run(options);
    }
    if options.iter().any(|option| option == "host") {
        return host::run(options);
    }
    prepare(options, Need::Bench)?;
    let is_quick = options.iter().any(|option| option == "--quick");
    let scale = if is_quick { QUICK } else { FULL };
    let series = measure(PLAN, &scale)?;
    let page = page::write(&scale, &series)?;
    print!("{page}");
    if is_quick {
        return Ok(());
    }
    let path = place::root().join("docs/performance.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

/// Programs, rights and an empty folder for a measurement that also needs `need`.
fn prepare(options: &[String], need: Need) -> Result {
    let needs: &[Need] = if built().is_some() { &[need] } else { &[Need::Build, need] };
    setup::ensure(needs, Consent::from_options(options)?)?;
    if !rustix::process::geteuid().is_root() {
        return Err("recording for a measurement needs root; run it with sudo".to_owned());
    }
    if built().is_none() {
        build::build(Profile::Release, &["ipc-recorder", "ipc-workload"])?;
    }
    place::empty(&place::target("bench"))?;
    load::prepare()
}

fn measure(plan: &[(Load, &[Watch])], scale: &Scale) -> Result<Vec<Series>> {
    let new = |load, watch| Series { load, watch, samples: Vec::new(), lost: 0 };
    let mut all: Vec<Series> =
        plan.iter().flat_map(|(load, watches)| watches.iter().map(|watch| new(*load, *watch))).collect();
    for round in 1..=scale.rounds {
        for series in &mut all {
            for _ in 0..series.load.repetitions() {
                let sample = series.watch.run(series.load, scale)?;
                eprintln!("round {round}: {:?} under {:?}: {sample:?}", series.load, series.watch);
                series.lost += sample.lost;
                series.samples.push((sample.lost == 0).then_some(sample));
            }
        }
    }
    Ok(all)
}

impl Sample {
    /// What the load itself measured.
    fn new(run: Run, said: &str) -> Result<Sample> {
        Ok(Sample { call_ns: run.call_ns(number(said, "elapsed_ns")?), ..Sample::default() })
    }

    /// The same and what its watcher made of it.
    fn watched(run: Run, said: &str, record: &Record) -> Result<Sample> {
        let per_call = |value: u64| (run.is_long() && record.seen > 0).then_some(value as f64 / record.seen as f64);
        Ok(Sample {
            lost: record.lost.max(run.traced_calls().saturating_sub(record.seen)),
            bytes_per_call: per_call(record.bytes),
            cpu_ns_per_call: per_call(record.cpu_ns),
            ..Sample::new(run, said)?
        })
    }
}

/// The folder with programs that somebody built.
fn built() -> Option<OsString> {
    std::env::var_os("IPC_BIN_DIR")
}

fn program(name: &str) -> PathBuf {
    built().map_or_else(|| Profile::Release.folder(), PathBuf::from).join(name)
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
