//! The answer's tables: semaphores and queues, and the pairs of waiters and wakers.

use super::line::{Line, LineKey, Side, Spell};
use super::pairs::{By, Pair, Party};
use crate::distribution::Distribution;
use crate::names::{Lifetimes, Processes, Threads, Wanted};
use crate::opened::Opened;
use crate::report::{Column, Rows, Table, Unit, Value, column};
use std::cmp::Ordering;

/// What the answer says of a line.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The index of the trace.
    pub trace: usize,
    /// Which line.
    pub key: LineKey,
    operations: u64,
    /// Calls that slept.
    pub contended: u64,
    waits: Times<3>,
    open: u64,
    open_at_least_ns: i64,
    /// Waits that a peer ended.
    pub handoffs: u64,
    timeouts: u64,
    delays: Times<2>,
    wakings: u64,
    woken_again: u64,
    holds: Times<2>,
    waiters_max: u64,
    /// What may be convoys, the longest first.
    pub spells: Vec<Spell>,
}

/// A distribution in few numbers: `N` are percentiles and the maximum.
#[derive(Clone, Copy, Debug)]
struct Times<const N: usize> {
    count: u64,
    total_ns: i128,
    percentiles_ns: Option<[i64; N]>,
    max_ns: i64,
}

impl<const N: usize> Times<N> {
    fn of(mut distribution: Distribution, fractions: [f64; N]) -> Times<N> {
        Times {
            percentiles_ns: distribution.percentiles(fractions),
            count: distribution.count,
            total_ns: distribution.sum,
            max_ns: distribution.max,
        }
    }

    /// The percentiles, then the maximum.
    fn push_values(&self, row: &mut Vec<Value>) {
        row.extend((0..N).map(|i| Value::int(self.percentiles_ns.map(|percentiles| percentiles[i]))));
        row.push(if self.count > 0 { Value::Int(self.max_ns.into()) } else { Value::Null });
    }
}

impl Measured {
    /// What a line that has seen all its calls says.
    pub fn new(trace: usize, key: LineKey, line: Line) -> Measured {
        let waited = line.waited.map(|waited| *waited).unwrap_or_default();
        let mut spells = waited.sweep.spells;
        spells.sort_by_key(|spell| (std::cmp::Reverse(spell.length_ns()), spell.since_ns));
        Measured {
            trace,
            key,
            operations: line.operations,
            contended: waited.waits.count,
            waits: Times::of(waited.waits, [0.5, 0.9, 0.99]),
            open: line.open,
            open_at_least_ns: line.open_at_least_ns,
            handoffs: waited.handoffs,
            timeouts: waited.timeouts,
            delays: Times::of(waited.delays, [0.5, 0.99]),
            wakings: waited.wakings,
            woken_again: waited.woken_again,
            holds: Times::of(line.holds, [0.5, 0.99]),
            waiters_max: waited.sweep.waiters_max,
            spells,
        }
    }

    /// The longest time waited first, then the most used: the same in every run.
    pub fn order(&self, other: &Measured) -> Ordering {
        let weight = |m: &Measured| (m.waits.total_ns, m.open, m.operations);
        weight(other).cmp(&weight(self)).then_with(|| (self.trace, self.key).cmp(&(other.trace, other.key)))
    }

    fn row(&self, opened: &Opened, lifetimes: &Lifetimes) -> Vec<Value> {
        let lifetime = lifetimes.get(self.trace, self.key.object_ref);
        let mut row = vec![
            Value::text(trace_id(opened, self.trace)),
            Value::Text(lifetimes.label(self.trace, self.key.object_ref)),
            Value::Int(self.key.object_ref.into()),
            Value::int(lifetime.and_then(|lifetime| lifetime.ipc_ns)),
            Value::int(self.key.sem_num),
            Value::text(side_name(self.key.side)),
            Value::Text(place(&self.key)),
            Value::Int(self.operations.into()),
            Value::Int(self.contended.into()),
            share(self.contended, self.operations),
            Value::Int(self.waits.total_ns),
            mean(self.waits.total_ns, self.contended),
        ];
        self.waits.push_values(&mut row);
        row.extend([Value::Int(self.waiters_max.into()), Value::Int(self.open.into())]);
        row.push(if self.open > 0 { Value::Int(self.open_at_least_ns.into()) } else { Value::Null });
        row.extend([Value::Int(self.handoffs.into()), share(self.handoffs, self.contended)]);
        row.extend([Value::Int(self.timeouts.into()), Value::Int(self.wakings.into())]);
        row.extend([Value::Int(self.woken_again.into()), share(self.wakings, self.contended)]);
        self.delays.push_values(&mut row);
        row.push(Value::Int(self.holds.count.into()));
        self.holds.push_values(&mut row);
        row
    }
}

