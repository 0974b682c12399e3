//! `leaks`: what was left behind.

mod balance;
mod left;
mod makers;
mod modes;
mod objects;
mod undo;
mod uses;

use super::Ask;
use crate::error::Error;
use crate::filter::parse_duration_ns;
use crate::finding::{Finding, Grade};
use crate::human;
use crate::opened::Opened;
use crate::report::Answer;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Leaks {
    /// How long an object must go unused to be told
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration_ns)]
    unused_for: i64,
}

impl Ask for Leaks {
    const COMMAND: &'static str = "leaks";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let living = left::Living::read(&opened.traces)?;
        let left = left::read(opened, &living)?;
        let all = objects::Objects::read(opened, &left, &living)?;
        let mut findings = all.findings(opened, &living, self.unused_for);
        let (deaths, takers) = undo::find(opened)?;
        findings.extend(deaths);
        findings.extend(modes::find(opened, &left)?);
        let makers = makers::read(&opened.traces, &left)?;
        let left_out = left.left_out;
        let mut closing = Vec::new();
        if left_out > 0 {
            closing.push(format!("{} more objects are left and not told.", human::count(left_out.into())));
        }
        let tables = vec![all.table(&opened.traces), makers.table(&opened.traces), takers.table(&opened.traces)];
        Ok(Answer { findings, tables, closing, ..Answer::default() })
    }
}

/// What stands for findings that are not told.
fn more(kind: &'static str, count: u64, what: &str) -> Option<Finding> {
    (count > 0).then(|| Finding {
        kind,
        grade: Grade::Likely,
        trace: 0,
        object: None,
        object_ref: None,
        since_ns: None,
        what: format!("{} more {what}.", human::count(count.into())),
        remedy: "The section object lists what is left; ask for less with --object, --pid.".to_owned(),
        doubts: Vec::new(),
        evidence: Vec::new(),
    })
}
