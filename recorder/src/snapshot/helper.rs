//! The process that takes the snapshots, and the way to ask it.
//!
//! One line of JSON per request and per answer, over its standard input and output. Start it before any privilege is
//! dropped; it ends when its input does, and is killed when the thread that started it ends.

use super::{Limit, Snapshot, control, limits, take};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The hidden subcommand under which this program runs [`serve`].
pub const SUBCOMMAND: &str = "snapshot-helper";

#[derive(Serialize, Deserialize)]
enum Request {
    Snapshot,
    ProcessLimits(u32),
}

/// The helper process, as its parent sees it. Dropping it ends the process.
pub struct Snapshots {
    helper: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Snapshots {
    /// Starts the helper: this program again, under its hidden subcommand.
    pub fn start() -> io::Result<Self> {
        let mut helper = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("the snapshot helper does not start: {error}")))?;
        match (helper.stdin.take(), helper.stdout.take()) {
            (Some(requests), Some(answers)) => Ok(Snapshots { helper, requests, answers: BufReader::new(answers) }),
            _ => Err(io::Error::other("the snapshot helper has no pipes")),
        }
    }

    /// The helper's process id: its calls are not to be recorded.
    pub fn pid(&self) -> u32 {
        self.helper.id()
    }

    /// Takes a snapshot. What could not be read stands in its `missing`; an error means that the helper is gone.
    pub fn take(&mut self) -> io::Result<Snapshot> {
        self.ask(&Request::Snapshot)
    }

    /// The limits of one process that its IPC calls can meet; empty if it is gone.
    pub fn process_limits(&mut self, pid: u32) -> io::Result<Vec<Limit>> {
        self.ask(&Request::ProcessLimits(pid))
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> io::Result<T> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.requests.write_all(line.as_bytes())?;
        line.clear();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot helper ended"));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        // It holds nothing worth keeping. Both can only fail if it has ended already.
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

/// The helper itself: answers requests until its input ends.
pub fn serve() -> io::Result<()> {
    // Ctrl-C and a service's stop reach it too, but the last snapshot is taken after them.
    control::ignore_group_signals();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It holds a descriptor per namespace.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })?;
    for line in io::stdin().lock().lines() {
        let mut answer = match serde_json::from_str(&line?)? {
            Request::Snapshot => serde_json::to_string(&take())?,
            Request::ProcessLimits(pid) => serde_json::to_string(&limits::of_process(pid))?,
        };
        answer.push('\n');
        let mut output = io::stdout().lock();
        output.write_all(answer.as_bytes())?;
        output.flush()?;
    }
    Ok(())
}
