//! Ring bytes become records where they stand: every length and kind is checked, nothing is copied.

use bytemuck::Pod;
use ipc_schema::wire::{self, Header, Sembuf, Small, kind, tail, valid};

/// A checked record.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A call began.
    Enter {
        /// The argument registers.
        arguments: [u64; 6],
        /// What was copied.
        tail: Tail<'a>,
    },
    /// A call ended.
    Exit {
        /// The kernel's return value.
        ret: i64,
        /// What was copied.
        tail: Tail<'a>,
    },
    /// What the kernel itself took of the user memory of the call that the thread is inside of.
    KernelCopy(Tail<'a>),
    /// Who the thread is.
    Context(&'a wire::Context),
    /// A thread was created.
    Fork(&'a wire::Fork),
    /// A process replaced its program.
    Exec(&'a wire::Exec),
    /// A thread ended.
    TaskExit(&'a wire::TaskExit),
    /// A process made an IPC namespace for itself.
    Namespace(&'a wire::Namespace),
    /// A thread inside a call was woken.
    Waking(&'a wire::Waking),
    /// A signal was generated.
    Generate(&'a wire::Signal),
    /// A signal was delivered.
    Deliver(&'a wire::Signal),
    /// The user stack of the thread's next call: bytes of [`wire::Frame`].
    Stack(&'a [u8]),
    /// A library function was called.
    Library {
        /// The argument registers.
        arguments: [u64; 6],
        /// What was copied.
        tail: Tail<'a>,
    },
}

/// What was copied of a call besides its registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail<'a> {
    /// The pieces of user memory and the mask.
    pub small: Option<&'a Small>,
    /// What is behind a queue descriptor.
    pub queue: Option<&'a wire::Queue>,
    /// The name of a queue, up to its NUL.
    pub name: Option<&'a [u8]>,
    /// The semaphore operations, as bytes of [`Sembuf`].
    pub sops: &'a [u8],
}

/// Reads one record, which begins at a multiple of 8 bytes; `None` if its bytes are not what its kind says.
pub fn record(bytes: &[u8]) -> Option<(&Header, Record<'_>)> {
    let header: &Header = read(bytes)?;
    let record = match header.kind {
        kind::ENTER | kind::LIBRARY => {
            let enter: &wire::Enter = read(bytes)?;
            let (arguments, tail) = (enter.args, read_tail(header.tail, bytes.get(size_of_val(enter)..)?)?);
            match header.kind {
                kind::ENTER => Record::Enter { arguments, tail },
                _ => Record::Library { arguments, tail },
            }
        }
        kind::EXIT => {
            let exit: &wire::Exit = read(bytes)?;
            Record::Exit { ret: exit.ret, tail: read_tail(header.tail, bytes.get(size_of_val(exit)..)?)? }
        }
        kind::KERNEL_COPY => Record::KernelCopy(read_tail(header.tail, bytes.get(size_of_val(header)..)?)?),
        kind::CONTEXT => Record::Context(read(bytes)?),
        kind::FORK => Record::Fork(read(bytes)?),
        kind::EXEC => Record::Exec(read(bytes)?),
        kind::TASK_EXIT => Record::TaskExit(read(bytes)?),
        kind::NAMESPACE => Record::Namespace(read(bytes)?),
        kind::WAKING => Record::Waking(read(bytes)?),
        kind::SIGNAL_GENERATE => Record::Generate(read(bytes)?),
        kind::SIGNAL_DELIVER => Record::Deliver(read(bytes)?),
        kind::STACK => {
            let stack: &wire::Stack = read(bytes)?;
            let length = usize::try_from(stack.bytes).ok()?;
            Record::Stack(bytes.get(size_of_val(stack)..)?.get(..length)?)
        }
        _ => return None,
    };
    Some((header, record))
}

/// The operations in bytes of [`Sembuf`].
pub fn sembufs(bytes: &[u8]) -> impl ExactSizeIterator<Item = Sembuf> + '_ {
    bytes.chunks_exact(size_of::<Sembuf>()).map(bytemuck::pod_read_unaligned)
}

fn read_tail(kind: u8, bytes: &[u8]) -> Option<Tail<'_>> {
    if kind == tail::NONE {
        return Some(Tail::default());
    }
    let small: &Small = read(bytes)?;
    let mut tail = Tail { small: Some(small), ..Tail::default() };
    let count = (small.valid >> valid::SOPS_SHIFT) as usize;
    let length = count.checked_mul(size_of::<Sembuf>())?;
    match kind {
        tail::SMALL if count > 0 => tail.sops = bytes.get(std::mem::offset_of!(Small, a)..)?.get(..length)?,
        tail::SMALL => {}
        tail::QUEUE => tail.queue = Some(read(bytes)?),
        tail::NAMED => {
            tail.queue = Some(read(bytes)?);
            let name = bytes.get(size_of::<wire::Queue>()..)?.get(..wire::NAME_BYTES)?;
            let name = name.split(|b| *b == 0).next()?;
            tail.name = (small.valid & valid::NAME != 0).then_some(name);
        }
        tail::SOPS => tail.sops = bytes.get(size_of::<Small>()..)?.get(..length)?,
        _ => return None,
    }
    Some(tail)
}

fn read<T: Pod>(bytes: &[u8]) -> Option<&T> {
    bytemuck::try_from_bytes(bytes.get(..size_of::<T>())?).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use bytemuck::{Zeroable, bytes_of};

    #[test]
    fn short_and_unknown_records_are_refused() {
        let mut exit = wire::Exit::zeroed();
        exit.header.kind = kind::EXIT;
        let bytes = bytes_of(&exit);
        assert!(record(bytes).is_some());
        assert!((0..bytes.len()).all(|length| record(&bytes[..length]).is_none()));
        exit.header.kind = 200;
        assert!(record(bytes_of(&exit)).is_none());
        exit.header.kind = kind::EXIT;
        exit.header.tail = tail::SMALL;
        assert!(record(bytes_of(&exit)).is_none(), "the tail is missing");
    }

    #[test]
    fn more_operations_than_the_record_holds_are_refused() {
        let mut enter = wire::Enter::zeroed();
        (enter.header.kind, enter.header.tail) = (kind::ENTER, tail::SOPS);
        let with = |count: u32| {
            let small = Small { valid: valid::A | count << valid::SOPS_SHIFT, ..Small::zeroed() };
            let mut bytes = bytes_of(&enter).to_vec();
            bytes.extend_from_slice(bytes_of(&small));
            bytes.resize(size_of::<wire::Enter>() + size_of::<wire::Sops<64>>(), 0);
            bytes
        };
        assert!(record(&with(65)).is_none());
        let bytes = with(64);
        let (_, Record::Enter { tail, .. }) = record(&bytes).unwrap() else { panic!("no entry") };
        assert_eq!(sembufs(tail.sops).len(), 64);
    }
}
