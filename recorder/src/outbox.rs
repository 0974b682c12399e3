//! What the capture hands to the writer: in pieces, so that what waits between them is bounded, and never for ever, so that
//! a disk that hangs costs calls, which are counted, and not the names of threads and processes.

use crate::finished::{Calls, Finished, Loss};
use crossbeam_channel::{Receiver, Select, Sender};
use ipc_schema::losses;
use std::time::Duration;

/// Calls of one piece: what the writer makes one batch of.
pub const PIECE_CALLS: usize = 4_096;
/// What a piece takes in memory, roughly: bytes.
pub const PIECE_BYTES: usize = PIECE_CALLS * 512;

/// How many pieces that were written are kept to be filled again.
pub const EMPTIED_MAX: usize = 4;

/// How long the writer may take for a piece; meanwhile the rings fill.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the writer may not have taken yet of what is no call, while it hangs: rows.
const HELD_MAX: usize = 1 << 20;

/// The way to the writer.
pub struct Outbox {
    rows: Sender<Finished>,
    /// Calls that were written.
    emptied: Receiver<Calls>,
    /// Until when everything was handed on, CLOCK_BOOTTIME nanoseconds.
    pub until_ns: u64,
    /// Pieces that were.
    pub sent: u64,
    /// While the writer hangs.
    held: Option<Held>,
    /// What lives was told to nobody.
    is_untold: bool,
    /// Calls that were lost on the way.
    pub lost_calls: u64,
    /// Rows that are no calls, too.
    pub lost_others: u64,
}

/// What became of the rows for a writer that hangs.
#[derive(Default)]
struct Held {
    /// Those that are kept: no calls.
    rows: Finished,
    lost_calls: u64,
    /// Rows that are no calls.
    lost_others: u64,
}

/// The writer is gone.
pub struct Gone;

impl Outbox {
    /// An outbox; rows are younger than `start_ns`.
    pub fn new(rows: Sender<Finished>, emptied: Receiver<Calls>, start_ns: u64) -> Outbox {
        Outbox {
            rows,
            emptied,
            until_ns: start_ns,
            sent: 0,
            held: None,
            is_untold: false,
            lost_calls: 0,
            lost_others: 0,
        }
    }

    /// Hands rows on.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn send(&mut self, mut finished: Finished) -> Result<(), Gone> {
        let mut calls = std::mem::take(&mut finished.calls).into_iter();
        while calls.len() > PIECE_CALLS {
            let piece = calls.by_ref().take(PIECE_CALLS).collect();
            self.send_piece(Finished { calls: piece, until_ns: self.until_ns, ..Finished::default() })?;
        }
        finished.calls = calls.collect();
        self.send_piece(finished)
    }

    /// Calls that were written: their boxes can be filled again.
    pub fn emptied(&self) -> Calls {
        self.emptied.try_recv().unwrap_or_default()
    }

    /// Hands the last rows on, however long that takes.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn finish(&mut self, finished: Finished) -> Result<(), Gone> {
        let piece = self.with_held(finished);
        self.rows.send(piece).map_err(|_| Gone)
    }

    fn send_piece(&mut self, piece: Finished) -> Result<(), Gone> {
        if !self.has_room() {
            self.lost_calls += piece.calls.len() as u64;
            self.is_untold |= piece.living.is_some();
            self.held.get_or_insert_default().take(piece);
            return Ok(());
        }
        let piece = self.with_held(piece);
        self.until_ns = piece.until_ns;
        self.sent += 1;
        self.rows.send(piece).map_err(|_| Gone)
    }

    /// Whether all that lives is to be told: what was told of it went to a writer that hung, and does not any more.
    pub fn owes_living(&mut self) -> bool {
        self.held.is_none() && std::mem::take(&mut self.is_untold)
    }

    /// Pieces that wait for the writer.
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }

    /// Whether the writer takes a piece; it is waited for, but not again as long as it hangs.
    fn has_room(&self) -> bool {
        let patience = if self.held.is_some() { Duration::ZERO } else { PATIENCE };
        let mut way = Select::new();
        way.send(&self.rows);
        way.ready_timeout(patience).is_ok()
    }

    /// What was held back goes first, and what was lost is told.
    fn with_held(&mut self, piece: Finished) -> Finished {
        let Some(mut held) = self.held.take() else { return piece };
        let (from_ns, to_ns) = (self.until_ns, piece.until_ns);
        self.lost_others += held.lost_others;
        held.rows.append(piece);
        for (source, count) in [(losses::QUEUE_FULL, held.lost_calls), (losses::RECORDS, held.lost_others)] {
            if count > 0 {
                held.rows.losses.push(Loss { from_ns, to_ns, source, cpu: None, count: Some(count as i64) });
            }
        }
        held.rows
    }
}

