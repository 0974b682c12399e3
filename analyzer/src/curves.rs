//! What rises and falls over time: the depth of queues, the values of semaphores, calls that were lost.

use crate::batch::{Batch, int64_at};
use crate::calls::Call;
use crate::error::Error;
use crate::names::{Lifetimes, Wanted};
use crate::opened::Opened;
use crate::queries::queues;
use crate::scan;
use crate::trace::Trace;
use ipc_schema::tables;
use std::collections::BTreeMap;

/// One of them.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is of: `depth of mq:/jobs`.
    pub name: String,
    /// How sure it is.
    pub how_known: &'static str,
    /// Values, and since when, nanoseconds since the epoch.
    pub points: Vec<(i64, i64)>,
    /// Whether there were more than are kept.
    pub is_cut_off: bool,
}

/// What [`Semaphores`] need of calls.
pub const COLUMNS: [&str; 15] = [
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

/// Points of all semaphores' curves together, 16 bytes each.
const POINTS_MAX: usize = 1 << 23;
/// Semaphores that are followed at most, the first ones.
const SEMAPHORES_MAX: usize = 1 << 16;
/// A snapshot takes some time after its begin: it counts where the set rested for as long as this.
const SNAPSHOT_NS: i64 = 50_000_000;

/// The depths of queues, and the calls that were lost.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened) -> Result<Vec<Curve>, Error> {
    let mut curves = Vec::new();
    for depth in queues::depths(opened)? {
        let name = format!("depth of {}{}", depth.object, on(opened, depth.trace));
        let (points, is_cut_off) = (depth.changes, depth.is_cut_off);
        curves.push(Curve { name, how_known: depth.how_known, points, is_cut_off });
    }
    for (trace, of) in opened.traces.iter().enumerate() {
        let points = losses(of)?;
        if !points.is_empty() {
            let name = format!("lost calls{}", on(opened, trace));
            curves.push(Curve { name, how_known: "counted", points, is_cut_off: false });
        }
    }
    Ok(curves)
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
    let is_of_calls = |row: &usize| {
        sources.get(*row).is_some_and(|source| ipc_schema::losses::by_name(source).is_none_or(|s| s.counts_calls))
    };
    let rows = (0..batch.rows()).filter(is_of_calls);
    found.extend(rows.filter_map(|row| Some((times.value(row), int64_at(counts, row)?))));
    Ok(())
}

/// The values of semaphores, followed from call to call in the order of their ends.
#[derive(Debug)]
pub struct Semaphores {
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
    points: Vec<(i64, i64)>,
    is_cut_off: bool,
}

