//! What rises and falls over time: the depth of queues, the values of semaphores, calls that were lost.

use crate::batch::{Batch, int64_at};
use crate::calls::{self, Call};
use crate::error::Error;
use crate::filter::Selection;
use crate::losses::counts_calls;
use crate::names::{Lifetimes, Wanted};
use crate::opened::Opened;
use crate::queries::queues::{self, SNAPSHOT_NS};
use crate::scan;
use crate::trace::Trace;
use ipc_schema::tables;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of them.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is of: `depth of mq:/jobs`.
    pub name: String,
    /// How sure it is.
    pub how_known: &'static str,
    /// Values, and since when, nanoseconds since the epoch; `None`: not known from then on.
    pub points: Vec<(i64, Option<i64>)>,
    /// Until when the last one holds.
    pub end_ns: i64,
}

/// What [`Semaphores`] need of calls.
const COLUMNS: [&str; 15] = [
    "call_id",
    "syscall",
    "outcome",
    "start_ns",
    "end_ns",
    "object_ref",
    "object_kind",
    "command",
    "created",
    "sem_count",
    "sem_num",
    "sem_op",
    "sem_flags",
    "sem_ops_total",
    "sem_value",
];

/// Points of all semaphores' curves together, 24 bytes each.
const POINTS_MAX: usize = 1 << 23;
/// Semaphores, and sets of them, that are followed at most, the first ones.
const SEMAPHORES_MAX: usize = 1 << 16;
/// Values that snapshots counted and that are kept at most, 4 bytes each.
const COUNTED_MAX: usize = 1 << 24;
const SEM_UNDO: i32 = 4096;

/// The depths of queues, the calls that were lost, and the values of semaphores if those are wanted too. They are followed over
/// all calls, for one that is left out would make all values behind it wrong; what is shown is the time that was asked for.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, with_semaphores: bool) -> Result<Vec<Curve>, Error> {
    let mut curves = Vec::new();
    for depth in queues::depths(opened)? {
        let name = format!("depth of {}{}", depth.object, on(opened, depth.trace));
        let points = depth.changes.into_iter().map(|(at_ns, messages)| (at_ns, Some(messages))).collect();
        let curve = Curve { name, how_known: depth.how_known, points, end_ns: depth.end_ns };
        curves.extend(curve.within(opened, depth.trace));
    }
    for (trace, of) in opened.traces.iter().enumerate() {
        let points: Vec<_> = losses(of)?.into_iter().map(|(at_ns, count)| (at_ns, Some(count))).collect();
        let (name, end_ns) = (format!("lost calls{}", on(opened, trace)), opened.span_ns(trace).1);
        let curve = Curve { name, how_known: "counted", points, end_ns };
        curves.extend(curve.within(opened, trace));
    }
    if with_semaphores {
        let mut semaphores = Semaphores::new(opened)?;
        calls::for_each(&opened.traces, &Selection::everything(), &COLUMNS, |cursor| {
            semaphores.add(cursor.batch.trace, &cursor.call())?;
            Ok(true)
        })?;
        curves.extend(semaphores.finish(opened)?);
    }
    Ok(curves)
}

impl Curve {
    /// What of it lies in the time that is looked at; `None` if nothing does.
    fn within(mut self, opened: &Opened, trace: usize) -> Option<Curve> {
        let (from_ns, to_ns) = opened.window_ns(trace);
        // The last one before holds when the time begins.
        let before = self.points.partition_point(|(at_ns, _)| *at_ns <= from_ns).saturating_sub(1);
        self.points.drain(..before);
        if let Some(first) = self.points.first_mut() {
            first.0 = first.0.max(from_ns);
        }
        self.points.retain(|(at_ns, _)| *at_ns < to_ns);
        self.end_ns = self.end_ns.min(to_ns);
        (!self.points.is_empty() && self.end_ns > from_ns).then_some(self)
    }
}

/// ` on db1`, of several traces.
fn on(opened: &Opened, trace: usize) -> String {
    match opened.traces.get(trace) {
        Some(of) if opened.traces.len() > 1 => format!(" on {}", of.manifest.session.host),
        _ => String::new(),
    }
}

