//! Signals: generated for someone, delivered to the current thread.

use crate::follow::follows;
use crate::kernel::{Helper, Kernel, offsets};
use crate::maps::{OPTIONS, SLOTS};
use crate::ring::{Cpu, Label};
use crate::task;
use crate::waking::{is_exiting, take_woke};
use ipc_schema::wire::{Signal, kind, option, slot};

/// The offset of `si_code` in `struct kernel_siginfo`, `include/uapi/asm-generic/siginfo.h`: part of the ABI.
const SIGINFO_CODE: u32 = 8;

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
fn code_of(info: u64) -> i32 {
    match info {
        SEND_SIG_NOINFO => SI_USER,
        SEND_SIG_PRIV => SI_KERNEL,
        // SAFETY: beyond the special values it is a kernel pointer; the helper reads zero on a fault.
        _ => unsafe { Helper::read(info as *const u8, SIGINFO_CODE) },
    }
}

/// Writes a record; the header of `signal` is filled in here.
#[inline(always)]
fn write(cpu: Cpu, kind: u8, signal: Signal) -> i32 {
    if let Some(mut record) = cpu.reserve::<Signal>(Label::of(kind)) {
        // SAFETY: the record is a Signal whose header is filled in.
        unsafe {
            let header = record.header().read();
            record.pointer().write(Signal { header, ..signal });
        }
        record.submit();
    }
    0
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
    let code = code_of(g.info);
    let task = K::task();
    if code <= 0
        && !is_exiting::<K>(task)
        && let Some(slot) = SLOTS.get_ptr_mut(cpu.tid)
    {
        task::context_if_changed::<K>(cpu, task, slot);
    }
    // SAFETY: the offset is that of task_struct.pid.
    let target_tid = unsafe { K::read(g.target, o.task_pid) };
    let Generated { signal, is_group, result, .. } = *g;
    let told = Signal { target_tid, target_pid, signal, code, result, is_group, ..Signal::ZERO };
    write(cpu, kind::SIGNAL_GENERATE, told)
}

/// signal_deliver: runs in the thread that gets it.
#[inline(always)]
pub fn deliver(signal: i32, action: *const u8) -> i32 {
    let Some(cpu) = Cpu::current() else { return 0 };
    let Some(slot) = SLOTS.get_ptr_mut(cpu.tid) else { return 0 };
    // SAFETY: a slot belongs to the thread that runs.
    let restarting = unsafe { *slot } & slot::RESTARTING != 0;
    let asked = OPTIONS.load() & option::SIGNALS != 0 && follows(cpu.pid);
    if !restarting && !asked {
        return 0;
    }
    // SAFETY: `action` is the tracepoint's `struct k_sigaction`.
    let (handler, sa_flags) =
        unsafe { (Helper::read(action, sigaction::HANDLER), Helper::read(action, sigaction::FLAGS)) };
    let (target_tid, target_pid) = (cpu.tid, cpu.pid);
    let told = Signal { target_tid, target_pid, signal, handler, sa_flags, ..Signal::ZERO };
    write(cpu, kind::SIGNAL_DELIVER, told)
}
