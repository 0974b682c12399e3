//! The records that the probes put into the rings, byte for byte.
//!
//! Every record starts with a [`Header`]. Padding is explicit, sizes are asserted, and no `bool`, `enum` or `Option`
//! crosses the ring: the reader checks a `kind` before it believes the rest. All integers are in the machine's byte order.

use bytemuck::{Pod, Zeroable};

/// What a record is: [`Header::kind`].
pub mod kind {
    /// [`super::Enter`]: a call began.
    pub const ENTER: u8 = 1;
    /// [`super::EnterSops`] with room for 4, 64 or 500 operations: a semaphore call began.
    pub const ENTER_SOPS: u8 = 2;
    /// [`super::Exit`]: a call ended.
    pub const EXIT: u8 = 3;
    /// [`super::Whole`]: a call ended whose beginning was not traced.
    pub const WHOLE: u8 = 4;
    /// [`super::Context`]: who the thread is; precedes the thread's first call and any call after a change.
    pub const CONTEXT: u8 = 5;
    /// [`super::Fork`]: a thread was created.
    pub const FORK: u8 = 6;
    /// [`super::Exec`]: a process replaced its program.
    pub const EXEC: u8 = 7;
    /// [`super::TaskExit`]: a thread ended.
    pub const TASK_EXIT: u8 = 8;
    /// [`super::LateSops`]: the operations of a call whose copy at entry faulted; precedes its exit.
    pub const LATE_SOPS: u8 = 9;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// Exit: a fatal signal is pending: the thread dies without returning to user space.
    pub const FATAL: u8 = 1;
    /// Enter: copying user memory faulted.
    pub const COPY_FAULT: u8 = 2;
    /// TaskExit: it was the last thread of its process.
    pub const LAST_THREAD: u8 = 4;
}

/// The beginning of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub time_ns: u64,
    /// The number of the record on its CPU, from 0, wrapping; a number that never arrives was lost.
    pub seq: u32,
    /// How many calls this CPU had lost when the record was made, wrapping.
    pub lost: u32,
    /// Thread id, host pid namespace.
    pub tid: u32,
    /// Process (thread group) id, host pid namespace.
    pub pid: u32,
    /// One of [`kind`].
    pub kind: u8,
    /// A code of the catalogue, 0 for records that are not calls.
    pub code: u8,
    /// The ABI of the call: 0 x86_64, 1 i386.
    pub abi: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// The CPU that made the record.
    pub cpu: u16,
    /// Zero.
    pub padding: u16,
}

/// A call began.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Enter {
    /// Kind [`kind::ENTER`].
    pub header: Header,
    /// The six argument registers, in the order of the ABI.
    pub args: [u64; 6],
}

/// `struct sembuf` of `include/uapi/linux/sem.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Sembuf {
    /// Semaphore number in the set.
    pub sem_num: u16,
    /// What is added; 0 waits for zero.
    pub sem_op: i16,
    /// IPC_NOWAIT, SEM_UNDO.
    pub sem_flg: i16,
}

/// A semaphore call began; `N` is the room for operations, of which `valid` are copied.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EnterSops<const N: usize> {
    /// Kind [`kind::ENTER_SOPS`] or [`kind::LATE_SOPS`].
    pub head: SopsHead,
    /// The operations; only the first `valid` hold data.
    pub sops: [Sembuf; N],
}

/// The fixed part of [`EnterSops`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SopsHead {
    /// Kind [`kind::ENTER_SOPS`] or [`kind::LATE_SOPS`].
    pub header: Header,
    /// The six argument registers.
    pub args: [u64; 6],
    /// How many operations the record holds.
    pub valid: u32,
    /// Zero.
    pub padding: u32,
}

/// The room for operations in the three sizes of [`EnterSops`]; a longer call is cut, and says so by `nsops`.
pub const SOPS_ROOM: [usize; 3] = [4, 64, 500];

/// A call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Exit {
    /// Kind [`kind::EXIT`].
    pub header: Header,
    /// The kernel's return value: negative errno on failure, also -512…-516 (restarts).
    pub ret: i64,
}

/// A call ended whose beginning was not traced: it began before the probes, or seccomp denied it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Whole {
    /// Kind [`kind::WHOLE`].
    pub header: Header,
    /// The six argument registers, as they were at the end.
    pub args: [u64; 6],
    /// The kernel's return value.
    pub ret: i64,
}

/// Who the thread is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Context {
    /// Kind [`kind::CONTEXT`].
    pub header: Header,
    /// CLOCK_BOOTTIME of the start of the process, nanoseconds; 0 unknown.
    pub process_start_ns: u64,
    /// CLOCK_BOOTTIME of the start of the thread, nanoseconds; 0 unknown.
    pub thread_start_ns: u64,
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Inode of the IPC namespace; 0 unknown.
    pub ipc_ns: u32,
    /// User id, initial user namespace.
    pub uid: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
}

