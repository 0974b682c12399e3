//! What the small tables say of queues: when they were made and removed, what snapshots found in them.

use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;

/// What is known of one queue beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// When it was made; `None`: before the trace, or unknown.
    pub created_ns: Option<i64>,
    /// When it was removed; `None`: still there, or unknown.
    pub removed_ns: Option<i64>,
    /// What snapshots counted, by time; System V only, for the file of a POSIX queue does not say.
    pub counted: Vec<Counted>,
    /// Bytes that it takes, by the last snapshot.
    pub max_bytes: Option<i64>,
}

/// What a snapshot counted in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// When it began, nanoseconds since the epoch.
    pub at_ns: i64,
    /// Messages.
    pub messages: i64,
    /// Bytes.
    pub bytes: i64,
}

/// The queues of one trace by `object_ref`.
#[derive(Debug, Default)]
pub struct KnownQueues(HashMap<i64, Known>);

/// A row of either table: the lifetime, and what it adds.
enum Row {
    Life { created_ns: Option<i64>, removed_ns: Option<i64> },
    Count { counted: Option<Counted>, at_ns: i64, max_bytes: Option<i64> },
}

impl KnownQueues {
    /// Reads those of a trace: some 200 bytes per queue, 24 per queue and snapshot.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(trace: &Trace) -> Result<KnownQueues, Error> {
        let traces = std::slice::from_ref(trace);
        let columns = &["object_ref", "object_kind", "created_ns", "removed_ns"];
        let mut rows = scan::collect(traces, &tables::LIFETIMES, columns, read_lives)?;
        let columns = &["object_ref", "object_kind", "phase", "snapshot_ns", "messages", "queued_bytes", "max_bytes"];
        let ends_only = trace.has_many_snapshots();
        let read = |batch: &Batch, found: &mut Vec<_>| read_counts(batch, ends_only, found);
        rows.extend(scan::collect(traces, &tables::OBJECTS, columns, read)?);
        let mut known: HashMap<i64, (Known, i64)> = HashMap::new();
        for (object_ref, row) in rows {
            let (queue, last_ns) = known.entry(object_ref).or_insert_with(|| (Known::default(), i64::MIN));
            match row {
                Row::Life { created_ns, removed_ns } => (queue.created_ns, queue.removed_ns) = (created_ns, removed_ns),
                Row::Count { counted, at_ns, max_bytes } => {
                    queue.counted.extend(counted);
                    if at_ns >= *last_ns {
                        (queue.max_bytes, *last_ns) = (max_bytes, at_ns);
                    }
                }
            }
        }
        let finish = |(object_ref, (mut queue, _)): (i64, (Known, i64))| {
            queue.counted.sort_by_key(|counted| counted.at_ns);
            (object_ref, queue)
        };
        Ok(KnownQueues(known.into_iter().map(finish).collect()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One of them.
    pub fn get(&self, object_ref: i64) -> Option<&Known> {
        self.0.get(&object_ref)
    }
}

fn read_lives(batch: &Batch, found: &mut Vec<(i64, Row)>) -> Result<(), Error> {
    let (refs, kinds) = (batch.int64("object_ref")?, batch.text("object_kind")?);
    let (created, removed) = (batch.int64("created_ns")?, batch.int64("removed_ns")?);
    for row in (0..batch.rows()).filter(|row| matches!(kinds.get(*row), Some("msg" | "mq"))) {
        let life = Row::Life { created_ns: int64_at(created, row), removed_ns: int64_at(removed, row) };
        found.push((refs.value(row), life));
    }
    Ok(())
}

fn read_counts(batch: &Batch, ends_only: bool, found: &mut Vec<(i64, Row)>) -> Result<(), Error> {
    let (refs, kinds, times) = (batch.int64("object_ref")?, batch.text("object_kind")?, batch.int64("snapshot_ns")?);
    let (messages, bytes) = (batch.int64("messages")?, batch.int64("queued_bytes")?);
    let (max_bytes, phases) = (batch.int64("max_bytes")?, batch.text("phase")?);
    let is_wanted = |row: &usize| {
        kinds.get(*row) == Some("msg") && (!ends_only || matches!(phases.get(*row), Some("start" | "end")))
    };
    for row in (0..batch.rows()).filter(is_wanted) {
        let at_ns = times.value(row);
        let counted = int64_at(messages, row).map(|messages| Counted {
            at_ns,
            messages,
            bytes: int64_at(bytes, row).unwrap_or(0),
        });
        found.push((refs.value(row), Row::Count { counted, at_ns, max_bytes: int64_at(max_bytes, row) }));
    }
    Ok(())
}
