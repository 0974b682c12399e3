//! `deadlocks`: who waits for ever.
//!
//! Calls that have not ended are waits. What each could be ended by is asked of the rest of the trace: who holds the
//! semaphore, who sends to the queue. Waits that only each other could end are a deadlock.

mod broken;
mod circle;
mod deeds;
mod doubts;
mod graph;
mod known;
mod resets;
mod sites;
mod state;
mod tables;
mod waits;
mod words;

use super::Ask;
use crate::error::Error;
use crate::filter::Moment;
use crate::human;
use crate::opened::Opened;
use crate::report::Answer;
use circle::Circles;
use hashbrown::HashSet;
use known::Known;
use state::State;
use std::rc::Rc;

/// A semaphore or a queue of a trace: the trace, `object_ref`, the semaphore or [`QUEUE`].
type Place = (usize, i64, i32);

/// In the place of a semaphore's number.
const QUEUE: i32 = -1;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Deadlocks {
    /// The calls that waited at this time, not those at the end: RFC 3339, +5s after the start, -10m before the end
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = Moment::parse)]
    at: Option<Moment>,
}

impl Deadlocks {
    /// The question for a moment, nanoseconds since the epoch.
    pub fn at(ns: i64) -> Deadlocks {
        Deadlocks { at: Some(Moment::At(ns)) }
    }
}

/// When a circle that closed at `since_ns`, and was found, can be seen: then it is no hand-over under way any more.
pub fn seen_at_ns(since_ns: i64) -> i64 {
    since_ns.saturating_add(circle::HAND_OVER_NS)
}

/// The moment that is asked about, in each trace.
#[derive(Debug)]
pub struct Moments {
    at_ns: Vec<i64>,
    are_asked: bool,
}

impl Moments {
    fn new(opened: &Opened, at: Option<Moment>) -> Moments {
        let ends = (0..opened.traces.len()).map(|trace| opened.span_ns(trace).1);
        let at_ns = match at {
            Some(moment) => opened.traces.iter().map(|trace| moment.in_trace(trace)).collect(),
            None => ends.collect(),
        };
        Moments { at_ns, are_asked: at.is_some() }
    }

    /// Nanoseconds since the epoch.
    fn at_ns(&self, trace: usize) -> i64 {
        self.at_ns.get(trace).copied().unwrap_or(i64::MAX)
    }
}

impl Ask for Deadlocks {
    const COMMAND: &'static str = "deadlocks";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let (state, circles) = analyse(opened, Moments::new(opened, self.at))?;
        let mut findings = circles.findings(opened, &state);
        if self.at.is_none()
            && let Some(moments) = broken::read(opened)?
        {
            let known: HashSet<(usize, i64)> = circles.calls(&state).collect();
            let (state, mut circles) = analyse(opened, moments)?;
            circles.leave_out(&state, &known);
            findings.extend(circles.findings(opened, &state));
        }
        let before_trace = state.known.waits.iter().filter(|wait| wait.before_trace).count() as u64;
        let closing = closing(&state, &circles, findings.len());
        let tables = tables::tables(opened, Rc::new((state, circles)));
        Ok(Answer { findings, tables, closing, before_trace, ..Answer::default() })
    }
}

/// What stands still at the moments.
fn analyse(opened: &Opened, moments: Moments) -> Result<(State, Circles), Error> {
    let waits = waits::read(opened, &moments)?;
    let places = deeds::places(&waits);
    let semaphores = places.keys().filter(|place| place.2 != QUEUE).copied().collect();
    let resets = resets::read(opened, &moments, &semaphores)?;
    let deeds = deeds::read(opened, &moments, &places, &resets)?;
    let state = State::new(Known::read(opened, moments, waits, &places, (resets, deeds))?);
    let circles = Circles::find(&state);
    Ok((state, circles))
}

fn closing(state: &State, circles: &Circles, findings: usize) -> Vec<String> {
    if findings == 0 {
        let waits = human::counted(state.known.waits.len() as i128, "call");
        return vec![format!("No deadlock: {waits} waiting, and none that only its own waiters could end.")];
    }
    match circles.is_behind.iter().filter(|is_behind| **is_behind).count() {
        0 => Vec::new(),
        behind => vec![format!("{} more cannot end before these do.", human::counted(behind as i128, "call"))],
    }
}
