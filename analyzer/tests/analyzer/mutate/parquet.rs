//! Parquet files that are wrong in their structure, with everything around the fault made right.

use super::compact::{self, Node};
use super::{Mutation, Source, bytes};
use crate::fixture::Random;

/// A file taken apart.
struct File {
    /// All before the footer.
    data: Vec<u8>,
    footer: Node,
}

impl File {
    fn read(content: &[u8]) -> File {
        let length = u32::from_le_bytes(content[content.len() - 8..content.len() - 4].try_into().unwrap()) as usize;
        let start = content.len() - 8 - length;
        let (footer, _) = compact::read(&content[start..]).unwrap();
        File { data: content[..start].to_vec(), footer }
    }

    fn write(&self) -> Vec<u8> {
        let footer = self.footer.bytes();
        let mut content = self.data.clone();
        content.extend_from_slice(&footer);
        content.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        content.extend_from_slice(b"PAR1");
        content
    }

    /// Calls `visit` with each column chunk.
    fn for_each_chunk(&mut self, mut visit: impl FnMut(&mut Node)) {
        for group in self.footer.field(4).map(Node::elements).unwrap_or_default() {
            group.field(1).map(Node::elements).unwrap_or_default().iter_mut().for_each(&mut visit);
        }
    }

    /// Every page.
    fn pages(&mut self) -> Option<Vec<Page>> {
        let mut chunks = Vec::new();
        self.for_each_chunk(|chunk| {
            let metadata = chunk.field(3).unwrap();
            let data = metadata.number(9).unwrap();
            let start = metadata.number(11).unwrap_or(data) as usize;
            chunks.push((start, start + metadata.number(7).unwrap() as usize));
        });
        let mut pages = Vec::new();
        for (start, end) in chunks {
            let mut position = start;
            while position < end {
                let (mut header, length) = compact::read(&self.data[position..])?;
                let body = position + length;
                let next = body + header.number(3)? as usize;
                pages.push(Page { chunk: start, start: position, body, end: next, header });
                position = next;
            }
        }
        Some(pages)
    }

    fn any_page(&mut self, random: &mut Random) -> Option<Page> {
        let mut pages = self.pages()?;
        let at = random.below(pages.len().max(1) as u64) as usize;
        (!pages.is_empty()).then(|| pages.swap_remove(at))
    }

    /// Puts another page there and moves what stands behind it.
    fn replace(&mut self, page: &Page, header: &[u8], body: &[u8]) {
        let grown = (header.len() + body.len()) as i64 - (page.end - page.start) as i64;
        self.data.splice(page.start..page.end, header.iter().chain(body).copied());
        self.for_each_chunk(|chunk| {
            let metadata = chunk.field(3).unwrap();
            let data = metadata.number(9).unwrap();
            let start = metadata.number(11).unwrap_or(data);
            if start == page.chunk as i64
                && let Some(Node::Number(_, bytes)) = metadata.field(7)
            {
                *bytes += grown;
            }
            for id in [9, 11] {
                move_behind(metadata.field(id), page.start, grown);
            }
            for id in [4, 6] {
                move_behind(chunk.field(id), page.start, grown);
            }
        });
    }
}

fn move_behind(offset: Option<&mut Node>, start: usize, grown: i64) {
    if let Some(Node::Number(_, offset)) = offset
        && *offset > start as i64
    {
        *offset += grown;
    }
}

/// Where a page of a file is.
struct Page {
    chunk: usize,
    start: usize,
    body: usize,
    end: usize,
    header: Node,
}

/// A footer with one thing wrong.
pub fn footer(source: &Source, random: &mut Random) -> Mutation {
    let (file, content) = source.any_part(random);
    let mut parts = File::read(content);
    let mut what = format!("footer{}", parts.footer.mutate(random));
    if random.below(4) == 0 {
        what += &format!(" and{}", parts.footer.mutate(random));
    }
    let rows = parts.footer.number(3);
    source.vouched(what, file, parts.write(), rows)
}

/// A page header with one thing wrong.
pub fn page_header(source: &Source, random: &mut Random) -> Mutation {
    let (file, content) = source.any_part(random);
    let mut parts = File::read(content);
    let Some(page) = parts.any_page(random) else { return bytes::damage_vouched_part(source, random) };
    let mut header = page.header.clone();
    let what = format!("page at {}: header{}", page.start, header.mutate(random));
    let body = parts.data[page.body..page.end].to_vec();
    parts.replace(&page, &header.bytes(), &body);
    source.vouched(what, file, parts.write(), None)
}

/// A page with other content, compressed again, its header made right.
pub fn page(source: &Source, random: &mut Random) -> Mutation {
    let (file, content) = source.any_part(random);
    let mut parts = File::read(content);
    let Some(page) = parts.any_page(random) else { return bytes::damage_vouched_part(source, random) };
    let mut header = page.header.clone();
    let size = header.number(2).unwrap_or(0) as usize;
    let Ok(mut body) = zstd::bulk::decompress(&parts.data[page.body..page.end], size) else {
        return bytes::damage_vouched_part(source, random);
    };
    let mut what = match random.below(8) {
        // A few bytes that become many.
        0 => {
            body = vec![random.below(3) as u8; 1 << (10 + random.below(18))];
            "a bomb".to_owned()
        }
        1 => {
            body = (0..random.below(300)).map(|_| random.next() as u8).collect();
            "noise".to_owned()
        }
        // Lengths, bit widths, block sizes stand at the start.
        2..5 if !body.is_empty() => {
            let at = random.below(body.len().min(16) as u64) as usize;
            body[at] = [0, 1, 2, 7, 8, 0x20, 0x21, 0x40, 0x7f, 0x80, 0xff][random.below(11) as usize];
            format!("byte {at} = {}", body[at])
        }
        _ if !body.is_empty() => bytes::damage(&mut body, random).to_owned(),
        _ => "empty".to_owned(),
    };
    let compressed = zstd::bulk::compress(&body, 1).unwrap();
    for (id, value) in [(2, body.len()), (3, compressed.len())] {
        if let Some(Node::Number(_, number)) = header.field(id) {
            *number = value as i64;
        }
    }
    if random.below(6) == 0 {
        what += &format!(" and header{}", header.mutate(random));
    }
    parts.replace(&page, &header.bytes(), &compressed);
    source.vouched(format!("page at {}: {what}", page.start), file, parts.write(), None)
}

/// The file with the first page whose header `change` accepts, as `change` made it.
pub fn forge_page(content: &[u8], mut change: impl FnMut(&mut Node, &mut Vec<u8>) -> bool) -> Vec<u8> {
    let mut parts = File::read(content);
    for page in parts.pages().unwrap() {
        let (mut header, mut body) = (page.header.clone(), parts.data[page.body..page.end].to_vec());
        if change(&mut header, &mut body) {
            parts.replace(&page, &header.bytes(), &body);
            return parts.write();
        }
    }
    panic!("no page is like that");
}

/// The file with its footer as `change` made it.
pub fn forge_footer(content: &[u8], change: impl FnOnce(&mut Node)) -> Vec<u8> {
    let mut parts = File::read(content);
    change(&mut parts.footer);
    parts.write()
}
