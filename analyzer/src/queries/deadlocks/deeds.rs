//! What each process did to the semaphores and queues that somebody waits for: sums, for which the order of the calls does
//! not matter once it is known when each semaphore was last set anew.
//!
//! That is right because addition commutes, and whether an operation comes after the reset is told by its own times
//! alone. An operation that overlaps the reset counts as after it if it ended later; where the trace cannot tell, it says
//! so ([`Sums::overlaps_reset`]). One that slept and was woken during the reset or later is certainly after it.

use super::resets::Resets;
use super::waits::{self, Lack};
use super::{Moments, Place, QUEUE};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use crate::sem_ops::{Operations, SemOps};
use crate::trace::Trace;
use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables::{self, Table};

/// Sums that all threads of the analyzer keep in one pass, some 180 bytes each: what is beyond is left to further passes.
const SUMS_MAX: usize = 300_000;
/// Sums of one thread that it may have in any case.
const SUMS_MIN: usize = 4096;
/// Passes at most; if even these do not do, the rest is a helper that may always come.
const PASSES_MAX: u64 = 256;
/// Processes kept for all places together, some 300 bytes each.
const ACTORS_MAX: usize = 200_000;
/// Threads kept of a process at a place.
const THREADS_MAX: usize = 64;

/// `SEM_UNDO` of `linux/sem.h`.
const SEM_UNDO: i32 = 0x1000;
/// `MSG_COPY` of `linux/msg.h`: such a msgrcv takes nothing.
const MSG_COPY: i32 = 0o40000;

/// What somebody did at one place, since its last reset. Taking from a queue is receiving, giving is sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How much was taken.
    pub taken: i64,
    /// How much was given.
    pub given: i64,
    /// What would be given back at the end of the process: taken less given, of operations with SEM_UNDO.
    pub undo: i64,
    /// When it first took: the start.
    pub first_take_ns: Option<i64>,
    /// The first giving.
    pub first_given: Option<Given>,
    /// The last taking: its end and the call.
    pub last_take: Option<(i64, i64)>,
    /// The end of the last that it did.
    pub last_ns: Option<i64>,
    /// Given less taken, after the moment that is asked about.
    pub later: i64,
    /// Whether it opened the queue.
    pub opened: bool,
    /// Whether it did something before the last reset.
    pub before_reset: bool,
    /// Whether something that it did may have been before the last reset or after.
    pub overlaps_reset: bool,
    /// Whether an operation of it on the object is not known.
    pub is_incomplete: bool,
}

/// A giving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given {
    /// Its end.
    pub end_ns: i64,
    /// How much.
    pub amount: i64,
    /// Whether with SEM_UNDO.
    pub undo: bool,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.taken = self.taken.saturating_add(other.taken);
        self.given = self.given.saturating_add(other.given);
        self.undo = self.undo.saturating_add(other.undo);
        self.later = self.later.saturating_add(other.later);
        self.first_take_ns = self.first_take_ns.into_iter().chain(other.first_take_ns).min();
        self.first_given = self.first_given.into_iter().chain(other.first_given).min();
        self.last_take = self.last_take.max(other.last_take);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.opened |= other.opened;
        self.before_reset |= other.before_reset;
        self.overlaps_reset |= other.overlaps_reset;
        self.is_incomplete |= other.is_incomplete;
    }

    /// Whether it may matter to a wait; a process that gives back what it takes does not.
    fn matters(&self, place: &Place, for_zero: bool) -> bool {
        let gave_first = self.first_given.is_some_and(|given| self.first_take_ns.is_none_or(|ns| given.end_ns <= ns));
        place.2 == QUEUE
            || self.taken != self.given
            || self.undo != 0
            || self.later != 0
            || self.is_incomplete
            || gave_first
            || (for_zero && self.taken > 0)
    }
}

/// A process at a place.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The process.
    pub process_id: i64,
    /// What all its threads did.
    pub sums: Sums,
    /// The threads that took more than they gave, [`THREADS_MAX`] at most.
    pub takers: Vec<i64>,
}

