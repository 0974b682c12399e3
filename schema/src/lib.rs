//! What the probes, the recorder and the analyzer agree on, each fact once.
//!
//! This crate knows no kernel, no file and no clock; without the `arrow` feature it allocates nothing and needs no
//! standard library, so that the eBPF programs can share it.
#![cfg_attr(not(any(feature = "arrow", feature = "command-line")), no_std)]

pub mod catalogue;
#[cfg(feature = "command-line")]
pub mod command_line;
pub mod flags;
pub mod losses;
#[cfg(feature = "arrow")]
pub mod manifest;
#[cfg(feature = "command-line")]
mod settings;
pub mod shape;
#[cfg(feature = "store")]
pub mod store;
pub mod tables;
#[cfg(feature = "arrow")]
pub mod text;
pub mod version;
pub mod wire;
