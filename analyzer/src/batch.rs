//! Some rows of one table, with exactly the columns that were asked for.

use crate::error::Error;
use arrow::array::{
    Array, BooleanArray, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use std::sync::Arc;

/// Rows of one trace.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The index of the trace among those that were given.
    pub trace: usize,
    /// The columns.
    pub record: RecordBatch,
    /// The indices of the columns by their names: some questions look for each column of each row.
    places: Arc<HashMap<String, usize>>,
}

impl Batch {
    /// Rows of the trace with this index.
    pub fn new(trace: usize, record: RecordBatch) -> Batch {
        let names = record.schema_ref().fields().iter().map(|field| field.name().clone());
        let places = Arc::new(names.zip(0..).collect());
        Batch { trace, record, places }
    }

    /// Those rows for which `mask` is true.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the columns are not as they say.
    pub fn filtered(&self, mask: &BooleanArray) -> Result<Batch, Error> {
        let record =
            filter_record_batch(&self.record, mask).map_err(|error| Error::damaged("the trace", error.to_string()))?;
        Ok(Batch { trace: self.trace, record, places: Arc::clone(&self.places) })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.record.num_rows()
    }

    /// Whether the column was read: a query can do without some where the statistics say that all is NULL.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A column of Int64.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was not asked for or has another type.
    pub fn int64(&self, name: &str) -> Result<&Int64Array, Error> {
        self.column(name)
    }

    /// A column of Int32.
    ///
    /// # Errors
    /// As [`Batch::int64`].
    pub fn int32(&self, name: &str) -> Result<&Int32Array, Error> {
        self.column(name)
    }

    /// A column of Boolean.
    ///
    /// # Errors
    /// As [`Batch::int64`].
    pub fn boolean(&self, name: &str) -> Result<&BooleanArray, Error> {
        self.column(name)
    }

    /// A twin of an instant.
    ///
    /// # Errors
    /// As [`Batch::int64`].
    pub fn time(&self, name: &str) -> Result<&TimestampMicrosecondArray, Error> {
        self.column(name)
    }

    /// A column of lists.
    ///
    /// # Errors
    /// As [`Batch::int64`].
    pub fn list(&self, name: &str) -> Result<&ListArray, Error> {
        self.column(name)
    }

    /// The numbers in the list of a row; `None` for NULL.
    ///
    /// # Errors
    /// As [`Batch::int64`].
    pub fn numbers(&self, name: &str, row: usize) -> Result<Option<Vec<i32>>, Error> {
        let lists = self.list(name)?;
        if lists.is_null(row) {
            return Ok(None);
        }
        let list = lists.value(row);
        let numbers: &Int32Array = list.as_any().downcast_ref().ok_or_else(|| no_column(name))?;
        Ok(Some(numbers.values().to_vec()))
    }

    /// A column of text.
    ///
    /// # Errors
    /// As [`Batch::int64`].
    pub fn text(&self, name: &str) -> Result<Text<'_>, Error> {
        let dictionary: &DictionaryArray<Int32Type> = self.column(name)?;
        let values = dictionary.values().as_any().downcast_ref().ok_or_else(|| no_column(name))?;
        Ok(Text { dictionary, keys: dictionary.keys(), values })
    }

    fn column<A: Array + 'static>(&self, name: &str) -> Result<&A, Error> {
        let column = self.places.get(name).map(|place| self.record.column(*place));
        column.and_then(|column| column.as_any().downcast_ref()).ok_or_else(|| no_column(name))
    }
}

fn no_column(name: &str) -> Error {
    Error::damaged("the trace", format!("column {name} is missing or has another type"))
}

/// A column of text: keys into few values.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The column itself.
    pub dictionary: &'a DictionaryArray<Int32Type>,
    /// Per row the index of its value.
    pub keys: &'a Int32Array,
    /// The values, each once (but not every one in use).
    pub values: &'a StringArray,
}

impl<'a> Text<'a> {
    /// The text of a row, `None` for NULL.
    pub fn get(&self, row: usize) -> Option<&'a str> {
        self.index(row).map(|index| self.values.value(index))
    }

    /// The index of the row's value, `None` for NULL.
    #[inline]
    pub fn index(&self, row: usize) -> Option<usize> {
        if self.keys.is_null(row) {
            return None;
        }
        let index = usize::try_from(self.keys.value(row)).ok()?;
        (index < self.values.len() && self.values.is_valid(index)).then_some(index)
    }
}

/// The value of a row, `None` for NULL.
pub fn int64_at(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

/// The value of a row, `None` for NULL.
pub fn int32_at(column: &Int32Array, row: usize) -> Option<i32> {
    column.is_valid(row).then(|| column.value(row))
}
