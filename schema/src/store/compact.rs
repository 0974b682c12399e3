//! Rows as they stand in a log, which is how they are built: a column that is NULL in every row is left out, one that has the
//! same value in every row may be a run, and an instant has no twin.

use crate::tables::{Column, Kind, Table, arrow_schema};
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, RunArray, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Fewer rows are not worth a run.
const RUN_ROWS_MIN: usize = 64;

/// The type of a column's values in a run; `None`: there are no runs of it.
fn run_type(column: &Column, plain: &DataType) -> Option<DataType> {
    match (column.kind, plain) {
        (Kind::Text, _) => Some(DataType::Utf8),
        (_, DataType::List(_)) => None,
        _ => Some(plain.clone()),
    }
}

/// A column with the same value, that of an array of one row, in so many rows; text is Utf8 or a dictionary of it.
///
/// # Errors
/// There is not one value.
pub fn constant(value: &ArrayRef, rows: usize) -> Result<ArrayRef, ArrowError> {
    if rows >= RUN_ROWS_MIN {
        let ends = Int32Array::from_iter_values([i32::try_from(rows).unwrap_or(i32::MAX)]);
        return Ok(Arc::new(RunArray::try_new(&ends, value.as_ref())?));
    }
    repeated(value, &Int32Array::from_value(0, rows))
}

/// The values at these places; text becomes a dictionary.
fn repeated(values: &ArrayRef, places: &Int32Array) -> Result<ArrayRef, ArrowError> {
    match values.data_type() {
        DataType::Utf8 => Ok(Arc::new(DictionaryArray::try_new(places.clone(), values.clone())?)),
        _ => take(values, places, None),
    }
}

/// A column without runs.
///
/// # Errors
/// There is no memory for it.
pub fn flat(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let Some(runs) = values.as_run_opt::<Int32Type>() else { return Ok(values.clone()) };
    let places: Int32Array = (0..runs.len()).map(|row| runs.get_physical_index(row) as i32).collect();
    repeated(runs.values(), &places)
}

/// A column of rows, without runs; `None`: it is NULL in every row, or there is no memory for it.
pub fn column(rows: &RecordBatch, name: &str) -> Option<ArrayRef> {
    flat(rows.column_by_name(name)?).ok()
}

/// Whether these can be rows of a table.
///
/// # Errors
/// A column has another type, or may not be NULL.
pub fn check(table: &Table, rows: &RecordBatch) -> Result<(), String> {
    for column in table.columns {
        let plain = arrow_schema::fields(column)[0].data_type().clone();
        let found = rows.column_by_name(column.name);
        let is_fitting = |found: &ArrayRef| match found.as_run_opt::<Int32Type>() {
            Some(runs) => Some(runs.values().data_type()) == run_type(column, &plain).as_ref(),
            None => *found.data_type() == plain,
        };
        if let Some(found) = found.filter(|found| !is_fitting(found)) {
            return Err(format!("column {} of {} is {}", column.name, table.name, found.data_type()));
        }
        if !column.nullable && rows.num_rows() > 0 && found.is_none_or(|found| found.logical_null_count() > 0) {
            return Err(format!("column {} of {} may not be NULL", column.name, table.name));
        }
    }
    Ok(())
}

/// Rows with every column of the table, as a reader of a part sees them.
///
/// # Errors
/// A column has another type, or may not be NULL.
pub fn complete(table: &Table, rows: &RecordBatch) -> Result<RecordBatch, String> {
    check(table, rows)?;
    let failed = |error: ArrowError| format!("rows of {}: {error}", table.name);
    let mut columns = Vec::new();
    for column in table.columns {
        let kind = arrow_schema::fields(column)[0].data_type().clone();
        let values = match rows.column_by_name(column.name) {
            Some(found) => flat(found).map_err(failed)?,
            None => new_null_array(&kind, rows.num_rows()),
        };
        let twin = (column.kind == Kind::Instant).then(|| time_of(&values));
        columns.push(values);
        columns.extend(twin);
    }
    RecordBatch::try_new(Arc::new(arrow_schema::schema(table)), columns).map_err(failed)
}

/// The twin of an instant.
pub fn time_of(instants: &ArrayRef) -> ArrayRef {
    match instants.as_primitive_opt::<Int64Type>() {
        Some(ns) => Arc::new(ns.unary::<_, TimestampMicrosecondType>(|ns| ns.div_euclid(1000)).with_timezone("UTC")),
        None => new_null_array(&arrow_schema::time(), instants.len()),
    }
}
