//! A thread inside a call is woken.

use crate::kernel::{Kernel, offsets};
use crate::maps::SLOTS;
use crate::ring::{Cpu, Label, atomic_or};
use crate::task::comm;
use ipc_schema::wire::{Waking, flag, kind, slot};

/// PF_EXITING of `include/linux/sched.h`.
const PF_EXITING: u32 = 4;

/// sched_waking: runs in whoever runs; user space decides whether that is the waker.
#[inline(always)]
pub fn waking<K: Kernel>(wakee: *const u8) -> i32 {
    let o = offsets();
    if o.task_pid == 0 {
        return 0;
    }
    // SAFETY: the offset is that of task_struct.pid.
    let wakee_tid = unsafe { K::read::<u32>(wakee, o.task_pid) };
    if let Some(slot) = SLOTS.get_ptr_mut(wakee_tid) {
        // SAFETY: the pointer comes from a checked map lookup.
        if unsafe { slot.read_volatile() } & slot::IN_CALL != 0 {
            write::<K>(wakee_tid, slot);
        }
    }
    0
}

#[inline(always)]
fn write<K: Kernel>(wakee_tid: u32, wakee_slot: *mut u64) {
    let Some(cpu) = Cpu::current() else { return };
    let task = K::task();
    let flags = state::<K>(cpu, task);
    let Some(mut record) = cpu.reserve::<Waking>(Label::of(kind::WAKING)) else {
        atomic_or(wakee_slot, slot::WAKING_LOST);
        return;
    };
    let pointer = record.pointer();
    // SAFETY: the record is a Waking; the counters are this CPU's.
    unsafe {
        (*record.header()).flags = flags;
        (&raw mut (*pointer).wakee_tid).write(wakee_tid);
        (&raw mut (*pointer).padding).write(0);
        (&raw mut (*pointer).comm).cast::<[u64; 2]>().write(comm());
        (&raw mut (*cpu.counters).woke).write(1);
    }
    record.submit();
}

/// What the current task is doing.
#[inline(always)]
fn state<K: Kernel>(cpu: Cpu, task: *const u8) -> u8 {
    if is_exiting::<K>(task) {
        return flag::EXITING;
    }
    let Some(slot) = SLOTS.get_ptr_mut(cpu.tid) else { return 0 };
    // SAFETY: a slot belongs to the thread that runs.
    if unsafe { *slot } & slot::IN_CALL != 0 { flag::IN_CALL } else { 0 }
}

/// Whether a task is on its way out. It has said so already, or is about to: it says no more who it is.
#[inline(always)]
pub fn is_exiting<K: Kernel>(task: *const u8) -> bool {
    // SAFETY: the offset is that of task_struct.flags.
    unsafe { K::read::<u32>(task, offsets().task_flags) & PF_EXITING != 0 }
}

/// Whether a waking was recorded on this CPU since the last time; interrupts are off between a signal's waking and its
/// tracepoint.
#[inline(always)]
pub fn take_woke(cpu: Cpu) -> bool {
    // SAFETY: the counters are this CPU's.
    unsafe {
        let woke = &raw mut (*cpu.counters).woke;
        let was = woke.read_volatile() != 0;
        if was {
            woke.write_volatile(0);
        }
        was
    }
}
