//! Who waits for whom, without what it is about: which waits nobody can end, and the circles among them.
//!
//! A wait has needs, and is over when all of them are met. A need is met when those who can give, give enough: a helper
//! gives if it is free, or if one of the waits of its group can end. What is left is the largest set of waits that only each
//! other could end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Gives whatever is needed.
pub const ANY: i64 = i64::MAX;

/// Somebody who could meet a need.
#[derive(Clone, Debug, Default)]
pub struct Helper {
    /// How much it can give.
    pub gives: i64,
    /// Whether nothing keeps it from giving.
    pub is_free: bool,
    /// The number of the group of waits that all keep it from giving; none, and not free: it is dead and never gives.
    pub group: Option<usize>,
}

/// A place where needs are met.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Who gives there; nobody: who could is not known, and no need there is hopeless.
    pub helpers: Vec<Helper>,
}

/// What a wait lacks at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The number of the site.
    pub site: usize,
    /// How much must be given.
    pub lacks: i64,
}

/// Waits and what they need.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The sites.
    pub sites: Vec<Site>,
    /// The groups: the waits of a process, by their numbers. Who helps at many places has one.
    pub groups: Vec<Vec<usize>>,
    /// The needs of each wait; a wait without any is on its way out.
    pub needs: Vec<Vec<Need>>,
}

/// What nobody can end.
#[derive(Clone, Debug)]
pub struct Hopeless {
    /// Per wait.
    pub waits: Vec<bool>,
    /// Per wait and need.
    pub needs: Vec<Vec<bool>>,
    /// Per site and helper: whether it can give.
    pub gives: Vec<Vec<bool>>,
}

/// What is known so far while hope spreads.
struct Spread<'a> {
    graph: &'a Graph,
    found: Hopeless,
    given: Vec<i64>,
    /// Per site the unmet needs, the smallest first: what it lacks, the wait, the need's number.
    unmet: Vec<BinaryHeap<Reverse<(i64, usize, usize)>>>,
    /// Per wait the needs not yet met.
    left: Vec<usize>,
    /// Per wait the groups that it is in.
    groups_of: Vec<Vec<usize>>,
    /// Per group the helpers that it keeps from giving: site and helper.
    keeps: Vec<Vec<(usize, usize)>>,
    ended: Vec<usize>,
}

impl Graph {
    /// Which waits nobody can end. Time and memory grow with the edges.
    pub fn hopeless(&self) -> Hopeless {
        let mut spread = Spread::new(self);
        for (site, of) in self.sites.iter().enumerate() {
            for (helper, one) in of.helpers.iter().enumerate() {
                if one.is_free {
                    spread.give(site, helper);
                }
            }
        }
        while let Some(wait) = spread.ended.pop() {
            for group in std::mem::take(&mut spread.groups_of[wait]) {
                for (site, helper) in std::mem::take(&mut spread.keeps[group]) {
                    spread.give(site, helper);
                }
            }
        }
        spread.found
    }

    /// The groups of waits that wait for each other in a circle, each in the order of the waits.
    pub fn circles(&self, hopeless: &Hopeless) -> Vec<Vec<usize>> {
        let (waits, sites) = (self.needs.len(), self.sites.len());
        let next: Vec<Vec<usize>> = (0..waits)
            .map(|wait| self.hopeless_sites(wait, hopeless).map(|site| waits + site).collect())
            .chain((0..sites).map(|site| self.kept(site, hopeless).map(|group| waits + sites + group).collect()))
            .chain(self.groups.iter().cloned())
            .collect();
        let components = strongly_connected(&next).into_iter().filter(|component| component.len() > 1);
        let only_waits = components.map(|component| {
            let mut circle: Vec<usize> = component.into_iter().filter(|node| *node < waits).collect();
            circle.sort_unstable();
            circle
        });
        let mut circles: Vec<_> = only_waits.collect();
        circles.sort();
        circles
    }

