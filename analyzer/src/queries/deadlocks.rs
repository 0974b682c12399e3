//! `deadlocks`: who waits for ever.

use super::Ask;
use crate::error::Error;
use crate::opened::Opened;
use crate::report::Answer;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Deadlocks {}

impl Ask for Deadlocks {
    const COMMAND: &'static str = "deadlocks";

    fn ask<'a>(&self, _opened: &'a Opened) -> Result<Answer<'a>, Error> {
        Err(Error::Usage("not written yet".to_owned()))
    }
}
