//! Putting records into the ring of this CPU, and counting those that found no room.

use crate::maps::{COUNTERS, RINGS, WAKE_MASK};
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use aya_ebpf::maps::ring_buf::RingBufEntry;
use core::arch::asm;
use ipc_schema::wire::{CpuCounters, Header};

/// `include/uapi/linux/bpf.h`.
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;

/// This CPU, what it counts, and who runs on it.
#[derive(Clone, Copy)]
pub struct Cpu {
    number: u32,
    /// Its counters: a pointer into a map value.
    pub counters: *mut CpuCounters,
    /// Thread id of the current task.
    pub tid: u32,
    /// Process id of the current task.
    pub pid: u32,
}

/// What makes one record different from another in its header.
#[derive(Clone, Copy)]
pub struct Label {
    /// One of [`ipc_schema::wire::kind`].
    pub kind: u8,
    /// A code of the catalogue, 0 for records that are no calls.
    pub code: u8,
    /// Whether the call came in by the 32-bit entry.
    pub compat: bool,
    /// One of [`ipc_schema::wire::tail`].
    pub tail: u8,
}

impl Label {
    /// A record that is no call.
    #[inline(always)]
    pub fn of(kind: u8) -> Label {
        Label { kind, code: 0, compat: false, tail: 0 }
    }
}

impl Cpu {
    /// The CPU that this program runs on; programs do not migrate.
    #[inline(always)]
    pub fn current() -> Option<Cpu> {
        // SAFETY: the helpers take nothing.
        let (number, pid_tgid) = unsafe { (bpf_get_smp_processor_id(), bpf_get_current_pid_tgid()) };
        let counters = COUNTERS.get_ptr_mut(number)?;
        Some(Cpu { number, counters, tid: pid_tgid as u32, pid: (pid_tgid >> 32) as u32 })
    }

    /// Counts one more in the counter that `field` picks.
    #[inline(always)]
    pub fn count(self, field: impl FnOnce(*mut CpuCounters) -> *mut u64) {
        fetch_add(field(self.counters), 1);
    }

    /// Reserves a record of type `T` with its header filled in, or counts it as lost: a call if `code` is not 0.
    /// Fill in the rest before [`Record::submit`].
    #[inline(always)]
    pub fn reserve<T: 'static>(self, label: Label) -> Option<Record<T>> {
        // SAFETY: `counters` comes from a checked map lookup.
        let seq = fetch_add(unsafe { &raw mut (*self.counters).seq }, 1) as u32;
        let entry = RINGS.get(self.number).and_then(|ring| ring.reserve_untyped::<T>(0));
        let Some(mut entry) = entry else {
            self.lost(label.code);
            return None;
        };
        // SAFETY: the helpers take nothing; every record starts with a header.
        unsafe {
            entry.as_mut_ptr().cast::<Header>().write(Header {
                time_ns: bpf_ktime_get_boot_ns(),
                seq,
                lost: (&raw const (*self.counters).lost_calls).read_volatile() as u32,
                tid: self.tid,
                pid: self.pid,
                kind: label.kind,
                code: label.code,
                abi: label.compat as u8,
                flags: 0,
                cpu: self.number as u16,
                tail: label.tail,
                switches: 0,
            });
        }
        Some(Record { entry, seq })
    }

    #[inline(always)]
    fn lost(self, code: u8) {
        // SAFETY (both): `counters` comes from a checked map lookup.
        if code == 0 {
            self.count(|c| unsafe { &raw mut (*c).lost_others });
        } else {
            self.count(|c| unsafe { &raw mut (*c).lost_calls });
        }
    }
}

/// A record that is being filled in.
pub struct Record<T: 'static> {
    entry: RingBufEntry<T>,
    seq: u32,
}

impl<T: 'static> Record<T> {
    /// The record; its header is filled in, the rest is not.
    #[inline(always)]
    pub fn pointer(&mut self) -> *mut T {
        self.entry.as_mut_ptr()
    }

    /// The header.
    #[inline(always)]
    pub fn header(&mut self) -> *mut Header {
        self.entry.as_mut_ptr().cast()
    }

    /// Hands it to the reader, who is woken only now and then.
    #[inline(always)]
    pub fn submit(self) {
        let wake = self.seq & WAKE_MASK.load() == 0;
        self.entry.submit(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP });
    }
}

/// Adds to a counter that another program on this CPU may interrupt, and returns what it was.
#[inline(always)]
pub fn fetch_add(counter: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
    // SAFETY: `counter` points into a map value; the instruction is atomic (BPF_FETCH, Linux 5.12).
    unsafe {
        asm!("{v} = atomic_fetch_add((u64 *)({p} + 0), {v})", p = in(reg) counter, v = inout(reg) value);
    }
    value
}

/// Sets bits that another CPU may set at the same time.
#[inline(always)]
pub fn atomic_or(target: *mut u64, bits: u64) {
    let mut value = bits;
    // SAFETY: `target` points into a map value; the instruction is atomic (Linux 5.12).
    unsafe {
        asm!("{v} = atomic_fetch_or((u64 *)({p} + 0), {v})", p = in(reg) target, v = inout(reg) value);
    }
    let _ = value;
}
