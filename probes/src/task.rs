//! Who a thread is, and its life: context, fork, exec, exit.

use crate::follow::follows;
use crate::kernel::{Helper, Kernel, offsets};
use crate::maps::{FILTER, PIDS, SLOTS};
use crate::ring::{Cpu, Label};
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid, bpf_probe_read_kernel_str,
};
use aya_ebpf::programs::TracePointContext;
use ipc_schema::wire::{Context, Exec, Fork, Namespace, PATH_BYTES, TaskExit, filter, flag, kind, slot};

/// What may change between two calls of a thread.
struct Identity {
    comm: [u64; 2],
    cgroup_id: u64,
    uid: u32,
    ipc_ns: u32,
}

impl Identity {
    #[inline(always)]
    fn current<K: Kernel>(task: *const u8) -> Identity {
        // SAFETY: the helpers take nothing.
        let (cgroup_id, uid) = unsafe { (bpf_get_current_cgroup_id(), bpf_get_current_uid_gid() as u32) };
        Identity { comm: comm(), cgroup_id, uid, ipc_ns: ipc_ns::<K>(task) }
    }

    /// 48 bits over everything, in the place that a slot has for them; never zero.
    #[inline(always)]
    fn hash(&self, pid: u32) -> u64 {
        // Odd constants from the fractional part of the golden ratio, as Fibonacci hashing uses them.
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hash = (self.comm[0] ^ u64::from(pid)).wrapping_mul(MIX);
        hash = ((hash ^ (hash >> 29)) ^ self.comm[1]).wrapping_mul(MIX);
        hash = ((hash ^ (hash >> 29)) ^ self.cgroup_id).wrapping_mul(MIX);
        let ids = (u64::from(self.uid) << 32) | u64::from(self.ipc_ns);
        hash = ((hash ^ (hash >> 29)) ^ ids).wrapping_mul(MIX);
        (hash | 1 << 63) & !((1 << slot::HASH_SHIFT) - 1)
    }
}

/// The name of the current thread, NUL-padded.
#[inline(always)]
pub fn comm() -> [u64; 2] {
    let mut comm = [0u64; 2];
    // SAFETY: 16 bytes, as the helper is told.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), 16) };
    comm
}

#[inline(always)]
fn ipc_ns<K: Kernel>(task: *const u8) -> u32 {
    let o = offsets();
    if o.task_nsproxy == 0 {
        return 0;
    }
    // SAFETY: the offsets are those of task_struct.nsproxy, nsproxy.ipc_ns and ipc_namespace.ns.inum.
    unsafe {
        let nsproxy: *const u8 = K::read(task, o.task_nsproxy);
        if nsproxy.is_null() {
            return 0; // an exiting thread has none
        }
        let ipc_ns: *const u8 = K::read(nsproxy, o.nsproxy_ipc_ns);
        if ipc_ns.is_null() { 0 } else { K::read(ipc_ns, o.ipc_ns_inum) }
    }
}

#[inline(always)]
fn start_ns<K: Kernel>(task: *const u8) -> u64 {
    let offset = offsets().task_start_boottime;
    // SAFETY: the offset is that of task_struct.start_boottime.
    if offset == 0 { 0 } else { unsafe { K::read(task, offset) } }
}

#[inline(always)]
fn process_start_ns<K: Kernel>(task: *const u8) -> u64 {
    let offset = offsets().task_group_leader;
    if offset == 0 {
        return 0;
    }
    // SAFETY: the offset is that of task_struct.group_leader, which is never NULL.
    start_ns::<K>(unsafe { K::read(task, offset) })
}

/// The mask of blocked signals.
#[inline(always)]
pub fn blocked<K: Kernel>(task: *const u8) -> u64 {
    let offset = offsets().task_blocked;
    // SAFETY: the offset is that of task_struct.blocked.sig[0].
    if offset == 0 { 0 } else { unsafe { K::read(task, offset) } }
}

/// How often the thread gave up the processor of its own will, the low 8 bits.
#[inline(always)]
pub fn switches<K: Kernel>(task: *const u8) -> u8 {
    let offset = offsets().task_switches;
    // SAFETY: the offset is that of task_struct.nvcsw.
    if offset == 0 { 0 } else { unsafe { K::read::<u64>(task, offset) as u8 } }
}

