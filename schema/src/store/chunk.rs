//! A column chunk of few distinct values: their codes in runs, as they come, so that a value is looked at once.
//!
//! Parquet's own column writers look at each value of each row: at its level, its hash, whether it is the least. In the
//! calls of a storm nine columns of ten have the same value for thousands of rows.

use super::hybrid;
use ahash::HashMap;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, Int32Array, Int64Array, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Encoding, PageType, Type};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use std::sync::Arc;

/// The code of a row without a value.
const NULL: u32 = u32::MAX;

/// Rows of a page.
const PAGE_ROWS: usize = 20_480;

/// A value of more bytes is not told as the least or largest of a page.
const BOUND_BYTES_MAX: usize = 64;

/// Distinct values that are always few.
const FEW: usize = 4_096;
/// Distinct values, and their bytes, that never are.
const MANY: usize = 65_536;
const MANY_BYTES: usize = 1 << 20;

/// The distinct values of a column, in the order of their codes. They are for traced programs to choose: the hash is seeded.
enum Distinct {
    Numbers { values: Vec<i64>, codes: HashMap<i64, u32>, last: Option<(i64, u32)> },
    Texts { values: Vec<Arc<str>>, codes: HashMap<Arc<str>, u32>, bytes: usize },
}

impl Distinct {
    fn len(&self) -> usize {
        match self {
            Distinct::Numbers { values, .. } => values.len(),
            Distinct::Texts { values, .. } => values.len(),
        }
    }

    fn number(&mut self, number: i64) -> u32 {
        let Distinct::Numbers { values, codes, last } = self else { return NULL };
        if let Some((_, code)) = last.filter(|(value, _)| *value == number) {
            return code;
        }
        let code = *codes.entry(number).or_insert_with(|| {
            values.push(number);
            values.len() as u32 - 1
        });
        *last = Some((number, code));
        code
    }

    fn text(&mut self, text: &str) -> u32 {
        let Distinct::Texts { values, codes, bytes } = self else { return NULL };
        if let Some(code) = codes.get(text) {
            return *code;
        }
        let (code, text) = (values.len() as u32, Arc::<str>::from(text));
        *bytes += text.len();
        values.push(text.clone());
        codes.insert(text, code);
        code
    }

    /// The code of a value of an array.
    fn code(&mut self, values: &ArrayRef, place: usize) -> u32 {
        if values.is_null(place) {
            return NULL;
        }
        match values.data_type() {
            DataType::Utf8 => self.text(values.as_string::<i32>().value(place)),
            DataType::Int32 => self.number(values.as_primitive::<Int32Type>().value(place).into()),
            DataType::Boolean => self.number(values.as_boolean().value(place).into()),
            DataType::Timestamp(..) => self.number(values.as_primitive::<TimestampMicrosecondType>().value(place)),
            _ => self.number(values.as_primitive::<Int64Type>().value(place)),
        }
    }

    fn is_less(&self, code: u32, than: u32) -> bool {
        let (code, than) = (code as usize, than as usize);
        code != than
            && match self {
                Distinct::Numbers { values, .. } => values[code] < values[than],
                Distinct::Texts { values, .. } => values[code] < values[than],
            }
    }

    /// A value as Parquet's PLAIN encoding has it, but for the length of a text.
    fn plain(&self, code: u32, kind: Type) -> Vec<u8> {
        match (self, kind) {
            (Distinct::Texts { values, .. }, _) => values[code as usize].as_bytes().to_vec(),
            (Distinct::Numbers { values, .. }, Type::INT32) => (values[code as usize] as i32).to_le_bytes().to_vec(),
            (Distinct::Numbers { values, .. }, Type::BOOLEAN) => vec![values[code as usize] as u8],
            (Distinct::Numbers { values, .. }, _) => values[code as usize].to_le_bytes().to_vec(),
        }
    }

    /// The page of the dictionary.
    fn page(&self, kind: Type) -> Vec<u8> {
        let mut page = Vec::new();
        for code in 0..self.len() as u32 {
            let plain = self.plain(code, kind);
            if kind == Type::BYTE_ARRAY {
                page.extend_from_slice(&(plain.len() as u32).to_le_bytes());
            }
            page.extend_from_slice(&plain);
        }
        page
    }
}

/// The least and the largest value of some rows, by their codes.
type Range = Option<(u32, u32)>;

/// A column chunk.
pub struct Chunk {
    distinct: Distinct,
    /// Codes, and how often they come.
    runs: Vec<(u32, u32)>,
    rows: usize,
    filled: usize,
}

