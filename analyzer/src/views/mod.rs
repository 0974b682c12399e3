//! `views`: the analyses as SQL views, for those who live in DuckDB or Spark, and for more than one machine.

mod dialect;
mod source;

use crate::error::Error;
use dialect::Dialect;
use ipc_schema::tables::TABLES;
use source::Source;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// The views of the analyses.
const ANALYSES: &str = include_str!("analyses.sql");

/// The command.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Views {
    /// Directories written by `ipc-recorder record -o`; or a lake written by `export --to lake`, a directory or a URL
    #[arg(required = true, value_name = "TRACE|LAKE")]
    sources: Vec<PathBuf>,

    /// Whose SQL
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
}

const EXAMPLES: &str = "\
Examples:
  ipc-analyzer views TRACE > views.sql && duckdb -init views.sql
  ipc-analyzer views --dialect spark s3a://bucket/lake > views.sql && spark-sql -i views.sql
  D SELECT comm, waker_comm, wait_total_ns FROM contention_pairs_by_comm ORDER BY 3 DESC LIMIT 5;

  D FROM calls_at('2026-11-22T14:03:07Z');

A view per table of the trace (docs/format.md), one per analysis, and macros with arguments (in Spark functions, from 4.0 on);
each says what it shows in the line above it.";

/// A statement of [`ANALYSES`].
struct View<'a> {
    name: &'a str,
    /// Of a macro `(NAME TYPE, …)`; of a view nothing.
    arguments: &'a str,
    /// What it shows.
    doc: String,
    select: &'a str,
}

impl Views {
    /// Writes the views to stdout.
    ///
    /// # Errors
    /// As of [`Source::open`], and those of stdout.
    pub fn run(&self) -> Result<(), Error> {
        let source = Source::open(&self.sources)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        for table in TABLES {
            writeln!(out, "-- {}: {}", table.name, table.doc)?;
            writeln!(out, "{}\n", source.view(table, self.dialect))?;
        }
        let (fragments, views) = statements(ANALYSES);
        for View { name, arguments, doc, select } in views {
            let create = self.dialect.create(name, arguments);
            let select = self.dialect.expand(select, &fragments);
            writeln!(out, "-- {name}{arguments}: {doc}\n{create}\n{select};\n")?;
        }
        out.flush()?;
        Ok(())
    }
}

/// The fragments by their names, and the views in their order.
fn statements(text: &str) -> (BTreeMap<&str, &str>, Vec<View<'_>>) {
    let (mut fragments, mut views) = (BTreeMap::new(), Vec::new());
    for statement in text.split("\n\n").map(str::trim) {
        let header = statement.lines().take_while(|line| line.starts_with("--"));
        let bytes: usize = header.clone().map(|line| line.len() + 1).sum();
        let body = statement.get(bytes..).unwrap_or_default().trim_end_matches(';');
        let header = header.map(|line| line.trim_start_matches('-').trim()).collect::<Vec<_>>().join(" ");
        let doc = header.split_once(": ").map_or("", |(_, doc)| doc).to_owned();
        // KIND NAME or KIND NAME(ARGUMENTS), in the first line.
        let title = statement.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or_default();
        let (kind, title) = title.split(": ").next().and_then(|title| title.split_once(' ')).unwrap_or_default();
        let (name, arguments) = title.split_at(title.find('(').unwrap_or(title.len()));
        match kind {
            "fragment" => drop(fragments.insert(name, body)),
            "view" | "macro" => views.push(View { name, arguments, doc, select: body }),
            _ => {}
        }
    }
    (fragments, views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_has_a_meaning_in_every_dialect() {
        let (fragments, views) = statements(ANALYSES);
        let (of_views, of_macros) = (ANALYSES.matches("-- view ").count(), ANALYSES.matches("-- macro ").count());
        assert_eq!(views.len(), of_views + of_macros - 1, "its header names one");
        assert_eq!(fragments.len(), ANALYSES.matches("-- fragment ").count() - 1, "its header names one");
        for View { name, doc, select, .. } in &views {
            assert!(!doc.is_empty() && !select.is_empty(), "{name}");
            for dialect in [Dialect::Duckdb, Dialect::Spark] {
                let expanded = dialect.expand(select, &fragments);
                assert!(!expanded.contains(['@', '$', ';']), "{name} in {dialect:?}: {expanded}");
            }
        }
    }
}
