//! Findings `undo_less_death`: a process ended with a semaphore that it had taken without SEM_UNDO.

use super::balance::{self, Balance, Semaphore, Use};
use super::more;
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::names::{Lifetimes, Process, Processes};
use crate::opened::Opened;
use ipc_schema::catalogue::Family;

/// Findings that are told; the last one says how many more there are.
const FINDINGS_MAX: usize = 100;

/// Finds them.
///
/// # Errors
/// A part that cannot be believed.
pub fn find(opened: &Opened) -> Result<Vec<Finding>, Error> {
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
    for (semaphore, of) in &uses {
        let (trace, object_ref, _) = *semaphore;
        let maker = lifetimes.get(trace, object_ref).and_then(|lifetime| lifetime.created_by);
        if of.is_supplied(maker) {
            continue;
        }
        for (process_id, balance) in &of.takers {
            let Some(process) = processes.get(trace, *process_id) else { continue };
            findings.extend(finding(opened, *semaphore, of, (process, balance), &lifetimes));
        }
    }
    let rest = findings.len().saturating_sub(FINDINGS_MAX) as u64;
    findings.truncate(FINDINGS_MAX);
    findings.extend(more("undo_less_death", rest, "processes ended with a semaphore"));
    Ok(findings)
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
