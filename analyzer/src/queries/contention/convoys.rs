//! Convoys: lines that do not end, of calls that wait for what others in the same line hold.
//!
//! The sweep finds the times in which enough waited for long enough. Who handed on decides: a lock is given back by those
//! who took it; consumers that wait for the work of others are idle, and no convoy.

use super::line::{LineKey, Rules, Side, Spell};
use super::lines::LineColumns;
use super::tables::{Measured, place};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::finding::{EVIDENCE_MAX, Finding, Grade};
use crate::human;
use crate::names::{Lifetimes, Threads, Wanted};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables::{self, Table};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Lines that are looked at closer, those with the longest convoys.
const SUSPECTS_MAX: usize = 256;
/// Threads of a line that are told apart; there are no more live ones than that on most machines.
const THREADS_MAX: usize = 1 << 16;
/// Wakers that a finding names.
const WAKERS_NAMED: usize = 3;

/// The findings among `lines`; how many lines were too many to be looked at.
///
/// # Errors
/// A part that cannot be believed.
pub fn find(opened: &Opened, lines: &[Measured], rules: &Rules, lifetimes: &Lifetimes) -> Result<Vec<Finding>, Error> {
    // Receivers that wait are idle: there is nothing to be had.
    let may_be = |line: &&Measured| !line.spells.is_empty() && line.key.side != Side::Receive;
    let mut suspects: Vec<&Measured> = lines.iter().filter(may_be).collect();
    suspects.sort_by_key(|line| Reverse(line.spells.first().map(Spell::length_ns)));
    suspects.truncate(SUSPECTS_MAX);
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let crowds = scan::fold(&opened.traces, &opened.selection, &CrowdQuery::new(&suspects))?;
    let convoys: Vec<(&Measured, &Crowd)> = suspects
        .into_iter()
        .zip(&crowds)
        .filter(|(line, crowd)| line.key.side == Side::Send || crowd.is_of_holders())
        .collect();
    let named = |(line, crowd): &(&Measured, &Crowd)| {
        let trace = line.trace;
        let holder = line.spells.first().and_then(|spell| spell.longest_hold).map(|hold| hold.thread);
        let wakers = crowd.wakers_by_count().into_iter().take(WAKERS_NAMED).map(|(waker, _)| waker);
        wakers.chain(holder).map(move |thread| (trace, thread)).collect::<Vec<_>>()
    };
    let wanted: Wanted = convoys.iter().flat_map(named).collect();
    let threads = Threads::read(&opened.traces, &wanted)?;
    let names = Names { opened, lifetimes, threads: &threads };
    Ok(convoys.iter().filter_map(|(line, crowd)| names.finding(line, crowd, rules)).collect())
}

/// Who stood in a line during its longest spell.
#[derive(Debug, Default)]
struct Crowd {
    /// Threads that waited in it, or took the semaphore without.
    takers: HashSet<i64>,
    /// Threads that handed on, and how often.
    wakers: HashMap<i64, u64>,
    /// The longest waits and their calls, the shortest on top.
    longest: BinaryHeap<Reverse<(i64, i64)>>,
}

impl Crowd {
    fn add_evidence(&mut self, wait_ns: i64, call_id: i64) {
        self.longest.push(Reverse((wait_ns, call_id)));
        if self.longest.len() > EVIDENCE_MAX {
            self.longest.pop();
        }
    }

    fn add_waker(&mut self, waker: i64, count: u64) {
        if self.wakers.len() < THREADS_MAX || self.wakers.contains_key(&waker) {
            *self.wakers.entry(waker).or_default() += count;
        }
    }

    fn add_taker(&mut self, taker: i64) {
        if self.takers.len() < THREADS_MAX {
            self.takers.insert(taker);
        }
    }

    /// Whether what was handed on had been taken before by the same thread, most of the times.
    fn is_of_holders(&self) -> bool {
        let all: u64 = self.wakers.values().sum();
        let own: u64 = self.wakers.iter().filter(|(waker, _)| self.takers.contains(*waker)).map(|(_, n)| n).sum();
        own > 0 && own.saturating_mul(2) >= all
    }

