//! The elements of a BPF array, mapped: to read them takes no call, and thus no right. By bpf(2) it would take CAP_BPF on
//! kernels before 5.19 with `kernel.unprivileged_bpf_disabled` set (`__sys_bpf` of kernel/bpf/syscall.c).

use bytemuck::Pod;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;

/// The elements of an array made with BPF_F_MMAPABLE.
pub struct Shared<V> {
    address: *const V,
    /// How many there are.
    pub count: usize,
}

// SAFETY: the mapping belongs to no thread, lives as long as this, and is only read, by volatile reads.
unsafe impl<V: Pod> Send for Shared<V> {}
// SAFETY: as above.
unsafe impl<V: Pod> Sync for Shared<V> {}

impl<V: Pod> Shared<V> {
    /// Maps the `count` elements of an array.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn of(array: BorrowedFd, count: usize) -> io::Result<Shared<V>> {
        // The kernel rounds the size of an element up to 8 bytes: `array_map_alloc` of kernel/bpf/arraymap.c.
        const { assert!(size_of::<V>().is_multiple_of(8) && align_of::<V>() <= 8) };
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe { mmap(null_mut(), size_of::<V>() * count, ProtFlags::READ, MapFlags::SHARED, array, 0) }?;
        Ok(Shared { address: address.cast_const().cast(), count })
    }

    /// One element, as it is now; `None` behind the end.
    pub fn get(&self, index: usize) -> Option<V> {
        // SAFETY: the index is inside the mapping, whose elements are aligned; any bytes are a value.
        (index < self.count).then(|| unsafe { self.address.add(index).read_volatile() })
    }
}

impl<V> Drop for Shared<V> {
    fn drop(&mut self) {
        let address = self.address.cast_mut().cast::<c_void>();
        // SAFETY: the mapping that `of` made, which nothing refers to any more. It cannot fail for a whole mapping.
        let _ = unsafe { munmap(address, size_of::<V>() * self.count) };
    }
}
