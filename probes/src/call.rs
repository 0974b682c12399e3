//! A call begins and ends: two records, joined in user space.

use crate::copy::{self, Arguments};
use crate::follow::{admits, follows};
use crate::kernel::{self, Helper, Kernel};
use crate::maps::{SLOTS, gate};
use crate::queue;
use crate::ring::{Cpu, Label};
use crate::stack;
use crate::task;
use core::ffi::c_void;
use ipc_schema::shape::{self, Shape};
use ipc_schema::wire::{
    CLONE_NEWIPC, Enter, Exit, GATE_SIZE, Named, Queue, SOPS_ROOM, Small, Sops, flag, gate as cell, kind, slot, tail,
};

/// Bit 30 of the number marks an x32 call, `arch/x86/include/uapi/asm/unistd.h`.
const X32: u64 = 0x4000_0000;

/// The bit of SIGKILL in a signal set.
const SIGKILL: u64 = 1 << 8;

/// The kernel's own return values that ask for a restart, `include/linux/errno.h`.
const RESTARTS: core::ops::RangeInclusive<i64> = -516..=-512;

/// A call of the catalogue, at its entry or its exit.
struct Event {
    cpu: Cpu,
    task: *const u8,
    code: u8,
    compat: bool,
    shape: Shape,
    /// Of [`ipc_schema::wire::Header::switches`].
    switches: u8,
    arguments: Arguments,
}

impl Event {
    #[inline(always)]
    fn new<K: Kernel>(cpu: Cpu, task: *const u8, regs: *const u8, code: u8, compat: bool) -> Event {
        let mut arguments = [0; 8];
        // SAFETY: six of eight arguments; `regs` is the tracepoint's.
        unsafe { kernel::copy_arguments::<K>(regs, compat, arguments.as_mut_ptr()) };
        let index = shape::index(code, compat, arguments[0]);
        Event { cpu, task, code, compat, shape: shape_at(index), switches: task::switches::<K>(task), arguments }
    }

    #[inline(always)]
    fn label(&self, kind: u8, tail: u8) -> Label {
        Label { kind, code: self.code, compat: self.compat, tail }
    }

    /// The mask of blocked signals, if it matters.
    #[inline(always)]
    fn blocked<K: Kernel>(&self) -> u64 {
        if self.shape.has(Shape::MASK) { task::blocked::<K>(self.task) } else { 0 }
    }

    /// Whether there are more operations than the small tail holds.
    #[inline(always)]
    fn has_many_sops(&self) -> bool {
        self.shape.has(Shape::SOPS) && copy::sop_count(&self.arguments, self.shape) > SOPS_ROOM[0] as u64
    }

    #[inline(always)]
    fn fits_64_sops(&self) -> bool {
        copy::sop_count(&self.arguments, self.shape) <= SOPS_ROOM[1] as u64
    }
}

/// The shape of a place, read in place: the table is too large for the stack.
#[inline(always)]
fn shape_at(index: usize) -> Shape {
    let base = (&raw const shape::TABLE).cast::<u64>();
    let index = if index < shape::SHAPES { index } else { 0 };
    // SAFETY: the index is inside.
    Shape(unsafe { base.add(index).read_volatile() })
}

/// sys_enter.
#[inline(always)]
pub fn enter<K: Kernel>(ctx: *mut c_void, regs: *const u8, number: u64) -> i32 {
    if number >= GATE_SIZE as u64 {
        count_x32(number);
        return 0;
    }
    let cell = gate(number);
    if cell != 0 {
        enter_traced::<K>(ctx, regs, cell);
    }
    0
}

/// The wrapper of a system call, whose argument are the registers.
#[inline(always)]
pub fn enter_wrapper(ctx: *mut c_void, regs: *const u8) -> i32 {
    enter::<Helper>(ctx, regs, kernel::number::<Helper>(regs))
}

#[inline(always)]
fn count_x32(number: u64) {
    let number = number ^ X32;
    if number < GATE_SIZE as u64
        && gate(number) & cell::CODE != 0
        && let Some(cpu) = Cpu::current()
        && follows(cpu.pid)
    {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).x32 });
    }
}

