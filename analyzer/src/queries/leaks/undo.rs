//! Findings `undo_less_death`: a process ended with a semaphore that it had taken without SEM_UNDO.

use super::balance::{self, Balance, Semaphore, Use};
use super::more;
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::names::{Lifetimes, Process, Processes};
use crate::opened::Opened;
use crate::report::{Rows, Table, Unit, Value, column};
use crate::trace::Trace;
use ipc_schema::catalogue::Family;
use std::cmp::Reverse;

/// Findings that are told; the last one says how many more there are.
const FINDINGS_MAX: usize = 100;
const TEXT_ROWS: usize = 10;

/// A process that took more of a semaphore than it gave.
struct Taker {
    semaphore: Semaphore,
    process_id: i64,
    balance: Balance,
    /// Whether others supply the semaphore.
    is_supplied: bool,
}

/// The processes that took more of a lock than they gave.
pub struct Takers {
    all: Vec<Taker>,
    lifetimes: Lifetimes,
    processes: Processes,
}

/// Finds the deaths, and all who took more than they gave.
///
/// # Errors
/// A part that cannot be believed.
pub fn find(opened: &Opened) -> Result<(Vec<Finding>, Takers), Error> {
    let mut uses: Vec<(Semaphore, Use)> = balance::read(opened)?.into_iter().collect();
    uses.retain(|(_, of)| of.is_lock && !of.takers.is_empty());
    uses.sort_unstable_by_key(|(semaphore, _)| *semaphore);
    let sets = uses.iter().map(|((trace, object_ref, _), _)| (*trace, *object_ref)).collect();
    let lifetimes = Lifetimes::read(&opened.traces, &sets)?;
    let takers = |(semaphore, of): &(Semaphore, Use)| -> Vec<(usize, i64)> {
        of.takers.iter().map(|(process_id, _)| (semaphore.0, *process_id)).collect()
    };
    let processes = Processes::read(&opened.traces, &uses.iter().flat_map(takers).collect())?;
    let mut findings = Vec::new();
    let mut all = Vec::new();
    for (semaphore, mut of) in uses {
        let maker = lifetimes.get(semaphore.0, semaphore.1).and_then(|lifetime| lifetime.created_by);
        let is_supplied = of.is_supplied(maker);
        of.takers.sort_unstable_by_key(|(process_id, balance)| (Reverse(balance.held()), *process_id));
        for (process_id, balance) in &of.takers {
            let process = processes.get(semaphore.0, *process_id).filter(|_| !is_supplied);
            findings.extend(process.and_then(|p| finding(opened, semaphore, &of, (p, balance), &lifetimes)));
            all.push(Taker { semaphore, process_id: *process_id, balance: *balance, is_supplied });
        }
    }
    let rest = findings.len().saturating_sub(FINDINGS_MAX) as u64;
    findings.truncate(FINDINGS_MAX);
    findings.extend(more("undo_less_death", rest, "processes ended with a semaphore"));
    Ok((findings, Takers { all, lifetimes, processes }))
}

impl Takers {
    /// The table.
    pub fn table<'a>(self, traces: &'a [Trace]) -> Table<'a> {
        let Takers { all, lifetimes, processes } = self;
        let row = move |taker: Taker| {
            let (trace, object_ref, number) = taker.semaphore;
            let process = processes.get(trace, taker.process_id);
            Ok(vec![
                Value::text(traces.get(trace).map(|trace| trace.manifest.trace_id.clone())),
                Value::Text(lifetimes.label(trace, object_ref)),
                Value::Int(object_ref.into()),
                Value::Int(number.into()),
                Value::Int(taker.process_id.into()),
                Value::int(process.map(|process| process.pid)),
                Value::text(process.and_then(|process| process.comm.clone())),
                Value::Int(taker.balance.taken.into()),
                Value::Int(taker.balance.given.into()),
                Value::Bool(taker.is_supplied),
                Value::int(process.and_then(|process| process.exit_ns)),
            ])
        };
        let columns = vec![
            column("trace_id", if traces.len() > 1 { "trace" } else { "" }, Unit::Text),
            column("object", "object", Unit::Text),
            column("object_ref", "", Unit::Id),
            column("sem_num", "number", Unit::Id),
            column("process_id", "", Unit::Id),
            column("pid", "pid", Unit::Id),
            column("comm", "comm", Unit::Text),
            column("taken", "taken", Unit::Count),
            column("given", "given", Unit::Count),
            column("supplied", "", Unit::Text),
            column("exit_ns", "ended", Unit::Instant),
        ];
        let rows: Rows<'a> = Box::new(all.into_iter().map(row));
        let title = "Taken without SEM_UNDO and not given back, of semaphores used as locks".to_owned();
        Table { section: Some("balance"), title, columns, rows, sparse: false, text_limit: TEXT_ROWS }
    }
}

fn finding(
    opened: &Opened,
    (trace, object_ref, number): Semaphore,
    of: &Use,
    (process, balance): (&Process, &Balance),
    lifetimes: &Lifetimes,
) -> Option<Finding> {
    let exit_ns = process.exit_ns?;
    let removed_ns = lifetimes.get(trace, object_ref).and_then(|lifetime| lifetime.removed_ns);
    // What is gone, and what nobody wants any more, harms nobody.
    let is_wanted = of.refused_ns.is_some_and(|ns| ns > exit_ns);
    let is_harm = removed_ns.is_none_or(|ns| is_wanted && ns > exit_ns);
    if !is_harm {
        return None;
    }
    let object = lifetimes.label(trace, object_ref);
    let who = format!("{}{}", process.pid, process.comm.as_deref().map(|c| format!(" {c}")).unwrap_or_default());
    let since = if is_wanted { "; others have waited for it in vain since" } else { "" };
    let what = format!(
        "{who} {} with {} of {object}[{number}]: it took {} and gave {} without SEM_UNDO{since}.",
        ended(process.exit_code),
        balance.held(),
        balance.taken,
        balance.given
    );
    let id = object.strip_prefix("sem:").unwrap_or("ID").to_owned();
    let mut finding = Finding {
        kind: "undo_less_death",
        grade: Grade::Likely,
        trace,
        object: Some(object),
        object_ref: Some(object_ref),
        since_ns: Some(exit_ns),
        what,
        remedy: format!(
            "Take and give with SEM_UNDO; now, if nobody holds it: semctl({id}, {number}, SETVAL, …), or ipcrm -s {id} and start anew."
        ),
        doubts: Vec::new(),
        evidence: balance.last_take.map(|(_, call_id)| call_id).into_iter().collect(),
    };
    finding.doubt(opened.doubts(trace, &[Family::Sem]));
    Some(finding)
}

/// How a process ended.
pub fn ended(exit_code: Option<i32>) -> String {
    match exit_code {
        None => "ended".to_owned(),
        Some(code) if code & 0x7f != 0 => format!("was killed by signal {}", code & 0x7f),
        Some(code) => format!("exited with {}", (code >> 8) & 0xff),
    }
}
