//! Calls grouped by any combination of operation, thread name, process, object and error, with the distribution of
//! their durations.
//!
//! Groups that do not fit the memory budget are put off by the last bits of their key's hash and answered in a further
//! pass over the same files: memory is bounded for any number of groups, without temporary files.

mod coded;
mod lifetimes;
mod tally;

pub use coded::Durations;
use lifetimes::Lifetimes;
use tally::Tallies;

use crate::batch::{Batch, Text, int64_at};
use crate::distribution::Distribution;
use crate::error::Error;
use crate::filter::Selection;
use crate::intern::{DictionaryCache, NULL, Texts};
use crate::passes::{Pass, Passes, stable_hash};
use crate::query::{GroupStatistics, Query};
use crate::report::Value;
use crate::scan::{self, CodedGroup};
use crate::trace::Trace;
use arrow::array::{Array, Int64Array};
use clap::ValueEnum;
use hashbrown::{DefaultHashBuilder, HashTable};
use ipc_schema::tables::{self, Table};
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};

/// What the groups of all threads may take together, bytes.
const BUDGET_BYTES: usize = 192 << 20;
/// Groups of one dimension below this number are found without hashing.
const DIRECT_MAX: u32 = 1 << 22;
/// The number of a group that another pass answers.
const PUT_OFF: u32 = u32::MAX;
/// A group, its place in the table, and the slack of both.
const GROUP_BYTES: usize = size_of::<Group>() * 3 / 2 + 8;

/// What calls are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Dimension {
    /// The operation
    Syscall,
    /// The name of the thread
    Comm,
    /// The process
    Pid,
    /// The semaphore set, segment or queue
    Object,
    /// The errno; none for success
    Error,
}

impl Dimension {
    /// The columns that it needs.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Dimension::Syscall => &["syscall"],
            Dimension::Comm => &["comm"],
            Dimension::Pid => &["pid"],
            Dimension::Object => &["object_kind", "object_ref", "object_id", "object_name", "ipc_ns"],
            Dimension::Error => &["error"],
        }
    }
}

/// Whether the groups of different traces stay apart: a process id or an object id means another thing in each.
pub fn separates_traces(by: &[Dimension]) -> bool {
    by.contains(&Dimension::Pid) || by.contains(&Dimension::Object)
}

/// What the calls of a group have in common; [`NULL`] where absent or not grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The index of the trace, 0 where traces are not kept apart.
    pub trace: u32,
    syscall: u32,
    comm: u32,
    pid: u32,
    error: u32,
    object: Object,
}

/// What tells objects apart. `present` has a bit for each of the three numbers that is not NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Object {
    kind: u32,
    name: u32,
    present: u32,
    object_ref: i64,
    id: i64,
    ipc_ns: i64,
}

const NO_OBJECT: Object = Object { kind: NULL, name: NULL, present: 0, object_ref: 0, id: 0, ipc_ns: 0 };

impl Object {
    fn numbers(&self) -> [Option<i64>; 3] {
        let of = |bit: u32, value| (self.present & (1 << bit) != 0).then_some(value);
        [of(0, self.object_ref), of(1, self.id), of(2, self.ipc_ns)]
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        state.write_u64(pair(self.trace ^ self.object.present << 24, self.syscall));
        state.write_u64(pair(self.comm, self.pid));
        state.write_u64(pair(self.error, self.object.kind ^ self.object.name << 8));
        state.write_u64(self.object.id as u64);
        state.write_u64(self.object.object_ref as u64 ^ (self.object.ipc_ns as u64).rotate_left(32));
    }
}

impl Key {
    fn of_text(dimension: Dimension, number: u32) -> Key {
        let none = Key { trace: 0, syscall: NULL, comm: NULL, pid: NULL, error: NULL, object: NO_OBJECT };
        match dimension {
            Dimension::Syscall => Key { syscall: number, ..none },
            Dimension::Comm => Key { comm: number, ..none },
            Dimension::Error => Key { error: number, ..none },
            Dimension::Pid | Dimension::Object => none,
        }
    }

    /// The key with its texts numbered anew.
    pub fn translated(self, mut translate: impl FnMut(u32) -> Option<u32>) -> Key {
        let mut of = |number| if number == NULL { NULL } else { translate(number).unwrap_or(NULL) };
        Key {
            syscall: of(self.syscall),
            comm: of(self.comm),
            error: of(self.error),
            object: Object { kind: of(self.object.kind), name: of(self.object.name), ..self.object },
            ..self
        }
    }

