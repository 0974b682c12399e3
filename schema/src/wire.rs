//! The records that the probes put into the rings, byte for byte.
//!
//! Every record starts with a [`Header`]. Padding is explicit, sizes are asserted, and no `bool`, `enum` or `Option`
//! crosses the ring: the reader checks a `kind` before it believes the rest. All integers are in the machine's byte order.

use crate::shape::{A_BYTES, B_BYTES};
use bytemuck::{Pod, Zeroable};

/// What a record is: [`Header::kind`].
pub mod kind {
    /// [`super::Enter`] and its tail: a call began.
    pub const ENTER: u8 = 1;
    /// [`super::Exit`] and its tail: a call ended.
    pub const EXIT: u8 = 2;
    /// [`super::Context`]: who the thread is; precedes the thread's first call and any call after a change.
    pub const CONTEXT: u8 = 3;
    /// [`super::Fork`]: a thread was created.
    pub const FORK: u8 = 4;
    /// [`super::Exec`]: a process replaced its program.
    pub const EXEC: u8 = 5;
    /// [`super::TaskExit`]: a thread ended.
    pub const TASK_EXIT: u8 = 6;
    /// [`super::Waking`]: a thread inside a call was woken.
    pub const WAKING: u8 = 7;
    /// [`super::Signal`]: a signal was generated.
    pub const SIGNAL_GENERATE: u8 = 8;
    /// [`super::Signal`]: a signal was delivered.
    pub const SIGNAL_DELIVER: u8 = 9;
    /// [`super::Namespace`]: a process made an IPC namespace for itself.
    pub const NAMESPACE: u8 = 10;
    /// [`super::Header`] and a tail: what the kernel itself took of the user memory of the call that the thread is inside
    /// of. `a` holds operations or a signal set, `b` the `struct timespec64` of the timeout.
    pub const KERNEL_COPY: u8 = 11;
    /// [`super::Stack`] and its frames: the user stack of the thread's next call.
    pub const STACK: u8 = 12;
    /// [`super::Enter`] and its tail: a function of the C library was called. No exit follows.
    pub const LIBRARY: u8 = 13;
}

/// What follows the fixed part of a call's record: [`Header::tail`]. Each tail begins with the one before it, except
/// the operations, which follow [`super::Small`].
pub mod tail {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// [`super::Small`]
    pub const SMALL: u8 = 1;
    /// [`super::Queue`]
    pub const QUEUE: u8 = 2;
    /// [`super::Named`]
    pub const NAMED: u8 = 3;
    /// [`super::Sops`]
    pub const SOPS: u8 = 4;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// Exit: a fatal signal is pending: the thread dies without returning to user space.
    pub const FATAL: u8 = 1;
    /// Enter: made at the exit, because the beginning was not traced: the call began before the probes, or seccomp
    /// denied it.
    pub const LATE: u8 = 2;
    /// TaskExit: it was the last thread of its process.
    pub const LAST_THREAD: u8 = 4;
    /// Exit: a waking of this call found no room.
    pub const WAKING_LOST: u8 = 8;
    /// Waking: the current thread is exiting.
    pub const EXITING: u8 = 16;
    /// Waking: the current thread is itself inside a traced call.
    pub const IN_CALL: u8 = 32;
    /// Enter: the record of its user stack came before.
    pub const STACK: u8 = 64;
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
    /// One of [`tail`].
    pub tail: u8,
    /// Enter, Exit: how often the thread gave up the processor of its own will so far, wrapping; 0 unknown. Two that
    /// differ say that the call slept, whatever became of its wakings.
    pub switches: u8,
}

/// A call began; a tail follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Enter {
    /// Kind [`kind::ENTER`].
    pub header: Header,
    /// The six argument registers, in the order of the ABI.
    pub args: [u64; 6],
}

/// A call ended; a tail follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Exit {
    /// Kind [`kind::EXIT`].
    pub header: Header,
    /// The kernel's return value: negative errno on failure, also -512…-516 (restarts).
    pub ret: i64,
}

/// Bits of [`Small::valid`].
pub mod valid {
    /// `a` is copied.
    pub const A: u32 = 1;
    /// `b` is copied.
    pub const B: u32 = 2;
    /// `blocked` is read.
    pub const MASK: u32 = 4;
    /// The name is copied.
    pub const NAME: u32 = 8;
    /// Operations are copied: how many, shifted.
    pub const SOPS_SHIFT: u32 = 16;
}

/// The pieces of user memory that a [`crate::shape::Shape`] names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Small {
    /// Bits of [`valid`]: what is not valid holds no data.
    pub valid: u32,
    /// Zero.
    pub padding: u32,
    /// The mask of blocked signals, bit n-1 = signal n.
    pub blocked: u64,
    /// The first piece; of a semaphore call up to five `struct sembuf`.
    pub a: [u8; A_BYTES],
    /// The second piece.
    pub b: [u8; B_BYTES],
}

