//! What the probes copied of a call's user memory, and whether it changed under the kernel's hands.

use crate::call::Call;
use crate::decode::Tail;
use ipc_schema::catalogue::{Abi, Meaning, Origin};
use ipc_schema::shape::{B_BYTES, Piece, Shape};
use ipc_schema::text;
use ipc_schema::wire::{Queue, Sembuf, Small, valid};

/// The pieces at entry and at exit, and what they lead to.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// At entry.
    pub before: Option<Small>,
    /// At exit.
    pub after: Option<Small>,
    /// The queue behind the descriptor: at entry; of mq_open at exit.
    pub queue: Option<Queue>,
    /// The name of a queue as the kernel got it, without the slash.
    pub name: Option<Box<str>>,
}

impl Copies {
    /// The first piece: at entry; where that faulted, at exit.
    pub fn a(&self) -> Option<&[u8]> {
        self.pick(Small::first)
    }

    /// The second piece: at entry; where that faulted, at exit.
    pub fn b(&self) -> Option<&[u8]> {
        self.pick(Small::second)
    }

    fn pick(&self, piece: fn(&Small) -> Option<&[u8]>) -> Option<&[u8]> {
        self.before.as_ref().and_then(piece).or_else(|| self.after.as_ref().and_then(piece))
    }

    /// What the call returned in user memory.
    pub fn returned(&self, shape: Shape) -> Option<&[u8]> {
        let after = self.after.as_ref()?;
        if shape.has(Shape::INDIRECT) { after.second() } else { after.first() }
    }

    /// The mask of blocked signals before.
    pub fn mask_before(&self) -> Option<u64> {
        self.before.filter(|s| s.valid & valid::MASK != 0).map(|s| s.blocked)
    }

    /// The mask of blocked signals after.
    pub fn mask_after(&self) -> Option<u64> {
        self.after.filter(|s| s.valid & valid::MASK != 0).map(|s| s.blocked)
    }
}

/// A signed integer of 4 or 8 bytes at `offset`.
pub fn signed(bytes: &[u8], offset: usize, length: usize) -> Option<i64> {
    let bytes = bytes.get(offset..offset + length)?;
    match length {
        4 => bytes.try_into().ok().map(i32::from_le_bytes).map(i64::from),
        8 => bytes.try_into().ok().map(i64::from_le_bytes),
        _ => None,
    }
}

/// An unsigned integer of 4 or 8 bytes at `offset`.
pub fn unsigned(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    let value = signed(bytes, offset, length)? as u64;
    Some(if length == 4 { value & 0xffff_ffff } else { value })
}

/// Whether user memory that the call reads differed between entry and exit; `None` where nothing could be compared.
/// What the call itself writes is not compared.
pub fn changed(call: &Call, entry_sops: &[Sembuf], exit: &Tail) -> Option<bool> {
    let shape = call.shape;
    if shape.has(Shape::SOPS) {
        let timeout = piece_changed(call, shape.b(), Small::second);
        let is_comparable = !entry_sops.is_empty() && !exit.sops.is_empty();
        let sops = is_comparable.then(|| crate::decode::sembufs(exit.sops).ne(entry_sops.iter().copied()));
        return either([sops, timeout]);
    }
    let a = piece_changed(call, shape.a(), Small::first);
    let b = if shape.has(Shape::INDIRECT) { None } else { piece_changed(call, shape.b(), Small::second) };
    let name = name_changed(call, exit);
    either([a, b, name])
}

/// Whether one of these is known to have changed; `None` where nothing was compared.
pub fn either<const N: usize>(changed: [Option<bool>; N]) -> Option<bool> {
    changed.into_iter().flatten().reduce(|x, y| x | y)
}

/// Puts the kernel's own copy of a set or a timeout in the place of that of user memory, where it differs; whether it
/// does, `None` where there is nothing of the kind to compare.
pub fn replace(call: &mut Call, own: &Small) -> Option<bool> {
    if call.shape.has(Shape::SOPS) {
        replace_timeout(call, own)
    } else if call.entry.name == "rt_sigprocmask" {
        replace_set(call, own)
    } else {
        None
    }
}

fn replace_set(call: &mut Call, own: &Small) -> Option<bool> {
    /// SIGKILL and SIGSTOP, which the kernel takes out of every set without a word.
    const NEVER_BLOCKED: u64 = 1 << 8 | 1 << 18;
    let own = unsigned(own.first()?, 0, 8)?;
    let before = call.copies.as_deref_mut()?.before.as_mut()?;
    let set = before.first().and_then(|a| unsigned(a, 0, 8));
    if set.is_some_and(|set| set & !NEVER_BLOCKED == own) {
        return Some(false);
    }
    before.a[..8].copy_from_slice(&own.to_le_bytes());
    before.valid |= valid::A;
    set.map(|_| true)
}

fn replace_timeout(call: &mut Call, own: &Small) -> Option<bool> {
    let (bytes, abi) = (call.shape.b().bytes, call.abi);
    let own = own.second()?;
    // There are none where the copy at entry faulted.
    let before = call.copies.get_or_insert_default().before.get_or_insert_with(bytemuck::Zeroable::zeroed);
    let timeout = before.second().and_then(|b| timespec_ns(b, bytes, abi));
    if timeout == timespec_ns(own, B_BYTES, Abi::X86_64) {
        return Some(false);
    }
    // Two fields of half the length each.
    for (to, from) in before.b[..bytes].chunks_exact_mut(bytes / 2).zip(own.chunks_exact(B_BYTES / 2)) {
        to.copy_from_slice(&from[..bytes / 2]);
    }
    before.valid |= valid::B;
    timeout.map(|_| true)
}

