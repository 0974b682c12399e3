//! Reading kernel memory: by plain loads where the verifier knows the types, else by helper.

use crate::maps::OFFSETS;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use core::mem::MaybeUninit;
use ipc_schema::wire::Offsets;

/// A way to read kernel memory.
pub trait Kernel {
    /// The current task.
    fn task() -> *const u8;

    /// The value at `base + offset`.
    ///
    /// # Safety
    /// `base` points to a kernel structure that has a `T` at `offset`.
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T;
}

/// Plain loads through pointers whose types the verifier knows (BTF programs).
pub struct Direct;

/// `bpf_probe_read_kernel` (raw tracepoints).
pub struct Helper;

impl Kernel for Direct {
    #[inline(always)]
    fn task() -> *const u8 {
        // SAFETY: the helper takes nothing and returns the current task.
        (unsafe { bpf_get_current_task_btf() }) as *const u8
    }

    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T {
        // SAFETY: the caller's promise; the verifier checks it and handles faults.
        unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
    }
}

impl Kernel for Helper {
    #[inline(always)]
    fn task() -> *const u8 {
        // SAFETY: the helper takes nothing and returns the current task.
        (unsafe { bpf_get_current_task() }) as *const u8
    }

    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the destination is as large as the size; the helper zeroes it on a fault.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, base.add(offset as usize).cast());
            value.assume_init()
        }
    }
}

/// Byte offsets of `struct pt_regs`, `arch/x86/include/asm/ptrace.h`: part of the kernel's ABI.
mod pt_regs {
    pub const BP: u32 = 32;
    pub const BX: u32 = 40;
    pub const R10: u32 = 56;
    pub const R9: u32 = 64;
    pub const R8: u32 = 72;
    pub const CX: u32 = 88;
    pub const DX: u32 = 96;
    pub const SI: u32 = 104;
    pub const DI: u32 = 112;
    pub const ORIG_AX: u32 = 120;
}

/// TS_COMPAT of `arch/x86/include/asm/thread_info.h`: the current call came in by the 32-bit entry.
const TS_COMPAT: u32 = 2;

/// The number of the system call that these registers entered with.
#[inline(always)]
pub fn number<K: Kernel>(regs: *const u8) -> u64 {
    // SAFETY: `regs` is the first argument of the tracepoint.
    unsafe { K::read(regs, pt_regs::ORIG_AX) }
}

/// The registers that the current thread entered the kernel with (Linux 5.15).
#[inline(always)]
pub fn registers() -> *const u8 {
    // SAFETY: the helpers take the current task and nothing.
    (unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) }) as *const u8
}

/// Whether the current call came in by the 32-bit entry.
#[inline(always)]
pub fn is_compat<K: Kernel>(task: *const u8) -> bool {
    let offset = offsets().task_status;
    // SAFETY: the offset is that of task_struct.thread_info.status.
    offset != 0 && unsafe { K::read::<u32>(task, offset) } & TS_COMPAT != 0
}

/// The argument registers, in the order of the ABI.
///
/// # Safety
/// `regs` is the `struct pt_regs` of a system call; `out` has room for six values.
#[inline(always)]
pub unsafe fn copy_arguments<K: Kernel>(regs: *const u8, compat: bool, out: *mut u64) {
    // SAFETY: the caller's promise. Unrolled by hand: the verifier wants constant offsets.
    unsafe {
        if compat {
            out.write(u64::from(K::read::<u32>(regs, pt_regs::BX)));
            out.add(1).write(u64::from(K::read::<u32>(regs, pt_regs::CX)));
            out.add(2).write(u64::from(K::read::<u32>(regs, pt_regs::DX)));
            out.add(3).write(u64::from(K::read::<u32>(regs, pt_regs::SI)));
            out.add(4).write(u64::from(K::read::<u32>(regs, pt_regs::DI)));
            out.add(5).write(u64::from(K::read::<u32>(regs, pt_regs::BP)));
        } else {
            out.write(K::read(regs, pt_regs::DI));
            out.add(1).write(K::read(regs, pt_regs::SI));
            out.add(2).write(K::read(regs, pt_regs::DX));
            out.add(3).write(K::read(regs, pt_regs::R10));
            out.add(4).write(K::read(regs, pt_regs::R8));
            out.add(5).write(K::read(regs, pt_regs::R9));
        }
    }
}

/// The offsets that the loader found.
#[inline(always)]
pub fn offsets() -> Offsets {
    OFFSETS.load()
}
