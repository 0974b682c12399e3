//! Traces that were packed: unpacked by tar(1), and with their pseudonyms led back to names through the rows of both.

use crate::programs;
use crate::trace::Trace;
use ipc_schema::tables::{Redaction, TABLES};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `ipc-recorder pack DIRECTORY -o TAR ARGUMENTS`.
pub fn pack(directory: &Path, tar: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::path("ipc-recorder"));
    command.arg("pack").arg(directory).arg("-o").arg(tar).args(arguments).output().unwrap()
}

/// The same, which must be a success.
///
/// # Panics
/// When it is none.
pub fn packed(directory: &Path, tar: &Path, arguments: &[&str]) {
    let output = pack(directory, tar, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What tar(1) makes of it: the one folder in it.
pub fn unpacked(tar: &Path, into: &Path) -> PathBuf {
    fs::create_dir_all(into).unwrap();
    let output = Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(into).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folders: Vec<PathBuf> = fs::read_dir(into).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

/// What pseudonyms stand for.
#[derive(Debug, Default)]
pub struct Hidden {
    words: BTreeMap<String, String>,
    keys: BTreeMap<i64, i64>,
}

impl Hidden {
    /// Compares two traces of which one is the other with pseudonyms, row by row.
    ///
    /// # Panics
    /// When a name has two pseudonyms or two names have one, or a pseudonym does not look like one.
    pub fn between(open: &Trace, hidden: &Trace) -> Hidden {
        let mut found = Hidden::default();
        for table in TABLES {
            for column in table.columns.iter().filter(|column| open.has_column(table.name, column.name)) {
                let (before, after) =
                    (open.table(table.name, &[column.name]), hidden.table(table.name, &[column.name]));
                let place = format!("{}.{}", table.name, column.name);
                match column.redaction {
                    Redaction::Names => {
                        let pairs = before.texts(column.name).into_iter().zip(after.texts(column.name));
                        pairs.for_each(|pair| found.add_text(&place, pair));
                    }
                    Redaction::Key => {
                        for pair in before.integers(column.name).into_iter().zip(after.integers(column.name)) {
                            found.add_key(&place, pair);
                        }
                    }
                    _ => {}
                }
            }
        }
        found.check();
        found
    }

    fn add_text(&mut self, place: &str, pair: (Option<String>, Option<String>)) {
        let (Some(open), Some(hidden)) = &pair else { return assert_eq!(pair.0, pair.1, "{place}") };
        let (open, hidden): (Vec<&str>, Vec<&str>) = (pieces(open), pieces(hidden));
        assert_eq!(open.len(), hidden.len(), "{place}: {pair:?}");
        for (open, hidden) in open.into_iter().zip(hidden).filter(|(open, _)| !open.is_empty()) {
            let is_pseudonym = hidden.len() == 11 && hidden.starts_with('x');
            assert!(is_pseudonym && hidden != open, "{place}: {open:?} became {hidden:?}");
            let known = self.words.entry(hidden.to_owned()).or_insert(open.to_owned());
            assert_eq!(known, open, "{place}: two names are {hidden}");
        }
    }

    fn add_key(&mut self, place: &str, pair: (Option<i64>, Option<i64>)) {
        let (Some(open), Some(hidden)) = pair else { return assert_eq!(pair.0, pair.1, "{place}") };
        assert_eq!(open == 0, hidden == 0, "{place}: {open} became {hidden}");
        let known = *self.keys.entry(hidden).or_insert(open);
        assert_eq!(known, open, "{place}: two keys are {hidden}");
    }

    /// That no name and no key has two pseudonyms.
    fn check(&self) {
        let mut names: Vec<&String> = self.words.values().collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name with two pseudonyms: {self:?}");
        let mut keys: Vec<&i64> = self.keys.values().collect();
        keys.sort();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a key with two pseudonyms: {self:?}");
    }

    /// How many names and keys there are.
    pub fn count(&self) -> (usize, usize) {
        (self.words.len(), self.keys.len())
    }

    /// An answer in JSON with the names that pseudonyms stand for.
    pub fn names_in(&self, json: &str) -> String {
        let mut text = String::new();
        for token in json.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let word = token.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let key = word.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let key = key.and_then(|key| self.keys.get(&i64::from(key as i32))).filter(|_| text.ends_with("key="));
            match (self.words.get(word), key) {
                (Some(name), _) => text += serde_json::Value::from(name.as_str()).to_string().trim_matches('"'),
                (_, Some(key)) => text += &format!("{:#x}", *key as i32),
                _ => text += word,
            }
            text += &token[word.len()..];
        }
        for (hidden, open) in &self.keys {
            text = text.replace(&format!("\"key\":{hidden},"), &format!("\"key\": {open},"));
        }
        text.replace("\"key\": ", "\"key\":")
    }
}

fn pieces(text: &str) -> Vec<&str> {
    text.split([' ', '/']).collect()
}
