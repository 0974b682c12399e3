//! `docs/format.md`, generated from the declarations of the tables.

use ipc_schema::losses::SOURCES;
use ipc_schema::tables::{Column, Encoding, Kind, Redaction, TABLES, Table, twin};
use ipc_schema::version::FormatVersion;
use std::fmt::Write;

const HEAD: &str = "\
# The trace format

<!-- Generated from schema/src/tables.rs. To change it: UPDATE=1 cargo test -p ipc-tests --test static -->

A trace is a directory: `trace.json` and one folder per table with `part-00000.parquet`, `part-00001.parquet`…

- `trace.json` holds `format_version`, `trace_id`, `complete` (false while recording, and for ever when the recording was \
cut short), `session` (what the table `session` holds) and `parts`: of each file its table, path, rows, bytes, \
`checksum`, which is `xxh3_128:` and the 32 hexadecimal digits that `xxh128sum` prints, and `blocks`, the XXH3 64 of each \
64 KiB of it, 16 digits each, one after the other. Read its version first.
- A file named `*.parquet` is always whole. A table without rows has one file with none.
- While it is recorded, and when the recording did not end, rows that no part holds stand in `log/00000.arrows.zst` and the \
following, from the number `log_from` of `trace.json` on; older ones are in parts. A log is zstd frames with checksums; \
each holds Arrow IPC streams, one after the other. The metadata of a stream's schema says what its rows are: `table`; \
`standing`, which is `final`, or `open` for what had not ended (a later row with the same id takes its place); and \
`until_ns`: whatever ended before is in the log up to there. Columns that are NULL in every row are left out, and `*_time`; \
one with the same value in every row may be a run (Run-End Encoded); Int64 may stand as Int32, to which `base` of the \
field's metadata is to be added. \
`ipc-analyzer` reads it as it is.
- Every table begins with `trace_id`: all other ids are unique in one trace only.
- An instant is two columns: `*_ns`, nanoseconds since 1970-01-01 UTC, and its twin `*_time` (or `time`), the same in \
microseconds with a time zone, for people and for readers without nanoseconds. Instants are readings of the boot clock \
plus one offset fixed at the start, so steps of the wall clock never reorder them.
- Durations are nanoseconds. All integers are signed. NULL means absent or unknown, never a special number.
- Text that a program chose is UTF-8; a byte of it that is none stands there as U+FFFD and its two hexadecimal digits.
- `ipc-recorder pack` puts a directory into a tar, which `ipc-analyzer` opens as it is. With `--redact` the columns marked so \
hold pseudonyms: `names` of words and parts of paths (`x` and ten letters or digits), `names in it` where other words stay, \
`key` of System V keys (0 stays). Numbers, times and ids are what they were.
- Files are Parquet with zstd; text is plain UTF-8 behind dictionary pages. Nothing needs a special reader:

```sql
SELECT syscall, count(*), quantile_cont(duration_ns, 0.99) FROM 'TRACE/calls/*.parquet' GROUP BY ALL;
```
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    // Writing to a String cannot fail.
    let _ = write!(page, "\nThis page describes version {}.\n\n", FormatVersion::CURRENT);
    page.push_str("| table | a row is |\n|---|---|\n");
    for table in TABLES {
        let _ = writeln!(page, "| [{0}](#{0}) | {1} |", table.name, sentence(table));
    }
    for table in TABLES {
        write_table(&mut page, table);
    }
    write_sources(&mut page);
    page
}

fn write_sources(page: &mut String) {
    page.push_str(
        "\n## Sources of losses\n\nRows of `calls` + the counts of the sources that count calls = calls performed.\n\n",
    );
    page.push_str("| source | count is of | what happened |\n|---|---|---|\n");
    for source in SOURCES {
        let of = if source.counts_calls { "calls" } else { "details" };
        let _ = writeln!(page, "| {} | {of} | {} |", source.name, source.doc);
    }
}

/// `One row per call, …` without its end.
fn sentence(table: &Table) -> &str {
    table.doc.trim_end_matches('.')
}

fn write_table(page: &mut String, table: &Table) {
    let _ = write!(page, "\n## {}\n\n{}", table.name, table.doc);
    if let Some(column) = table.sorted_by {
        let _ = write!(page, " Within a file the rows rise in `{column}`, NULLs last.");
    }
    page.push_str("\n\n| column | type | NULL | encoding | redacted | meaning |\n|---|---|---|---|---|---|\n");
    for column in table.columns {
        write_column(page, column);
    }
}

fn write_column(page: &mut String, column: &Column) {
    let (name, doc) = (column.name, column.doc.replace('|', "\\|"));
    let null = if column.nullable { "yes" } else { "" };
    let encoding = match column.encoding {
        Encoding::Dictionary => "dictionary",
        Encoding::Delta => "delta",
    };
    let redacted = match column.redaction {
        Redaction::Plain => "",
        Redaction::Names => "names",
        Redaction::Json | Redaction::Symbol => "names in it",
        Redaction::Key => "key",
    };
    let kind = match column.kind {
        Kind::Int64 => "Int64",
        Kind::Int32 => "Int32",
        Kind::Boolean => "Boolean",
        Kind::Text => "text",
        Kind::Instant => "Int64, ns",
        Kind::Int32List => "list of Int32",
    };
    let _ = writeln!(page, "| {name} | {kind} | {null} | {encoding} | {redacted} | {doc} |");
    if column.kind == Kind::Instant {
        let _ = writeln!(page, "| {} | Timestamp(µs, UTC) | {null} | {encoding} | | the same |", twin(name));
    }
}
