//! A column of one row group as its file holds it: the values, each once, and per row the number of its value. What
//! depends on the value alone is then done once per value, and rows are counted and grouped by small integers.

use crate::decompress::{decompressed, next_page};
use crate::hybrid;
use crate::pages::{self, Header};
use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use parquet::basic::{Compression, Type};
use parquet::file::metadata::ColumnChunkMetaData;
use std::ops::Range;
use std::sync::Arc;

/// Row groups with more rows are decoded in small batches: their codes would take too much memory. The recorder's have
/// 122,880.
pub const ROWS_MAX: usize = 1 << 18;

/// The values of a column, each once.
#[derive(Clone, Debug)]
pub enum Values {
    /// Of a column of Int64.
    Int64(Vec<i64>),
    /// Of a column of Int32.
    Int32(Vec<i32>),
    /// Of a column of text.
    Text(Arc<StringArray>),
}

/// A column of one row group.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Per row the index of its value; the number of values: NULL.
    pub rows: Vec<u32>,
    /// What the indices stand for.
    pub values: Values,
    /// Whether any row is NULL.
    pub has_nulls: bool,
}

impl Values {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::Int64(values) => values.len(),
            Values::Int32(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        match self {
            Values::Int64(values) => size_of_val(values.as_slice()),
            Values::Int32(values) => size_of_val(values.as_slice()),
            Values::Text(values) => values.values().len() + size_of_val(values.offsets().as_ref()),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Codes {
    /// Decodes the bytes of a chunk of `rows` rows. `None`: it is encoded in another way, which Parquet's own reader
    /// knows, or it is damaged, which that reader tells.
    pub fn decode(mut chunk: &[u8], column: &ColumnChunkMetaData, rows: usize) -> Option<Codes> {
        let descriptor = column.column_descr();
        if rows > ROWS_MAX || descriptor.max_rep_level() != 0 || descriptor.max_def_level() > 1 {
            return None;
        }
        let (header, body) = next_page(&mut chunk)?;
        if header.kind != pages::DICTIONARY || !pages::PLAIN_ENCODINGS.contains(&header.encoding) {
            return None;
        }
        let values = decompressed(&header, body, column.compression(), |bytes| {
            read_values(bytes, usize::try_from(header.values).ok()?, column.column_type())
        })?;
        let mut codes = Codes { rows: Vec::with_capacity(rows), values, has_nulls: false };
        let of_column = Pages { is_optional: descriptor.max_def_level() == 1, compression: column.compression() };
        while codes.rows.len() < rows {
            let (header, body) = next_page(&mut chunk)?;
            let values = usize::try_from(header.values).ok().filter(|values| *values <= rows - codes.rows.len())?;
            of_column.add(&header, values, body, &mut codes)?;
        }
        // What comes behind the last row is no business of a reader that counts rows.
        chunk.is_empty().then_some(codes)
    }

    /// A column of NULLs; `None` of a type that has no codes.
    pub fn nulls(rows: usize, data_type: &DataType) -> Option<Codes> {
        let values = match data_type {
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Dictionary(..) => Values::Text(Arc::new(StringArray::new_null(0))),
            _ => return None,
        };
        (rows <= ROWS_MAX).then(|| Codes { rows: vec![0; rows], values, has_nulls: rows > 0 })
    }

    /// The codes of some rows; `None`: all.
    pub fn of_rows(mut self, rows: Option<&[u32]>) -> Codes {
        if let Some(rows) = rows {
            let null = self.values.len() as u32;
            let code = |row: &u32| self.rows.get(*row as usize).copied().unwrap_or(null);
            self.rows = rows.iter().map(code).collect();
        }
        self
    }

    /// Some rows as a column of Int64.
    fn int64(&self, values: &[i64], rows: Range<usize>) -> Int64Array {
        let of = |code: &u32| values.get(*code as usize).copied().unwrap_or(0);
        Int64Array::new(self.rows[rows.clone()].iter().map(of).collect(), self.validity(rows))
    }

    fn int32(&self, values: &[i32], rows: Range<usize>) -> Int32Array {
        let of = |code: &u32| values.get(*code as usize).copied().unwrap_or(0);
        Int32Array::new(self.rows[rows.clone()].iter().map(of).collect(), self.validity(rows))
    }

    /// Some rows as Arrow has them.
    pub fn array(&self, rows: Range<usize>) -> Option<ArrayRef> {
        Some(match &self.values {
            Values::Int64(values) => Arc::new(self.int64(values, rows)),
            Values::Int32(values) => Arc::new(self.int32(values, rows)),
            Values::Text(values) => {
                let keys: ScalarBuffer<i32> = self.rows[rows.clone()].iter().map(|code| *code as i32).collect();
                let keys = Int32Array::new(keys, self.validity(rows));
                Arc::new(DictionaryArray::try_new(keys, values.clone()).ok()?)
            }
        })
    }

    fn validity(&self, rows: Range<usize>) -> Option<NullBuffer> {
        let null = self.values.len() as u32;
        self.has_nulls.then(|| self.rows[rows].iter().map(|code| *code != null).collect())
    }
}

/// The values of a dictionary page.
fn read_values(bytes: &[u8], count: usize, kind: Type) -> Option<Values> {
    match kind {
        Type::INT64 => Some(Values::Int64(fixed(bytes, count, i64::from_le_bytes)?)),
        Type::INT32 => Some(Values::Int32(fixed(bytes, count, i32::from_le_bytes)?)),
        Type::BYTE_ARRAY => texts(bytes, count).map(Arc::new).map(Values::Text),
        _ => None,
    }
}

fn fixed<T, const BYTES: usize>(bytes: &[u8], count: usize, value: impl Fn([u8; BYTES]) -> T) -> Option<Vec<T>> {
    let (values, rest) = bytes.as_chunks();
    (values.len() == count && rest.is_empty()).then(|| values.iter().map(|bytes| value(*bytes)).collect())
}

fn texts(mut bytes: &[u8], count: usize) -> Option<StringArray> {
    let mut lengths = Vec::new();
    let mut text = Vec::with_capacity(bytes.len());
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (value, rest) = rest.split_at_checked(length)?;
        text.extend_from_slice(value);
        lengths.push(length);
        bytes = rest;
    }
    StringArray::try_new(OffsetBuffer::from_lengths(lengths), text.into(), None).ok()
}

/// How the data pages of a column are read.
struct Pages {
    is_optional: bool,
    compression: Compression,
}

impl Pages {
    fn add(&self, header: &Header, values: usize, body: &[u8], codes: &mut Codes) -> Option<()> {
        let is_coded = pages::DICTIONARY_ENCODINGS.contains(&header.encoding);
        if header.kind != pages::DATA || !is_coded || values == 0 {
            return None;
        }
        decompressed(header, body, self.compression, |bytes| {
            if !self.is_optional {
                return add_present(bytes, values, codes.values.len(), &mut codes.rows);
            }
            if header.levels_encoding != pages::RLE {
                return None;
            }
            let (length, rest) = bytes.split_first_chunk()?;
            let (levels, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            match hybrid::only_value(levels, 1, values) {
                Some(1) => add_present(rest, values, codes.values.len(), &mut codes.rows),
                Some(0) => {
                    codes.has_nulls = true;
                    codes.rows.resize(codes.rows.len() + values, codes.values.len() as u32);
                    Some(())
                }
                _ => add_optional(levels, rest, values, codes),
            }
        })
    }
}

/// Rows without NULL, of a dictionary of `values`.
fn add_present(bytes: &[u8], count: usize, values: usize, rows: &mut Vec<u32>) -> Option<()> {
    let from = rows.len();
    let (width, packed) = bytes.split_first()?;
    hybrid::decode(packed, u32::from(*width), count, rows)?;
    let most = rows[from..].iter().fold(0, |most, code| most.max(*code));
    ((most as usize) < values).then_some(())
}

/// Rows of which some are NULL.
fn add_optional(levels: &[u8], bytes: &[u8], count: usize, codes: &mut Codes) -> Option<()> {
    let mut present = Vec::with_capacity(count + 8);
    hybrid::decode(levels, 1, count, &mut present)?;
    let filled = present.iter().map(|level| *level as usize).sum();
    codes.has_nulls |= filled < count;
    let (values, null) = (codes.values.len(), codes.values.len() as u32);
    let mut of_filled = Vec::with_capacity(filled + 8);
    if filled > 0 {
        add_present(bytes, filled, values, &mut of_filled)?;
    }
    // One more, which is looked at and not taken: no row is a branch.
    of_filled.push(null);
    let mut next = 0;
    codes.rows.extend(present.iter().map(|level| {
        let code = if *level == 1 { of_filled[next] } else { null };
        next += *level as usize;
        code
    }));
    Some(())
}
