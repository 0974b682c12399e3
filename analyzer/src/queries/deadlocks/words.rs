//! A circle in words.

use super::QUEUE;
use super::circle::{Arc, Circle};
use super::graph::ANY;
use super::sites::{How, Party, Site};
use super::state::State;
use super::waits::{End, Lack, Wait};
use crate::human::{self, Zone};
use crate::opened::Opened;

/// Waits named in a sentence at most.
const NAMED_MAX: usize = 8;

/// The circle in one sentence or two.
pub fn what(state: &State, circle: &Circle) -> String {
    let text = if circle.is_ring() { ring(state, circle) } else { knot(state, circle) };
    format!("{text}{}", end(state, circle))
}

/// How it ended, if it did.
fn end(state: &State, circle: &Circle) -> String {
    let ends = circle.members(state).filter_map(|wait| Some((wait.ended?, wait)));
    let Some((ended, wait)) = ends.min_by_key(|(ended, _)| ended.ns) else { return String::new() };
    let why = match ended.by {
        End::Killed => format!("{} was killed", waiter(wait)),
        End::Removed => format!("{} was removed", wait.object),
        End::Returned => format!("{} could go on", waiter(wait)),
    };
    let lasted = circle.members(state).map(|wait| wait.start_ns).max().map_or(0, |ns| ended.ns.saturating_sub(ns));
    format!("; that ended after {}, when {why}", human::duration(lasted.into()))
}

/// `1234 worker waits for sem:5[0], held by 1235 worker (SEM_UNDO, since …), which waits for …`.
fn ring(state: &State, circle: &Circle) -> String {
    let waits = &state.known.waits;
    let mut text = circle.waits.first().map(|wait| waiter(&waits[*wait])).unwrap_or_default();
    for (number, wait) in circle.waits.iter().enumerate() {
        if number == NAMED_MAX && circle.waits.len() > NAMED_MAX {
            let more = circle.waits.len() - number;
            return format!("{text}, and so on over {more} more, back to the first");
        }
        let Some(arc) = arcs_of(circle, *wait).next() else { continue };
        let which = if number > 0 { ", which" } else { "" };
        text += &format!("{which} waits for {}, {}", thing(state, arc.site), by(state, arc));
    }
    if circle.waits.len() == 1 { format!("{text}: itself") } else { text }
}

fn knot(state: &State, circle: &Circle) -> String {
    let sentence = |wait: &usize| {
        let mut sites: Vec<usize> = arcs_of(circle, *wait).map(|arc| arc.site).collect();
        sites.dedup();
        let things = sites.iter().map(|site| {
            let parties = arcs_of(circle, *wait).filter(|arc| arc.site == *site);
            let names: Vec<String> = parties.take(NAMED_MAX).map(|arc| by(state, arc)).collect();
            format!("{}, {}", thing(state, *site), names.join(" and "))
        });
        format!("{} waits for {}", waiter(&state.known.waits[*wait]), things.collect::<Vec<_>>().join(" and for "))
    };
    let mut sentences: Vec<String> = circle.waits.iter().take(NAMED_MAX).map(sentence).collect();
    if let Some(more @ 1..) = circle.waits.len().checked_sub(NAMED_MAX) {
        sentences.push(format!("and {more} more"));
    }
    format!("{} calls that only each other could end: {}", circle.waits.len(), sentences.join("; "))
}

fn arcs_of(circle: &Circle, wait: usize) -> impl Iterator<Item = &Arc> {
    circle.arcs.iter().filter(move |arc| arc.wait == wait)
}

/// `1234 worker`, `1234/1240 worker` for a thread that is not the first.
pub fn waiter(wait: &Wait) -> String {
    match wait.pid == wait.tid {
        true => format!("{} {}", wait.pid, wait.comm),
        false => format!("{}/{} {}", wait.pid, wait.tid, wait.comm),
    }
}

