//! Rows that no part holds: those of a trace that is still being recorded, or whose recording did not end. They stand in the
//! log, which is believed block by block, and become parts in a folder that goes with the trace.

mod open;

use crate::error::Error;
use crate::part;
use arrow::array::{Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::error::ArrowError;
use ipc_schema::losses;
use ipc_schema::manifest::{Manifest, Part};
use ipc_schema::store::convert::{Conversion, Place};
use ipc_schema::store::log::{self, Blocks, Rows, Standing};
use ipc_schema::tables::{LOSSES, Table};
use open::Open;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tempfile::TempDir;

/// The folder of the log.
const FOLDER: &str = "log";
const CREATED_BY: &str = concat!("ipc-analyzer ", env!("CARGO_PKG_VERSION"));

/// What the log of a trace holds.
#[derive(Debug)]
pub struct Recovered {
    /// Where its parts are.
    pub folder: TempDir,
    /// What a manifest would say of them.
    pub parts: Vec<Part>,
    /// Everything that ended before this instant is in the trace, nanoseconds since the epoch; `None`: the log is empty.
    pub until_ns: Option<i64>,
    /// What of the log could not be read.
    pub damage: Vec<String>,
}

/// Reads the log of a trace; `None` if it has none.
///
/// # Errors
/// There is no room for what it holds.
pub fn read(trace: &Path, manifest: &Manifest) -> Result<Option<Recovered>, Error> {
    let Some(first) = manifest.log_from else { return Ok(None) };
    let no_room = |what: String| {
        let temporary = std::env::temp_dir().display().to_string();
        Error::Usage(format!(
            "no room in {temporary} for what the log of {} holds ({what}); set TMPDIR",
            trace.display()
        ))
    };
    let folder = TempDir::new().map_err(|error| no_room(error.to_string()))?;
    let place = Folder(folder.path().to_owned());
    let mut conversion = Conversion::new(place, CREATED_BY, &manifest.parts);
    let (mut until_ns, mut written_ns) = (None, 0);
    let (mut damage, mut open) = (Vec::new(), Open::default());
    for path in segments(trace, first) {
        let Ok(file) = File::open(&path) else { continue };
        let found = file.metadata().ok();
        let bytes = found.as_ref().map_or(0, Metadata::len);
        let age = found.and_then(|found| found.modified().ok()?.duration_since(UNIX_EPOCH).ok());
        written_ns = age.and_then(|age| i64::try_from(age.as_nanos()).ok()).unwrap_or(0).max(written_ns);
        let mut blocks = Blocks::new(file);
        loop {
            match part::guard(|| blocks.next().transpose()) {
                Ok(None) => break,
                Ok(Some(block)) => {
                    until_ns = until_ns.max(block.iter().map(|rows| rows.until_ns).max());
                    block.iter().try_for_each(|rows| open.take(rows)).map_err(|error| no_room(error.to_string()))?;
                    let rows = block.iter().filter(|rows| rows.standing == Standing::Final);
                    add(&mut conversion, rows).map_err(no_room)?;
                }
                Err(what) => {
                    let left = bytes.saturating_sub(blocks.whole_bytes);
                    damage.push(format!(
                        "the last {left} bytes of {} are not whole and were left out: {what}",
                        path.display()
                    ));
                    break;
                }
            }
        }
    }
    let open = open.into_rows().map_err(|error| no_room(error.to_string()))?;
    add(&mut conversion, open.iter()).map_err(no_room)?;
    let until_ns = until_ns.filter(|_| !manifest.complete);
    if let Some(until_ns) = until_ns {
        add(
            &mut conversion,
            [tail(manifest, until_ns, written_ns).map_err(|error| no_room(error.to_string()))?].iter(),
        )
        .map_err(no_room)?;
    }
    conversion.finish().map_err(|error| no_room(error.to_string()))?;
    Ok(Some(Recovered { folder, parts: conversion.done, until_ns, damage }))
}

/// The loss of what came behind the log; nobody knows how much.
fn tail(manifest: &Manifest, until_ns: i64, written_ns: i64) -> Result<Rows, ArrowError> {
    let text =
        |value: &str| -> ArrayRef { Arc::new([Some(value)].into_iter().collect::<DictionaryArray<Int32Type>>()) };
    let instant = |ns: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![ns])) };
    let field = |name: &str, values: &ArrayRef| Field::new(name, values.data_type().clone(), false);
    let columns = [
        ("trace_id", text(&manifest.trace_id)),
        ("from_ns", instant(until_ns)),
        ("to_ns", instant(written_ns.max(until_ns))),
        ("source", text(losses::TAIL.name)),
    ];
    let schema = Schema::new(columns.iter().map(|(name, values)| field(name, values)).collect::<Vec<Field>>());
    let batch = RecordBatch::try_new(Arc::new(schema), columns.map(|(_, values)| values).to_vec())?;
    let batch = log::complete(&LOSSES, &batch).map_err(ArrowError::SchemaError)?;
    Ok(Rows { table: &LOSSES, standing: Standing::Final, until_ns, batch })
}

fn add<'a>(conversion: &mut Conversion<Folder>, rows: impl Iterator<Item = &'a Rows>) -> Result<(), String> {
    for rows in rows {
        conversion.add(rows).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The segments of a log, in order.
fn segments(trace: &Path, first: u32) -> Vec<PathBuf> {
    let number = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let number: u32 = name.strip_suffix(log::EXTENSION)?.strip_suffix('.')?.parse().ok()?;
        (number >= first).then_some((number, name))
    };
    let folder = trace.join(FOLDER);
    let mut found: Vec<(u32, String)> = fs::read_dir(&folder).into_iter().flatten().filter_map(number).collect();
    found.sort();
    found.into_iter().map(|(_, name)| folder.join(name)).collect()
}

/// Parts as files of a folder.
struct Folder(PathBuf);

impl Place for Folder {
    type To = File;

    fn begin(&mut self, table: &'static Table, name: &str) -> io::Result<File> {
        let folder = self.0.join(table.name);
        fs::create_dir_all(&folder)?;
        File::create_new(folder.join(name))
    }

    fn end(&mut self, _: &'static Table, _: &str, _: File) -> io::Result<()> {
        Ok(())
    }
}
