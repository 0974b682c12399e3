//! The row of the table `session`: what `trace.json` says, as columns.

use super::compact;
use crate::manifest::Manifest;
use crate::tables::{Kind, SESSION, arrow_schema};
use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int32Type, Schema};
use serde_json::Value;
use std::sync::Arc;

/// The row; what is no text and no number is JSON.
///
/// # Errors
/// Something is missing that may not be NULL.
pub fn row(manifest: &Manifest) -> Result<RecordBatch, String> {
    let mut values = serde_json::to_value(&manifest.session).map_err(|error| error.to_string())?;
    values["trace_id"] = manifest.trace_id.clone().into();
    let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
    for column in SESSION.columns {
        let value = values.get(column.name).filter(|value| !value.is_null());
        let (Some(value), Some(field)) = (value, arrow_schema::fields(column).into_iter().next()) else { continue };
        columns.push((field, array(column.kind, value)));
    }
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let row = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())?;
    compact::check(&SESSION, &row)?;
    Ok(row)
}

fn array(kind: Kind, value: &Value) -> ArrayRef {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match kind {
        Kind::Int64 | Kind::Instant => Arc::new(Int64Array::from(vec![value.as_i64()])),
        Kind::Int32 => Arc::new(Int32Array::from(vec![value.as_i64().and_then(|number| i32::try_from(number).ok())])),
        _ => Arc::new([Some(text.as_str())].into_iter().collect::<DictionaryArray<Int32Type>>()),
    }
}
