//! Tests on the live kernel: they record real calls and compare with what is known about them.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod counting;
mod endings;
mod modes;
mod oracles;
mod refusals;
mod times;
mod witnesses;