/// What was done at a place.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// The processes that matter, by their ids.
    pub actors: Vec<Actor>,
    /// What everybody did together.
    pub all: Sums,
    /// Whether there are more processes than are kept.
    pub has_more: bool,
}

impl Deeds {
    /// A process, if it matters here.
    pub fn actor(&self, process_id: i64) -> Option<&Actor> {
        let index = self.actors.binary_search_by_key(&process_id, |actor| actor.process_id).ok()?;
        self.actors.get(index)
    }
}

/// The deeds by place.
pub type AllDeeds = HashMap<Place, Deeds>;

/// The places that matter; `true`: somebody waits for zero there.
pub type Places = HashMap<Place, bool>;

/// The places of waits.
pub fn places(waits: &[waits::Wait]) -> Places {
    let mut places = Places::new();
    for (place, lack) in waits.iter().flat_map(waits::Wait::places) {
        *places.entry(place).or_default() |= lack == Lack::Zero;
    }
    places
}

/// Reads what was done at `places`, in as many passes as its memory asks for.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, moments: &Moments, places: &Places, resets: &Resets) -> Result<AllDeeds, Error> {
    let sums_max = (SUMS_MAX / rayon::current_num_threads().max(1)).max(SUMS_MIN);
    read_within(sums_max, opened, moments, places, resets)
}

fn read_within(
    sums_max: usize,
    opened: &Opened,
    moments: &Moments,
    places: &Places,
    resets: &Resets,
) -> Result<AllDeeds, Error> {
    if places.is_empty() {
        return Ok(AllDeeds::new());
    }
    let objects = places.keys().map(|(trace, object_ref, _)| (*trace, *object_ref)).collect();
    let (mut pass, mut passes) = (0, 1);
    let (mut deeds, mut actors) = (AllDeeds::new(), 0);
    while pass < passes {
        let query =
            DeedsQuery { traces: &opened.traces, moments, places, objects: &objects, resets, sums_max, pass, passes };
        let found = scan::fold(&opened.traces, &opened.selection, &query)?;
        if found.is_full && passes < PASSES_MAX {
            // From the beginning, in smaller portions.
            (pass, passes) = (0, passes * 4);
            (deeds, actors) = (AllDeeds::new(), 0);
        } else {
            reduce(&mut deeds, &mut actors, found, places);
            pass += 1;
        }
    }
    deeds.values_mut().for_each(|deeds| deeds.actors.sort_by_key(|actor| actor.process_id));
    Ok(deeds)
}

/// Keeps what matters of one pass; every process is in one pass with all that it did.
fn reduce(deeds: &mut AllDeeds, actors: &mut usize, found: Found<'_>, places: &Places) {
    let mut of_processes: HashMap<(Place, i64), Actor> = HashMap::new();
    for ((place, thread_id), (process_id, sums)) in found.sums {
        let actor = of_processes.entry((place, process_id)).or_insert_with(|| Actor {
            process_id,
            sums: Sums::default(),
            takers: Vec::new(),
        });
        actor.sums.add(&sums);
        if sums.taken > sums.given && actor.takers.len() < THREADS_MAX {
            actor.takers.push(thread_id);
        }
    }
    for ((place, _), mut actor) in of_processes {
        let at = deeds.entry(place).or_default();
        at.all.add(&actor.sums);
        if !actor.sums.matters(&place, places.get(&place).copied().unwrap_or(false)) {
            continue;
        }
        if *actors < ACTORS_MAX {
            actor.takers.sort_unstable();
            at.actors.push(actor);
            *actors += 1;
        } else {
            at.has_more = true;
        }
    }
    if found.is_full {
        places.keys().for_each(|place| deeds.entry(*place).or_default().has_more = true);
    }
}

struct DeedsQuery<'a> {
    traces: &'a [Trace],
    moments: &'a Moments,
    places: &'a Places,
    objects: &'a HashSet<(usize, i64)>,
    resets: &'a Resets,
    sums_max: usize,
    pass: u64,
    passes: u64,
}

