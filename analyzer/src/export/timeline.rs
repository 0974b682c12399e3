//! What a timeline shows of traces, whatever its file looks like: a track per thread, a slice per call, an arrow from who
//! woke to who was woken, and curves.

use crate::batch::{Batch, int64_at};
use crate::calls::{self, Call};
use crate::curves::{self, Curve};
use crate::error::Error;
use crate::human::Zone;
use crate::names::{Processes, Threads, Wanted};
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// A file that shows time from left to right.
pub trait Timeline {
    /// A process, before its threads.
    ///
    /// # Errors
    /// It cannot be written.
    fn process(&mut self, process: &Process) -> Result<(), Error>;

    /// A thread, before what it does.
    ///
    /// # Errors
    /// It cannot be written.
    fn thread(&mut self, thread: &Thread) -> Result<(), Error>;

    /// A call.
    ///
    /// # Errors
    /// It cannot be written.
    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), Error>;

    /// A wait that somebody ended.
    ///
    /// # Errors
    /// It cannot be written.
    fn wake(&mut self, wake: &Wake<'_>) -> Result<(), Error>;

    /// Something that rises and falls.
    ///
    /// # Errors
    /// It cannot be written.
    fn curve(&mut self, curve: &Curve) -> Result<(), Error>;

    /// Nothing is to come.
    ///
    /// # Errors
    /// It cannot be written.
    fn finish(&mut self) -> Result<(), Error>;
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number among the processes of the timeline.
    pub number: u64,
    /// Its pid; those of different traces are told apart.
    pub pid: i32,
    /// Its name, and where it is of several traces.
    pub name: String,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its number among the threads of the timeline.
    pub number: u64,
    /// That of its process.
    pub process: u64,
    /// The pid of its process.
    pub pid: i32,
    /// Its tid; those of different traces are told apart.
    pub tid: i32,
    /// Its name.
    pub name: String,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// The thread.
    pub thread: &'a Thread,
    /// The operation.
    pub name: &'a str,
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// `None`: it had not ended.
    pub end_ns: Option<i64>,
    /// What else is known of it.
    pub details: Vec<(&'static str, Detail<'a>)>,
}

/// Something that is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail<'a> {
    /// A number.
    Int(i64),
    /// A text, perhaps chosen by a traced program.
    Text(std::borrow::Cow<'a, str>),
}

impl Detail<'_> {
    /// What it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Detail::Int(_) => size_of::<i64>(),
            Detail::Text(text) => text.len(),
        }
    }
}

/// A wait that somebody ended.
#[derive(Clone, Copy, Debug)]
pub struct Wake<'a> {
    /// A number of its own.
    pub number: u64,
    /// When, nanoseconds since the epoch.
    pub at_ns: i64,
    /// Who woke.
    pub waker: &'a Thread,
    /// Who was woken.
    pub woken: &'a Thread,
}

/// The names of all details.
pub const DETAILS: [&str; 12] = [
    "call_id",
    "arguments",
    "object",
    "outcome",
    "return_value",
    "error",
    "wait_ns",
    "wakeup_delay_ns",
    "wakings",
    "wake_reason",
    "waker_comm",
    "waker_call_id",
];

/// What pids of a second trace begin with: no pid of Linux is as large.
const PIDS: i32 = 10_000_000;

/// Writes the calls that were asked for, and the curves of their objects.
///
/// # Errors
/// A part that cannot be believed; the file cannot be written.
pub fn write(opened: &Opened, timeline: &mut impl Timeline) -> Result<(), Error> {
    let threads = announce(opened, timeline)?;
    let mut wakes = 0;
    calls::for_each(&opened.traces, &opened.selection, &calls::all_columns(), |cursor| {
        let (trace, call) = (cursor.batch.trace, cursor.call());
        let thread_of = |column: &str| Ok::<_, Error>(call.int64(column)?.and_then(|id| threads.get(&(trace, id))));
        let Some(thread) = thread_of("thread_id")? else { return Ok(true) };
        let start_ns = call.int64("start_ns")?.unwrap_or(0);
        timeline.slice(&Slice {
            thread,
            name: call.text("syscall")?.unwrap_or("?"),
            start_ns,
            end_ns: call.int64("end_ns")?,
            details: details(&call)?,
        })?;
        if let (Some(waker), Some(wait_ns @ 1..)) = (thread_of("waker_thread_id")?, call.int64("wait_ns")?) {
            wakes += 1;
            timeline.wake(&Wake { number: wakes, at_ns: start_ns.saturating_add(wait_ns), waker, woken: thread })?;
        }
        Ok(true)
    })?;
    for curve in curves::read(opened, true)? {
        timeline.curve(&curve)?;
    }
    timeline.finish()
}

