//! The maps, and the constants that the loader sets before the programs are verified.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use ipc_schema::wire::{CpuCounters, GATE_SIZE, Offsets, filter, slot};

/// BPF_F_MMAPABLE of `include/uapi/linux/bpf.h`: user space reads the counters without a system call.
const MMAPABLE: usize = 1024;

/// One ring per CPU. The size here is a template of one page of the largest page size; the loader sets the real one.
#[btf_map]
pub static RINGS: ArrayOfMaps<RingBuf<u64, 65536>, 256> = ArrayOfMaps::new();

/// What each CPU counts.
#[btf_map]
pub static COUNTERS: Array<CpuCounters, 256, MMAPABLE> = Array::new();

/// One slot per thread id; see [`slot`].
#[btf_map]
pub static SLOTS: Array<u64, { slot::COUNT as usize }, MMAPABLE> = Array::new();

/// The processes that are followed, by process id, when [`FILTER`] asks for it.
#[btf_map]
pub static PIDS: HashMap<u32, u32, 65536> = HashMap::new();

/// The thread names of the filter, NUL-padded.
#[btf_map]
pub static COMMS: HashMap<[u64; 2], u32, 256> = HashMap::new();

/// The cgroups of the filter.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, 256> = HashMap::new();

/// Bits of [`ipc_schema::wire::option`].
#[unsafe(no_mangle)]
pub static OPTIONS: Global<u32> = Global::new(0);

/// One of [`filter`].
#[unsafe(no_mangle)]
pub static FILTER: Global<u32> = Global::new(filter::NONE);

/// The recorder's own process id: never traced.
#[unsafe(no_mangle)]
pub static RECORDER: Global<u32> = Global::new(0);

/// The process that takes snapshots: never traced; 0 if there is none.
#[unsafe(no_mangle)]
pub static SNAPSHOT_HELPER: Global<u32> = Global::new(0);

/// A CPU wakes the reader when a record's number has these bits zero.
#[unsafe(no_mangle)]
pub static WAKE_MASK: Global<u32> = Global::new(0);

/// Byte offsets in kernel structures.
#[unsafe(no_mangle)]
pub static OFFSETS: Global<Offsets> = Global::new(Offsets::UNKNOWN);

/// Which system call numbers are traced; see [`ipc_schema::wire::gate`].
#[unsafe(no_mangle)]
pub static GATE: Global<[u32; GATE_SIZE]> = Global::new([0; GATE_SIZE]);

/// The cell of a system call number, read in place: one load for a bystander.
#[inline(always)]
pub fn gate(number: u64) -> u32 {
    let base = (&raw const GATE).cast::<u32>();
    // SAFETY: the index is below GATE_SIZE; volatile, because the loader replaces the zeros that the compiler sees.
    unsafe { base.add(number as usize).read_volatile() }
}
