//! The circles: which of them are deadlocks, how sure that is, and since when.

use super::doubts;
use super::graph::{Graph, Hopeless};
use super::sites::{How, Site};
use super::state::{State, Strictness};
use super::waits::Wait;
use super::words;
use crate::finding::{EVIDENCE_MAX, Finding, Grade};
use crate::opened::Opened;
use hashbrown::HashSet;
use ipc_schema::catalogue::Family;

/// Where it is not told who holds what, a hand-over under way looks like a circle: a call that was ended may take this
/// long to return.
pub const HAND_OVER_NS: i64 = 100_000_000;

/// Edges kept of one circle: they are for its words and its grade, not for finding it.
const ARCS_MAX: usize = 200_000;
/// Waits kept of one edge: a process with many threads has many.
const NEXT_MAX: usize = 16;

/// An edge of a circle.
#[derive(Clone, Debug)]
pub struct Arc {
    /// Who waits.
    pub wait: usize,
    /// Where.
    pub site: usize,
    /// For whom, by its number at the site.
    pub party: usize,
    /// The waits that keep the party from giving, [`NEXT_MAX`] at most.
    pub next: Vec<usize>,
}

/// Waits that only each other could end.
#[derive(Clone, Debug)]
pub struct Circle {
    /// The waits, each before the one that it waits for, the oldest first.
    pub waits: Vec<usize>,
    /// The edges.
    pub arcs: Vec<Arc>,
    /// Whose threads were looked at.
    pub strictness: Strictness,
}

/// All circles.
#[derive(Debug)]
pub struct Circles {
    /// Those that are deadlocks.
    pub found: Vec<Circle>,
    /// Per wait: whether it is in one of them.
    pub in_circle: Vec<bool>,
    /// Per wait: whether it cannot end before one of them does.
    pub is_behind: Vec<bool>,
    /// Per site and party: whether it could give.
    pub gives: Vec<Vec<bool>>,
}

impl Circles {
    /// Finds them: first where all threads of each process wait, then where those do that took the semaphores.
    pub fn find(state: &State) -> Circles {
        let waits = state.known.waits.len();
        let mut circles = Circles {
            found: Vec::new(),
            in_circle: vec![false; waits],
            is_behind: vec![false; waits],
            gives: Vec::new(),
        };
        for strictness in [Strictness::Process, Strictness::Takers] {
            let graph = state.graph(strictness);
            let hopeless = graph.hopeless();
            for members in graph.circles(&hopeless) {
                if members.iter().any(|wait| circles.in_circle[*wait]) {
                    continue;
                }
                let circle = Circle::new(&graph, &hopeless, &members, strictness);
                if circle.is_deadlock(state) {
                    members.iter().for_each(|wait| circles.in_circle[*wait] = true);
                    circles.found.push(circle);
                }
            }
            if strictness == Strictness::Process {
                circles.gives = hopeless.gives.clone();
            }
            let behind = graph.behind(&hopeless, &circles.in_circle);
            circles.is_behind.iter_mut().zip(behind).for_each(|(is_behind, now)| *is_behind |= now);
        }
        circles
    }

    /// The calls of all circles, with their traces.
    pub fn calls<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (usize, i64)> + 'a {
        self.found.iter().flat_map(|circle| circle.members(state)).map(|wait| (wait.trace, wait.call_id))
    }

    /// Forgets the circles that have one of `calls`.
    pub fn leave_out(&mut self, state: &State, calls: &HashSet<(usize, i64)>) {
        self.found.retain(|circle| circle.members(state).all(|wait| !calls.contains(&(wait.trace, wait.call_id))));
    }

    /// The findings.
    pub fn findings(&self, opened: &Opened, state: &State) -> Vec<Finding> {
        self.found.iter().filter_map(|circle| circle.finding(opened, state)).collect()
    }
}

impl Circle {
    fn new(graph: &Graph, hopeless: &Hopeless, members: &[usize], strictness: Strictness) -> Circle {
        let inside: HashSet<usize> = members.iter().copied().collect();
        let mut arcs = Vec::new();
        for wait in members {
            for site in graph.hopeless_sites(*wait, hopeless) {
                for (party, helper) in graph.sites[site].helpers.iter().enumerate() {
                    let group = helper.group.map_or(&[][..], |group| &graph.groups[group][..]);
                    let next = group.iter().copied().filter(|wait| inside.contains(wait));
                    let next: Vec<usize> = next.take(NEXT_MAX).collect();
                    if !hopeless.gives[site][party] && !next.is_empty() && arcs.len() < ARCS_MAX {
                        arcs.push(Arc { wait: *wait, site, party, next });
                    }
                }
            }
        }
        Circle { waits: members.to_vec(), arcs, strictness }.in_order()
    }

