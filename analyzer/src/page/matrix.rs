//! Who waits for whom, as a square: rows wait, columns end the wait.

use super::grid::Collected;
use super::scale;
use crate::human;
use hashbrown::{HashMap, HashSet};
use std::cmp::Reverse;

/// Names that are told apart on each side; the rest is one.
const SHOWN: usize = 14;
const REST: &str = "others";
const NOBODY: &str = "nobody known";

/// The square.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Who ends waits.
    pub wakers: Vec<String>,
    /// Who waits, and for how long for each of those.
    pub rows: Vec<(String, Vec<Cell>)>,
    /// Pairs that are not in it: those with the shortest waits.
    pub more: usize,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// How dark, from 0 to 6.
    pub shade: u32,
    /// The time, empty for none.
    pub time: String,
    /// How often.
    pub waits: String,
}

impl Matrix {
    /// From the pairs of `contention`: by the names of threads if there are several, else by process; `None` without any.
    pub fn new(contention: &Collected) -> Option<Matrix> {
        let comms = contention.rows("pair").flat_map(|pair| [pair.text("comm"), pair.text("waker_comm")]).flatten();
        let has_names = comms.collect::<HashSet<_>>().len() > 1;
        let (waiter, waker) = if has_names { ("comm", "waker_comm") } else { ("waiter", "waker") };
        let mut sums: HashMap<(&str, &str), (i128, i128)> = HashMap::new();
        for pair in contention.rows("pair") {
            let names =
                (pair.text(waiter).unwrap_or("?"), pair.text(waker).filter(|name| *name != "-").unwrap_or(NOBODY));
            let sum = sums.entry(names).or_default();
            sum.0 += i128::from(pair.int("wait_total_ns").unwrap_or(0));
            sum.1 += i128::from(pair.int("waits").unwrap_or(0));
        }
        if sums.is_empty() {
            return None;
        }
        let waiters = longest(sums.iter().map(|((waiter, _), (ns, _))| (*waiter, *ns)));
        let wakers = longest(sums.iter().map(|((_, waker), (ns, _))| (*waker, *ns)));
        let place =
            |names: &[&str], name: &str| names.iter().position(|known| *known == name).unwrap_or(names.len() - 1);
        let mut cells = vec![vec![(0i128, 0i128); wakers.len()]; waiters.len()];
        for ((waiter, waker), (ns, waits)) in &sums {
            let cell = &mut cells[place(&waiters, waiter)][place(&wakers, waker)];
            *cell = (cell.0 + ns, cell.1 + waits);
        }
        let most = cells.iter().flatten().map(|(ns, _)| *ns).max().unwrap_or(0);
        let cell = |(ns, waits): &(i128, i128)| Cell {
            shade: scale::shade(ns.unsigned_abs(), most.unsigned_abs()),
            time: if *waits == 0 { String::new() } else { human::duration(*ns) },
            waits: human::counted(*waits, "wait"),
        };
        let rows = waiters.iter().zip(&cells);
        Some(Matrix {
            wakers: wakers.iter().map(|name| human::escape(name)).collect(),
            rows: rows.map(|(name, row)| (human::escape(name), row.iter().map(cell).collect())).collect(),
            more: contention.more("pair"),
        })
    }
}

/// The names with the longest times; the last one stands for all that are left.
fn longest<'a>(times: impl Iterator<Item = (&'a str, i128)>) -> Vec<&'a str> {
    let mut sums: HashMap<&str, i128> = HashMap::new();
    times.for_each(|(name, ns)| *sums.entry(name).or_default() += ns);
    let mut names: Vec<(&str, i128)> = sums.into_iter().collect();
    names.sort_by_key(|(name, ns)| (Reverse(*ns), *name));
    let is_too_long = names.len() > SHOWN;
    let mut names: Vec<&str> = names.into_iter().take(SHOWN).map(|(name, _)| name).collect();
    names.extend(is_too_long.then_some(REST));
    names
}
