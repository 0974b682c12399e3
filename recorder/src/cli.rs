//! The command line.

use crate::bounds::KeepFree;
use crate::governor::Share;
use crate::libraries::{self, Choice};
use crate::plan::Way;
use crate::trigger::Trigger;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ipc_schema::catalogue::{CATALOGUE, Family, IPC_OPERATIONS, OPERATIONS};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Records System V IPC, POSIX message queue and signal-mask calls with eBPF, into Parquet that ipc-analyzer, DuckDB,
/// pandas, Polars and Spark open.
#[derive(Parser)]
#[command(
    name = "ipc-recorder",
    version,
    after_help = "Options that are not typed are taken from the environment (IPC_RECORDER_MAX_SIZE=2GiB), then from a file:\n\
    ~/.config/ipctrace/ipc-recorder.toml, else /etc/ipctrace/ipc-recorder.toml.\n\n\
    Exit status: 0 done; 1 error; 2 usage; 4 the kernel or the privilege is lacking;\n\
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
    /// Keep the last seconds in memory; write a trace of them on SIGUSR1, Ctrl-C, or when something happens.
    Flight(Box<Flight>),
    /// Write what is there now: the calls that threads are inside of, the objects, queued messages and limits. Needs
    /// no eBPF.
    Snapshot(SnapshotOptions),
    /// Put a trace into one file that ipc-analyzer opens, with pseudonyms for names if you like.
    Pack(Pack),
    /// The process that takes snapshots for a recording.
    #[command(hide = true, name = crate::snapshot::SUBCOMMAND)]
    SnapshotHelper,
    /// Tell what this kernel and this user can record, and what would help.
    #[command(after_help = "Examples:\n  \
        ipc-recorder doctor              as this user\n  \
        sudo ipc-recorder doctor         as root: what is lacking then is the kernel's")]
    Doctor,
    /// List every call that can be recorded, with its numbers.
    #[command(after_help = "Examples:\n  \
        ipc-recorder events              every name that record --syscall takes\n  \
        ipc-recorder events | grep mq_   those of POSIX message queues")]
    Events,
    /// Print what makes a shell complete the words of this command line.
    #[command(after_help = "Examples:\n  \
        source <(ipc-recorder completions bash)              for this shell\n  \
        ipc-recorder completions fish > ~/.config/fish/completions/ipc-recorder.fish")]
    Completions {
        /// Whose
        shell: Shell,
    },
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

    /// Memory of each CPU's ring, a power of two [default: 8MiB, less if all rings took more than half of --memory]
    #[arg(long, value_parser = ring_size, value_name = "SIZE")]
    pub ring_size: Option<u32>,

    #[command(flatten)]
    pub limits: Limits,

    /// Record this command and its descendants
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ipc-recorder flight --keep 60s -o traces                      until Ctrl-C, which writes the last minute\n  \
    ipc-recorder flight --when 'wait>5s' --when error=ENOSPC      writes when a call waited, or found no space\n  \
    pkill -USR1 -x ipc-recorder                                   writes now, and goes on\n\n\
    Each trace is a folder of -o DIR [default: the current directory]; SIGTERM ends without one.\n\
    Then: ipc-analyzer summary DIR/ipctrace-…")]
pub struct Flight {
    /// How far back a trace goes, as far as --memory allows
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "60s")]
    pub keep: Duration,

    /// Write a trace when a call ends that waited for longer: 'wait>5s'; when one has not ended for longer: 'open>30s'; when
    /// one fails: error=ENOSPC. May be given several times; after a trace the next one has to wait for as long as --keep
    #[arg(long, value_parser = Trigger::parse, value_name = "CONDITION", value_delimiter = ',')]
    pub when: Vec<Trigger>,

    /// How many traces are written at most
    #[arg(long, default_value = "10", value_name = "NUMBER")]
    pub traces: usize,

    #[command(flatten)]
    pub record: Record,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ipc-recorder snapshot                    a hang that is already there: who waits inside which call, and on what\n  \
    ipc-recorder snapshot --cmdline -o now   with the command lines of processes\n\n\
    Then: ipc-analyzer summary DIR")]
