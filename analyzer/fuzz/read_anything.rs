//! What the fuzzer does with its inputs, and the tests with the corpus: the first byte says which file the rest is.

use ipc_analyzer::error::Error;
use ipc_analyzer::filter::Selection;
use ipc_analyzer::groups::Dimension;
use ipc_analyzer::part::{self, Checksum};
use ipc_analyzer::queries::{latency, summary};
use ipc_analyzer::scan::RowGroupReader;
use ipc_analyzer::trace::{Part, Trace};
use ipc_schema::manifest::{Manifest, Session};
use ipc_schema::tables::{TABLES, Table, arrow_schema};
use ipc_schema::version::FormatVersion;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::slice;

/// Reads an input as what its first byte says, in `directory`: each row, and the answers of two commands.
///
/// # Errors
/// What the analyzer says of it.
pub fn read(directory: &Path, input: &[u8]) -> Result<(), Error> {
    let Some((kind, content)) = input.split_first() else { return Ok(()) };
    match TABLES.get(usize::from(*kind)) {
        Some(table) => read_part(directory, table, content),
        None => {
            put(&directory.join("manifest/trace.json"), content)?;
            Trace::open(&directory.join("manifest")).map(|_| ())
        }
    }
}

fn put(path: &Path, content: &[u8]) -> Result<(), Error> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    Ok(fs::write(path, content)?)
}

fn read_part(directory: &Path, table: &'static Table, content: &[u8]) -> Result<(), Error> {
    let path = directory.join(table.name).join("part-00000.parquet");
    put(&path, content)?;
    let part = Part { table, path, within: None, bytes: content.len() as u64, listed: None, blocks: None };
    let open = part::open(&part, Checksum::Verify)?;
    let schema = arrow_schema::schema(table);
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    for group in 0..open.metadata.metadata().num_row_groups() {
        for batch in RowGroupReader::new(0, &open, group, &columns)? {
            batch?;
        }
    }
    ask(directory, part)
}

fn ask(directory: &Path, part: Part) -> Result<(), Error> {
    let (trace_id, session) = (String::new(), Session::default());
    let manifest = Manifest {
        format_version: FormatVersion::CURRENT.0,
        trace_id,
        complete: true,
        session,
        parts: Vec::new(),
        log_from: None,
    };
    let trace = Trace {
        path: directory.to_owned(),
        manifest,
        parts: BTreeMap::from([(part.table.name, vec![part])]),
        warnings: Vec::new(),
        recovered: None,
    };
    let traces = slice::from_ref(&trace);
    let everything = Selection::everything();
    summary::ask(traces, &everything)?
        .tables(traces)
        .into_iter()
        .flat_map(|table| table.rows)
        .try_for_each(|row| row.map(drop))?;
    let by = [Dimension::Syscall, Dimension::Comm, Dimension::Pid, Dimension::Object, Dimension::Error];
    latency::ask(traces, &everything, &by)?.table().rows.try_for_each(|row| row.map(drop))
}
