//! Calls that failed, grouped by operation, error, object and process.
//!
//! Groups that do not fit the memory budget are put off by the last bits of their key's hash and counted in a further pass
//! over the same files. Of all groups the answer keeps the first [`GROUPS_MAX`] in its own order, and counts the rest.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::intern::{DictionaryCache, NULL, Texts};
use crate::meaning::is_ordinary;
use crate::passes::{Pass, Passes, stable_hash};
use crate::query::{GroupStatistics, Only, Query};
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};
use std::cmp::Reverse;
use std::hash::Hash;

/// What the groups of all threads may take together, bytes.
const BUDGET_BYTES: usize = 128 << 20;
/// A group, its place in the table, and the slack of both.
const GROUP_BYTES: usize = (size_of::<Key>() + size_of::<Group>()) * 2 + 8;
/// A target, twice: in the list and in the table.
const TARGET_BYTES: usize = size_of::<Target>() * 4 + 8;
/// What calls name: only those whose object is unknown need it.
const NAMED: [&str; 5] = ["object_kind", "object_id", "object_name", "key", "ipc_ns"];
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

/// A kind of failure; texts are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// The index of the trace.
    pub trace: u32,
    /// The operation.
    pub syscall: u32,
    /// The errno.
    pub error: u32,
}

/// What the calls of a group have in common: few bytes, for there can be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The number of the [`Code`].
    pub code: u32,
    /// The number of the [`Target`].
    pub target: u32,
    /// Who made them.
    pub process_id: i64,
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

/// Numbers from 0 for values seen.
#[derive(Debug)]
pub struct Numbers<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Copy + Eq + Hash> Numbers<T> {
    fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as u32 - 1
        })
    }

    /// The value of a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }

    /// All values.
    pub fn all(&self) -> &[T] {
        &self.values
    }
}

/// Which calls failed.
#[derive(Debug, Default)]
pub struct Failures {
    /// The texts of the codes and targets.
    pub texts: Texts,
    /// The kinds of failures.
    pub codes: Numbers<Code>,
    /// What they were made on.
    pub targets: Numbers<Target>,
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
    let mut passes = Passes::new();
    while let Some(pass) = passes.begin() {
        let query = GroupQuery { pass, bytes: bytes / rayon::current_num_threads() };
        let mut partial = scan::fold(traces, selection, &query)?;
        query.put_off(&mut partial);
        passes.end(&query.pass);
        failures.before_trace = partial.before_trace;
        failures.take(partial, kept);
    }
    let ranks = Ranks::new(&failures);
    failures.groups.sort_unstable_by_key(|(key, group)| ranks.of(key, group));
    Ok(failures)
}

impl Failures {
    /// The operation and the errno of a kind of failure.
    pub fn names(&self, code: &Code) -> (&str, &str) {
        let text = |number| self.texts.get(number).unwrap_or_default();
        (text(code.syscall), text(code.error))
    }

    /// What a key stands for.
    pub fn of(&self, key: &Key) -> Option<(&Code, &Target)> {
        Some((self.codes.get(key.code)?, self.targets.get(key.target)?))
    }

    fn take(&mut self, partial: Partial, kept: usize) {
        if self.groups.is_empty() {
            (self.texts, self.codes, self.targets) = (partial.texts, partial.codes, partial.targets);
            self.groups = partial.groups.into_iter().collect();
        } else {
            let translation = Translated::new(self, &partial);
            self.groups.extend(partial.groups.into_iter().map(|(key, group)| (translation.of(&key), group)));
        }
        if self.groups.len() > kept {
            let ranks = Ranks::new(self);
            self.groups.select_nth_unstable_by_key(kept, |(key, group)| ranks.of(key, group));
            self.left_out.0 += (self.groups.len() - kept) as u64;
            self.left_out.1 += self.groups.drain(kept..).map(|(_, group)| group.count).sum::<u64>();
        }
    }
}

/// From the numbers of one thread to those of another.
struct Translated {
    codes: Vec<u32>,
    targets: Vec<u32>,
}

impl Translated {
    fn new(into: &mut impl Numbered, from: &Partial) -> Translated {
        let (texts, codes, targets) = into.numbers();
        let translation = texts.adopt(&from.texts);
        let code = |c: &Code| Code { syscall: translation.of(c.syscall), error: translation.of(c.error), ..*c };
        let target = |t: &Target| Target { kind: translation.of(t.kind), name: translation.of(t.name), ..*t };
        Translated {
            codes: from.codes.all().iter().map(|c| codes.number(code(c))).collect(),
            targets: from.targets.all().iter().map(|t| targets.number(target(t))).collect(),
        }
    }

    fn of(&self, key: &Key) -> Key {
        Key { code: self.codes[key.code as usize], target: self.targets[key.target as usize], ..*key }
    }
}

/// What has numbers for texts, codes and targets.
trait Numbered {
    fn numbers(&mut self) -> (&mut Texts, &mut Numbers<Code>, &mut Numbers<Target>);
}

impl Numbered for Failures {
    fn numbers(&mut self) -> (&mut Texts, &mut Numbers<Code>, &mut Numbers<Target>) {
        (&mut self.texts, &mut self.codes, &mut self.targets)
    }
}