/// The cell's entry for the ABI of this call.
#[inline(always)]
fn entry_of(cell: u32, compat: bool) -> u32 {
    let shift = if compat { cell::I386_SHIFT } else { cell::X86_64_SHIFT };
    (cell >> shift) & 0xffff
}

#[inline(always)]
fn enter_traced<K: Kernel>(ctx: *mut c_void, regs: *const u8, cell: u32) {
    let task = K::task();
    let compat = kernel::is_compat::<K>(task);
    let code = (entry_of(cell, compat) & cell::CODE) as u8;
    if code == 0 || code == cell::UNSHARE {
        return;
    }
    let Some(cpu) = Cpu::current() else { return };
    let Some(slot) = slot_of(cpu) else { return };
    let state = if admits(cpu) {
        task::context_if_changed::<K>(cpu, task, slot);
        let event = Event::new::<K>(cpu, task, regs, code, compat);
        write_enter::<K>(&event, ctx, 0)
    } else {
        slot::DROPPED
    };
    // SAFETY: a slot belongs to the thread that runs.
    unsafe { *slot = (*slot & !slot::OF_CALL) | state };
}

/// The slot of the current thread; without one, its call is counted as lost.
#[inline(always)]
fn slot_of(cpu: Cpu) -> Option<*mut u64> {
    let slot = SLOTS.get_ptr_mut(cpu.tid);
    if slot.is_none() && admits(cpu) {
        // SAFETY: `c` is this CPU's counters.
        cpu.count(|c| unsafe { &raw mut (*c).no_slot });
    }
    slot
}

/// A function of the C library is called: one record tells it all.
#[inline(always)]
pub fn library(ctx: *mut c_void, code: u8) -> u32 {
    let Some(cpu) = Cpu::current() else { return 0 };
    let Some(slot) = slot_of(cpu) else { return 0 };
    if !admits(cpu) {
        return 0;
    }
    let task = Helper::task();
    task::context_if_changed::<Helper>(cpu, task, slot);
    let event = Event::new::<Helper>(cpu, task, ctx.cast(), code, false); // the context is the registers
    let flags = stack::write(cpu, ctx);
    // A full ring has counted the call.
    let _ = if event.shape.is_empty() {
        begin::<()>(&event, kind::LIBRARY, tail::NONE, flags, |_| {})
    } else {
        begin::<Small>(&event, kind::LIBRARY, tail::SMALL, flags, |to| fill_small::<Helper>(&event, to, false))
    };
    0
}

/// Writes the beginning of a call; returns the slot's bits for it.
#[inline(always)]
fn write_enter<K: Kernel>(event: &Event, ctx: *mut c_void, flags: u8) -> u64 {
    let shape = event.shape;
    let flags = flags | stack::write(event.cpu, ctx);
    let written = if shape.is_empty() {
        begin::<()>(event, kind::ENTER, tail::NONE, flags, |_| {})
    } else if event.has_many_sops() {
        enter_sops(event, flags)
    } else if shape.has(Shape::NAME) {
        begin::<Named>(event, kind::ENTER, tail::NAMED, flags, |to| fill_name::<K>(event, to, -1, false))
    } else if shape.has(Shape::QUEUE) {
        let descriptor = event.arguments[0] as i64;
        begin::<Queue>(event, kind::ENTER, tail::QUEUE, flags, |to| fill_queue::<K>(event, to, descriptor, false))
    } else {
        begin::<Small>(event, kind::ENTER, tail::SMALL, flags, |to| fill_small::<K>(event, to, false))
    };
    if written { slot::IN_CALL } else { slot::ENTRY_LOST }
}

#[inline(always)]
fn enter_sops(event: &Event, flags: u8) -> bool {
    // SAFETY (both): `to` is a record's tail.
    if event.fits_64_sops() {
        begin::<Sops<{ SOPS_ROOM[1] }>>(event, kind::ENTER, tail::SOPS, flags, |to| unsafe {
            copy::sops(to, &event.arguments, event.shape)
        })
    } else {
        begin::<Sops<{ SOPS_ROOM[2] }>>(event, kind::ENTER, tail::SOPS, flags, |to| unsafe {
            copy::sops(to, &event.arguments, event.shape)
        })
    }
}

