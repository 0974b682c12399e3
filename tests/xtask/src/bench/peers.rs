//! Other tracers, and how many of the calls they saw.

use super::load::Run;
use super::watch::watched;
use super::{Record, Sample};
use crate::command::{command, output};
use crate::{Result, place};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The ring of each processor, as large as ours.
const RING: &str = "8M";
/// The same in pages.
const RING_PAGES: &str = "2048";

const EVENTS: &str = "syscalls:sys_enter_semop,syscalls:sys_exit_semop,\
                      syscalls:sys_enter_semtimedop,syscalls:sys_exit_semtimedop";
const EVENTS_WITH_WAKING: &str = "syscalls:sys_enter_semop,syscalls:sys_exit_semop,\
                                  syscalls:sys_enter_semtimedop,syscalls:sys_exit_semtimedop,sched:sched_waking";

const PRINT: &str = r#"
tracepoint:syscalls:sys_exit_semop, tracepoint:syscalls:sys_exit_semtimedop {
    printf("%s %d %d\n", comm, tid, args->ret);
}"#;

const HISTOGRAM: &str = "
tracepoint:syscalls:sys_enter_semop, tracepoint:syscalls:sys_enter_semtimedop { @began[tid] = nsecs; }
tracepoint:syscalls:sys_exit_semop, tracepoint:syscalls:sys_exit_semtimedop /@began[tid]/ {
    @duration_ns = hist(nsecs - @began[tid]);
    delete(@began[tid]);
}
END { clear(@began); }";

/// perf and bpftrace find their events in tracefs. Where it is not mounted, it is where nobody else sees it.
const WITH_TRACEFS: &str =
    "[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\"";

/// `perf record -a`, also of `sched_waking` or not.
pub fn perf_record(run: Run, with_waking: bool) -> Result<Sample> {
    let data = place::target("bench").join("perf.data");
    let events = if with_waking { EVENTS_WITH_WAKING } else { EVENTS };
    let mut perf = with_tracefs("perf");
    perf.args(["record", "-a", "-q", "-m", RING, "-e", events, "-o"]).arg(&data).arg("--").args(run.command());
    let (said, cpu_ns) = watched(&mut perf)?;
    let statistics = output(command("perf").args(["report", "--stats", "-i"]).arg(&data))?;
    let (seen, lost) = (exits(&statistics), lost_events(&statistics));
    Sample::watched(run, &said, &Record { cpu_ns, bytes: take_size(&data)?, seen, lost })
}

/// The samples of the tracepoints at the exits of calls. perf counts by event after it counted all together.
fn exits(statistics: &str) -> u64 {
    let by_event = statistics.split("syscalls:sys_exit_").skip(1);
    by_event.filter_map(|event| number_after(event, "SAMPLE events:")).sum()
}

fn lost_events(statistics: &str) -> u64 {
    let counts = ["LOST events:", "LOST_SAMPLES events:"].map(|name| number_after(statistics, name));
    counts.into_iter().flatten().sum()
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    text.split_once(name)?.1.split_whitespace().next()?.parse().ok()
}

/// `perf trace -a` of semop and semtimedop into a file.
pub fn perf_trace(run: Run) -> Result<Sample> {
    let text = place::target("bench").join("perf-trace.txt");
    let mut perf = with_tracefs("perf");
    perf.args(["trace", "-a", "-m", RING, "-e", "semop,semtimedop", "-o"]).arg(&text).arg("--").args(run.command());
    of_text(run, &mut perf, text, is_finished_call)
}

/// `strace -f` of all System V calls into a file. It can only watch what it starts.
pub fn strace(run: Run) -> Result<Sample> {
    let text = place::target("bench").join("strace.txt");
    let mut strace = command("strace");
    strace.args(["-f", "-e", "trace=ipc", "-o"]).arg(&text).arg("--").args(run.command());
    of_text(run, &mut strace, text, is_finished_call)
}

/// bpftrace printing a line for each call.
pub fn bpftrace_print(run: Run) -> Result<Sample> {
    let text = place::target("bench").join("bpftrace.txt");
    of_text(run, &mut bpftrace(PRINT, &text, run), text, |line| u64::from(line.starts_with("ipc-workload ")))
}

