//! The waits, the sites and who is in whose way: what the graph is made of.

use super::Place;
use super::graph::{Graph, Helper, Need, Site as GraphSite};
use super::known::Known;
use super::sites::{How, Party, Site};
use super::waits::{Lack, Wait};
use hashbrown::HashMap;

/// Whose threads must all wait for a holder to be kept from giving back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strictness {
    /// Those of its process: what it holds belongs to the process.
    Process,
    /// Those that took the semaphore: who takes a lock gives it back.
    Takers,
}

/// All that is known at the moment.
#[derive(Debug)]
pub struct State {
    /// What the trace says.
    pub known: Known,
    /// The sites.
    pub sites: Vec<Site>,
    /// Per wait what it needs.
    pub needs: Vec<Vec<Need>>,
    /// The wait of each thread.
    of_threads: HashMap<(usize, i64), usize>,
}

impl State {
    /// Finds the sites and the needs.
    pub fn new(known: Known) -> State {
        let mut numbers: HashMap<(Place, Lack), usize> = HashMap::new();
        let mut sites = Vec::new();
        for at in known.waits.iter().flat_map(Wait::places) {
            numbers.entry(at).or_insert_with(|| {
                sites.push(Site::new(&known, at.0, at.1));
                sites.len() - 1
            });
        }
        let of_threads = known.waits.iter().enumerate().map(|(i, wait)| ((wait.trace, wait.thread_id), i)).collect();
        let mut state = State { known, sites, needs: Vec::new(), of_threads };
        state.needs = state.known.waits.iter().map(|wait| state.needs_of(wait, &numbers)).collect();
        state
    }

    /// What keeps a wait from ending; nothing if it is on its way out, or if that is not known.
    fn needs_of(&self, wait: &Wait, numbers: &HashMap<(Place, Lack), usize>) -> Vec<Need> {
        let Some(object_ref) = wait.object_ref.filter(|_| self.known.goes_on(wait)) else { return Vec::new() };
        if wait.queue_lack().is_some() {
            let sites = wait.places().into_iter().filter_map(|at| numbers.get(&at).copied());
            let blocked = sites.filter(|site| self.is_blocked_at_queue(wait, &self.sites[*site]));
            return blocked.map(|site| Need { site, lacks: 1 }).collect();
        }
        let mut needs: Vec<Need> = Vec::new();
        let mut added: HashMap<i32, i64> = HashMap::new();
        for (number, operation, _) in &wait.operations {
            let lack = if *operation < 0 { Lack::Semaphore } else { Lack::Zero };
            let earlier = added.get(number).copied().unwrap_or(0);
            if *operation <= 0
                && let Some(site) = numbers.get(&((wait.trace, object_ref, *number), lack)).copied()
                && let Some(lacks) = lacks(value_for(&self.sites[site], wait), earlier, (*operation).into())
                && needs.iter().all(|need| need.site != site)
            {
                needs.push(Need { site, lacks });
            }
            added.insert(*number, earlier.saturating_add((*operation).into()));
        }
        needs.retain(|need| is_counted(wait, &self.sites[need.site], wait.operations_total));
        needs
    }

    fn is_blocked_at_queue(&self, wait: &Wait, site: &Site) -> bool {
        match (site.lack, value_for(site, wait)) {
            // Another type may be what it asks for.
            (Lack::Message, Some(1..)) => wait.msg_type != 0,
            (Lack::Room, Some(0)) => false,
            _ => true,
        }
    }

    /// The graph of the needs.
    pub fn graph(&self, strictness: Strictness) -> Graph {
        let mut groups = Groups { state: self, groups: Vec::new(), of_processes: HashMap::new() };
        let mut sites = Vec::with_capacity(self.sites.len());
        for site in &self.sites {
            let helpers = site.parties.iter().map(|party| groups.helper(site, party, strictness)).collect();
            sites.push(GraphSite { helpers });
        }
        Graph { sites, groups: groups.groups, needs: self.needs.clone() }
    }

    /// The waits of threads; `None` if one of them does not wait.
    fn waits_of(&self, trace: usize, threads: &[i64]) -> Option<Vec<usize>> {
        threads.iter().map(|thread| self.of_threads.get(&(trace, *thread)).copied()).collect()
    }
}

/// The groups of waits, one per process.
struct Groups<'a> {
    state: &'a State,
    groups: Vec<Vec<usize>>,
    /// `None`: a thread of it does not wait.
    of_processes: HashMap<(usize, i64), Option<usize>>,
}

impl Groups<'_> {
    fn helper(&mut self, site: &Site, party: &Party, strictness: Strictness) -> Helper {
        let trace = site.place.0;
        let free = Helper { gives: party.gives, is_free: true, group: None };
        let Some(process_id) = party.process_id else { return free };
        if party.is_gone {
            // What a dead process holds nobody gives back; where others came and went, more may come.
            let is_free = !party.how.is_hold() && party.how != How::Taker;
            return Helper { is_free, ..free };
        }
        if strictness == Strictness::Takers
            && party.how.is_hold()
            && !party.takers.is_empty()
            && let Some(waits) = self.state.waits_of(trace, &party.takers)
        {
            self.groups.push(waits);
            return Helper { is_free: false, group: Some(self.groups.len() - 1), ..free };
        }
        match self.of_process(trace, process_id) {
            Some(group) => Helper { is_free: false, group: Some(group), ..free },
            None => free,
        }
    }

    fn of_process(&mut self, trace: usize, process_id: i64) -> Option<usize> {
        let process = (trace, process_id);
        if let Some(known) = self.of_processes.get(&process) {
            return *known;
        }
        let threads = self.state.known.living.get(&process).filter(|threads| !threads.is_empty());
        let group = threads.and_then(|threads| self.state.waits_of(trace, threads)).map(|waits| {
            self.groups.push(waits);
            self.groups.len() - 1
        });
        self.of_processes.insert(process, group);
        group
    }
}

/// A site's value if it is of a time when the call waited.
fn value_for(site: &Site, wait: &Wait) -> Option<i64> {
    let is_stale = site.snapshot_ns.is_some_and(|ns| ns < wait.start_ns);
    site.seen.filter(|_| !is_stale).or(site.left)
}

/// What an operation lacks, `None` if it can go on: the operations before it have `added` to the value.
fn lacks(value: Option<i64>, added: i64, operation: i64) -> Option<i64> {
    // A call waits for something: where the value is not known it is taken for what is in the way.
    let Some(value) = value else { return Some(operation.saturating_neg().max(1)) };
    let value = value.saturating_add(added);
    match operation {
        0 => (value != 0).then_some(1),
        _ => Some(operation.saturating_neg().saturating_sub(value)).filter(|lacks| *lacks > 0),
    }
}

/// Whether the kernel counts somebody who waits for the semaphore, as far as that was looked at. Of a call with several
/// operations it counts the first that is in the way.
fn is_counted(wait: &Wait, site: &Site, operations: i32) -> bool {
    let was_looked_at = site.snapshot_ns.is_some_and(|ns| ns >= wait.start_ns);
    !(operations == 1 && site.lack == Lack::Semaphore && was_looked_at && site.had_waiters == Some(false))
}
