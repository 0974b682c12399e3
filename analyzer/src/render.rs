//! Writes an answer as text, JSON, JSON lines or CSV.

use crate::error::Error;
use crate::finding::{self, Finding, Line};
use crate::human::{self, Zone};
use crate::layout::{Layout, WIDTH, broken, wrapped};
use crate::losses::Losses;
use crate::report::{Column, Mark, Report, Rows, Severity, Table, Unit, Value};
use crate::trace::Trace;
use anstream::AutoStream;
use clap::builder::styling::{AnsiColor, Style};
use std::borrow::Cow;
use std::io::{self, Write};

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One document: {"command", "traces", "losses", "rows"}
    Json,
    /// One row per line
    Jsonl,
    /// One row per line, with a heading; text that a spreadsheet would run as a formula gets a leading '
    Csv,
}

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The form.
    pub format: Format,
    /// The zone of dates.
    pub zone: Zone,
    /// How many rows of a table: `None` for all (in text: the table's own limit), 0 for all in any form.
    pub limit: Option<usize>,
}

/// Rows whose widths a text table looks at before it prints them.
const CHUNK_ROWS: usize = 1000;
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const BUFFER_BYTES: usize = 1 << 16;

/// Writes `report` to stdout; what it must not be read without goes to stderr where the form has no place for it.
///
/// # Errors
/// Those of stdout and of the rows.
pub fn write(report: Report<'_>, output: Output) -> Result<(), Error> {
    if matches!(output.format, Format::Jsonl | Format::Csv) {
        write_marks_to_stderr(&report.marks);
    }
    let raw = || io::BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    match output.format {
        Format::Text => {
            let out = io::BufWriter::with_capacity(BUFFER_BYTES, AutoStream::auto(io::stdout().lock()));
            write_text(report, output, out)
        }
        Format::Json => write_json(report, output, raw()),
        Format::Jsonl => write_jsonl(report, output, raw()),
        Format::Csv => write_csv(report, output, raw()),
    }
}

/// The tables for machines: the findings are the first.
fn all_tables<'a>(findings: &'a [Finding], traces: &'a [Trace], tables: Vec<Table<'a>>) -> Vec<Table<'a>> {
    let first = (!findings.is_empty()).then(|| finding::table(findings, traces));
    first.into_iter().chain(tables).collect()
}

/// Writes marks to stderr, one line each.
pub fn write_marks_to_stderr(marks: &[Mark]) {
    for mark in marks {
        anstream::eprintln!("{}", mark_line(mark));
    }
}

fn mark_line(mark: &Mark) -> String {
    let (sign, style) = match mark.severity {
        Severity::Loss => ("!", RED),
        Severity::Limit => ("·", YELLOW),
    };
    format!("{style}{sign}{style:#} {}", wrapped(&mark.text, WIDTH - 2, "  "))
}

fn limited<'a>(rows: Rows<'a>, limit: Option<usize>) -> Rows<'a> {
    match limit {
        None | Some(0) => rows,
        Some(limit) => Box::new(rows.take(limit)),
    }
}

fn write_text(report: Report<'_>, output: Output, mut out: impl Write) -> Result<(), Error> {
    for mark in &report.marks {
        writeln!(out, "{}", mark_line(mark))?;
    }
    if !report.marks.is_empty() {
        writeln!(out)?;
    }
    for line in &report.preface {
        writeln!(out, "{}", broken(line))?;
    }
    write_findings(&report, output.zone, &mut out)?;
    // One without a heading is for machines.
    let for_people = |table: &Table<'_>| table.columns.iter().any(|column| !column.heading.is_empty());
    for (i, table) in report.tables.into_iter().filter(for_people).enumerate() {
        if i > 0 || !report.preface.is_empty() || !report.findings.is_empty() {
            writeln!(out)?;
        }
        write_text_table(table, output, &mut out)?;
    }
    for line in &report.closing {
        writeln!(out, "{}", broken(line))?;
    }
    out.flush()?;
    Ok(())
}

fn write_findings(report: &Report<'_>, zone: Zone, out: &mut impl Write) -> io::Result<()> {
    for (i, paragraph) in finding::paragraphs(&report.findings, report.traces, zone).iter().enumerate() {
        if i > 0 || !report.preface.is_empty() {
            writeln!(out)?;
        }
        for Line { sign, text, is_heading } in paragraph {
            match (is_heading, sign.is_empty()) {
                (true, _) => writeln!(out, "{BOLD}{}{BOLD:#}", wrapped(text, WIDTH - 2, "  "))?,
                (_, true) => writeln!(out, "  {}", wrapped(text, WIDTH - 2, "  "))?,
                (_, false) => writeln!(out, "  {sign} {}", wrapped(text, WIDTH - 4, "    "))?,
            }
        }
    }
    Ok(())
}

