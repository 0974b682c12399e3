//! The pages of a column chunk, decompressed one after the other into memory that is used again.

use crate::pages::{self, Header};
use parquet::basic::Compression;
use std::cell::RefCell;
use zstd::bulk::Decompressor;

/// Takes a page from the front of a chunk. `None`: it is no page, or an unreasonable one.
pub fn next_page<'a>(chunk: &mut &'a [u8]) -> Option<(Header, &'a [u8])> {
    let (header, length) = pages::parse_header(chunk).ok()?;
    let (body, rest) = chunk.get(length..)?.split_at_checked(usize::try_from(header.compressed_bytes).ok()?)?;
    *chunk = rest;
    Some((header, body))
}

/// Calls `read` with the page's bytes. `None`: they cannot be decompressed, or `read` gave up.
pub fn decompressed<T>(
    header: &Header,
    body: &[u8],
    compression: Compression,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<T> {
    let bytes = usize::try_from(header.bytes).ok()?;
    match compression {
        Compression::UNCOMPRESSED if body.len() == bytes => read(body),
        Compression::ZSTD(_) => SCRATCH.with_borrow_mut(|scratch| read(scratch.decompress(bytes, body)?)),
        _ => None,
    }
}

thread_local! {
    /// Making a decompressor costs as much as a page.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

#[derive(Default)]
struct Scratch {
    decompressor: Option<Decompressor<'static>>,
    bytes: Vec<u8>,
}

impl Scratch {
    fn decompress(&mut self, bytes: usize, body: &[u8]) -> Option<&[u8]> {
        if self.decompressor.is_none() {
            self.decompressor = Decompressor::new().ok();
        }
        self.bytes.clear();
        self.bytes.reserve(bytes);
        let length = self.decompressor.as_mut()?.decompress_to_buffer(body, &mut self.bytes).ok()?;
        (length == bytes).then_some(&self.bytes[..])
    }
}
