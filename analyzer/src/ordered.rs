//! Reads calls in the order of their ends, split by object: for questions in which what one call did to an object bears
//! on the next one.
//!
//! Rows of a trace rise in `end_ns`, over its parts too. A window of row groups is decoded in parallel, each row group
//! cut into one piece per shard; then every shard takes its pieces in order, in parallel with the other shards. Memory is
//! one window of pieces, and the state of the shards.
//!
//! Backwards, from the last row to the first, a sweep over intervals needs no sorting: they come by falling ends, and a
//! heap of the starts of those that are active (no more than there are threads) tells when each begins.

use crate::batch::Batch;
use crate::error::Error;
use crate::filter::Selection;
use crate::part::{self, Checksum, OpenPart};
use crate::progress::Progress;
use crate::query::GroupStatistics;
use crate::scan::{self, RowGroupReader, StatisticsOf};
use crate::trace::Trace;
use ipc_schema::tables;
use rayon::prelude::*;

/// Row groups decoded ahead per thread.
const WINDOW_PER_THREAD: usize = 2;

/// In which direction of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The earliest end first, open calls after all others of their part.
    Forwards,
    /// The last row first; pieces hold their rows in the file's order, so their last row comes first.
    Backwards,
}

/// A question to the calls of each object in the order of their ends.
pub trait OrderedQuery: Sync {
    /// What one shard needs of the rows of one row group: columns of its own, not the rows.
    type Piece: Send + Sync;
    /// What is known of the objects of one shard.
    type Shard: Send;

    /// The columns to read of a row group.
    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str>;

    /// An empty piece.
    fn piece(&self) -> Self::Piece;

    /// Adds the rows of a batch to the pieces of their shards: [`shard_of`] says which. Batches of a row group come in the
    /// order of the file.
    ///
    /// # Errors
    /// Rows that cannot be believed.
    fn cut(&self, batch: &Batch, pieces: &mut [Self::Piece]) -> Result<(), Error>;

    /// A shard that has seen nothing.
    fn shard(&self) -> Self::Shard;

    /// Adds the next piece in the direction of the scan.
    ///
    /// # Errors
    /// Rows that cannot be believed.
    fn fold(&self, shard: &mut Self::Shard, piece: &Self::Piece) -> Result<(), Error>;
}

/// The shard of an object: the same for all calls on one lifetime.
#[inline]
pub fn shard_of(object_ref: i64, shards: usize) -> usize {
    // Odd, and otherwise of no meaning (2^64 divided by the golden ratio): neighbours go to different shards.
    let spread = (object_ref as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (spread as usize) % shards.max(1)
}

/// Adds each call to the piece of its shard, which `key` tells.
pub fn deal<C>(calls: impl Iterator<Item = C>, key: impl Fn(&C) -> i64, pieces: &mut [Vec<C>]) {
    let shards = pieces.len();
    calls.for_each(|call| pieces[shard_of(key(&call), shards)].push(call));
}

/// Asks `query` of every call of one trace that `selection` keeps; the shards, each of which has seen other objects.
///
/// # Errors
/// The first file that cannot be believed.
pub fn fold<Q: OrderedQuery>(
    trace: (usize, &Trace),
    selection: &Selection,
    direction: Direction,
    query: &Q,
) -> Result<Vec<Q::Shard>, Error> {
    let (number, trace) = trace;
    let parts = trace.parts_of(&tables::CALLS);
    let progress = Progress::new(tables::CALLS.name, parts.iter().map(|part| part.bytes).sum());
    let count = rayon::current_num_threads();
    let mut shards: Vec<Q::Shard> = (0..count).map(|_| query.shard()).collect();
    let mut order: Vec<_> = parts.iter().collect();
    if direction == Direction::Backwards {
        order.reverse();
    }
    for part in order {
        let part = part::open(part, Checksum::Verify)?;
        let groups = part.metadata.metadata().row_groups();
        let mut wanted: Vec<usize> = (0..groups.len())
            .filter(|i| groups[*i].num_rows() > 0 && selection.may_match(number, &groups[*i]))
            .collect();
        if direction == Direction::Backwards {
            wanted.reverse();
        }
        for window in wanted.chunks(count * WINDOW_PER_THREAD) {
            let cut = |group: &usize| cut_row_group(number, &part, *group, selection, query, count);
            let pieces: Vec<Vec<Q::Piece>> = window.par_iter().map(cut).collect::<Result<_, _>>()?;
            shards
                .par_iter_mut()
                .enumerate()
                .try_for_each(|(i, shard)| pieces.iter().try_for_each(|of_group| query.fold(shard, &of_group[i])))?;
        }
        progress.add(part.part.bytes);
    }
    Ok(shards)
}

fn cut_row_group<Q: OrderedQuery>(
    trace: usize,
    part: &OpenPart,
    group: usize,
    selection: &Selection,
    query: &Q,
    shards: usize,
) -> Result<Vec<Q::Piece>, Error> {
    let mut columns = query.columns(&StatisticsOf(part.metadata.metadata().row_group(group)));
    for column in selection.columns() {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let mut pieces: Vec<Q::Piece> = (0..shards).map(|_| query.piece()).collect();
    for batch in RowGroupReader::new(trace, part, group, &columns)? {
        let batch = scan::select(batch?, selection)?;
        if batch.rows() > 0 {
            query.cut(&batch, &mut pieces)?;
        }
    }
    Ok(pieces)
}
