//! Calls that failed at a limit, put together: one incident per rule and namespace, process or machine.

use super::rules::{REQUESTS, RULES, Request, Rule, Scope, Takes, Unless};
use super::values::Values;
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::finding::EVIDENCE_MAX;
use crate::query::{GroupStatistics, Only, Query};
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// Incidents that are told apart; further processes are counted to the last of their rule.
const INCIDENTS_MAX: usize = 4096;
/// Processes that an incident names.
const PROCESSES_MAX: usize = 64;
const IPC_EXCL: i32 = 0o2000;
const SHM_HUGETLB: i32 = 0o4000;

/// What tells incidents apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The index of the trace.
    pub trace: usize,
    /// The index of the rule.
    pub rule: usize,
    /// The namespace or the process; `None`: the machine, or unknown.
    pub of: Option<i64>,
}

/// What a call asked for, by [`REQUESTS`].
pub type Requests = [Option<i64>; REQUESTS.len()];

/// One of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it failed.
    pub end_ns: i64,
    /// Its id.
    pub call_id: i64,
    /// Whose it was.
    pub process_id: i64,
    /// The user.
    pub uid: Option<i64>,
    /// The namespace.
    pub ipc_ns: Option<i64>,
    /// The key it gave, if it was not IPC_PRIVATE.
    pub key: Option<i32>,
    /// What it asked for.
    pub requests: Requests,
}

/// Calls that failed at one limit.
#[derive(Clone, Debug)]
pub struct Incident {
    /// How many.
    pub calls: u64,
    /// The first.
    pub first: Sample,
    /// The end of the last.
    pub last_ns: i64,
    /// Per limit of the rule how many calls asked for more than its value then.
    pub beyond: [u64; 2],
    /// Whether all of them can have met nothing but the limits of the rule.
    pub is_sure: bool,
    /// The first ones: end and id.
    pub evidence: Vec<(i64, i64)>,
    /// How many calls of which process, [`PROCESSES_MAX`] at most.
    pub processes: HashMap<i64, u64>,
}

impl Incident {
    fn merge(&mut self, from: Incident) {
        self.calls += from.calls;
        if (from.first.end_ns, from.first.call_id) < (self.first.end_ns, self.first.call_id) {
            self.first = from.first;
        }
        self.last_ns = self.last_ns.max(from.last_ns);
        (0..self.beyond.len()).for_each(|i| self.beyond[i] += from.beyond[i]);
        self.is_sure &= from.is_sure;
        self.evidence.extend(from.evidence);
        if self.evidence.len() > EVIDENCE_MAX {
            self.evidence.sort_unstable();
            self.evidence.truncate(EVIDENCE_MAX);
        }
        for (process_id, calls) in from.processes {
            if self.processes.len() < PROCESSES_MAX || self.processes.contains_key(&process_id) {
                *self.processes.entry(process_id).or_default() += calls;
            }
        }
    }
}

/// Finds them.
pub struct IncidentQuery<'a> {
    /// The values of limits that a request must not exceed.
    pub values: &'a Values,
}

/// What one thread found.
pub type Incidents = HashMap<Place, Incident>;

const COLUMNS: [&str; 12] = [
    "error",
    "syscall",
    "command",
    "process_id",
    "uid",
    "call_id",
    "end_ns",
    "ipc_ns",
    "key",
    "flags",
    "object_ref",
    "msg_type",
];

impl Query for IncidentQuery<'_> {
    type Partial = Incidents;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        COLUMNS.into_iter().chain(REQUESTS).collect()
    }

    fn only(&self) -> Option<Only> {
        Some(Only::Named("error", |error| RULES.iter().any(|rule| rule.error == error)))
    }

    fn empty(&self) -> Incidents {
        Incidents::new()
    }

    fn fold(&self, incidents: &mut Incidents, batch: &Batch) -> Result<(), Error> {
        let (syscalls, errors, commands) = (batch.text("syscall")?, batch.text("error")?, batch.text("command")?);
        let calls = Calls::new(batch)?;
        for row in 0..batch.rows() {
            let (Some(syscall), Some(error)) = (syscalls.get(row), errors.get(row)) else { continue };
            let command = commands.get(row);
            let fits = |rule: &Rule| rule.concerns(syscall, error) && rule.command.is_none_or(|c| command == Some(c));
            let Some(rule) = RULES.iter().position(fits) else { continue };
            if let Some((place, incident)) = self.incident(rule, batch.trace, &calls, row) {
                add(incidents, place, incident);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Incidents, from: Incidents) {
        from.into_iter().for_each(|(place, incident)| add(into, place, incident));
    }
}

fn add(incidents: &mut Incidents, place: Place, incident: Incident) {
    let is_new = !incidents.contains_key(&place);
    let place = if is_new && incidents.len() >= INCIDENTS_MAX { Place { of: None, ..place } } else { place };
    match incidents.get_mut(&place) {
        Some(known) => known.merge(incident),
        None => drop(incidents.insert(place, incident)),
    }
}

impl IncidentQuery<'_> {
    /// What one call tells; `None` if it met something else.
    fn incident(&self, number: usize, trace: usize, calls: &Calls<'_>, row: usize) -> Option<(Place, Incident)> {
        let rule = RULES.get(number)?;
        let sample = calls.sample(row)?;
        let mut is_sure = true;
        for unless in rule.unless {
            match calls.rules_out(*unless, row) {
                Some(true) => {}
                Some(false) => return None,
                None => is_sure = false,
            }
        }
        let beyond = self.beyond(rule, trace, &sample, is_sure)?;
        let of = match rule.limits.first()?.scope {
            Scope::Namespace => sample.ipc_ns,
            Scope::Process | Scope::User => Some(sample.process_id),
            Scope::Host => None,
        };
        let incident = Incident {
            calls: 1,
            first: sample,
            last_ns: sample.end_ns,
            beyond,
            is_sure,
            evidence: vec![(sample.end_ns, sample.call_id)],
            processes: HashMap::from([(sample.process_id, 1)]),
        };
        Some((Place { trace, rule: number, of }, incident))
    }

    /// Which limits of the rule a request exceeds; `None`: it met none. Where no snapshot tells the value of any, a call
    /// that can have met nothing else met one of them.
    fn beyond(&self, rule: &Rule, trace: usize, sample: &Sample, is_sure: bool) -> Option<[u64; 2]> {
        let mut beyond = [0; 2];
        let (mut is_compared, mut is_unknown) = (false, false);
        for (limit, beyond) in rule.limits.iter().zip(&mut beyond) {
            let Takes::AtMost(request, most) = limit.takes else { continue };
            is_compared = true;
            let asked = sample.requests[request as usize].filter(|asked| (1..=most).contains(asked))?;
            let value = sample.ipc_ns.and_then(|ipc_ns| self.values.at(trace, ipc_ns, limit.name, sample.end_ns));
            match value {
                Some(value) => *beyond = u64::from(asked > value),
                None => is_unknown = true,
            }
        }
        let met = !is_compared || beyond.iter().any(|count| *count > 0) || (is_unknown && is_sure);
        met.then_some(beyond)
    }
}

