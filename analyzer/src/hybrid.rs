//! Parquet's hybrid of run lengths and packed bits, decoded a run at a time.

/// The widest value, bits.
const WIDTH_MAX: u32 = 32;
/// What a load of 8 bytes may read behind a group.
const SLACK: usize = 8;

/// Appends `count` values of `width` bits. `None`: the bytes end early or are no such values.
pub fn decode(mut bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Option<()> {
    if width > WIDTH_MAX {
        return None;
    }
    let mut left = count;
    while left > 0 {
        match next_run(&mut bytes, width, left)? {
            Run::Repeated(value, run) => {
                out.resize(out.len() + run, value);
                left -= run;
            }
            Run::Packed(packed, values) => {
                unpack(packed, width, values, out);
                left -= values;
            }
        }
    }
    Some(())
}

/// A run of values.
enum Run<'a> {
    /// One value, so many times.
    Repeated(u32, usize),
    /// So many values in packed bits.
    Packed(&'a [u8], usize),
}

/// Takes a run from the front, of at most `left` values.
fn next_run<'a>(bytes: &mut &'a [u8], width: u32, left: usize) -> Option<Run<'a>> {
    let header = varint(bytes)?;
    let run = usize::try_from(header >> 1).unwrap_or(usize::MAX);
    if header & 1 == 0 {
        let value = repeated(bytes, width)?;
        return (run > 0).then_some(Run::Repeated(value, run.min(left)));
    }
    let values = run.saturating_mul(8).min(left);
    let packed = bytes.get(..values.div_ceil(8) * width as usize).filter(|_| values > 0)?;
    // Behind the last value nothing is read: the rest of its run may be cut.
    *bytes = bytes.get(run.saturating_mul(width as usize)..).unwrap_or_default();
    Some(Run::Packed(packed, values))
}

/// Appends the values at `places`, which rise, of `count` values: only the runs are walked.
pub fn pick(mut bytes: &[u8], width: u32, count: usize, mut places: &[u32], out: &mut Vec<u32>) -> Option<()> {
    if width > WIDTH_MAX {
        return None;
    }
    let mut done = 0;
    while !places.is_empty() {
        let run = next_run(&mut bytes, width, count - done)?;
        let length = match run {
            Run::Repeated(_, length) | Run::Packed(_, length) => length,
        };
        let (here, rest) = split_before(places, done + length);
        match run {
            Run::Repeated(value, _) => out.resize(out.len() + here.len(), value),
            Run::Packed(packed, _) => {
                out.extend(here.iter().map(|place| packed_at(packed, width as usize, *place as usize - done)));
            }
        }
        (places, done) = (rest, done + length);
    }
    Some(())
}

/// Those of the rising `places` before `end`, and the rest: runs are short, and searching takes longer than walking.
fn split_before(places: &[u32], end: usize) -> (&[u32], &[u32]) {
    places.split_at(places.iter().take_while(|place| (**place as usize) < end).count())
}

fn packed_at(packed: &[u8], width: usize, place: usize) -> u32 {
    let (byte, shift) = (place * width / 8, place * width % 8);
    let rest = packed.get(byte..).unwrap_or_default();
    let word = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        let length = rest.len().min(word.len());
        word[..length].copy_from_slice(&rest[..length]);
        word
    });
    (u64::from_le_bytes(word) >> shift & ((1 << width) - 1)) as u32
}

/// Appends the places of the ones among `count` levels of one bit, each plus `first`.
pub fn ones(mut levels: &[u8], count: usize, first: u32, out: &mut Vec<u32>) -> Option<()> {
    let mut done = 0;
    while done < count {
        let begin = first + done as u32;
        match next_run(&mut levels, 1, count - done)? {
            Run::Repeated(0, length) => done += length,
            Run::Repeated(1, length) => {
                out.extend(begin..begin + length as u32);
                done += length;
            }
            Run::Repeated(..) => return None,
            Run::Packed(packed, length) => {
                for (place, byte) in (0..length).step_by(8).zip(packed) {
                    let mut bits = byte & mask(length - place);
                    while bits != 0 {
                        out.push(begin + place as u32 + bits.trailing_zeros());
                        bits &= bits - 1;
                    }
                }
                done += length;
            }
        }
    }
    Some(())
}

