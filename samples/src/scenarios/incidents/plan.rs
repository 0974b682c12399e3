//! What a seed draws, and what an analyzer should say of what comes of it.

use serde_json::{Map, Value, json};
use std::ops::RangeInclusive;

/// The draws of one seed, by name, and the findings that they lead to.
pub(super) struct Plan {
    /// Of splitmix64.
    state: u64,
    seed: u64,
    parameters: Map<String, Value>,
    expected: Vec<Value>,
    leaves: Vec<String>,
}

/// A finding that is expected.
pub(super) struct Expected {
    command: &'static str,
    finding: &'static str,
    objects: Option<Vec<String>>,
    grades: &'static [&'static str],
    is_optional: bool,
    says: Vec<String>,
}

impl Expected {
    /// A finding of a command, with the grades that are right; what is held back out of doubt is the judge's affair.
    pub(super) fn new(command: &'static str, finding: &'static str, grades: &'static [&'static str]) -> Expected {
        Expected { command, finding, objects: None, grades, is_optional: false, says: Vec::new() }
    }

    /// It names one of these objects.
    pub(super) fn on(self, objects: &[String]) -> Expected {
        Expected { objects: Some(objects.to_vec()), ..self }
    }

    /// Silence is right, too.
    pub(super) fn optional(self) -> Expected {
        Expected { is_optional: true, ..self }
    }

    /// Its text holds this.
    pub(super) fn saying(mut self, text: impl ToString) -> Expected {
        self.says.push(text.to_string());
        self
    }
}

impl Plan {
    pub(super) fn new(seed: u64) -> Plan {
        Plan { state: seed, seed, parameters: Map::new(), expected: Vec::new(), leaves: Vec::new() }
    }

    /// The next number of the sequence.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Draws a number.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> u64 {
        let drawn = range.start() + self.next() % (range.end() - range.start() + 1);
        self.parameters.insert(name.to_owned(), drawn.into());
        drawn
    }

    /// Draws a number of milliseconds.
    pub(super) fn time(&mut self, name: &str, milliseconds: RangeInclusive<u64>) -> std::time::Duration {
        std::time::Duration::from_millis(self.number(name, milliseconds))
    }

    /// Draws one of several things by its name.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, of: &[(&str, T)]) -> T {
        let (text, drawn) = of[(self.next() % of.len() as u64) as usize];
        self.parameters.insert(name.to_owned(), text.into());
        drawn
    }

    /// Draws yes or no.
    pub(super) fn flip(&mut self, name: &str) -> bool {
        let drawn = self.next() % 2 == 1;
        self.parameters.insert(name.to_owned(), drawn.into());
        drawn
    }

    pub(super) fn expect(&mut self, expected: Expected) {
        let Expected { command, finding, objects, grades, is_optional, says } = expected;
        self.expected.push(json!({
            "command": command, "finding": finding, "objects": objects, "grades": grades,
            "optional": is_optional, "says": says,
        }));
    }

    /// Notes an object that stays behind.
    pub(super) fn leave(&mut self, object: String) {
        self.leaves.push(object);
    }

    /// What the program prints about itself.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("seed".to_owned(), self.seed.into());
        fields.insert("parameters".to_owned(), self.parameters.clone().into());
        fields.insert("expected".to_owned(), self.expected.clone().into());
        fields.insert("clean".to_owned(), self.leaves.is_empty().into());
        fields.insert("leaves".to_owned(), self.leaves.clone().into());
        fields
    }
}
