//! `races`: what happened in a wrong order.

use super::Ask;
use crate::error::Error;
use crate::opened::Opened;
use crate::report::Answer;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Races {}

impl Ask for Races {
    const COMMAND: &'static str = "races";

    fn ask<'a>(&self, _opened: &'a Opened) -> Result<Answer<'a>, Error> {
        Err(Error::Usage("not written yet".to_owned()))
    }
}