impl Semaphores {
    /// With what snapshots counted.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn new(opened: &Opened) -> Result<Semaphores, Error> {
        let columns = ["object_ref", "snapshot_ns", "phase", "sem_values"];
        let ends_only = opened.traces.iter().any(Trace::has_many_snapshots);
        let read = |batch: &Batch, found: &mut Vec<Counted>| read_values(batch, ends_only, found);
        let mut rows = scan::collect(&opened.traces, &tables::OBJECTS, &columns, read)?;
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.0, row.1)));
        let mut semaphores =
            Semaphores { sets: BTreeMap::new(), room: Room { semaphores: SEMAPHORES_MAX, points: POINTS_MAX } };
        for (set, at_ns, values) in rows {
            semaphores.sets.entry(set).or_default().counted.push((at_ns, values));
        }
        Ok(semaphores)
    }

    /// Adds the next call.
    ///
    /// # Errors
    /// A column cannot be believed.
    pub fn add(&mut self, trace: usize, call: &Call<'_>) -> Result<(), Error> {
        let (Some(object_ref), Some(end_ns)) = (call.int64("object_ref")?, call.int64("end_ns")?) else {
            return Ok(());
        };
        if call.text("object_kind")? != Some("sem") || call.text("outcome")? != Some("ok") {
            return Ok(());
        }
        let Semaphores { sets, room } = self;
        let set = sets.entry((trace, object_ref)).or_default();
        set.take_counts(end_ns, room);
        match (call.text("syscall")?, call.text("command")?, call.int32("sem_num")?) {
            // The kernel sets them to 0; portable programs do not count on it.
            (Some("semget"), _, _) if call.is_true("created")? => {
                let count = call.int32("sem_count")?.unwrap_or(0);
                let followed = count.min(i32::try_from(room.semaphores).unwrap_or(i32::MAX));
                (0..followed).for_each(|number| set.set(number, end_ns, 0, room));
            }
            (Some("semop" | "semtimedop"), ..) => {
                for (number, operation, _) in call.operations()? {
                    set.change(number, end_ns, operation.into(), room);
                }
            }
            (_, Some("SETVAL" | "GETVAL"), Some(number)) => {
                if let Some(value) = call.int32("sem_value")? {
                    set.set(number, end_ns, value.into(), room);
                }
            }
            // To what is not recorded.
            (_, Some("SETALL"), _) => set.values.values_mut().for_each(|value| value.now = None),
            _ => {}
        }
        Ok(())
    }

    /// The curves of those that changed.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn finish(mut self, opened: &Opened) -> Result<Vec<Curve>, Error> {
        let Semaphores { sets, room } = &mut self;
        sets.values_mut().for_each(|set| set.take_counts(i64::MAX, room));
        let wanted: Wanted = self.sets.keys().copied().collect();
        let lifetimes = Lifetimes::read(&opened.traces, &wanted)?;
        let mut curves = Vec::new();
        for ((trace, object_ref), set) in self.sets {
            let object = lifetimes.label(trace, object_ref);
            let changed = set.values.into_iter().filter(|(_, value)| value.points.len() > 1);
            for (number, Value { points, is_cut_off, .. }) in changed {
                let name = format!("value of {object}[{number}]{}", on(opened, trace));
                curves.push(Curve { name, how_known: "reconstructed", points, is_cut_off });
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
                (0..).zip(values).for_each(|(number, value)| self.set(number, at_ns, value.into(), room));
            }
            self.was_counted = true;
        }
    }

    fn set(&mut self, number: i32, at_ns: i64, value: i64, room: &mut Room) {
        if !self.values.contains_key(&number) {
            let Some(left) = room.semaphores.checked_sub(1) else { return };
            room.semaphores = left;
        }
        let semaphore = self.values.entry(number).or_default();
        semaphore.now = Some(value);
        semaphore.keep(at_ns, room);
    }

    fn change(&mut self, number: i32, at_ns: i64, operation: i64, room: &mut Room) {
        if let Some(semaphore) = self.values.get_mut(&number) {
            semaphore.now = semaphore.now.map(|value| value.saturating_add(operation));
            semaphore.keep(at_ns, room);
        }
    }
}

impl Value {
    /// Calls of different processors can return in another order than they took effect: never below 0.
    fn keep(&mut self, at_ns: i64, room: &mut Room) {
        let Some(value) = self.now.map(|value| value.max(0)) else { return };
        if self.points.last().is_some_and(|last| last.1 == value) {
            return;
        }
        match room.points.checked_sub(1) {
            None => self.is_cut_off = true,
            Some(left) => {
                room.points = left;
                self.points.push((at_ns, value));
            }
        }
    }
}

/// A set, when it was looked at, and its values.
type Counted = ((usize, i64), i64, Vec<i32>);

fn read_values(batch: &Batch, ends_only: bool, found: &mut Vec<Counted>) -> Result<(), Error> {
    let (refs, times, phases) = (batch.int64("object_ref")?, batch.int64("snapshot_ns")?, batch.text("phase")?);
    let is_wanted = |row: &usize| !ends_only || matches!(phases.get(*row), Some("start" | "end"));
    for row in (0..batch.rows()).filter(is_wanted) {
        if let Some(values) = batch.numbers("sem_values", row)? {
            found.push(((batch.trace, refs.value(row)), times.value(row), values));
        }
    }
    Ok(())
}
