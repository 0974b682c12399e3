//! `objects`: the story of each object.

use super::Ask;
use crate::error::Error;
use crate::opened::Opened;
use crate::report::Answer;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Objects {}

impl Ask for Objects {
    const COMMAND: &'static str = "objects";

    fn ask<'a>(&self, _opened: &'a Opened) -> Result<Answer<'a>, Error> {
        Err(Error::Usage("not written yet".to_owned()))
    }
}