    /// Follows the edges from the first wait: a ring reads in its order.
    fn in_order(mut self) -> Circle {
        let mut left: HashSet<usize> = self.waits.iter().copied().collect();
        let mut order = Vec::with_capacity(self.waits.len());
        for start in &self.waits {
            let mut next = Some(*start);
            while let Some(wait) = next.filter(|wait| left.remove(wait)) {
                order.push(wait);
                let first = self.arcs.partition_point(|arc| arc.wait < wait);
                let arcs = self.arcs[first..].iter().take_while(|arc| arc.wait == wait);
                next = arcs.flat_map(|arc| &arc.next).copied().find(|wait| left.contains(wait));
            }
        }
        self.waits = order;
        self
    }

    /// Whether each wait waits for exactly one other: a ring, that reads as one sentence.
    pub fn is_ring(&self) -> bool {
        self.arcs.len() == self.waits.len() && self.arcs.iter().all(|arc| arc.next.len() == 1)
    }

    fn sites<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Site> {
        self.arcs.iter().filter_map(|arc| state.sites.get(arc.site))
    }

    /// The waits.
    pub fn members<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Wait> {
        self.waits.iter().filter_map(|wait| state.known.waits.get(*wait))
    }

    fn ways<'a>(&'a self, state: &'a State) -> impl Iterator<Item = How> + 'a {
        self.arcs.iter().map(|arc| state.sites[arc.site].parties[arc.party].how)
    }

    /// Leaves out what only looks like a deadlock: a process that waits for units that it has used up itself, and a
    /// hand-over under way.
    fn is_deadlock(&self, state: &State) -> bool {
        let mut ways = self.ways(state);
        let is_told = ways.all(|how| matches!(how, How::Undo | How::LastPid));
        if self.waits.len() == 1 {
            let is_mutex = self.sites(state).all(|site| site.capacity.is_none_or(|capacity| capacity == 1));
            return is_mutex && self.ways(state).all(|how| how == How::Undo);
        }
        let begun = self.members(state).filter(|wait| !wait.before_trace).map(|wait| wait.start_ns);
        let newest = begun.chain(self.sites(state).filter_map(|site| site.last_ns)).max();
        let Some(first) = self.members(state).next() else { return false };
        let at_ns = state.known.moments.at_ns(first.trace);
        is_told || newest.is_none_or(|ns| at_ns.saturating_sub(ns) >= HAND_OVER_NS)
    }

    fn finding(&self, opened: &Opened, state: &State) -> Option<Finding> {
        let first = self.members(state).next()?;
        let since_ns = self.members(state).map(|wait| wait.start_ns).max();
        let mut finding = Finding {
            kind: "deadlock",
            grade: self.grade(state),
            trace: first.trace,
            object: Some(first.object.clone()),
            object_ref: first.object_ref,
            since_ns,
            what: words::what(state, self),
            remedy: words::remedy(opened, state, self),
            doubts: Vec::new(),
            evidence: self.evidence(state),
        };
        finding.doubt(doubts::doubts(state, self, self.strictness == Strictness::Takers));
        finding.doubt(opened.doubts(first.trace, &self.families(state)));
        finding.doubt(doubts::lost_details(opened, first.trace));
        Some(finding)
    }

    /// The grade before any doubt.
    fn grade(&self, state: &State) -> Grade {
        let is_suspect = self.arcs.iter().any(|arc| {
            let site = &state.sites[arc.site];
            let how = site.parties[arc.party].how;
            let is_guess = how == How::Opener || (site.is_late && !how.is_hold());
            is_guess || (self.strictness == Strictness::Takers && how != How::Undo)
        });
        let is_certain = self.strictness == Strictness::Process
            && self.arcs.len() == self.waits.len()
            && self.ways(state).all(|how| how == How::Undo)
            && self.sites(state).all(|site| site.parties.len() == 1 && site.capacity == Some(1))
            && self.members(state).all(|wait| wait.operations_total == 1);
        match (is_suspect, is_certain) {
            (true, _) => Grade::Suspect,
            (_, true) => Grade::Certain,
            _ => Grade::Likely,
        }
    }

    fn families(&self, state: &State) -> Vec<Family> {
        let family = |wait: &Wait| match wait.syscall {
            "msgsnd" | "msgrcv" => Family::Msg,
            "mq_timedsend" | "mq_timedreceive" => Family::Mq,
            _ => Family::Sem,
        };
        let mut families: Vec<Family> = self.members(state).map(family).collect();
        families.dedup();
        families
    }

    /// The waits, then the calls that took what they wait for.
    fn evidence(&self, state: &State) -> Vec<i64> {
        let taken = self.arcs.iter().filter_map(|arc| state.sites[arc.site].parties[arc.party].call_id);
        let mut seen = HashSet::new();
        let all = self.members(state).map(|wait| wait.call_id).chain(taken);
        all.filter(|call_id| seen.insert(*call_id)).take(EVIDENCE_MAX).collect()
    }
}