/// Picks a valid piece out of a tail.
trait Pieces {
    fn first(&self) -> Option<&[u8]>;
    fn second(&self) -> Option<&[u8]>;
}

impl Pieces for Small {
    fn first(&self) -> Option<&[u8]> {
        (self.valid & valid::A != 0).then_some(&self.a[..])
    }

    fn second(&self) -> Option<&[u8]> {
        (self.valid & valid::B != 0).then_some(&self.b[..])
    }
}

fn piece_changed(call: &Call, piece: Piece, pick: fn(&Small) -> Option<&[u8]>) -> Option<bool> {
    let copies = call.copies.as_deref()?;
    let (before, after) = (pick(copies.before.as_ref()?)?, pick(copies.after.as_ref()?)?);
    let address = *call.registers.get(piece.argument)?;
    if piece.bytes == 0 || is_written(call, address, piece.bytes as u64) {
        return None;
    }
    Some(before.get(..piece.bytes) != after.get(..piece.bytes))
}

fn name_changed(call: &Call, exit: &Tail) -> Option<bool> {
    let before = call.copies.as_deref()?.name.as_deref()?;
    Some(text::of_bytes(exit.name?) != before)
}

/// Whether the call itself writes to this user memory.
fn is_written(call: &Call, address: u64, bytes: u64) -> bool {
    let arguments = call.layout.arguments.iter().zip(call.arguments);
    let mut written = arguments.filter(|(argument, to)| argument.origin == Origin::Kernel && *to != 0);
    written.any(|(argument, to)| {
        let length = written_bytes(call, argument.meaning);
        to < address.saturating_add(bytes) && address < to.saturating_add(length)
    })
}

/// The most that the kernel writes for an argument.
fn written_bytes(call: &Call, meaning: Meaning) -> u64 {
    let size = || call.argument(Meaning::Size).map_or(0, |s| s.max(0) as u64);
    match meaning {
        Meaning::Message => size().saturating_add(8),
        Meaning::Body => size(),
        Meaning::Attributes => 64,
        Meaning::SignalInfo => 128,
        Meaning::OldDisposition => 32,
        Meaning::Priority => 4,
        _ => 8,
    }
}

/// Seconds and nanoseconds as nanoseconds, by the length of the structure: 8 bytes are two 32-bit fields.
pub fn timespec_ns(bytes: &[u8], length: usize, abi: Abi) -> Option<i64> {
    let field = length / 2;
    let (seconds, mut nanoseconds) = (signed(bytes, 0, field)?, signed(bytes, field, field)?);
    if abi == Abi::I386 && length == 16 {
        // The kernel ignores the padding of a 32-bit program's nanoseconds: kernel/time/time.c, get_timespec64.
        nanoseconds &= 0xffff_ffff;
    }
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use bytemuck::Zeroable;
    use ipc_schema::catalogue::CATALOGUE;

    fn with_sets(registers: [u64; 6], before: u64, after: u64) -> Call {
        let entry = CATALOGUE.iter().find(|e| e.name == "rt_sigprocmask").unwrap();
        let mut call = Call::begun(1, 0, entry, Abi::X86_64, registers);
        let small = |set: u64| {
            let mut small = Small { valid: valid::A, ..Small::zeroed() };
            small.a[..8].copy_from_slice(&set.to_le_bytes());
            Some(small)
        };
        call.copies = Some(Box::new(Copies { before: small(before), after: small(after), ..Copies::default() }));
        call
    }

    #[test]
    fn a_set_that_another_thread_changed_is_seen_and_one_that_the_call_wrote_is_not() {
        let (set, old) = (0x1000, 0x2000);
        let call = with_sets([0, set, old, 8, 0, 0], 1, 2);
        assert_eq!(changed(&call, &[], &Tail::default()), Some(true));
        let call = with_sets([0, set, old, 8, 0, 0], 1, 1);
        assert_eq!(changed(&call, &[], &Tail::default()), Some(false));
        for aliased in [set, set + 4, set - 7] {
            let call = with_sets([0, set, aliased, 8, 0, 0], 1, 2);
            assert_eq!(changed(&call, &[], &Tail::default()), None, "{aliased:#x}");
        }
        let call = with_sets([0, set, set - 8, 8, 0, 0], 1, 2);
        assert_eq!(changed(&call, &[], &Tail::default()), Some(true), "beside is not over");
    }

    #[test]
    fn what_could_not_be_copied_at_entry_is_read_at_exit() {
        let mut call = with_sets([0, 0x1000, 0, 8, 0, 0], 1, 2);
        call.copies.as_mut().unwrap().before.as_mut().unwrap().valid = 0;
        assert_eq!(call.sig_set(), Some(2));
        assert_eq!(changed(&call, &[], &Tail::default()), None);
    }

    #[test]
    fn times_are_read_by_their_width() {
        let mut bytes = [0u8; 16];
        bytes[..4].copy_from_slice(&2i32.to_le_bytes());
        bytes[4..8].copy_from_slice(&7i32.to_le_bytes());
        assert_eq!(timespec_ns(&bytes, 8, Abi::I386), Some(2_000_000_007));
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&2i64.to_le_bytes());
        bytes[8..].copy_from_slice(&(7 | 0xdead_i64 << 32).to_le_bytes());
        assert_eq!(timespec_ns(&bytes, 16, Abi::I386), Some(2_000_000_007), "the padding is ignored");
        bytes[..8].copy_from_slice(&i64::MAX.to_le_bytes());
        assert_eq!(timespec_ns(&bytes, 16, Abi::X86_64), Some(i64::MAX), "no overflow");
    }
}
