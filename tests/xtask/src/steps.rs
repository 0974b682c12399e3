//! The steps of a long command: each named when it starts, timed, and all in a table at the end.

use crate::Result;
use std::time::{Duration, Instant};

/// The steps done so far.
pub struct Steps {
    began: Instant,
    done: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    /// No step yet.
    pub fn new() -> Self {
        Steps { began: Instant::now(), done: Vec::new() }
    }

    /// Runs one step.
    pub fn step<T>(&mut self, name: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n=== {name}");
        let began = Instant::now();
        let result = body();
        self.done.push((name, began.elapsed(), result.is_ok()));
        result
    }

    /// Prints the table.
    pub fn print(&self) {
        eprintln!("\n{:<44} {:>8}", "step", "seconds");
        for (name, took, succeeded) in &self.done {
            let mark = if *succeeded { "" } else { "  FAILED" };
            eprintln!("{name:<44} {:>8.1}{mark}", took.as_secs_f64());
        }
        eprintln!("{:<44} {:>8.1}", "all", self.began.elapsed().as_secs_f64());
    }
}
