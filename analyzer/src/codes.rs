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
    /// Decodes the bytes of a chunk of `rows` rows; with `wanted`, which rises, these rows alone. `None`: it is encoded in
    /// another way, which Parquet's own reader knows, or it is damaged, which that reader tells.
    pub fn decode(
        mut chunk: &[u8],
        column: &ColumnChunkMetaData,
        rows: usize,
        wanted: Option<&[u32]>,
    ) -> Option<Codes> {
        let of_column = Pages::new(column, rows)?;
        let (header, body) = next_page(&mut chunk)?;
        if header.kind != pages::DICTIONARY || !pages::PLAIN_ENCODINGS.contains(&header.encoding) {
            return None;
        }
        let values = decompressed(&header, body, column.compression(), |bytes| {
            read_values(bytes, usize::try_from(header.values).ok()?, column.column_type())
        })?;
        let mut codes = Codes { rows: Vec::with_capacity(wanted.map_or(rows, <[u32]>::len)), values, has_nulls: false };
        let mut left = wanted.unwrap_or_default();
        of_column.each(&mut chunk, |done, header, values, body| {
            if wanted.is_none() {
                return of_column.add(header, values, body, &mut codes);
            }
            let (here, rest) = left.split_at(left.partition_point(|row| (*row as usize) < done + values));
            left = rest;
            let places: Vec<u32> = here.iter().map(|row| row - done as u32).collect();
            of_column.pick(header, values, body, &places, &mut codes)
        })?;
        left.is_empty().then_some(codes)
    }

    /// The rows of a chunk that are not NULL. `None`: as of [`Codes::decode`].
    pub fn present(mut chunk: &[u8], column: &ColumnChunkMetaData, rows: usize) -> Option<Vec<u32>> {
        let of_column = Pages::new(column, rows).filter(|of_column| of_column.is_optional)?;
        next_page(&mut chunk).filter(|(header, _)| header.kind == pages::DICTIONARY)?;
        let mut present = Vec::new();
        of_column.each(&mut chunk, |done, header, values, body| {
            of_column.read(header, values, body, |bytes| {
                let (levels, _) = levels(bytes)?;
                hybrid::ones(levels, values, done as u32, &mut present)
            })
        })?;
        Some(present)
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

    /// The codes of some rows.
    pub fn of_rows(self, rows: &[u32]) -> Codes {
        let null = self.values.len() as u32;
        let code = |row: &u32| self.rows.get(*row as usize).copied().unwrap_or(null);
        let rows: Vec<u32> = rows.iter().map(code).collect();
        Codes { has_nulls: rows.contains(&null), rows, ..self }
    }

    /// The rows with a number above zero. `None`: it is no column of Int64.
    pub fn positive(&self) -> Option<Vec<u32>> {
        let Values::Int64(values) = &self.values else { return None };
        // The last is NULL.
        let is_positive: Vec<bool> = values.iter().map(|value| *value > 0).chain([false]).collect();
        let mut rows = vec![0; self.rows.len()];
        let mut count = 0;
        // Without a branch: which rows waited is hard to foresee.
        for (row, code) in self.rows.iter().enumerate() {
            rows[count] = row as u32;
            count += usize::from(is_positive[*code as usize]);
        }
        rows.truncate(count);
        Some(rows)
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
    rows: usize,
}

impl Pages {
    /// `None`: the column has lists, or the row group too many rows.
    fn new(column: &ColumnChunkMetaData, rows: usize) -> Option<Pages> {
        let descriptor = column.column_descr();
        if rows > ROWS_MAX || descriptor.max_rep_level() != 0 || descriptor.max_def_level() > 1 {
            return None;
        }
        Some(Pages { is_optional: descriptor.max_def_level() == 1, compression: column.compression(), rows })
    }

    /// Calls `read` with each data page: the rows before it, its header, how many rows it has, its body.
    fn each(&self, chunk: &mut &[u8], mut read: impl FnMut(usize, &Header, usize, &[u8]) -> Option<()>) -> Option<()> {
        let mut done = 0;
        while done < self.rows {
            let (header, body) = next_page(chunk)?;
            let values = usize::try_from(header.values).ok().filter(|values| *values <= self.rows - done)?;
            read(done, &header, values, body)?;
            done += values;
        }
        // What comes behind the last row is no business of a reader that counts rows.
        chunk.is_empty().then_some(())
    }

    /// Calls `read` with the decompressed bytes of a page of codes.
    fn read<T>(&self, header: &Header, values: usize, body: &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let is_coded = pages::DICTIONARY_ENCODINGS.contains(&header.encoding);
        if header.kind != pages::DATA || !is_coded || values == 0 {
            return None;
        }
        if self.is_optional && header.levels_encoding != pages::RLE {
            return None;
        }
        decompressed(header, body, self.compression, read)
    }

    fn add(&self, header: &Header, values: usize, body: &[u8], codes: &mut Codes) -> Option<()> {
        self.read(header, values, body, |bytes| {
            if !self.is_optional {
                return add_present(bytes, values, codes.values.len(), &mut codes.rows);
            }
            let (levels, rest) = levels(bytes)?;
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

    /// The rows at `places` of a page.
    fn pick(&self, header: &Header, values: usize, body: &[u8], places: &[u32], codes: &mut Codes) -> Option<()> {
        if places.is_empty() {
            return Some(());
        }
        self.read(header, values, body, |bytes| {
            if !self.is_optional {
                return pick_present(bytes, values, places, codes.values.len(), &mut codes.rows);
            }
            let (levels, rest) = levels(bytes)?;
            match hybrid::only_value(levels, 1, values) {
                Some(1) => pick_present(rest, values, places, codes.values.len(), &mut codes.rows),
                _ => pick_optional(levels, rest, values, places, codes),
            }
        })
    }
}

/// The levels of a page of an optional column, and the rest of it.
fn levels(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Rows without NULL, of a dictionary of `values`; those at `places` of `count`.
fn pick_present(bytes: &[u8], count: usize, places: &[u32], values: usize, rows: &mut Vec<u32>) -> Option<()> {
    let from = rows.len();
    let (width, packed) = bytes.split_first()?;
    hybrid::pick(packed, u32::from(*width), count, places, rows)?;
    rows[from..].iter().all(|code| (*code as usize) < values).then_some(())
}

/// Rows of which some are NULL; those at `places` of `count`.
fn pick_optional(levels: &[u8], bytes: &[u8], count: usize, places: &[u32], codes: &mut Codes) -> Option<()> {
    let mut ranks = Vec::with_capacity(places.len());
    let filled = hybrid::ranks(levels, count, places, &mut ranks)?;
    let (values, null) = (codes.values.len(), codes.values.len() as u32);
    let of_filled: Vec<u32> = ranks.iter().copied().filter(|rank| *rank != hybrid::NO_RANK).collect();
    codes.has_nulls |= of_filled.len() < places.len();
    let mut picked = Vec::with_capacity(of_filled.len());
    if !of_filled.is_empty() {
        pick_present(bytes, filled, &of_filled, values, &mut picked)?;
    }
    let mut picked = picked.into_iter();
    let code = |rank: u32| if rank == hybrid::NO_RANK { null } else { picked.next().unwrap_or(null) };
    codes.rows.extend(ranks.into_iter().map(code));
    Some(())
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
