//! A row of the table `losses`: what is lost behind the rings.

use super::compact;
use super::log::{Rows, Standing};
use crate::losses::{self, Source};
use crate::tables::LOSSES;
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int32Type, Int64Type, Schema};
use std::sync::Arc;

/// Calls that were lost. Instants in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How.
    pub source: Source,
    /// They ended behind this instant…
    pub from_ns: i64,
    /// …and before this one.
    pub to_ns: i64,
    /// How many; `None`: nobody knows.
    pub count: Option<i64>,
}

impl Loss {
    /// Its row in this trace.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn row(&self, trace_id: &str) -> Result<Rows, String> {
        let text = |value| -> ArrayRef { Arc::new([Some(value)].into_iter().collect::<DictionaryArray<Int32Type>>()) };
        let number = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
        let to_ns = self.to_ns.max(self.from_ns);
        let filled = [
            Some(("trace_id", text(trace_id))),
            Some(("from_ns", number(self.from_ns))),
            Some(("to_ns", number(to_ns))),
            Some(("source", text(self.source.name))),
            self.count.map(|count| ("count", number(count))),
        ];
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = filled
            .into_iter()
            .flatten()
            .map(|(name, values)| (Field::new(name, values.data_type().clone(), false), values))
            .unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())?;
        Ok(Rows { table: &LOSSES, standing: Standing::Final, until_ns: to_ns, batch })
    }
}

/// Calls that these rows say are lost.
pub fn calls_of(rows: &RecordBatch) -> i64 {
    let (sources, counts) = (compact::column(rows, "source"), compact::column(rows, "count"));
    let sources = sources.as_ref().and_then(|column| column.as_dictionary_opt::<Int32Type>());
    let counts = counts.as_ref().and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(sources), Some(counts)) = (sources, counts) else { return 0 };
    let Some(sources) = sources.downcast_dict::<StringArray>() else { return 0 };
    let counts_calls = |source: Option<&str>| source.and_then(losses::by_name).is_some_and(|s| s.counts_calls);
    let rows = sources.into_iter().zip(counts.iter());
    rows.filter(|(source, _)| counts_calls(*source)).filter_map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn only_losses_of_calls_are_calls() {
        let calls = |source, count| calls_of(&Loss { source, from_ns: 5, to_ns: 4, count }.row("t").unwrap().batch);
        assert_eq!(calls(losses::DISK_FULL, Some(7)), 7);
        assert_eq!(calls(losses::RECORDS, Some(7)), 0);
        assert_eq!(calls(losses::TAIL, None), 0);
    }
}