    /// The waits outside `circles` that cannot end before one inside does.
    pub fn behind(&self, hopeless: &Hopeless, circles: &[bool]) -> Vec<bool> {
        let mut groups_of: Vec<Vec<usize>> = vec![Vec::new(); self.needs.len()];
        let mut sites_of: Vec<Vec<usize>> = vec![Vec::new(); self.groups.len()];
        let mut waits_at: Vec<Vec<usize>> = vec![Vec::new(); self.sites.len()];
        for (group, waits) in self.groups.iter().enumerate() {
            waits.iter().for_each(|wait| groups_of[*wait].push(group));
        }
        for site in 0..self.sites.len() {
            self.kept(site, hopeless).for_each(|group| sites_of[group].push(site));
        }
        for wait in 0..self.needs.len() {
            self.hopeless_sites(wait, hopeless).for_each(|site| waits_at[site].push(wait));
        }
        let mut behind = vec![false; self.needs.len()];
        let mut todo: Vec<usize> = (0..circles.len()).filter(|wait| circles[*wait]).collect();
        while let Some(wait) = todo.pop() {
            let groups = std::mem::take(&mut groups_of[wait]).into_iter();
            let sites: Vec<usize> = groups.flat_map(|group| std::mem::take(&mut sites_of[group])).collect();
            for waiting in sites.into_iter().flat_map(|site| std::mem::take(&mut waits_at[site])) {
                if !circles[waiting] && !std::mem::replace(&mut behind[waiting], true) {
                    todo.push(waiting);
                }
            }
        }
        behind
    }

    /// The sites at which a wait is hopeless.
    pub fn hopeless_sites<'a>(&'a self, wait: usize, hopeless: &'a Hopeless) -> impl Iterator<Item = usize> + 'a {
        let of_wait = hopeless.waits[wait].then(|| self.needs[wait].iter().zip(&hopeless.needs[wait]));
        of_wait.into_iter().flatten().filter(|(_, is_hopeless)| **is_hopeless).map(|(need, _)| need.site)
    }

    /// The groups of those who cannot give at a site.
    fn kept<'a>(&'a self, site: usize, hopeless: &'a Hopeless) -> impl Iterator<Item = usize> + 'a {
        let helpers = self.sites[site].helpers.iter().zip(&hopeless.gives[site]);
        helpers.filter(|(_, gives)| !**gives).filter_map(|(helper, _)| helper.group)
    }
}

