//! Tests on the live kernel: they record real calls and compare with what is known about them.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod answers;
mod battery;
mod before;
mod bounds;
mod counting;
mod crashes;
mod crowds;
mod disks;
mod endings;
mod filters;
mod flight;
mod foreign;
mod health;
mod incidents;
mod kprobes;
mod library;
mod modes;
mod names;
mod namespaces;
mod oracles;
mod outputs;
mod packs;
mod power;
mod privilege;
mod recurring;
mod refusals;
mod reports;
mod signals;
mod stacks;
mod times;
mod toctou;
mod wakers;
mod witnesses;
