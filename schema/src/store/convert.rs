//! From rows of a log to parts.

use super::log::Rows;
use super::part::PartWriter;
use crate::manifest::Part;
use crate::tables::{TABLES, Table};
use parquet::errors::{ParquetError, Result};
use std::io::Write;

/// A part is closed when it is this large.
const PART_BYTES: u64 = 256 << 20;

/// Whether a file of this name in the folder of a table is a part that is whole; others begin with a dot.
pub fn is_part(name: &str) -> bool {
    name.ends_with(".parquet") && !name.starts_with('.')
}

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

/// The number of the next part of each table, in the order of [`TABLES`]; no number is used twice, whatever is deleted.
#[derive(Clone, Debug)]
pub struct Numbers(Vec<usize>);

impl Numbers {
    /// Those behind these parts.
    pub fn behind(parts: &[Part]) -> Numbers {
        let next = |table: &&Table| {
            let files = parts.iter().filter(|part| part.table == table.name);
            files.filter_map(|part| number_of(&part.file)).max().map_or(0, |last| last + 1)
        };
        Numbers(TABLES.iter().map(next).collect())
    }
}

/// Parts that are being written.
pub struct Conversion<P: Place> {
    place: P,
    created_by: &'static str,
    /// Of each table, in the order of [`TABLES`]: the open part, and its number or that of the next.
    tables: Vec<(Option<PartWriter<P::To>>, usize)>,
    /// What the manifest is to say of the parts that are complete.
    pub done: Vec<Part>,
}

impl<P: Place> Conversion<P> {
    /// Parts that come behind others; `created_by` names the program.
    pub fn new(place: P, created_by: &'static str, numbers: &Numbers) -> Conversion<P> {
        let tables = numbers.0.iter().map(|number| (None, *number)).collect();
        Conversion { place, created_by, tables, done: Vec::new() }
    }

    /// The numbers of the parts that come behind these.
    pub fn numbers(&self) -> Numbers {
        Numbers(self.tables.iter().map(|(_, number)| *number).collect())
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

    /// Gives tables that have no part, neither here nor among these, an empty one, so that every reader finds them.
    ///
    /// # Errors
    /// The place refuses.
    pub fn fill_up(&mut self, parts: &[Part]) -> Result<()> {
        for (index, table) in TABLES.iter().enumerate() {
            let has_part = parts.iter().chain(&self.done).any(|part| part.table == table.name);
            if !has_part {
                self.begin(index)?;
            }
        }
        Ok(())
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

fn number_of(file: &str) -> Option<usize> {
    file.rsplit_once("part-")?.1.strip_suffix(".parquet")?.parse().ok()
}

fn external(error: std::io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
