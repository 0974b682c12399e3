//! A file per table, as CSV: every column, for spreadsheets and programs that read nothing better.

use crate::batch::Batch;
use crate::error::Error;
use crate::opened::Opened;
use crate::output::refused;
use crate::part::{self, Checksum};
use crate::progress::Progress;
use crate::queries::show;
use crate::render;
use crate::scan::RowGroupReader;
use crate::trace::Trace;
use ipc_schema::tables::{TABLES, Table};
use rayon::prelude::*;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `folder`/TABLE.csv, the rows of all traces in one file: `trace_id` tells them apart.
///
/// # Errors
/// A part that cannot be believed; nothing can be written there.
pub fn write(opened: &Opened, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|error| refused(folder, &error))?;
    let bytes = opened.traces.iter().flat_map(|trace| trace.parts.values().flatten()).map(|part| part.bytes).sum();
    let progress = Progress::new("writing", bytes);
    for table in TABLES {
        let path = folder.join(format!("{}.csv", table.name));
        let mut out = BufWriter::new(File::create(&path).map_err(|error| refused(&path, &error))?);
        let names: Vec<String> = show::columns(table).into_iter().map(|column| column.name.into_owned()).collect();
        writeln!(out, "{}", names.join(","))?;
        for (number, trace) in opened.traces.iter().enumerate() {
            write_rows(number, trace, table, &mut out, &progress)?;
        }
        out.flush()?;
    }
    drop(progress);
    anstream::eprintln!("{}: {} tables", folder.display(), TABLES.len());
    Ok(())
}

fn write_rows(
    number: usize,
    trace: &Trace,
    table: &'static Table,
    out: &mut impl Write,
    progress: &Progress,
) -> Result<(), Error> {
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    for part in trace.parts_of(table) {
        let open = part::open(part, Checksum::Verify)?;
        for group in 0..open.metadata.metadata().num_row_groups() {
            let mut batches = RowGroupReader::new(number, &open, group, &columns)?;
            loop {
                let next: Vec<Batch> = batches.by_ref().take(rayon::current_num_threads()).collect::<Result<_, _>>()?;
                if next.is_empty() {
                    break;
                }
                let texts: Vec<Vec<u8>> =
                    next.par_iter().map(|batch| rows_of(batch, table)).collect::<Result<_, _>>()?;
                texts.iter().try_for_each(|text| out.write_all(text))?;
            }
        }
        progress.add(part.bytes);
    }
    Ok(())
}

fn rows_of(batch: &Batch, table: &Table) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    for row in 0..batch.rows() {
        render::write_csv_row(&show::values(batch, row, table)?, &mut text)?;
    }
    Ok(text)
}