fn write_text_table(table: Table<'_>, output: Output, out: &mut impl Write) -> Result<(), Error> {
    if !table.title.is_empty() {
        writeln!(out, "{BOLD}{}{BOLD:#}", wrapped(&table.title, WIDTH - 2, "  "))?;
    }
    let limit = output.limit.unwrap_or(table.text_limit);
    let shown: Vec<usize> = (0..table.columns.len()).filter(|i| !table.columns[*i].heading.is_empty()).collect();
    let mut layout = Layout::new(shown.iter().map(|i| &table.columns[*i]));
    let mut rows = table.rows;
    let mut written = 0;
    loop {
        let room = if limit == 0 { CHUNK_ROWS } else { CHUNK_ROWS.min(limit - written) };
        let mut chunk: Vec<Vec<String>> = Vec::new();
        for row in rows.by_ref().take(room) {
            let row = row?;
            chunk.push(shown.iter().map(|i| text_of(&row[*i], table.columns[*i].unit, output.zone)).collect());
        }
        if written == 0 && chunk.is_empty() {
            writeln!(out, "(none)")?;
            return Ok(());
        }
        if layout.make_room(&chunk) || written == 0 {
            writeln!(out, "{DIM}{}{DIM:#}", layout.headings())?;
        }
        for row in &chunk {
            writeln!(out, "{}", layout.line(row))?;
        }
        written += chunk.len();
        if chunk.len() < room || written == limit {
            break;
        }
    }
    let more = rows.count();
    if more > 0 {
        writeln!(out, "{DIM}… and {} more: --limit 0 shows all{DIM:#}", human::count(more as i128))?;
    }
    write_left_out(&layout, out)
}

/// Nothing is left out in silence.
fn write_left_out(layout: &Layout, out: &mut impl Write) -> Result<(), Error> {
    let left_out = layout.left_out();
    if !left_out.is_empty() {
        let text = format!("no room for {}: --format json shows all", left_out.join(", "));
        writeln!(out, "{DIM}… {}{DIM:#}", wrapped(&text, WIDTH - 2, "  "))?;
    }
    Ok(())
}

/// A value as people read it.
pub fn text_of(value: &Value, unit: Unit, zone: Zone) -> String {
    match (value, unit) {
        (Value::Null, _) => "-".to_owned(),
        (Value::Int(number), Unit::Duration) => human::duration(*number),
        (Value::Int(number), Unit::Count) => human::count(*number),
        (Value::Int(number), Unit::Share) => human::share(*number),
        (Value::Int(number), Unit::Instant) => human::instant(i64::try_from(*number).unwrap_or(i64::MAX), zone),
        (Value::Int(number), _) => number.to_string(),
        (Value::Bool(value), _) => value.to_string(),
        (Value::Text(text) | Value::Json(text), _) => human::escape(text),
    }
}

fn write_json(report: Report<'_>, output: Output, mut out: impl Write) -> Result<(), Error> {
    let traces = serde_json::Value::from_iter(report.traces.iter().map(trace_json));
    write!(out, "{{\"command\":{},\"traces\":", json_text(report.command))?;
    write!(out, "{},\"losses\":", harmless(&traces.to_string()))?;
    write!(out, "{},\"notes\":", harmless(&losses_json(report.traces, report.losses).to_string()))?;
    let notes: Vec<&str> = report.marks.iter().map(|mark| mark.text.as_str()).collect();
    write!(out, "{},\"rows\":[", harmless(&serde_json::Value::from(notes).to_string()))?;
    let mut separator = "\n";
    for table in all_tables(&report.findings, report.traces, report.tables) {
        for row in limited(table.rows, output.limit) {
            out.write_all(separator.as_bytes())?;
            write_json_row(table.section, &table.columns, &row?, table.sparse, &mut out)?;
            separator = ",\n";
        }
    }
    out.write_all(b"\n]}\n")?;
    out.flush()?;
    Ok(())
}