/// The columns of a batch.
struct Calls<'a> {
    ids: [&'a arrow::array::Int64Array; 6],
    keys: &'a arrow::array::Int32Array,
    flags: &'a arrow::array::Int32Array,
    types: &'a arrow::array::Int64Array,
    counts: [&'a arrow::array::Int32Array; 2],
    sizes: [&'a arrow::array::Int64Array; 3],
}

impl<'a> Calls<'a> {
    fn new(batch: &'a Batch) -> Result<Calls<'a>, Error> {
        Ok(Calls {
            ids: [
                batch.int64("end_ns")?,
                batch.int64("call_id")?,
                batch.int64("process_id")?,
                batch.int64("uid")?,
                batch.int64("ipc_ns")?,
                batch.int64("object_ref")?,
            ],
            keys: batch.int32("key")?,
            flags: batch.int32("flags")?,
            types: batch.int64("msg_type")?,
            counts: [batch.int32(REQUESTS[0])?, batch.int32(REQUESTS[1])?],
            sizes: [batch.int64(REQUESTS[2])?, batch.int64(REQUESTS[3])?, batch.int64(REQUESTS[4])?],
        })
    }

    fn sample(&self, row: usize) -> Option<Sample> {
        let id = |place: usize| int64_at(self.ids[place], row);
        let count = |place: usize| int32_at(self.counts[place], row).map(i64::from);
        let size = |place: usize| int64_at(self.sizes[place], row);
        Some(Sample {
            end_ns: id(0)?,
            call_id: id(1)?,
            process_id: id(2)?,
            uid: id(3),
            ipc_ns: id(4),
            key: int32_at(self.keys, row).filter(|key| *key != 0),
            requests: [count(0), count(1), size(0), size(1), size(2)],
        })
    }

    /// Whether something else that gives the errno is ruled out; `None`: the call does not tell.
    fn rules_out(&self, unless: Unless, row: usize) -> Option<bool> {
        let has = |flag: i32| int32_at(self.flags, row).map(|flags| flags & flag != 0);
        match unless {
            Unless::Smaller if int32_at(self.keys, row) == Some(0) || has(IPC_EXCL) == Some(true) => Some(true),
            Unless::Smaller => None,
            Unless::NoObject => int64_at(self.ids[5], row).map(|_| true),
            Unless::NoType => int64_at(self.types, row).map(|kind| kind > 0),
            Unless::HugePages => Some(has(SHM_HUGETLB) != Some(true)),
        }
    }
}

/// What of a limit a call needs, if its arguments tell.
pub fn needs(takes: Takes, requests: &Requests) -> Option<i64> {
    let of = |request: Request| requests[request as usize].filter(|asked| *asked >= 0);
    match takes {
        Takes::One => Some(1),
        Takes::Column(request) | Takes::AtMost(request, _) => of(request),
        Takes::Pages(request) => {
            of(request).map(|bytes| bytes / super::rules::PAGE_BYTES + i64::from(bytes % super::rules::PAGE_BYTES > 0))
        }
        Takes::QueueBytes => Some(queue_bytes(of(Request::QueueMessages)?, of(Request::QueueMessageBytes)?)),
        Takes::Unknown => None,
    }
}

/// What a POSIX queue adds to its user's RLIMIT_MSGQUEUE: `mqueue_get_inode` in ipc/mqueue.c, getrlimit(2).
fn queue_bytes(messages: i64, message_bytes: i64) -> i64 {
    // sizeof(struct msg_msg) and of struct posix_msg_tree_node on x86-64, MQ_PRIO_MAX.
    const HEADER_BYTES: i64 = 48;
    const NODE_BYTES: i64 = 48;
    const PRIORITIES: i64 = 32_768;
    let bodies = messages.saturating_mul(message_bytes.saturating_add(HEADER_BYTES));
    bodies.saturating_add(messages.min(PRIORITIES).saturating_mul(NODE_BYTES))
}
