//! What runs while something watches.

use super::{Scale, program};
use crate::{Result, place};
use std::fs;
use std::path::PathBuf;

/// A program that measures itself, or is timed from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One process in a short loop of semop that never waits: what it makes fits into the rings.
    SemopBurst,
    /// The same for seconds: the watcher must keep up.
    Semop,
    /// Two processes on one processor that wait for each other in semop: every second call sleeps and is woken.
    PingPong,
    /// Two processes in a loop of semop, on two processors.
    SemopTwice,
    /// One process in a loop of getppid: no call is traced.
    Bystander,
    /// One process in a loop of epoll_pwait with a signal mask: the mask changes, and no call is traced.
    EpollPwait,
    /// Two processes on one processor that wait for each other in a pipe: wake-ups, and no call is traced.
    Pipe,
}

/// A load of a certain length.
#[derive(Clone, Copy)]
pub struct Run {
    /// What runs.
    pub load: Load,
    /// How many calls it makes, all processes together; of a pipe: operations, each there and back.
    pub calls: u64,
}

/// 200 bytes of perf's ring and 152 of ours per call: 6 MB of 8 MiB.
const BURST: u64 = 30_000;

/// bash knows the time without starting a program. It counts the program's start, a millisecond.
const TIMED: &str = r#"began=${EPOCHREALTIME//[!0-9]/}
"$@" || exit
echo "{\"elapsed_ns\":$((${EPOCHREALTIME//[!0-9]/} - began))000}"
"#;

/// Makes what the loads need besides the programs.
pub fn prepare() -> Result {
    fs::write(timed(), TIMED).map_err(|error| format!("{}: {error}", timed().display()))
}

fn timed() -> PathBuf {
    place::target("bench").join("timed.sh")
}

impl Load {
    /// The load in a length that suits a watcher which can have but one of `share` calls.
    pub fn run(self, scale: &Scale, share: u64) -> Run {
        let calls = match self {
            Load::SemopBurst => BURST,
            Load::Semop => scale.semops,
            Load::PingPong => scale.hand_offs,
            Load::SemopTwice => 2 * scale.semops,
            Load::Bystander | Load::EpollPwait => scale.bystanders,
            Load::Pipe => scale.pipes,
        };
        Run { load: self, calls: calls / share }
    }

    /// Runs per round: a short one is uncertain by itself.
    pub fn repetitions(self) -> usize {
        if self == Load::SemopBurst { 5 } else { 1 }
    }

    /// Its loops run side by side, each on its own processor.
    fn loops(self) -> u64 {
        if self == Load::SemopTwice { 2 } else { 1 }
    }
}

impl Run {
    /// How many of its calls are traced.
    pub fn traced_calls(self) -> u64 {
        if matches!(self.load, Load::Bystander | Load::EpollPwait | Load::Pipe) { 0 } else { self.calls }
    }

    /// Whether it makes so many traced calls that what a trace costs at its start and end vanishes in what a call costs.
    pub fn is_long(self) -> bool {
        matches!(self.load, Load::Semop | Load::PingPong | Load::SemopTwice)
    }

    /// The time of one call as the load sees it, nanoseconds, of the time that its slowest loop took.
    pub fn call_ns(self, elapsed_ns: u64) -> f64 {
        elapsed_ns as f64 / (self.calls / self.load.loops()) as f64
    }

    /// Program and arguments, none with a space: bpftrace would split it. To be run in [`place::root`].
    pub fn command(self) -> Vec<String> {
        let workload = place::short(&program("ipc-workload"));
        let timed = place::short(&timed());
        // Of its class no process is put off by one that it wakes: each wait is a sleep.
        let on_one_processor = ["bash", &timed, "taskset", "--cpu-list", "0", "chrt", "--batch", "0"];
        let count = self.calls / self.load.loops();
        // A process makes two calls in each round.
        let rounds = (self.calls / 4).to_string();
        let (count, loops) = (count.to_string(), self.load.loops().to_string());
        let pipe = ["perf", "bench", "--format", "simple", "sched", "pipe", "--loop", &count];
        let words = match self.load {
            Load::Bystander => vec![workload.as_str(), "bystander", "--count", &count],
            Load::EpollPwait => vec![workload.as_str(), "bystander", "--call", "epoll-pwait", "--count", &count],
            Load::PingPong => [&on_one_processor[..], &[&workload, "ping-pong", "--count", &rounds]].concat(),
            Load::Pipe => [&on_one_processor[..], &pipe].concat(),
            Load::SemopBurst | Load::Semop | Load::SemopTwice => {
                vec![workload.as_str(), "storm", "--processes", &loops, "--pin", "--count", &count]
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }
}