/// Parts of a thousand, rounded half up.
fn share(part: u64, whole: u64) -> Value {
    let (part, whole) = (i128::from(part), i128::from(whole));
    if whole == 0 { Value::Null } else { Value::Int((part * 2000 + whole) / (2 * whole)) }
}

fn mean(total: i128, count: u64) -> Value {
    let count = i128::from(count);
    if count == 0 { Value::Null } else { Value::Int((total + count / 2) / count) }
}

fn trace_id(opened: &Opened, trace: usize) -> Option<String> {
    opened.traces.get(trace).map(|trace| trace.manifest.trace_id.clone())
}

/// The value of the column `side`.
fn side_name(side: Side) -> Option<&'static str> {
    match side {
        Side::Semaphore => None,
        Side::Send => Some("send"),
        Side::Receive => Some("receive"),
    }
}

/// Which semaphore of a set, or which side of a queue: `[0]`, `set`, `send`.
pub fn place(key: &LineKey) -> String {
    match (side_name(key.side), key.sem_num) {
        (Some(side), _) => side.to_owned(),
        (None, Some(number)) => format!("[{number}]"),
        (None, None) => "set".to_owned(),
    }
}

/// The objects that lines are of.
pub fn objects_of(lines: &[Measured]) -> Wanted {
    lines.iter().map(|line| (line.trace, line.key.object_ref)).collect()
}

/// Semaphores and queues.
pub fn of_lines<'a>(opened: &'a Opened, lines: Vec<Measured>, lifetimes: Lifetimes) -> Table<'a> {
    let rows: Rows<'a> = Box::new(lines.into_iter().map(move |line| Ok(line.row(opened, &lifetimes))));
    let mut columns = LINE_COLUMNS.to_vec();
    if opened.traces.len() > 1 {
        columns[0].heading = "trace";
    }
    let title = "Semaphores and queues, by how long calls waited for them".to_owned();
    Table { section: Some("semaphore"), title, columns, rows, sparse: false, text_limit: 20 }
}

const LINE_COLUMNS: [Column; 32] = [
    column("trace_id", "", Unit::Text),
    column("object", "object", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("ipc_ns", "", Unit::Id),
    column("sem_num", "", Unit::Id),
    column("side", "", Unit::Text),
    column("place", "which", Unit::Text),
    column("operations", "calls", Unit::Count),
    column("contended", "", Unit::Count),
    column("contended_permille", "slept", Unit::Share),
    column("wait_total_ns", "waited", Unit::Duration),
    column("wait_mean_ns", "", Unit::Duration),
    column("wait_p50_ns", "p50", Unit::Duration),
    column("wait_p90_ns", "", Unit::Duration),
    column("wait_p99_ns", "p99", Unit::Duration),
    column("wait_max_ns", "max", Unit::Duration),
    column("waiters_max", "at once", Unit::Count),
    column("open", "open", Unit::Count),
    column("open_at_least_ns", "", Unit::Duration),
    column("handoffs", "", Unit::Count),
    column("handoff_permille", "", Unit::Share),
    column("timeouts", "", Unit::Count),
    column("wakings", "", Unit::Count),
    column("woken_again", "", Unit::Count),
    column("wakings_permille", "", Unit::Share),
    column("wakeup_delay_p50_ns", "", Unit::Duration),
    column("wakeup_delay_p99_ns", "", Unit::Duration),
    column("wakeup_delay_max_ns", "", Unit::Duration),
    column("holds", "", Unit::Count),
    column("hold_p50_ns", "held p50", Unit::Duration),
    column("hold_p99_ns", "", Unit::Duration),
    column("hold_max_ns", "", Unit::Duration),
];

/// The longest waits first: the same in every run.
pub fn order_of_pairs(a: &Pair, b: &Pair) -> Ordering {
    let weight = |pair: &Pair| (pair.wait_total_ns, pair.waits);
    let names = |pair: &Pair| (pair.trace, pair.waiter.clone(), pair.waker.clone());
    let manner = |pair: &Pair| (pair.syscall.clone(), pair.waker_syscall.clone(), pair.wake_reason.clone());
    weight(b).cmp(&weight(a)).then_with(|| names(a).cmp(&names(b))).then_with(|| manner(a).cmp(&manner(b)))
}

/// The names behind pairs.
#[derive(Debug, Default)]
pub struct Parties {
    processes: Processes,
    threads: Threads,
}

impl Parties {
    /// Reads them.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(opened: &Opened, by: By, pairs: &[Pair]) -> Result<Parties, crate::error::Error> {
        let id = |pair: &Pair, party: &Party| match party {
            Party::Id(id) => Some((pair.trace, *id)),
            Party::Comm(_) => None,
        };
        let both = |pair: &Pair| [id(pair, &pair.waiter), pair.waker.as_ref().and_then(|waker| id(pair, waker))];
        let wanted: Wanted = pairs.iter().flat_map(both).flatten().collect();
        let mut parties = Parties::default();
        match by {
            By::Process => parties.processes = Processes::read(&opened.traces, &wanted)?,
            By::Thread => parties.threads = Threads::read(&opened.traces, &wanted)?,
            By::Comm => {}
        }
        Ok(parties)
    }

    /// For people; id in the trace and pid or tid, where told apart by them; name.
    fn push_values(&self, by: By, trace: usize, party: Option<&Party>, row: &mut Vec<Value>) {
        let (id, number, comm) = match party {
            None => (None, None, None),
            Some(Party::Comm(comm)) => (None, None, comm.as_deref()),
            Some(Party::Id(id)) => {
                let (number, comm) = self.find(by, trace, *id).unwrap_or((None, None));
                (Some(*id), number, comm)
            }
        };
        row.push(Value::Text(match (party, number, comm) {
            (None, _, _) => "-".to_owned(),
            (_, Some(number), Some(comm)) => format!("{number} {comm}"),
            (_, Some(number), None) => number.to_string(),
            (_, None, Some(comm)) => comm.to_owned(),
            (_, None, None) => id.map_or_else(|| "?".to_owned(), |id| format!("({} {id})", by.columns()[0])),
        }));
        if by != By::Comm {
            row.extend([Value::int(id), Value::int(number)]);
        }
        row.push(Value::text(comm));
    }

    fn find(&self, by: By, trace: usize, id: i64) -> Option<(Option<i32>, Option<&str>)> {
        match by {
            By::Process => self.processes.get(trace, id).map(|p| (Some(p.pid), p.comm.as_deref())),
            By::Thread => self.threads.get(trace, id).map(|t| (Some(t.tid), t.comm.as_deref())),
            By::Comm => None,
        }
    }
}

