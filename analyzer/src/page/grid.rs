//! The tables of an answer, kept to be looked at, and drawn.

use crate::error::Error;
use crate::human::{self, Zone};
use crate::render;
use crate::report::{Answer, Column, Unit, Value};

/// Rows of a table that are kept at most: figures are drawn from them.
const ROWS_MAX: usize = 1 << 16;

/// The tables of an answer.
#[derive(Debug, Default)]
pub struct Collected {
    tables: Vec<Kept>,
    /// What is to be said behind them, escaped.
    pub notes: Vec<String>,
}

/// One of them.
#[derive(Debug)]
struct Kept {
    section: Option<&'static str>,
    title: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    /// Rows that are not kept.
    more: usize,
}

/// A row by the names of its columns.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    columns: &'a [Column],
    values: &'a [Value],
}

/// A table as it is drawn.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Its heading.
    pub title: String,
    /// The headings of its columns, and whether numbers stand there.
    pub columns: Vec<(&'static str, bool)>,
    /// Its cells.
    pub rows: Vec<Vec<String>>,
    /// How many rows are not shown.
    pub more: usize,
}

impl Collected {
    /// Keeps the first rows of each table.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn new(answer: Answer<'_>) -> Result<Collected, Error> {
        let mut tables = Vec::new();
        for table in answer.tables {
            let mut rows = table.rows;
            let first = rows.by_ref().take(ROWS_MAX).collect::<Result<Vec<_>, _>>()?;
            let (section, title, columns) = (table.section, table.title, table.columns);
            tables.push(Kept { section, title, columns, rows: first, more: rows.count() });
        }
        let notes = answer.closing.iter().map(|line| human::escape(line)).collect();
        Ok(Collected { tables, notes })
    }

    /// How many rows of a section are not kept.
    pub fn more(&self, section: &str) -> usize {
        self.table(section).map_or(0, |table| table.more)
    }

    fn table(&self, section: &str) -> Option<&Kept> {
        self.tables.iter().find(|table| table.section.unwrap_or_default() == section)
    }

    /// The rows of a section; of an answer without sections that of no name.
    pub fn rows(&self, section: &str) -> impl Iterator<Item = Row<'_>> {
        self.table(section)
            .into_iter()
            .flat_map(|table| table.rows.iter().map(|values| Row { columns: &table.columns, values }))
    }

    /// The first rows of a section, with the columns that are for people.
    pub fn grid(&self, section: &str, most: usize) -> Grid {
        let Some(table) = self.table(section) else {
            return Grid { title: String::new(), columns: Vec::new(), rows: Vec::new(), more: 0 };
        };
        let shown: Vec<(usize, &Column)> =
            table.columns.iter().enumerate().filter(|(_, column)| !column.heading.is_empty()).collect();
        let row = |values: &Vec<Value>| {
            let text = |(i, column): &(usize, &Column)| {
                values.get(*i).map_or_else(String::new, |value| render::text_of(value, column.unit, Zone::Utc))
            };
            shown.iter().map(text).collect()
        };
        Grid {
            title: table.title.clone(),
            columns: shown.iter().map(|(_, column)| (column.heading, column.unit != Unit::Text)).collect(),
            rows: table.rows.iter().take(most).map(row).collect(),
            more: table.rows.len().saturating_sub(most) + table.more,
        }
    }
}

impl<'a> Row<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        let place = self.columns.iter().position(|column| column.name == name)?;
        self.values.get(place)
    }

    /// A number; `None` for NULL.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Int(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A text; `None` for NULL.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is true.
    pub fn is_true(&self, name: &str) -> bool {
        self.value(name) == Some(&Value::Bool(true))
    }
}
