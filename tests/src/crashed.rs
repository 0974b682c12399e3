//! What must be in a trace whose recording died: compared call by call with what the scenario `numbered` knows of itself.

use crate::trace::{Rows, Trace};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What a crash may take.
pub const SECOND_NS: i64 = 1_000_000_000;
/// A call that has been open for as long is in the log: half a second passes before it is told, half until all that lives is,
/// and it has its second to be on the disk.
const OPEN_NS: i64 = 2 * SECOND_NS;

/// What a sender did.
pub struct Sender {
    /// Its process id.
    pub pid: i64,
    /// By call: when it had ended for certain, boot clock, nanoseconds.
    pub ended_ns: Vec<i64>,
    /// Whether these are the instants at which they did end, and not only later ones.
    pub is_exact: bool,
}

/// A thread that waits.
#[derive(Clone, Copy)]
pub struct Blocked {
    /// Its id.
    pub tid: i64,
    /// Before it made its call and when it was seen inside, boot clock, nanoseconds.
    pub between_ns: (i64, i64),
}

/// What `ipc-workload numbered` did until the crash.
pub struct Performed {
    /// The senders, in order.
    pub senders: Vec<Sender>,
    /// The threads that wait, in order of their semaphores.
    pub blocked: Vec<Blocked>,
}

impl Performed {
    /// From the line that the workload printed, and the folder of `--ends`.
    pub fn read(line: &str, ends: &Path) -> Performed {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let pids = said["senders"].as_array().unwrap().iter().map(|pid| pid.as_i64().unwrap());
        let senders = pids.enumerate().map(|(own, pid)| Sender { pid, ended_ns: read_ends(ends, own), is_exact: true });
        Performed { senders: senders.collect(), blocked: blocked(&said) }
    }

    /// Calls that had ended by an instant.
    pub fn ended_by(&self, instant_ns: i64) -> usize {
        self.senders.iter().map(|sender| sender.ended_ns.partition_point(|end| *end <= instant_ns)).sum()
    }
}

/// The threads that wait, as the workload's line tells them.
pub fn blocked(said: &Value) -> Vec<Blocked> {
    let number = |of: &Value, name: &str| of[name].as_i64().unwrap();
    let one =
        |of: &Value| Blocked { tid: number(of, "tid"), between_ns: (number(of, "before_ns"), number(of, "inside_ns")) };
    said["waiting"].as_array().unwrap().iter().map(one).collect()
}

/// When the calls of a sender ended, as far as it came.
pub fn read_ends(folder: &Path, own: usize) -> Vec<i64> {
    use std::io::Read;
    let mut file = std::fs::File::open(folder.join(format!("{own}.ends"))).unwrap();
    let (mut ends, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut chunk).unwrap();
        let numbers = chunk[..read].as_chunks::<8>().0.iter().map(|bytes| i64::from_ne_bytes(*bytes));
        let before = ends.len();
        ends.extend(numbers.take_while(|end| *end != 0));
        if read == 0 || ends.len() < before + read / 8 {
            return ends;
        }
    }
}

/// What was found to be so, for the log of the test.
#[derive(Debug)]
pub struct Found {
    /// Calls of the senders in the trace.
    pub calls: usize,
    /// How long before the crash the trace ends, nanoseconds; negative: behind it.
    pub tail_ns: i64,
}

/// Checks a trace that was read or repaired after a crash at `crash_ns` (boot clock).
///
/// # Errors
/// The first promise that is broken: a row that is not what was performed, a call twice, one missing that had ended a second
/// before.
pub fn check(trace: &Trace, performed: &Performed, crash_ns: i64) -> Result<Found, String> {
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let calls = Calls::read(trace, offset_ns);
    let mut seen = Vec::new();
    for sender in &performed.senders {
        seen.push(calls.of_sender(sender)?);
    }
    let tail_ns = tail_ns(trace, offset_ns, crash_ns)?;
    let lost: i64 = trace.losses().iter().filter(|loss| loss.is_calls()).filter_map(|loss| loss.count).sum();
    // What the trace itself claims to hold, and what is promised.
    for until_ns in [tail_ns.min(crash_ns), crash_ns - SECOND_NS] {
        let missing: Vec<(usize, usize)> = missing(performed, &seen, until_ns).collect();
        if missing.len() as i64 > lost {
            let first = missing.first();
            let count = missing.len();
            return Err(format!(
                "{count} calls that had ended {} ms before the crash are missing, {lost} of them counted as lost; the \
                 first is {first:?} (sender, call)",
                (crash_ns - until_ns) / 1_000_000
            ));
        }
    }
    for (semaphore, blocked) in performed.blocked.iter().enumerate() {
        calls.of_blocked(semaphore, blocked, crash_ns)?;
    }
    Ok(Found { calls: seen.iter().flatten().filter(|seen| **seen).count(), tail_ns: crash_ns - tail_ns })
}

