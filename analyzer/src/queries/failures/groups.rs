//! Calls that failed, grouped by operation, error, object and process.
//!
//! Groups that do not fit the memory budget are put off by the last bits of their key's hash and counted in a further pass
//! over the same files. Of all groups the answer keeps the first [`GROUPS_MAX`] in its own order, and counts the rest.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::intern::{DictionaryCache, NULL, Texts, Translation};
use crate::meaning::is_ordinary;
use crate::passes::Pass;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};
use std::cmp::{Ordering, Reverse};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What the groups of all threads may take together, bytes.
const BUDGET_BYTES: usize = 128 << 20;
/// A group, its place in the table, and the slack of both.
const GROUP_BYTES: usize = (size_of::<Key>() + size_of::<Group>()) * 2 + 8;
/// Groups that the answer keeps: some 150 MiB.
pub const GROUPS_MAX: usize = 1 << 20;

/// What a call named: its lifetime if that is known, else what stands in its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The lifetime; everything else is absent then.
    pub object_ref: Option<i64>,
    /// semid, shmid, msqid; inode of a POSIX queue.
    pub id: Option<i64>,
    /// System V key.
    pub key: Option<i32>,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<i64>,
    /// sem, shm, msg, mq.
    pub kind: u32,
    /// Name of a POSIX queue.
    pub name: u32,
}

impl Target {
    /// A lifetime, or nothing.
    pub fn lifetime(object_ref: Option<i64>) -> Target {
        Target { object_ref, id: None, key: None, ipc_ns: None, kind: NULL, name: NULL }
    }
}

/// What the calls of a group have in common; texts are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The index of the trace.
    pub trace: u32,
    /// The operation.
    pub syscall: u32,
    /// The errno.
    pub error: u32,
    /// Who made them.
    pub process_id: i64,
    /// On what.
    pub target: Target,
}

/// The calls of one group.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// The end of the first and its id.
    pub first: (i64, i64),
    /// The end of the last.
    pub last_ns: i64,
}

/// Which calls failed.
#[derive(Debug, Default)]
pub struct Failures {
    /// The texts of the keys.
    pub texts: Texts,
    /// The groups: what is no part of normal work first, then by how many calls.
    pub groups: Vec<(Key, Group)>,
    /// Groups that were left out, and their calls.
    pub left_out: (u64, u64),
    /// Calls that began before the trace.
    pub before_trace: u64,
}

/// Asks the traces.
///
/// # Errors
/// A part that cannot be believed.
pub fn ask(traces: &[Trace], selection: &Selection) -> Result<Failures, Error> {
    within(BUDGET_BYTES, GROUPS_MAX, traces, selection)
}

/// [`ask`] within a budget of bytes, keeping so many groups.
///
/// # Errors
/// As there.
pub fn within(bytes: usize, kept: usize, traces: &[Trace], selection: &Selection) -> Result<Failures, Error> {
    let mut failures = Failures::default();
    let mut passes = vec![Pass::all()];
    while let Some(pass) = passes.pop() {
        let query = GroupQuery { pass, bytes: bytes / rayon::current_num_threads() };
        let mut partial = scan::fold(traces, selection, &query)?;
        query.put_off(&mut partial);
        passes.extend(query.pass.rest());
        failures.before_trace = partial.before_trace;
        failures.take(partial, kept);
    }
    let Failures { texts, groups, .. } = &mut failures;
    let rank = Rank::new(texts);
    groups.sort_unstable_by(|a, b| rank.compare(a, b));
    Ok(failures)
}

impl Failures {
    fn take(&mut self, partial: Partial, kept: usize) {
        let translation = self.texts.adopt(&partial.texts);
        self.groups.extend(partial.groups.into_iter().map(|(key, group)| (key.translated(&translation), group)));
        if self.groups.len() > kept {
            let rank = Rank::new(&self.texts);
            self.groups.select_nth_unstable_by(kept, |a, b| rank.compare(a, b));
            self.left_out.0 += (self.groups.len() - kept) as u64;
            self.left_out.1 += self.groups.drain(kept..).map(|(_, group)| group.count).sum::<u64>();
        }
    }
}

