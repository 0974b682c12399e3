//! Walks a structure of Thrift's compact protocol, in which Parquet writes its footers and page headers, without building
//! anything: what a file claims is looked at before a decoder reserves memory for it.
//!
//! It is stricter than the protocol where no writer of Parquet makes use of it: fields rise (so none comes twice, and two
//! readers cannot disagree about which one counts), there are no maps and no lists of booleans.

/// Deeper than any structure of Parquet.
const DEPTH_MAX: usize = 24;

/// Something that is met on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An integer of any width.
    Number(i64),
    /// A list of so many elements.
    List(usize),
}

/// Where a walk stands.
struct Walker<'a, V> {
    bytes: &'a [u8],
    position: usize,
    /// The numbers of the fields that lead here; elements of a list have the list's.
    path: Vec<i16>,
    visit: V,
}

/// Walks the structure at the beginning of `bytes`, calling `visit` with the path of each number and list; returns how
/// many bytes the structure takes.
///
/// # Errors
/// What is wrong with it, or what `visit` said.
pub fn walk(bytes: &[u8], visit: impl FnMut(&[i16], Item) -> Result<(), String>) -> Result<usize, String> {
    let mut walker = Walker { bytes, position: 0, path: Vec::with_capacity(DEPTH_MAX), visit };
    walker.structure()?;
    Ok(walker.position)
}

impl<V: FnMut(&[i16], Item) -> Result<(), String>> Walker<'_, V> {
    fn structure(&mut self) -> Result<(), String> {
        if self.path.len() >= DEPTH_MAX {
            return Err("nested too deeply".to_owned());
        }
        let mut last: i16 = 0;
        loop {
            let head = self.byte()?;
            if head & 0x0f == 0 {
                return Ok(());
            }
            let id = match head >> 4 {
                0 => i16::try_from(self.number()?).ok(),
                step => last.checked_add(step.into()),
            };
            let id = id.filter(|id| *id > last).ok_or("its fields are not in order")?;
            last = id;
            self.path.push(id);
            // The values of booleans are their types.
            if !matches!(head & 0x0f, 1 | 2) {
                self.value(head & 0x0f)?;
            }
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8) -> Result<(), String> {
        match kind {
            3 => self.skip(1),
            4..=6 => {
                let number = self.number()?;
                (self.visit)(&self.path, Item::Number(number))
            }
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(usize::try_from(length).unwrap_or(usize::MAX))
            }
            9 | 10 => self.list(),
            12 => self.structure(),
            13 => self.skip(16),
            other => Err(format!("holds values of the unknown type {other}")),
        }
    }

    fn list(&mut self) -> Result<(), String> {
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => usize::try_from(self.varint()?).unwrap_or(usize::MAX),
            short => short.into(),
        };
        // Each element takes a byte at least.
        if length > self.bytes.len().saturating_sub(self.position) {
            return Err(format!("claims a list of {length} elements, more than it has bytes"));
        }
        (self.visit)(&self.path, Item::List(length))?;
        for _ in 0..length {
            self.value(head & 0x0f)?;
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.position).copied().ok_or("ends in the middle")?;
        self.position += 1;
        Ok(byte)
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.bytes.len());
        self.position = end.ok_or("ends in the middle")?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("holds a number of more than 64 bits".to_owned())
    }

    /// Zigzag: the sign is the last bit.
    fn number(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Met = (Vec<i16>, Item);

    fn items(bytes: &[u8]) -> Result<(usize, Vec<Met>), String> {
        let mut items = Vec::new();
        let length = walk(bytes, |path, item| {
            items.push((path.to_vec(), item));
            Ok(())
        })?;
        Ok((length, items))
    }

    #[test]
    fn numbers_lists_and_structures_are_met() {
        // 1: i32 = -3, 2: list of two i32, 4: struct { 1: i64 = 300 }, 5: true, stop; and a byte that is not its own.
        let bytes = [0x15, 5, 0x19, 0x25, 2, 4, 0x2c, 0x16, 0xd8, 4, 0, 0x11, 0, 0xff];
        let expected = vec![
            (vec![1], Item::Number(-3)),
            (vec![2], Item::List(2)),
            (vec![2], Item::Number(1)),
            (vec![2], Item::Number(2)),
            (vec![4, 1], Item::Number(300)),
        ];
        assert_eq!(items(&bytes), Ok((13, expected)));
    }

    #[test]
    fn what_no_writer_makes_is_refused() {
        let cases: [(&[u8], &str); 8] = [
            (&[0x15], "ends in the middle"),
            (&[0x15, 2, 0x05, 2, 4, 0], "not in order"),
            (&[0x25, 2, 0x05, 2, 4, 0], "not in order"),
            (&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f, 0], "claims a list of 4294967295 elements"),
            (&[0x19, 0x21, 1, 1, 0], "unknown type 1"),
            (&[0x1b, 0], "unknown type 11"),
            (&[0x18, 200, 1, 0], "ends in the middle"),
            (&[0x1c; 40], "nested too deeply"),
        ];
        for (bytes, said) in cases {
            let result = items(bytes);
            assert!(result.as_ref().is_err_and(|error| error.contains(said)), "{bytes:x?}: {result:?}");
        }
    }
}
