//! Pseudonyms: the same for the same name under the same secret, different for different ones, and not to be had from a list
//! of likely names without the secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Of base 32 (RFC 4648), in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 50 bits: of a million names, two are the same with a probability of 0.0004.
const CHARACTERS: usize = 10;
/// As NIST's FF1 has for numbers this short.
const ROUNDS: u8 = 10;

/// What makes pseudonyms out of a secret.
pub struct Pseudonyms {
    keyed: Hmac<Sha256>,
}

impl Pseudonyms {
    /// Under a secret of any length.
    pub fn new(secret: &[u8]) -> Pseudonyms {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(secret));
        Pseudonyms { keyed: Hmac::new(&key.into()) }
    }

    fn hash(&self, pieces: &[&[u8]]) -> u64 {
        let mut keyed = self.keyed.clone();
        pieces.iter().for_each(|piece| keyed.update(piece));
        let bytes: [u8; 32] = keyed.finalize().into_bytes().into();
        bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The pseudonym of each word, and of each part of a path: what is between blanks and slashes.
    pub fn names(&self, text: &str) -> String {
        let is_between = |c| c == ' ' || c == '/';
        let piece = |piece: &str| {
            let word = piece.trim_end_matches(is_between);
            let hidden = if word.is_empty() { String::new() } else { self.word(word) };
            hidden + &piece[word.len()..]
        };
        text.split_inclusive(is_between).map(piece).collect()
    }

    /// The pseudonym of a text as a whole.
    pub fn word(&self, word: &str) -> String {
        let hash = self.hash(&[b"name", word.as_bytes()]);
        let character = |i: usize| char::from(ALPHABET[(hash >> (5 * i)) as usize % ALPHABET.len()]);
        std::iter::once('x').chain((0..CHARACTERS).map(character)).collect()
    }

    /// The pseudonym of a System V key: never that of another. IPC_PRIVATE stays: it says that there is no key.
    pub fn key(&self, key: i32) -> i32 {
        match (key, self.permuted(key)) {
            (0, _) => 0,
            (_, 0) => self.permuted(0),
            (_, other) => other,
        }
    }

    /// A Feistel network: every number has another.
    fn permuted(&self, key: i32) -> i32 {
        let (mut left, mut right) = ((key as u32 >> 16) as u16, key as u16);
        for round in 0..ROUNDS {
            let mixed = self.hash(&[b"key", &[round], &right.to_be_bytes()]) as u16;
            (left, right) = (right, left ^ mixed);
        }
        (u32::from(left) << 16 | u32::from(right)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_secret_decides() {
        let (one, again, other) = (Pseudonyms::new(b"a"), Pseudonyms::new(b"a"), Pseudonyms::new(b"b"));
        assert_eq!(one.names("/usr/bin/postgres -D x"), again.names("/usr/bin/postgres -D x"));
        assert_eq!(one.key(0x51), again.key(0x51));
        assert_ne!(one.names("postgres"), other.names("postgres"));
        assert_ne!(one.key(0x51), other.key(0x51));
    }

    #[test]
    fn words_keep_their_places() {
        let pseudonyms = Pseudonyms::new(b"secret");
        let [usr, bin, x] = ["usr", "bin", "x"].map(|word| pseudonyms.word(word));
        assert_eq!(pseudonyms.names("/usr//bin/ x "), format!("/{usr}//{bin}/ {x} "));
        assert_eq!([pseudonyms.names(""), pseudonyms.names(" /")], ["", " /"]);
    }

    #[test]
    fn keys_stay_distinct() {
        let pseudonyms = Pseudonyms::new(b"secret");
        let keys = (-50_000..50_000).chain([i32::MIN, i32::MAX]);
        let found: HashSet<i32> = keys.clone().map(|key| pseudonyms.key(key)).collect();
        assert_eq!(found.len(), keys.count());
        assert_eq!(pseudonyms.key(0), 0);
        // The one that would become 0.
        let hidden = (i32::MIN..=i32::MAX).step_by(1 << 24).map(|key| pseudonyms.key(key)).filter(|key| *key == 0);
        assert_eq!(hidden.count(), 1, "0 itself");
    }
}