/// Calls that ended before an instant and were not seen: of which sender, and which.
fn missing(performed: &Performed, seen: &[Vec<bool>], until_ns: i64) -> impl Iterator<Item = (usize, usize)> {
    performed.senders.iter().zip(seen).enumerate().flat_map(move |(own, (sender, seen))| {
        let ended = sender.ended_ns.partition_point(|end| *end <= until_ns);
        (0..ended).filter(|call| !seen.get(*call).copied().unwrap_or(false)).map(move |call| (own, call))
    })
}

/// Up to where the trace says that it holds everything; a recording that died must say so.
fn tail_ns(trace: &Trace, offset_ns: i64, crash_ns: i64) -> Result<i64, String> {
    let losses = trace.losses();
    let tail: Vec<_> = losses.iter().filter(|loss| loss.source == "tail").collect();
    if trace.manifest.complete {
        let end_ns = trace.manifest.session.end_ns - offset_ns;
        return if tail.is_empty() { Ok(end_ns) } else { Err("a complete trace lost its tail".to_owned()) };
    }
    match &tail[..] {
        [tail] if tail.count.is_none() && tail.to_ns >= tail.from_ns => {
            let from_ns = tail.from_ns - offset_ns;
            if from_ns < crash_ns - SECOND_NS {
                return Err(format!("the trace ends {} ms before the crash", (crash_ns - from_ns) / 1_000_000));
            }
            Ok(from_ns)
        }
        other => Err(format!("one loss of source tail without a count: {other:?}")),
    }
}

/// The rows that concern the workload.
struct Calls {
    texts: HashMap<&'static str, Vec<Option<String>>>,
    integers: HashMap<&'static str, Vec<Option<i64>>>,
    by_pid: BTreeMap<i64, Vec<usize>>,
    by_tid: BTreeMap<i64, Vec<usize>>,
    offset_ns: i64,
}

const TEXTS: [&str; 4] = ["syscall", "outcome", "error", "began"];
const INTEGERS: [&str; 12] = [
    "pid",
    "tid",
    "start_ns",
    "end_ns",
    "duration_ns",
    "object_id",
    "return_value",
    "size_bytes",
    "msg_type",
    "msg_type_requested",
    "sem_num",
    "sem_op",
];

impl Calls {
    fn read(trace: &Trace, offset_ns: i64) -> Calls {
        let rows: Rows = trace.table("calls", &[&TEXTS[..], &INTEGERS].concat());
        let texts = TEXTS.map(|name| (name, rows.texts(name))).into();
        let integers: HashMap<&str, Vec<Option<i64>>> = INTEGERS.map(|name| (name, rows.integers(name))).into();
        let by = |name: &str| {
            let mut found: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
            for (row, id) in integers[name].iter().enumerate() {
                found.entry(id.unwrap()).or_default().push(row);
            }
            found
        };
        let (by_pid, by_tid) = (by("pid"), by("tid"));
        Calls { texts, integers, by_pid, by_tid, offset_ns }
    }

    fn text(&self, name: &str, row: usize) -> &str {
        self.texts[name][row].as_deref().unwrap_or("NULL")
    }

    fn integer(&self, name: &str, row: usize) -> Option<i64> {
        self.integers[name][row]
    }

    fn boot_ns(&self, name: &str, row: usize) -> Option<i64> {
        self.integer(name, row).map(|ns| ns - self.offset_ns)
    }

    fn describe(&self, row: usize) -> String {
        let texts = TEXTS.map(|name| format!("{name} {}", self.text(name, row)));
        let integers = INTEGERS.map(|name| format!("{name} {:?}", self.integer(name, row)));
        [&texts[..], &integers].concat().join(", ")
    }

