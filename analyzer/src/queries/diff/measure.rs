//! The two traces measured alike: by operation, by operation and thread name, and by object where the same object can be
//! recognised in both: by its key or name, else by its kind and the thread name of its maker.

use crate::batch::{Batch, int64_at};
use crate::distribution::Distribution;
use crate::error::Error;
use crate::intern::{DictionaryCache, NULL, Texts};
use crate::names::{Lifetime, Lifetimes, Processes, Wanted};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use arrow::array::Array;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// Groups that are told apart; rows beyond them count in the operations only.
const GROUPS_MAX: usize = 1 << 14;

/// What calls are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum By {
    Syscall,
    Comm,
    Object,
}

impl By {
    /// The value of the column `by`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            By::Syscall => "syscall",
            By::Comm => "comm,syscall",
            By::Object => "object",
        }
    }
}

/// Calls of one group in one trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Measure {
    /// Of those that ended.
    pub durations: Distribution,
    /// Of those that slept and whose waking is known.
    pub waits: Distribution,
    /// How many slept.
    pub slept: u64,
    /// All, the open ones too.
    pub calls: u64,
}

/// Trace, by, number of the operation (of an object: of its label), number of the thread name.
type Key = (usize, By, u32, u32);

/// What was measured.
#[derive(Default)]
pub(super) struct Measures {
    texts: Texts,
    groups: HashMap<Key, Measure>,
    /// By trace, operation and errno.
    errors: HashMap<(usize, u32, u32), u64>,
    caches: [DictionaryCache; 3],
}

impl Measures {
    /// Reads both traces.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub(super) fn read(opened: &Opened) -> Result<Measures, Error> {
        let lifetimes = Lifetimes::read_if(&opened.traces, |_, _| true)?;
        let makers: Wanted =
            lifetimes.iter().filter_map(|(trace, _, l)| l.created_by.map(|process| (trace, process))).collect();
        let processes = Processes::read(&opened.traces, &makers)?;
        let labels = lifetimes.iter().map(|(trace, object_ref, l)| ((trace, object_ref), label(trace, l, &processes)));
        let query = MeasureQuery { labels: labels.collect() };
        scan::fold(&opened.traces, &opened.selection, &query)
    }

    /// Takes the groups of a kind: name, before, after.
    pub(super) fn take_groups(&mut self, by: By) -> Vec<(String, [Measure; 2])> {
        let mut found: HashMap<String, [Measure; 2]> = HashMap::new();
        for ((trace, _, operation, comm), measure) in self.groups.extract_if(|(_, of, ..), _| *of == by) {
            let operation = self.texts.get(operation).unwrap_or("?");
            let name = match self.texts.get(comm) {
                Some(comm) => format!("{comm} {operation}"),
                None => operation.to_owned(),
            };
            if let Some(side) = found.entry(name).or_default().get_mut(trace) {
                *side = measure;
            }
        }
        let mut groups: Vec<_> = found.into_iter().collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        groups
    }

    /// How many calls of each operation, before and after.
    pub(super) fn calls(&self) -> HashMap<&str, [u64; 2]> {
        let mut calls: HashMap<&str, [u64; 2]> = HashMap::new();
        for ((trace, _, operation, _), measure) in self.groups.iter().filter(|((_, by, ..), _)| *by == By::Syscall) {
            if let Some(side) = calls.entry(self.texts.get(*operation).unwrap_or("?")).or_default().get_mut(*trace) {
                *side = measure.calls;
            }
        }
        calls
    }

    /// The failures: operation, errno, count before and after.
    pub(super) fn errors(&self) -> Vec<(String, String, [u64; 2])> {
        let mut found: HashMap<(u32, u32), [u64; 2]> = HashMap::new();
        for ((trace, operation, error), count) in &self.errors {
            if let Some(side) = found.entry((*operation, *error)).or_default().get_mut(*trace) {
                *side = *count;
            }
        }
        let text = |number| self.texts.get(number).unwrap_or("?").to_owned();
        let mut errors: Vec<_> = found.into_iter().map(|((o, e), counts)| (text(o), text(e), counts)).collect();
        errors.sort();
        errors
    }

    fn numbers(&mut self, cache: usize, batch: &Batch, column: &str) -> Result<Vec<u32>, Error> {
        Ok(self.caches[cache].numbers(&batch.text(column)?, &mut self.texts))
    }

    fn group(&mut self, key: Key) -> Option<&mut Measure> {
        if self.groups.len() >= GROUPS_MAX && key.1 != By::Syscall && !self.groups.contains_key(&key) {
            return None;
        }
        Some(self.groups.entry(key).or_default())
    }
}