/// The order of the answer: the same in every run.
struct Rank {
    /// Per number of a text its place in the alphabet, and whether it is an ordinary error.
    places: Vec<(u32, bool)>,
}

impl Rank {
    fn new(texts: &Texts) -> Rank {
        let mut all: Vec<(&str, u32)> = (0..).map_while(|number| Some((texts.get(number)?, number))).collect();
        all.sort_unstable();
        let mut places = vec![(0, false); all.len()];
        for (place, (text, number)) in (1..).zip(all) {
            places[number as usize] = (place, is_ordinary(text));
        }
        Rank { places }
    }

    fn place(&self, number: u32) -> u32 {
        self.places.get(number as usize).map_or(0, |place| place.0)
    }

    fn compare(&self, (a, of_a): &(Key, Group), (b, of_b): &(Key, Group)) -> Ordering {
        let ordinary = |key: &Key| self.places.get(key.error as usize).is_some_and(|place| place.1);
        let weight = |key: &Key, group: &Group| (ordinary(key), Reverse(group.count));
        let names = |key: &Key| {
            let target = key.target;
            let texts = [key.syscall, key.error, target.kind, target.name].map(|number| self.place(number));
            (key.trace, texts, target.object_ref, target.id, target.key, target.ipc_ns, key.process_id)
        };
        weight(a, of_a).cmp(&weight(b, of_b)).then_with(|| names(a).cmp(&names(b)))
    }
}

impl Key {
    fn translated(mut self, translation: &Translation) -> Key {
        for number in [&mut self.syscall, &mut self.error, &mut self.target.kind, &mut self.target.name] {
            *number = translation.of(*number);
        }
        self
    }

    /// The same in every thread, whose numbers for texts differ.
    fn stable_hash(&self, texts: &Texts) -> u64 {
        let target = self.target;
        let mut hasher = DefaultHasher::new();
        [self.syscall, self.error, target.kind, target.name].map(|number| texts.stable_hash(number)).hash(&mut hasher);
        (self.trace, self.process_id, target.object_ref, target.id, target.key, target.ipc_ns).hash(&mut hasher);
        hasher.finish()
    }
}

impl Group {
    fn merge(&mut self, from: Group) {
        self.count += from.count;
        self.first = self.first.min(from.first);
        self.last_ns = self.last_ns.max(from.last_ns);
    }
}

struct GroupQuery {
    pass: Pass,
    /// What the groups of a thread may take.
    bytes: usize,
}

#[derive(Default)]
struct Partial {
    texts: Texts,
    groups: HashMap<Key, Group>,
    caches: [DictionaryCache; 5],
    bits: u32,
    before_trace: u64,
}