impl Held {
    fn take(&mut self, mut piece: Finished) {
        self.lost_calls += piece.calls.len() as u64;
        self.lost_others += piece.signals.len() as u64;
        piece.calls.clear();
        piece.signals.clear();
        piece.living = None; // it is told again
        if self.rows.len() + piece.len() > HELD_MAX {
            self.lost_others += (piece.len() - piece.losses.len()) as u64;
            self.rows.losses.append(&mut piece.losses);
        } else {
            self.rows.append(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crossbeam_channel::bounded;

    fn piece(until_ns: u64, calls: usize, losses: i64) -> Finished {
        let entry = ipc_schema::catalogue::CATALOGUE.first().unwrap();
        let call =
            || Box::new(crate::call::Call::begun(1, until_ns, entry, ipc_schema::catalogue::Abi::X86_64, [0; 6]));
        let loss = Loss { from_ns: 0, to_ns: 1, source: losses::X32, cpu: None, count: Some(losses) };
        let calls = std::iter::repeat_with(call).take(calls).collect();
        Finished { calls, losses: vec![loss], until_ns, ..Finished::default() }
    }

    /// Everything that arrives: calls, and the losses of each source.
    fn taken(rows: &Receiver<Finished>) -> (usize, i64, i64) {
        let pieces: Vec<Finished> = rows.try_iter().collect();
        let all = || pieces.iter().flat_map(|piece| &piece.losses);
        let lost = |source| all().filter(|loss| loss.source == source).filter_map(|loss| loss.count).sum();
        (pieces.iter().map(|piece| piece.calls.len()).sum(), lost(losses::QUEUE_FULL), lost(losses::X32))
    }

    #[test]
    fn calls_for_a_writer_that_hangs_are_counted_and_the_rest_is_kept() {
        let (send, receive) = bounded(2);
        let mut outbox = Outbox::new(send, crossbeam_channel::never(), 0);
        for until in 1..=5 {
            assert!(outbox.send(piece(until, 10, 1)).is_ok());
        }
        assert_eq!(outbox.lost_calls, 30);
        assert_eq!(taken(&receive), (20, 0, 2));
        assert!(outbox.send(piece(6, 10, 1)).is_ok());
        assert_eq!(taken(&receive), (10, 30, 4));
        assert!(outbox.finish(piece(7, 1, 1)).is_ok());
        assert_eq!(taken(&receive), (1, 0, 1));
    }

    #[test]
    fn only_the_last_of_many_calls_say_until_when_they_are_all() {
        let (send, receive) = bounded(9);
        let mut outbox = Outbox::new(send, crossbeam_channel::never(), 3);
        assert!(outbox.send(piece(8, 2 * PIECE_CALLS + 1, 1)).is_ok());
        let pieces: Vec<_> = receive.try_iter().map(|piece| (piece.until_ns, piece.calls.len())).collect();
        assert_eq!(pieces, [(3, PIECE_CALLS), (3, PIECE_CALLS), (8, 1)]);
    }
}