    fn wakers_by_count(&self) -> Vec<(i64, u64)> {
        let mut wakers: Vec<(i64, u64)> = self.wakers.iter().map(|(waker, count)| (*waker, *count)).collect();
        wakers.sort_by_key(|(waker, count)| (Reverse(*count), *waker));
        wakers
    }

    fn evidence(&self) -> Vec<i64> {
        let mut calls: Vec<(i64, i64)> = self.longest.iter().map(|Reverse(call)| *call).collect();
        calls.sort_by_key(|(wait_ns, call_id)| (Reverse(*wait_ns), *call_id));
        calls.into_iter().map(|(_, call_id)| call_id).collect()
    }
}

/// Asks who stood in some lines.
struct CrowdQuery {
    /// Per line its number and its spell.
    lines: HashMap<(usize, LineKey), (usize, Spell)>,
}

impl CrowdQuery {
    fn new(suspects: &[&Measured]) -> CrowdQuery {
        let spell = |(number, line): (usize, &&Measured)| {
            Some(((line.trace, line.key), (number, line.spells.first()?.clone())))
        };
        CrowdQuery { lines: suspects.iter().enumerate().filter_map(spell).collect() }
    }
}

impl Query for CrowdQuery {
    type Partial = Vec<Crowd>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        let mut columns = vec!["wait_ns", "start_ns", "call_id", "thread_id", "wake_reason", "waker_thread_id"];
        columns.extend(["outcome", "sem_op"]);
        columns.extend(LineColumns::NAMES);
        columns
    }

    fn empty(&self) -> Vec<Crowd> {
        (0..self.lines.len()).map(|_| Crowd::default()).collect()
    }

    fn fold(&self, crowds: &mut Vec<Crowd>, batch: &Batch) -> Result<(), Error> {
        let columns = LineColumns::new(batch)?;
        let (waits, starts) = (batch.int64("wait_ns")?, batch.int64("start_ns")?);
        let (calls, threads) = (batch.int64("call_id")?, batch.int64("thread_id")?);
        let (reasons, wakers) = (batch.text("wake_reason")?, batch.int64("waker_thread_id")?);
        let (outcomes, operations) = (batch.text("outcome")?, batch.int32("sem_op")?);
        for row in 0..batch.rows() {
            let Some(key) = columns.get(row) else { continue };
            let Some((number, spell)) = self.lines.get(&(batch.trace, key)) else { continue };
            let Some(crowd) = crowds.get_mut(*number) else { continue };
            let takes = key.sem_num.is_some() && int32_at(operations, row).is_some_and(|operation| operation < 0);
            if takes && outcomes.get(row) == Some("ok") {
                crowd.add_taker(threads.value(row));
            }
            let Some(wait_ns) = int64_at(waits, row).filter(|wait_ns| *wait_ns > 0) else { continue };
            let woken_ns = starts.value(row).saturating_add(wait_ns);
            if starts.value(row) >= spell.until_ns || woken_ns <= spell.since_ns {
                continue;
            }
            crowd.add_taker(threads.value(row));
            crowd.add_evidence(wait_ns, calls.value(row));
            let is_in = woken_ns <= spell.until_ns;
            if let (true, Some("peer"), Some(waker)) = (is_in, reasons.get(row), int64_at(wakers, row)) {
                crowd.add_waker(waker, 1);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<Crowd>, from: Vec<Crowd>) {
        for (into, from) in into.iter_mut().zip(from) {
            from.takers.iter().for_each(|taker| into.add_taker(*taker));
            from.wakers.iter().for_each(|(waker, count)| into.add_waker(*waker, *count));
            from.longest.iter().for_each(|Reverse((wait_ns, call_id))| into.add_evidence(*wait_ns, *call_id));
        }
    }
}

/// What a finding names.
struct Names<'a> {
    opened: &'a Opened,
    lifetimes: &'a Lifetimes,
    threads: &'a Threads,
}