/// What the same object is called in both traces.
fn label(trace: usize, lifetime: &Lifetime, processes: &Processes) -> String {
    let kind = &lifetime.kind;
    match (&lifetime.name, lifetime.key) {
        (Some(name), _) => format!("{kind}:{name}"),
        (None, Some(key)) if key != 0 => format!("{kind}:key={key:#x}"),
        _ => {
            let maker = lifetime.created_by.and_then(|id| processes.get(trace, id)).and_then(|p| p.comm.as_deref());
            format!("{kind} made by {}", maker.unwrap_or("unknown"))
        }
    }
}

struct MeasureQuery {
    labels: HashMap<(usize, i64), String>,
}

impl Query for MeasureQuery {
    type Partial = Measures;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["syscall", "comm", "error", "object_ref", "duration_ns", "slept", "wait_ns"]
    }

    fn empty(&self) -> Measures {
        Measures::default()
    }

    fn fold(&self, measures: &mut Measures, batch: &Batch) -> Result<(), Error> {
        let syscalls = measures.numbers(0, batch, "syscall")?;
        let comms = measures.numbers(1, batch, "comm")?;
        let errors = measures.numbers(2, batch, "error")?;
        let (refs, durations) = (batch.int64("object_ref")?, batch.int64("duration_ns")?);
        let (slept, waits) = (batch.boolean("slept")?, batch.int64("wait_ns")?);
        let mut last: Option<(i64, u32)> = None;
        for row in 0..batch.rows() {
            let duration = int64_at(durations, row);
            let did_sleep = slept.is_valid(row) && slept.value(row);
            let wait = int64_at(waits, row).filter(|_| did_sleep);
            let object = int64_at(refs, row).and_then(|object_ref| match last {
                Some((known, number)) if known == object_ref => Some(number),
                _ => {
                    let number = measures.texts.number(self.labels.get(&(batch.trace, object_ref))?);
                    last = Some((object_ref, number));
                    Some(number)
                }
            });
            let trace = batch.trace;
            let of_object = object.map(|label| (trace, By::Object, label, NULL));
            let keys = [(trace, By::Syscall, syscalls[row], NULL), (trace, By::Comm, syscalls[row], comms[row])];
            for key in keys.into_iter().chain(of_object) {
                if let Some(group) = measures.group(key) {
                    group.add(duration, wait, did_sleep);
                }
            }
            if errors[row] != NULL {
                *measures.errors.entry((trace, syscalls[row], errors[row])).or_default() += 1;
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Measures, from: Measures) {
        let translation = into.texts.adopt(&from.texts);
        for ((trace, by, operation, comm), measure) in from.groups {
            into.groups.entry((trace, by, translation.of(operation), translation.of(comm))).or_default().merge(measure);
        }
        for ((trace, operation, error), count) in from.errors {
            *into.errors.entry((trace, translation.of(operation), translation.of(error))).or_default() += count;
        }
    }
}

impl Measure {
    fn add(&mut self, duration: Option<i64>, wait: Option<i64>, slept: bool) {
        self.calls += 1;
        self.slept += u64::from(slept);
        if let Some(duration) = duration {
            self.durations.add(duration, &mut 0);
        }
        if let Some(wait) = wait {
            self.waits.add(wait, &mut 0);
        }
    }

    fn merge(&mut self, from: Measure) {
        self.calls += from.calls;
        self.slept += from.slept;
        self.durations.merge(from.durations);
        self.waits.merge(from.waits);
    }
}