impl<'a> Spread<'a> {
    fn new(graph: &'a Graph) -> Spread<'a> {
        let waits = graph.needs.len();
        let mut spread = Spread {
            graph,
            found: Hopeless {
                waits: vec![true; waits],
                needs: graph.needs.iter().map(|needs| vec![true; needs.len()]).collect(),
                gives: graph.sites.iter().map(|site| vec![false; site.helpers.len()]).collect(),
            },
            given: vec![0; graph.sites.len()],
            unmet: vec![BinaryHeap::new(); graph.sites.len()],
            left: graph.needs.iter().map(Vec::len).collect(),
            groups_of: vec![Vec::new(); waits],
            keeps: vec![Vec::new(); graph.groups.len()],
            ended: Vec::new(),
        };
        spread.note_groups();
        for (wait, needs) in graph.needs.iter().enumerate() {
            for (number, need) in needs.iter().enumerate() {
                spread.unmet[need.site].push(Reverse((need.lacks, wait, number)));
            }
            if needs.is_empty() {
                spread.end(wait);
            }
        }
        for (site, of) in graph.sites.iter().enumerate() {
            if of.helpers.is_empty() {
                spread.meet(site, ANY);
            }
        }
        spread
    }

    fn note_groups(&mut self) {
        for (group, waits) in self.graph.groups.iter().enumerate() {
            waits.iter().for_each(|wait| self.groups_of[*wait].push(group));
        }
        for (site, of) in self.graph.sites.iter().enumerate() {
            for (helper, one) in of.helpers.iter().enumerate() {
                one.group.into_iter().for_each(|group| self.keeps[group].push((site, helper)));
            }
        }
    }

    fn give(&mut self, site: usize, helper: usize) {
        if !std::mem::replace(&mut self.found.gives[site][helper], true) {
            self.meet(site, self.graph.sites[site].helpers[helper].gives);
        }
    }

    fn meet(&mut self, site: usize, amount: i64) {
        self.given[site] = self.given[site].saturating_add(amount);
        while let Some(Reverse((lacks, wait, number))) = self.unmet[site].peek().copied()
            && lacks <= self.given[site]
        {
            self.unmet[site].pop();
            self.found.needs[wait][number] = false;
            self.left[wait] -= 1;
            if self.left[wait] == 0 {
                self.end(wait);
            }
        }
    }

    fn end(&mut self, wait: usize) {
        self.found.waits[wait] = false;
        self.ended.push(wait);
    }
}

/// Not visited yet.
const UNSEEN: usize = usize::MAX;

/// Tarjan's algorithm with a stack of its own: a chain of waits may be as long as there are threads.
struct Tarjan<'a> {
    next: &'a [Vec<usize>],
    index: Vec<usize>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    /// Nodes entered and not left, each with the number of its next edge.
    path: Vec<(usize, usize)>,
    visited: usize,
    components: Vec<Vec<usize>>,
}

/// The strongly connected components.
fn strongly_connected(next: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let nodes = next.len();
    let mut tarjan = Tarjan {
        next,
        index: vec![UNSEEN; nodes],
        low: vec![0; nodes],
        on_stack: vec![false; nodes],
        stack: Vec::new(),
        path: Vec::new(),
        visited: 0,
        components: Vec::new(),
    };
    for node in 0..nodes {
        if tarjan.index[node] == UNSEEN {
            tarjan.walk_from(node);
        }
    }
    tarjan.components
}

