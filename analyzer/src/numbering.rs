//! Numbers for the combinations of several columns of one row group, made from their codes without hashing where that
//! can be.

use crate::codes::Codes;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// What a table of combinations may have, per row of the row group: clearing it costs less than hashing each row.
const PLACES_PER_ROW: usize = 16;
/// No combination yet.
const NONE: u32 = u32::MAX;

/// Which combination each row of a row group has.
#[derive(Debug, Default)]
pub struct Numbering {
    /// Per row the number of its combination.
    pub numbers: Vec<u32>,
    /// Per number a row that has it; [`u32::MAX`] where none has.
    pub examples: Vec<u32>,
}

impl Numbering {
    /// The combinations of some columns, each with as many rows as the others.
    pub fn of(columns: &[&Codes], rows: usize) -> Numbering {
        let mut columns = columns.iter().filter(|codes| !is_constant(codes));
        let Some(first) = columns.next() else {
            return Numbering { numbers: vec![0; rows], examples: vec![0] };
        };
        let mut numbering = Numbering { numbers: first.rows.clone(), examples: vec![NONE; first.values.len() + 1] };
        // From the back, so that the first row remains.
        for (row, number) in numbering.numbers.iter().enumerate().rev() {
            numbering.examples[*number as usize] = row as u32;
        }
        columns.for_each(|codes| numbering.refine(codes));
        numbering
    }

    /// Tells rows apart by one more column.
    fn refine(&mut self, codes: &Codes) {
        let of_example = |row: &u32| codes.rows.get(*row as usize).copied().unwrap_or(NONE);
        let expected: Vec<u32> = self.examples.iter().map(of_example).collect();
        // Most columns follow from another: the id of an object from its lifetime.
        if self.numbers.iter().zip(&codes.rows).all(|(number, code)| expected[*number as usize] == *code) {
            return;
        }
        let width = codes.values.len() + 1;
        let places = self.examples.len().saturating_mul(width);
        if places <= self.numbers.len().saturating_mul(PLACES_PER_ROW) {
            self.refine_by_table(&codes.rows, width, places);
        } else {
            self.refine_by_hash(&codes.rows);
        }
    }

    fn refine_by_table(&mut self, codes: &[u32], width: usize, places: usize) {
        let mut table = vec![NONE; places];
        self.examples.clear();
        for (row, (number, code)) in self.numbers.iter_mut().zip(codes).enumerate() {
            let place = &mut table[*number as usize * width + *code as usize];
            if *place == NONE {
                *place = self.examples.len() as u32;
                self.examples.push(row as u32);
            }
            *number = *place;
        }
    }

    fn refine_by_hash(&mut self, codes: &[u32]) {
        let mut table: HashMap<u64, u32> = HashMap::with_capacity(self.numbers.len() / 4);
        self.examples.clear();
        for (row, (number, code)) in self.numbers.iter_mut().zip(codes).enumerate() {
            *number = match table.entry(u64::from(*number) << 32 | u64::from(*code)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => {
                    self.examples.push(row as u32);
                    *place.insert(self.examples.len() as u32 - 1)
                }
            };
        }
    }

    /// The rows of each number together: `items` of the rows, and where those of each number end.
    pub fn together(&self, items: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let mut ends = vec![0u32; self.examples.len()];
        self.numbers.iter().for_each(|number| ends[*number as usize] += 1);
        let mut begin = 0;
        for end in &mut ends {
            begin += std::mem::replace(end, begin);
        }
        let mut together = vec![0; items.len()];
        for (number, item) in self.numbers.iter().zip(items) {
            let end = &mut ends[*number as usize];
            together[*end as usize] = *item;
            *end += 1;
        }
        (together, ends)
    }
}

/// Whether all rows have the same value.
fn is_constant(codes: &Codes) -> bool {
    codes.values.is_empty() || (codes.values.len() == 1 && !codes.has_nulls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::Values;
    use std::collections::HashSet;

    fn column(rows: impl Iterator<Item = u32>, values: u32) -> Codes {
        Codes { rows: rows.collect(), values: Values::Int32((0..values as i32).collect()), has_nulls: true }
    }

    #[test]
    fn rows_share_a_number_if_they_share_every_value() {
        const ROWS: u32 = 4_000;
        let independent = column((0..ROWS).map(|row| row.wrapping_mul(2_654_435_761) >> 27), 40);
        let following = column((0..ROWS).map(|row| (row.wrapping_mul(2_654_435_761) >> 27) / 3), 20);
        let many = column((0..ROWS).map(|row| row % 1_999), 2_000);
        let constant = column((0..ROWS).map(|_| 0), 0);
        let columns = [&independent, &constant, &following, &many, &independent];
        for count in 0..=columns.len() {
            let numbering = Numbering::of(&columns[..count], ROWS as usize);
            let key = |row: usize| columns[..count].iter().map(|codes| codes.rows[row]).collect::<Vec<u32>>();
            for (row, number) in numbering.numbers.iter().enumerate() {
                assert_eq!(key(row), key(numbering.examples[*number as usize] as usize), "{count} columns, row {row}");
            }
            let (distinct, used): (HashSet<_>, HashSet<_>) =
                numbering.numbers.iter().enumerate().map(|(row, number)| (key(row), *number)).unzip();
            assert_eq!(distinct.len(), used.len(), "{count} columns");
            let rows: Vec<u32> = (0..ROWS).collect();
            let (together, ends) = numbering.together(&rows);
            let of_row = |row: &u32| numbering.numbers[*row as usize];
            assert!(together.is_sorted_by_key(of_row));
            assert_eq!(ends.last(), Some(&ROWS));
        }
    }
}
