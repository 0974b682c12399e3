//! Copies of user memory, by the shape of a call.

use aya_ebpf::helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str};
use core::arch::asm;
use ipc_schema::shape::{A_BYTES, B_BYTES, Piece, Shape};
use ipc_schema::wire::{NAME_BYTES, Named, SOPS_ROOM, Sembuf, Small, Sops, valid};

/// The argument registers of a call, with room so that any index of three bits is inside.
pub type Arguments = [u64; 8];

/// The argument of a place.
#[inline(always)]
pub fn argument(arguments: &Arguments, place: usize) -> u64 {
    let base = arguments.as_ptr();
    // SAFETY: 8 values, and the place is below 8; volatile, so that the index stays masked as the verifier sees it.
    unsafe { base.add(place & 7).read_volatile() }
}

/// How many `struct sembuf` a call has: `unsigned nsops`.
#[inline(always)]
pub fn sop_count(arguments: &Arguments, shape: Shape) -> u64 {
    low_half(argument(arguments, shape.count()))
}

/// The low 32 bits.
#[inline(always)]
pub fn low_half(mut value: u64) -> u64 {
    // By hand: the compiler would go on with the register before the mask, whose bounds the verifier has not seen.
    // SAFETY: two shifts.
    unsafe { asm!("{v} <<= 32", "{v} >>= 32", v = inout(reg) value) };
    value
}

/// The length of a piece, masked by hand: the compiler would fold two comparisons of it into one of another register, and
/// the verifier of 6.1 bounds only the register that is compared.
#[inline(always)]
fn masked(mut bytes: usize) -> usize {
    // SAFETY: a length has 6 bits.
    unsafe { asm!("{b} &= 63", b = inout(reg) bytes) };
    bytes
}

/// Copies a piece of at most `ROOM` bytes; whether there was one and it could be read.
///
/// # Safety
/// `to` has room for `ROOM` bytes.
#[inline(always)]
unsafe fn piece<const ROOM: usize>(to: *mut u8, address: u64, bytes: usize) -> bool {
    if address == 0 || bytes == 0 {
        return false;
    }
    let bytes = masked(bytes);
    if bytes > ROOM {
        return false;
    }
    // SAFETY: the caller's promise; a fault is reported by the helper.
    unsafe { bpf_probe_read_user(to.cast(), bytes as u32, address as *const _) == 0 }
}

#[inline(always)]
fn address(arguments: &Arguments, piece: Piece) -> u64 {
    argument(arguments, piece.argument)
}

/// Fills in the pieces; `a` is what the call returned, if it returns something and `at_exit`.
///
/// # Safety
/// `to` is a record's tail.
#[inline(always)]
pub unsafe fn small(to: *mut Small, arguments: &Arguments, shape: Shape, blocked: u64, at_exit: bool) {
    let mut valid = 0;
    // SAFETY: the caller's promise.
    unsafe {
        let (to_a, to_b) = ((&raw mut (*to).a).cast::<u8>(), (&raw mut (*to).b).cast::<u8>());
        if shape.has(Shape::SOPS) {
            valid |= few_sops(to_a, arguments, shape);
        } else {
            let a = shape.a();
            let from = if a.bytes == 0 && at_exit { shape.returned() } else { a };
            if piece::<A_BYTES>(to_a, address(arguments, from), from.bytes) {
                valid |= valid::A;
            }
        }
        let b = shape.b();
        if piece::<B_BYTES>(to_b, address(arguments, b), b.bytes) {
            valid |= valid::B;
        }
        if at_exit && shape.has(Shape::INDIRECT) && valid & valid::A != 0 {
            let inner = u64::from(to_a.cast::<u32>().read());
            if piece::<B_BYTES>(to_b, inner, shape.returned().bytes) {
                valid |= valid::B;
            }
        }
        if shape.has(Shape::MASK) {
            (&raw mut (*to).blocked).write(blocked);
            valid |= valid::MASK;
        }
        (&raw mut (*to).valid).write(valid);
        (&raw mut (*to).padding).write(0);
    }
}

/// Up to five operations in the place of `a`.
///
/// # Safety
/// `to` has room for `A_BYTES`.
#[inline(always)]
unsafe fn few_sops(to: *mut u8, arguments: &Arguments, shape: Shape) -> u32 {
    let count = sop_count(arguments, shape);
    if count == 0 || count > SOPS_ROOM[0] as u64 {
        return 0;
    }
    let bytes = count * size_of::<Sembuf>() as u64;
    let from = argument(arguments, shape.a().argument);
    // SAFETY: at most 30 bytes; a fault is reported by the helper.
    let copied = unsafe { bpf_probe_read_user(to.cast(), bytes as u32, from as *const _) == 0 };
    if copied { valid::A | (count as u32) << valid::SOPS_SHIFT } else { 0 }
}

/// Many operations.
///
/// # Safety
/// `to` is a record's tail.
#[inline(always)]
pub unsafe fn sops<const N: usize>(to: *mut Sops<N>, arguments: &Arguments, shape: Shape) {
    let count = sop_count(arguments, shape);
    let count = if count > N as u64 { N as u64 } else { count };
    let from = argument(arguments, shape.a().argument);
    // SAFETY: the caller's promise; `count` is at most N.
    unsafe {
        small(&raw mut (*to).small, arguments, shape, 0, false);
        let place = (&raw mut (*to).sops).cast();
        if bpf_probe_read_user(place, (count * size_of::<Sembuf>() as u64) as u32, from as *const _) == 0 {
            let valid = &raw mut (*to).small.valid;
            valid.write(valid.read() | valid::A | (count as u32) << valid::SOPS_SHIFT);
        }
    }
}

/// The name of a queue, in the first argument.
///
/// # Safety
/// `to` is a record's tail whose pieces are filled in.
#[inline(always)]
pub unsafe fn name(to: *mut Named, arguments: &Arguments) {
    // SAFETY: the caller's promise; the helper writes at most NAME_BYTES.
    unsafe {
        let place = (&raw mut (*to).name).cast();
        if bpf_probe_read_user_str(place, NAME_BYTES as u32, arguments[0] as *const _) > 0 {
            let valid = &raw mut (*to).queue.small.valid;
            valid.write(valid.read() | valid::NAME);
        }
    }
}