impl Names<'_> {
    fn thread(&self, trace: usize, thread: i64) -> String {
        match self.threads.get(trace, thread) {
            Some(thread) => match &thread.comm {
                Some(comm) => format!("{} {comm}", thread.tid),
                None => thread.tid.to_string(),
            },
            None => format!("(thread_id {thread})"),
        }
    }

    fn finding(&self, line: &Measured, crowd: &Crowd, rules: &Rules) -> Option<Finding> {
        let spell = line.spells.first()?;
        let object = self.lifetimes.label(line.trace, line.key.object_ref);
        let mut finding = Finding {
            kind: "convoy",
            grade: Grade::Certain,
            trace: line.trace,
            object: Some(object.clone()),
            object_ref: Some(line.key.object_ref),
            since_ns: Some(spell.since_ns),
            what: self.what(&object, line, spell, crowd, rules),
            remedy: self.remedy(&object, line),
            doubts: Vec::new(),
            evidence: crowd.evidence(),
        };
        // Calls of others that were not recorded would only make the line longer.
        finding.doubt(self.opened.lost(line.trace));
        let filters = self.opened.traces.get(line.trace).map(|trace| &trace.manifest.session.filters);
        if filters.is_some_and(|filters| filters.min_duration_ns.is_some()) {
            finding.doubt(["short calls were not recorded: the line may have moved faster than it seems".to_owned()]);
        }
        if spell.standstill_ns >= rules.for_ns {
            let stood = human::duration(spell.standstill_ns.into());
            let text = "nobody got it: if its holder was waiting for work then, the others were idle";
            finding.doubt([format!("for {stood} of it {text}")]);
        }
        if line.key.side == Side::Semaphore && line.key.sem_num.is_none() {
            let text =
                "the calls have several operations each: for which of their semaphores they slept is not recorded";
            finding.doubt([text.to_owned()]);
        }
        Some(finding)
    }

    fn what(&self, object: &str, line: &Measured, spell: &Spell, crowd: &Crowd, rules: &Rules) -> String {
        let place = match line.key.side {
            Side::Semaphore if line.key.sem_num.is_some() => format!("{object}{}", place(&line.key)),
            Side::Semaphore => object.to_owned(),
            Side::Send => format!("room in {object}"),
            Side::Receive => format!("a message in {object}"),
        };
        let length = human::duration(spell.length_ns().into());
        let every = human::duration(i128::from(spell.length_ns()) / i128::from(spell.handoffs.max(1)));
        let mut what = format!(
            "At least {} calls at a time, {} at most, waited for {place} throughout {length}; one got it every {every}.",
            rules.waiters, spell.waiters_max
        );
        let wakers = crowd.wakers_by_count();
        let times = |count: u64| human::counted(count.into(), "time");
        let name = |(waker, count): &(i64, u64)| format!("{} ({})", self.thread(line.trace, *waker), times(*count));
        let mut named: Vec<String> = wakers.iter().take(WAKERS_NAMED).map(name).collect();
        if let Some(others) = wakers.len().checked_sub(WAKERS_NAMED).filter(|others| *others > 0) {
            named.push(human::counted(others as i128, "other"));
        }
        what.push_str(&format!(" Woken by {}.", named.join(", ")));
        if let Some(hold) = spell.longest_hold {
            let (held, who) = (human::duration(hold.hold_ns.into()), self.thread(line.trace, hold.thread));
            what.push_str(&format!(" The longest hold, estimated from -n and +n of one thread: {held} by {who}."));
        }
        if line.spells.len() > 1 {
            let total: i64 = line.spells.iter().map(Spell::length_ns).fold(0, i64::saturating_add);
            let total = human::duration(total.into());
            what.push_str(&format!(" It is the longest of {} such times, {total} in all.", line.spells.len()));
        }
        what
    }

    fn remedy(&self, object: &str, line: &Measured) -> String {
        let trace = self.opened.traces.get(line.trace).map(|trace| trace.name()).unwrap_or_default();
        let command = format!("ipc-analyzer show {trace} --object {object}");
        match line.key.side {
            Side::Semaphore => format!(
                "Do less between taking and giving, or split what the semaphore guards; what the holders do meanwhile: \
                 {command}. If a holder only waits for work while it holds (workers that take turns to accept), nothing is wrong."
            ),
            Side::Send | Side::Receive => {
                format!("Receive faster or with more receivers; a longer queue only hides it. Who sends: {command}")
            }
        }
    }
}
