//! Numbers for texts that recur, so that groups are keyed by small integers.

use crate::batch::Text;
use arrow::array::{Array, StringArray};
use hashbrown::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The number of an absent text.
pub const NULL: u32 = u32::MAX;

/// Numbers from 0 for the texts seen.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    hashes: Vec<u64>,
}

impl Texts {
    /// The number of a text.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.texts.len() as u32);
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.hashes.push(hasher.finish());
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The text of a number; `None` for [`NULL`].
    pub fn get(&self, number: u32) -> Option<&str> {
        self.texts.get(number as usize).map(AsRef::as_ref)
    }

    /// A hash of the text of a number: the same wherever the text is; 0 for [`NULL`].
    pub fn stable_hash(&self, number: u32) -> u64 {
        self.hashes.get(number as usize).copied().unwrap_or(0)
    }

    /// Takes over the texts of another thread: its numbers, translated.
    pub fn adopt(&mut self, other: &Texts) -> Translation {
        Translation(other.texts.iter().map(|text| self.number(text)).collect())
    }
}

/// From the numbers of one [`Texts`] to those of another.
#[derive(Clone, Debug)]
pub struct Translation(Vec<u32>);

impl Translation {
    /// The new number.
    pub fn of(&self, number: u32) -> u32 {
        self.0.get(number as usize).copied().unwrap_or(NULL)
    }
}

/// Remembers the numbers of a column's dictionary: the batches of a row group share it.
#[derive(Debug, Default)]
pub struct DictionaryCache {
    values: Option<StringArray>,
    numbers: Vec<Option<u32>>,
}

impl DictionaryCache {
    /// Per row the number of its text, [`NULL`] for none.
    pub fn numbers(&mut self, text: &Text<'_>, texts: &mut Texts) -> Vec<u32> {
        self.adopt(text);
        (0..text.keys.len()).map(|row| self.number(text, row, texts)).collect()
    }

    #[inline]
    fn number(&mut self, text: &Text<'_>, row: usize, texts: &mut Texts) -> u32 {
        let Some(index) = text.index(row) else { return NULL };
        match self.numbers[index] {
            Some(number) => number,
            None => *self.numbers[index].insert(texts.number(text.values.value(index))),
        }
    }

    fn adopt(&mut self, text: &Text<'_>) {
        let same = self.values.as_ref().is_some_and(|known| {
            known.len() == text.values.len() && known.offsets().as_ptr() == text.values.offsets().as_ptr()
        });
        if !same {
            self.numbers.clear();
            self.numbers.resize(text.values.len(), None);
            // Holding the values keeps their address from being used again.
            self.values = Some(text.values.clone());
        }
    }
}