    /// By names and numbers, absent ones first.
    pub fn compare(&self, other: &Key, texts: &Texts) -> Ordering {
        let names = |key: &Key| [key.syscall, key.comm, key.error, key.object.kind, key.object.name];
        let numbers = |key: &Key| (key.trace, key.pid, key.object.numbers());
        let by_name = names(self).map(|n| texts.get(n)).cmp(&names(other).map(|n| texts.get(n)));
        by_name.then_with(|| numbers(self).cmp(&numbers(other)))
    }

    /// A hash of what the key stands for: the same in every thread and pass.
    fn stable_hash(&self, texts: &Texts) -> u64 {
        let [syscall, comm, error, kind, name] =
            [self.syscall, self.comm, self.error, self.object.kind, self.object.name].map(|n| texts.stable_hash(n));
        let [object_ref, id, ipc_ns] = [self.object.object_ref, self.object.id, self.object.ipc_ns].map(|n| n as u64);
        let [trace, pid, present] = [self.trace, self.pid, self.object.present].map(u64::from);
        stable_hash(&[syscall, comm, error, kind, name, object_ref, id, ipc_ns, trace, pid, present])
    }

    /// The values of a dimension's columns.
    pub fn push_values(&self, dimension: Dimension, texts: &Texts, row: &mut Vec<Value>) {
        match dimension {
            Dimension::Syscall => row.push(Value::text(texts.get(self.syscall))),
            Dimension::Comm => row.push(Value::text(texts.get(self.comm))),
            Dimension::Error => row.push(Value::text(texts.get(self.error))),
            Dimension::Pid => row.push(Value::Int((self.pid as i32).into())),
            Dimension::Object => {
                let [object_ref, id, ipc_ns] = self.object.numbers();
                row.push(Value::text(self.object_text(texts)));
                row.push(Value::text(texts.get(self.object.kind)));
                row.push(Value::int(object_ref));
                row.push(Value::int(id));
                row.push(Value::text(texts.get(self.object.name)));
                row.push(Value::int(ipc_ns));
            }
        }
    }

    /// As `--object` takes it, where the object has an id or a name.
    fn object_text(&self, texts: &Texts) -> Option<String> {
        let kind = texts.get(self.object.kind)?;
        let [_, id, _] = self.object.numbers();
        Some(match (texts.get(self.object.name), id) {
            (Some(name), _) => format!("{kind}:{name}"),
            (None, Some(id)) => format!("{kind}:{id}"),
            (None, None) => format!("{kind}:?"),
        })
    }
}

/// The calls of one group.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub key: Key,
    /// Of the completed ones.
    pub durations: Distribution,
    /// How many had not ended when the recording did.
    pub open: u64,
    /// The longest of these had lasted so long by then.
    pub open_at_least_ns: i64,
}

/// Calls `visit` with all groups, a pass of them at a time and in no order; returns how many calls began before the trace.
///
/// # Errors
/// A part that cannot be believed.
pub fn for_each(
    traces: &[Trace],
    selection: &Selection,
    by: &[Dimension],
    visit: &mut dyn FnMut(&Texts, Vec<Group>),
) -> Result<u64, Error> {
    for_each_within(BUDGET_BYTES, traces, selection, by, visit)
}

/// [`for_each`] within a budget.
///
/// # Errors
/// As there.
pub fn for_each_within(
    budget_bytes: usize,
    traces: &[Trace],
    selection: &Selection,
    by: &[Dimension],
    visit: &mut dyn FnMut(&Texts, Vec<Group>),
) -> Result<u64, Error> {
    let ends_ns: Vec<i64> = traces.iter().map(|t| t.manifest.session.end_ns).collect();
    let lifetimes = Lifetimes::read(traces, by)?;
    let mut passes = Passes::new();
    let mut before_trace = 0;
    while let Some(pass) = passes.begin() {
        let query = GroupQuery {
            by,
            separate_traces: separates_traces(by),
            ends_ns: &ends_ns,
            lifetimes: &lifetimes,
            pass,
            budget_bytes: budget_bytes / rayon::current_num_threads(),
        };
        let mut partial = scan::fold(traces, selection, &query)?;
        partial.settle();
        query.put_off(&mut partial);
        passes.end(&query.pass);
        before_trace = partial.before_trace;
        visit(&partial.texts, partial.groups);
    }
    Ok(before_trace)
}

