//! Checks that need no kernel: the catalogue beside the machine's headers, and the generated pages.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod catalogue;
mod examples;
mod golden;
mod packs;
mod pages;
mod shells;
