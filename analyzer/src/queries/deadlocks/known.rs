//! What else the trace knows of those who wait and of what they wait for: snapshots of values, lifetimes, and which
//! threads of a process live.

use super::deeds::{AllDeeds, Places};
use super::resets::Resets;
use super::waits::{End, Lack, Wait};
use super::{Moments, Place, QUEUE};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::names::{Lifetimes, Processes, Wanted};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use arrow::array::{Array, Int32Array, ListArray};
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables::{self, Table};

/// `CLONE_SYSVSEM` of `linux/sched.h`.
const CLONE_SYSVSEM: i64 = 0x0004_0000;

/// What the last snapshot says of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snapshot {
    /// When.
    pub ns: i64,
    /// The semaphore's value; of a queue how many messages, or bytes, are in it: 0 is empty.
    pub value: Option<i64>,
    /// How many wait for the semaphore to rise.
    pub waiters: Option<i64>,
    /// Who last changed the semaphore.
    pub last_pid: Option<i32>,
}

/// All that the answer rests on.
#[derive(Debug)]
pub struct Known {
    /// When.
    pub moments: Moments,
    /// The waits.
    pub waits: Vec<Wait>,
    /// The processes that wait at each place, sorted.
    waiting: HashMap<(Place, Lack), Vec<i64>>,
    /// When each semaphore was last set.
    pub resets: Resets,
    /// What was done.
    pub deeds: AllDeeds,
    /// The last snapshot of each place.
    pub snapshots: HashMap<Place, Snapshot>,
    /// The objects.
    pub lifetimes: Lifetimes,
    /// The processes.
    pub processes: Processes,
    /// The threads of each process that live at the moment, sorted.
    pub living: HashMap<(usize, i64), Vec<i64>>,
    /// Processes that may share what they would undo with the one that made them.
    pub shares_undo: HashSet<(usize, i64)>,
    /// The process that last changed a place, by its pid then.
    pub last_changers: HashMap<Place, i64>,
}

