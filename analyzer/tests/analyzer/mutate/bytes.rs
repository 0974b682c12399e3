//! Bytes as disks, copies and people get them wrong.

use super::{Mutation, Source};
use crate::fixture::Random;

/// Changes a file in one of the ways in which files are damaged.
pub fn damage(content: &mut Vec<u8>, random: &mut Random) -> &'static str {
    let at = random.below(content.len().max(1) as u64) as usize;
    match random.below(6) {
        0 => {
            content[at] ^= 1 << random.below(8);
            "a bit"
        }
        1 => {
            content.truncate(at);
            "truncated"
        }
        2 => {
            content[at..].iter_mut().take(16).for_each(|byte| *byte = random.next() as u8);
            "a block of noise"
        }
        3 => {
            content[at..].iter_mut().take(4096).for_each(|byte| *byte = 0);
            "a block of zeros"
        }
        4 => {
            let extra: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
            content.splice(at..at, extra);
            "bytes too many"
        }
        _ => {
            // The footer is where the most harm is done.
            let from = content.len().saturating_sub(2_000);
            let at = from + random.below((content.len() - from) as u64) as usize;
            content[at] = random.next() as u8;
            "a byte of the footer"
        }
    }
}

/// Without telling the manifest.
pub fn damage_part(source: &Source, random: &mut Random) -> Mutation {
    let (file, content) = source.any_part(random);
    let mut content = content.clone();
    let what = damage(&mut content, random);
    let files = vec![(file.clone(), content)];
    Mutation { what: format!("{}: {file}: {what}", source.name), files, checksum_holds: false }
}

/// An attacker can make the manifest agree with any file: then decoding itself must hold.
pub fn damage_vouched_part(source: &Source, random: &mut Random) -> Mutation {
    let (file, content) = source.any_part(random);
    let mut content = content.clone();
    let what = damage(&mut content, random);
    source.vouched(format!("vouched, {what}"), file, content, None)
}

/// The part of another table or trace.
pub fn swap(source: &Source, others: &[Source], random: &mut Random) -> Mutation {
    let (file, _) = source.any_part(random);
    let other = &others[random.below(others.len() as u64) as usize];
    let (from, content) = &other.parts[random.below(other.parts.len() as u64) as usize];
    let rows = other.manifest["parts"].as_array().unwrap().iter().find(|part| part["file"] == *from);
    let rows = rows.and_then(|part| part["rows"].as_i64());
    let what = format!("{from} of {}", other.name);
    if random.below(2) == 0 {
        let files = vec![(file.clone(), content.clone())];
        return Mutation { what: format!("{}: {file}: {what}", source.name), files, checksum_holds: false };
    }
    source.vouched(what, file, content.clone(), rows)
}
