//! `contention`: who waits for whom, how long, at which semaphore or queue.
//!
//! Two ways through the calls. Pairs of waiters and wakers need no order and few columns. What a line of waiters is like at
//! each moment needs the order of the ends, per object.

mod convoys;
mod heaviest;
mod line;
mod lines;
mod pairs;
mod tables;

use super::Ask;
use crate::error::Error;
use crate::filter::parse_duration_ns;
use crate::human;
use crate::names::Lifetimes;
use crate::opened::Opened;
use crate::ordered::{self, Direction};
use crate::passes::Passes;
use crate::report::Answer;
use crate::scan;
use heaviest::{Heaviest, ROWS_MAX};
use line::Rules;
use lines::{Aside, LinesQuery, Shard};
use pairs::{By, PairsQuery};
use tables::{Measured, Parties};

/// What the lines, or the pairs, of all threads may take together, bytes.
const BUDGET_BYTES: usize = 160 << 20;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Contention {
    /// Only one of the tables; convoys are found with semaphores
    #[arg(long, value_enum, value_name = "TABLE")]
    only: Option<Only>,

    /// What waiters and wakers are told apart by
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    pairs: By,

    /// A convoy: at least so many calls wait at a time…
    #[arg(long, value_name = "CALLS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    convoy_waiters: u64,

    /// …at every moment of so long…
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration_ns)]
    convoy_for: i64,

    /// …each of them for so long
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = parse_duration_ns)]
    convoy_wait: i64,
}

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Each semaphore and each side of each queue
    Semaphores,
    /// Who waited and who ended the wait
    Pairs,
}

impl Ask for Contention {
    const COMMAND: &'static str = "contention";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        self.ask_within(BUDGET_BYTES, opened)
    }
}

impl Contention {
    /// [`Ask::ask`] within a budget.
    ///
    /// # Errors
    /// As there.
    pub fn ask_within<'a>(&self, budget_bytes: usize, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let mut answer = Answer::default();
        if self.only != Some(Only::Pairs) {
            self.add_lines(opened, budget_bytes, &mut answer)?;
        }
        if self.only != Some(Only::Semaphores) {
            self.add_pairs(opened, budget_bytes, &mut answer)?;
        }
        Ok(answer)
    }

    fn rules(&self) -> Rules {
        Rules { waiters: self.convoy_waiters, for_ns: self.convoy_for, wait_ns: self.convoy_wait }
    }

    fn add_lines<'a>(&self, opened: &'a Opened, budget_bytes: usize, answer: &mut Answer<'a>) -> Result<(), Error> {
        let mut found = Heaviest::new(ROWS_MAX);
        let (mut disordered, mut aside) = (0, Aside::default());
        for trace in 0..opened.traces.len() {
            aside.add(self.measure(opened, trace, budget_bytes, &mut |line, late| {
                found.push(line, Measured::order);
                disordered += late;
            })?);
        }
        answer.before_trace = aside.before_trace;
        let (lines, left_out) = found.finish(Measured::order);
        let lifetimes = Lifetimes::read(&opened.traces, &tables::objects_of(&lines))?;
        answer.findings = convoys::find(opened, &lines, &self.rules(), &lifetimes)?;
        if disordered > 0 {
            let calls = human::counted(disordered.into(), "call");
            let text = format!("{calls} stood behind later ones: how many waited at once can be too low");
            answer.findings.iter_mut().for_each(|finding| finding.doubt([text.clone()]));
            answer.closing.push(text);
        }
        if lines.iter().any(|line| line.contended > 0 && tables::place(&line.key) == "set") {
            let text = "set: calls with several operations; for which semaphore they slept is not recorded";
            answer.closing.push(text.to_owned());
        }
        say_left_out(left_out, "semaphores and queues", answer);
        say_aside(aside, answer);
        answer.tables.push(tables::of_lines(opened, lines, lifetimes));
        Ok(())
    }

    /// Calls `visit` with each line of a trace and how many of its calls were out of order; returns what is said beside.
    fn measure(
        &self,
        opened: &Opened,
        number: usize,
        budget_bytes: usize,
        visit: &mut dyn FnMut(Measured, u64),
    ) -> Result<Aside, Error> {
        let Some(trace) = opened.traces.get(number) else { return Ok(Aside::default()) };
        let shard_bytes = budget_bytes / rayon::current_num_threads();
        let (mut passes, mut aside) = (Passes::new(), None);
        while let Some(pass) = passes.begin() {
            let query = LinesQuery {
                rules: self.rules(),
                pass,
                budget_bytes: isize::try_from(shard_bytes).unwrap_or(isize::MAX),
                trace_end_ns: opened.span_ns(number).1,
            };
            let shards = ordered::fold((number, trace), &opened.selection, Direction::Backwards, &query)?;
            if aside.is_none() {
                let mut all = Aside::default();
                shards.iter().for_each(|shard| all.add(shard.aside));
                aside = Some(all);
            }
            for mut shard in shards {
                query.put_off(&mut shard);
                finish(number, shard, &query.rules, visit);
            }
            passes.end(&query.pass);
        }
        Ok(aside.unwrap_or_default())
    }

    fn add_pairs<'a>(&self, opened: &'a Opened, budget_bytes: usize, answer: &mut Answer<'a>) -> Result<(), Error> {
        let mut found = Heaviest::new(ROWS_MAX);
        let mut passes = Passes::new();
        while let Some(pass) = passes.begin() {
            let budget_bytes = budget_bytes / rayon::current_num_threads();
            let query = PairsQuery { by: self.pairs, pass: &pass, budget_bytes };
            let mut partial = scan::fold(&opened.traces, &opened.selection, &query)?;
            query.put_off(&mut partial);
            if self.only == Some(Only::Pairs) {
                answer.before_trace = partial.before_trace;
            }
            partial.for_each(self.pairs, |pair| found.push(pair, tables::order_of_pairs));
            passes.end(&pass);
        }
        let (pairs, left_out) = found.finish(tables::order_of_pairs);
        say_left_out(left_out, "pairs", answer);
        let parties = Parties::read(opened, self.pairs, &pairs)?;
        answer.tables.push(tables::of_pairs(opened, self.pairs, pairs, parties));
        Ok(())
    }
}

fn finish(trace: usize, shard: Shard, rules: &Rules, visit: &mut dyn FnMut(Measured, u64)) {
    for (key, mut line) in shard.lines {
        let mut disordered = 0;
        if let Some(waited) = &mut line.waited {
            waited.sweep.finish(rules);
            disordered = waited.sweep.disordered;
        }
        visit(Measured::new(trace, key, line), disordered);
    }
}

fn say_aside(aside: Aside, answer: &mut Answer<'_>) {
    let calls = |count: u64| human::counted(count.into(), "call");
    if aside.without_object > 0 {
        let calls = calls(aside.without_object);
        answer
            .closing
            .push(format!("{calls} on objects that are not known stand in no line: failed, or of an old trace"));
    }
    if aside.unknown > 0 {
        answer.closing.push(format!("{} may have slept: it is not known", calls(aside.unknown)));
    }
}

fn say_left_out(left_out: u64, noun: &str, answer: &mut Answer<'_>) {
    if left_out > 0 {
        let (count, noun) = (human::count(left_out.into()), noun);
        answer.closing.push(format!(
            "{count} more {noun} with shorter waits: the answer holds {}",
            human::count(ROWS_MAX as i128)
        ));
    }
}
