//! How long calls took over time, by operation: a cell per part of the time and step of the duration.

use super::scale::{self, LEFT, Scale, Tick, WIDTH};
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::human;
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use arrow::array::Array;
use hashbrown::HashMap;
use ipc_schema::catalogue::OPERATIONS;
use ipc_schema::tables::{self, Table};
use std::cmp::Reverse;

/// Parts of the time.
const COLUMNS: i64 = 80;
/// Where steps of the duration begin: 0, 100 ns, 200 ns, 500 ns and on, up to 2,000 s.
const STEPS: usize = 33;
/// Operations that are shown: those that took longest.
const SHOWN: usize = 8;
const ROW_HEIGHT: i64 = 13;
const TOP: i64 = 4;
const AXIS_HEIGHT: i64 = 20;

/// The cells of one operation.
#[derive(Clone, Debug)]
pub struct Heat {
    /// The operation.
    pub name: &'static str,
    /// Height of the drawing.
    pub height: i64,
    /// Where the axis is.
    pub axis_y: i64,
    /// The cells.
    pub cells: Vec<Cell>,
    /// What the steps are called.
    pub labels: Vec<(i64, String)>,
    /// The axis.
    pub ticks: Vec<Tick>,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Where.
    pub x: i64,
    /// Where.
    pub y: i64,
    /// How dark, from 1 to 6.
    pub shade: u32,
    /// What it says when it is pointed at.
    pub text: String,
}

/// Calls by part of the time and step of the duration, and their time in all.
#[derive(Clone, Debug)]
struct Counts {
    cells: Vec<u64>,
    total_ns: i128,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { cells: vec![0; COLUMNS as usize * STEPS], total_ns: 0 }
    }
}

/// Asks the traces.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, scale: &Scale) -> Result<Vec<Heat>, Error> {
    let counts = scan::fold(&opened.traces, &opened.selection, &HeatQuery { scale: *scale })?;
    let mut counts: Vec<(&str, Counts)> = counts.into_iter().collect();
    counts.sort_by(|a, b| (Reverse(a.1.total_ns), a.0).cmp(&(Reverse(b.1.total_ns), b.0)));
    counts.truncate(SHOWN);
    Ok(counts.into_iter().map(|(name, counts)| draw(name, &counts, scale)).collect())
}

/// Where a step begins, nanoseconds.
fn begin_ns(step: usize) -> i64 {
    match step {
        0 => 0,
        _ => [1, 2, 5][(step - 1) % 3] * 100 * 10i64.pow(u32::try_from((step - 1) / 3).unwrap_or(0)),
    }
}

fn step_of(duration_ns: i64) -> usize {
    (1..STEPS).rev().find(|step| begin_ns(*step) <= duration_ns).unwrap_or(0)
}

fn draw(name: &'static str, counts: &Counts, scale: &Scale) -> Heat {
    let count = |column: i64, step: usize| counts.cells[column as usize * STEPS + step];
    let used: Vec<usize> = (0..STEPS).filter(|step| (0..COLUMNS).any(|column| count(column, *step) > 0)).collect();
    let (first, last) = (used.first().copied().unwrap_or(0), used.last().copied().unwrap_or(0));
    let most = counts.cells.iter().copied().max().unwrap_or(0);
    // The longest are above.
    let y = |step: usize| TOP + (last - step) as i64 * ROW_HEIGHT;
    let width_ns = scale.length_ns() / COLUMNS;
    let mut cells = Vec::new();
    for step in first..=last {
        let range = match step + 1 {
            STEPS => format!("{} and more", human::duration(begin_ns(step).into())),
            next => format!("{} to {}", human::duration(begin_ns(step).into()), human::duration(begin_ns(next).into())),
        };
        for column in (0..COLUMNS).filter(|column| count(*column, step) > 0) {
            let at = human::duration(i128::from(width_ns) * i128::from(column));
            let calls = human::counted(count(column, step).into(), "call");
            cells.push(Cell {
                x: LEFT + column * (WIDTH / COLUMNS),
                y: y(step),
                shade: scale::shade(count(column, step).into(), most.into()),
                text: format!("{calls} of {range}, ended +{at}"),
            });
        }
    }
    let labels =
        (first..=last).map(|step| (y(step) + ROW_HEIGHT - 3, human::duration(begin_ns(step).into()))).collect();
    let axis_y = y(first) + ROW_HEIGHT;
    Heat { name, height: axis_y + AXIS_HEIGHT, axis_y, cells, labels, ticks: scale.ticks() }
}

struct HeatQuery {
    scale: Scale,
}

impl Query for HeatQuery {
    type Partial = HashMap<&'static str, Counts>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["syscall", "end_ns", "duration_ns"]
    }

    fn empty(&self) -> Self::Partial {
        HashMap::new()
    }

    fn fold(&self, found: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        let (syscalls, ends, durations) = (batch.text("syscall")?, batch.int64("end_ns")?, batch.int64("duration_ns")?);
        let mut of_syscalls: Vec<Option<Counts>> = Vec::new();
        of_syscalls.resize_with(syscalls.values.len(), || None);
        for row in 0..batch.rows() {
            let ended = int64_at(ends, row).zip(int64_at(durations, row));
            let (Some((end_ns, duration_ns)), Some(syscall)) = (ended, syscalls.index(row)) else { continue };
            let counts = of_syscalls[syscall].get_or_insert_default();
            counts.cells[self.scale.part(end_ns, COLUMNS) as usize * STEPS + step_of(duration_ns)] += 1;
            counts.total_ns += i128::from(duration_ns);
        }
        for (index, counts) in of_syscalls.into_iter().enumerate() {
            if let Some(counts) = counts {
                // Anything else is no trace's.
                let name = OPERATIONS.iter().find(|name| **name == syscalls.values.value(index)).unwrap_or(&"?");
                add(found.entry(*name).or_default(), &counts);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        for (syscall, counts) in from {
            add(into.entry(syscall).or_default(), &counts);
        }
    }
}

fn add(into: &mut Counts, from: &Counts) {
    into.cells.iter_mut().zip(&from.cells).for_each(|(into, from)| *into += from);
    into.total_ns += from.total_ns;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_step_that_it_reaches() {
        let begins: Vec<i64> = (0..6).map(begin_ns).collect();
        assert_eq!(begins, [0, 100, 200, 500, 1000, 2000]);
        assert_eq!([-1, 0, 99, 100, 499, 500, i64::MAX].map(step_of), [0, 0, 0, 1, 2, 3, STEPS - 1]);
        assert_eq!(begin_ns(STEPS - 1), 2_000_000_000_000);
    }
}
