//! The commands, one file each.

pub mod latency;
pub mod show;
pub mod summary;
pub mod verify;