impl Known {
    /// Reads what is known of the waits.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(
        opened: &Opened,
        moments: Moments,
        waits: Vec<Wait>,
        places: &Places,
        (resets, deeds): (Resets, AllDeeds),
    ) -> Result<Known, Error> {
        let snapshots = read_snapshots(opened, &moments, places)?;
        let last_changers = read_last_changers(opened, &snapshots)?;
        let mut wanted = Wanted::new();
        wanted.extend(waits.iter().map(|wait| (wait.trace, wait.process_id)));
        wanted.extend(resets.iter().map(|((trace, ..), reset)| (*trace, reset.process_id)));
        wanted.extend(last_changers.iter().map(|((trace, ..), process_id)| (*trace, *process_id)));
        for ((trace, ..), deeds) in &deeds {
            wanted.extend(deeds.actors.iter().map(|actor| (*trace, actor.process_id)));
        }
        let objects: Wanted = waits.iter().filter_map(|wait| Some((wait.trace, wait.object_ref?))).collect();
        let lifetimes = Lifetimes::read(&opened.traces, &objects)?;
        let processes = Processes::read(&opened.traces, &wanted)?;
        let mut known = Known {
            moments,
            waiting: waiting(&waits),
            waits,
            resets,
            deeds,
            snapshots,
            lifetimes,
            processes,
            living: HashMap::new(),
            shares_undo: HashSet::new(),
            last_changers,
        };
        known.read_threads(opened, &wanted)?;
        Ok(known)
    }

    fn read_threads(&mut self, opened: &Opened, wanted: &Wanted) -> Result<(), Error> {
        let columns = &["thread_id", "process_id", "tid", "start_ns", "exit_ns", "clone_flags"];
        let found = scan::collect(&opened.traces, &tables::THREADS, columns, |batch, found| {
            self.read_threads_of(batch, wanted, found)
        })?;
        for (process, thread_id, fact) in found {
            match fact {
                Fact::Lives => self.living.entry(process).or_default().push(thread_id),
                Fact::SharesUndo => {
                    self.shares_undo.insert(process);
                }
            }
        }
        self.living.values_mut().for_each(|threads| threads.sort_unstable());
        Ok(())
    }

    fn read_threads_of(&self, batch: &Batch, wanted: &Wanted, found: &mut Vec<Threaded>) -> Result<(), Error> {
        let (thread_id, process_id, tid) = (batch.int64("thread_id")?, batch.int64("process_id")?, batch.int32("tid")?);
        let (start, exit, flags) = (batch.int64("start_ns")?, batch.int64("exit_ns")?, batch.int64("clone_flags")?);
        let at_ns = self.moments.at_ns(batch.trace);
        for row in (0..batch.rows()).filter(|row| wanted.contains(&(batch.trace, process_id.value(*row)))) {
            let (process, thread) = ((batch.trace, process_id.value(row)), thread_id.value(row));
            let began = int64_at(start, row).is_none_or(|ns| ns <= at_ns);
            if began && int64_at(exit, row).is_none_or(|ns| ns > at_ns) {
                found.push((process, thread, Fact::Lives));
            }
            let leader = self.processes.get(process.0, process.1).map(|process| process.pid);
            let shares = int64_at(flags, row).is_some_and(|flags| flags & CLONE_SYSVSEM != 0);
            if shares && leader == Some(tid.value(row)) {
                found.push((process, thread, Fact::SharesUndo));
            }
        }
        Ok(())
    }

    /// The processes that wait for something at a place, sorted.
    pub fn waiting_at(&self, place: Place, lack: Lack) -> &[i64] {
        self.waiting.get(&(place, lack)).map_or(&[], Vec::as_slice)
    }

    /// Whether a process had ended by the moment.
    pub fn is_gone(&self, trace: usize, process_id: i64) -> bool {
        let exit_ns = self.processes.get(trace, process_id).and_then(|process| process.exit_ns);
        exit_ns.is_some_and(|ns| ns <= self.moments.at_ns(trace))
    }

    /// Whether a wait goes on: its thread lives, and its object was not removed under it.
    pub fn goes_on(&self, wait: &Wait) -> bool {
        let threads = self.living.get(&(wait.trace, wait.process_id));
        let lives = threads.is_some_and(|of| of.binary_search(&wait.thread_id).is_ok());
        let lifetime = wait.object_ref.and_then(|object_ref| self.lifetimes.get(wait.trace, object_ref));
        // The name of a POSIX queue can go while it is open.
        let removed_ns = lifetime.filter(|lifetime| lifetime.kind != "mq").and_then(|lifetime| lifetime.removed_ns);
        // The removal ends before those return that it ends: they tell by their own ends that they waited until then.
        let ends_by_removal = wait.ended.is_some_and(|ended| ended.by == End::Removed);
        lives && (ends_by_removal || removed_ns.is_none_or(|ns| ns > self.moments.at_ns(wait.trace)))
    }
}

fn waiting(waits: &[Wait]) -> HashMap<(Place, Lack), Vec<i64>> {
    let mut waiting: HashMap<(Place, Lack), Vec<i64>> = HashMap::new();
    for wait in waits {
        wait.places().into_iter().for_each(|at| waiting.entry(at).or_default().push(wait.process_id));
    }
    waiting.values_mut().for_each(|processes| {
        processes.sort_unstable();
        processes.dedup();
    });
    waiting
}

/// Only the last snapshot of each place is kept: a recording can have one every second.
struct SnapshotsQuery<'a> {
    /// The places that matter of each object.
    numbers: HashMap<(usize, i64), Vec<i32>>,
    moments: &'a Moments,
}

fn read_snapshots(opened: &Opened, moments: &Moments, places: &Places) -> Result<HashMap<Place, Snapshot>, Error> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let mut numbers: HashMap<(usize, i64), Vec<i32>> = HashMap::new();
    for (trace, object_ref, number) in places.keys() {
        numbers.entry((*trace, *object_ref)).or_default().push(*number);
    }
    scan::fold(&opened.traces, &Selection::everything(), &SnapshotsQuery { numbers, moments })
}