/// bpftrace making one histogram of the durations: of the calls themselves it keeps nothing.
pub fn bpftrace_histogram(run: Run) -> Result<Sample> {
    let text = place::target("bench").join("bpftrace.txt");
    let sample = of_text(run, &mut bpftrace(HISTOGRAM, &text, run), text, in_bucket)?;
    Ok(Sample { bytes_per_call: None, ..sample })
}

/// env, because bpftrace refuses a program that PATH has twice.
fn bpftrace(script: &str, text: &Path, run: Run) -> Command {
    let load = format!("/usr/bin/env {}", run.command().join(" "));
    let mut bpftrace = with_tracefs("bpftrace");
    bpftrace.env("BPFTRACE_PERF_RB_PAGES", RING_PAGES).arg("-o").arg(text).args(["-e", script, "-c", &load]);
    bpftrace
}

fn with_tracefs(program: &str) -> Command {
    let mut inside = command("unshare");
    inside.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh", program]);
    inside
}

/// Runs a tracer that writes text; `count` says how many calls a line tells of. What it does not tell of, it lost.
fn of_text(run: Run, tracer: &mut Command, text: PathBuf, count: fn(&str) -> u64) -> Result<Sample> {
    let (said, cpu_ns) = watched(tracer)?;
    let written = fs::read(&text).map_err(|error| format!("{}: {error}", text.display()))?;
    let seen = String::from_utf8_lossy(&written).lines().map(count).sum();
    fs::remove_file(&text).map_err(|error| format!("{}: {error}", text.display()))?;
    Sample::watched(run, &said, &Record { cpu_ns, bytes: written.len() as u64, seen, lost: 0 })
}

/// A call that slept has two lines; only the second has a result.
fn is_finished_call(line: &str) -> u64 {
    u64::from(line.contains("semtimedop") && line.contains(" = "))
}

/// The calls in a bucket: `[256, 512)   28913 |@@@@   |`.
fn in_bucket(line: &str) -> u64 {
    let rest = line.starts_with('[').then(|| line.split_once([')', ']'])).flatten();
    rest.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The length of a file, which is removed.
fn take_size(path: &Path) -> Result<u64> {
    let size = fs::metadata(path).and_then(|metadata| fs::remove_file(path).map(|()| metadata.len()));
    size.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_and_other_lines_do_not() {
        assert_eq!(in_bucket("[256, 512)         28913 |@@@@@@@@@@@@@@|"), 28_913);
        assert_eq!(in_bucket("[1]                    7 |@             |"), 7);
        assert_eq!(in_bucket("@duration_ns: "), 0);
        assert_eq!(in_bucket("Attaching 5 probes..."), 0);
    }

    #[test]
    fn a_call_that_slept_counts_once() {
        let lines = [
            "7 semtimedop(1, [{sem_num=0, sem_op=-1, sem_flg=0}], 1, NULL <unfinished ...>",
            "7 <... semtimedop resumed>)       = 0",
            "8 semtimedop(1, [{sem_num=0, sem_op=1, sem_flg=0}], 1, NULL) = 0",
            "7 semctl(1, 0, IPC_RMID, NULL)    = 0",
        ];
        assert_eq!(lines.map(is_finished_call).iter().sum::<u64>(), 2);
    }

    #[test]
    fn perf_counts_the_exits_of_both_calls_and_no_wakings() {
        let statistics = "Aggregated stats:\n   SAMPLE events:  40026  (98.9%)\n   LOST events:  3  ( 0.0%)\n\
                          syscalls:sys_enter_semtimedop stats:\n   SAMPLE events:  20000\n\
                          syscalls:sys_exit_semtimedop stats:\n   SAMPLE events:  19997\n\
                          syscalls:sys_exit_semop stats:\n   SAMPLE events:  2\n\
                          sched:sched_waking stats:\n   SAMPLE events:  26\n";
        assert_eq!(exits(statistics), 19_999);
        assert_eq!(lost_events(statistics), 3);
    }
}
