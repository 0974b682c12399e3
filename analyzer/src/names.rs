//! Who the numbers stand for: processes, threads and lifetimes of objects, of those that an answer names.
//!
//! A trace can hold millions of each: only those asked for are kept.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::scan;
use crate::trace::Trace;
use hashbrown::{HashMap, HashSet};
use ipc_schema::tables;

/// Ids, each with the index of its trace.
pub type Wanted = HashSet<(usize, i64)>;

/// A process, as the table `processes` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// In the host's pid namespace.
    pub pid: i32,
    /// The name of its leader.
    pub comm: Option<String>,
    /// The path of its program.
    pub exe: Option<String>,
    /// The user.
    pub uid: Option<i64>,
    /// Its parent's process id in the trace.
    pub parent: Option<i64>,
    /// Its start, nanoseconds since the epoch.
    pub start_ns: Option<i64>,
    /// Its end, nanoseconds since the epoch.
    pub exit_ns: Option<i64>,
    /// As wait(2) reports it.
    pub exit_code: Option<i32>,
    /// Inode of its IPC namespace.
    pub ipc_ns: Option<i64>,
}

/// A thread, as the table `threads` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// In the host's pid namespace.
    pub tid: i32,
    /// Its process.
    pub process_id: i64,
    /// Its name.
    pub comm: Option<String>,
}

/// One life of an object, as the table `lifetimes` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// sem, shm, msg, mq.
    pub kind: String,
    /// semid, shmid, msqid; inode of a POSIX queue.
    pub id: i64,
    /// System V key.
    pub key: Option<i32>,
    /// Name of a POSIX queue.
    pub name: Option<String>,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<i64>,
    /// When it was made; `None`: before the trace, or unknown.
    pub created_ns: Option<i64>,
    /// Who made it.
    pub created_by: Option<i64>,
    /// In which call.
    pub created_call: Option<i64>,
    /// When it was removed; `None`: still there, or unknown.
    pub removed_ns: Option<i64>,
    /// Who removed it.
    pub removed_by: Option<i64>,
    /// In which call.
    pub removed_call: Option<i64>,
    /// seen, snapshot, inferred.
    pub how_known: String,
}

impl Lifetime {
    /// As `--object` takes it.
    pub fn object(&self) -> String {
        object(&self.kind, Some(self.id), self.name.as_deref())
    }
}

/// An object as `--object` takes it: `sem:5`, `mq:/jobs`.
pub fn object(kind: &str, id: Option<i64>, name: Option<&str>) -> String {
    match (name, id) {
        (Some(name), _) => format!("{kind}:{name}"),
        (None, Some(id)) => format!("{kind}:{id}"),
        (None, None) => format!("{kind}:?"),
    }
}

/// Processes by trace and process id.
#[derive(Clone, Debug, Default)]
pub struct Processes(HashMap<(usize, i64), Process>);

impl Processes {
    /// Reads those wanted.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace], wanted: &Wanted) -> Result<Processes, Error> {
        if wanted.is_empty() {
            return Ok(Processes::default());
        }
        scan::collect(traces, &tables::PROCESSES, PROCESS_COLUMNS, |batch, found| read_processes(batch, wanted, found))
            .map(|found| Processes(found.into_iter().collect()))
    }

    /// A process.
    pub fn get(&self, trace: usize, process_id: i64) -> Option<&Process> {
        self.0.get(&(trace, process_id))
    }

    /// For people: `1234 worker`.
    pub fn label(&self, trace: usize, process_id: i64) -> String {
        match self.get(trace, process_id) {
            Some(Process { pid, comm: Some(comm), .. }) => format!("{pid} {comm}"),
            Some(Process { pid, .. }) => pid.to_string(),
            None => format!("(process_id {process_id})"),
        }
    }
}

const PROCESS_COLUMNS: &[&str] =
    &["process_id", "pid", "start_ns", "parent_process_id", "comm", "exe", "uid", "ipc_ns", "exit_ns", "exit_code"];

fn read_processes(batch: &Batch, wanted: &Wanted, found: &mut Vec<((usize, i64), Process)>) -> Result<(), Error> {
    let (ids, pids, uids) = (batch.int64("process_id")?, batch.int32("pid")?, batch.int64("uid")?);
    let (starts, exits, codes) = (batch.int64("start_ns")?, batch.int64("exit_ns")?, batch.int32("exit_code")?);
    let (parents, namespaces) = (batch.int64("parent_process_id")?, batch.int64("ipc_ns")?);
    let (comms, exes) = (batch.text("comm")?, batch.text("exe")?);
    for row in 0..batch.rows() {
        let key = (batch.trace, ids.value(row));
        if wanted.contains(&key) {
            let process = Process {
                pid: pids.value(row),
                comm: comms.get(row).map(str::to_owned),
                exe: exes.get(row).map(str::to_owned),
                uid: int64_at(uids, row),
                parent: int64_at(parents, row),
                start_ns: int64_at(starts, row),
                exit_ns: int64_at(exits, row),
                exit_code: int32_at(codes, row),
                ipc_ns: int64_at(namespaces, row),
            };
            found.push((key, process));
        }
    }
    Ok(())
}

