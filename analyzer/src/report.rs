//! An answer before it is rendered: tables of named values, and what a reader must know to believe them.

use crate::error::Error;
use crate::finding::Finding;
use crate::losses::Losses;
use crate::trace::Trace;
use std::borrow::Cow;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Absent or unknown.
    Null,
    /// A number; its unit is the column's.
    Int(i128),
    /// True or false.
    Bool(bool),
    /// Text, possibly chosen by a traced program: escaped when it is rendered.
    Text(String),
    /// A JSON document.
    Json(String),
}

impl Value {
    /// A number or NULL.
    pub fn int(value: Option<impl Into<i128>>) -> Value {
        value.map_or(Value::Null, |v| Value::Int(v.into()))
    }

    /// A text or NULL.
    pub fn text(value: Option<impl Into<String>>) -> Value {
        value.map_or(Value::Null, |v| Value::Text(v.into()))
    }
}

/// How a column reads for a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// As it is, to the left.
    Text,
    /// An identifier: digits only.
    Id,
    /// A count: digits in groups of three.
    Count,
    /// Parts of a thousand: 12.3 %.
    Share,
    /// Nanoseconds: 1.23 ms.
    Duration,
    /// Nanoseconds since the epoch: a date.
    Instant,
}

/// A column of an answer.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name in JSON and CSV: the column of the trace where it is one.
    pub name: Cow<'static, str>,
    /// Its heading on a terminal; empty: only for machines.
    pub heading: &'static str,
    /// How it reads.
    pub unit: Unit,
    /// Where a line would be too long for a terminal, the columns with the highest numbers give way first.
    pub yields: u8,
}

/// Shorthand for a column.
pub const fn column(name: &'static str, heading: &'static str, unit: Unit) -> Column {
    Column { name: Cow::Borrowed(name), heading, unit, yields: 0 }
}

impl Column {
    /// The column, giving way before those with lower numbers (0 where nothing is said).
    pub const fn yields(mut self, rank: u8) -> Column {
        self.yields = rank;
        self
    }
}

/// The rows of a table, produced as they are written.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Vec<Value>, Error>> + 'a>;

/// One table of an answer.
pub struct Table<'a> {
    /// The value of `section` in the rows of a command with several tables.
    pub section: Option<&'static str>,
    /// The heading on a terminal.
    pub title: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Rows<'a>,
    /// Whether JSON leaves out NULLs.
    pub sparse: bool,
    /// How many rows a terminal shows without `--limit`.
    pub text_limit: usize,
}

/// An answer.
pub struct Report<'a> {
    /// The command.
    pub command: &'static str,
    /// What it was asked of.
    pub traces: &'a [Trace],
    /// What the traces lost.
    pub losses: &'a Losses,
    /// What bears on the answer, most important first.
    pub marks: Vec<Mark>,
    /// What is wrong, the surest first.
    pub findings: Vec<Finding>,
    /// Lines before the tables, on a terminal.
    pub preface: Vec<String>,
    /// The tables.
    pub tables: Vec<Table<'a>>,
    /// Lines after the tables, on a terminal.
    pub closing: Vec<String>,
}

/// What a command found out.
#[derive(Default)]
pub struct Answer<'a> {
    /// What is wrong, sorted by [`crate::finding::sort`].
    pub findings: Vec<Finding>,
    /// Lines before the tables, on a terminal.
    pub preface: Vec<String>,
    /// The tables.
    pub tables: Vec<Table<'a>>,
    /// Lines after the tables, on a terminal.
    pub closing: Vec<String>,
    /// How many of its calls began before the trace.
    pub before_trace: u64,
}

/// Something that a reader must know to believe the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How bad it is.
    pub severity: Severity,
    /// What it is and which answers it bears on.
    pub text: String,
}

/// How bad a mark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Answers are wrong or incomplete by an unintended cause; `--strict` refuses.
    Loss,
    /// Answers are limited on purpose or by the machine.
    Limit,
}
