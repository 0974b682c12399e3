//! The thread that turns rows into files; it never touches a ring.

use crate::batch::{self, Frame};
use crate::call::Call;
use crate::directory::Error;
use crate::join::{Finished, Living};
use crate::priority;
use crate::pulse::Pulse;
use crate::sink::Sink;
use crate::stacks::Stacks;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use crossbeam_channel::Receiver;
use ipc_schema::manifest::{Manifest, Session};
use ipc_schema::store::log::Standing;
use ipc_schema::tables::{
    CALLS, EXECS, LIFETIMES, LIMITS, LOSSES, OBJECTS, PROCESSES, QUEUED, SEM_OPS, SIGNALS, STACKS, THREADS, Table,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rows of one batch: what fits into a processor's cache while its columns are built.
const BATCH_ROWS: usize = 4_096;

/// How long rows may wait for a batch to fill; what a crash takes is little more.
const BATCH_AGE: Duration = Duration::from_millis(500);

/// What the other threads see of the writing.
#[derive(Default)]
pub struct Progress {
    /// Calls handed to the writer.
    pub calls: AtomicU64,
    /// Bytes on disk.
    pub bytes: AtomicU64,
    /// Calls lost so far.
    pub lost: AtomicU64,
    /// What else its health is judged by.
    pub pulse: Pulse,
    /// Whether the writer wants to know all that lives.
    pub wants_all: AtomicBool,
}

/// Writes rows until the other side hangs up.
pub struct Writer {
    sink: Sink,
    frame: Frame,
    calls: Vec<Call>,
    begun: Instant,
    /// Everything before this instant was taken, nanoseconds since the epoch.
    until_ns: i64,
}

impl Writer {
    /// A writer into `sink`.
    pub fn new(sink: Sink, frame: Frame) -> Writer {
        Writer { sink, frame, calls: Vec::new(), begun: Instant::now(), until_ns: 0 }
    }

    /// Writes everything that arrives; the last message is followed by the end of the channel.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn run(mut self, rows: &Receiver<Finished>, progress: &Progress) -> Result<Writer, Error> {
        priority::set(priority::WRITER);
        while let Ok(finished) = rows.recv() {
            self.take(finished)?;
            if self.sink.turn()? {
                progress.wants_all.store(true, Ordering::Relaxed);
            }
            progress.bytes.store(self.sink.bytes(), Ordering::Relaxed);
            progress.pulse.written(self.sink.durable_until_ns());
        }
        self.write_calls()?;
        Ok(self)
    }

    /// Writes everything that there is.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_all(&mut self, finished: Finished) -> Result<(), Error> {
        self.take(finished)?;
        self.write_calls()?;
        if self.sink.turn()? { self.sink.all_told() } else { Ok(()) }
    }

    fn take(&mut self, mut finished: Finished) -> Result<(), Error> {
        self.until_ns = self.frame.epoch(finished.until_ns);
        self.write(&PROCESSES, &finished.processes, batch::processes)?;
        self.write(&THREADS, &finished.threads, batch::threads)?;
        self.write(&EXECS, &finished.executions, batch::executions)?;
        self.write(&LOSSES, &finished.losses, batch::losses)?;
        self.write(&LIFETIMES, &finished.lifetimes, batch::lifetimes)?;
        self.write(&SIGNALS, &finished.signals, batch::signals)?;
        for snapshot in &finished.snapshots {
            self.write(&OBJECTS, &snapshot.objects, batch::objects)?;
            self.write(&QUEUED, &snapshot.queued, batch::queued)?;
            self.write(&LIMITS, &snapshot.limits, batch::limits)?;
        }
        if let Some(stacks) = finished.stacks.take() {
            self.write_stacks(stacks)?;
        }
        if let Some(living) = finished.living.take() {
            self.write_living(&living)?;
        }
        self.calls.append(&mut finished.calls);
        let is_due = self.begun.elapsed() >= BATCH_AGE;
        if self.calls.len() >= BATCH_ROWS || is_due {
            self.write_calls()?;
        }
        if is_due {
            self.begun = Instant::now();
            self.sink.sync(self.until_ns);
        }
        Ok(())
    }

    fn write_calls(&mut self) -> Result<(), Error> {
        let mut calls = std::mem::take(&mut self.calls);
        // Late records and deaths may step back a little; open calls come last.
        calls.sort_by_key(|c| c.end_ns.unwrap_or(u64::MAX));
        for rows in calls.chunks(BATCH_ROWS) {
            self.write(&CALLS, rows, batch::calls)?;
            self.write(&SEM_OPS, &batch::sem_op_rows(rows), batch::sem_ops)?;
        }
        calls.clear();
        self.calls = calls;
        self.sink.flush()
    }

    /// Tells what a crash would otherwise take with it.
    fn write_living(&mut self, living: &Living) -> Result<(), Error> {
        self.write_as(Standing::Open, &CALLS, &living.calls, batch::calls)?;
        self.write_as(Standing::Open, &SEM_OPS, &batch::sem_op_rows(&living.calls), batch::sem_ops)?;
        self.write_as(Standing::Open, &PROCESSES, &living.processes, batch::processes)?;
        self.write_as(Standing::Open, &THREADS, &living.threads, batch::threads)?;
        self.write_as(Standing::Open, &LIFETIMES, &living.lifetimes, batch::lifetimes)?;
        if living.is_all {
            self.sink.all_told()?;
        }
        Ok(())
    }

    fn write_stacks(&mut self, stacks: Stacks) -> Result<(), Error> {
        let mut rows = stacks.into_rows().peekable();
        while rows.peek().is_some() {
            let some: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect();
            self.write(&STACKS, &some, batch::stacks)?;
        }
        Ok(())
    }

    fn write<R>(
        &mut self,
        table: &Table,
        rows: &[R],
        fill: impl Fn(&Frame, &str, &[R]) -> Option<arrow::array::ArrayRef>,
    ) -> Result<(), Error> {
        self.write_as(Standing::Final, table, rows, fill)
    }

    fn write_as<R>(
        &mut self,
        standing: Standing,
        table: &Table,
        rows: &[R],
        fill: impl Fn(&Frame, &str, &[R]) -> Option<arrow::array::ArrayRef>,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let batch: Result<RecordBatch, ArrowError> = self.frame.batch(table, rows, fill);
        let batch = batch.map_err(|e| Error::Write { path: PathBuf::from(table.name), error: e.to_string() })?;
        self.sink.write(table, standing, self.until_ns, &batch)
    }

    /// Completes the trace.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(self, session: Session) -> Result<Manifest, Error> {
        self.sink.finish(session)
    }
}