struct GroupQuery<'a> {
    by: &'a [Dimension],
    separate_traces: bool,
    ends_ns: &'a [i64],
    lifetimes: &'a Lifetimes,
    pass: Pass,
    budget_bytes: usize,
}

#[derive(Default)]
struct Partial {
    texts: Texts,
    groups: Vec<Group>,
    /// The groups by their keys.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// For one dimension: per number + 1 the group.
    direct: Vec<u32>,
    caches: [DictionaryCache; 5],
    /// Durations put together by value.
    together: Vec<i64>,
    tallies: Tallies,
    bytes: usize,
    bits: u32,
    before_trace: u64,
}

impl Query for GroupQuery<'_> {
    type Partial = Partial;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        let mut columns = vec!["duration_ns"];
        // Only open calls need it.
        if statistics.null_count("duration_ns") != Some(0) {
            columns.push("start_ns");
        }
        if !statistics.is_always("began", "in_trace") {
            columns.push("began");
        }
        columns.extend(self.by.iter().flat_map(|dimension| dimension.columns()));
        columns
    }

    fn empty(&self) -> Partial {
        let texts = self.lifetimes.texts.clone();
        Partial { bits: self.pass.bits(), texts, ..Partial::default() }
    }

    fn fold(&self, partial: &mut Partial, batch: &Batch) -> Result<(), Error> {
        self.put_off(partial);
        partial.count_before_trace(batch)?;
        let grown_bytes = match partial.fold_by_text(self.by, batch, &self.pass)? {
            Some(grown_bytes) => grown_bytes,
            None => self.fold_by_rows(partial, batch)?,
        };
        partial.bytes = partial.bytes.saturating_add_signed(grown_bytes);
        self.check_memory(partial);
        Ok(())
    }

    fn fold_codes(&self, partial: &mut Partial, group: &CodedGroup<'_>) -> Result<bool, Error> {
        Ok(self.fold_row_group(partial, group))
    }

    fn merge(&self, into: &mut Partial, mut from: Partial) {
        into.settle();
        from.settle();
        self.put_off(into);
        self.put_off(&mut from);
        let translation = into.texts.adopt(&from.texts);
        into.before_trace += from.before_trace;
        for mut group in from.groups {
            group.key = group.key.translated(|number| Some(translation.of(number)));
            let number = into.find(&group.key, &self.pass);
            if let Some(into) = into.groups.get_mut(number as usize) {
                into.merge(group);
            }
        }
    }
}