/// The calls that were lost so far, at the end of each place where some were.
fn losses(trace: &Trace) -> Result<Vec<(i64, i64)>, Error> {
    let traces = std::slice::from_ref(trace);
    let mut rows = scan::collect(traces, &tables::LOSSES, &["to_ns", "source", "count"], read_losses)?;
    rows.sort_unstable();
    let mut total = 0i64;
    let sums = rows.into_iter().map(|(to_ns, count)| {
        total = total.saturating_add(count);
        (to_ns, total)
    });
    Ok(sums.collect())
}

fn read_losses(batch: &Batch, found: &mut Vec<(i64, i64)>) -> Result<(), Error> {
    let (times, sources, counts) = (batch.int64("to_ns")?, batch.text("source")?, batch.int64("count")?);
    let is_of_calls = |row: &usize| sources.get(*row).is_some_and(counts_calls);
    let rows = (0..batch.rows()).filter(is_of_calls);
    found.extend(rows.filter_map(|row| Some((times.value(row), int64_at(counts, row)?))));
    Ok(())
}

/// The values of semaphores, followed from call to call in the order of their ends.
#[derive(Debug)]
struct Semaphores {
    sets: BTreeMap<(usize, i64), Set>,
    room: Room,
}

/// How much more is kept.
#[derive(Debug)]
struct Room {
    semaphores: usize,
    points: usize,
}

/// One set.
#[derive(Debug, Default)]
struct Set {
    values: BTreeMap<i32, Value>,
    /// What snapshots counted, the next one last.
    counted: Vec<(i64, Vec<i32>)>,
    was_counted: bool,
}

/// One semaphore.
#[derive(Debug, Default)]
struct Value {
    /// `None`: not known.
    now: Option<i64>,
    points: Vec<(i64, Option<i64>)>,
    /// When there was no room for a point any more.
    cut_off_ns: Option<i64>,
    /// Whether some process's end gives back what it took: that is in no call.
    has_undo: bool,
}

impl Semaphores {
    /// With what snapshots counted.
    fn new(opened: &Opened) -> Result<Semaphores, Error> {
        let columns = ["object_ref", "snapshot_ns", "phase", "sem_values"];
        let ends_only = opened.traces.iter().any(Trace::has_many_snapshots);
        let room = AtomicUsize::new(COUNTED_MAX);
        let read = |batch: &Batch, found: &mut Vec<Counted>| read_values(batch, ends_only, &room, found);
        let mut rows = scan::collect(&opened.traces, &tables::OBJECTS, &columns, read)?;
        rows.sort_unstable_by_key(|row| Reverse((row.0, row.1)));
        let room = Room { semaphores: SEMAPHORES_MAX, points: POINTS_MAX };
        let mut semaphores = Semaphores { sets: BTreeMap::new(), room };
        for (set, at_ns, values) in rows {
            semaphores.sets.entry(set).or_default().counted.push((at_ns, values));
        }
        Ok(semaphores)
    }

    /// Adds the next call.
    fn add(&mut self, trace: usize, call: &Call<'_>) -> Result<(), Error> {
        let (Some(object_ref), Some(end_ns)) = (call.int64("object_ref")?, call.int64("end_ns")?) else {
            return Ok(());
        };
        if call.text("object_kind")? != Some("sem") || call.text("outcome")? != Some("ok") {
            return Ok(());
        }
        let Semaphores { sets, room } = self;
        if sets.len() >= SEMAPHORES_MAX && !sets.contains_key(&(trace, object_ref)) {
            return Ok(());
        }
        let set = sets.entry((trace, object_ref)).or_default();
        set.take_counts(end_ns, room);
        match (call.text("syscall")?, call.text("command")?, call.int32("sem_num")?) {
            // The kernel sets them to 0; portable programs do not count on it.
            (Some("semget"), _, _) if call.is_true("created")? => {
                let count = call.int32("sem_count")?.unwrap_or(0);
                let followed = count.min(i32::try_from(room.semaphores).unwrap_or(i32::MAX));
                (0..followed).for_each(|number| set.set(number, end_ns, Some(0), room));
            }
            (Some("semop" | "semtimedop"), ..) => {
                for (number, operation, flags) in call.operations()? {
                    set.change(number, end_ns, (operation, flags), room);
                }
            }
            (_, Some("SETVAL" | "GETVAL"), Some(number)) => {
                if let Some(value) = call.int32("sem_value")? {
                    set.set(number, end_ns, Some(value.into()), room);
                }
            }
            // To what is not recorded.
            (_, Some("SETALL"), _) => {
                let numbers: Vec<i32> = set.values.keys().copied().collect();
                numbers.into_iter().for_each(|number| set.set(number, end_ns, None, room));
            }
            _ => {}
        }
        Ok(())
    }