/// The pairs of waiters and wakers.
pub fn of_pairs<'a>(opened: &'a Opened, by: By, pairs: Vec<Pair>, parties: Parties) -> Table<'a> {
    let row = move |pair: Pair| {
        let mut row = vec![Value::text(trace_id(opened, pair.trace))];
        parties.push_values(by, pair.trace, Some(&pair.waiter), &mut row);
        row.push(Value::text(pair.syscall));
        parties.push_values(by, pair.trace, pair.waker.as_ref(), &mut row);
        row.extend([Value::text(pair.waker_syscall), Value::text(pair.wake_reason)]);
        row.extend([Value::Int(pair.waits.into()), Value::Int(pair.wait_total_ns.into())]);
        row.extend([mean(pair.wait_total_ns.into(), pair.waits), Value::Int(pair.wait_max_ns.into())]);
        Ok(row)
    };
    let rows: Rows<'a> = Box::new(pairs.into_iter().map(row));
    let title = "Who waited, and who ended the wait".to_owned();
    Table { section: Some("pair"), title, columns: pair_columns(by), rows, sparse: false, text_limit: 20 }
}

fn pair_columns(by: By) -> Vec<Column> {
    let [waiter, waker] = by.columns();
    let party = |label, heading, id, number, comm| {
        let mut columns = vec![column(label, heading, Unit::Text)];
        if by != By::Comm {
            columns.extend([column(id, "", Unit::Id), column(number, "", Unit::Id)]);
        }
        columns.push(column(comm, "", Unit::Text));
        columns
    };
    let (pid, waker_pid) = if by == By::Thread { ("tid", "waker_tid") } else { ("pid", "waker_pid") };
    let mut columns = vec![column("trace_id", "", Unit::Text)];
    columns.extend(party("waiter", "waiter", waiter, pid, "comm"));
    columns.push(column("syscall", "in", Unit::Text));
    columns.extend(party("waker", "woken by", waker, waker_pid, "waker_comm"));
    columns.push(column("waker_syscall", "in", Unit::Text));
    columns.extend(PAIR_MEASURES);
    columns
}

const PAIR_MEASURES: [Column; 5] = [
    column("wake_reason", "why", Unit::Text),
    column("waits", "waits", Unit::Count),
    column("wait_total_ns", "waited", Unit::Duration),
    column("wait_mean_ns", "", Unit::Duration),
    column("wait_max_ns", "max", Unit::Duration),
];