/// The same, and what is behind a queue descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Queue {
    /// The pieces.
    pub small: Small,
    /// Inode of the queue; 0: the descriptor is none of a queue, or unknown.
    pub inode: u64,
    /// Messages in it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many it takes.
    pub max_messages: u64,
    /// How long they may be, bytes.
    pub max_message_bytes: u64,
    /// Inode of the IPC namespace that the queue is in; 0 unknown.
    pub ipc_ns: u32,
    /// Zero.
    pub padding: u32,
}

/// The longest queue name, with its NUL: NAME_MAX + 1.
pub const NAME_BYTES: usize = 256;

/// The same, and the name of a queue.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Named {
    /// The pieces and the queue.
    pub queue: Queue,
    /// NUL-terminated, as the kernel gets it: without the slash.
    pub name: [u8; NAME_BYTES],
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

/// More operations than `a` holds: room for `N`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sops<const N: usize> {
    /// The second piece, and how many operations are valid.
    pub small: Small,
    /// The operations.
    pub sops: [Sembuf; N],
}

/// The room for operations: in [`Small`], and in the two sizes of [`Sops`]; a longer call is cut, and says so by `nsops`.
pub const SOPS_ROOM: [usize; 3] = [5, 64, 500];

/// A user stack, innermost first; the frames follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stack {
    /// Kind [`kind::STACK`].
    pub header: Header,
    /// Bytes of the frames that are valid; 0: the kernel found none.
    pub bytes: i64,
}

/// `struct bpf_stack_build_id` of `include/uapi/linux/bpf.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Frame {
    /// [`Frame::VALID`], or the kernel knows no build id.
    pub status: i32,
    /// Build id of the binary, zero-padded.
    pub build_id: [u8; 20],
    /// Offset in the file; not [`Frame::VALID`]: the address.
    pub offset: u64,
}

impl Frame {
    /// BPF_STACK_BUILD_ID_VALID.
    pub const VALID: i32 = 1;
}

/// The room for frames, in the two sizes of a stack's record; a deeper stack is cut.
pub const FRAMES_ROOM: [usize; 2] = [8, 32];

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
    /// Flags of clone(2).
    pub clone_flags: u64,
    /// The mask of blocked signals that it inherits, bit n-1 = signal n.
    pub blocked: u64,
    /// Inode of its IPC namespace; 0 unknown.
    pub ipc_ns: u32,
    /// Zero.
    pub padding: u32,
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
    /// The path as execve got it, NUL-terminated, cut; empty: unknown.
    pub path: [u8; PATH_BYTES],
}

/// The room for the path of a program.
pub const PATH_BYTES: usize = 128;

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

/// A thread inside a traced call was woken. The header's pid and tid are those of the task that ran: the waker only if
/// it was itself inside a call, sending a signal, or exiting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Waking {
    /// Kind [`kind::WAKING`].
    pub header: Header,
    /// Who was woken.
    pub wakee_tid: u32,
    /// Zero.
    pub padding: u32,
    /// Name of the task that ran, NUL-padded.
    pub comm: [u8; 16],
}

/// A process made an IPC namespace for itself, by unshare(2): it is empty, whatever its inode meant before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Namespace {
    /// Kind [`kind::NAMESPACE`].
    pub header: Header,
    /// Its inode.
    pub ipc_ns: u32,
    /// Zero.
    pub padding: u32,
}

/// A signal was generated, or delivered. The header's pid and tid are those of the task that ran.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Signal {
    /// Kind [`kind::SIGNAL_GENERATE`] or [`kind::SIGNAL_DELIVER`].
    pub header: Header,
    /// Thread it is for; generated for a process: one of its threads.
    pub target_tid: u32,
    /// Process it is for.
    pub target_pid: u32,
    /// Its number.
    pub signal: i32,
    /// Generate: `si_code` of `include/uapi/asm-generic/siginfo.h`.
    pub code: i32,
    /// Generate: TRACE_SIGNAL_* of `include/trace/events/signal.h`.
    pub result: i32,
    /// Generate: 1 if it is for the whole process.
    pub is_group: i32,
    /// Deliver: address of the handler; 0 SIG_DFL, 1 SIG_IGN.
    pub handler: u64,
    /// Deliver: `sa_flags`.
    pub sa_flags: u64,
}

impl Signal {
    /// All zeros, to fill in.
    // SAFETY: zeros are a value of every field.
    pub const ZERO: Signal = unsafe { core::mem::zeroed() };
}

/// What a CPU counts, two cache lines each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct CpuCounters {
    /// Records made, also those that found no room.
    pub seq: u64,
    /// Calls lost because the ring was full, at entry or at exit.
    pub lost_calls: u64,
    /// Of these, at exit.
    pub lost_exits: u64,
    /// Records lost that are not calls (context, fork, exec, exit, waking, signal, stack).
    pub lost_others: u64,
    /// x32 calls of the catalogue, which are not captured.
    pub x32: u64,
    /// Calls lost because the thread id has no slot.
    pub no_slot: u64,
    /// Written by user space: not 0, while calls are to be shed.
    pub pause: u64,
    /// Whether a waking was recorded since the last signal: it may be the signal's.
    pub woke: u64,
    /// Calls shed, for the recorder takes too much of the processor.
    pub shed: u64,
    /// Processes that could not be followed because the table of followed processes was full.
    pub not_followed: u64,
    /// Calls of processes that were not asked for.
    pub dropped_pid: u64,
    /// Calls of threads whose names were not asked for.
    pub dropped_comm: u64,
    /// Calls from cgroups that were not asked for.
    pub dropped_cgroup: u64,
    /// Zero.
    pub padding: [u64; 3],
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