fn write_jsonl(report: Report<'_>, output: Output, mut out: impl Write) -> Result<(), Error> {
    for table in all_tables(&report.findings, report.traces, report.tables) {
        for row in limited(table.rows, output.limit) {
            write_json_row(table.section, &table.columns, &row?, table.sparse, &mut out)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}

fn write_json_row(
    section: Option<&str>,
    columns: &[Column],
    row: &[Value],
    sparse: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut separator = "{";
    if let Some(section) = section {
        write!(out, "{{\"section\":\"{section}\"")?;
        separator = ",";
    }
    for (column, value) in columns.iter().zip(row) {
        if sparse && *value == Value::Null {
            continue;
        }
        for text in [separator, "\"", &column.name, "\":"] {
            out.write_all(text.as_bytes())?;
        }
        match value {
            Value::Null => out.write_all(b"null")?,
            Value::Int(number) => out.write_all(itoa::Buffer::new().format(*number).as_bytes())?,
            Value::Bool(value) => write!(out, "{value}")?,
            Value::Text(text) if is_plain(text) => {
                for text in ["\"", text, "\""] {
                    out.write_all(text.as_bytes())?;
                }
            }
            Value::Text(text) => out.write_all(json_text(text).as_bytes())?,
            Value::Json(text) => out.write_all(text.as_bytes())?,
        }
        separator = ",";
    }
    out.write_all(if separator == "{" { b"{}" } else { b"}" })
}

/// Whether JSON and terminals take a text as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

fn json_text(text: &str) -> String {
    harmless(&serde_json::Value::from(text).to_string()).into_owned()
}

/// Escapes what JSON allows in strings but a terminal must not see; outside strings there is nothing of it.
pub fn harmless(json: &str) -> Cow<'_, str> {
    if !json.chars().any(human::is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if human::is_unsafe(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// What a report says of a trace: the manifest without its parts.
fn trace_json(trace: &Trace) -> serde_json::Value {
    let manifest = &trace.manifest;
    let mut json = serde_json::to_value(&manifest.session).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("path".to_owned(), trace.name().into());
        fields.insert("trace_id".to_owned(), manifest.trace_id.clone().into());
        fields.insert("complete".to_owned(), manifest.complete.into());
        fields.insert("warnings".to_owned(), trace.warnings.clone().into());
    }
    json
}

fn losses_json(traces: &[Trace], losses: &Losses) -> serde_json::Value {
    let row = |((trace, source), loss): (&(usize, String), &crate::losses::Loss)| {
        serde_json::json!({
            "trace_id": traces[*trace].manifest.trace_id,
            "source": source,
            "count": i64::try_from(loss.count).unwrap_or(i64::MAX),
            "places": loss.places,
            "places_without_count": loss.unknown,
            "from_ns": loss.from_ns,
            "to_ns": loss.to_ns,
            "cpus": loss.cpus,
        })
    };
    losses.by_source.iter().map(row).collect()
}

fn write_csv(report: Report<'_>, output: Output, mut out: impl Write) -> Result<(), Error> {
    // Tables with different columns share one heading.
    let tables = all_tables(&report.findings, report.traces, report.tables);
    let sections = tables.iter().any(|table| table.section.is_some());
    let mut names: Vec<String> = if sections { vec!["section".to_owned()] } else { Vec::new() };
    for column in tables.iter().flat_map(|table| &table.columns) {
        if !names.iter().any(|name| *name == column.name) {
            names.push(column.name.to_string());
        }
    }
    writeln!(out, "{}", names.join(","))?;
    for table in tables {
        let places: Vec<Option<usize>> =
            names.iter().map(|name| table.columns.iter().position(|column| column.name == *name)).collect();
        for row in limited(table.rows, output.limit) {
            let row = row?;
            for (i, place) in places.iter().enumerate() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                match (place, table.section) {
                    (Some(place), _) => write_csv_value(&row[*place], &mut out)?,
                    (None, Some(section)) if i == 0 => out.write_all(section.as_bytes())?,
                    _ => {}
                }
            }
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// How a formula begins, for some spreadsheets in wide characters too.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// A row of values.
///
/// # Errors
/// Those of `out`.
pub fn write_csv_row(values: &[Value], out: &mut impl Write) -> Result<(), Error> {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        write_csv_value(value, out)?;
    }
    Ok(out.write_all(b"\n")?)
}

fn write_csv_value(value: &Value, out: &mut impl Write) -> io::Result<()> {
    match value {
        Value::Null => Ok(()),
        Value::Int(number) => write!(out, "{number}"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Text(text) | Value::Json(text) => {
            let safe = human::escape(text);
            // A traced program must not choose a formula that a spreadsheet runs.
            let formula = if safe.starts_with(FORMULA) { "'" } else { "" };
            if safe.contains(['"', ',']) {
                write!(out, "\"{formula}{}\"", safe.replace('"', "\"\""))
            } else {
                write!(out, "{formula}{safe}")
            }
        }
    }
}
