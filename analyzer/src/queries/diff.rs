//! `diff`: what changed from one trace to another.

use super::Ask;
use crate::error::Error;
use crate::opened::Opened;
use crate::report::Answer;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Diff {}

impl Ask for Diff {
    const COMMAND: &'static str = "diff";

    fn ask<'a>(&self, _opened: &'a Opened) -> Result<Answer<'a>, Error> {
        Err(Error::Usage("not written yet".to_owned()))
    }
}
