//! The command line.

use crate::libraries::{self, Choice};
use crate::plan::Way;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use ipc_schema::catalogue::{CATALOGUE, Family, IPC_OPERATIONS, OPERATIONS};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Records System V IPC, POSIX message queue and signal-mask calls with eBPF, into Parquet that ipc-analyzer, DuckDB,
/// pandas, Polars and Spark open.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 done; 1 error; 2 usage; 4 the kernel or the privilege is lacking;\n\
    `record -- COMMAND` returns COMMAND's."
)]
pub struct Cli {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Subcommand)]
pub enum Action {
    /// Record calls into a trace directory.
    Record(Box<Record>),
    /// Write what is there now: the calls that threads are inside of, the objects, queued messages and limits. Needs
    /// no eBPF.
    Snapshot(SnapshotOptions),
    /// The process that takes snapshots for a recording.
    #[command(hide = true, name = crate::snapshot::SUBCOMMAND)]
    SnapshotHelper,
    /// Tell what this kernel and this user can record, and what would help.
    Doctor,
    /// List every call that can be recorded, with its numbers.
    Events,
    /// Write the man pages and shell completions of this program into a folder.
    #[command(hide = true)]
    Pages { folder: PathBuf },
    /// Attach an empty pair of programs and wait: what the benchmark measures against.
    #[command(hide = true)]
    BenchEmptyPair {
        #[arg(long, value_parser = duration)]
        duration: Duration,
    },
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ipc-recorder record -- ./server --threads 8      record a command and its descendants\n  \
    ipc-recorder record --duration 60s               record the whole system for a minute\n  \
    ipc-recorder record --pid 4711 --follow          record a running process and its future children\n  \
    ipc-recorder record --syscall %sem,msgsnd        only semaphores and msgsnd\n\n\
    Ctrl-C, SIGTERM, --duration and the command's end stop the recording; everything is then written.\n\
    Then: ipc-analyzer summary DIR")]
pub struct Record {
    /// Where to write the trace [default: ipctrace-HOST-TIME in the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Stop after this long: 10s, 5m
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,

    /// Only this process; may be given several times
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',')]
    pub pids: Vec<u32>,

    /// With --pid: its future descendants too
    #[arg(long, requires = "pids")]
    pub follow: bool,

    /// Only these calls: names, or %sem %shm %msg %mq %sig [default: all, but without a command not %sig]
    #[arg(long = "syscall", value_name = "NAME,…", value_delimiter = ',')]
    pub syscalls: Vec<String>,

    /// Only threads of this name; may be given several times
    #[arg(long = "comm", value_name = "NAME", value_delimiter = ',')]
    pub comms: Vec<String>,

    /// Only threads in this cgroup v2 or below it: a path as in /proc/PID/cgroup, or absolute
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<String>,

    /// Only calls that take at least this long: 5ms
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub min_duration: Option<Duration>,

    /// Do not record who ends waits: spares every wake-up on the machine a look
    #[arg(long)]
    pub no_wakers: bool,

    /// Keep the command lines of processes, too: they may hold secrets
    #[arg(long)]
    pub cmdline: bool,

    /// Keep the user stack of every call. Stacks are unwound by frame pointers: of a program or library built without
    /// them (gcc -O2; -fno-omit-frame-pointer and -C force-frame-pointers=yes keep them) only the innermost frames show,
    /// and such a library hides the function that called it
    #[arg(long)]
    pub stacks: bool,

    /// Record sigemptyset, sigfillset, sigaddset and sigdelset, too, which make no system call: `sigset` in every C
    /// library that is found, `sigset=PATH` in this library or static program. Each such call of any process traps
    #[arg(long = "libc", value_name = "sigset[=PATH]", value_parser = library)]
    pub libraries: Vec<Choice>,

    /// Take a snapshot of objects and limits this often; also at start, at end, and when an allocation fails
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "10s")]
    pub snapshot_every: Duration,

    /// Replace this file every five seconds with figures of the recorder itself, for the textfile collector of
    /// Prometheus' node_exporter: calls, losses by source, bytes, what waits, what is durable
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,

    /// The whole system, also with a command
    #[arg(short, long, conflicts_with = "pids")]
    pub all: bool,

    /// How to attach to the kernel [default: the lightest way that works]
    #[arg(long, value_name = "WAY", value_parser = way)]
    pub attach: Option<Attach>,

    /// How the ends of calls are seen, with --attach kprobe. kretprobe is for comparison only: it misses the ends of calls
    /// that sleep at the same time, which then show as open or killed [default: sys-exit]
    #[arg(long, value_name = "WAY", value_enum)]
    pub exit: Option<Exit>,

    /// Memory of each CPU's ring, a power of two: 8MiB
    #[arg(long, default_value = "8MiB", value_parser = ring_size, value_name = "SIZE")]
    pub ring_size: u32,

    /// Record this command and its descendants
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Args)]
#[command(after_help = "A hang that is already there: ipc-recorder snapshot, then ipc-analyzer summary DIR")]
pub struct SnapshotOptions {
    /// Where to write the trace [default: ipctrace-HOST-TIME in the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Keep the command lines of processes, too: they may hold secrets
    #[arg(long)]
    pub cmdline: bool,
}

