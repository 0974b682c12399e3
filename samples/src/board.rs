//! Numbers that all processes of a scenario see, for agreeing on turns without a call that a trace would hold.

use crate::{Failure, Result};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// `count` numbers, all 0, in memory shared with every process forked later; never freed.
pub(crate) fn new(count: usize) -> Result<&'static [AtomicI64]> {
    map(count, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
}

/// `count` numbers in a mapping; of a file, which must be empty or hold numbers, and have room for them.
pub(crate) fn map(count: usize, flags: i32, file: i32) -> Result<&'static [AtomicI64]> {
    let (bytes, protection) = (count * size_of::<AtomicI64>(), libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a mapping at an address of the kernel's choice; the result is checked.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Failure::last("cannot map shared memory"));
    }
    // SAFETY: the mapping is page-aligned, large enough, never unmapped; any bytes are a valid AtomicI64.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<AtomicI64>(), count) })
}

/// The number.
pub(crate) fn read(cell: &AtomicI64) -> i64 {
    cell.load(Ordering::Acquire)
}

/// Writes the number.
pub(crate) fn write(cell: &AtomicI64, value: i64) {
    cell.store(value, Ordering::Release);
}

/// Waits until the number is at least `value`.
pub(crate) fn wait_for(cell: &AtomicI64, value: i64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while read(cell) < value {
        if Instant::now() > deadline {
            return Err(Failure::new("another process of the scenario did not take its turn within 60 s"));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}