/// The rank of a level that is no one.
pub const NO_RANK: u32 = u32::MAX;

/// Appends for each of `places`, which rise, how many ones stand before it among `count` levels of one bit; [`NO_RANK`] if
/// it is none itself. Returns how many ones there are.
pub fn ranks(mut levels: &[u8], count: usize, mut places: &[u32], out: &mut Vec<u32>) -> Option<usize> {
    let (mut done, mut before) = (0, 0);
    while done < count {
        match next_run(&mut levels, 1, count - done)? {
            Run::Repeated(level @ (0 | 1), length) => {
                let (here, rest) = split_before(places, done + length);
                let rank = |place: &u32| if level == 1 { (before + *place as usize - done) as u32 } else { NO_RANK };
                out.extend(here.iter().map(rank));
                before += length * level as usize;
                (places, done) = (rest, done + length);
            }
            Run::Repeated(..) => return None,
            Run::Packed(packed, length) => {
                for (place, byte) in (0..length).step_by(8).zip(packed) {
                    let bits = byte & mask(length - place);
                    while let Some((first, rest)) = places.split_first()
                        && (*first as usize) < done + place + 8
                    {
                        let bit = 1u8 << (*first as usize - done - place);
                        let rank = before + (bits & (bit - 1)).count_ones() as usize;
                        out.push(if bits & bit != 0 { rank as u32 } else { NO_RANK });
                        places = rest;
                    }
                    before += bits.count_ones() as usize;
                }
                done += length;
            }
        }
    }
    places.is_empty().then_some(before)
}

/// The lowest bits of a byte, so many as there are.
fn mask(bits: usize) -> u8 {
    if bits >= 8 { u8::MAX } else { (1 << bits) - 1 }
}

