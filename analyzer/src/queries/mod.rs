//! One file per command.

pub mod contention;
pub mod deadlocks;
pub mod diff;
pub mod failures;
pub mod latency;
pub mod leaks;
pub mod objects;
pub mod queues;
pub mod races;
pub mod show;
pub mod signals;
pub mod summary;
pub mod verify;

use crate::error::Error;
use crate::opened::Opened;
use crate::report::Answer;

/// A command that looks for something: its options, and how it finds the answer.
pub trait Ask: clap::Args {
    /// Its name.
    const COMMAND: &'static str;

    /// The answer.
    ///
    /// # Errors
    /// A part that cannot be believed, or options that do not fit the traces.
    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error>;
}