    /// The curves of those that changed.
    fn finish(mut self, opened: &Opened) -> Result<Vec<Curve>, Error> {
        let Semaphores { sets, room } = &mut self;
        sets.values_mut().for_each(|set| set.take_counts(i64::MAX, room));
        let wanted: Wanted = self.sets.keys().copied().collect();
        let lifetimes = Lifetimes::read(&opened.traces, &wanted)?;
        let mut curves = Vec::new();
        for ((trace, object_ref), set) in self.sets {
            let object = lifetimes.label(trace, object_ref);
            let removed_ns = lifetimes.get(trace, object_ref).and_then(|life| life.removed_ns);
            let changed = set.values.into_iter().filter(|(_, value)| value.points.len() > 1);
            for (number, Value { points, cut_off_ns, has_undo, .. }) in changed {
                let name = format!("value of {object}[{number}]{}", on(opened, trace));
                let how_known =
                    if has_undo { "reconstructed, but for what SEM_UNDO gave back" } else { "reconstructed" };
                let end_ns = cut_off_ns.or(removed_ns).unwrap_or(opened.span_ns(trace).1);
                curves.extend(Curve { name, how_known, points, end_ns }.within(opened, trace));
            }
        }
        Ok(curves)
    }
}

impl Set {
    /// Takes over what snapshots counted before a call that ends at `until_ns`, if the set rested then.
    fn take_counts(&mut self, until_ns: i64, room: &mut Room) {
        while let Some((at_ns, values)) = self.counted.pop_if(|(at_ns, _)| *at_ns <= until_ns) {
            let rested = until_ns > at_ns.saturating_add(SNAPSHOT_NS);
            if rested || !self.was_counted {
                (0..).zip(values).for_each(|(number, value)| self.set(number, at_ns, Some(value.into()), room));
            }
            self.was_counted = true;
        }
    }

    /// `None`: to what nobody knows.
    fn set(&mut self, number: i32, at_ns: i64, value: Option<i64>, room: &mut Room) {
        if !self.values.contains_key(&number) {
            let Some(left) = room.semaphores.checked_sub(1) else { return };
            room.semaphores = left;
        }
        let semaphore = self.values.entry(number).or_default();
        semaphore.now = value;
        semaphore.keep(at_ns, room);
    }

    fn change(&mut self, number: i32, at_ns: i64, (operation, flags): (i32, i32), room: &mut Room) {
        if let Some(semaphore) = self.values.get_mut(&number) {
            semaphore.has_undo |= flags & SEM_UNDO != 0;
            semaphore.now = semaphore.now.map(|value| value.saturating_add(operation.into()));
            semaphore.keep(at_ns, room);
        }
    }
}

impl Value {
    /// Calls of different processors can return in another order than they took effect: never below 0.
    fn keep(&mut self, at_ns: i64, room: &mut Room) {
        let value = self.now.map(|value| value.max(0));
        if self.cut_off_ns.is_some() || self.points.last().and_then(|last| last.1) == value {
            return;
        }
        match room.points.checked_sub(1) {
            None => self.cut_off_ns = Some(at_ns),
            Some(left) => {
                room.points = left;
                self.points.push((at_ns, value));
            }
        }
    }
}

/// A set, when it was looked at, and its values.
type Counted = ((usize, i64), i64, Vec<i32>);

fn read_values(batch: &Batch, ends_only: bool, room: &AtomicUsize, found: &mut Vec<Counted>) -> Result<(), Error> {
    let (refs, times, phases) = (batch.int64("object_ref")?, batch.int64("snapshot_ns")?, batch.text("phase")?);
    let is_wanted = |row: &usize| !ends_only || matches!(phases.get(*row), Some("start" | "end"));
    for row in (0..batch.rows()).filter(is_wanted) {
        let Some(values) = batch.numbers("sem_values", row)? else { continue };
        let take = |left: usize| left.checked_sub(values.len());
        if room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            found.push(((batch.trace, refs.value(row)), times.value(row), values));
        }
    }
    Ok(())
}
