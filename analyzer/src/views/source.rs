//! Where the tables of the views come from: traces, or a lake of them.

use super::dialect::Dialect;
use crate::error::Error;
use crate::export::PARTITIONS;
use crate::trace::Trace;
use ipc_schema::manifest;
use ipc_schema::tables::{Column, Kind, Table, twin};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Where tables come from.
#[derive(Debug)]
pub enum Source {
    /// Directories of traces, and of each its tables.
    Traces(Vec<(PathBuf, Vec<&'static str>)>),
    /// A lake, written by `export --to lake`; perhaps on another machine, so nobody looked into it.
    Lake(String),
}

impl Source {
    /// One lake, or traces.
    ///
    /// # Errors
    /// A trace that no other program can read as it is, a lake beside something else, a path that would be read as a pattern.
    pub fn open(paths: &[PathBuf]) -> Result<Source, Error> {
        let source = match paths {
            [lake] if is_lake(lake) => Source::Lake(located(lake)?),
            paths => match paths.iter().find(|path| is_lake(path)) {
                Some(lake) => {
                    let text = format!("{} is a lake: give it alone, or traces", lake.display());
                    return Err(Error::Usage(text));
                }
                None => {
                    let mut seen = HashSet::new();
                    Source::Traces(paths.iter().map(|path| open(path, &mut seen)).collect::<Result<_, _>>()?)
                }
            },
        };
        Ok(source)
    }

    /// The statement that makes a view of a table.
    pub fn view(&self, table: &Table, dialect: Dialect) -> String {
        match dialect {
            Dialect::Duckdb => self.duckdb(table),
            Dialect::Spark => self.spark(table),
        }
    }

    /// Columns that older files lack are NULL, by name.
    fn duckdb(&self, table: &Table) -> String {
        let null = |(name, kind): (String, &str)| format!("CAST(NULL AS {kind}) AS {name}");
        let columns: Vec<String> = columns(table, Dialect::Duckdb).map(null).collect();
        let empty = format!("SELECT {} WHERE false", columns.join(", "));
        let files = match self {
            Source::Traces(traces) => {
                let folders = traces.iter().filter(|(_, tables)| tables.contains(&table.name));
                let pattern = |(path, _): &(PathBuf, _)| {
                    quoted(&format!("{}/{}/part-*.parquet", path.display(), table.name), Dialect::Duckdb)
                };
                let patterns: Vec<String> = folders.map(pattern).collect();
                (!patterns.is_empty()).then(|| format!("[{}], union_by_name = true", patterns.join(", ")))
            }
            Source::Lake(lake) => {
                // A host may be called 10.
                let kinds = PARTITIONS.map(|name| format!("'{name}': VARCHAR"));
                let pattern = quoted(&format!("{lake}/{}/*/*/*/part-*.parquet", table.name), Dialect::Duckdb);
                let hive = format!("hive_partitioning = true, hive_types = {{{}}}", kinds.join(", "));
                Some(format!("{pattern}, union_by_name = true, {hive}"))
            }
        };
        let read =
            files.map_or_else(String::new, |files| format!("\nUNION ALL BY NAME SELECT * FROM read_parquet({files})"));
        format!("CREATE OR REPLACE VIEW {} AS\n{empty}{read};", table.name)
    }

    fn spark(&self, table: &Table) -> String {
        let column = |(name, kind): (String, &str)| format!("{name} {kind}");
        let mut columns: Vec<String> = columns(table, Dialect::Spark).map(column).collect();
        let folder = match self {
            Source::Lake(lake) => {
                let partitions = PARTITIONS.into_iter().filter(|name| table.column(name).is_none());
                columns.extend(partitions.map(|name| format!("{name} STRING")));
                Some(format!("{lake}/{}", table.name))
            }
            Source::Traces(traces) => {
                let folders = traces.iter().filter(|(_, tables)| tables.contains(&table.name));
                let folders: Vec<String> = folders.map(|(path, _)| path.display().to_string()).collect();
                match folders.as_slice() {
                    [] => None,
                    [folder] => Some(format!("{folder}/{}", table.name)),
                    folders => Some(format!("{{{}}}/{}", folders.join(","), table.name)),
                }
            }
        };
        let (name, columns) = (table.name, columns.join(", "));
        match folder {
            Some(folder) => format!(
                "CREATE OR REPLACE TEMPORARY VIEW {name} ({columns})\nUSING parquet OPTIONS (path {}, pathGlobFilter \
                 'part-*.parquet');",
                quoted(&folder, Dialect::Spark)
            ),
            None => {
                let null = |(name, kind): (String, &str)| format!("CAST(NULL AS {kind}) AS {name}");
                let columns: Vec<String> = self::columns(table, Dialect::Spark).map(null).collect();
                format!("CREATE OR REPLACE TEMPORARY VIEW {name} AS SELECT {} WHERE false;", columns.join(", "))
            }
        }
    }
}

/// A directory that is no trace and has the table `session`, or a location on another machine.
fn is_lake(path: &Path) -> bool {
    path.to_string_lossy().contains("://")
        || (!path.join(manifest::FILE_NAME).exists() && path.join("session").is_dir())
}

/// A trace whose parts are all there, with the tables that it has.
fn open(path: &Path, seen: &mut HashSet<String>) -> Result<(PathBuf, Vec<&'static str>), Error> {
    let trace = Trace::open(path)?;
    let usage = |what: &str| Error::Usage(format!("{}: {what}", path.display()));
    if path.is_file() {
        return Err(usage("SQL reads no tar; unpack it first: tar -xf"));
    }
    if let Some(what) = trace.incomplete() {
        return Err(usage(what));
    }
    if !seen.insert(trace.manifest.trace_id.clone()) {
        return Err(usage("given twice: its calls would count twice"));
    }
    Ok((located(path)?.into(), trace.parts.keys().copied().collect()))
}

/// The absolute path, or the location as it is.
fn located(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| Error::Usage(format!("{}: not UTF-8", path.display())))?;
    let location = if text.contains("://") {
        text.trim_end_matches('/').to_owned()
    } else {
        let absolute = path.canonicalize().map_err(|error| Error::unreadable(path, &error))?;
        absolute.display().to_string()
    };
    match location.chars().find(|c| "*?[]{},\\".contains(*c) || c.is_control()) {
        None => Ok(location),
        Some(c) => Err(Error::Usage(format!(
            "{location}: SQL would read its {c:?} as a pattern; give another path, or a symbolic link's folder without it"
        ))),
    }
}

/// The columns of the files of a table, an instant's twin behind it, with their types.
fn columns(table: &Table, dialect: Dialect) -> impl Iterator<Item = (String, &'static str)> {
    table.columns.iter().flat_map(move |Column { name, kind, .. }| {
        let (own, twin) = match kind {
            Kind::Instant => (Kind::Int64, Some((twin(name), kind_name(Kind::Instant, dialect)))),
            kind => (*kind, None),
        };
        [((*name).to_owned(), kind_name(own, dialect))].into_iter().chain(twin)
    })
}

/// The type; of an instant that of its twin.
fn kind_name(kind: Kind, dialect: Dialect) -> &'static str {
    match (kind, dialect) {
        (Kind::Int64, _) => "BIGINT",
        (Kind::Int32, _) => "INTEGER",
        (Kind::Boolean, _) => "BOOLEAN",
        (Kind::Text, Dialect::Duckdb) => "VARCHAR",
        (Kind::Text, Dialect::Spark) => "STRING",
        (Kind::Instant, Dialect::Duckdb) => "TIMESTAMPTZ",
        (Kind::Instant, Dialect::Spark) => "TIMESTAMP",
        (Kind::Int32List, Dialect::Duckdb) => "INTEGER[]",
        (Kind::Int32List, Dialect::Spark) => "ARRAY<INTEGER>",
    }
}

/// As a literal.
fn quoted(text: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Duckdb => format!("'{}'", text.replace('\'', "''")),
        Dialect::Spark => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}