impl Query for GroupQuery {
    type Partial = Partial;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        let mut columns = vec!["error", "syscall", "process_id", "end_ns", "call_id", "object_ref"];
        // Only calls whose object is unknown need what they named.
        if statistics.null_count("object_ref") != Some(0) {
            columns.extend(["object_kind", "object_id", "object_name", "key", "ipc_ns"]);
        }
        if !statistics.is_always("began", "in_trace") {
            columns.push("began");
        }
        columns
    }

    fn only_with(&self) -> Option<&'static str> {
        Some("error")
    }

    fn empty(&self) -> Partial {
        Partial { bits: self.pass.bits(), ..Partial::default() }
    }

    fn fold(&self, partial: &mut Partial, batch: &Batch) -> Result<(), Error> {
        self.put_off(partial);
        partial.count_before_trace(batch)?;
        let [syscalls, errors] =
            [(0, "syscall"), (1, "error")].map(|(cache, name)| partial.numbers(cache, batch, name));
        let (syscalls, errors) = (syscalls?, errors?);
        let named = partial.named(batch)?;
        let (processes, ids) = (batch.int64("process_id")?, batch.int64("call_id")?);
        let (ends, refs) = (batch.int64("end_ns")?, batch.int64("object_ref")?);
        for row in 0..batch.rows() {
            let target = match (int64_at(refs, row), &named) {
                (None, Some(named)) => named.target(row),
                (object_ref, _) => Target::lifetime(object_ref),
            };
            let (syscall, error) = (syscalls[row], errors[row]);
            let key = Key { trace: batch.trace as u32, syscall, error, process_id: processes.value(row), target };
            // A call without an end has no error; a trace that says otherwise is answered all the same.
            let end_ns = int64_at(ends, row).unwrap_or(i64::MAX);
            self.add(partial, key, Group { count: 1, first: (end_ns, ids.value(row)), last_ns: end_ns });
        }
        if partial.groups.len() * GROUP_BYTES > self.bytes && partial.groups.len() > 1 {
            self.pass.halve(partial.bits);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, mut from: Partial) {
        self.put_off(into);
        self.put_off(&mut from);
        let translation = into.texts.adopt(&from.texts);
        into.before_trace += from.before_trace;
        for (key, group) in from.groups {
            self.add(into, key.translated(&translation), group);
        }
    }
}

impl GroupQuery {
    fn add(&self, partial: &mut Partial, key: Key, group: Group) {
        if let Some(known) = partial.groups.get_mut(&key) {
            known.merge(group);
        } else if self.holds(&key, &partial.texts, partial.bits) {
            partial.groups.insert(key, group);
        }
    }

    fn holds(&self, key: &Key, texts: &Texts, bits: u32) -> bool {
        bits == 0 || self.pass.holds(key.stable_hash(texts), bits)
    }

    /// Drops the groups of later passes if memory ran short in any thread.
    fn put_off(&self, partial: &mut Partial) {
        let bits = self.pass.bits();
        if bits != partial.bits {
            partial.bits = bits;
            let texts = &partial.texts;
            partial.groups.retain(|key, _| self.holds(key, texts, bits));
            partial.groups.shrink_to_fit();
        }
    }
}

impl Partial {
    fn numbers(&mut self, cache: usize, batch: &Batch, column: &str) -> Result<Vec<u32>, Error> {
        Ok(self.caches[cache].numbers(&batch.text(column)?, &mut self.texts))
    }

    fn count_before_trace(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.has("began") {
            let before = self.texts.number("before_trace");
            let began = self.numbers(4, batch, "began")?;
            self.before_trace += began.iter().filter(|number| **number == before).count() as u64;
        }
        Ok(())
    }

    fn named<'a>(&mut self, batch: &'a Batch) -> Result<Option<Named<'a>>, Error> {
        if !batch.has("object_kind") {
            return Ok(None);
        }
        let (kinds, names) = (self.numbers(2, batch, "object_kind")?, self.numbers(3, batch, "object_name")?);
        let (ids, namespaces) = (batch.int64("object_id")?, batch.int64("ipc_ns")?);
        Ok(Some(Named { kinds, names, ids, namespaces, keys: batch.int32("key")? }))
    }
}

/// What the calls of a batch named.
struct Named<'a> {
    kinds: Vec<u32>,
    names: Vec<u32>,
    ids: &'a arrow::array::Int64Array,
    namespaces: &'a arrow::array::Int64Array,
    keys: &'a arrow::array::Int32Array,
}

impl Named<'_> {
    fn target(&self, row: usize) -> Target {
        if self.kinds[row] == NULL {
            return Target::lifetime(None);
        }
        Target {
            object_ref: None,
            id: int64_at(self.ids, row),
            key: int32_at(self.keys, row),
            ipc_ns: int64_at(self.namespaces, row),
            kind: self.kinds[row],
            name: self.names[row],
        }
    }
}