    /// Which calls of a sender ended in the trace.
    fn of_sender(&self, sender: &Sender) -> Result<Vec<bool>, String> {
        // The last may have ended unseen, and the next be inside.
        let made = if sender.is_exact { sender.ended_ns.len() + 2 } else { usize::MAX };
        let mut seen = vec![false; sender.ended_ns.len()];
        let (mut open, mut queues) = (Vec::new(), Vec::new());
        for row in self.by_pid.get(&sender.pid).into_iter().flatten().copied() {
            let wrong = |what: &str| Err(format!("{what}: {}", self.describe(row)));
            let second = match self.text("syscall", row) {
                "msgsnd" => 0,
                "msgrcv" => 1,
                _ => continue,
            };
            let is_open = self.text("outcome", row) == "open";
            let number = self.integer(if second == 0 { "msg_type" } else { "msg_type_requested" }, row);
            let Some(number) = number.filter(|number| *number > 0) else { return wrong("a call without its number") };
            let call = 2 * (number as usize - 1) + second;
            if call >= made {
                return wrong("a call that was never made");
            }
            if call >= seen.len() {
                seen.resize(call + 1, false);
            }
            if seen[call] || open.contains(&call) {
                return wrong("a call that is there twice");
            }
            if !self.is_as_performed(row, number, second == 1, is_open) || !self.is_in_time(row, sender, call) {
                return wrong("not what was performed");
            }
            if is_open {
                open.push(call)
            } else {
                seen[call] = true
            }
            queues.push(self.integer("object_id", row));
        }
        queues.dedup();
        if open.len() > 1 || queues.len() > 1 {
            return Err(format!("calls {open:?} of process {} are open, on queues {queues:?}", sender.pid));
        }
        Ok(seen)
    }

    fn is_as_performed(&self, row: usize, number: i64, receives: bool, is_open: bool) -> bool {
        let size = number % 256;
        let expected = match (receives, is_open) {
            (false, false) => [Some(number), None, Some(size), Some(0)],
            (false, true) => [Some(number), None, Some(size), None],
            (true, false) => [Some(number), Some(number), Some(256), Some(size)],
            (true, true) => [None, Some(number), Some(256), None],
        };
        let found = ["msg_type", "msg_type_requested", "size_bytes", "return_value"].map(|n| self.integer(n, row));
        let outcome = if is_open { "open" } else { "ok" };
        found == expected && self.text("outcome", row) == outcome && self.text("error", row) == "NULL"
    }

    /// A call lies between the end of the one before and its own.
    fn is_in_time(&self, row: usize, sender: &Sender, call: usize) -> bool {
        let (start_ns, end_ns) = (self.boot_ns("start_ns", row).unwrap_or(i64::MIN), self.boot_ns("end_ns", row));
        let not_before = if sender.is_exact && call > 0 { sender.ended_ns.get(call - 1).copied() } else { None };
        let not_after = sender.ended_ns.get(call).copied();
        let lasts = self.integer("duration_ns", row);
        start_ns >= not_before.unwrap_or(i64::MIN)
            && end_ns.is_none_or(|end_ns| end_ns <= not_after.unwrap_or(i64::MAX) && lasts == Some(end_ns - start_ns))
    }

    /// A thread that waited at the crash has one call that waits for its semaphore; a later one of its own is its end.
    fn of_blocked(&self, semaphore: usize, blocked: &Blocked, crash_ns: i64) -> Result<(), String> {
        let rows = self.by_tid.get(&blocked.tid).into_iter().flatten().copied();
        let rows: Vec<usize> = rows.filter(|row| self.text("syscall", *row) == "semtimedop").collect();
        let (before_ns, inside_ns) = blocked.between_ns;
        match &rows[..] {
            [] if inside_ns > crash_ns - OPEN_NS => Ok(()),
            [row] => {
                let start_ns = self.boot_ns("start_ns", *row).unwrap_or(0);
                let found = (self.text("outcome", *row), self.integer("sem_num", *row), self.integer("sem_op", *row));
                let is_right = found == ("open", Some(semaphore as i64), Some(-1))
                    && self.text("began", *row) == "in_trace"
                    && self.integer("end_ns", *row).is_none()
                    && (before_ns..=inside_ns).contains(&start_ns);
                if is_right { Ok(()) } else { Err(format!("not the call that waits: {}", self.describe(*row))) }
            }
            rows => {
                Err(format!("{} rows of thread {}, which waits for semaphore {semaphore}", rows.len(), blocked.tid))
            }
        }
    }
}
