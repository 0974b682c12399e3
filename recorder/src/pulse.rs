//! What the threads of a recording have done: they count it, and nothing here reads it (`health.rs` does).

use ipc_schema::losses::{SOURCES, Source};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What the threads of a recording have done.
#[derive(Default)]
pub struct Pulse {
    /// Lost, in the order of [`SOURCES`].
    pub lost: [AtomicU64; SOURCES.len()],
    /// Chunks of rows that the capture handed on.
    pub captured: AtomicU64,
    /// Until when they reach: CLOCK_BOOTTIME nanoseconds.
    pub captured_until_ns: AtomicU64,
    /// Those of them that the writer has dealt with.
    pub written: AtomicU64,
    /// Those that waited for the writer when the newest was handed on.
    pub waiting: AtomicU64,
    /// Everything before was synced: nanoseconds since the epoch.
    pub durable_until_ns: AtomicI64,
}

impl Pulse {
    /// Something was lost.
    pub fn lost(&self, source: Source, count: u64) {
        if let Some(place) = SOURCES.iter().position(|s| *s == source) {
            self.lost[place].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Calls that were.
    pub fn lost_calls(&self) -> u64 {
        let lost = SOURCES.iter().zip(&self.lost).filter(|(source, _)| source.counts_calls);
        lost.map(|(_, lost)| lost.load(Ordering::Relaxed)).sum()
    }

    /// The capture has handed on so many chunks, which reach until `until_ns`, CLOCK_BOOTTIME; `waiting` of them wait.
    pub fn handed_on(&self, chunks: u64, until_ns: u64, waiting: usize) {
        self.captured.store(chunks, Ordering::Relaxed);
        self.captured_until_ns.store(until_ns, Ordering::Relaxed);
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// The writer has dealt with what it got; everything before `durable_until_ns`, since the epoch, was synced.
    pub fn written(&self, durable_until_ns: i64) {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.durable_until_ns.store(durable_until_ns, Ordering::Relaxed);
    }

    /// Everything was synced, and nothing waits.
    pub fn completed(&self, end_ns: i64) {
        self.waiting.store(0, Ordering::Relaxed);
        self.durable_until_ns.store(end_ns, Ordering::Relaxed);
    }
}