impl Chunk {
    /// An empty one; `None`: a column of this type has no codes.
    pub fn new(kind: &DataType) -> Option<Chunk> {
        let distinct = match kind {
            DataType::Dictionary(..) => Distinct::Texts { values: vec![], codes: HashMap::default(), bytes: 0 },
            DataType::Boolean | DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
                Distinct::Numbers { values: vec![], codes: HashMap::default(), last: None }
            }
            _ => return None,
        };
        Some(Chunk { distinct, runs: Vec::new(), rows: 0, filled: 0 })
    }

    /// Adds rows; `None`: as many without a value.
    ///
    /// # Errors
    /// They are not of the type of the column.
    pub fn add(&mut self, values: Option<&ArrayRef>, rows: usize) -> Result<()> {
        let Some(values) = values else {
            self.push(NULL, rows);
            return Ok(());
        };
        match values.data_type() {
            DataType::RunEndEncoded(..) => self.add_runs(values),
            DataType::Dictionary(..) => self.add_texts(values)?,
            DataType::Int32 => self.add_numbers::<Int32Type>(values),
            DataType::Int64 => self.add_numbers::<Int64Type>(values),
            DataType::Timestamp(..) => self.add_numbers::<TimestampMicrosecondType>(values),
            _ => (0..rows).for_each(|place| {
                let code = self.distinct.code(values, place);
                self.push(code, 1);
            }),
        }
        Ok(())
    }

    fn push(&mut self, code: u32, rows: usize) {
        match self.runs.last_mut() {
            Some((last, count)) if *last == code => *count += rows as u32,
            _ => self.runs.push((code, rows as u32)),
        }
        self.rows += rows;
        self.filled += if code == NULL { 0 } else { rows };
    }

    fn add_runs(&mut self, values: &ArrayRef) {
        let runs = values.as_run::<Int32Type>();
        let ends = runs.run_ends();
        let mut from = ends.offset();
        for place in ends.get_start_physical_index()..=ends.get_end_physical_index() {
            let to = (ends.values()[place] as usize).min(ends.offset() + ends.len());
            let code = self.distinct.code(runs.values(), place);
            self.push(code, to - from);
            from = to;
        }
    }

    fn add_texts(&mut self, values: &ArrayRef) -> Result<()> {
        let texts = values.as_dictionary::<Int32Type>();
        let distinct = texts.values().as_string_opt::<i32>().ok_or(ParquetError::General("no text".into()))?;
        let mut codes: Vec<Option<u32>> = vec![None; distinct.len()];
        for key in texts.keys() {
            let code = match key.map(|key| key as usize) {
                Some(key) if distinct.is_valid(key) => {
                    *codes[key].get_or_insert_with(|| self.distinct.text(distinct.value(key)))
                }
                _ => NULL,
            };
            self.push(code, 1);
        }
        Ok(())
    }

    fn add_numbers<T: ArrowPrimitiveType<Native: Into<i64>>>(&mut self, values: &ArrayRef) {
        for number in values.as_primitive::<T>() {
            let code = number.map_or(NULL, |number| self.distinct.number(number.into()));
            self.push(code, 1);
        }
    }

    /// Whether its values are too many for codes; `at_most_one`: already if they differ.
    pub fn is_diverse(&self, at_most_one: bool) -> bool {
        let count = self.distinct.len();
        let bytes = if let Distinct::Texts { bytes, .. } = &self.distinct { *bytes } else { 0 };
        (at_most_one && count > 1) || count > MANY || bytes > MANY_BYTES || (count > FEW && count > self.filled / 2)
    }

    /// Bytes of its pages, roughly.
    pub fn encoded_bytes(&self) -> usize {
        self.runs.len() * 2
    }

    /// What was added, as an array of the column's type.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn to_array(&self, kind: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
        let codes = self.runs.iter().flat_map(|(code, count)| std::iter::repeat_n(*code, *count as usize));
        let codes = codes.map(|code| (code != NULL).then_some(code));
        match &self.distinct {
            Distinct::Texts { values, .. } => {
                let keys = codes.map(|code| code.map(|code| code as i32)).collect::<Int32Array>();
                Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from_iter_values(values)))?))
            }
            Distinct::Numbers { values, .. } => {
                let numbers = codes.map(|code| code.map(|code| values[code as usize])).collect::<Int64Array>();
                cast(&numbers, kind)
            }
        }
    }

    /// The bytes of the chunk and what Parquet's footer says of them.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn close(&self, column: &ColumnDescPtr, codec: &mut Codec) -> Result<(Bytes, ColumnCloseResult)> {
        let mut closing = Closing {
            chunk: self,
            kind: column.physical_type(),
            is_nullable: column.max_def_level() > 0,
            to: TrackedWrite::new(Vec::new()),
            offsets: OffsetIndexBuilder::new(),
            index: ColumnIndexBuilder::new(column.physical_type()),
            plain_bytes: 0,
            pages: 0,
            range: None,
        };
        let has_dictionary = closing.has_dictionary();
        if has_dictionary {
            closing.dictionary(codec)?;
        }
        let data_from = closing.to.bytes_written() as i64;
        for page in pages(&self.runs) {
            closing.page(&page, codec)?;
        }
        closing.finish(column, codec, has_dictionary.then_some(0), data_from)
    }
}

