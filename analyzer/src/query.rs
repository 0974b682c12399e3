//! What a question to a trace is: the columns it needs, how it folds rows into a partial answer, and how two partial
//! answers become one. The scan does the rest: which row groups, in which threads, within which memory.

use crate::batch::Batch;
use crate::error::Error;
use crate::scan::CodedGroup;
use ipc_schema::tables::Table;

/// A question to one table of all traces.
pub trait Query: Sync {
    /// What has been learnt from some rows.
    type Partial: Send;

    /// The table.
    fn table(&self) -> &'static Table;

    /// The columns to read of a row group; its statistics tell what cannot matter there.
    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str>;

    /// Which rows matter, if not all: the others are not decoded any further, nor folded.
    fn only(&self) -> Option<Only> {
        None
    }

    /// A column, and those of [`Query::columns`] that matter only in rows in which it is NULL: where there are none, they
    /// are not read.
    fn instead_of(&self) -> Option<(&'static str, &'static [&'static str])> {
        None
    }

    /// The answer from no rows.
    fn empty(&self) -> Self::Partial;

    /// Adds rows.
    ///
    /// # Errors
    /// Rows that cannot be believed.
    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error>;

    /// Adds a whole row group by the codes of its columns, where that is faster than rows; `false`, and nothing added,
    /// where it cannot. Only asked when the selection keeps every row.
    ///
    /// # Errors
    /// Rows that cannot be believed.
    fn fold_codes(&self, _partial: &mut Self::Partial, _group: &CodedGroup<'_>) -> Result<bool, Error> {
        Ok(false)
    }

    /// Adds what another thread learnt.
    fn merge(&self, into: &mut Self::Partial, from: Self::Partial);
}

/// Rows that one column alone tells.
#[derive(Clone, Copy, Debug)]
pub enum Only {
    /// Those in which it is not NULL.
    Filled(&'static str),
    /// Those in which its number is above zero.
    Positive(&'static str),
    /// Those in which its text is one of some.
    Named(&'static str, fn(&str) -> bool),
}

/// What is known of a row group before it is read.
pub trait GroupStatistics {
    /// How many NULLs a column has, `None` if that is not known.
    fn null_count(&self, column: &str) -> Option<u64>;

    /// Whether no number of a column is certainly above `bound`; NULLs do not matter.
    fn is_at_most(&self, column: &str, bound: i64) -> bool;

    /// Whether a text column certainly holds nothing but `value`.
    fn is_always(&self, column: &str, value: &str) -> bool;

    /// Whether a Boolean column certainly holds no true.
    fn is_false(&self, column: &str) -> bool;
}
