//! Running a load while something watches it.

use super::load::{Load, Run};
use super::{Record, Sample, Scale, number, peers, program};
use crate::command::{command, line, output};
use crate::{Result, place};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What watches the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Nothing,
    /// Two empty eBPF programs at entry and exit of every system call: the least any such tracer costs.
    EmptyPair,
    /// `ipc-recorder record -a`.
    Recorder,
    /// `ipc-recorder record -a --no-wakers`.
    RecorderWithoutWakers,
    /// `perf record -a` of the tracepoints at entry and exit of semop and semtimedop.
    Perf,
    /// The same and `sched_waking`: what somebody needs who wants to know wakers from perf.
    PerfWithWaking,
    /// bpftrace: a histogram of the durations of the two calls.
    BpftraceHistogram,
    /// bpftrace: a line at each exit of the two calls.
    BpftracePrint,
    /// `perf trace -a` of the two calls, into a file.
    PerfTrace,
    /// `strace -f -e trace=ipc`, into a file.
    Strace,
}

/// The largest ring that the design allows; the peers get the same.
pub const RING: &str = "8MiB";

impl Watch {
    /// Runs the load once.
    pub fn run(self, load: Load, scale: &Scale) -> Result<Sample> {
        let run = load.run(scale, self.share());
        match self {
            Watch::Nothing => Sample::new(run, &output(&mut direct(run))?),
            Watch::EmptyPair => under_empty_pair(run),
            Watch::Recorder => under_recorder(run, &[]),
            Watch::RecorderWithoutWakers => under_recorder(run, &["--no-wakers"]),
            Watch::Perf => peers::perf_record(run, false),
            Watch::PerfWithWaking => peers::perf_record(run, true),
            Watch::BpftraceHistogram => peers::bpftrace_histogram(run),
            Watch::BpftracePrint => peers::bpftrace_print(run),
            Watch::PerfTrace => peers::perf_trace(run),
            Watch::Strace => peers::strace(run),
        }
    }

    /// A watcher that takes tens of microseconds for a call gets one of this many.
    fn share(self) -> u64 {
        if matches!(self, Watch::BpftracePrint | Watch::PerfTrace | Watch::Strace) { 20 } else { 1 }
    }

    /// As the page calls it.
    pub fn title(self) -> &'static str {
        match self {
            Watch::Nothing => "nothing",
            Watch::EmptyPair => "an empty pair of eBPF programs",
            Watch::Recorder => "ipc-recorder",
            Watch::RecorderWithoutWakers => "ipc-recorder --no-wakers",
            Watch::Perf => "perf record of the two tracepoints",
            Watch::PerfWithWaking => "perf record of the two and sched_waking",
            Watch::BpftraceHistogram => "bpftrace, one histogram of durations",
            Watch::BpftracePrint => "bpftrace, a line per call",
            Watch::PerfTrace => "perf trace",
            Watch::Strace => "strace -f -e trace=ipc",
        }
    }
}

fn direct(run: Run) -> Command {
    let words = run.command();
    let mut direct = command(&words[0]);
    direct.args(&words[1..]);
    direct
}

fn under_empty_pair(run: Run) -> Result<Sample> {
    let mut pair = start_empty_pair()?;
    let result = output(&mut direct(run)).and_then(|report| Sample::new(run, &report));
    stop(&mut pair, Signal::TERM)?;
    result
}

/// Attaches the two empty programs, until the process is stopped.
pub fn start_empty_pair() -> Result<Child> {
    let mut pair = Command::new(program("ipc-recorder"));
    pair.args(["bench-empty-pair", "--duration", "300s"]).stderr(Stdio::piped()).stdin(Stdio::null());
    let mut pair = pair.spawn().map_err(|error| format!("cannot start ipc-recorder: {error}"))?;
    let stderr = pair.stderr.take().ok_or("ipc-recorder has no stderr")?;
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said).map_err(|error| error.to_string())?;
    if said.trim() == "attached" {
        return Ok(pair);
    }
    stop(&mut pair, Signal::TERM)?;
    Err(format!("ipc-recorder bench-empty-pair: {}", said.trim()))
}

/// Signals a process and waits for its end. SIGINT only if it has a handler of its own: what a script runs in the background
/// ignores it, and so do its children.
pub fn stop(child: &mut Child, signal: Signal) -> Result {
    // It fails only when the process is gone already, and then the wait returns.
    let _ = kill_process(pid(child)?, signal);
    child.wait().map(drop).map_err(|error| error.to_string())
}

/// The process id of a child.
pub fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "no process id".to_owned())
}

fn under_recorder(run: Run, options: &[&str]) -> Result<Sample> {
    let trace = place::target("bench").join("trace");
    place::remove(&trace)?;
    let mut recorder = command(&program("ipc-recorder").to_string_lossy());
    recorder.args(["record", "-a", "--ring-size", RING]).args(options);
    recorder.arg("-o").arg(&trace).arg("--").args(run.command());
    let (said, cpu_ns) = watched(&mut recorder)?;
    let (seen, lost) = seen_and_lost(&trace)?;
    Sample::watched(run, &said, &Record { cpu_ns, bytes: size(&trace)?, seen, lost })
}

/// How many calls a trace holds, and how many it says were lost.
pub fn seen_and_lost(trace: &Path) -> Result<(u64, u64)> {
    let manifest = fs::read_to_string(trace.join("trace.json")).map_err(|error| format!("trace.json: {error}"))?;
    Ok((number(&manifest, "calls")?, number(&manifest, "lost_calls")? + number(&manifest, "lost_records")?))
}

/// Runs a watcher that runs the load, to its end: what both wrote to stdout, and the watcher's own processor time.
pub fn watched(watcher: &mut Command) -> Result<(String, u64)> {
    watcher.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = watcher.spawn().map_err(|error| format!("cannot start `{}`: {error}", line(watcher)))?;
    wait_unreaped(&child)?;
    let cpu_ns = own_cpu_ns(child.id())?;
    let done = child.wait_with_output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("`{}` failed: {}\n{said}", line(watcher), done.status));
    }
    Ok((String::from_utf8_lossy(&done.stdout).into_owned(), cpu_ns))
}

/// Waits until a process has ended and leaves it to be reaped. Its outputs are short: nothing blocks before the end.
pub fn wait_unreaped(child: &Child) -> Result {
    waitid(WaitId::Pid(pid(child)?), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The processor time of a process that is not yet reaped, all its threads, without its children.
pub fn own_cpu_ns(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // proc(5): utime and stime are the fields 14 and 15; the name, in parentheses, is the second.
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(14), ticks(15)) else { return Err(format!("{path} has too few fields")) };
    Ok((user + system) * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// All files below a folder, bytes.
fn size(folder: &Path) -> Result<u64> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    entries.flatten().try_fold(0, |sum, entry| {
        let metadata = entry.metadata().map_err(|error| format!("{}: {error}", entry.path().display()))?;
        Ok(sum + if metadata.is_dir() { size(&entry.path())? } else { metadata.len() })
    })
}
