//! `ipc-workload SCENARIO`: IPC calls of exactly known counts.
//!
//! The last line on stdout is one JSON object: `scenario`, `performed` (calls by operation), `errors` (failed calls by
//! operation and errno), `pids`, and what the scenario adds. The counts hold the calls of the scenario alone: the C
//! library makes signal calls of its own when a program starts, forks or creates a thread, and those are in no count and
//! no log. With `--log DIR` every thread writes `DIR/PID-TID.jsonl`, one line per call, with clock readings around it.
//!
//! Nothing here can hang: every process carries an alarm (`--timeout`) and dies with its parent. Objects are removed
//! even when the program is killed: a guard process that makes no call as long as all goes well sees to it.

mod board;
mod call;
mod clock;
mod context;
mod families;
mod guard;
mod log;
mod process;
mod scenarios;
mod totals;

use clap::{Args, Parser, Subcommand};
use context::Context;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What went wrong, in one line.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }

    /// The last error of the C library, with what was tried.
    pub(crate) fn last(what: &str) -> Failure {
        Failure(format!("{what}: {}", std::io::Error::last_os_error()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

#[derive(Parser)]
#[command(name = "ipc-workload", version, about = "IPC calls of exactly known counts")]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

/// Options of every scenario.
#[derive(Args, Clone)]
struct Common {
    /// Write each thread's calls to DIR/PID-TID.jsonl
    #[arg(long, value_name = "DIR", global = true)]
    log: Option<PathBuf>,
    /// Kill every process of the program after this time
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = parse_time, global = true)]
    timeout: Duration,
    /// Create DIR/start.waiting and make no call before DIR/start.go exists
    #[arg(long, value_name = "DIR", global = true)]
    gate: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Scenario {
    /// Every system call and every limit, one case each, with what a trace must tell of it (with --log; as root)
    Battery {
        /// By which calls
        #[arg(long, value_enum, default_value_t = scenarios::battery::Abi::X86_64)]
        abi: scenarios::battery::Abi,
        /// Only the cases whose name begins so
        #[arg(long, value_name = "PREFIX", default_value = "")]
        only: String,
    },
    /// Two processes hand a token over two semaphores, COUNT times there and back
    PingPong {
        /// Rounds; each process makes two semaphore calls in each
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// The kernel entry point of the calls
        #[arg(long, value_enum, default_value_t = call::SemWay::Libc)]
        entry: call::SemWay,
    },
    /// Processes that add to and take from their own semaphore as fast as they can
    Storm {
        /// How many processes
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
        processes: u16,
        /// Calls of each process: one number for each burst. With --gate, burst K (from 1) waits for DIR/burst-K.go
        /// and each process ends it with DIR/burst-K-PROCESS.done
        #[arg(long, default_value = "100000", value_delimiter = ',', value_name = "COUNT,…")]
        count: Vec<u64>,
        /// Instead of COUNT: as many calls as fit into this time
        #[arg(long, value_name = "TIME", conflicts_with = "count", value_parser = parse_time)]
        duration: Option<Duration>,
        /// Calls of each process per second, on average, instead of as many as it can
        #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Keep process I on the I-th CPU that the program may use, in turn
        #[arg(long)]
        pin: bool,
    },
    /// Threads that contend for one semaphore
    Waiters {
        /// Critical sections of each thread
        #[arg(long, default_value_t = 500)]
        count: u64,
        /// How many threads
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
        threads: u16,
        /// How long a critical section lasts
        #[arg(long, default_value = "1ms", value_parser = parse_time)]
        hold: Duration,
    },
    /// Calls that fail, each with a known errno
    Failures {
        /// How often each
        #[arg(long, default_value_t = 1)]
        count: u64,
    },
    /// Processes killed by SIGKILL while they wait in semop
    Killed {
        /// How many, one after the other
        #[arg(long, default_value_t = 1)]
        count: u64,
    },
    /// A process that waits in semop until SIGTERM, SIGINT or the time is over
    Open {
        /// How long at most
        #[arg(long, default_value = "60s", value_parser = parse_time)]
        hold: Duration,
    },
    /// The library functions that change a signal set
    Sigsets {
        /// Calls of each
        #[arg(long, default_value_t = 1000)]
        count: u64,
    },
    /// A little of every family
    Families {
        /// How often
        #[arg(long, default_value_t = 1)]
        count: u64,
    },
    /// One thread's calls between clock readings (with --log)
    Bracketed {
        /// Calls
        #[arg(long, default_value_t = 100_000)]
        count: u64,
    },
    /// A loop of a system call that is no IPC
    Bystander {
        /// Which
        #[arg(long, value_enum, default_value_t = scenarios::bystander::Call::Getppid)]
        call: scenarios::bystander::Call,
        /// Calls
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
    },
    /// Threads, each with calls that no other thread makes
    Threads {
        /// Rounds of each thread
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// How many threads
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
        threads: u16,
    },
    /// Processes in a ring that hand tokens on over semaphores
    Handoffs {
        /// Rounds: each process takes and gives once in each
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// How many processes
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=256))]
        processes: u16,
        /// Tokens in the ring
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=255))]
        tokens: u16,
    },
    /// Waits that end in every way there is, each once
    SpecialWakers,
    /// Waits that end by their timeout, beside busy bystanders
    Timeouts {
        /// Waits of each process
        #[arg(long, default_value_t = 300)]
        count: u64,
        /// How many processes wait
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
        waiters: u16,
    },
    /// Waits that end by a signal, beside busy bystanders
    Interrupted {
        /// Waits of each process
        #[arg(long, default_value_t = 100)]
        count: u64,
        /// How many processes are interrupted by a process, and how many by a timer
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
        processes: u16,
    },
    /// Senders that a full queue wakes together though there is room for one
    Senders {
        /// Rounds of five senders
        #[arg(long, default_value_t = 20)]
        count: u64,
    },
    /// A semaphore held for a measured time while another process waits
    Holds {
        /// Holds
        #[arg(long, default_value_t = 50)]
        count: u64,
        /// How long each
        #[arg(long, default_value = "10ms", value_parser = parse_time)]
        hold: Duration,
    },
    /// Arguments that are rewritten while the call sleeps
    Rewriter {
        /// Calls of each kind
        #[arg(long, default_value_t = 20)]
        count: u64,
    },
    /// Arguments that are rewritten before the kernel has read them; as root
    Racer {
        /// Calls of each kind
        #[arg(long, default_value_t = 20)]
        count: u64,
    },
    /// An incident, or a program that only looks like one, and what an analyzer should find; some as root
    Incident {
        /// Which
        incident: scenarios::incidents::Incident,
        /// Where its parameters are drawn from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Calls with rising numbers, and threads that wait, until SIGTERM, SIGINT or the time is over
    Numbered {
        /// How many processes send and receive
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
        processes: u16,
        /// How many threads wait
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=512))]
        blocked: u16,
        /// Where each process writes down when its calls ended
        #[arg(long, value_name = "DIR")]
        ends: Option<PathBuf>,
        /// How long a process pauses after 16 messages
        #[arg(long, default_value = "0ns", value_parser = parse_time)]
        pause: Duration,
        /// How long at most
        #[arg(long, default_value = "60s", value_parser = parse_time)]
        hold: Duration,
    },
    /// Three processes in a deadlock until SIGTERM, SIGINT or the time is over
    Deadlock {
        /// How long at most
        #[arg(long, default_value = "60s", value_parser = parse_time)]
        hold: Duration,
    },
    /// Signal masks of calls and threads
    Masks {
        /// Calls whose new mask and old mask are the same memory
        #[arg(long, default_value_t = 1000)]
        count: u64,
    },
    /// Sleeping calls that signals interrupt: restarted or failed
    Restarts,
    /// Signals from known senders to known targets
    Signals,
    /// Processes of many threads that are all inside one call at once; beyond 32,000 threads in all raise kernel.pid_max
    Multitude {
        /// How many processes
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=31_999))]
        processes: u16,
        /// Threads of each
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1024))]
        threads: u16,
        /// Rounds of each thread when it is out
        #[arg(long, default_value_t = 2)]
        count: u64,
    },
    /// Processes that fork others, which make three calls each and end
    Forks {
        /// How many processes fork, one child after the other
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
        processes: u16,
        /// Children of each: one number for each burst, which --gate holds back as it does those of `storm`
        #[arg(long, default_value = "1000", value_delimiter = ',', value_name = "COUNT,…")]
        count: Vec<u32>,
    },
    /// A call now and then
    Trickle {
        /// Calls
        #[arg(long, default_value_t = 100)]
        count: u64,
        /// One in this time
        #[arg(long, default_value = "100ms", value_parser = parse_time)]
        every: Duration,
    },
    /// An IPC namespace full of semaphores, and a process that uses them and measures how long its calls take; as root
    Populated {
        /// How many sets
        #[arg(long, default_value_t = 32_000, value_parser = clap::value_parser!(u16).range(1..=32_000))]
        sets: u16,
        /// Semaphores of each
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32_000))]
        semaphores: u16,
        /// How long it uses them
        #[arg(long, default_value = "5s", value_parser = parse_time)]
        hold: Duration,
    },
    /// Processes whose ids recur; as root
    Recurring {
        /// Pairs of processes
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
        count: i32,
    },
    /// Two processes in an IPC namespace each, with the same keys, names and ids; as root
    Twins {
        /// Rounds of the first; the second makes twice as many
        #[arg(long, default_value_t = 100)]
        count: u64,
    },
    /// i386 calls that share a number with an IPC call of x86-64, and are none
    Int80 {
        /// Calls
        #[arg(long, default_value_t = 1000)]
        count: u64,
    },
}

