//! Any table of a trace as cells, each by the declaration of its column.

use crate::trace::Trace;
use ipc_schema::tables::{self, Kind};
use std::collections::{BTreeMap, HashMap};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Absent or unknown.
    Null,
    /// An integer, an instant in nanoseconds, or a boolean as 0 or 1.
    Integer(i64),
    /// Text.
    Text(String),
}

/// Some columns of a table.
pub struct Cells {
    columns: BTreeMap<&'static str, Vec<Cell>>,
    count: usize,
}

impl Cell {
    /// The integer, if it is one.
    pub fn integer(&self) -> Option<i64> {
        if let Cell::Integer(value) = self { Some(*value) } else { None }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Cell::Text(text) = self { Some(text) } else { None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Cell {
        Cell::Integer(value)
    }
}

impl Cells {
    /// Reads columns of a table, in the order of its rows.
    ///
    /// # Panics
    /// When the format has no such table or column.
    pub fn read(trace: &Trace, table: &str, columns: &[&'static str]) -> Cells {
        let declared = tables::by_name(table).unwrap();
        let rows = trace.table(table, columns);
        let read = |name: &&'static str| {
            let cells = match declared.column(name).unwrap_or_else(|| panic!("{table} has no column {name}")).kind {
                Kind::Text => rows.texts(name).into_iter().map(|text| text.map_or(Cell::Null, Cell::Text)).collect(),
                Kind::Int32List => panic!("{table}.{name} is a list"),
                _ => rows.integers(name).into_iter().map(|value| value.map_or(Cell::Null, Cell::Integer)).collect(),
            };
            (*name, cells)
        };
        Cells { columns: columns.iter().map(read).collect(), count: rows.count() }
    }

    /// How many rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// One value.
    pub fn get(&self, column: &str, row: usize) -> &Cell {
        &self.columns[column][row]
    }

    /// An integer that is not NULL.
    pub fn integer(&self, column: &str, row: usize) -> i64 {
        let cell = self.get(column, row);
        cell.integer().unwrap_or_else(|| panic!("row {row}: {column} is {cell:?}"))
    }

    /// A text that is not NULL.
    pub fn text(&self, column: &str, row: usize) -> &str {
        let cell = self.get(column, row);
        cell.text().unwrap_or_else(|| panic!("row {row}: {column} is {cell:?}"))
    }

    /// The rows by a column of ids.
    ///
    /// # Panics
    /// When one comes twice.
    pub fn by_id(&self, column: &str) -> HashMap<i64, usize> {
        let rows: HashMap<i64, usize> = (0..self.count).map(|row| (self.integer(column, row), row)).collect();
        assert_eq!(rows.len(), self.count, "{column} is unique");
        rows
    }

    /// A row's values of these columns, in their order.
    pub fn row(&self, columns: &[&str], row: usize) -> Vec<Cell> {
        columns.iter().map(|column| self.get(column, row).clone()).collect()
    }
}
