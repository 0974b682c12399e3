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
        let header = varint(&mut bytes)?;
        let run = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        if header & 1 == 0 {
            let value = repeated(&mut bytes, width)?;
            let run = run.min(left);
            if run == 0 {
                return None;
            }
            out.resize(out.len() + run, value);
            left -= run;
        } else {
            let values = run.saturating_mul(8).min(left);
            let packed = values.div_ceil(8) * width as usize;
            if values == 0 || bytes.len() < packed {
                return None;
            }
            unpack(&bytes[..packed], width, values, out);
            // Behind the last value nothing is read: the rest of its run may be cut.
            bytes = bytes.get(run.saturating_mul(width as usize)..).unwrap_or_default();
            left -= values;
        }
    }
    Some(())
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
        for width in 1..=32 {
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
    fn what_ends_early_is_refused() {
        let values: Vec<u32> = (0..64).collect();
        let bytes = packed(&values, 6);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], 6, 64, &mut Vec::new()), None, "{length}");
        }
        assert_eq!(decode(&[0, 0], 1, 5, &mut Vec::new()), None, "a run of nothing");
        assert_eq!(decode(&[2, 0], 33, 1, &mut Vec::new()), None, "too wide");
    }
}