/// A thread was created; the header's pid and tid are the parent's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Fork {
    /// Kind [`kind::FORK`].
    pub header: Header,
    /// Thread id of the child.
    pub child_tid: u32,
    /// Process id of the child; equal to the parent's for a new thread.
    pub child_pid: u32,
    /// CLOCK_BOOTTIME of its start, nanoseconds; 0 unknown.
    pub child_start_ns: u64,
    /// The name it inherits, NUL-padded.
    pub comm: [u8; 16],
}

/// A process replaced its program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Exec {
    /// Kind [`kind::EXEC`].
    pub header: Header,
    /// The thread id before, different when another than the leader called execve.
    pub old_tid: u32,
    /// Zero.
    pub padding: u32,
    /// The new name, NUL-padded.
    pub comm: [u8; 16],
}

/// A thread ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TaskExit {
    /// Kind [`kind::TASK_EXIT`].
    pub header: Header,
    /// As wait(2) reports it: low 7 bits the signal, else `code << 8`; -1 unknown.
    pub exit_code: i32,
    /// Zero.
    pub padding: u32,
}

/// What a CPU counts, one cache line each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct CpuCounters {
    /// Records made, also those that found no room.
    pub seq: u64,
    /// Calls lost because the ring was full, at entry or at exit.
    pub lost_calls: u64,
    /// Of these, at exit.
    pub lost_exits: u64,
    /// Records lost that are not calls (context, fork, exec, exit).
    pub lost_others: u64,
    /// x32 calls of the catalogue, which are not captured.
    pub x32: u64,
    /// Calls that the kernel did not fail with EFAULT, but whose user memory could be copied neither at entry nor at exit.
    pub copy_faults: u64,
    /// Calls lost because the thread id has no slot.
    pub no_slot: u64,
    /// Processes that could not be followed because the table of followed processes was full.
    pub not_followed: u64,
}

/// Which processes are traced: the constant that the loader gives to the probes.
pub mod filter {
    /// Every process.
    pub const NONE: u32 = 0;
    /// Those in the table of processes.
    pub const PIDS: u32 = 1;
    /// Those and, from their forks on, their descendants.
    pub const TREE: u32 = 2;
}

/// Bits of a thread's slot; the upper 48 hold a hash of its context.
pub mod slot {
    /// The thread is inside a traced call whose entry is in the ring.
    pub const IN_CALL: u64 = 1;
    /// The thread is inside a call whose entry was lost.
    pub const ENTRY_LOST: u64 = 2;
    /// The copy of the operations faulted at entry.
    pub const COPY_FAULT: u64 = 4;
    /// Where the hash begins.
    pub const HASH_SHIFT: u32 = 16;
    /// One slot for every thread id of the largest `pid_max` (4,194,304).
    pub const COUNT: u32 = 4_194_305;
}

/// System call numbers below this have a place in the gate.
pub const GATE_SIZE: usize = 512;

/// A cell of the gate for each system call number: the catalogue's codes of both ABIs, 0 for none, packed so that one
/// load tells a bystander.
pub mod gate {
    /// The cell's bits of the x86-64 entry.
    pub const X86_64_SHIFT: u32 = 0;
    /// The cell's bits of the i386 entry.
    pub const I386_SHIFT: u32 = 16;
    /// Low 8 bits of an entry: the code.
    pub const CODE: u32 = 0xff;
    /// Bit of an entry: args[1] points to args[2] `struct sembuf`.
    pub const SOPS: u32 = 0x100;
}

/// Byte offsets in kernel structures, from BTF; 0 = unknown (no field of interest lies at 0).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Offsets {
    /// task_struct.thread_info.status
    pub task_status: u32,
    /// task_struct.pid
    pub task_pid: u32,
    /// task_struct.tgid
    pub task_tgid: u32,
    /// task_struct.group_leader
    pub task_group_leader: u32,
    /// task_struct.start_boottime
    pub task_start_boottime: u32,
    /// task_struct.exit_code
    pub task_exit_code: u32,
    /// task_struct.signal
    pub task_signal: u32,
    /// signal_struct.live.counter
    pub signal_live: u32,
    /// task_struct.pending.signal.sig
    pub task_pending: u32,
    /// task_struct.nsproxy
    pub task_nsproxy: u32,
    /// nsproxy.ipc_ns
    pub nsproxy_ipc_ns: u32,
    /// ipc_namespace.ns.inum
    pub ipc_ns_inum: u32,
    /// child_pid in the record of the tracepoint sched/sched_process_fork
    pub fork_child_pid: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Enter>() == 80);
    assert!(size_of::<SopsHead>() == 88);
    assert!(size_of::<EnterSops<4>>() == 112);
    assert!(size_of::<EnterSops<64>>() == 472);
    assert!(size_of::<EnterSops<500>>() == 3088);
    assert!(size_of::<Exit>() == 40);
    assert!(size_of::<Whole>() == 88);
    assert!(size_of::<Context>() == 80);
    assert!(size_of::<Fork>() == 64);
    assert!(size_of::<Exec>() == 56);
    assert!(size_of::<TaskExit>() == 40);
    assert!(size_of::<CpuCounters>() == 64);
};