/// `sem:5[0]`, `a message in mq:/jobs`.
fn thing(state: &State, site: usize) -> String {
    let site = &state.sites[site];
    let name = place(state, site);
    match site.lack {
        Lack::Semaphore => name,
        Lack::Zero => format!("{name} to be 0"),
        Lack::Message => format!("a message in {name}"),
        Lack::Room => format!("room in {name}"),
    }
}

/// `sem:5[0]`, `mq:/jobs`.
pub fn place(state: &State, site: &Site) -> String {
    let (trace, object_ref, number) = site.place;
    let object = state.known.lifetimes.label(trace, object_ref);
    if number == QUEUE { object } else { format!("{object}[{number}]") }
}

fn by(state: &State, arc: &Arc) -> String {
    let site = &state.sites[arc.site];
    let party = &site.parties[arc.party];
    let single = match arc.next[..] {
        [wait] => Some(waiter(&state.known.waits[wait])),
        _ => None,
    };
    let who = single.unwrap_or_else(|| process(state, site, party));
    let since = party.since_ns.map(|ns| format!(", since {}", human::time_of_day(ns, Zone::Utc))).unwrap_or_default();
    let units = if party.gives > 1 && party.gives != ANY { format!("{} of it ", party.gives) } else { String::new() };
    match party.how {
        How::Undo => format!("{units}held by {who} (SEM_UNDO{since})"),
        How::Balance => format!("{units}held by {who} (by what it took and gave{since})"),
        How::LastPid => format!("last changed by {who}"),
        How::Giver => format!("given by {who}"),
        How::Setter => format!("set by {who}"),
        How::Taker => format!("taken by {who}"),
        How::Sender => format!("sent to by {who}"),
        How::Receiver => format!("received from by {who}"),
        How::Opener => format!("opened by {who}"),
        How::Others => "used by others".to_owned(),
    }
}

pub fn process(state: &State, site: &Site, party: &Party) -> String {
    party.process_id.map_or_else(|| "others".to_owned(), |id| state.known.processes.label(site.place.0, id))
}

/// What to do next.
pub fn remedy(opened: &Opened, state: &State, circle: &Circle) -> String {
    let first_arc = circle.waits.first().and_then(|wait| arcs_of(circle, *wait).next());
    let Some(arc) = first_arc else { return String::new() };
    let site = &state.sites[arc.site];
    let party = &site.parties[arc.party];
    let is_semaphores = circle.arcs.iter().all(|arc| state.sites[arc.site].parties[arc.party].how.is_hold());
    let advice = if party.how == How::Undo && circle.waits.len() > 1 {
        let (who, name) = (process(state, site, party), place(state, site));
        format!("ending {who} gives back {name} (SEM_UNDO); for good, take semaphores in the same order everywhere")
    } else if is_semaphores && circle.waits.len() == 1 {
        "it takes a second time what it has not given back: give it back first, or do not take it again".to_owned()
    } else if party.how == How::LastPid {
        "ending one of them gives back what it took with SEM_UNDO; for good, take semaphores in the same order everywhere"
            .to_owned()
    } else if is_semaphores {
        "no death gives back what was taken without SEM_UNDO: end all of them and set the semaphores anew; for good, \
         take semaphores in the same order everywhere"
            .to_owned()
    } else {
        "one of them must act without the others: a timeout, IPC_NOWAIT, or a thread that listens while another sends"
            .to_owned()
    };
    format!("{advice}; see {}", command(opened, state, circle))
}

/// `ipc-analyzer show TRACE --object sem:5,msg:7`.
fn command(opened: &Opened, state: &State, circle: &Circle) -> String {
    let mut objects: Vec<&str> =
        circle.waits.iter().take(NAMED_MAX).map(|wait| state.known.waits[*wait].object.as_str()).collect();
    objects.sort_unstable();
    objects.dedup();
    let trace = circle.waits.first().and_then(|wait| opened.traces.get(state.known.waits[*wait].trace));
    let name = trace.map(|trace| trace.name()).unwrap_or_default();
    format!("`ipc-analyzer show {name} --object {}`", objects.join(","))
}
