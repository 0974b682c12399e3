//! The user stack of a call, by frame pointers, as build ids and offsets.

use crate::call::With;
use crate::maps::OPTIONS;
use crate::ring::{Cpu, Label};
use aya_ebpf::helpers::generated::bpf_get_stack;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use ipc_schema::wire::{FRAMES_ROOM, Frame, Stack, flag, kind, option};

/// `include/uapi/linux/bpf.h`.
const BPF_F_USER_STACK: u64 = 1 << 8;
const BPF_F_USER_BUILD_ID: u64 = 1 << 11;

/// Writes the user stack, if it was asked for; returns the flag of the call's own record, which follows.
#[inline(always)]
pub fn write(cpu: Cpu, ctx: *mut c_void) -> u8 {
    if OPTIONS.load() & option::STACKS == 0 {
        return 0;
    }
    let is_written = if is_deep(ctx) {
        write_frames::<{ FRAMES_ROOM[1] }>(cpu, ctx)
    } else {
        write_frames::<{ FRAMES_ROOM[0] }>(cpu, ctx)
    };
    if is_written { flag::STACK } else { 0 }
}

/// Whether the stack has more frames than the small record holds; without build ids, which cost more than the walk.
#[inline(always)]
fn is_deep(ctx: *mut c_void) -> bool {
    const ROOM: usize = FRAMES_ROOM[0] + 1;
    let mut addresses = MaybeUninit::<[u64; ROOM]>::uninit();
    let bytes = size_of_val(&addresses);
    // SAFETY: the helper writes at most `bytes`; the context is this program's own.
    unsafe { bpf_get_stack(ctx, addresses.as_mut_ptr().cast(), bytes as u32, BPF_F_USER_STACK) == bytes as i64 }
}

#[inline(always)]
fn write_frames<const N: usize>(cpu: Cpu, ctx: *mut c_void) -> bool {
    let Some(mut record) = cpu.reserve::<With<Stack, [Frame; N]>>(Label::of(kind::STACK)) else { return false };
    let pointer = record.pointer();
    // SAFETY: the record is a Stack with room for N frames; the context is this program's own.
    unsafe {
        let frames = (&raw mut (*pointer).tail).cast();
        let bytes = bpf_get_stack(ctx, frames, size_of::<[Frame; N]>() as u32, BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
        // A thread without user memory has no frames.
        (&raw mut (*pointer).fixed.bytes).write(if bytes > 0 { bytes } else { 0 });
    }
    record.submit();
    true
}
