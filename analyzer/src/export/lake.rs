//! A lake: the parts of many traces as they are, in folders by table, host, date and trace, as Hive, Spark and DuckDB name
//! them. Nothing is encoded again, so that it costs a copy.

use crate::error::Error;
use crate::human;
use crate::opened::Opened;
use crate::output::refused;
use crate::part::{self, Checksum};
use crate::progress::Progress;
use crate::trace::Trace;
use chrono::DateTime;
use ipc_schema::tables::SESSION;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Adds the traces to `lake`; one that is there already is replaced.
///
/// # Errors
/// A trace is not complete, a part is not what was recorded, or the disk refuses.
pub fn write(opened: &Opened, lake: &Path) -> Result<(), Error> {
    for trace in &opened.traces {
        if let Some(what) = trace.incomplete() {
            return Err(Error::Usage(format!("{}: {what}", trace.name())));
        }
    }
    let parts = || opened.traces.iter().flat_map(|trace| trace.parts.values().flatten());
    let bytes = parts().map(|part| part.bytes).sum();
    let progress = Progress::new("copying", bytes);
    opened.traces.iter().try_for_each(|trace| add(trace, lake, &progress))?;
    drop(progress);
    let (files, size) = (human::counted(parts().count() as i128, "file"), human::bytes(bytes));
    let lake = lake.display();
    anstream::eprintln!("{lake}: {files}, {size} added; next: ipc-analyzer views {lake} > lake.sql");
    Ok(())
}

/// First into a folder beside the tables, so that nobody reads half a file. Then each table takes the place of the old one;
/// `session`, which the views begin with, comes last.
fn add(trace: &Trace, lake: &Path, progress: &Progress) -> Result<(), Error> {
    fs::create_dir_all(lake).map_err(|error| refused(lake, &error))?;
    let unfinished = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(lake);
    let unfinished = unfinished.map_err(|error| refused(lake, &error))?;
    for (table, parts) in &trace.parts {
        let folder = unfinished.path().join(table);
        fs::create_dir(&folder).map_err(|error| refused(&folder, &error))?;
        for part in parts {
            part::open(part, Checksum::Verified)?; // one file that is no Parquet would spoil all of a table
            let path = folder.join(part.path.file_name().unwrap_or_default());
            let mut file = File::create(&path).map_err(|error| refused(&path, &error))?;
            part::copy(part, &mut file)?;
            file.sync_all().map_err(|error| refused(&path, &error))?;
            progress.add(part.bytes);
        }
    }
    let place = place_of(trace);
    let mut tables: Vec<&str> = trace.parts.keys().copied().collect();
    tables.sort_by_key(|table| *table == SESSION.name);
    for table in tables {
        let to = lake.join(table).join(&place);
        let (new, old) = (unfinished.path().join(table), unfinished.path().join(format!("{table}.old")));
        let moved = fs::create_dir_all(to.parent().unwrap_or(lake)).and_then(|()| put_aside(&to, &old));
        moved.and_then(|()| fs::rename(new, &to)).map_err(|error| refused(&to, &error))?;
    }
    Ok(())
}

/// `host=db1/date=2026-11-23/trace_id=…`: the day on which the recording began, in UTC.
fn place_of(trace: &Trace) -> PathBuf {
    let began = DateTime::from_timestamp_nanos(trace.manifest.session.start_ns).format("%Y-%m-%d").to_string();
    let values = [&trace.manifest.session.host, &began, &trace.manifest.trace_id];
    super::PARTITIONS.iter().zip(values).map(|(name, value)| format!("{name}={}", escaped(value))).collect()
}

/// As Hive writes a value into a path.
fn escaped(value: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let escaped: String =
        value.bytes().map(|b| if plain(&b) { char::from(b).into() } else { format!("%{b:02X}") }).collect();
    if escaped.is_empty() { "__HIVE_DEFAULT_PARTITION__".to_owned() } else { escaped }
}

fn put_aside(folder: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(folder, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_hold_is_escaped() {
        assert_eq!(escaped("db-1.example"), "db-1.example");
        assert_eq!(escaped("a/b=c é"), "a%2Fb%3Dc%20%C3%A9");
        assert_eq!(escaped(""), "__HIVE_DEFAULT_PARTITION__");
    }
}
