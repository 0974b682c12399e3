//! What the numbers of the groups stand for, in few bytes each: there can be a million.

use super::groups::{Failures, Key, Target};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::names::{self, Wanted};
use crate::report::Value;
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;

/// A process: pid, name, user.
type Process = (i32, Option<Box<str>>, Option<i64>);

/// What a call was made on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// sem, shm, msg, mq.
    pub kind: Option<Box<str>>,
    /// semid, shmid, msqid; inode of a POSIX queue.
    pub id: Option<i64>,
    /// System V key.
    pub key: Option<i32>,
    /// Name of a POSIX queue.
    pub name: Option<Box<str>>,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<i64>,
}

impl Object {
    /// As `--object` takes it; `None` for a call that concerns none.
    pub fn label(&self) -> Option<String> {
        let kind = self.kind.as_deref()?;
        Some(match (self.id, self.key, &self.name) {
            (None, Some(key), None) => format!("{kind}:key={key:#x}"),
            (id, _, name) => names::object(kind, id, name.as_deref()),
        })
    }
}

/// The processes and lifetimes that the groups name.
#[derive(Debug, Default)]
pub struct Labels {
    processes: HashMap<(usize, i64), Process>,
    objects: HashMap<(usize, i64), Object>,
}

impl Labels {
    /// Reads them.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace], failures: &Failures) -> Result<Labels, Error> {
        let of_key =
            |key: &Key| Some((failures.codes.get(key.code)?.trace as usize, failures.targets.get(key.target)?));
        let mut processes = Wanted::new();
        let mut objects = Wanted::new();
        for (key, _) in &failures.groups {
            let Some((trace, target)) = of_key(key) else { continue };
            processes.insert((trace, key.process_id));
            objects.extend(target.object_ref.map(|object_ref| (trace, object_ref)));
        }
        let columns = &["process_id", "pid", "comm", "uid"];
        let found =
            scan::collect(traces, &tables::PROCESSES, columns, |b, found| read_processes(b, &processes, found))?;
        let processes = found.into_iter().collect();
        let columns = &["object_ref", "object_kind", "object_id", "key", "name", "ipc_ns"];
        let found = scan::collect(traces, &tables::LIFETIMES, columns, |b, found| read_objects(b, &objects, found))?;
        Ok(Labels { processes, objects: found.into_iter().collect() })
    }

    /// What a target is.
    pub fn object(&self, failures: &Failures, trace: usize, target: &Target) -> Object {
        let text = |number| failures.texts.get(number).map(Into::into);
        match target.object_ref {
            Some(object_ref) => self.objects.get(&(trace, object_ref)).cloned().unwrap_or_default(),
            None => Object {
                kind: text(target.kind),
                id: target.id,
                key: target.key,
                name: text(target.name),
                ipc_ns: target.ipc_ns,
            },
        }
    }

    /// A process: pid, name, user.
    pub fn process(&self, trace: usize, process_id: i64) -> Option<&Process> {
        self.processes.get(&(trace, process_id))
    }

    /// The columns `pid` and `comm`.
    pub fn process_values(&self, trace: usize, process_id: i64) -> [Value; 2] {
        let process = self.process(trace, process_id);
        [Value::int(process.map(|process| process.0)), Value::text(process.and_then(|process| process.1.as_deref()))]
    }
}

fn read_processes(batch: &Batch, wanted: &Wanted, found: &mut Vec<((usize, i64), Process)>) -> Result<(), Error> {
    let (ids, pids, uids) = (batch.int64("process_id")?, batch.int32("pid")?, batch.int64("uid")?);
    let comms = batch.text("comm")?;
    for row in 0..batch.rows() {
        let key = (batch.trace, ids.value(row));
        if wanted.contains(&key) {
            found.push((key, (pids.value(row), comms.get(row).map(Into::into), int64_at(uids, row))));
        }
    }
    Ok(())
}

fn read_objects(batch: &Batch, wanted: &Wanted, found: &mut Vec<((usize, i64), Object)>) -> Result<(), Error> {
    let (refs, ids, keys) = (batch.int64("object_ref")?, batch.int64("object_id")?, batch.int32("key")?);
    let (kinds, names, namespaces) = (batch.text("object_kind")?, batch.text("name")?, batch.int64("ipc_ns")?);
    for row in 0..batch.rows() {
        let key = (batch.trace, refs.value(row));
        if wanted.contains(&key) {
            let object = Object {
                kind: kinds.get(row).map(Into::into),
                id: int64_at(ids, row),
                key: int32_at(keys, row),
                name: names.get(row).map(Into::into),
                ipc_ns: int64_at(namespaces, row),
            };
            found.push((key, object));
        }
    }
    Ok(())
}
