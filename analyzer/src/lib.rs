//! `ipc-analyzer`: answers questions from IPC traces.
//!
//! It needs no root, no Linux and no eBPF tools. It never writes to a trace. What it reads is untrusted: a checksum is
//! compared before a file is decoded, and whatever is wrong becomes one line and an exit code, never a panic and never a
//! silent wrong answer.

pub mod batch;
mod calls;
mod cli;
pub mod codes;
mod curves;
mod decompress;
pub mod distribution;
pub mod error;
mod export;
pub mod files;
pub mod filter;
pub mod finding;
mod footer;
pub mod groups;
pub mod human;
mod hybrid;
pub mod intern;
mod layout;
pub mod losses;
mod marks;
pub mod meaning;
pub mod names;
mod numbering;
pub mod opened;
pub mod ordered;
mod output;
pub mod packed;
mod page;
mod pages;
pub mod part;
pub mod passes;
mod progress;
pub mod queries;
pub mod query;
pub mod recover;
pub mod render;
pub mod repair;
pub mod report;
pub mod scan;
pub mod sem_ops;
pub mod session;
mod thrift;
pub mod trace;
mod views;

use std::process::ExitCode;

/// Runs the command line; what went wrong is one line on stderr.
pub fn main() -> ExitCode {
    part::silence_guarded_panics();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let text = human::escape(&error.to_string());
            anstream::eprintln!("ipc-analyzer: {text}");
            ExitCode::from(error.exit_code())
        }
    }
}
