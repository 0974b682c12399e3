//! Snapshots as rows: what was found, joined to the lifetimes of the objects.

use crate::join::Join;
use crate::objects::Identity;
use crate::snapshot::{self, Limit, Object, ObjectKind, Queued, Snapshots};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use ipc_schema::catalogue::Family;
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The recording began.
    Start,
    /// Time went by.
    Periodic,
    /// An allocation failed.
    Failure,
    /// The recording is over.
    End,
}

impl Phase {
    /// The value of the column `phase`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Periodic => "periodic",
            Phase::Failure => "failure",
            Phase::End => "end",
        }
    }
}

/// The rows of one snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Rows of `objects`.
    pub objects: Vec<ObjectRow>,
    /// Rows of `queued`.
    pub queued: Vec<QueuedRow>,
    /// Rows of `limits`.
    pub limits: Vec<LimitRow>,
}

/// A row of `objects`. CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    /// When.
    pub time_ns: u64,
    /// Why.
    pub phase: Phase,
    /// Joins lifetimes.
    pub object_ref: i64,
    /// Inode of the IPC namespace.
    pub ipc_ns: u32,
    /// What was found.
    pub object: Object,
}

/// A row of `queued`. CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug)]
pub struct QueuedRow {
    /// When.
    pub time_ns: u64,
    /// Joins lifetimes.
    pub object_ref: i64,
    /// What was found.
    pub queued: Queued,
}

/// A row of `limits`. CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug)]
pub struct LimitRow {
    /// When.
    pub time_ns: u64,
    /// Why.
    pub phase: Phase,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<u32>,
    /// Joins processes.
    pub process_id: Option<i64>,
    /// What was found.
    pub limit: Limit,
}

/// What a visit brought.
#[derive(Debug)]
pub struct Found {
    phase: Phase,
    snapshot: snapshot::Snapshot,
    /// The process whose allocation failed, and its limits.
    process: Option<(u32, Vec<Limit>)>,
}

impl Found {
    /// When the visit began, CLOCK_BOOTTIME nanoseconds.
    pub fn time_ns(&self) -> u64 {
        self.snapshot.time_ns
    }
}

/// Joins what was found to the lifetimes known so far.
pub fn rows(found: Found, join: &mut Join) -> Snapshot {
    let Found { phase, snapshot, process } = found;
    let time_ns = snapshot.time_ns;
    let limit = |ipc_ns, process_id, limit| LimitRow { time_ns, phase, ipc_ns, process_id, limit };
    let mut rows = Snapshot { objects: vec![], queued: vec![], limits: vec![] };
    if phase == Phase::Start {
        let namespaces = snapshot.namespaces.iter().map(|n| n.ipc_ns);
        join.objects.visited(namespaces, snapshot.missing.is_empty());
    }
    rows.limits.extend(snapshot.limits.into_iter().map(|l| limit(None, None, l)));
    for namespace in snapshot.namespaces {
        let ipc_ns = namespace.ipc_ns;
        let mut queues = FxHashMap::default();
        for object in namespace.objects {
            let identity = Identity { ipc_ns, family: family(object.object_kind), id: object.object_id };
            let object_ref = join.objects.listed(identity, object.key, object.name.as_deref(), snapshot.end_ns);
            if object.object_kind == ObjectKind::Msg {
                queues.insert(object.object_id, object_ref);
            }
            rows.objects.push(ObjectRow { time_ns, phase, object_ref, ipc_ns, object });
        }
        let queued = namespace.queued.into_iter();
        let queued =
            queued.filter_map(|q| Some(QueuedRow { time_ns, object_ref: *queues.get(&q.object_id)?, queued: q }));
        rows.queued.extend(queued);
        rows.limits.extend(namespace.limits.into_iter().map(|l| limit(Some(ipc_ns), None, l)));
    }
    if let Some((pid, limits)) = process {
        let process_id = Some(join.process_id(pid));
        rows.limits.extend(limits.into_iter().map(|l| limit(None, process_id, l)));
    }
    rows
}

fn family(kind: ObjectKind) -> Family {
    match kind {
        ObjectKind::Sem => Family::Sem,
        ObjectKind::Shm => Family::Shm,
        ObjectKind::Msg => Family::Msg,
        ObjectKind::Mq => Family::Mq,
    }
}

/// At most one snapshot in this time for failed allocations.
const FAILURES_EVERY: Duration = Duration::from_secs(1);

/// Takes one snapshot.
///
/// # Errors
/// The helper is gone, or hangs.
pub fn take(helper: &mut Snapshots, phase: Phase, process: Option<u32>) -> std::io::Result<Found> {
    // The limits of the process first: it may soon be gone.
    let process = process.map(|pid| Ok::<_, std::io::Error>((pid, helper.process_limits(pid)?))).transpose()?;
    Ok(Found { phase, snapshot: helper.take()?, process })
}

/// Takes snapshots every `interval`, and when an allocation failed (`failures`: by whom), until those who tell of
/// failures are gone. Returns the helper for the last snapshot.
pub fn run(
    mut helper: Snapshots,
    interval: Duration,
    failures: &Receiver<u32>,
    mut each: impl FnMut(Found),
) -> std::io::Result<Snapshots> {
    let mut next = Instant::now() + interval;
    let mut last_failure: Option<Instant> = None;
    loop {
        let (phase, process) = match failures.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(_) if last_failure.is_some_and(|t| t.elapsed() < FAILURES_EVERY) => continue,
            Ok(pid) => (Phase::Failure, Some(pid)),
            Err(RecvTimeoutError::Timeout) => (Phase::Periodic, None),
            Err(RecvTimeoutError::Disconnected) => return Ok(helper),
        };
        match phase {
            Phase::Failure => last_failure = Some(Instant::now()),
            _ => next = Instant::now() + interval,
        }
        each(take(&mut helper, phase, process)?);
    }
}

/// Tells of a failed allocation without ever waiting: one that waits already stands for this one too.
pub fn tell(failures: &Sender<u32>, pid: u32) {
    let _ = failures.try_send(pid); // full, or nobody takes snapshots
}

/// Whether a call failed because something ran out: ENOSPC, EMFILE, ENFILE, ENOMEM.
pub fn ran_out(call: &crate::call::Call) -> bool {
    matches!(call.ret, Some(-28 | -24 | -23 | -12))
}

/// What privilege or kernel withheld from a snapshot.
pub fn missing(found: &Found) -> &[ipc_schema::manifest::Missing] {
    &found.snapshot.missing
}
