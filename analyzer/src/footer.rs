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
    let mut claims = Claims::default();
    thrift::walk(footer, |path, item| claims.add(path, item)).map(|_| ())
}

/// What has been met so far.
#[derive(Default)]
struct Claims {
    schema_elements: usize,
    chunks: usize,
    list_elements: usize,
}

impl Claims {
    fn add(&mut self, path: &[i16], item: Item) -> Result<(), String> {
        match (path, item) {
            ([2], Item::List(length)) => self.schema_elements = length,
            // The children of a node of the schema: room for them is made before they are looked for.
            ([2, 5], Item::Number(children)) if !(0..=SCHEMA_ELEMENTS_MAX as i64).contains(&children) => {
                return Err(format!("claims {children} columns in one: refused"));
            }
            // Each row group makes room for a chunk of each column.
            ([4], Item::List(length)) => self.chunks = length.saturating_mul(self.schema_elements),
            _ => {}
        }
        if let Item::List(length) = item {
            self.list_elements = self.list_elements.saturating_add(length);
        }
        if self.schema_elements > SCHEMA_ELEMENTS_MAX {
            return Err(format!("claims {} columns, more than a trace can need: refused", self.schema_elements));
        }
        if self.chunks > COLUMN_CHUNKS_MAX || self.list_elements > LIST_ELEMENTS_MAX {
            return Err(format!("claims {} column chunks and more, more than a trace can need: refused", self.chunks));
        }
        Ok(())
    }
}
