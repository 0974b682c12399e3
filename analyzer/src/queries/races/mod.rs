//! `races`: what happened in a wrong order. Each file here looks for one thing; only orders that the intervals of the
//! calls leave no doubt about are certain.

mod arguments;
mod initialisation;
mod removal;

use super::Ask;
use crate::error::Error;
use crate::names::{Lifetimes, Processes, Wanted};
use crate::opened::Opened;
use crate::report::Answer;

/// Objects told apart; beyond it those met first count, and the answer says so.
const OBJECTS_MAX: usize = 1 << 20;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Races {}

impl Ask for Races {
    const COMMAND: &'static str = "races";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let sets = initialisation::ask(opened)?;
        let removals = removal::ask(opened)?;
        let arguments = arguments::ask(opened)?;
        let mut wanted = Wanted::new();
        sets.names_wanted(&mut wanted);
        removals.names_wanted(&mut wanted);
        arguments.names_wanted(&mut wanted);
        let processes = Processes::read(&opened.traces, &wanted)?;
        let lifetimes = Lifetimes::read_if(&opened.traces, |trace, object_ref| sets.has(trace, object_ref))?;
        let names = Names { processes, lifetimes };
        let mut findings = sets.findings(&names);
        for finding in &mut findings {
            // A call that is not there can have initialised the set. What others show no unseen call can undo.
            finding.doubt(opened.lost(finding.trace));
        }
        findings.extend(removals.findings(&names));
        findings.extend(arguments.findings(&names));
        Ok(Answer { findings, tables: vec![sets.table(opened, names)], ..Answer::default() })
    }
}

/// Who and what the findings name.
struct Names {
    processes: Processes,
    lifetimes: Lifetimes,
}

/// One side of a race: who did what when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Act {
    start_ns: i64,
    /// `i64::MAX`: open.
    end_ns: i64,
    process_id: i64,
    call_id: i64,
}
