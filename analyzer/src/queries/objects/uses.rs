//! Calls by object and process, exactly, in bounded memory: objects whose pairs do not fit are put off to a further pass;
//! of all passes the busiest pairs and objects stay.

use super::{Key, OBJECTS_MAX};
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::opened::Opened;
use crate::passes::{Pass, Passes, stable_hash};
use crate::query::{GroupStatistics, Query};
use crate::scan;
use arrow::array::Array;
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables::{self, Table};
use std::cmp::Reverse;

/// What the pairs of all threads may take together, bytes.
const BUDGET_BYTES: usize = 128 << 20;
/// A pair in a table, and the slack of the table.
const PAIR_BYTES: usize = size_of::<((Key, i64), Use)>() * 2;

/// What one process did to one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub key: Key,
    pub process_id: i64,
    pub calls: u64,
    pub errors: u64,
    pub total_ns: i128,
    pub wait_ns: i128,
    /// Start of the first call.
    pub first_ns: i64,
    /// Last end of a call; its start, if it is open.
    pub last_ns: i64,
}

/// What all processes did to one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectUse {
    pub key: Key,
    pub processes: u64,
    pub calls: u64,
    pub errors: u64,
    pub total_ns: i128,
    pub wait_ns: i128,
    pub first_ns: i64,
    pub last_ns: i64,
}

/// The answer, the busiest first.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub objects: Vec<ObjectUse>,
    pub pairs: Vec<Use>,
    /// Pairs that did not fit.
    pub left_out: u64,
}

impl Uses {
    /// Counts all calls that the question is about.
    pub(super) fn read(opened: &Opened) -> Result<Uses, Error> {
        let mut uses = Uses::default();
        let mut passes = Passes::new();
        while let Some(pass) = passes.begin() {
            let query = UseQuery { pass, bytes: BUDGET_BYTES / rayon::current_num_threads() };
            let mut partial = scan::fold(&opened.traces, &opened.selection, &query)?;
            query.put_off(&mut partial);
            passes.end(&query.pass);
            uses.add(partial.pairs);
        }
        Ok(uses)
    }

    fn add(&mut self, pairs: Pairs) {
        let mut objects: HashMap<Key, ObjectUse> = HashMap::new();
        for ((key, _), pair) in &pairs {
            let object = objects.entry(*key).or_insert(ObjectUse { key: *key, ..NEVER });
            object.processes += 1;
            object.calls += pair.calls;
            object.errors += pair.errors;
            object.total_ns += pair.total_ns;
            object.wait_ns += pair.wait_ns;
            object.first_ns = object.first_ns.min(pair.first_ns);
            object.last_ns = object.last_ns.max(pair.last_ns);
        }
        self.objects.extend(objects.into_values());
        self.objects.sort_unstable_by_key(|object| (Reverse(object.calls), object.key));
        self.objects.truncate(OBJECTS_MAX);
        self.pairs.extend(pairs.into_values());
        self.pairs.sort_unstable_by_key(|pair| (Reverse(pair.calls), pair.key, pair.process_id));
        self.left_out += self.pairs.len().saturating_sub(OBJECTS_MAX) as u64;
        self.pairs.truncate(OBJECTS_MAX);
    }

    /// Adds objects without a call behind the others, up to `most` in all.
    pub(super) fn add_unused(&mut self, keys: impl Iterator<Item = Key>, most: usize) {
        let known: HashSet<Key> = self.objects.iter().map(|object| object.key).collect();
        let mut unused: Vec<Key> = keys.filter(|key| !known.contains(key)).collect();
        unused.sort_unstable();
        unused.truncate(most.saturating_sub(self.objects.len()));
        self.objects.extend(unused.into_iter().map(|key| ObjectUse { key, ..NEVER }));
    }
}

const NEVER: ObjectUse = ObjectUse {
    key: (0, 0),
    processes: 0,
    calls: 0,
    errors: 0,
    total_ns: 0,
    wait_ns: 0,
    first_ns: i64::MAX,
    last_ns: i64::MIN,
};

/// The uses of object and process.
type Pairs = HashMap<(Key, i64), Use>;

struct UseQuery {
    pass: Pass,
    /// What the pairs of a thread may take.
    bytes: usize,
}

#[derive(Default)]
struct Partial {
    pairs: Pairs,
    bits: u32,
}

impl Query for UseQuery {
    type Partial = Partial;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["object_ref", "process_id", "start_ns", "end_ns", "duration_ns", "wait_ns", "error"]
    }

    fn empty(&self) -> Partial {
        Partial { bits: self.pass.bits(), ..Partial::default() }
    }

    fn fold(&self, partial: &mut Partial, batch: &Batch) -> Result<(), Error> {
        self.put_off(partial);
        let (refs, processes, errors) = (batch.int64("object_ref")?, batch.int64("process_id")?, batch.text("error")?);
        let (starts, ends) = (batch.int64("start_ns")?, batch.int64("end_ns")?);
        let (durations, waits) = (batch.int64("duration_ns")?, batch.int64("wait_ns")?);
        for row in (0..batch.rows()).filter(|row| refs.is_valid(*row)) {
            let (key, process_id) = ((batch.trace, refs.value(row)), processes.value(row));
            if partial.bits > 0 && !self.pass.holds(hash(key), partial.bits) {
                continue;
            }
            let start_ns = starts.value(row);
            let one = Use {
                key,
                process_id,
                calls: 1,
                errors: u64::from(errors.index(row).is_some()),
                total_ns: int64_at(durations, row).unwrap_or(0).into(),
                wait_ns: int64_at(waits, row).unwrap_or(0).into(),
                first_ns: start_ns,
                last_ns: int64_at(ends, row).unwrap_or(start_ns),
            };
            partial.pairs.entry((key, process_id)).and_modify(|known| known.add(&one)).or_insert(one);
        }
        if partial.pairs.len() * PAIR_BYTES > self.bytes && partial.pairs.len() > 1 {
            self.pass.put_off_half(partial.bits);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, mut from: Partial) {
        self.put_off(into);
        self.put_off(&mut from);
        for (key, one) in from.pairs {
            into.pairs.entry(key).and_modify(|known| known.add(&one)).or_insert(one);
        }
    }
}

impl UseQuery {
    /// Drops the pairs of later passes if memory ran short in any thread.
    fn put_off(&self, partial: &mut Partial) {
        self.pass.catch_up(&mut partial.bits, |holds| {
            partial.pairs.retain(|(key, _), _| holds(hash(*key)));
            partial.pairs.shrink_to_fit();
        });
    }
}

/// The same in every thread: an object's pairs are counted in one pass.
fn hash((trace, object_ref): Key) -> u64 {
    stable_hash(&[trace as u64, object_ref as u64])
}

impl Use {
    fn add(&mut self, other: &Use) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.total_ns += other.total_ns;
        self.wait_ns += other.wait_ns;
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}
