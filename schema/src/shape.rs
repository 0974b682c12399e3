//! What the probes copy of a call besides its registers: derived from the catalogue, one number per kind of call.
//!
//! A call has up to two small pieces of user memory, `a` and `b`, copied at entry and again at exit: a difference means
//! that they changed under the kernel's hands. What the call returns in user memory is copied at exit alone. Lengths
//! follow the ABI of the call, so a shape also tells how its pieces are read.

use crate::catalogue::{Abi, Argument, CATALOGUE, EntryPoint, Family, Meaning, Origin, by_code, ipc};

/// Bytes of the first piece: the largest is `struct sigaction`; five `struct sembuf` fit too.
pub const A_BYTES: usize = 32;

/// Bytes of the second piece: `struct __kernel_timespec`.
pub const B_BYTES: usize = 16;

/// A piece of user memory: where its address is, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Piece {
    /// The argument that holds the address.
    pub argument: usize,
    /// Bytes; 0: no piece.
    pub bytes: usize,
}

/// What is copied of one kind of call, in one number that the probes take apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Shape(pub u64);

const PIECE_BITS: u32 = 9;
const A_SHIFT: u32 = 0;
const B_SHIFT: u32 = PIECE_BITS;
const RETURNED_SHIFT: u32 = 2 * PIECE_BITS;
const COUNT_SHIFT: u32 = 3 * PIECE_BITS;
const FLAGS_SHIFT: u32 = 32;

impl Shape {
    /// `a` is an array of `struct sembuf`; how many is in the argument [`Shape::count`].
    pub const SOPS: Shape = Shape(1 << FLAGS_SHIFT);
    /// The first argument is the name of a queue.
    pub const NAME: Shape = Shape(2 << FLAGS_SHIFT);
    /// The first argument is the descriptor of a queue.
    pub const QUEUE: Shape = Shape(4 << FLAGS_SHIFT);
    /// The call returns the descriptor of a queue.
    pub const QUEUE_RETURNED: Shape = Shape(8 << FLAGS_SHIFT);
    /// The mask of blocked signals matters.
    pub const MASK: Shape = Shape(16 << FLAGS_SHIFT);
    /// What is returned is at the 32-bit address that `a` begins with (`ipc(2)` msgrcv, version 0).
    pub const INDIRECT: Shape = Shape(32 << FLAGS_SHIFT);

    /// Whether it has this flag.
    #[inline(always)]
    pub const fn has(self, flag: Shape) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether nothing is copied.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    const fn piece(self, shift: u32) -> Piece {
        Piece { argument: (self.0 >> shift & 7) as usize, bytes: (self.0 >> (shift + 3) & 63) as usize }
    }

    /// The first piece, copied at entry and at exit.
    #[inline(always)]
    pub const fn a(self) -> Piece {
        self.piece(A_SHIFT)
    }

    /// The second.
    #[inline(always)]
    pub const fn b(self) -> Piece {
        self.piece(B_SHIFT)
    }

    /// What the call returns: copied at exit, in the place of `a` (of `b`, if [`Shape::INDIRECT`]).
    #[inline(always)]
    pub const fn returned(self) -> Piece {
        self.piece(RETURNED_SHIFT)
    }

    /// The argument that holds the number of `struct sembuf`.
    #[inline(always)]
    pub const fn count(self) -> usize {
        (self.0 >> COUNT_SHIFT & 7) as usize
    }

    const fn with(self, other: Shape) -> Shape {
        Shape(self.0 | other.0)
    }

    const fn with_piece(self, shift: u32, argument: usize, bytes: usize) -> Shape {
        Shape(self.0 | (argument as u64) << shift | (bytes as u64) << (shift + 3))
    }
}

/// How many shapes there are.
pub const SHAPES: usize = 192;

/// Where the shapes of `ipc(2)` begin, by operation.
const IPC_BASE: usize = 128;

/// The place of the version-0 msgrcv of `ipc(2)`.
const IPC_MSGRCV_0: usize = 30;

/// The place of a call's shape in [`TABLE`]. `call` is the first argument, which matters for `ipc(2)` only.
#[inline(always)]
pub const fn index(code: u8, is_i386: bool, call: u64) -> usize {
    if code == IPC_CODE {
        let (operation, version) = (call as usize & 0xffff, call >> 16 & 0xffff);
        let place = if operation == 12 && version == 0 { IPC_MSGRCV_0 } else { operation };
        return IPC_BASE + if place < 32 { place } else { 0 };
    }
    (code as usize & 63) + if is_i386 { 64 } else { 0 }
}

/// The code of `ipc(2)`.
pub const IPC_CODE: u8 = 13;

/// The shape of a call; its first argument matters for `ipc(2)` only.
pub fn of(code: u8, abi: Abi, call: u64) -> Shape {
    Shape(TABLE[index(code, matches!(abi, Abi::I386), call)])
}

/// Every shape, by [`index`].
pub static TABLE: [u64; SHAPES] = table();