/// A way to attach, or the choice of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The lightest that works.
    Auto,
    /// This one.
    Only(Way),
}

/// How the ends of calls are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Exit {
    /// The tracepoint sys_exit
    SysExit,
    /// Kretprobes, for comparison
    Kretprobe,
}

/// Writes man pages and shell completions.
///
/// # Errors
/// The folder cannot be written.
pub fn pages(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), folder)?;
    }
    Ok(())
}

fn way(text: &str) -> Result<Attach, String> {
    match text {
        "auto" => Ok(Attach::Auto),
        "btf-tracepoint" => Ok(Attach::Only(Way::BtfTracepoint)),
        "raw-tracepoint" => Ok(Attach::Only(Way::RawTracepoint)),
        "kprobe" => Ok(Attach::Only(Way::Kprobe)),
        _ => Err("the ways are auto, btf-tracepoint, raw-tracepoint and kprobe".into()),
    }
}

fn library(text: &str) -> Result<Choice, String> {
    match text.split_once('=') {
        None if text == "sigset" => Ok(Choice::Found),
        Some(("sigset", path)) if libraries::is_64_bit(path.as_ref()) => Ok(Choice::File(path.into())),
        Some(("sigset", path)) => Err(format!("{path} is no 64-bit ELF file that can be read")),
        _ => Err("write it as sigset, or sigset=PATH".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 10s, 500ms or 5m"))
}

fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = parse_size::parse_size(text).map_err(|e| format!("{e}; write it as 8MiB"))?;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("a ring is a power of two from 4KiB to 1GiB".into()),
    }
}

/// The operations that `--syscall` selects.
///
/// # Errors
/// A name that no operation, entry point or family has; the message suggests the nearest.
pub fn operations(names: &[String], with_signals: bool) -> Result<Vec<&'static str>, String> {
    let mut wanted: Vec<&'static str> = Vec::new();
    for name in names {
        wanted.extend(selected(name.trim())?);
    }
    if names.is_empty() {
        wanted = OPERATIONS.iter().copied().filter(|o| with_signals || family(o) != Some(Family::Sig)).collect();
    }
    // glibc's semop() arrives as semtimedop: who asks for the one means both.
    if wanted.contains(&"semop") {
        wanted.push("semtimedop");
    }
    Ok(OPERATIONS.iter().copied().filter(|o| wanted.contains(o)).collect())
}

fn family(operation: &str) -> Option<Family> {
    CATALOGUE.iter().find(|e| e.operation == operation).map(|e| e.family)
}

fn selected(name: &str) -> Result<Vec<&'static str>, String> {
    if let Some(wanted) = name.strip_prefix('%') {
        let (_, wanted) = Family::NAMES
            .into_iter()
            .find(|(n, _)| *n == wanted)
            .ok_or_else(|| format!("unknown family {name:?}; the families are %sem %shm %msg %mq %sig"))?;
        return Ok(OPERATIONS.iter().copied().filter(|o| family(o) == Some(wanted)).collect());
    }
    if name == "ipc" {
        return Ok(IPC_OPERATIONS.iter().map(|o| o.twin().operation).collect());
    }
    let found = CATALOGUE.iter().find(|e| e.operation == name || e.name == name);
    if found.is_some_and(|e| e.family == Family::Libc) {
        return Err(format!("{name} makes no system call: --libc sigset records it"));
    }
    found.map(|e| vec![e.operation]).ok_or_else(|| {
        let nearest = OPERATIONS.iter().max_by(|a, b| similarity(a, name).total_cmp(&similarity(b, name)));
        let nearest = nearest.copied().unwrap_or_default();
        format!("unknown system call {name:?}; did you mean {nearest}? `ipc-recorder events` lists them all")
    })
}

fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn select(names: &[&str]) -> Result<Vec<&'static str>, String> {
        operations(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), true)
    }

    #[test]
    fn names_families_and_entry_points_select() {
        assert_eq!(select(&["semget", "rt_sigpending"]).unwrap(), ["semget", "sigpending"]);
        assert_eq!(select(&["%shm"]).unwrap(), ["shmget", "shmat", "shmdt", "shmctl"]);
        assert_eq!(select(&["semop"]).unwrap(), ["semop", "semtimedop"]);
        assert_eq!(select(&[]).unwrap(), OPERATIONS);
        assert_eq!(operations(&[], false).unwrap().len(), OPERATIONS.len() - 6);
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        assert!(select(&["semopp"]).unwrap_err().contains("semop"));
        assert!(select(&["%sema"]).unwrap_err().contains("%sem %shm"));
        assert!(select(&["sigaddset"]).unwrap_err().contains("--libc"));
    }

    #[test]
    fn sizes_of_rings_are_powers_of_two() {
        assert_eq!(ring_size("64KiB"), Ok(65536));
        assert!(ring_size("3MiB").is_err() && ring_size("8TiB").is_err() && ring_size("x").is_err());
    }
}
