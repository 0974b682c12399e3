//! Signals: generated for someone, delivered to the current thread.

use crate::follow::follows;
use crate::kernel::{Helper, Kernel, offsets};
use crate::maps::{OPTIONS, SLOTS};
use crate::ring::{Cpu, Label};
use crate::task;
use crate::waking::{is_exiting, take_woke};
use ipc_schema::wire::{Signal, kind, option, slot};

/// Offsets in `struct kernel_siginfo`, `include/uapi/asm-generic/siginfo.h`: part of the ABI.
mod siginfo {
    pub const CODE: u32 = 8;
    pub const PID: u32 = 16;
}

/// Offsets in `struct k_sigaction`, `include/linux/signal_types.h`, x86.
mod sigaction {
    pub const HANDLER: u32 = 0;
    pub const FLAGS: u32 = 8;
}

/// Values of the pointer that are no pointer, and the codes they stand for: `include/linux/sched/signal.h`,
/// `include/uapi/asm-generic/siginfo.h`.
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;

/// The arguments of the tracepoint signal_generate.
pub struct Generated {
    /// The signal.
    pub signal: i32,
    /// `struct kernel_siginfo *`, or a special value.
    pub info: u64,
    /// One thread of the target.
    pub target: *const u8,
    /// Whether it is for the whole process.
    pub is_group: i32,
    /// What became of it.
    pub result: i32,
}

#[inline(always)]
fn code_and_pid(info: u64) -> (i32, u32) {
    // SAFETY: beyond the special values it is a kernel pointer; the helper reads zero on a fault.
    match info {
        SEND_SIG_NOINFO => (SI_USER, 0),
        SEND_SIG_PRIV => (SI_KERNEL, 0),
        _ => unsafe { (Helper::read(info as *const u8, siginfo::CODE), Helper::read(info as *const u8, siginfo::PID)) },
    }
}

/// signal_generate: runs in the sender, or in whoever an interrupt found.
#[inline(always)]
pub fn generate<K: Kernel>(g: &Generated) -> i32 {
    let o = offsets();
    if o.task_pid == 0 {
        return 0;
    }
    let Some(cpu) = Cpu::current() else { return 0 };
    // SAFETY: the offset is that of task_struct.tgid.
    let target_pid = unsafe { K::read::<u32>(g.target, o.task_tgid) };
    let is_target = follows(target_pid);
    let asked = OPTIONS.load() & option::SIGNALS != 0 && (is_target || follows(cpu.pid));
    // The mark is taken back in any case.
    let woke = take_woke(cpu);
    let is_wanted = asked || (woke && is_target);
    if !is_wanted {
        return 0;
    }
    let (code, si_pid) = code_and_pid(g.info);
    let task = K::task();
    if code <= 0
        && !is_exiting::<K>(task)
        && let Some(slot) = SLOTS.get_ptr_mut(cpu.tid)
    {
        task::context_if_changed::<K>(cpu, task, slot);
    }
    let Some(mut record) = cpu.reserve::<Signal>(Label::of(kind::SIGNAL_GENERATE)) else { return 0 };
    let pointer = record.pointer();
    // SAFETY: the record is a Signal; the offset is that of task_struct.pid.
    unsafe {
        (&raw mut (*pointer).target_tid).write(K::read(g.target, o.task_pid));
        (&raw mut (*pointer).target_pid).write(target_pid);
        (&raw mut (*pointer).signal).write(g.signal);
        (&raw mut (*pointer).code).write(code);
        (&raw mut (*pointer).result).write(g.result);
        (&raw mut (*pointer).is_group).write(g.is_group);
        (&raw mut (*pointer).si_pid).write(si_pid);
        (&raw mut (*pointer).padding).write(0);
        (&raw mut (*pointer).handler).write(0);
        (&raw mut (*pointer).sa_flags).write(0);
    }
    record.submit();
    0
}

/// signal_deliver: runs in the thread that gets it.
#[inline(always)]
pub fn deliver(signal: i32, info: u64, action: *const u8) -> i32 {
    let Some(cpu) = Cpu::current() else { return 0 };
    let Some(slot) = SLOTS.get_ptr_mut(cpu.tid) else { return 0 };
    // SAFETY: a slot belongs to the thread that runs.
    let restarting = unsafe { *slot } & slot::RESTARTING != 0;
    let asked = OPTIONS.load() & option::SIGNALS != 0 && follows(cpu.pid);
    if !restarting && !asked {
        return 0;
    }
    let (code, si_pid) = code_and_pid(info);
    let Some(mut record) = cpu.reserve::<Signal>(Label::of(kind::SIGNAL_DELIVER)) else { return 0 };
    let pointer = record.pointer();
    // SAFETY: the record is a Signal; `action` is the tracepoint's `struct k_sigaction`.
    unsafe {
        (&raw mut (*pointer).target_tid).write(cpu.tid);
        (&raw mut (*pointer).target_pid).write(cpu.pid);
        (&raw mut (*pointer).signal).write(signal);
        (&raw mut (*pointer).code).write(code);
        (&raw mut (*pointer).result).write(0);
        (&raw mut (*pointer).is_group).write(0);
        (&raw mut (*pointer).si_pid).write(si_pid);
        (&raw mut (*pointer).padding).write(0);
        (&raw mut (*pointer).handler).write(Helper::read(action, sigaction::HANDLER));
        (&raw mut (*pointer).sa_flags).write(Helper::read(action, sigaction::FLAGS));
    }
    record.submit();
    0
}