/// What one thread of the analyzer found.
struct Found<'a> {
    /// By place and thread: the process and what the thread did.
    sums: HashMap<(Place, i64), (i64, Sums)>,
    operations: HashMap<usize, SemOps<'a>>,
    is_full: bool,
}

impl Found<'_> {
    fn at(&mut self, place: Place, process_id: i64, thread_id: i64, sums_max: usize) -> Option<&mut Sums> {
        if self.sums.len() >= sums_max && !self.sums.contains_key(&(place, thread_id)) {
            self.is_full = true;
            return None;
        }
        Some(&mut self.sums.entry((place, thread_id)).or_insert((process_id, Sums::default())).1)
    }
}

/// The times of one call that ended well.
#[derive(Clone, Copy)]
struct Times {
    start_ns: i64,
    end_ns: i64,
    /// When its sleep ended.
    woken_ns: Option<i64>,
}

const COLUMNS: &[&str] = &[
    "call_id",
    "object_ref",
    "syscall",
    "outcome",
    "start_ns",
    "end_ns",
    "process_id",
    "thread_id",
    "flags",
    "sem_num",
    "sem_op",
    "sem_flags",
    "sem_ops_total",
    "wait_ns",
];

impl<'a> Query for DeedsQuery<'a> {
    type Partial = Found<'a>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        COLUMNS.to_vec()
    }

    fn empty(&self) -> Found<'a> {
        Found { sums: HashMap::new(), operations: HashMap::new(), is_full: false }
    }

    fn fold(&self, found: &mut Found<'a>, batch: &Batch) -> Result<(), Error> {
        let (object_ref, process) = (batch.int64("object_ref")?, batch.int64("process_id")?);
        let outcome = batch.text("outcome")?;
        let is_of_pass = |row: usize| self.passes == 1 || spread(process.value(row)) % self.passes == self.pass;
        let is_wanted = |row: usize| {
            int64_at(object_ref, row).is_some_and(|object_ref| self.objects.contains(&(batch.trace, object_ref)))
                && outcome.get(row) == Some("ok")
                && is_of_pass(row)
        };
        let keep = BooleanBuffer::collect_bool(batch.rows(), is_wanted);
        if keep.count_set_bits() == 0 {
            return Ok(());
        }
        let batch = batch.filtered(&BooleanArray::new(keep, None))?;
        let Some(trace) = self.traces.get(batch.trace) else { return Ok(()) };
        let mut several = match found.operations.remove(&batch.trace) {
            Some(several) => several,
            None => SemOps::new(batch.trace, trace),
        };
        several.load(&batch)?;
        let done = self.fold_rows(found, &batch, &several);
        found.operations.insert(batch.trace, several);
        done
    }

    fn merge(&self, into: &mut Found<'a>, from: Found<'a>) {
        into.is_full |= from.is_full;
        for (key, (process_id, sums)) in from.sums {
            into.sums.entry(key).or_insert((process_id, Sums::default())).1.add(&sums);
        }
    }
}