/// Tells of the processes and threads that called or woke.
fn announce(opened: &Opened, timeline: &mut impl Timeline) -> Result<HashMap<(usize, i64), Thread>, Error> {
    let wanted = scan::fold(&opened.traces, &opened.selection, &ThreadsQuery)?;
    let known = Threads::read(&opened.traces, &wanted)?;
    let of_processes: Wanted =
        wanted.iter().filter_map(|(trace, id)| Some((*trace, known.get(*trace, *id)?.process_id))).collect();
    let processes = Processes::read(&opened.traces, &of_processes)?;
    let several = opened.traces.len() > 1;
    let shown = |trace: usize, pid: i32| pid.saturating_add(PIDS.saturating_mul(i32::try_from(trace).unwrap_or(0)));
    let mut of_processes: Vec<_> = of_processes.into_iter().collect();
    of_processes.sort_unstable();
    let mut numbers = HashMap::new();
    for ((trace, id), number) in of_processes.into_iter().zip(0..) {
        let process = processes.get(trace, id);
        let name = process.and_then(|process| process.comm.clone()).unwrap_or_else(|| "?".to_owned());
        let host = &opened.traces[trace].manifest.session.host;
        let name = if several { format!("{name} on {host}") } else { name };
        let pid = shown(trace, process.map_or(0, |process| process.pid));
        numbers.insert((trace, id), (number, pid));
        timeline.process(&Process { number, pid, name })?;
    }
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort_unstable();
    let mut threads = HashMap::new();
    for ((trace, id), number) in wanted.into_iter().zip(0..) {
        let Some(thread) = known.get(trace, id) else { continue };
        let Some((process, pid)) = numbers.get(&(trace, thread.process_id)).copied() else { continue };
        let name = thread.comm.clone().unwrap_or_else(|| "?".to_owned());
        let thread = Thread { number, process, pid, tid: shown(trace, thread.tid), name };
        timeline.thread(&thread)?;
        threads.insert((trace, id), thread);
    }
    Ok(threads)
}

/// Who called, and who woke.
struct ThreadsQuery;

impl Query for ThreadsQuery {
    type Partial = Wanted;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["thread_id", "waker_thread_id"]
    }

    fn empty(&self) -> Wanted {
        Wanted::new()
    }

    fn fold(&self, wanted: &mut Wanted, batch: &Batch) -> Result<(), Error> {
        for column in ["thread_id", "waker_thread_id"] {
            let ids = batch.int64(column)?;
            wanted.extend((0..batch.rows()).filter_map(|row| Some((batch.trace, int64_at(ids, row)?))));
        }
        Ok(())
    }

    fn merge(&self, into: &mut Wanted, from: Wanted) {
        into.extend(from);
    }
}

fn details<'a>(call: &Call<'a>) -> Result<Vec<(&'static str, Detail<'a>)>, Error> {
    let mut details = Vec::with_capacity(DETAILS.len());
    for name in DETAILS {
        let detail = match name {
            "arguments" => Some(Detail::Text(call.arguments(Zone::Utc)?.join(", ").into())),
            "object" => call.object()?.map(|object| Detail::Text(object.into())),
            "wakings" => call.int32(name)?.map(|number| Detail::Int(number.into())),
            "outcome" | "error" | "wake_reason" | "waker_comm" => {
                call.text(name)?.map(|text| Detail::Text(text.into()))
            }
            _ => call.int64(name)?.map(Detail::Int),
        };
        details.extend(detail.map(|detail| (name, detail)));
    }
    Ok(details)
}
