//! A call begins and ends: two records, joined in user space.

use crate::kernel::{self, Kernel};
use crate::maps::{FILTER, PIDS, RECORDER, SLOTS, gate};
use crate::ring::Cpu;
use crate::task;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use ipc_schema::wire::{
    Enter, EnterSops, Exit, GATE_SIZE, SOPS_ROOM, Sembuf, SopsHead, Whole, filter, flag, gate as cell, kind, slot,
};

/// Bit 30 of the number marks an x32 call, `arch/x86/include/uapi/asm/unistd.h`.
const X32: u64 = 0x4000_0000;

/// The bit of SIGKILL in a signal set.
const SIGKILL: u64 = 1 << 8;

/// `include/uapi/asm-generic/errno-base.h`.
const EFAULT: i64 = 14;

/// sys_enter.
#[inline(always)]
pub fn enter<K: Kernel>(regs: *const u8, number: u64) -> i32 {
    if number >= GATE_SIZE as u64 {
        count_x32(number);
        return 0;
    }
    let cell = gate(number);
    if cell != 0 {
        enter_traced::<K>(regs, cell);
    }
    0
}

#[inline(always)]
fn count_x32(number: u64) {
    let number = number ^ X32;
    if number < GATE_SIZE as u64
        && gate(number) & cell::CODE != 0
        && is_followed()
        && let Some(cpu) = Cpu::current()
    {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).x32 });
    }
}

/// Whether this process is to be traced.
#[inline(always)]
pub fn is_followed() -> bool {
    // SAFETY: the helper takes nothing.
    let pid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if pid == RECORDER.load() {
        return false;
    }
    FILTER.load() == filter::NONE || PIDS.get_ptr(pid).is_some()
}

/// The thread's slot, by its thread id.
#[inline(always)]
fn slot_of_current() -> Option<*mut u64> {
    // SAFETY: the helper takes nothing.
    SLOTS.get_ptr_mut(unsafe { bpf_get_current_pid_tgid() } as u32)
}

/// The cell's entry for the ABI of this call.
#[inline(always)]
fn entry_of(cell: u32, compat: bool) -> u32 {
    let shift = if compat { cell::I386_SHIFT } else { cell::X86_64_SHIFT };
    (cell >> shift) & 0xffff
}

#[inline(always)]
fn enter_traced<K: Kernel>(regs: *const u8, cell: u32) {
    let task = K::task();
    let compat = kernel::is_compat::<K>(task);
    let entry = entry_of(cell, compat);
    if entry == 0 || !is_followed() {
        return;
    }
    let Some(cpu) = Cpu::current() else { return };
    let Some(slot) = slot_of_current() else {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).no_slot });
        return;
    };
    task::context_if_changed::<K>(cpu, task, slot);
    let code = (entry & cell::CODE) as u8;
    let written = if entry & cell::SOPS != 0 {
        enter_sops::<K>(cpu, regs, code, compat)
    } else {
        enter_plain::<K>(cpu, regs, code, compat)
    };
    // SAFETY: a slot belongs to the thread that runs.
    unsafe { *slot = (*slot & !(slot::IN_CALL | slot::ENTRY_LOST | slot::COPY_FAULT)) | written };
}

#[inline(always)]
fn enter_plain<K: Kernel>(cpu: Cpu, regs: *const u8, code: u8, compat: bool) -> u64 {
    let Some(mut record) = cpu.reserve::<Enter>(kind::ENTER, code, compat) else { return slot::ENTRY_LOST };
    // SAFETY: the record has room for six arguments; `regs` is the tracepoint's.
    unsafe { kernel::copy_arguments::<K>(regs, compat, (&raw mut (*record.pointer()).args).cast()) };
    record.submit();
    slot::IN_CALL
}

#[inline(always)]
fn enter_sops<K: Kernel>(cpu: Cpu, regs: *const u8, code: u8, compat: bool) -> u64 {
    let mut arguments = [0u64; 6];
    // SAFETY: six arguments; `regs` is the tracepoint's.
    unsafe { kernel::copy_arguments::<K>(regs, compat, arguments.as_mut_ptr()) };
    write_sops(cpu, kind::ENTER_SOPS, code, compat, &arguments)
}

/// Writes the record with the least room that holds the operations.
#[inline(always)]
fn write_sops(cpu: Cpu, kind: u8, code: u8, compat: bool, arguments: &[u64; 6]) -> u64 {
    let count = arguments[2] & if compat { 0xffff_ffff } else { u64::MAX };
    if count <= SOPS_ROOM[0] as u64 {
        write_sops_in::<{ SOPS_ROOM[0] }>(cpu, kind, code, compat, arguments)
    } else if count <= SOPS_ROOM[1] as u64 {
        write_sops_in::<{ SOPS_ROOM[1] }>(cpu, kind, code, compat, arguments)
    } else {
        write_sops_in::<{ SOPS_ROOM[2] }>(cpu, kind, code, compat, arguments)
    }
}

