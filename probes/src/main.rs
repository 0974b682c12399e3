//! The eBPF programs of ipctrace: attach points of three lines over shared bodies.
//!
//! They copy and never interpret: what an argument means is decided in user space. They keep no state about a call
//! but a few bits in the slot of its thread. They know no file format and no statistics.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod call;
mod copy;
mod follow;
mod kernel;
mod kernel_copy;
mod maps;
mod queue;
mod ring;
mod signal;
mod stack;
mod task;
mod waking;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::macros::{btf_tracepoint, kprobe, kretprobe, raw_tracepoint, tracepoint, uprobe};
use aya_ebpf::programs::{
    BtfTracePointContext, ProbeContext, RawTracePointContext, RetProbeContext, TracePointContext,
};
use kernel::{Direct, Helper};
use kernel_copy::Operations;
use signal::Generated;

#[btf_tracepoint(function = "sys_enter")]
fn sys_enter_btf(ctx: BtfTracePointContext) -> i32 {
    call::enter::<Direct>(ctx.as_ptr(), ctx.arg(0), ctx.arg(1))
}

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit_btf(ctx: BtfTracePointContext) -> i32 {
    call::exit::<Direct>(ctx.as_ptr(), ctx.arg(0), ctx.arg(1))
}

#[btf_tracepoint(function = "task_newtask")]
fn task_newtask_btf(ctx: BtfTracePointContext) -> i32 {
    task::fork::<Direct>(ctx.arg(0), ctx.arg(1))
}

#[btf_tracepoint(function = "sched_waking")]
fn sched_waking_btf(ctx: BtfTracePointContext) -> i32 {
    waking::waking::<Direct>(ctx.arg(0))
}

#[btf_tracepoint(function = "signal_generate")]
fn signal_generate_btf(ctx: BtfTracePointContext) -> i32 {
    signal::generate::<Direct>(&Generated {
        signal: ctx.arg(0),
        info: ctx.arg(1),
        target: ctx.arg(2),
        is_group: ctx.arg(3),
        result: ctx.arg(4),
    })
}

#[btf_tracepoint(function = "signal_deliver")]
fn signal_deliver_btf(ctx: BtfTracePointContext) -> i32 {
    signal::deliver(ctx.arg(0), ctx.arg(2))
}

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec_btf(ctx: BtfTracePointContext) -> i32 {
    task::exec(ctx.arg(1), ctx.arg(2))
}

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit_btf(ctx: BtfTracePointContext) -> i32 {
    task::exit::<Direct>(ctx.arg(0))
}

#[raw_tracepoint(tracepoint = "sys_enter")]
fn sys_enter_raw(ctx: RawTracePointContext) -> i32 {
    call::enter::<Helper>(ctx.as_ptr(), ctx.arg(0), ctx.arg(1))
}

#[raw_tracepoint(tracepoint = "sys_exit")]
fn sys_exit_raw(ctx: RawTracePointContext) -> i32 {
    call::exit::<Helper>(ctx.as_ptr(), ctx.arg(0), ctx.arg(1))
}

#[raw_tracepoint(tracepoint = "task_newtask")]
fn task_newtask_raw(ctx: RawTracePointContext) -> i32 {
    task::fork::<Helper>(ctx.arg(0), ctx.arg(1))
}

#[raw_tracepoint(tracepoint = "sched_waking")]
fn sched_waking_raw(ctx: RawTracePointContext) -> i32 {
    waking::waking::<Helper>(ctx.arg(0))
}

#[raw_tracepoint(tracepoint = "signal_generate")]
fn signal_generate_raw(ctx: RawTracePointContext) -> i32 {
    signal::generate::<Helper>(&Generated {
        signal: ctx.arg(0),
        info: ctx.arg(1),
        target: ctx.arg(2),
        is_group: ctx.arg(3),
        result: ctx.arg(4),
    })
}

#[raw_tracepoint(tracepoint = "signal_deliver")]
fn signal_deliver_raw(ctx: RawTracePointContext) -> i32 {
    signal::deliver(ctx.arg(0), ctx.arg(2))
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn sched_process_exec_raw(ctx: RawTracePointContext) -> i32 {
    task::exec(ctx.arg(1), ctx.arg(2))
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit_raw(ctx: RawTracePointContext) -> i32 {
    task::exit::<Helper>(ctx.arg(0))
}

// Where BTF is missing, the child's id cannot be read from its task; the tracepoint's own record holds it.
#[tracepoint(category = "task", name = "task_newtask")]
fn task_newtask_tracepoint(ctx: TracePointContext) -> u32 {
    task::fork_by_record(&ctx)
}

// On every wrapper of a system call, `__x64_sys_*` and `__ia32_*`.
#[kprobe]
fn sys_enter_kprobe(ctx: ProbeContext) -> i32 {
    ctx.arg(0).map_or(0, |regs| call::enter_wrapper(ctx.as_ptr(), regs))
}

// For comparison: sys_exit sees what this misses.
#[kretprobe]
fn sys_exit_kretprobe(ctx: RetProbeContext) -> i32 {
    call::exit_wrapper(ctx.as_ptr(), ctx.ret())
}

#[kprobe]
fn do_semtimedop_kprobe(ctx: ProbeContext) -> i32 {
    let (Some(sops), Some(count), Some(timeout)) = (ctx.arg(1), ctx.arg(2), ctx.arg(3)) else { return 0 };
    kernel_copy::operations(&Operations { sops, count, timeout })
}

#[kprobe]
fn sigprocmask_kprobe(ctx: ProbeContext) -> i32 {
    ctx.arg(1).map_or(0, kernel_copy::set)
}

// At the first instruction of a library function; the cookie is its code in the catalogue.
#[uprobe]
fn library(ctx: ProbeContext) -> u32 {
    // SAFETY: the context is this program's own.
    call::library(ctx.as_ptr(), unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u8)
}

// What an empty pair costs: the floor that `cargo xtask bench` measures against.
#[btf_tracepoint(function = "sys_enter")]
fn empty_enter(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn empty_exit(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No program here can panic; if one could, the verifier would refuse this endless loop.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
