//! Looks at what a footer claims before it is built: how many columns, row groups and column chunks. What is built of a
//! chunk takes fifty times the bytes that it takes in the file, and the schema is built by recursion.

use crate::thrift::{self, Item};

/// The recorder's tables have fewer than a hundred columns.
const SCHEMA_ELEMENTS_MAX: usize = 400;
/// The recorder's largest parts have some 30,000.
const COLUMN_CHUNKS_MAX: usize = 150_000;
/// Of all lists together: encodings, statistics, histograms, key-value pairs.
const LIST_ELEMENTS_MAX: usize = 3_000_000;

/// Checks the lists of a footer.
///
/// # Errors
/// What is claimed and cannot be.
pub fn check(footer: &[u8]) -> Result<(), String> {
    let (mut chunks, mut elements) = (0usize, 0usize);
    let visit = |path: &[i16], item: Item| {
        let Item::List(length) = item else { return Ok(()) };
        elements = elements.saturating_add(length);
        match path {
            [2] if length > SCHEMA_ELEMENTS_MAX => {
                return Err(format!("claims {length} columns, more than a trace can need: refused"));
            }
            [4, 1] => chunks = chunks.saturating_add(length),
            _ => {}
        }
        if chunks > COLUMN_CHUNKS_MAX || elements > LIST_ELEMENTS_MAX {
            return Err(format!("claims {chunks} column chunks and more, more than a trace can need: refused"));
        }
        Ok(())
    };
    thrift::walk(footer, visit).map(|_| ())
}