/// What else is traced and kept: the constant that the loader gives to the probes.
pub mod option {
    /// Only threads whose names are in the table of names.
    pub const COMM: u32 = 1;
    /// Only threads in a cgroup of the table of cgroups, or below one.
    pub const CGROUP: u32 = 2;
    /// Every signal for or from a followed process, not only those that may have woken a call.
    pub const SIGNALS: u32 = 4;
    /// The user stack of every call.
    pub const STACKS: u32 = 8;
}

/// How deep a cgroup of the filter may lie.
pub const CGROUP_LEVELS: u32 = 16;

/// Bits of a thread's slot; the upper 48 hold a hash of its context.
pub mod slot {
    /// The thread is inside a traced call whose entry is in the ring.
    pub const IN_CALL: u64 = 1;
    /// The thread is inside a call whose entry was lost.
    pub const ENTRY_LOST: u64 = 2;
    /// The call ended in a way that lets the kernel restart it.
    pub const RESTARTING: u64 = 4;
    /// A waking of this call found no room.
    pub const WAKING_LOST: u64 = 8;
    /// The thread is inside a call that a filter dropped.
    pub const DROPPED: u64 = 16;
    /// What belongs to one call.
    pub const OF_CALL: u64 = IN_CALL | ENTRY_LOST | RESTARTING | WAKING_LOST | DROPPED;
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
    /// The code of unshare(2), which is no call of the catalogue.
    pub const UNSHARE: u8 = 0xff;
    /// The numbers of unshare(2): x86-64 and i386.
    pub const UNSHARE_NUMBERS: [u16; 2] = [272, 310];
}

/// The flag of clone(2) and unshare(2) for a new IPC namespace: `include/uapi/linux/sched.h`.
pub const CLONE_NEWIPC: u64 = 0x0800_0000;

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
    /// pid in the record of the tracepoint task/task_newtask
    pub newtask_pid: u32,
    /// task_struct.blocked.sig
    pub task_blocked: u32,
    /// task_struct.flags
    pub task_flags: u32,
    /// task_struct.nvcsw
    pub task_switches: u32,
    /// linux_binprm.filename
    pub bprm_filename: u32,
    /// task_struct.files
    pub task_files: u32,
    /// files_struct.fdt
    pub files_fdt: u32,
    /// fdtable.fd
    pub fdt_fd: u32,
    /// fdtable.max_fds; may lie at 0, known if `fdt_fd` is
    pub fdt_max_fds: u32,
    /// file.f_inode
    pub file_inode: u32,
    /// inode.i_ino
    pub inode_ino: u32,
    /// inode.i_sb
    pub inode_sb: u32,
    /// super_block.s_magic
    pub sb_magic: u32,
    /// super_block.s_fs_info
    pub sb_fs_info: u32,
    /// mqueue_inode_info.vfs_inode
    pub mqueue_inode: u32,
    /// mqueue_inode_info.attr.mq_maxmsg
    pub mqueue_max_messages: u32,
    /// mqueue_inode_info.attr.mq_msgsize
    pub mqueue_max_message_bytes: u32,
    /// mqueue_inode_info.attr.mq_curmsgs
    pub mqueue_messages: u32,
    /// mqueue_inode_info.qsize
    pub mqueue_bytes: u32,
}

impl Offsets {
    /// Nothing is known.
    // SAFETY: zeros are a value of every field.
    pub const UNKNOWN: Offsets = unsafe { core::mem::zeroed() };
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Enter>() == 80);
    assert!(size_of::<Exit>() == 40);
    assert!(size_of::<Small>() == 64);
    assert!(size_of::<Queue>() == 112);
    assert!(size_of::<Named>() == 368);
    assert!(size_of::<Sops<64>>() == 448);
    assert!(size_of::<Sops<500>>() == 3064);
    assert!(size_of::<Stack>() == 40);
    assert!(size_of::<Frame>() == 32);
    assert!(size_of::<Context>() == 80);
    assert!(size_of::<Fork>() == 88);
    assert!(size_of::<Namespace>() == 40);
    assert!(size_of::<Exec>() == 184);
    assert!(size_of::<TaskExit>() == 40);
    assert!(size_of::<Waking>() == 56);
    assert!(size_of::<Signal>() == 72);
    assert!(size_of::<CpuCounters>() == 128);
    // A hash of the context fills the bits above.
    assert!(slot::OF_CALL < 1 << slot::HASH_SHIFT);
};
