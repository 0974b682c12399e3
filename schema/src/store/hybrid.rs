//! Parquet's RLE/bit-packing hybrid encoding of small numbers that come in runs.
//!
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>, "Run Length Encoding / Bit-Packing Hybrid".

/// Numbers are packed in groups of as many.
const GROUP: usize = 8;

/// The bits that every number up to this one fits into.
pub fn bits_of(largest: u32) -> u32 {
    u32::BITS - largest.leading_zeros()
}

/// Appends runs, each a number and how often it comes, as numbers of so many bits.
pub fn encode(runs: impl Iterator<Item = (u32, usize)>, bits: u32, to: &mut Vec<u8>) {
    let mut packed: Vec<u32> = Vec::new();
    for (number, mut count) in runs {
        let begun = packed.len() % GROUP;
        if begun > 0 {
            let fill = count.min(GROUP - begun);
            packed.extend(std::iter::repeat_n(number, fill));
            count -= fill;
        }
        if count >= GROUP {
            end_packed(&mut packed, bits, to);
            varint((count as u64) << 1, to);
            to.extend_from_slice(&number.to_le_bytes()[..bits.div_ceil(8) as usize]);
        } else {
            packed.extend(std::iter::repeat_n(number, count));
        }
    }
    end_packed(&mut packed, bits, to);
}

fn end_packed(packed: &mut Vec<u32>, bits: u32, to: &mut Vec<u8>) {
    if packed.is_empty() {
        return;
    }
    let groups = packed.len().div_ceil(GROUP);
    packed.resize(groups * GROUP, 0);
    varint((groups as u64) << 1 | 1, to);
    pack(packed.drain(..), bits, to);
}

/// Appends numbers of so many bits, the lowest first.
pub fn pack(numbers: impl Iterator<Item = u32>, bits: u32, to: &mut Vec<u8>) {
    let (mut word, mut filled) = (0u64, 0);
    for number in numbers {
        word |= u64::from(number) << filled;
        filled += bits;
        if filled >= u32::BITS {
            to.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= u32::BITS;
            filled -= u32::BITS;
        }
    }
    to.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

fn varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(runs: &[(u32, usize)], bits: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(runs.iter().copied(), bits, &mut bytes);
        bytes
    }

    #[test]
    fn the_example_of_the_format() {
        let (mut packed, numbers) = (Vec::new(), 0..8);
        pack(numbers, 3, &mut packed);
        assert_eq!(packed, [0b1000_1000, 0b1100_0110, 0b1111_1010]);
    }

    #[test]
    fn a_long_run_is_its_length_and_its_number() {
        assert_eq!(encoded(&[(4, 100)], 3), [0b1100_1000, 1, 4]);
        assert_eq!(encoded(&[(0, 100)], 0), [0b1100_1000, 1]);
        assert_eq!(encoded(&[(0x123, 9)], 9), [18, 0x23, 1]);
    }

    #[test]
    fn short_runs_are_packed_together_and_fill_their_last_group() {
        assert_eq!(encoded(&[(1, 3), (0, 2)], 1), [3, 0b0000_0111]);
        assert_eq!(encoded(&[(1, 3), (0, 21)], 1), [3, 0b0000_0111, 32, 0], "5 of the 21 fill the group");
        assert_eq!(encoded(&[(1, 3), (0, 12)], 1), [5, 0b0000_0111, 0], "a run of 7 is packed");
    }

    #[test]
    fn bits() {
        assert_eq!([0, 1, 2, 255, 256].map(bits_of), [0, 1, 2, 8, 9]);
    }
}