/// The runs of each page.
fn pages(runs: &[(u32, u32)]) -> Vec<Vec<(u32, usize)>> {
    let (mut pages, mut rows) = (vec![Vec::new()], 0);
    for (code, count) in runs {
        let mut count = *count as usize;
        while count > 0 {
            if rows == PAGE_ROWS {
                pages.push(Vec::new());
                rows = 0;
            }
            let here = count.min(PAGE_ROWS - rows);
            if let Some(page) = pages.last_mut() {
                page.push((*code, here));
            }
            (rows, count) = (rows + here, count - here);
        }
    }
    pages
}

/// Compresses pages.
pub struct Codec {
    /// As the footer names it.
    pub compression: parquet::basic::Compression,
    compressor: zstd::bulk::Compressor<'static>,
}

impl Codec {
    /// zstd of a level.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(level: parquet::basic::ZstdLevel) -> Result<Codec> {
        let compressor = zstd::bulk::Compressor::new(level.compression_level())?;
        Ok(Codec { compression: parquet::basic::Compression::ZSTD(level), compressor })
    }
}

/// A chunk on its way into bytes.
struct Closing<'a> {
    chunk: &'a Chunk,
    kind: Type,
    is_nullable: bool,
    to: TrackedWrite<Vec<u8>>,
    offsets: OffsetIndexBuilder,
    index: ColumnIndexBuilder,
    plain_bytes: i64,
    pages: i32,
    range: Range,
}

