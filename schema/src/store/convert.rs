//! From rows of a log to parts.

use super::log::Rows;
use super::part::PartWriter;
use crate::manifest::Part;
use crate::tables::{TABLES, Table};
use parquet::errors::{ParquetError, Result};
use std::io::Write;

/// A part is closed when it is this large.
const PART_BYTES: u64 = 256 << 20;

/// Where parts are written.
pub trait Place {
    /// What a part is written to.
    type To: Write + Send;

    /// Begins the part of a table that will have this name.
    ///
    /// # Errors
    /// It cannot be begun.
    fn begin(&mut self, table: &'static Table, name: &str) -> std::io::Result<Self::To>;

    /// A part is complete: gives it its name.
    ///
    /// # Errors
    /// It cannot be had.
    fn end(&mut self, table: &'static Table, name: &str, written: Self::To) -> std::io::Result<()>;
}

/// Parts that are being written.
pub struct Conversion<P: Place> {
    place: P,
    created_by: &'static str,
    /// Of each table, in the order of [`TABLES`]: the open part, and how many there are.
    tables: Vec<(Option<PartWriter<P::To>>, usize)>,
    /// What the manifest is to say of the parts that are complete.
    pub done: Vec<Part>,
}

impl<P: Place> Conversion<P> {
    /// Parts that come behind those of a trace; `created_by` names the program.
    pub fn new(place: P, created_by: &'static str, parts: &[Part]) -> Conversion<P> {
        let count = |table: &&Table| parts.iter().filter(|part| part.table == table.name).count();
        let tables = TABLES.iter().map(|table| (None, count(table))).collect();
        Conversion { place, created_by, tables, done: Vec::new() }
    }

    /// Adds rows to the part of their table; begins another when it is large or the rows do not continue it.
    ///
    /// # Errors
    /// The place refuses.
    pub fn add(&mut self, rows: &Rows) -> Result<()> {
        let Some(index) = TABLES.iter().position(|table| table.name == rows.table.name) else { return Ok(()) };
        let must_close = |part: &PartWriter<P::To>| !part.continues_with(&rows.batch) || part.bytes() >= PART_BYTES;
        if self.tables[index].0.as_ref().is_some_and(must_close) {
            self.close(index)?;
        }
        self.begin(index)?;
        match &mut self.tables[index].0 {
            Some(part) => part.write(&rows.batch),
            None => Ok(()),
        }
    }

    /// Gives tables that have no part an empty one, so that every reader finds them.
    ///
    /// # Errors
    /// The place refuses.
    pub fn fill_up(&mut self) -> Result<()> {
        (0..TABLES.len())
            .filter(|index| self.tables[*index].1 == 0)
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|i| self.begin(i))
    }

    /// Completes the open parts.
    ///
    /// # Errors
    /// The place refuses.
    pub fn finish(&mut self) -> Result<()> {
        (0..TABLES.len()).try_for_each(|index| self.close(index))
    }

    /// What the parts are written to.
    pub fn into_place(self) -> P {
        self.place
    }

    fn begin(&mut self, index: usize) -> Result<()> {
        let (part, count) = &mut self.tables[index];
        if part.is_none() {
            let to = self.place.begin(TABLES[index], &name(*count)).map_err(external)?;
            *part = Some(PartWriter::new(TABLES[index], self.created_by, to)?);
        }
        Ok(())
    }

    fn close(&mut self, index: usize) -> Result<()> {
        let (part, count) = &mut self.tables[index];
        let Some(part) = part.take() else { return Ok(()) };
        let (table, name) = (TABLES[index], name(*count));
        let (written, part) = part.finish(format!("{}/{name}", table.name))?;
        self.place.end(table, &name, written).map_err(external)?;
        *count += 1;
        self.done.push(part);
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("part-{number:05}.parquet")
}

fn external(error: std::io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
