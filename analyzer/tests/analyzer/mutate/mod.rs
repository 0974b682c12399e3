//! Makes wrong traces of right ones, in the ways in which files break and in those in which somebody breaks them.

pub mod bytes;
pub mod compact;
pub mod json;
pub mod parquet;
pub mod values;

use crate::fixture::Random;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A whole trace.
pub struct Source {
    pub name: String,
    pub directory: PathBuf,
    /// Each part: its path in the directory and its content.
    pub parts: Vec<(String, Vec<u8>)>,
    pub manifest: Value,
}

/// What is wrong with a trace.
pub struct Mutation {
    /// For whoever has to find it again.
    pub what: String,
    /// Other contents of files.
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether the manifest agrees with the files: then the decoders are on their own.
    pub checksum_holds: bool,
}

impl Source {
    pub fn read(name: &str, directory: &Path) -> Source {
        let manifest: Value = serde_json::from_slice(&fs::read(directory.join("trace.json")).unwrap()).unwrap();
        let files = manifest["parts"].as_array().unwrap().iter().map(|part| part["file"].as_str().unwrap().to_owned());
        let parts = files.map(|file| (file.clone(), fs::read(directory.join(&file)).unwrap())).collect();
        Source { name: name.to_owned(), directory: directory.to_owned(), parts, manifest }
    }

    /// A part; those with the most bytes, which are the tables with the most in them, half of the time.
    fn any_part(&self, random: &mut Random) -> &(String, Vec<u8>) {
        if random.below(2) == 0 {
            return self.parts.iter().max_by_key(|(_, content)| content.len()).unwrap();
        }
        &self.parts[random.below(self.parts.len() as u64) as usize]
    }

    /// The manifest with the size, the rows and the checksum of what `file` now holds.
    fn list_again(&self, manifest: &mut Value, file: &str, content: &[u8], rows: Option<i64>) {
        let part = manifest["parts"].as_array_mut().unwrap().iter_mut().find(|part| part["file"] == file).unwrap();
        part["bytes"] = content.len().into();
        part["checksum"] = format!("xxh3_128:{:032x}", twox_hash::XxHash3_128::oneshot(content)).into();
        part["blocks"] = crate::fixture::blocks(content).into();
        if let Some(rows) = rows.and_then(|rows| u64::try_from(rows).ok()) {
            part["rows"] = rows.into();
        }
    }

    /// Other content for one part, and the manifest that vouches for it.
    pub fn vouched(&self, what: String, file: &str, content: Vec<u8>, rows: Option<i64>) -> Mutation {
        let mut manifest = self.manifest.clone();
        self.list_again(&mut manifest, file, &content, rows);
        let files = vec![(file.to_owned(), content), ("trace.json".to_owned(), manifest.to_string().into_bytes())];
        Mutation { what: format!("{}: {file}: {what}", self.name), files, checksum_holds: true }
    }

    /// One of all the ways.
    pub fn mutate(&self, others: &[Source], random: &mut Random) -> Mutation {
        match random.below(16) {
            0..2 => bytes::damage_part(self, random),
            2 => bytes::damage_vouched_part(self, random),
            3 => bytes::swap(self, others, random),
            4..7 => parquet::footer(self, random),
            7..9 => parquet::page_header(self, random),
            9..12 => parquet::page(self, random),
            12..14 => values::rewrite(self, random),
            14 => values::session(self, random),
            _ => json::damage(self, random),
        }
    }
}

/// Numbers at which arithmetic breaks.
pub fn hostile_number(was: i64, random: &mut Random) -> i64 {
    const NUMBERS: [i64; 20] = [
        i64::MIN,
        i64::MIN + 1,
        i64::MAX,
        i64::MAX - 1,
        -1,
        0,
        1,
        2,
        3,
        i32::MIN as i64,
        i32::MAX as i64,
        i32::MAX as i64 - 1,
        i32::MAX as i64 + 1,
        u32::MAX as i64,
        1 << 20,
        1 << 24,
        1 << 28,
        1 << 40,
        65_535,
        100_000,
    ];
    match random.below(4) {
        0 => was.wrapping_add(random.below(5) as i64 - 2),
        1 => was ^ 1 << random.below(63),
        _ => NUMBERS[random.below(NUMBERS.len() as u64) as usize],
    }
}

/// Texts that a terminal, a spreadsheet or a layout stumbles over.
pub fn hostile_text(random: &mut Random) -> String {
    const TEXTS: [&str; 14] = [
        "",
        "\u{1b}[31mred",
        "a\nb\r\nc",
        "\u{202e}gnp.exe",
        "=cmd|' /C calc'!A0",
        "\u{0}",
        "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
        "e\u{301}\u{301}\u{301}\u{301}\u{301}",
        "👨‍👩‍👧‍👦",
        "open",
        "semop",
        "\"},{\"",
        "a,b;c\td",
        "\\u{1b}",
    ];
    match random.below(8) {
        0 => "x".repeat(1 << random.below(21)),
        1 => "宽".repeat(1 + random.below(400) as usize),
        _ => TEXTS[random.below(TEXTS.len() as u64) as usize].to_owned(),
    }
}
