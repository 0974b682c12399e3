//! The table `losses`, summed by source: the first thing that every answer says.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use crate::trace::Trace;
use ipc_schema::tables::{self, Table};
use std::collections::{BTreeMap, BTreeSet};

/// More CPUs than this are not told apart.
const CPUS_MAX: usize = 4096;

/// What all traces lost.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// By trace and source.
    pub by_source: BTreeMap<(usize, String), Loss>,
}

/// What one source lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How many (calls, or records for the source `records`).
    pub count: i128,
    /// Places where the count is not known.
    pub unknown: u64,
    /// Rows of the table.
    pub places: u64,
    /// The first moment.
    pub from_ns: i64,
    /// The last moment.
    pub to_ns: i64,
    /// On which CPUs.
    pub cpus: BTreeSet<i32>,
}

impl Losses {
    /// Reads the losses of all traces.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace]) -> Result<Losses, Error> {
        scan::fold(traces, &Selection::everything(), &LossesQuery)
    }

    /// Calls lost, and whether more were lost than could be counted.
    pub fn calls(&self, trace: usize) -> (i128, bool) {
        let of_calls = self.by_source.iter().filter(|((t, source), _)| *t == trace && counts_calls(source));
        of_calls.fold((0, false), |(count, unknown), (_, loss)| (count + loss.count, unknown || loss.unknown > 0))
    }

    /// The sources of one trace.
    pub fn of(&self, trace: usize) -> impl Iterator<Item = (&str, &Loss)> {
        self.by_source.iter().filter(move |((t, _), _)| *t == trace).map(|((_, source), loss)| (source.as_str(), loss))
    }
}

/// Whether a source counts calls that are missing; one that this version does not know may.
pub fn counts_calls(source: &str) -> bool {
    ipc_schema::losses::by_name(source).is_none_or(|known| known.counts_calls)
}

struct LossesQuery;

impl Query for LossesQuery {
    type Partial = Losses;

    fn table(&self) -> &'static Table {
        &tables::LOSSES
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["from_ns", "to_ns", "source", "cpu", "count"]
    }

    fn empty(&self) -> Losses {
        Losses::default()
    }

    fn fold(&self, partial: &mut Losses, batch: &Batch) -> Result<(), Error> {
        let (from, to, count) = (batch.int64("from_ns")?, batch.int64("to_ns")?, batch.int64("count")?);
        let (source, cpu) = (batch.text("source")?, batch.int32("cpu")?);
        for row in 0..batch.rows() {
            let count = int64_at(count, row);
            let loss = Loss {
                count: count.unwrap_or(0).into(),
                unknown: count.is_none().into(),
                places: 1,
                from_ns: from.value(row),
                to_ns: to.value(row),
                cpus: int32_at(cpu, row).into_iter().collect(),
            };
            partial.add((batch.trace, source.get(row).unwrap_or("unknown").to_owned()), loss);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Losses, from: Losses) {
        for (key, loss) in from.by_source {
            into.add(key, loss);
        }
    }
}

impl Losses {
    fn add(&mut self, key: (usize, String), loss: Loss) {
        match self.by_source.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(loss);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let into = entry.get_mut();
                into.count += loss.count;
                into.unknown += loss.unknown;
                into.places += loss.places;
                into.from_ns = into.from_ns.min(loss.from_ns);
                into.to_ns = into.to_ns.max(loss.to_ns);
                let room = CPUS_MAX - into.cpus.len();
                into.cpus.extend(loss.cpus.into_iter().take(room));
            }
        }
    }
}