impl Numbered for Partial {
    fn numbers(&mut self) -> (&mut Texts, &mut Numbers<Code>, &mut Numbers<Target>) {
        (&mut self.texts, &mut self.codes, &mut self.targets)
    }
}

/// The order of the answer: the same in every run.
struct Ranks {
    codes: Vec<(bool, u32)>,
    targets: Vec<u32>,
}

impl Ranks {
    fn new(failures: &Failures) -> Ranks {
        let text = |number: u32| failures.texts.get(number);
        let codes = failures.codes.all();
        let places = places(codes, |code| (text(code.syscall), text(code.error), code.trace));
        let ordinary = codes.iter().map(|code| text(code.error).is_some_and(is_ordinary));
        let targets = places_of_targets(failures.targets.all(), &text);
        Ranks { codes: ordinary.zip(places).collect(), targets }
    }

    fn of(&self, key: &Key, group: &Group) -> (bool, Reverse<u64>, u32, u32, i64) {
        let (ordinary, code) = self.codes[key.code as usize];
        (ordinary, Reverse(group.count), code, self.targets[key.target as usize], key.process_id)
    }
}

fn places_of_targets<'a>(targets: &[Target], text: &impl Fn(u32) -> Option<&'a str>) -> Vec<u32> {
    places(targets, |target| {
        (text(target.kind), text(target.name), target.object_ref, target.id, target.key, target.ipc_ns)
    })
}

/// The place of each value in their order.
fn places<T, K: Ord>(values: &[T], key: impl Fn(&T) -> K) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_by_cached_key(|number| key(&values[*number as usize]));
    let mut places = vec![0; values.len()];
    (0..).zip(order).for_each(|(place, number)| places[number as usize] = place);
    places
}

/// A hash of a group's key: the same in every thread, whose numbers differ.
fn hash(texts: &Texts, code: &Code, target: &Target, process_id: i64) -> u64 {
    let [syscall, error, kind, name] =
        [code.syscall, code.error, target.kind, target.name].map(|number| texts.stable_hash(number));
    let numbers = [target.object_ref, target.id, target.key.map(i64::from), target.ipc_ns];
    let [object_ref, id, key, ipc_ns] = numbers.map(|number| number.unwrap_or(-1) as u64);
    let (trace, process_id) = (u64::from(code.trace), process_id as u64);
    stable_hash(&[syscall, error, kind, name, trace, process_id, object_ref, id, key, ipc_ns])
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
    codes: Numbers<Code>,
    targets: Numbers<Target>,
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
        columns.extend(NAMED);
        if !statistics.is_always("began", "in_trace") {
            columns.push("began");
        }
        columns
    }

    fn only(&self) -> Option<Only> {
        Some(Only::Filled("error"))
    }

    fn instead_of(&self) -> Option<(&'static str, &'static [&'static str])> {
        Some(("object_ref", &NAMED))
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
            let code = Code { trace: batch.trace as u32, syscall: syscalls[row], error: errors[row] };
            // A call without an end has no error; a trace that says otherwise is answered all the same.
            let end_ns = int64_at(ends, row).unwrap_or(i64::MAX);
            let group = Group { count: 1, first: (end_ns, ids.value(row)), last_ns: end_ns };
            self.add(partial, &code, &target, processes.value(row), group);
        }
        if partial.bytes() > self.bytes && partial.groups.len() > 1 {
            self.pass.put_off_half(partial.bits);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial, mut from: Partial) {
        self.put_off(into);
        self.put_off(&mut from);
        into.before_trace += from.before_trace;
        if into.groups.len() < from.groups.len() {
            std::mem::swap(into, &mut from);
            into.before_trace += std::mem::take(&mut from.before_trace);
        }
        let translation = Translated::new(into, &from);
        for (key, group) in from.groups {
            into.groups.entry(translation.of(&key)).and_modify(|known| known.merge(group)).or_insert(group);
        }
    }
}

impl GroupQuery {
    fn add(&self, partial: &mut Partial, code: &Code, target: &Target, process_id: i64, group: Group) {
        if !self.holds(partial, code, target, process_id) {
            return;
        }
        let key = Key { code: partial.codes.number(*code), target: partial.targets.number(*target), process_id };
        partial.groups.entry(key).and_modify(|known| known.merge(group)).or_insert(group);
    }

    fn holds(&self, partial: &Partial, code: &Code, target: &Target, process_id: i64) -> bool {
        partial.bits == 0 || self.pass.holds(hash(&partial.texts, code, target, process_id), partial.bits)
    }

    /// Drops the groups of later passes if memory ran short in any thread, and numbers the others anew.
    fn put_off(&self, partial: &mut Partial) {
        if self.pass.bits() == partial.bits {
            return;
        }
        partial.bits = self.pass.bits();
        let groups = std::mem::take(&mut partial.groups);
        let (codes, targets) = (std::mem::take(&mut partial.codes), std::mem::take(&mut partial.targets));
        for (key, group) in groups {
            if let (Some(code), Some(target)) = (codes.get(key.code), targets.get(key.target)) {
                self.add(partial, code, target, key.process_id, group);
            }
        }
    }
}

impl Partial {
    fn bytes(&self) -> usize {
        self.groups.len() * GROUP_BYTES + self.targets.all().len() * TARGET_BYTES
    }

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
        if !NAMED.iter().all(|name| batch.has(name)) {
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