pub struct SnapshotOptions {
    /// Where to write the trace [default: ipctrace-HOST-TIME in the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Keep the command lines of processes, too: they may hold secrets
    #[arg(long)]
    pub cmdline: bool,
}

/// What of the machine a recording may take.
#[derive(Args)]
pub struct Limits {
    /// How much of the processors the recorder may take: 10% of one, 200% of two. Calls beyond are shed, whole, and counted
    /// as lost; what the probes cost the calls themselves is not in it
    #[arg(long, value_parser = share, value_name = "PERCENT")]
    pub max_cpu: Option<Share>,

    /// How much memory the recorder may take, rings and all; a flight recorder keeps what fits into a quarter
    #[arg(long, default_value = "256MiB", value_parser = memory, value_name = "SIZE")]
    pub memory: u64,

    /// How large the trace may become; then its oldest parts are deleted, and counted as lost: 10GiB
    #[arg(long, default_value = "10GiB", value_parser = size, value_name = "SIZE")]
    pub max_size: u64,

    /// How much of the disk stays free: 5GiB, 10%. What does not fit waits in memory, then is counted as lost, and recording
    /// resumes when there is room [default: 10%, at most 4GiB]
    #[arg(long, value_parser = keep_free, value_name = "SIZE|PERCENT")]
    pub keep_free: Option<KeepFree>,

    /// Bytes of a segment of the log
    #[arg(long, value_parser = size, hide = true)]
    pub segment_size: Option<u64>,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ipc-recorder pack trace                                  into trace.tar\n  \
    ipc-recorder pack trace --redact -o /tmp/for-support.tar  without names\n\n\
    Which columns --redact changes stands in docs/format.md. Then: ipc-analyzer summary FILE")]
pub struct Pack {
    /// The directory of a trace
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Where to write it [default: DIR.tar; with --redact ipctrace-ID-redacted.tar beside DIR]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Pseudonyms for names of threads, programs, queues, hosts, containers and cgroups, for command lines and System V
    /// keys: the same for the same name, and nothing leads back. Times, ids, sizes and user ids stay
    #[arg(long)]
    pub redact: bool,

    /// The same pseudonyms in several traces: those that go with this secret of at least 16 bytes [default: a new one
    /// for each trace, which is not kept]
    #[arg(long, value_name = "FILE", requires = "redact")]
    pub redact_key: Option<PathBuf>,
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

fn size(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|e| format!("{e}; write it as 10GiB"))
}

fn share(text: &str) -> Result<Share, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok()).filter(|percent| *percent > 0.0);
    percent.map(|percent: f64| Share(percent / 100.0)).ok_or_else(|| "write it as 10%".to_owned())
}

fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 32 << 20;
    size(text)?.checked_sub(LEAST).map(|more| LEAST + more).ok_or_else(|| "it takes at least 32MiB".to_owned())
}

fn keep_free(text: &str) -> Result<KeepFree, String> {
    match text.strip_suffix('%').map(str::parse) {
        None => size(text).map(KeepFree::Bytes),
        Some(Ok(percent @ 0..=100)) => Ok(KeepFree::Percent(percent)),
        Some(_) => Err("write it as 10%, or as 5GiB".into()),
    }
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
        assert_eq!((keep_free("5%"), keep_free("1MiB")), (Ok(KeepFree::Percent(5)), Ok(KeepFree::Bytes(1 << 20))));
        assert_eq!((share("150%"), share("0%").is_err()), (Ok(Share(1.5)), true));
        assert!(keep_free("101%").is_err() && keep_free("x").is_err());
        assert!(ring_size("3MiB").is_err() && ring_size("8TiB").is_err() && ring_size("x").is_err());
    }
}