impl Closing<'_> {
    fn has_dictionary(&self) -> bool {
        self.kind != Type::BOOLEAN && self.chunk.distinct.len() > 0
    }

    fn encoding(&self) -> Encoding {
        if self.has_dictionary() { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN }
    }

    fn write(&mut self, page: Page, plain_bytes: usize) -> Result<(u64, usize)> {
        let mut writer = SerializedPageWriter::new(&mut self.to);
        let written = writer.write_page(CompressedPage::new(page, plain_bytes))?;
        self.plain_bytes += written.uncompressed_size as i64;
        Ok((written.offset, written.compressed_size))
    }

    fn dictionary(&mut self, codec: &mut Codec) -> Result<()> {
        let plain = self.chunk.distinct.page(self.kind);
        let buf = codec.compressor.compress(&plain)?.into();
        let num_values = self.chunk.distinct.len() as u32;
        let page = Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, is_sorted: false };
        self.write(page, plain.len()).map(drop)
    }

    fn page(&mut self, runs: &[(u32, usize)], codec: &mut Codec) -> Result<()> {
        let plain = self.page_bytes(runs);
        let rows: usize = runs.iter().map(|(_, count)| count).sum();
        let page = Page::DataPage {
            buf: codec.compressor.compress(&plain)?.into(),
            num_values: rows as u32,
            encoding: self.encoding(),
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (offset, size) = self.write(page, plain.len())?;
        self.pages += 1;
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(offset as i64, size as i32);
        let range = self.range_of(runs);
        let nulls: usize = runs.iter().filter(|(code, _)| *code == NULL).map(|(_, count)| count).sum();
        let [least, largest] = self.bounds(range).unwrap_or_default();
        if least.len().max(largest.len()) > BOUND_BYTES_MAX {
            self.index.to_invalid();
        }
        self.index.append(range.is_none(), least, largest, nulls as i64, None);
        self.range = [self.range, range].into_iter().flatten().reduce(|a, b| self.wider(a, b));
        Ok(())
    }

    fn page_bytes(&self, runs: &[(u32, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.is_nullable {
            bytes.extend_from_slice(&[0; 4]);
            let levels = runs.chunk_by(|a, b| (a.0 == NULL) == (b.0 == NULL));
            let levels = levels.map(|run| (u32::from(run[0].0 != NULL), run.iter().map(|(_, count)| count).sum()));
            hybrid::encode(levels, 1, &mut bytes);
            let length = (bytes.len() - 4) as u32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
        }
        let filled = runs.iter().copied().filter(|(code, _)| *code != NULL);
        if let (Distinct::Numbers { values, .. }, Type::BOOLEAN) = (&self.chunk.distinct, self.kind) {
            let bits = filled.flat_map(|(code, count)| std::iter::repeat_n(values[code as usize] as u32, count));
            hybrid::pack(bits, 1, &mut bytes);
        } else if self.has_dictionary() {
            let bits = hybrid::bits_of(self.chunk.distinct.len() as u32 - 1);
            bytes.push(bits as u8);
            hybrid::encode(filled, bits, &mut bytes);
        }
        bytes
    }

    fn range_of(&self, runs: &[(u32, usize)]) -> Range {
        let codes = runs.iter().map(|(code, _)| *code).filter(|code| *code != NULL);
        codes.map(|code| (code, code)).reduce(|a, b| self.wider(a, b))
    }

    fn wider(&self, a: (u32, u32), b: (u32, u32)) -> (u32, u32) {
        let distinct = &self.chunk.distinct;
        let least = if distinct.is_less(b.0, a.0) { b.0 } else { a.0 };
        let largest = if distinct.is_less(a.1, b.1) { b.1 } else { a.1 };
        (least, largest)
    }

    fn bounds(&self, range: Range) -> Option<[Vec<u8>; 2]> {
        let (least, largest) = range?;
        Some([least, largest].map(|code| self.chunk.distinct.plain(code, self.kind)))
    }

    fn statistics(&self) -> Statistics {
        let nulls = Some((self.chunk.rows - self.chunk.filled) as u64);
        let range = self.range.map(|(least, largest)| [least, largest]);
        match &self.chunk.distinct {
            Distinct::Texts { values, .. } => {
                let texts = range.map(|range| range.map(|code| values[code as usize].as_bytes()));
                let texts = texts.filter(|texts| texts.iter().all(|text| text.len() <= BOUND_BYTES_MAX));
                let [least, largest] = split(texts.map(|texts| texts.map(|text| ByteArray::from(text.to_vec()))));
                Statistics::byte_array(least, largest, None, nulls, false)
            }
            Distinct::Numbers { values, .. } => {
                let [least, largest] = split(range.map(|range| range.map(|code| values[code as usize])));
                match self.kind {
                    Type::BOOLEAN => {
                        Statistics::boolean(least.map(|v| v != 0), largest.map(|v| v != 0), None, nulls, false)
                    }
                    Type::INT32 => {
                        Statistics::int32(least.map(|v| v as i32), largest.map(|v| v as i32), None, nulls, false)
                    }
                    _ => Statistics::int64(least, largest, None, nulls, false),
                }
            }
        }
    }

    fn finish(
        mut self,
        column: &ColumnDescPtr,
        codec: &Codec,
        dictionary_from: Option<i64>,
        data_from: i64,
    ) -> Result<(Bytes, ColumnCloseResult)> {
        let of = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut encodings = vec![of(PageType::DATA_PAGE, self.encoding(), self.pages)];
        if dictionary_from.is_some() {
            encodings.insert(0, of(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1));
        }
        let mut all: Vec<Encoding> = encodings.iter().map(|stats| stats.encoding).collect();
        all.push(Encoding::RLE); // of the levels
        let statistics = self.statistics();
        self.index.set_boundary_order(BoundaryOrder::UNORDERED);
        let bytes: Bytes = self.to.into_inner()?.into();
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(codec.compression)
            .set_encodings(all)
            .set_page_encoding_stats(encodings)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.plain_bytes)
            .set_num_values(self.chunk.rows as i64)
            .set_data_page_offset(data_from)
            .set_dictionary_page_offset(dictionary_from)
            .set_statistics(statistics)
            .build()?;
        let closed = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.chunk.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: if self.index.valid() { Some(self.index.build()?) } else { None },
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes, closed))
    }
}

fn split<T>(range: Option<[T; 2]>) -> [Option<T>; 2] {
    range.map_or([None, None], |[least, largest]| [Some(least), Some(largest)])
}