/// Parses `200us`, `5ms`, `2s`, `1m`.
fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("'{text}' is no time; write for example 200us, 5ms, 2s or 1m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    Ok(match &text[digits..] {
        "ns" => Duration::from_nanos(number),
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(wrong()),
    })
}

fn run(cli: Cli) -> Result<()> {
    let Common { log, timeout, gate } = cli.common;
    let mut context = Context::new(log, timeout, gate)?;
    context.wait_at_gate("start")?;
    match cli.scenario {
        Scenario::Battery { abi, only } => scenarios::battery::run(&mut context, abi, &only),
        Scenario::PingPong { count, entry } => scenarios::ping_pong::run(&mut context, count, entry),
        Scenario::Storm { processes, count, duration, rate, pin } => {
            let storm = scenarios::storm::Storm { processes, count, duration, rate, pin };
            scenarios::storm::run(&mut context, &storm)
        }
        Scenario::Waiters { count, threads, hold } => scenarios::waiters::run(&mut context, count, threads, hold),
        Scenario::Failures { count } => scenarios::failures::run(&mut context, count),
        Scenario::Killed { count } => scenarios::killed::run(&mut context, count),
        Scenario::Open { hold } => scenarios::open::run(&mut context, hold),
        Scenario::Families { count } => scenarios::families::run(&mut context, count),
        Scenario::Bracketed { count } => scenarios::bracketed::run(&mut context, count),
        Scenario::Bystander { call, count } => scenarios::bystander::run(&mut context, call, count),
        Scenario::Threads { count, threads } => scenarios::threads::run(&mut context, count, threads),
        Scenario::Handoffs { count, processes, tokens } => {
            scenarios::handoffs::run(&mut context, &scenarios::handoffs::Ring { processes, tokens, count })
        }
        Scenario::SpecialWakers => scenarios::special_wakers::run(&mut context),
        Scenario::Timeouts { count, waiters } => scenarios::timeouts::run(&mut context, count, waiters),
        Scenario::Interrupted { count, processes } => scenarios::interrupted::run(&mut context, count, processes),
        Scenario::Senders { count } => scenarios::senders::run(&mut context, count),
        Scenario::Holds { count, hold } => scenarios::holds::run(&mut context, count, hold),
        Scenario::Rewriter { count } => scenarios::rewriter::run(&mut context, count),
        Scenario::Racer { count } => scenarios::racer::run(&mut context, count),
        Scenario::Deadlock { hold } => scenarios::deadlock::run(&mut context, hold),
        Scenario::Incident { incident, seed } => scenarios::incidents::run(&mut context, incident, seed),
        Scenario::Numbered { processes, blocked, ends, pause, hold } => {
            let numbered = scenarios::numbered::Numbered { processes, blocked, ends, pause, hold };
            scenarios::numbered::run(&mut context, &numbered)
        }
        Scenario::Masks { count } => scenarios::masks::run(&mut context, count),
        Scenario::Restarts => scenarios::restarts::run(&mut context),
        Scenario::Signals => scenarios::signals::run(&mut context),
        Scenario::Multitude { processes, threads, count } => {
            scenarios::multitude::run(&mut context, &scenarios::multitude::Multitude { processes, threads, count })
        }
        Scenario::Forks { processes, count } => scenarios::forks::run(&mut context, processes, &count),
        Scenario::Trickle { count, every } => scenarios::trickle::run(&mut context, count, every),
        Scenario::Populated { sets, semaphores, hold } => {
            scenarios::populated::run(&mut context, sets, semaphores, hold)
        }
        Scenario::Recurring { count } => scenarios::recurring::run(&mut context, count),
        Scenario::Twins { count } => scenarios::twins::run(&mut context, count),
        Scenario::Int80 { count } => scenarios::int80::run(&mut context, count),
        Scenario::Sigsets { count } => scenarios::sigsets::run(&mut context, count),
    }?;
    context.finish()
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ipc-workload: {failure}");
            ExitCode::FAILURE
        }
    }
}