impl GroupQuery<'_> {
    /// Adds the rows one by one; returns the memory that they took.
    fn fold_by_rows(&self, partial: &mut Partial, batch: &Batch) -> Result<isize, Error> {
        let trace = if self.separate_traces { batch.trace as u32 } else { 0 };
        let keys = partial.keys(self.by, trace, batch)?;
        let durations = batch.int64("duration_ns")?;
        let mut grown_bytes = 0;
        let mut last = (keys.key(0), self.find(partial, &keys.key(0), batch.trace));
        if durations.null_count() == 0 {
            for (row, duration) in durations.values().iter().enumerate() {
                let number = self.locate(partial, &keys, row, &mut last, batch.trace);
                if let Some(group) = partial.groups.get_mut(number as usize) {
                    group.durations.add(*duration, &mut grown_bytes);
                }
            }
        } else {
            let starts = batch.int64("start_ns")?;
            let end_ns = self.ends_ns[batch.trace];
            for row in 0..batch.rows() {
                let number = self.locate(partial, &keys, row, &mut last, batch.trace);
                let Some(group) = partial.groups.get_mut(number as usize) else { continue };
                match int64_at(durations, row) {
                    Some(duration) => group.durations.add(duration, &mut grown_bytes),
                    None => group.add_open(end_ns.saturating_sub(starts.value(row))),
                }
            }
        }
        Ok(grown_bytes)
    }

    /// The number of a row's group.
    #[inline]
    fn locate(&self, partial: &mut Partial, keys: &Keys<'_>, row: usize, last: &mut (Key, u32), trace: usize) -> u32 {
        if let Some(slot) = keys.only {
            let place = keys.numbers[slot][row].wrapping_add(1);
            return match partial.direct.get(place as usize) {
                Some(number) if *number != PUT_OFF => *number,
                _ => partial.find_direct(&keys.key(row), place, &self.pass),
            };
        }
        let key = keys.key(row);
        if key != last.0 {
            *last = (key, self.find(partial, &key, trace));
        }
        last.1
    }

    /// The number of a key's group; its object is what the table of lifetimes says, as where codes are read.
    fn find(&self, partial: &mut Partial, key: &Key, trace: usize) -> u32 {
        let [object_ref, ..] = key.object.numbers();
        let known = object_ref.and_then(|object_ref| self.lifetimes.get(trace, object_ref));
        partial.find(&Key { object: known.copied().unwrap_or(key.object), ..*key }, &self.pass)
    }

    /// Puts groups off if those of this thread take too much.
    fn check_memory(&self, partial: &Partial) {
        if partial.bytes > self.budget_bytes && partial.groups.len() > 1 {
            self.pass.put_off_half(partial.bits);
        }
    }

    /// Drops the groups of later passes if memory ran short in any thread.
    fn put_off(&self, partial: &mut Partial) {
        let bits = self.pass.bits();
        if bits == partial.bits {
            return;
        }
        partial.settle();
        partial.bits = bits;
        let texts = &partial.texts;
        partial.groups.retain(|group| self.pass.holds(group.key.stable_hash(texts), bits));
        partial.groups.shrink_to_fit();
        partial.direct = Vec::new();
        partial.places = HashTable::with_capacity(partial.groups.len());
        partial.bytes = 0;
        let (hasher, groups) = (&partial.hasher, &partial.groups);
        for (number, group) in groups.iter().enumerate() {
            partial.bytes += GROUP_BYTES + group.durations.heap_bytes();
            let hash = |number: &u32| hasher.hash_one(groups[*number as usize].key);
            partial.places.insert_unique(hasher.hash_one(group.key), number as u32, hash);
        }
    }
}

impl Group {
    fn add_open(&mut self, at_least_ns: i64) {
        self.open += 1;
        self.open_at_least_ns = self.open_at_least_ns.max(at_least_ns);
    }

    fn merge(&mut self, from: Group) {
        self.durations.merge(from.durations);
        self.open += from.open;
        self.open_at_least_ns = self.open_at_least_ns.max(from.open_at_least_ns);
    }
}

/// The keys of a batch's rows.
struct Keys<'a> {
    trace: u32,
    /// Per row the numbers of: syscall, comm, pid, error, object kind, object name; empty: not grouped by.
    numbers: [Vec<u32>; 6],
    object: Option<[&'a Int64Array; 3]>,
    /// The one dimension, if it is one without objects.
    only: Option<usize>,
}

impl Keys<'_> {
    #[inline]
    fn key(&self, row: usize) -> Key {
        let of = |slot: usize| self.numbers[slot].get(row).copied().unwrap_or(NULL);
        let object = match &self.object {
            Some(columns) if of(4) != NULL => {
                let mut present = 0;
                let mut value = |bit: usize| {
                    let value = int64_at(columns[bit], row);
                    present |= u32::from(value.is_some()) << bit;
                    value.unwrap_or(0)
                };
                let (object_ref, id, ipc_ns) = (value(0), value(1), value(2));
                Object { kind: of(4), name: of(5), present, object_ref, id, ipc_ns }
            }
            _ => NO_OBJECT,
        };
        Key { trace: self.trace, syscall: of(0), comm: of(1), pid: of(2), error: of(3), object }
    }
}

/// More values than this in a dictionary, and the rows are taken one by one.
const DICTIONARY_MAX: usize = 256;

