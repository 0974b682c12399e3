//! Differences between what a trace tells and what is known, gathered so that a test shows them all.

use std::fmt::Debug;

/// How many a failed test prints.
const SHOWN: usize = 30;

/// What was compared, and what differed.
#[derive(Default)]
pub struct Differences {
    compared: usize,
    found: Vec<String>,
}

impl Differences {
    /// Compares one value.
    pub fn compare<T: PartialEq + Debug>(&mut self, what: &str, told: T, known: T) {
        self.check(told == known, || format!("{what}: {told:?} instead of {known:?}"));
    }

    /// Notes `what` unless it `holds`.
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.compared += 1;
        if !holds {
            self.found.push(what());
        }
    }

    /// How many values were compared.
    pub fn compared(&self) -> usize {
        self.compared
    }

    /// The end of a test.
    ///
    /// # Panics
    /// When anything differed.
    pub fn none(self) {
        let shown = self.found.iter().take(SHOWN).map(|found| format!("\n  {found}")).collect::<String>();
        assert!(self.found.is_empty(), "{} of {} values differ:{shown}", self.found.len(), self.compared);
    }
}