/// Threads by trace and thread id.
#[derive(Clone, Debug, Default)]
pub struct Threads(HashMap<(usize, i64), Thread>);

impl Threads {
    /// Reads those wanted.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace], wanted: &Wanted) -> Result<Threads, Error> {
        if wanted.is_empty() {
            return Ok(Threads::default());
        }
        let columns = &["thread_id", "process_id", "tid", "comm"];
        scan::collect(traces, &tables::THREADS, columns, |batch, found| read_threads(batch, wanted, found))
            .map(|found| Threads(found.into_iter().collect()))
    }

    /// A thread.
    pub fn get(&self, trace: usize, thread_id: i64) -> Option<&Thread> {
        self.0.get(&(trace, thread_id))
    }
}

fn read_threads(batch: &Batch, wanted: &Wanted, found: &mut Vec<((usize, i64), Thread)>) -> Result<(), Error> {
    let (ids, processes) = (batch.int64("thread_id")?, batch.int64("process_id")?);
    let (tids, comms) = (batch.int32("tid")?, batch.text("comm")?);
    for row in 0..batch.rows() {
        let key = (batch.trace, ids.value(row));
        if wanted.contains(&key) {
            let comm = comms.get(row).map(str::to_owned);
            found.push((key, Thread { tid: tids.value(row), process_id: processes.value(row), comm }));
        }
    }
    Ok(())
}

/// Lifetimes by trace and `object_ref`.
#[derive(Clone, Debug, Default)]
pub struct Lifetimes(HashMap<(usize, i64), Lifetime>);

impl Lifetimes {
    /// Reads those wanted.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace], wanted: &Wanted) -> Result<Lifetimes, Error> {
        if wanted.is_empty() {
            return Ok(Lifetimes::default());
        }
        Lifetimes::read_if(traces, |trace, object_ref| wanted.contains(&(trace, object_ref)))
    }

    /// Reads those of which `is_wanted(trace, object_ref)`.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read_if(traces: &[Trace], is_wanted: impl Fn(usize, i64) -> bool + Sync) -> Result<Lifetimes, Error> {
        let read = |batch: &Batch, found: &mut Vec<_>| read_lifetimes(batch, &is_wanted, found);
        scan::collect(traces, &tables::LIFETIMES, LIFETIME_COLUMNS, read)
            .map(|found| Lifetimes(found.into_iter().collect()))
    }

    /// A lifetime.
    pub fn get(&self, trace: usize, object_ref: i64) -> Option<&Lifetime> {
        self.0.get(&(trace, object_ref))
    }

    /// All that were read, in no order: trace, `object_ref`, lifetime.
    pub fn iter(&self) -> impl Iterator<Item = (usize, i64, &Lifetime)> {
        self.0.iter().map(|((trace, object_ref), lifetime)| (*trace, *object_ref, lifetime))
    }

    /// For people and for `--object`: `sem:5`; `object 7` for one that the table does not have.
    pub fn label(&self, trace: usize, object_ref: i64) -> String {
        self.get(trace, object_ref).map_or_else(|| format!("object {object_ref}"), Lifetime::object)
    }
}

const LIFETIME_COLUMNS: &[&str] = &[
    "object_ref",
    "ipc_ns",
    "object_kind",
    "object_id",
    "key",
    "name",
    "created_ns",
    "created_by_process_id",
    "created_call_id",
    "removed_ns",
    "removed_by_process_id",
    "removed_call_id",
    "how_known",
];

fn read_lifetimes(
    batch: &Batch,
    is_wanted: &impl Fn(usize, i64) -> bool,
    found: &mut Vec<((usize, i64), Lifetime)>,
) -> Result<(), Error> {
    let (refs, ids, keys) = (batch.int64("object_ref")?, batch.int64("object_id")?, batch.int32("key")?);
    let (kinds, names, how) = (batch.text("object_kind")?, batch.text("name")?, batch.text("how_known")?);
    let namespaces = batch.int64("ipc_ns")?;
    let created = ["created_ns", "created_by_process_id", "created_call_id"].map(|name| batch.int64(name));
    let removed = ["removed_ns", "removed_by_process_id", "removed_call_id"].map(|name| batch.int64(name));
    let ([created_ns, created_by, created_call], [removed_ns, removed_by, removed_call]) = (created, removed);
    let (created_ns, created_by, created_call) = (created_ns?, created_by?, created_call?);
    let (removed_ns, removed_by, removed_call) = (removed_ns?, removed_by?, removed_call?);
    for row in (0..batch.rows()).filter(|row| is_wanted(batch.trace, refs.value(*row))) {
        let lifetime = Lifetime {
            kind: kinds.get(row).unwrap_or("?").to_owned(),
            id: ids.value(row),
            key: int32_at(keys, row),
            name: names.get(row).map(str::to_owned),
            ipc_ns: int64_at(namespaces, row),
            created_ns: int64_at(created_ns, row),
            created_by: int64_at(created_by, row),
            created_call: int64_at(created_call, row),
            removed_ns: int64_at(removed_ns, row),
            removed_by: int64_at(removed_by, row),
            removed_call: int64_at(removed_call, row),
            how_known: how.get(row).unwrap_or("?").to_owned(),
        };
        found.push(((batch.trace, refs.value(row)), lifetime));
    }
    Ok(())
}