#[inline(always)]
fn fill_small<K: Kernel>(event: &Event, to: *mut Small, at_exit: bool) {
    // SAFETY: `to` is a record's tail.
    unsafe { copy::small(to, &event.arguments, event.shape, event.blocked::<K>(), at_exit) }
}

#[inline(always)]
fn fill_queue<K: Kernel>(event: &Event, to: *mut Queue, descriptor: i64, at_exit: bool) {
    // SAFETY: `to` is a record's tail.
    unsafe {
        fill_small::<K>(event, &raw mut (*to).small, at_exit);
        queue::describe(to, event.task, descriptor);
    }
}

#[inline(always)]
fn fill_name<K: Kernel>(event: &Event, to: *mut Named, descriptor: i64, at_exit: bool) {
    // SAFETY: `to` is a record's tail.
    unsafe {
        fill_queue::<K>(event, &raw mut (*to).queue, descriptor, at_exit);
        copy::name(to, &event.arguments);
    }
}

/// A record's fixed part and its tail.
#[repr(C)]
pub struct With<F, T> {
    /// The fixed part.
    pub fixed: F,
    /// The tail.
    pub tail: T,
}

/// Writes one entry; `fill` fills in its tail. Whether there was room.
#[inline(always)]
fn begin<T: 'static>(event: &Event, kind: u8, tail: u8, flags: u8, fill: impl FnOnce(*mut T)) -> bool {
    let Some(mut record) = event.cpu.reserve::<With<Enter, T>>(event.label(kind, tail)) else { return false };
    let pointer = record.pointer();
    // SAFETY: the record is an Enter with this tail; six of eight arguments are its.
    unsafe {
        (&raw mut (*pointer).fixed.args).write(*event.arguments.as_ptr().cast());
        (*record.header()).flags = flags;
        (*record.header()).switches = event.switches;
        fill(&raw mut (*pointer).tail);
    }
    record.submit();
    true
}

/// sys_exit.
#[inline(always)]
pub fn exit<K: Kernel>(ctx: *mut c_void, regs: *const u8, ret: i64) -> i32 {
    let number = kernel::number::<K>(regs);
    if number >= GATE_SIZE as u64 {
        return 0;
    }
    let cell = gate(number);
    if cell != 0 {
        exit_traced::<K>(ctx, regs, cell, ret);
    }
    0
}

/// The return of a wrapper.
#[inline(always)]
pub fn exit_wrapper(ctx: *mut c_void, ret: i64) -> i32 {
    exit::<Helper>(ctx, kernel::registers(), ret)
}

#[inline(always)]
fn exit_traced<K: Kernel>(ctx: *mut c_void, regs: *const u8, cell: u32, ret: i64) {
    let task = K::task();
    let compat = kernel::is_compat::<K>(task);
    let code = (entry_of(cell, compat) & cell::CODE) as u8;
    let Some(cpu) = Cpu::current() else { return };
    if code == 0 {
        return;
    }
    if code == cell::UNSHARE {
        if ret == 0 {
            unshared::<K>(cpu, task, regs, compat);
        }
        return;
    }
    let Some(slot) = SLOTS.get_ptr_mut(cpu.tid) else { return };
    // SAFETY: a slot belongs to the thread that runs.
    let state = unsafe { *slot };
    if state & (slot::ENTRY_LOST | slot::DROPPED) != 0 {
        // SAFETY: as above. A lost call was counted at its entry, a dropped one too.
        unsafe { *slot = state & !slot::OF_CALL };
        return;
    }
    let event = Event::new::<K>(cpu, task, regs, code, compat);
    if state & slot::IN_CALL == 0 && !begun_untraced::<K>(&event, ctx, slot) {
        return;
    }
    let restarting = if RESTARTS.contains(&ret) { slot::RESTARTING } else { 0 };
    // SAFETY: as above; a waking on another CPU may set a bit meanwhile, of a call that is over.
    unsafe { *slot = (*slot & !slot::OF_CALL) | restarting };
    let lost = if state & slot::WAKING_LOST != 0 { flag::WAKING_LOST } else { 0 };
    let dying = if ret < 0 && is_dying::<K>(task) { flag::FATAL } else { 0 };
    write_exit::<K>(&event, ret, lost | dying);
}