/// Process ids are neighbours: this spreads them over the passes.
fn spread(process_id: i64) -> u64 {
    (process_id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

impl DeedsQuery<'_> {
    fn fold_rows(&self, found: &mut Found<'_>, batch: &Batch, several: &SemOps<'_>) -> Result<(), Error> {
        let (object_ref, syscall) = (batch.int64("object_ref")?, batch.text("syscall")?);
        let ids = ["call_id", "process_id", "thread_id"].map(|name| batch.int64(name));
        let [call_id, process_id, thread_id] = ids;
        let (call_id, process_id, thread_id) = (call_id?, process_id?, thread_id?);
        let (start, end, wait) = (batch.int64("start_ns")?, batch.int64("end_ns")?, batch.int64("wait_ns")?);
        let flags = batch.int32("flags")?;
        for row in 0..batch.rows() {
            let (Some(end_ns), Some(name)) = (int64_at(end, row), syscall.get(row)) else { continue };
            let start_ns = start.value(row);
            let woken_ns = int64_at(wait, row).filter(|ns| *ns > 0).map(|ns| start_ns.saturating_add(ns));
            let deed = Deed {
                object: (batch.trace, object_ref.value(row)),
                call_id: call_id.value(row),
                process_id: process_id.value(row),
                thread_id: thread_id.value(row),
                times: Times { start_ns, end_ns, woken_ns },
            };
            match name {
                "semop" | "semtimedop" => self.semaphore(found, deed, waits::operations_of(batch, row, several)?),
                "msgsnd" | "mq_timedsend" => self.queue(found, deed, 1),
                "msgrcv" if int32_at(flags, row).is_some_and(|flags| flags & MSG_COPY != 0) => {}
                "msgrcv" | "mq_timedreceive" => self.queue(found, deed, -1),
                "msgget" | "mq_open" => self.queue(found, deed, 0),
                _ => {}
            }
        }
        Ok(())
    }

    fn semaphore(&self, found: &mut Found<'_>, deed: Deed, operations: Operations) {
        for (number, operation, flags) in &operations {
            if *operation == 0 {
                continue;
            }
            self.one(found, deed, *number, (*operation).into(), flags & SEM_UNDO != 0);
        }
        if operations.is_empty() {
            // What it did is not known: it may have been done to any semaphore of the set.
            let of_set = self.places.keys().filter(|(trace, object_ref, _)| (*trace, *object_ref) == deed.object);
            for place in of_set {
                if let Some(sums) = found.at(*place, deed.process_id, deed.thread_id, self.sums_max) {
                    sums.is_incomplete = true;
                }
            }
        }
    }

    fn queue(&self, found: &mut Found<'_>, deed: Deed, amount: i64) {
        self.one(found, deed, QUEUE, amount, false);
    }

    fn one(&self, found: &mut Found<'_>, deed: Deed, number: i32, amount: i64, undo: bool) {
        let place = (deed.object.0, deed.object.1, number);
        if !self.places.contains_key(&place) {
            return;
        }
        let is_later = deed.times.end_ns > self.moments.at_ns(place.0);
        let after = self.resets.get(&place).map(|reset| deed.times.against(reset.start_ns, reset.end_ns));
        let Some(sums) = found.at(place, deed.process_id, deed.thread_id, self.sums_max) else { return };
        match after {
            _ if is_later => sums.later = sums.later.saturating_add(amount),
            Some(After::No) => sums.before_reset = true,
            Some(After::Perhaps(is_after)) => {
                sums.overlaps_reset = true;
                if is_after {
                    sums.note(deed, amount, undo);
                }
            }
            Some(After::Yes) | None => sums.note(deed, amount, undo),
        }
    }
}

/// One call.
#[derive(Clone, Copy)]
struct Deed {
    object: (usize, i64),
    call_id: i64,
    process_id: i64,
    thread_id: i64,
    times: Times,
}

/// Whether a call comes after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Yes,
    No,
    /// They overlap; whether it ended later.
    Perhaps(bool),
}

impl Times {
    fn against(self, reset_start_ns: i64, reset_end_ns: i64) -> After {
        let slept_through = self.woken_ns.is_some_and(|ns| ns >= reset_start_ns);
        if self.start_ns >= reset_end_ns || (slept_through && self.end_ns >= reset_end_ns) {
            After::Yes
        } else if self.end_ns <= reset_start_ns {
            After::No
        } else {
            After::Perhaps(self.end_ns > reset_end_ns)
        }
    }
}

impl Sums {
    fn note(&mut self, deed: Deed, amount: i64, undo: bool) {
        let Times { start_ns, end_ns, .. } = deed.times;
        let one = match amount {
            0 => Sums { opened: true, ..Sums::default() },
            ..0 => Sums {
                taken: -amount,
                undo: if undo { -amount } else { 0 },
                first_take_ns: Some(start_ns),
                last_take: Some((end_ns, deed.call_id)),
                last_ns: Some(end_ns),
                ..Sums::default()
            },
            1.. => Sums {
                given: amount,
                undo: if undo { -amount } else { 0 },
                first_given: Some(Given { end_ns, amount, undo }),
                last_ns: Some(end_ns),
                ..Sums::default()
            },
        };
        self.add(&one);
    }
}
