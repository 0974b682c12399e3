//! Rows that were not final when the log ended: calls that were open, processes that lived, stacks without names.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use ipc_schema::store::compact;
use ipc_schema::store::log::{Rows, Standing};
use ipc_schema::tables::{CALLS, LIFETIMES, PROCESSES, SEM_OPS, STACKS, THREADS, Table};
use std::collections::BTreeMap;

/// The tables that have such rows, and the columns that tell them apart.
const TABLES: [(&Table, &str, Option<&str>); 6] = [
    (&CALLS, "call_id", None),
    (&SEM_OPS, "call_id", Some("position")),
    (&PROCESSES, "process_id", None),
    (&THREADS, "thread_id", None),
    (&LIFETIMES, "object_ref", None),
    (&STACKS, "stack_id", Some("frame")),
];

/// So many batches become one: most of their rows are of no use any more.
const BATCHES_MAX: usize = 64;

/// The last that the log says of each.
#[derive(Default)]
pub struct Open {
    tables: [OfTable; TABLES.len()],
    until_ns: i64,
}

#[derive(Default)]
struct OfTable {
    batches: Vec<RecordBatch>,
    /// By what tells them apart: which batch, which row.
    rows: BTreeMap<(i64, i32), (usize, usize)>,
}

impl Open {
    /// Takes rows of the log, in its order.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn take(&mut self, rows: &Rows) -> Result<(), ArrowError> {
        self.until_ns = rows.until_ns;
        let Some(index) = TABLES.iter().position(|(table, ..)| table.name == rows.table.name) else { return Ok(()) };
        let of_table = &mut self.tables[index];
        if rows.standing == Standing::Final && of_table.rows.is_empty() {
            return Ok(());
        }
        let keys = keys(index, &rows.batch);
        if rows.standing == Standing::Open {
            let batch = of_table.batches.len();
            of_table.rows.extend(keys.into_iter().enumerate().map(|(row, key)| (key, (batch, row))));
            of_table.batches.push(compact::complete(rows.table, &rows.batch).map_err(ArrowError::SchemaError)?);
            if of_table.batches.len() == BATCHES_MAX {
                of_table.put_together()?;
            }
        } else {
            // All of it: an operation or a frame that is not final is none.
            for (id, _) in keys {
                of_table.rows.extract_if((id, 0)..=(id, i32::MAX), |_, _| true).for_each(drop);
            }
        }
        Ok(())
    }

    /// Something of the log is missing: a call that was open before may have ended in it. Those that are still open are told
    /// again where the next segment begins.
    pub fn forget_calls(&mut self) {
        for (of_table, (table, ..)) in self.tables.iter_mut().zip(TABLES) {
            if table.name == CALLS.name || table.name == SEM_OPS.name {
                *of_table = OfTable::default();
            }
        }
    }

    /// What remains is what had not ended.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn into_rows(self) -> Result<Vec<Rows>, ArrowError> {
        let until_ns = self.until_ns;
        let mut left = Vec::new();
        for (mut of_table, (table, ..)) in self.tables.into_iter().zip(TABLES) {
            of_table.put_together()?;
            let rows = |batch| Rows { table, standing: Standing::Open, until_ns, batch };
            left.extend(of_table.batches.pop().map(rows));
        }
        Ok(left)
    }
}

impl OfTable {
    /// One batch of the rows that are of use, if there are any.
    fn put_together(&mut self) -> Result<(), ArrowError> {
        let rows: Vec<(usize, usize)> = self.rows.values().copied().collect();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let together = if rows.is_empty() { None } else { Some(interleave_record_batch(&batches, &rows)?) };
        self.batches = together.into_iter().collect();
        self.rows.values_mut().enumerate().for_each(|(row, place)| *place = (0, row));
        Ok(())
    }
}

/// What tells the rows of a batch apart.
fn keys(index: usize, batch: &RecordBatch) -> Vec<(i64, i32)> {
    let (_, id, position) = TABLES[index];
    let (ids, positions) = (compact::column(batch, id), position.and_then(|name| compact::column(batch, name)));
    let ids = ids.as_ref().and_then(|column| column.as_primitive_opt::<Int64Type>());
    let positions = positions.as_ref().and_then(|column| column.as_primitive_opt::<Int32Type>());
    let Some(ids) = ids else { return Vec::new() };
    (0..ids.len()).map(|row| (ids.value(row), positions.map_or(0, |positions| positions.value(row)))).collect()
}
