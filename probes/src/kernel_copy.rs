//! The kernel's own copies of arguments, at the functions that work on them: user memory may have changed since it was
//! copied at the entry.

use crate::call::With;
use crate::copy::low_half;
use crate::maps::SLOTS;
use crate::ring::{Cpu, Label};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use ipc_schema::wire::{Header, SOPS_ROOM, Sembuf, Small, Sops, kind, slot, tail, valid};

/// What `__do_semtimedop(semid, sops, nsops, timeout, ns)` of `ipc/sem.c` works on.
pub struct Operations {
    /// `struct sembuf *`
    pub sops: *const u8,
    /// `unsigned nsops`, in its low half.
    pub count: u64,
    /// `const struct timespec64 *`, or NULL.
    pub timeout: *const u8,
}

/// `__do_semtimedop`.
#[inline(always)]
pub fn operations(from: &Operations) -> i32 {
    let Some(cpu) = inside_a_call() else { return 0 };
    let count = low_half(from.count);
    // SAFETY (all): `to` is a record's tail with room for so many operations.
    if count <= SOPS_ROOM[0] as u64 {
        write::<Small>(cpu, tail::SMALL, |to| unsafe { few(to, from) });
    } else if count <= SOPS_ROOM[1] as u64 {
        write::<Sops<{ SOPS_ROOM[1] }>>(cpu, tail::SOPS, |to| unsafe { many(to, from) });
    } else {
        write::<Sops<{ SOPS_ROOM[2] }>>(cpu, tail::SOPS, |to| unsafe { many(to, from) });
    }
    0
}

/// `sigprocmask(how, set, oldset)` of `kernel/signal.c`: SIGKILL and SIGSTOP are out of the set already.
#[inline(always)]
pub fn set(set: *const u8) -> i32 {
    let Some(cpu) = inside_a_call() else { return 0 };
    write::<Small>(cpu, tail::SMALL, |to| {
        // SAFETY: `to` is a record's tail; the set has 8 bytes.
        unsafe {
            let copied = bpf_probe_read_kernel((&raw mut (*to).a).cast(), 8, set.cast()) == 0;
            head(to, if copied { valid::A } else { 0 });
        }
    });
    0
}

/// The CPU, if the current thread is inside a traced call: the kernel calls these functions for itself too.
#[inline(always)]
fn inside_a_call() -> Option<Cpu> {
    let cpu = Cpu::current()?;
    let slot = SLOTS.get_ptr_mut(cpu.tid)?;
    // SAFETY: a slot belongs to the thread that runs.
    (unsafe { *slot } & slot::IN_CALL != 0).then_some(cpu)
}

/// Writes one record. Where there is no room it is counted, and the copies of user memory stand.
#[inline(always)]
fn write<T: 'static>(cpu: Cpu, tail: u8, fill: impl FnOnce(*mut T)) {
    let label = Label { tail, ..Label::of(kind::KERNEL_COPY) };
    let Some(mut record) = cpu.reserve::<With<Header, T>>(label) else { return };
    let pointer = record.pointer();
    // SAFETY: the record is a header with this tail.
    fill(unsafe { &raw mut (*pointer).tail });
    record.submit();
}

/// # Safety
/// `to` is a record's tail.
#[inline(always)]
unsafe fn head(to: *mut Small, valid: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*to).valid).write(valid);
        (&raw mut (*to).padding).write(0);
        (&raw mut (*to).blocked).write(0);
    }
}

/// # Safety
/// `to` is a record's tail.
#[inline(always)]
unsafe fn few(to: *mut Small, from: &Operations) {
    // SAFETY: the caller's promise.
    unsafe {
        let operations = copy::<{ SOPS_ROOM[0] }>((&raw mut (*to).a).cast(), from);
        head(to, operations | timeout(to, from.timeout));
    }
}

/// # Safety
/// `to` is a record's tail.
#[inline(always)]
unsafe fn many<const N: usize>(to: *mut Sops<N>, from: &Operations) {
    // SAFETY: the caller's promise.
    unsafe {
        let operations = copy::<N>((&raw mut (*to).sops).cast(), from);
        head(&raw mut (*to).small, operations | timeout(&raw mut (*to).small, from.timeout));
    }
}

/// Copies up to `N` operations; the bits of [`valid`] that say so.
///
/// # Safety
/// `to` has room for them.
#[inline(always)]
unsafe fn copy<const N: usize>(to: *mut u8, from: &Operations) -> u32 {
    let count = low_half(from.count);
    let count = if count > N as u64 { N as u64 } else { count };
    let bytes = (count * size_of::<Sembuf>() as u64) as u32;
    // SAFETY: the caller's promise; a fault is reported by the helper.
    let copied = unsafe { bpf_probe_read_kernel(to.cast(), bytes, from.sops.cast()) == 0 };
    if copied { valid::A | (count as u32) << valid::SOPS_SHIFT } else { 0 }
}

/// # Safety
/// `to` is a record's tail.
#[inline(always)]
unsafe fn timeout(to: *mut Small, timeout: *const u8) -> u32 {
    // SAFETY: the caller's promise; `struct timespec64` has 16 bytes, as `b` has.
    let copied =
        !timeout.is_null() && unsafe { bpf_probe_read_kernel((&raw mut (*to).b).cast(), 16, timeout.cast()) == 0 };
    if copied { valid::B } else { 0 }
}
