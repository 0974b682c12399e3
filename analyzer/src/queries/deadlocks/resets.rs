//! When each waited-for semaphore was last set anew: SETVAL and SETALL clear what every process would undo.

use super::{Moments, Place};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables::{self, Table};

/// A SETVAL or SETALL that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Its end.
    pub end_ns: i64,
    /// Its start.
    pub start_ns: i64,
    /// The value; `None`: of SETALL, whose values are not recorded.
    pub value: Option<i64>,
    /// Who did it.
    pub process_id: i64,
}

/// The last reset of each place; of no more places than are waited for.
pub type Resets = HashMap<Place, Reset>;

/// Reads them.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, moments: &Moments, places: &HashSet<Place>) -> Result<Resets, Error> {
    if places.is_empty() {
        return Ok(Resets::new());
    }
    let mut of_sets: HashMap<(usize, i64), Vec<i32>> = HashMap::new();
    for (trace, object_ref, number) in places {
        of_sets.entry((*trace, *object_ref)).or_default().push(*number);
    }
    scan::fold(&opened.traces, &opened.selection, &ResetsQuery { moments, of_sets })
}

struct ResetsQuery<'a> {
    moments: &'a Moments,
    /// The semaphores that matter of each set.
    of_sets: HashMap<(usize, i64), Vec<i32>>,
}

impl Query for ResetsQuery<'_> {
    type Partial = Resets;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        // `command` is NULL in most row groups, and then not decoded.
        vec!["command", "object_ref", "outcome", "start_ns", "end_ns", "process_id", "sem_num", "sem_value"]
    }

    fn empty(&self) -> Resets {
        Resets::new()
    }

    fn fold(&self, resets: &mut Resets, batch: &Batch) -> Result<(), Error> {
        let command = batch.text("command")?;
        let is_reset = |text: Option<&str>| matches!(text, Some("SETVAL" | "SETALL"));
        if !command.values.iter().any(is_reset) {
            return Ok(());
        }
        let (object_ref, outcome) = (batch.int64("object_ref")?, batch.text("outcome")?);
        let (start, end, process) = (batch.int64("start_ns")?, batch.int64("end_ns")?, batch.int64("process_id")?);
        let (sem_num, sem_value) = (batch.int32("sem_num")?, batch.int32("sem_value")?);
        for row in (0..batch.rows()).filter(|row| is_reset(command.get(*row)) && outcome.get(*row) == Some("ok")) {
            let (Some(set), Some(end_ns)) = (int64_at(object_ref, row), int64_at(end, row)) else { continue };
            let Some(numbers) = self.of_sets.get(&(batch.trace, set)) else { continue };
            if end_ns > self.moments.at_ns(batch.trace) {
                continue;
            }
            let one = (command.get(row) == Some("SETVAL")).then(|| int32_at(sem_num, row)).flatten();
            let value = one.and(int32_at(sem_value, row)).map(i64::from);
            let reset = Reset { end_ns, start_ns: start.value(row), value, process_id: process.value(row) };
            for number in numbers.iter().filter(|number| one.is_none_or(|one| one == **number)) {
                keep_later(resets, (batch.trace, set, *number), reset);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Resets, from: Resets) {
        from.into_iter().for_each(|(place, reset)| keep_later(into, place, reset));
    }
}

fn keep_later(resets: &mut Resets, place: Place, reset: Reset) {
    let known = resets.entry(place).or_insert(reset);
    if (reset.end_ns, reset.start_ns) > (known.end_ns, known.start_ns) {
        *known = reset;
    }
}