/// Writes who the thread is, unless it wrote the same before.
#[inline(always)]
pub fn context_if_changed<K: Kernel>(cpu: Cpu, task: *const u8, slot: *mut u64) {
    let identity = Identity::current::<K>(task);
    let hash = identity.hash(cpu.pid);
    let flags = (1u64 << slot::HASH_SHIFT) - 1;
    // SAFETY: a slot belongs to the thread that runs.
    let state = unsafe { *slot };
    if state & !flags == hash {
        return;
    }
    let Some(mut record) = cpu.reserve::<Context>(Label::of(kind::CONTEXT)) else { return };
    let pointer = record.pointer();
    // SAFETY: the record is a Context; `comm` is 16 bytes.
    unsafe {
        (&raw mut (*pointer).process_start_ns).write(process_start_ns::<K>(task));
        (&raw mut (*pointer).thread_start_ns).write(start_ns::<K>(task));
        (&raw mut (*pointer).cgroup_id).write(identity.cgroup_id);
        (&raw mut (*pointer).ipc_ns).write(identity.ipc_ns);
        (&raw mut (*pointer).uid).write(identity.uid);
        (&raw mut (*pointer).comm).cast::<[u64; 2]>().write(identity.comm);
        *slot = hash | (state & flags);
    }
    record.submit();
}

/// A thread that was created.
struct Child {
    tid: u32,
    /// 0: unknown.
    pid: u32,
    start_ns: u64,
    clone_flags: u64,
    blocked: u64,
    /// 0: unknown.
    ipc_ns: u32,
}

/// task_newtask: runs in the parent before the child can run.
#[inline(always)]
pub fn fork<K: Kernel>(child: *const u8, clone_flags: u64) -> i32 {
    let o = offsets();
    let Some(cpu) = Cpu::current() else { return 0 };
    if o.task_pid == 0 || !follows(cpu.pid) {
        return 0;
    }
    // SAFETY: the offsets are those of task_struct.pid and .tgid.
    let (tid, pid) = unsafe { (K::read::<u32>(child, o.task_pid), K::read::<u32>(child, o.task_tgid)) };
    let (start_ns, blocked, ipc_ns) = (start_ns::<K>(child), blocked::<K>(child), ipc_ns::<K>(child));
    followed_fork(cpu, &Child { tid, pid, start_ns, clone_flags, blocked, ipc_ns });
    0
}

/// The same where the kernel has no BTF: the process of the child is not known.
#[inline(always)]
pub fn fork_by_record(ctx: &TracePointContext) -> u32 {
    let offset = offsets().newtask_pid as usize;
    let Some(cpu) = Cpu::current() else { return 0 };
    if !follows(cpu.pid) {
        return 0;
    }
    // SAFETY: the offset comes from the tracepoint's format file.
    if let Ok(tid) = unsafe { ctx.read_at::<u32>(offset) } {
        followed_fork(cpu, &Child { tid, pid: 0, start_ns: 0, clone_flags: 0, blocked: 0, ipc_ns: 0 });
    }
    0
}

#[inline(always)]
fn followed_fork(cpu: Cpu, child: &Child) {
    let process = if child.pid == 0 { child.tid } else { child.pid };
    if FILTER.load() == filter::TREE && PIDS.insert(process, 1, 0).is_err() {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).not_followed });
    }
    let Some(mut record) = cpu.reserve::<Fork>(Label::of(kind::FORK)) else { return };
    let pointer = record.pointer();
    // SAFETY: the record is a Fork.
    unsafe {
        (&raw mut (*pointer).child_tid).write(child.tid);
        (&raw mut (*pointer).child_pid).write(child.pid);
        (&raw mut (*pointer).child_start_ns).write(child.start_ns);
        (&raw mut (*pointer).clone_flags).write(child.clone_flags);
        (&raw mut (*pointer).blocked).write(child.blocked);
        (&raw mut (*pointer).ipc_ns).write(child.ipc_ns);
        (&raw mut (*pointer).padding).write(0);
        (&raw mut (*pointer).comm).cast::<[u64; 2]>().write(comm());
    }
    record.submit();
}

