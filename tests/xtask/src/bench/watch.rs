//! Running a load while something watches it.

use super::{Load, Sample, Scale, number, release};
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
    /// `perf record -a` of the tracepoints at entry and exit of semop and semtimedop.
    Perf,
}

/// The same ring size for both recorders, the largest that the design allows.
const RING: &str = "8MiB";
const PERF_RING: &str = "8M";
const PERF_EVENTS: &str = "syscalls:sys_enter_semop,syscalls:sys_exit_semop,\
                           syscalls:sys_enter_semtimedop,syscalls:sys_exit_semtimedop";

impl Watch {
    /// Runs the load once.
    pub fn run(self, load: &Load, scale: &Scale) -> Result<Sample> {
        match self {
            Watch::Nothing => sample(load, &output(&mut direct(load, scale))?),
            Watch::EmptyPair => under_empty_pair(load, scale),
            Watch::Recorder => under_recorder(load, scale),
            Watch::Perf => under_perf(load, scale),
        }
    }
}

fn direct(load: &Load, scale: &Scale) -> Command {
    let words = load.command(scale);
    let mut direct = command(&words[0]);
    direct.args(&words[1..]);
    direct
}

/// What the load itself measured. Its loops run side by side: `calls` counts all, `elapsed_ns` is the slowest.
fn sample(load: &Load, report: &str) -> Result<Sample> {
    let calls_of_one = number(report, "calls")? / load.processes();
    Ok(Sample { call_ns: number(report, "elapsed_ns")? as f64 / calls_of_one as f64, ..Sample::default() })
}

fn under_empty_pair(load: &Load, scale: &Scale) -> Result<Sample> {
    let mut pair = Command::new(release("ipc-recorder"));
    pair.args(["bench-empty-pair", "--duration", "300s"]).stderr(Stdio::piped()).stdin(Stdio::null());
    let mut pair = pair.spawn().map_err(|error| format!("cannot start ipc-recorder: {error}"))?;
    let stderr = pair.stderr.take().ok_or("ipc-recorder has no stderr")?;
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said).map_err(|error| error.to_string())?;
    let result = if said.trim() != "attached" {
        Err(format!("ipc-recorder bench-empty-pair: {}", said.trim()))
    } else {
        output(&mut direct(load, scale)).and_then(|report| sample(load, &report))
    };
    stop(&mut pair)?;
    result
}

fn stop(child: &mut Child) -> Result {
    // It fails only when the process is gone already, and then the wait returns.
    let _ = kill_process(pid(child)?, Signal::INT);
    child.wait().map(drop).map_err(|error| error.to_string())
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "no process id".to_owned())
}

fn under_recorder(load: &Load, scale: &Scale) -> Result<Sample> {
    let trace = place::target("bench").join("trace");
    place::remove(&trace)?;
    let mut recorder = Command::new(release("ipc-recorder"));
    recorder.args(["record", "-a", "--ring-size", RING, "-o"]).arg(&trace).arg("--").args(load.command(scale));
    recorder.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = recorder.spawn().map_err(|error| format!("cannot start ipc-recorder: {error}"))?;
    // Both outputs are short; nothing blocks before the end.
    waitid(WaitId::Pid(pid(&child)?), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .map_err(|error| error.to_string())?;
    let cpu_ns = own_cpu_ns(&child)?;
    let done = child.wait_with_output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("`{}` failed: {}\n{said}", line(&recorder), done.status));
    }
    let mut sample = sample(load, &String::from_utf8_lossy(&done.stdout))?;
    let manifest = fs::read_to_string(trace.join("trace.json")).map_err(|error| format!("trace.json: {error}"))?;
    sample.lost = number(&manifest, "lost_calls")? + number(&manifest, "lost_records")?;
    let recorded = number(&manifest, "calls")?;
    if load.is_long() {
        sample.bytes_per_call = Some(size(&trace)? as f64 / recorded as f64);
        sample.cpu_ns_per_call = Some(cpu_ns as f64 / recorded as f64);
    }
    Ok(sample)
}

/// The processor time of a process that has ended and is not yet reaped, all its threads, without its children.
fn own_cpu_ns(child: &Child) -> Result<u64> {
    let path = format!("/proc/{}/stat", child.id());
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // proc(5): utime and stime are the fields 14 and 15; the name, in parentheses, is the second.
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(14), ticks(15)) else { return Err(format!("{path} has too few fields")) };
    Ok((user + system) * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// perf finds its events in tracefs, which is mounted where nobody else sees it.
const WITH_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\"";

fn under_perf(load: &Load, scale: &Scale) -> Result<Sample> {
    let data = place::target("bench").join("perf.data");
    let mut perf = command("unshare");
    perf.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh", "perf", "record", "-a", "-q", "-m", PERF_RING]);
    perf.args(["-e", PERF_EVENTS, "-o"]).arg(&data).arg("--").args(load.command(scale));
    let mut sample = sample(load, &output(&mut perf)?)?;
    let statistics = output(command("perf").args(["report", "--stats", "-i"]).arg(&data))?;
    let (mut samples, mut lost) = (0, 0);
    for line in statistics.lines().filter(|line| line.contains(" events:")) {
        let count = line.split_once(':').and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok());
        let count = count.unwrap_or(0);
        match line.split_whitespace().next() {
            Some("SAMPLE") if samples == 0 => samples = count,
            Some("LOST" | "LOST_SAMPLES") => lost += count,
            _ => {}
        }
    }
    sample.lost = lost;
    // Two samples are one call.
    if load.is_long() && samples > 0 {
        let bytes = fs::metadata(&data).map_err(|error| format!("{}: {error}", data.display()))?.len();
        sample.bytes_per_call = Some(bytes as f64 / (samples / 2) as f64);
    }
    fs::remove_file(&data).map(|()| sample).map_err(|error| format!("{}: {error}", data.display()))
}

/// All files below a folder, bytes.
fn size(folder: &Path) -> Result<u64> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    entries.flatten().try_fold(0, |sum, entry| {
        let metadata = entry.metadata().map_err(|error| format!("{}: {error}", entry.path().display()))?;
        Ok(sum + if metadata.is_dir() { size(&entry.path())? } else { metadata.len() })
    })
}
