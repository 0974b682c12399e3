//! Memory that both ABIs can name: below 4 GiB.

use crate::{Failure, Result};

const BYTES: usize = 1 << 20;

/// An address that no process has mapped.
pub(super) const NOWHERE: u64 = 8;

/// A mapping that is handed out piece by piece and never freed: a case needs little, and its process ends.
pub(super) struct Arena {
    start: *mut u8,
    used: usize,
}

impl Arena {
    pub(super) fn new() -> Result<Arena> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: an anonymous mapping at an address of the kernel's choice; the result is checked.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(Failure::last("cannot map memory below 4 GiB"));
        }
        Ok(Arena { start: memory.cast(), used: 0 })
    }

    /// The address of a copy of `bytes`.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u64 {
        let from = self.used.next_multiple_of(16);
        assert!(from + bytes.len() <= BYTES, "a case needs more memory than the arena has");
        self.used = from + bytes.len();
        // SAFETY: the piece lies inside the mapping, which nothing else refers to.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(from), bytes.len()) };
        self.start as u64 + from as u64
    }

    /// The address of `bytes` zeroes.
    pub(super) fn room(&mut self, bytes: usize) -> u64 {
        self.put(&vec![0; bytes])
    }

    /// The 8 bytes at an address that `put` or `room` gave.
    pub(super) fn read(&self, address: u64) -> u64 {
        let from = (address - self.start as u64) as usize;
        assert!(from + 8 <= BYTES, "an address outside the arena");
        // SAFETY: the 8 bytes lie inside the mapping; any bytes are a u64.
        unsafe { self.start.add(from).cast::<u64>().read_unaligned() }
    }
}
