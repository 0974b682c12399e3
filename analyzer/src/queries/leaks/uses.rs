//! Who used the objects that are left: distinct processes, and when it was for the last time.
//!
//! Pairs of object and process that do not fit the memory are put off by their hash and counted in a further pass.

use super::left::Living;
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::opened::Opened;
use crate::passes::{Pass, Passes, stable_hash};
use crate::query::{GroupStatistics, Query};
use crate::scan;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// What the pairs of all threads may take together, bytes.
const BUDGET_BYTES: usize = 128 << 20;
const PAIR_BYTES: usize = (size_of::<Pair>() + size_of::<i64>()) * 2;

/// Trace, lifetime, process.
type Pair = (usize, i64, i64);

/// The use of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Distinct processes that made a call on it after its making.
    pub users: u64,
    /// Of these without its maker: those that had not ended.
    pub living: u64,
    /// The end of the last call; of one that is open the end of the recording.
    pub last_ns: Option<i64>,
    /// Whether a call that was asked for concerns it, its making included.
    pub is_asked: bool,
}

/// What is asked of each object: who made it, in which call.
pub type Made = HashMap<(usize, i64), (Option<i64>, Option<i64>)>;

/// Asks the traces.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, made: &Made, living: &Living) -> Result<HashMap<(usize, i64), Use>, Error> {
    let mut uses: HashMap<(usize, i64), Use> = HashMap::new();
    if made.is_empty() {
        return Ok(uses);
    }
    let mut passes = Passes::new();
    while let Some(pass) = passes.begin() {
        let query = UseQuery { opened, made, pass, bytes: BUDGET_BYTES / rayon::current_num_threads() };
        let mut partial = scan::fold(&opened.traces, &opened.selection, &query)?;
        query.put_off(&mut partial);
        passes.end(&query.pass);
        for ((trace, object_ref, process_id), last_ns) in partial.pairs {
            let of = uses.entry((trace, object_ref)).or_default();
            of.is_asked = true;
            // The making is no use.
            let Some(last_ns) = last_ns else { continue };
            let maker = made.get(&(trace, object_ref)).and_then(|(maker, _)| *maker);
            of.users += 1;
            of.living += u64::from(maker != Some(process_id) && living.has(trace, process_id));
            of.last_ns = of.last_ns.max(Some(last_ns));
        }
    }
    Ok(uses)
}

struct UseQuery<'a> {
    opened: &'a Opened,
    made: &'a Made,
    pass: Pass,
    /// What the pairs of a thread may take.
    bytes: usize,
}

#[derive(Default)]
struct Partial {
    /// The end of the last use; `None`: made it and did not use it.
    pairs: HashMap<Pair, Option<i64>>,
    bits: u32,
}

impl Query for UseQuery<'_> {
    type Partial = Partial;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["object_ref", "process_id", "call_id", "end_ns", "error"]
    }

    fn empty(&self) -> Partial {
        Partial { bits: self.pass.bits(), ..Partial::default() }
    }

    fn fold(&self, partial: &mut Partial, batch: &Batch) -> Result<(), Error> {
        self.put_off(partial);
        let (refs, processes) = (batch.int64("object_ref")?, batch.int64("process_id")?);
        let (ids, ends, errors) = (batch.int64("call_id")?, batch.int64("end_ns")?, batch.text("error")?);
        let (_, end_ns) = self.opened.span_ns(batch.trace);
        for row in 0..batch.rows() {
            let Some(object_ref) = int64_at(refs, row) else { continue };
            let Some((_, made_in)) = self.made.get(&(batch.trace, object_ref)) else { continue };
            let pair = (batch.trace, object_ref, processes.value(row));
            if partial.bits > 0 && !self.pass.holds(hash(&pair), partial.bits) {
                continue;
            }
            let is_use = *made_in != Some(ids.value(row)) && errors.index(row).is_none();
            let last_ns = is_use.then(|| int64_at(ends, row).unwrap_or(end_ns));
            let known = partial.pairs.entry(pair).or_default();
            *known = (*known).max(last_ns);
        }
        if partial.pairs.len() * PAIR_BYTES > self.bytes && partial.pairs.len() > 1 {
            self.pass.put_off_half(partial.bits);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, mut from: Partial) {
        self.put_off(into);
        self.put_off(&mut from);
        for (pair, last_ns) in from.pairs {
            let known = into.pairs.entry(pair).or_default();
            *known = (*known).max(last_ns);
        }
    }
}

impl UseQuery<'_> {
    /// Drops the pairs of later passes if memory ran short in any thread.
    fn put_off(&self, partial: &mut Partial) {
        self.pass.catch_up(&mut partial.bits, |holds| {
            partial.pairs.retain(|pair, _| holds(hash(pair)));
            partial.pairs.shrink_to_fit();
        });
    }
}

/// The same in every thread.
fn hash((trace, object_ref, process_id): &Pair) -> u64 {
    stable_hash(&[*trace as u64, *object_ref as u64, *process_id as u64])
}
