//! The operations of semaphore calls that have more than one: the table `sem_ops` joined to some calls at a time.

use crate::batch::{Batch, int32_at};
use crate::error::Error;
use crate::part::{self, Checksum, OpenPart};
use crate::scan::RowGroupReader;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

/// Semaphore, what is added, flags; in the order of the call.
pub type Operations = Vec<(i32, i32, i32)>;

const COLUMNS: [&str; 5] = ["call_id", "position", "sem_num", "sem_op", "sem_flags"];

/// The operations of the calls of one batch.
#[derive(Debug)]
pub struct SemOps<'a> {
    trace: usize,
    from: &'a Trace,
    /// Opened when the first call needs them.
    parts: Option<Vec<OpenPart>>,
    of_calls: HashMap<i64, Operations>,
}

impl<'a> SemOps<'a> {
    /// Those of a trace.
    pub fn new(trace: usize, from: &'a Trace) -> SemOps<'a> {
        SemOps { trace, from, parts: None, of_calls: HashMap::new() }
    }

    /// The operations of a call of the loaded batch; `None` if the table has none of it.
    pub fn of(&self, call_id: i64) -> Option<&Operations> {
        self.of_calls.get(&call_id).filter(|operations| !operations.is_empty())
    }

    /// Reads what belongs to the calls of `batch`, and forgets the rest.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn load(&mut self, batch: &Batch) -> Result<(), Error> {
        let (call_ids, totals) = (batch.int64("call_id")?, batch.int32("sem_ops_total")?);
        let has_several = |row: &usize| int32_at(totals, *row).is_some_and(|total| total > 1);
        self.load_calls((0..batch.rows()).filter(has_several).map(|row| call_ids.value(row)))
    }

    /// Reads what belongs to these calls, and forgets the rest.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn load_calls(&mut self, call_ids: impl Iterator<Item = i64>) -> Result<(), Error> {
        self.of_calls.clear();
        self.of_calls.extend(call_ids.map(|call_id| (call_id, Operations::new())));
        let (Some(least), Some(most)) = (self.of_calls.keys().min().copied(), self.of_calls.keys().max().copied())
        else {
            return Ok(());
        };
        if self.parts.is_none() {
            let parts = self.from.parts_of(&tables::SEM_OPS).iter();
            self.parts = Some(parts.map(|part| part::open(part, Checksum::Verify)).collect::<Result<_, _>>()?);
        }
        for part in self.parts.iter().flatten() {
            for (number, group) in part.metadata.metadata().row_groups().iter().enumerate() {
                if may_hold(group, least, most) {
                    read(&mut self.of_calls, RowGroupReader::new(self.trace, part, number, &COLUMNS)?)?;
                }
            }
        }
        Ok(())
    }
}

fn may_hold(group: &RowGroupMetaData, least: i64, most: i64) -> bool {
    let column = group.columns().iter().find(|column| column.column_path().string() == "call_id");
    let Some(Statistics::Int64(bounds)) = column.and_then(|column| column.statistics()) else { return true };
    bounds.min_opt().is_none_or(|min| *min <= most) && bounds.max_opt().is_none_or(|max| *max >= least)
}

fn read(of_calls: &mut HashMap<i64, Operations>, reader: RowGroupReader) -> Result<(), Error> {
    for batch in reader {
        let batch = batch?;
        let (call_ids, positions) = (batch.int64("call_id")?, batch.int32("position")?);
        let (numbers, operations, flags) = (batch.int32("sem_num")?, batch.int32("sem_op")?, batch.int32("sem_flags")?);
        for row in 0..batch.rows() {
            let Some(of_call) = of_calls.get_mut(&call_ids.value(row)) else { continue };
            // Rows of one call stand in the order of their positions.
            if usize::try_from(positions.value(row)) == Ok(of_call.len()) {
                of_call.push((numbers.value(row), operations.value(row), flags.value(row)));
            }
        }
    }
    Ok(())
}
