//! `leaks`: what was left behind.

use super::Ask;
use crate::error::Error;
use crate::opened::Opened;
use crate::report::Answer;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Leaks {}

impl Ask for Leaks {
    const COMMAND: &'static str = "leaks";

    fn ask<'a>(&self, _opened: &'a Opened) -> Result<Answer<'a>, Error> {
        Err(Error::Usage("not written yet".to_owned()))
    }
}