/// The run that `bytes` begin with, if it is one value repeated for at least `count` rows.
pub fn only_value(mut bytes: &[u8], width: u32, count: usize) -> Option<u32> {
    let header = varint(&mut bytes)?;
    if header & 1 != 0 || header >> 1 < count as u64 {
        return None;
    }
    repeated(&mut bytes, width)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn repeated(bytes: &mut &[u8], width: u32) -> Option<u32> {
    let (value, rest) = bytes.split_at_checked(width.div_ceil(8) as usize)?;
    *bytes = rest;
    Some(value.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// Appends `count` values; `bytes` hold them in whole groups of eight.
fn unpack(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) {
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_by::<$width>(bytes, count, out),)*
                _ => out.resize(out.len() + count, 0),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

/// With the width known every shift is.
fn unpack_by<const WIDTH: usize>(bytes: &[u8], count: usize, out: &mut Vec<u32>) {
    let (from, groups) = (out.len(), count.div_ceil(8));
    out.resize(from + groups * 8, 0);
    for (group, values) in out[from..].chunks_exact_mut(8).enumerate() {
        let begin = group * WIDTH;
        match bytes.get(begin..begin + WIDTH + SLACK) {
            Some(group) => unpack_group::<WIDTH>(group, values),
            None => {
                let mut padded = [0; WIDTH_MAX as usize + SLACK];
                let rest = &bytes[begin..];
                padded[..rest.len()].copy_from_slice(rest);
                unpack_group::<WIDTH>(&padded[..WIDTH + SLACK], values);
            }
        }
    }
    out.truncate(from + count);
}

#[inline(always)]
fn unpack_group<const WIDTH: usize>(group: &[u8], values: &mut [u32]) {
    for (i, value) in values.iter_mut().enumerate().take(8) {
        let (byte, shift) = (i * WIDTH / 8, i * WIDTH % 8);
        let mut word = [0; 8];
        word.copy_from_slice(&group[byte..byte + 8]);
        *value = (u64::from_le_bytes(word) >> shift & ((1 << WIDTH) - 1)) as u32;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn packed(values: &[u32], width: u32) -> Vec<u8> {
        let groups = values.len().div_ceil(8);
        let mut bytes = vec![(groups << 1 | 1) as u8];
        let mut bits = vec![false; groups * 8 * width as usize];
        for (i, value) in values.iter().enumerate() {
            (0..width).for_each(|bit| bits[i * width as usize + bit as usize] = value >> bit & 1 == 1);
        }
        bytes.extend(bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))));
        bytes
    }

    #[test]
    fn every_width_comes_back() {
        for width in 1..=32u32 {
            let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let values: Vec<u32> = (0..301u32).map(|i| i.wrapping_mul(0x9e37_79b9) & mask).collect();
            let mut bytes = packed(&values[..200], width);
            bytes.push(100 << 1 & 0x7f | 0x80);
            bytes.push((100 << 1 >> 7) as u8);
            bytes.extend(&values[200].to_le_bytes()[..width.div_ceil(8) as usize]);
            let mut found = Vec::new();
            decode(&bytes, width, 300, &mut found).unwrap();
            assert_eq!(found[..200], values[..200], "{width}");
            assert_eq!(found[200..], [values[200]; 100], "{width}");
        }
    }

    #[test]
    fn what_is_picked_is_what_is_decoded() {
        for (width, seed) in (1..=32u32).zip(1u32..) {
            let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let values: Vec<u32> = (0..203u32).map(|i| i.wrapping_mul(0x9e37_79b9 ^ seed << 7) & mask).collect();
            let mut bytes = vec![100 << 1 & 0x7f | 0x80, (100 << 1 >> 7) as u8];
            bytes.extend(&values[0].to_le_bytes()[..width.div_ceil(8) as usize]);
            bytes.extend(packed(&values, width));
            let (mut all, count) = (Vec::new(), 303);
            decode(&bytes, width, count, &mut all).unwrap();
            for step in [1, 2, 7, 50, 302] {
                let places: Vec<u32> = (0..count as u32).step_by(step).collect();
                let mut found = Vec::new();
                pick(&bytes, width, count, &places, &mut found).unwrap();
                assert!(found.iter().eq(all.iter().step_by(step)), "{width} {step}");
                if width == 1 {
                    let mut found = Vec::new();
                    let filled = all.iter().filter(|level| **level == 1).count();
                    assert_eq!(ranks(&bytes, count, &places, &mut found), Some(filled));
                    for (place, rank) in places.iter().zip(found) {
                        let before = all[..*place as usize].iter().filter(|level| **level == 1).count();
                        assert_eq!(rank, if all[*place as usize] == 1 { before as u32 } else { NO_RANK }, "{place}");
                    }
                }
            }
            if width == 1 {
                let mut found = Vec::new();
                ones(&bytes, count, 7, &mut found).unwrap();
                let expected = (7..).zip(&all).filter(|(_, level)| **level == 1).map(|(place, _)| place);
                assert!(expected.eq(found));
            }
        }
    }

    #[test]
    fn what_ends_early_is_refused() {
        let values: Vec<u32> = (0..64).collect();
        let bytes = packed(&values, 6);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], 6, 64, &mut Vec::new()), None, "{length}");
            assert_eq!(pick(&bytes[..length], 6, 64, &[0, 63], &mut Vec::new()), None, "{length}");
            assert_eq!(ones(&bytes[..length.min(8)], 512, 0, &mut Vec::new()), None, "{length}");
            assert_eq!(ranks(&bytes[..length.min(8)], 512, &[0], &mut Vec::new()), None, "{length}");
        }
        assert_eq!(decode(&[0, 0], 1, 5, &mut Vec::new()), None, "a run of nothing");
        assert_eq!(decode(&[2, 0], 33, 1, &mut Vec::new()), None, "too wide");
    }
}