const fn table() -> [u64; SHAPES] {
    let mut table = [0; SHAPES];
    let mut code = 1;
    while code as usize <= CATALOGUE.len() {
        if let Some(entry) = by_code(code) {
            table[index(code, false, 0)] = shape_of(entry, false).0;
            table[index(code, true, 0)] = shape_of(entry, true).0;
        }
        code += 1;
    }
    assert!(matches!(CATALOGUE[IPC_CODE as usize - 1].family, Family::Ipc));
    let none = Shape(0);
    let sops = none.with(Shape::SOPS).with_piece(A_SHIFT, ipc::PTR, 30);
    let sops = Shape(sops.0 | (ipc::SECOND as u64) << COUNT_SHIFT);
    table[IPC_BASE + 1] = sops.0;
    table[IPC_BASE + 4] = sops.with_piece(B_SHIFT, ipc::FIFTH, 8).0;
    // ptr points to union semun
    table[IPC_BASE + 3] = none.with_piece(A_SHIFT, ipc::PTR, 4).0;
    table[IPC_BASE + 11] = none.with_piece(A_SHIFT, ipc::PTR, 4).0;
    table[IPC_BASE + 12] = none.with_piece(RETURNED_SHIFT, ipc::PTR, 4).0;
    // ptr points to {msgp, msgtyp}
    table[IPC_BASE + IPC_MSGRCV_0] =
        none.with(Shape::INDIRECT).with_piece(A_SHIFT, ipc::PTR, 8).with_piece(RETURNED_SHIFT, ipc::PTR, 4).0;
    table[IPC_BASE + 21] = none.with_piece(RETURNED_SHIFT, ipc::THIRD, 4).0;
    table
}

const fn shape_of(entry: &EntryPoint, is_i386: bool) -> Shape {
    let mut shape = Shape(0);
    let (mut has_name, mut has_flags) = (false, false);
    let mut i = 0;
    while i < entry.arguments.len() {
        let argument = entry.arguments[i];
        has_name |= matches!(argument.meaning, Meaning::Name);
        has_flags |= matches!(argument.meaning, Meaning::Flags);
        shape = with_argument(shape, argument, i, is_i386);
        i += 1;
    }
    if has_name && has_flags {
        shape = shape.with(Shape::QUEUE_RETURNED);
    }
    if matches!(entry.family, Family::Sig) {
        shape = shape.with(Shape::MASK);
    }
    shape
}

/// Adds what one argument needs; the lengths are those of the kernel's structures, native and compat.
const fn with_argument(shape: Shape, argument: Argument, place: usize, is_i386: bool) -> Shape {
    let long = if is_i386 { 4 } else { 8 };
    if matches!(argument.origin, Origin::Register) {
        return match argument.meaning {
            Meaning::Descriptor => shape.with(Shape::QUEUE),
            Meaning::SemOpCount => Shape(shape.0 | (place as u64) << COUNT_SHIFT),
            _ => shape,
        };
    }
    match (argument.meaning, argument.origin) {
        (Meaning::SemOps, _) => shape.with(Shape::SOPS).with_piece(A_SHIFT, place, 30),
        (Meaning::Name, _) => shape.with(Shape::NAME),
        (Meaning::Timeout | Meaning::Deadline, _) => shape.with_piece(B_SHIFT, place, 16),
        (Meaning::Timeout32 | Meaning::Deadline32, _) => shape.with_piece(B_SHIFT, place, 8),
        (Meaning::Message, Origin::User) => shape.with_piece(A_SHIFT, place, long),
        (Meaning::Message, Origin::Kernel) => shape.with_piece(RETURNED_SHIFT, place, long),
        (Meaning::Priority, Origin::Kernel) => shape.with_piece(RETURNED_SHIFT, place, 4),
        (Meaning::Attributes, Origin::OptionalUser) => shape.with_piece(A_SHIFT, place, 4 * long),
        (Meaning::Notification, _) => shape.with_piece(A_SHIFT, place, 8 + long),
        (Meaning::SigSet, Origin::User | Origin::OptionalUser) => shape.with_piece(A_SHIFT, place, 8),
        (Meaning::SigSet32, _) => shape.with_piece(A_SHIFT, place, 4),
        (Meaning::PendingSet, _) => shape.with_piece(RETURNED_SHIFT, place, 8),
        (Meaning::PendingSet32, _) => shape.with_piece(RETURNED_SHIFT, place, 4),
        (Meaning::Disposition, _) => shape.with_piece(A_SHIFT, place, 3 * long + 8),
        (Meaning::Disposition32, _) => shape.with_piece(A_SHIFT, place, 16),
        _ => shape,
    }
}

const _: () = {
    assert!(CATALOGUE.len() < 64, "a code has 6 bits in the index");
    let mut i = 0;
    while i < SHAPES {
        let shape = Shape(TABLE[i]);
        assert!(shape.a().bytes <= A_BYTES && shape.returned().bytes <= A_BYTES && shape.b().bytes <= B_BYTES);
        assert!(shape.a().bytes == 0 || shape.returned().bytes == 0 || shape.has(Shape::INDIRECT));
        i += 1;
    }
};