impl Partial {
    /// The usual case, fast: one text dimension with few values and no open call. The durations are put together by
    /// value first. `None`: it is not that case.
    fn fold_by_text(&mut self, by: &[Dimension], batch: &Batch, pass: &Pass) -> Result<Option<isize>, Error> {
        let [dimension @ (Dimension::Syscall | Dimension::Comm | Dimension::Error)] = by else { return Ok(None) };
        let (text, durations) = (batch.text(dimension.columns()[0])?, batch.int64("duration_ns")?);
        let values = text.values.len();
        if values > DICTIONARY_MAX || text.values.null_count() > 0 || durations.null_count() > 0 {
            return Ok(None);
        }
        // The place after the last is for NULL.
        let place_of = |row: usize| text.index(row).unwrap_or(values);
        let mut ends = [0usize; DICTIONARY_MAX + 1];
        (0..batch.rows()).for_each(|row| ends[place_of(row)] += 1);
        let mut begin = 0;
        for end in &mut ends[..=values] {
            begin += std::mem::replace(end, begin);
        }
        self.together.resize(batch.rows(), 0);
        for (row, duration) in durations.values().iter().enumerate() {
            let end = &mut ends[place_of(row)];
            self.together[*end] = *duration;
            *end += 1;
        }
        let (together, mut begin, mut grown_bytes) = (std::mem::take(&mut self.together), 0, 0);
        for (place, end) in ends[..=values].iter().enumerate().filter(|(_, end)| **end > 0) {
            let slice = &together[begin..*end];
            begin = *end;
            if slice.is_empty() {
                continue;
            }
            let number = if place == values { NULL } else { self.texts.number(text.values.value(place)) };
            let group = self.find(&Key::of_text(*dimension, number), pass);
            if let Some(group) = self.groups.get_mut(group as usize) {
                group.durations.add_all(slice, &mut grown_bytes);
            }
        }
        self.together = together;
        Ok(Some(grown_bytes))
    }

    /// Adds what is tallied to its groups.
    fn settle(&mut self) {
        let grown_bytes = self.tallies.settle(&mut self.groups);
        self.bytes = self.bytes.saturating_add_signed(grown_bytes);
    }

    fn keys<'a>(&mut self, by: &[Dimension], trace: u32, batch: &'a Batch) -> Result<Keys<'a>, Error> {
        let mut keys = Keys { trace, numbers: Default::default(), object: None, only: None };
        for dimension in by {
            match dimension {
                Dimension::Syscall => keys.numbers[0] = self.numbers(0, batch.text("syscall")?),
                Dimension::Comm => keys.numbers[1] = self.numbers(1, batch.text("comm")?),
                Dimension::Pid => keys.numbers[2] = batch.int32("pid")?.values().iter().map(|p| *p as u32).collect(),
                Dimension::Error => keys.numbers[3] = self.numbers(2, batch.text("error")?),
                Dimension::Object => {
                    keys.numbers[4] = self.numbers(3, batch.text("object_kind")?);
                    keys.numbers[5] = self.numbers(4, batch.text("object_name")?);
                    keys.object = Some([batch.int64("object_ref")?, batch.int64("object_id")?, batch.int64("ipc_ns")?]);
                }
            }
        }
        if let [one] = by
            && *one != Dimension::Object
            && trace == 0
        {
            keys.only = keys.numbers.iter().position(|numbers| !numbers.is_empty());
        }
        Ok(keys)
    }

    fn numbers(&mut self, cache: usize, text: Text<'_>) -> Vec<u32> {
        self.caches[cache].numbers(&text, &mut self.texts)
    }

    fn count_before_trace(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.has("began") {
            let began = batch.text("began")?;
            let before: Vec<bool> = began.values.iter().map(|value| value == Some("before_trace")).collect();
            let count = (0..batch.rows()).filter(|row| began.index(*row).is_some_and(|index| before[index])).count();
            self.before_trace += count as u64;
        }
        Ok(())
    }

    #[cold]
    fn find_direct(&mut self, key: &Key, place: u32, pass: &Pass) -> u32 {
        let number = self.find(key, pass);
        if place < DIRECT_MAX {
            let place = place as usize;
            if self.direct.len() <= place {
                self.direct.resize((place + 1).next_power_of_two(), PUT_OFF);
            }
            self.direct[place] = number;
        }
        number
    }

    /// The number of a key's group, made if it is new and of this pass.
    fn find(&mut self, key: &Key, pass: &Pass) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some(number) = self.places.find(hash, |number| self.groups[*number as usize].key == *key) {
            return *number;
        }
        if self.bits > 0 && !pass.holds(key.stable_hash(&self.texts), self.bits) {
            return PUT_OFF;
        }
        let number = self.groups.len() as u32;
        self.groups.push(Group { key: *key, durations: Distribution::default(), open: 0, open_at_least_ns: 0 });
        let (hasher, groups) = (&self.hasher, &self.groups);
        self.places.insert_unique(hash, number, |number| hasher.hash_one(groups[*number as usize].key));
        self.bytes += GROUP_BYTES;
        number
    }
}