impl Query for SnapshotsQuery<'_> {
    type Partial = HashMap<Place, Snapshot>;

    fn table(&self) -> &'static Table {
        &tables::OBJECTS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["snapshot_ns", "object_ref", "messages", "queued_bytes", "sem_values", "sem_waiters", "sem_last_pids"]
    }

    fn empty(&self) -> HashMap<Place, Snapshot> {
        HashMap::new()
    }

    fn fold(&self, last: &mut HashMap<Place, Snapshot>, batch: &Batch) -> Result<(), Error> {
        let (taken_ns, object_ref) = (batch.int64("snapshot_ns")?, batch.int64("object_ref")?);
        let (messages, bytes) = (batch.int64("messages")?, batch.int64("queued_bytes")?);
        let lists = ["sem_values", "sem_waiters", "sem_last_pids"].map(|name| batch.list(name));
        let [values, waiters, last_pids] = lists;
        let (values, waiters, last_pids) = (values?, waiters?, last_pids?);
        for row in 0..batch.rows() {
            let (ns, object) = (taken_ns.value(row), (batch.trace, object_ref.value(row)));
            let Some(numbers) = self.numbers.get(&object) else { continue };
            if self.moments.are_asked && ns > self.moments.at_ns(batch.trace) {
                continue;
            }
            for number in numbers {
                let snapshot = if *number == QUEUE {
                    let value = int64_at(messages, row).or(int64_at(bytes, row));
                    Snapshot { ns, value, ..Snapshot::default() }
                } else {
                    Snapshot {
                        ns,
                        value: element(values, row, *number).map(i64::from),
                        waiters: element(waiters, row, *number).map(i64::from),
                        last_pid: element(last_pids, row, *number),
                    }
                };
                keep_last(last, (object.0, object.1, *number), snapshot);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut HashMap<Place, Snapshot>, from: HashMap<Place, Snapshot>) {
        from.into_iter().for_each(|(place, snapshot)| keep_last(into, place, snapshot));
    }
}

fn keep_last(last: &mut HashMap<Place, Snapshot>, place: Place, snapshot: Snapshot) {
    let known = last.entry(place).or_insert(snapshot);
    *known = (*known).max(snapshot);
}

fn element(lists: &ListArray, row: usize, number: i32) -> Option<i32> {
    if lists.is_null(row) {
        return None;
    }
    let values = lists.value(row);
    let values: &Int32Array = values.as_any().downcast_ref()?;
    let index = usize::try_from(number).ok().filter(|index| *index < values.len())?;
    int32_at(values, index)
}

/// The process, the thread, and what matters of it.
type Threaded = ((usize, i64), i64, Fact);

/// What matters of a thread.
#[derive(Clone, Copy)]
enum Fact {
    Lives,
    /// It is the first of a process that was made with CLONE_SYSVSEM.
    SharesUndo,
}

/// Finds the process that had the pid of each place's last modifier when the snapshot was taken.
fn read_last_changers(opened: &Opened, snapshots: &HashMap<Place, Snapshot>) -> Result<HashMap<Place, i64>, Error> {
    let mut pids: HashMap<(usize, i32), Vec<(Place, i64)>> = HashMap::new();
    for (place, snapshot) in snapshots {
        if let Some(pid) = snapshot.last_pid.filter(|pid| *pid > 0) {
            pids.entry((place.0, pid)).or_default().push((*place, snapshot.ns));
        }
    }
    if pids.is_empty() {
        return Ok(HashMap::new());
    }
    let columns = &["process_id", "pid", "start_ns", "exit_ns"];
    let found = scan::collect(&opened.traces, &tables::PROCESSES, columns, |batch, found| {
        let (process_id, pid) = (batch.int64("process_id")?, batch.int32("pid")?);
        let (start, exit) = (batch.int64("start_ns")?, batch.int64("exit_ns")?);
        for row in 0..batch.rows() {
            let Some(of_pid) = pids.get(&(batch.trace, pid.value(row))) else { continue };
            let lived = |ns: i64| {
                int64_at(start, row).is_none_or(|start| start <= ns) && int64_at(exit, row).is_none_or(|exit| exit > ns)
            };
            let places = of_pid.iter().filter(|(_, ns)| lived(*ns));
            found.extend(places.map(|(place, _)| (*place, process_id.value(row))));
        }
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}