/// unshare(2) succeeded.
#[inline(always)]
fn unshared<K: Kernel>(cpu: Cpu, task: *const u8, regs: *const u8, compat: bool) {
    let mut arguments: Arguments = [0; 8];
    // SAFETY: six of eight arguments; `regs` is the tracepoint's.
    unsafe { kernel::copy_arguments::<K>(regs, compat, arguments.as_mut_ptr()) };
    if arguments[0] & CLONE_NEWIPC != 0 && follows(cpu.pid) {
        task::namespace::<K>(cpu, task);
    }
}

/// An end without a beginning: the call began before the probes, or seccomp denied it. Its beginning is made up for.
#[inline(always)]
fn begun_untraced<K: Kernel>(event: &Event, ctx: *mut c_void, slot: *mut u64) -> bool {
    if !admits(event.cpu) {
        return false;
    }
    task::context_if_changed::<K>(event.cpu, event.task, slot);
    write_enter::<K>(event, ctx, flag::LATE) == slot::IN_CALL
}

#[inline(always)]
fn write_exit<K: Kernel>(event: &Event, ret: i64, flags: u8) {
    let shape = event.shape;
    let written = if shape.is_empty() {
        end::<()>(event, tail::NONE, ret, flags, |_| {})
    } else if event.has_many_sops() {
        exit_sops(event, ret, flags)
    } else if shape.has(Shape::NAME) {
        let descriptor = if shape.has(Shape::QUEUE_RETURNED) { ret } else { -1 };
        end::<Named>(event, tail::NAMED, ret, flags, |to| fill_name::<K>(event, to, descriptor, true))
    } else {
        end::<Small>(event, tail::SMALL, ret, flags, |to| fill_small::<K>(event, to, true))
    };
    if !written {
        // SAFETY: `c` is this CPU's counters.
        event.cpu.count(|c| unsafe { &raw mut (*c).lost_exits });
    }
}

#[inline(always)]
fn exit_sops(event: &Event, ret: i64, flags: u8) -> bool {
    // SAFETY (both): `to` is a record's tail.
    if event.fits_64_sops() {
        end::<Sops<{ SOPS_ROOM[1] }>>(event, tail::SOPS, ret, flags, |to| unsafe {
            copy::sops(to, &event.arguments, event.shape)
        })
    } else {
        end::<Sops<{ SOPS_ROOM[2] }>>(event, tail::SOPS, ret, flags, |to| unsafe {
            copy::sops(to, &event.arguments, event.shape)
        })
    }
}

/// Writes one exit; `fill` fills in its tail. Whether there was room.
#[inline(always)]
fn end<T: 'static>(event: &Event, tail: u8, ret: i64, flags: u8, fill: impl FnOnce(*mut T)) -> bool {
    let Some(mut record) = event.cpu.reserve::<With<Exit, T>>(event.label(kind::EXIT, tail)) else { return false };
    let pointer = record.pointer();
    // SAFETY: the record is an Exit with this tail.
    unsafe {
        (&raw mut (*pointer).fixed.ret).write(ret);
        (*record.header()).flags = flags;
        (*record.header()).switches = event.switches;
        fill(&raw mut (*pointer).tail);
    }
    record.submit();
    true
}

/// Whether a fatal signal is pending: `complete_signal` of `kernel/signal.c` adds SIGKILL to every thread of a process
/// that a signal is about to kill.
#[inline(always)]
fn is_dying<K: Kernel>(task: *const u8) -> bool {
    let offset = kernel::offsets().task_pending;
    // SAFETY: the offset is that of task_struct.pending.signal.sig[0].
    offset != 0 && unsafe { K::read::<u64>(task, offset) } & SIGKILL != 0
}
