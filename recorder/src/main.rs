//! `ipc-recorder`: captures IPC calls with eBPF and writes them as a trace.
//!
//! It computes no statistics and answers no questions; that is `ipc-analyzer`'s.

mod attach;
mod batch;
mod binaries;
mod bounds;
mod btf;
mod call;
mod capture;
mod cli;
mod command;
mod copies;
mod decode;
mod directory;
mod doctor;
mod events;
mod finished;
mod flight;
mod follow;
mod forward;
mod governor;
mod health;
mod history;
mod join;
mod libraries;
mod log;
mod lookups;
mod objects;
mod observer;
mod outbox;
mod pack;
mod parts;
mod plan;
mod priority;
mod privilege;
mod procfs;
mod pulse;
mod record;
mod ring;
mod scan;
mod session;
mod shared;
mod signals;
mod sink;
mod snapshot;
mod stacks;
mod tasks;
mod trigger;
mod waits;
mod wrappers;
mod writer;

use cli::{Action, Cli};
use ipc_schema::{command_line, text};
use std::process::ExitCode;

/// Why a command failed: its exit status and one line for the user.
#[derive(Debug)]
pub struct Failure {
    /// See `--help`.
    pub status: u8,
    /// What was wrong, where, and what to do next.
    pub message: String,
}

impl Failure {
    /// An error that no other status fits.
    pub fn error(message: impl std::fmt::Display) -> Failure {
        Failure { status: 1, message: message.to_string() }
    }

    /// The command line asks for something that is not there.
    pub fn usage(message: impl std::fmt::Display) -> Failure {
        Failure { status: 2, message: message.to_string() }
    }
}

impl From<attach::Error> for Failure {
    fn from(error: attach::Error) -> Failure {
        Failure { status: 4, message: error.to_string() }
    }
}

impl From<directory::Error> for Failure {
    fn from(error: directory::Error) -> Failure {
        Failure::error(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::error(error)
    }
}

fn main() -> ExitCode {
    match command_line::parse().map_err(Failure::usage).and_then(|cli: Cli| run(cli.action)) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            anstream::eprintln!("ipc-recorder: {}", text::escape(&failure.message));
            ExitCode::from(failure.status)
        }
    }
}

/// The exit status.
fn run(action: Action) -> Result<u8, Failure> {
    match action {
        Action::Record(options) => record::run(&options, None),
        Action::Flight(options) => record::run(&options.record, Some(&options)),
        Action::Snapshot(options) => observer::once(&options),
        Action::SnapshotHelper => snapshot::serve().map(|()| 0).map_err(Failure::from),
        Action::Pack(options) => pack::run(&options),
        Action::Doctor => doctor::run(),
        Action::Events => events::run(),
        Action::Completions { shell } => {
            command_line::completions::<Cli>(shell);
            Ok(0)
        }
        Action::Pages { folder } => command_line::pages::<Cli>(&folder).map(|()| 0).map_err(Failure::from),
        Action::BenchEmptyPair { duration } => attach::EmptyPair::attach().map_err(Failure::from).map(|_pair| {
            eprintln!("attached");
            std::thread::sleep(duration);
            0
        }),
    }
}
