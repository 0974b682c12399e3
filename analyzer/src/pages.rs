//! Looks at the page headers of a row group before it is decoded: the decoder reserves what they claim, and a reservation
//! that the machine refuses ends the process.

use crate::part::guard;
use crate::thrift::{self, Item};
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;

/// What one page may decompress to. The recorder's are of 1 MiB, other writers' of a whole row group of numbers.
const PAGE_BYTES_MAX: i64 = 16 << 20;
/// What the pages that are decoded at the same time may decompress to: one and a dictionary of each column.
pub const PAGES_BYTES_MAX: i64 = 96 << 20;
/// What the values of the list columns of one row group take at most, at 8 bytes each: a quarter of a GiB.
const LIST_VALUES_MAX: i64 = 1 << 25;
/// What the texts of one batch may take when they are not shared.
const BATCH_TEXT_BYTES: i64 = 32 << 20;
/// Headers take some 30 bytes, with statistics of long texts more.
const HEADER_BYTES: usize = 512;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// PLAIN, PLAIN_DICTIONARY, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY: of the others, decoders believe lengths in the
/// pages, where nothing can be looked at before.
const ENCODINGS: [i64; 5] = [0, 2, 3, 5, 8];
/// Those of values that refer to a dictionary.
pub const DICTIONARY_ENCODINGS: [i64; 2] = [2, 8];
/// Values as they are; so are those of a dictionary, whatever it says.
pub const PLAIN_ENCODINGS: [i64; 2] = [0, 2];
/// Runs and packed bits.
pub const RLE: i64 = 3;

/// What one page header says, within bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// [`DATA`], [`DICTIONARY`] or another.
    pub kind: i64,
    /// What it decompresses to.
    pub bytes: i64,
    /// What it takes in the file.
    pub compressed_bytes: i64,
    /// How many values, NULLs among them.
    pub values: i64,
    /// How they are encoded.
    pub encoding: i64,
    /// How it is encoded which of them are there.
    pub levels_encoding: i64,
}

/// A page with a value per row.
pub const DATA: i64 = 0;
/// A page with the values that others refer to.
pub const DICTIONARY: i64 = 2;
const DATA_V2: i64 = 3;

/// What the pages of one column chunk add up to.
#[derive(Debug, Default)]
struct Chunk {
    values: i64,
    dictionary_bytes: i64,
    largest_bytes: i64,
    /// Bytes per row of the page with the longest texts.
    text_bytes_per_row: i64,
    shares_dictionary: bool,
    without_dictionary: bool,
}

/// Checks the pages of the columns that `is_read` names; returns how many rows may be decoded at once, at most `rows`.
///
/// # Errors
/// What is claimed and cannot be.
pub fn check(
    file: &impl ChunkReader,
    group: &RowGroupMetaData,
    is_read: impl Fn(&str) -> bool,
    rows: usize,
) -> Result<usize, String> {
    let (mut open_bytes, mut list_values, mut bytes_per_row) = (0i64, 0i64, 0i64);
    for column in group.columns() {
        let Some(name) = column.column_path().parts().first().filter(|name| is_read(name)) else { continue };
        let chunk = check_chunk(file, column).map_err(|what| format!("column {name} {what}"))?;
        if column.column_descr().max_rep_level() > 0 {
            list_values = list_values.saturating_add(chunk.values);
        } else if chunk.values != group.num_rows() {
            return Err(format!("column {name} has {} values in {} rows", chunk.values, group.num_rows()));
        }
        open_bytes = open_bytes.saturating_add(chunk.largest_bytes + chunk.dictionary_bytes);
        bytes_per_row = bytes_per_row.saturating_add(chunk.unshared_bytes_per_row(column));
    }
    if open_bytes > PAGES_BYTES_MAX {
        return Err(format!("its pages claim {open_bytes} bytes at the same time: refused"));
    }
    if list_values > LIST_VALUES_MAX {
        return Err(format!("a row group claims {list_values} values in lists: refused"));
    }
    let most = BATCH_TEXT_BYTES / bytes_per_row.max(1);
    Ok(rows.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1))
}

