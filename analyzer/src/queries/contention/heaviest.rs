//! The rows of an answer that weigh most: how many are kept is bounded, and how many were left out is said.

use std::cmp::Ordering;

/// Rows of one table that are kept: at some hundred bytes each, some tens of MiB.
pub const ROWS_MAX: usize = 100_000;

/// The heaviest rows.
#[derive(Debug)]
pub struct Heaviest<T> {
    rows: Vec<T>,
    left_out: u64,
    most: usize,
}

impl<T> Heaviest<T> {
    /// Keeps `most`.
    pub fn new(most: usize) -> Heaviest<T> {
        Heaviest { rows: Vec::new(), left_out: 0, most }
    }

    /// Adds a row; `order` puts the heaviest first.
    pub fn push(&mut self, row: T, order: impl Fn(&T, &T) -> Ordering) {
        self.rows.push(row);
        if self.rows.len() > 2 * self.most {
            self.rows.select_nth_unstable_by(self.most, order);
            self.truncate();
        }
    }

    /// The rows, heaviest first, and how many were left out.
    pub fn finish(mut self, order: impl Fn(&T, &T) -> Ordering) -> (Vec<T>, u64) {
        self.rows.sort_unstable_by(order);
        self.truncate();
        (self.rows, self.left_out)
    }

    fn truncate(&mut self) {
        self.left_out += self.rows.len().saturating_sub(self.most) as u64;
        self.rows.truncate(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_stay_and_the_others_are_counted() {
        let falling = |a: &i32, b: &i32| b.cmp(a);
        let mut heaviest = Heaviest::new(3);
        for number in [5, 1, 9, 7, 3, 8, 2, 6, 4, 0] {
            heaviest.push(number, falling);
        }
        assert_eq!(heaviest.finish(falling), (vec![9, 8, 7], 7));
    }
}