impl Tarjan<'_> {
    fn walk_from(&mut self, root: usize) {
        self.enter(root);
        while let Some((node, edge)) = self.path.last_mut() {
            let node = *node;
            let Some(other) = self.next[node].get(*edge).copied() else {
                self.path.pop();
                self.leave(node);
                continue;
            };
            *edge += 1;
            if self.index[other] == UNSEEN {
                self.enter(other);
            } else if self.on_stack[other] {
                self.low[node] = self.low[node].min(self.index[other]);
            }
        }
    }

    fn enter(&mut self, node: usize) {
        self.index[node] = self.visited;
        self.low[node] = self.visited;
        self.visited += 1;
        self.stack.push(node);
        self.on_stack[node] = true;
        self.path.push((node, 0));
    }

    fn leave(&mut self, node: usize) {
        if let Some((above, _)) = self.path.last() {
            self.low[*above] = self.low[*above].min(self.low[node]);
        }
        if self.low[node] == self.index[node] {
            let from = self.stack.iter().rposition(|member| *member == node).unwrap_or(0);
            let component = self.stack.split_off(from);
            component.iter().for_each(|member| self.on_stack[*member] = false);
            self.components.push(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator that is the same everywhere (splitmix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % bound as u64) as usize
        }
    }

    fn random_graph(random: &mut Random) -> Graph {
        let (waits, sites, groups) = (1 + random.below(6), 1 + random.below(5), 1 + random.below(6));
        let helper = |random: &mut Random| Helper {
            gives: if random.below(4) == 0 { ANY } else { 1 + random.below(3) as i64 },
            is_free: random.below(9) == 0,
            group: (random.below(5) > 0).then(|| random.below(groups)),
        };
        let site = |random: &mut Random| Site { helpers: (0..random.below(4)).map(|_| helper(random)).collect() };
        let need = |random: &mut Random| Need { site: random.below(sites), lacks: 1 + random.below(4) as i64 };
        Graph {
            sites: (0..sites).map(|_| site(random)).collect(),
            groups: (0..groups).map(|_| (0..1 + random.below(2)).map(|_| random.below(waits)).collect()).collect(),
            needs: (0..waits).map(|_| (0..random.below(3)).map(|_| need(random)).collect()).collect(),
        }
    }

    /// Whether no wait of the set can end while all others have ended.
    fn is_closed(graph: &Graph, is_in: impl Fn(usize) -> bool) -> bool {
        let can_give = |helper: &Helper| {
            helper.is_free || helper.group.is_some_and(|group| graph.groups[group].iter().any(|wait| !is_in(*wait)))
        };
        let is_met = |need: &Need| {
            let helpers = &graph.sites[need.site].helpers;
            let given = helpers.iter().filter(|h| can_give(h)).fold(0i64, |sum, h| sum.saturating_add(h.gives));
            helpers.is_empty() || given >= need.lacks
        };
        (0..graph.needs.len()).filter(|wait| is_in(*wait)).all(|wait| graph.needs[wait].iter().any(|n| !is_met(n)))
    }

    #[test]
    fn hopeless_is_the_largest_closed_set() {
        let mut random = Random(20_261_122);
        let mut sizes = [0; 7];
        for _ in 0..20_000 {
            let graph = random_graph(&mut random);
            let waits = graph.needs.len();
            let closed = (0..1u32 << waits).filter(|set| is_closed(&graph, |wait| set >> wait & 1 == 1));
            // The union of closed sets is closed.
            let largest = closed.fold(0, |union, set| union | set);
            let hopeless = graph.hopeless().waits;
            assert_eq!(hopeless, (0..waits).map(|wait| largest >> wait & 1 == 1).collect::<Vec<_>>(), "{graph:?}");
            sizes[largest.count_ones() as usize] += 1;
        }
        assert!(sizes.iter().all(|count| *count > 10), "the graphs are too much alike: {sizes:?}");
    }

    #[test]
    fn circles_are_the_waits_that_reach_each_other() {
        let mut random = Random(7);
        for _ in 0..20_000 {
            let graph = random_graph(&mut random);
            let hopeless = graph.hopeless();
            let waits = graph.needs.len();
            let mut reaches = vec![vec![false; waits]; waits];
            for (from, reached) in reaches.iter_mut().enumerate() {
                let sites: Vec<usize> = graph.hopeless_sites(from, &hopeless).collect();
                let groups = sites.iter().flat_map(|site| graph.kept(*site, &hopeless));
                groups.flat_map(|group| &graph.groups[group]).for_each(|to| reached[*to] = true);
            }
            for via in 0..waits {
                for from in 0..waits {
                    for to in 0..waits {
                        reaches[from][to] |= reaches[from][via] && reaches[via][to];
                    }
                }
            }
            let mut expected: Vec<Vec<usize>> = (0..waits)
                .filter(|wait| reaches[*wait][*wait])
                .map(|wait| (0..waits).filter(|other| reaches[wait][*other] && reaches[*other][wait]).collect())
                .collect();
            expected.sort();
            expected.dedup();
            assert_eq!(graph.circles(&hopeless), expected, "{graph:?}");
        }
    }

    #[test]
    fn a_ring_of_a_hundred_thousand_needs_no_deep_stack() {
        let count = 100_000;
        let site = |group: usize| Site { helpers: vec![Helper { gives: 1, is_free: false, group: Some(group) }] };
        let graph = Graph {
            sites: (0..count).map(|i| site((i + 1) % count)).collect(),
            groups: (0..count).map(|wait| vec![wait]).collect(),
            needs: (0..count).map(|site| vec![Need { site, lacks: 1 }]).collect(),
        };
        assert_eq!(graph.circles(&graph.hopeless()), [(0..count).collect::<Vec<_>>()]);
    }
}