/// The process of the current thread is in an IPC namespace that it has just made.
#[inline(always)]
pub fn namespace<K: Kernel>(cpu: Cpu, task: *const u8) {
    let Some(mut record) = cpu.reserve::<Namespace>(Label::of(kind::NAMESPACE)) else { return };
    let pointer = record.pointer();
    // SAFETY: the record is a Namespace.
    unsafe {
        (&raw mut (*pointer).ipc_ns).write(ipc_ns::<K>(task));
        (&raw mut (*pointer).padding).write(0);
    }
    record.submit();
}

/// sched_process_exec: the current thread has the new name.
#[inline(always)]
pub fn exec(old_tid: u32, bprm: *const u8) -> i32 {
    let Some(cpu) = Cpu::current() else { return 0 };
    if !follows(cpu.pid) {
        return 0;
    }
    forget(old_tid);
    let Some(mut record) = cpu.reserve::<Exec>(Label::of(kind::EXEC)) else { return 0 };
    let pointer = record.pointer();
    // SAFETY: the record is an Exec.
    unsafe {
        (&raw mut (*pointer).old_tid).write(old_tid);
        (&raw mut (*pointer).padding).write(0);
        (&raw mut (*pointer).comm).cast::<[u64; 2]>().write(comm());
        path((&raw mut (*pointer).path).cast(), bprm);
    }
    record.submit();
    0
}

/// The path that execve got.
///
/// # Safety
/// `to` has room for `PATH_BYTES`; `bprm` is the tracepoint's.
#[inline(always)]
unsafe fn path(to: *mut u8, bprm: *const u8) {
    let offset = offsets().bprm_filename;
    // SAFETY: the caller's promise; the helper terminates what it writes.
    unsafe {
        to.write(0);
        if offset != 0 {
            let from: *const u8 = Helper::read(bprm, offset);
            bpf_probe_read_kernel_str(to.cast(), PATH_BYTES as u32, from.cast());
        }
    }
}

/// A thread id may be given to another thread: its slot starts anew.
#[inline(always)]
fn forget(tid: u32) {
    if let Some(slot) = SLOTS.get_ptr_mut(tid) {
        // SAFETY: nobody runs with this thread id any more.
        unsafe { *slot = 0 };
    }
}

/// sched_process_exit: runs in the dying thread.
#[inline(always)]
pub fn exit<K: Kernel>(task: *const u8) -> i32 {
    let Some(cpu) = Cpu::current() else { return 0 };
    forget(cpu.tid);
    if !follows(cpu.pid) {
        return 0;
    }
    let last = is_last_thread::<K>(task, cpu.pid == cpu.tid);
    if let Some(mut record) = cpu.reserve::<TaskExit>(Label::of(kind::TASK_EXIT)) {
        let offset = offsets().task_exit_code;
        // SAFETY: the record is a TaskExit; the offset is that of task_struct.exit_code.
        unsafe {
            let exit_code = if offset == 0 { -1 } else { K::read::<i32>(task, offset) };
            (&raw mut (*record.pointer()).exit_code).write(exit_code);
            (&raw mut (*record.pointer()).padding).write(0);
            if last {
                (*record.header()).flags = flag::LAST_THREAD;
            }
        }
        record.submit();
    }
    if last && FILTER.load() != filter::NONE {
        // A process that was never there is no error.
        let _ = PIDS.remove(cpu.pid);
    }
    0
}

/// Whether no other thread of the process lives: `signal->live` has already been lowered by `do_exit`.
#[inline(always)]
fn is_last_thread<K: Kernel>(task: *const u8, is_leader: bool) -> bool {
    let o = offsets();
    if o.task_signal == 0 {
        return is_leader;
    }
    // SAFETY: the offsets are those of task_struct.signal and signal_struct.live.counter.
    unsafe {
        let signal: *const u8 = K::read(task, o.task_signal);
        K::read::<u32>(signal, o.signal_live) == 0
    }
}
