//! What could make a circle untrue, or end it all the same.

use super::circle::Circle;
use super::sites::{How, Party, Site};
use super::state::State;
use super::waits::Wait;
use super::words::{place, process, waiter};
use crate::human::{self, Zone};
use crate::opened::Opened;
use hashbrown::HashSet;

/// Doubts told of one circle at most, those of the whole trace aside.
const DOUBTS_MAX: usize = 12;
/// Names in one doubt at most.
const NAMED_MAX: usize = 8;

/// The doubts about a circle, each text once. `takers`: only the threads that took the semaphores were looked at.
pub fn doubts(state: &State, circle: &Circle, takers: bool) -> Vec<String> {
    let waits: Vec<&Wait> = circle.waits.iter().map(|wait| &state.known.waits[*wait]).collect();
    let mut doubts: Vec<String> = waits.iter().filter_map(|wait| gives_up(wait)).collect();
    let several = waits.iter().filter(|wait| wait.operations_total > 1).count();
    if several > 0 {
        let who = human::counted(several as i128, "call");
        doubts.push(format!("{who} with several operations at once: only the values tell which one is in the way"));
    }
    doubts.extend(holds(state, circle));
    let inside: HashSet<i64> = waits.iter().map(|wait| wait.process_id).collect();
    for arc in &circle.arcs {
        let site = &state.sites[arc.site];
        doubts.extend(of_site(state, site));
        doubts.extend(shared_undo(state, site, &site.parties[arc.party]));
        let outside = site.outsiders.iter().filter(|process_id| !inside.contains(*process_id));
        let lives = outside.filter(|process_id| !state.known.is_gone(site.place.0, **process_id));
        doubts.extend(lives.map(|process_id| outsider(state, site, *process_id)));
    }
    if takers {
        let text = "a process in it has threads that do not wait: one of them could give back what another took";
        doubts.push(text.to_owned());
    }
    let mut seen = HashSet::new();
    doubts.retain(|doubt| seen.insert(doubt.clone()));
    if let Some(more @ 1..) = doubts.len().checked_sub(DOUBTS_MAX) {
        doubts.truncate(DOUBTS_MAX);
        doubts.push(format!("and {more} more of this kind"));
    }
    doubts
}

/// A wait that ends by itself.
fn gives_up(wait: &Wait) -> Option<String> {
    let who = waiter(wait);
    match (wait.timeout_ns, wait.deadline_ns) {
        (Some(ns), _) => Some(format!("{who} gives up after {}", human::duration(ns.into()))),
        (None, Some(ns)) => Some(format!("{who} gives up at {}", human::instant(ns, Zone::Utc))),
        (None, None) => None,
    }
}

/// How sure it is who holds what, a text for each way.
fn holds(state: &State, circle: &Circle) -> Vec<String> {
    let places = |is_meant: &dyn Fn(&Site, &Party) -> bool| {
        let sites = circle.arcs.iter().map(|arc| (&state.sites[arc.site], &state.sites[arc.site].parties[arc.party]));
        let mut names: Vec<String> =
            sites.filter(|(site, party)| is_meant(site, party)).map(|(site, _)| place(state, site)).collect();
        names.sort();
        names.dedup();
        listed(&names)
    };
    let by_last_pid = places(&|_, party| party.how == How::LastPid).map(|names| {
        format!("older than the recording: {names}; who holds that is known only from who changed it last")
    });
    let late = places(&|site, party| site.is_late && party.how != How::LastPid)
        .map(|names| format!("older than the recording: {names}; what was done before is not known"));
    let estimated = places(&|_, party| party.how == How::Balance)
        .map(|names| format!("taken without SEM_UNDO: {names}; another process could give it back"));
    [by_last_pid, late, estimated].into_iter().flatten().collect()
}

fn listed(names: &[String]) -> Option<String> {
    let shown = names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED_MAX) {
        _ if names.is_empty() => None,
        Some(more @ 1..) => Some(format!("{shown} and {more} more")),
        _ => Some(shown),
    }
}

/// What is not known of a place.
fn of_site(state: &State, site: &Site) -> Vec<String> {
    let name = place(state, site);
    let mut doubts = Vec::new();
    if let Some((seen, left)) = site.mismatch() {
        doubts.push(format!(
            "{name} is {seen}, the recorded calls leave {left}: something was done that is not recorded"
        ));
    }
    if site.is_lock() && site.capacity.is_none() {
        doubts.push(format!("the value of {name} is not known"));
    }
    if site.overlaps_reset {
        doubts.push(format!("an operation on {name} overlaps a SETVAL or SETALL: which came first is not known"));
    }
    if site.is_incomplete {
        doubts.push(format!("what a call did to {name} could not be copied"));
    }
    if !site.openers.is_empty() && site.parties.iter().all(|party| party.how != How::Opener) {
        doubts.push(format!("{name} is known to {} more, which never sent or received", site.openers.len()));
    }
    doubts
}

fn shared_undo(state: &State, site: &Site, party: &Party) -> Option<String> {
    let shares = party.process_id.is_some_and(|id| state.known.shares_undo.contains(&(site.place.0, id)));
    let who = process(state, site, party);
    (party.how.is_hold() && shares)
        .then(|| format!("{who} was made with CLONE_SYSVSEM: what SEM_UNDO gives back may be another's"))
}

/// Somebody who could end a circle from outside.
fn outsider(state: &State, site: &Site, process_id: i64) -> String {
    let (who, name) = (state.known.processes.label(site.place.0, process_id), place(state, site));
    format!("{who}, which does not wait here, has added to {name} before: it could again")
}

/// Losses that cost no calls, but threads and operations.
pub fn lost_details(opened: &Opened, trace: usize) -> Vec<String> {
    let bears = |source: &str| matches!(source, "records" | "copy_fault" | "not_followed");
    let of = opened.losses.of(trace).filter(|(source, _)| bears(source));
    of.map(|(source, loss)| {
        let count = human::counted(loss.count, "detail");
        format!("{count} lost ({source}): a thread or an operation may not be known")
    })
    .collect()
}