impl Chunk {
    /// What each row of a batch may take beyond a key. Where a column goes over from shared texts to its own, the shared
    /// ones are copied for each row as well.
    fn unshared_bytes_per_row(&self, column: &ColumnChunkMetaData) -> i64 {
        if column.column_type() != Type::BYTE_ARRAY || !self.without_dictionary {
            return 0;
        }
        let copied = if self.shares_dictionary { self.dictionary_bytes } else { 0 };
        self.text_bytes_per_row.max(copied)
    }

    fn add(&mut self, header: Header) -> Result<(), String> {
        match header.kind {
            DICTIONARY if self.dictionary_bytes > 0 || self.largest_bytes > 0 => {
                return Err("has a dictionary in the wrong place".to_owned());
            }
            // Numbers and the lengths of texts take four bytes at least.
            DICTIONARY if header.values.saturating_mul(4) > header.bytes => {
                return Err(format!("claims a dictionary of {} values in {} bytes", header.values, header.bytes));
            }
            DICTIONARY => self.dictionary_bytes = header.bytes,
            DATA | DATA_V2 => {
                self.values = self.values.saturating_add(header.values);
                self.largest_bytes = self.largest_bytes.max(header.bytes);
                let shared = DICTIONARY_ENCODINGS.contains(&header.encoding);
                self.shares_dictionary |= shared;
                self.without_dictionary |= !shared;
                if !shared {
                    self.text_bytes_per_row = self.text_bytes_per_row.max(header.bytes / header.values.max(1));
                }
            }
            other => return Err(format!("has a page of the unknown type {other}")),
        }
        Ok(())
    }
}

fn check_chunk(file: &impl ChunkReader, column: &ColumnChunkMetaData) -> Result<Chunk, String> {
    // It asserts that neither is negative.
    let (start, length) = guard(|| Ok::<_, String>(column.byte_range()))?;
    let end = start.checked_add(length).filter(|end| *end <= file.len()).ok_or("lies outside the file")?;
    let (mut chunk, mut position) = (Chunk::default(), start);
    while position < end {
        let (header, header_bytes) = read_header(file, position, end)?;
        position += header_bytes as u64;
        let page_bytes = u64::try_from(header.compressed_bytes).unwrap_or(u64::MAX);
        position = position.checked_add(page_bytes).filter(|next| *next <= end).ok_or("has a page beyond its end")?;
        chunk.add(header)?;
    }
    Ok(chunk)
}

/// The header at `position` and its length.
fn read_header(file: &impl ChunkReader, position: u64, end: u64) -> Result<(Header, usize), String> {
    let left = usize::try_from(end - position).unwrap_or(usize::MAX);
    let read = |most: usize| file.get_bytes(position, left.min(most)).map_err(|error| error.to_string());
    let parsed = parse_header(&read(HEADER_BYTES)?);
    match parsed {
        Err(_) if left > HEADER_BYTES => parse_header(&read(HEADER_BYTES_MAX)?),
        parsed => parsed,
    }
}

/// The header that `bytes` begin with, and its length.
///
/// # Errors
/// It is none, or claims what no page has.
pub fn parse_header(bytes: &[u8]) -> Result<(Header, usize), String> {
    let mut header =
        Header { kind: -1, bytes: -1, compressed_bytes: -1, values: -1, encoding: -1, levels_encoding: -1 };
    let length = thrift::walk(bytes, |path, item| {
        if let Item::Number(number) = item {
            match path {
                [1] => header.kind = number,
                [2] => header.bytes = number,
                [3] => header.compressed_bytes = number,
                [5 | 7 | 8, 1] => header.values = number,
                [5 | 7, 2] | [8, 4] => header.encoding = number,
                [5, 3] => header.levels_encoding = number,
                _ => {}
            }
        }
        Ok(())
    })
    .map_err(|what| format!("has a page header that {what}"))?;
    if !(0..=PAGE_BYTES_MAX).contains(&header.bytes) {
        return Err(format!("claims a page of {} bytes: refused", header.bytes));
    }
    if !(0..=PAGE_BYTES_MAX).contains(&header.compressed_bytes) {
        return Err(format!("claims a compressed page of {} bytes: refused", header.compressed_bytes));
    }
    if !(0..=i64::from(i32::MAX)).contains(&header.values) {
        return Err(format!("claims a page of {} values: refused", header.values));
    }
    if !ENCODINGS.contains(&header.encoding) {
        return Err(format!("has a page in encoding {}, which ipc-recorder never writes: refused", header.encoding));
    }
    Ok((header, length))
}