#[inline(always)]
fn write_sops_in<const N: usize>(cpu: Cpu, kind: u8, code: u8, compat: bool, arguments: &[u64; 6]) -> u64 {
    let Some(mut record) = cpu.reserve::<EnterSops<N>>(kind, code, compat) else { return slot::ENTRY_LOST };
    let count = if arguments[2] > N as u64 { N as u32 } else { arguments[2] as u32 };
    let record_pointer = record.pointer();
    // SAFETY: the record holds N operations, and `count` is at most N; a fault is reported by the helper.
    let faulted = unsafe {
        let head = &raw mut (*record_pointer).head;
        (&raw mut (*head).args).write(*arguments);
        let to = (&raw mut (*record_pointer).sops).cast();
        bpf_probe_read_user(to, count * size_of::<Sembuf>() as u32, arguments[1] as *const _) != 0
    };
    // SAFETY: as above.
    unsafe {
        let head: *mut SopsHead = &raw mut (*record_pointer).head;
        (&raw mut (*head).valid).write(if faulted { 0 } else { count });
        (&raw mut (*head).padding).write(0);
        if faulted {
            (*record.header()).flags = flag::COPY_FAULT;
        }
    }
    record.submit();
    if faulted { slot::IN_CALL | slot::COPY_FAULT } else { slot::IN_CALL }
}

/// sys_exit.
#[inline(always)]
pub fn exit<K: Kernel>(regs: *const u8, ret: i64) -> i32 {
    let number = kernel::number::<K>(regs);
    if number >= GATE_SIZE as u64 {
        return 0;
    }
    let cell = gate(number);
    if cell != 0 {
        exit_traced::<K>(regs, cell, ret);
    }
    0
}

#[inline(always)]
fn exit_traced<K: Kernel>(regs: *const u8, cell: u32, ret: i64) {
    let Some(slot) = slot_of_current() else { return };
    // SAFETY: a slot belongs to the thread that runs.
    let state = unsafe { *slot };
    if state & slot::ENTRY_LOST != 0 {
        // SAFETY: as above. The call is lost as a whole, and was counted at its entry.
        unsafe { *slot = state & !slot::ENTRY_LOST };
        return;
    }
    let task = K::task();
    let compat = kernel::is_compat::<K>(task);
    let entry = entry_of(cell, compat);
    let Some(cpu) = Cpu::current() else { return };
    let code = (entry & cell::CODE) as u8;
    if state & slot::IN_CALL == 0 {
        exit_whole::<K>(cpu, regs, code, compat, ret, slot);
        return;
    }
    // SAFETY: as above.
    unsafe { *slot = state & !(slot::IN_CALL | slot::COPY_FAULT) };
    // A call that fails with EFAULT had nothing to copy.
    if state & slot::COPY_FAULT != 0 && ret != -EFAULT {
        late_sops::<K>(cpu, regs, code, compat);
    }
    let Some(mut record) = cpu.reserve::<Exit>(kind::EXIT, code, compat) else {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).lost_exits });
        return;
    };
    // SAFETY: the record is an Exit.
    unsafe { (&raw mut (*record.pointer()).ret).write(ret) };
    if ret < 0 && is_dying::<K>(task) {
        // SAFETY: every record starts with a header.
        unsafe { (*record.header()).flags = flag::FATAL };
    }
    record.submit();
}

/// Whether a fatal signal is pending: `complete_signal` of `kernel/signal.c` adds SIGKILL to every thread of a process
/// that a signal is about to kill.
#[inline(always)]
fn is_dying<K: Kernel>(task: *const u8) -> bool {
    let offset = kernel::offsets().task_pending;
    // SAFETY: the offset is that of task_struct.pending.signal.sig[0].
    offset != 0 && unsafe { K::read::<u64>(task, offset) } & SIGKILL != 0
}

/// The operations whose copy faulted at entry: the kernel has read them by now, so they are in memory.
#[inline(always)]
fn late_sops<K: Kernel>(cpu: Cpu, regs: *const u8, code: u8, compat: bool) {
    let mut arguments = [0u64; 6];
    // SAFETY: six arguments; `regs` is the tracepoint's.
    unsafe { kernel::copy_arguments::<K>(regs, compat, arguments.as_mut_ptr()) };
    // Not counted as a call if there is no room: the call itself is in the ring.
    let Some(mut record) = cpu.reserve::<EnterSops<{ SOPS_ROOM[2] }>>(kind::LATE_SOPS, 0, compat) else { return };
    let count = if arguments[2] > SOPS_ROOM[2] as u64 { SOPS_ROOM[2] as u32 } else { arguments[2] as u32 };
    let pointer = record.pointer();
    // SAFETY: the record holds 500 operations, and `count` is at most that.
    let copied = unsafe {
        (*record.header()).code = code;
        (&raw mut (*pointer).head.args).write(arguments);
        let to = (&raw mut (*pointer).sops).cast();
        bpf_probe_read_user(to, count * size_of::<Sembuf>() as u32, arguments[1] as *const _) == 0
    };
    // SAFETY: as above.
    unsafe {
        (&raw mut (*pointer).head.valid).write(if copied { count } else { 0 });
        (&raw mut (*pointer).head.padding).write(0);
    }
    record.submit();
    if !copied {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).copy_faults });
    }
}

/// An end without a beginning: the call began before the probes, or seccomp denied it.
#[inline(always)]
fn exit_whole<K: Kernel>(cpu: Cpu, regs: *const u8, code: u8, compat: bool, ret: i64, slot: *mut u64) {
    if code == 0 || !is_followed() {
        return;
    }
    task::context_if_changed::<K>(cpu, K::task(), slot);
    let Some(mut record) = cpu.reserve::<Whole>(kind::WHOLE, code, compat) else { return };
    // SAFETY: the record has room for six arguments; `regs` is the tracepoint's.
    unsafe {
        kernel::copy_arguments::<K>(regs, compat, (&raw mut (*record.pointer()).args).cast());
        (&raw mut (*record.pointer()).ret).write(ret);
    }
    record.submit();
}
