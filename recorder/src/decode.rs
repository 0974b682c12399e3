//! Ring bytes become records: every length and kind is checked, nothing is transmuted.

use bytemuck::Pod;
use ipc_schema::wire::{self, Header, Sembuf, SopsHead, kind};

/// A checked record.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A call began.
    Enter {
        /// The argument registers.
        arguments: [u64; 6],
        /// The semaphore operations copied, as bytes of [`Sembuf`]; empty for other calls.
        sops: &'a [u8],
    },
    /// The operations of a call whose copy at entry faulted.
    LateSops {
        /// Bytes of [`Sembuf`].
        sops: &'a [u8],
    },
    /// A call ended.
    Exit {
        /// The kernel's return value.
        ret: i64,
    },
    /// A call ended whose beginning was not traced.
    Whole {
        /// The argument registers.
        arguments: [u64; 6],
        /// The kernel's return value.
        ret: i64,
    },
    /// Who the thread is.
    Context(wire::Context),
    /// A thread was created.
    Fork(wire::Fork),
    /// A process replaced its program.
    Exec(wire::Exec),
    /// A thread ended.
    TaskExit(wire::TaskExit),
}

/// Reads one record; `None` if its bytes are not what its kind says.
pub fn record(bytes: &[u8]) -> Option<(Header, Record<'_>)> {
    let header: Header = read(bytes)?;
    let record = match header.kind {
        kind::ENTER => Record::Enter { arguments: read::<wire::Enter>(bytes)?.args, sops: &[] },
        kind::ENTER_SOPS => {
            let (head, sops) = sops(bytes)?;
            Record::Enter { arguments: head.args, sops }
        }
        kind::LATE_SOPS => Record::LateSops { sops: sops(bytes)?.1 },
        kind::EXIT => Record::Exit { ret: read::<wire::Exit>(bytes)?.ret },
        kind::WHOLE => {
            let whole: wire::Whole = read(bytes)?;
            Record::Whole { arguments: whole.args, ret: whole.ret }
        }
        kind::CONTEXT => Record::Context(read(bytes)?),
        kind::FORK => Record::Fork(read(bytes)?),
        kind::EXEC => Record::Exec(read(bytes)?),
        kind::TASK_EXIT => Record::TaskExit(read(bytes)?),
        _ => return None,
    };
    Some((header, record))
}

/// The operations in bytes of [`Sembuf`].
pub fn sembufs(bytes: &[u8]) -> impl ExactSizeIterator<Item = Sembuf> + '_ {
    bytes.chunks_exact(size_of::<Sembuf>()).map(bytemuck::pod_read_unaligned)
}

fn sops(bytes: &[u8]) -> Option<(SopsHead, &[u8])> {
    let head: SopsHead = read(bytes)?;
    let length = (head.valid as usize).checked_mul(size_of::<Sembuf>())?;
    Some((head, bytes.get(size_of::<SopsHead>()..)?.get(..length)?))
}

fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    #[test]
    fn short_and_unknown_records_are_refused() {
        let mut exit = wire::Exit::zeroed();
        exit.header.kind = kind::EXIT;
        let bytes = bytemuck::bytes_of(&exit);
        assert!(record(bytes).is_some());
        assert!((0..bytes.len()).all(|length| record(&bytes[..length]).is_none()));
        exit.header.kind = 200;
        assert!(record(bytemuck::bytes_of(&exit)).is_none());
    }

    #[test]
    fn more_operations_than_the_record_holds_are_refused() {
        let mut head = SopsHead::zeroed();
        head.header.kind = kind::ENTER_SOPS;
        head.valid = 5;
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        bytes.resize(size_of::<wire::EnterSops<4>>(), 0);
        assert!(record(&bytes).is_none());
        head.valid = 4;
        bytes[..size_of::<SopsHead>()].copy_from_slice(bytemuck::bytes_of(&head));
        assert!(matches!(record(&bytes), Some((_, Record::Enter { sops, .. })) if sembufs(sops).len() == 4));
    }
}
