//! The thread that turns rows into files; it never touches a ring.

use crate::batch::{self, Frame};
use crate::call::Call;
use crate::directory::Error;
use crate::finished::{Calls, Finished, Living, Loss};
use crate::pulse::Pulse;
use crate::stacks::StackRow;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use crossbeam_channel::{Receiver, Sender};
use ipc_schema::losses::{self, Source};
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
    /// When the probes began to be detached, CLOCK_BOOTTIME nanoseconds: not everything is recorded from then on. 0: they
    /// are not.
    pub detached_ns: AtomicU64,
    /// What else its health is judged by.
    pub pulse: Pulse,
    /// Whether the writer wants to know all that lives.
    pub wants_all: AtomicBool,
    /// Whether somebody wants a trace of what there is.
    pub wants_trace: AtomicBool,
}

impl Progress {
    /// Until when everything is recorded, of what has come until then.
    pub fn recorded_until(&self, until_ns: u64) -> u64 {
        match self.detached_ns.load(Ordering::Relaxed) {
            0 => until_ns,
            detached_ns => until_ns.min(detached_ns),
        }
    }
}

/// Where rows go.
pub trait Destination: Send {
    /// Adds rows of a table, which [`Destination::flush`] writes; everything before `until_ns` was added before.
    ///
    /// # Errors
    /// They are not rows of the table.
    fn write(&mut self, table: &Table, standing: Standing, until_ns: i64, batch: &RecordBatch) -> Result<(), Error>;

    /// Writes what was added.
    fn flush(&mut self);

    /// Under which name rows of a table are lost now.
    fn refuses(&self, table: &Table) -> Option<Source>;

    /// Whether all that lives is to be told.
    fn turn(&mut self) -> bool;

    /// A trace of what there is is to be written, for this; all that lives comes next.
    ///
    /// # Errors
    /// The disk refuses.
    fn ask(&mut self, trigger: &str) -> Result<(), Error>;

    /// What was added tells all that lives.
    ///
    /// # Errors
    /// The disk refuses.
    fn all_told(&mut self) -> Result<(), Error>;

    /// Has what was written, everything before `until_ns`, survive a power cut, soon: beside the recording, for a disk may
    /// take its time.
    fn sync(&self, until_ns: i64);

    /// Everything before survives a power cut: nanoseconds since the epoch; 0: nothing.
    fn durable_until_ns(&self) -> i64;

    /// Bytes that are kept.
    fn bytes(&self) -> u64;

    /// The recording is over; what each `trace.json` holds.
    ///
    /// # Errors
    /// The disk refuses: then the trace is as a crash leaves it.
    fn finish(self: Box<Self>, session: Session) -> Result<Vec<Manifest>, Error>;
}

/// Writes rows until the other side hangs up.
pub struct Writer {
    sink: Box<dyn Destination>,
    frame: Frame,
    calls: Calls,
    begun: Instant,
    /// What was taken last ended between these instants, CLOCK_BOOTTIME nanoseconds.
    from_ns: u64,
    until_ns: u64,
    /// The latter when calls were written last, nanoseconds since the epoch: those taken since are in no block yet, whatever
    /// else is.
    written_ns: i64,
    /// What is being lost.
    gap: Option<Gap>,
    /// What lives was told while the disk refused.
    is_untold: bool,
    lost_calls: i64,
    lost_others: i64,
}

/// What is lost because the disk refuses.
struct Gap {
    source: Source,
    /// CLOCK_BOOTTIME nanoseconds.
    from_ns: u64,
    calls: i64,
    /// Those of them that [`Progress`] shows.
    shown: i64,
    /// Rows that are no calls.
    others: i64,
}

impl Writer {
    /// A writer into `sink`.
    pub fn new(sink: Box<dyn Destination>, frame: Frame) -> Writer {
        let (begun, lost_calls, lost_others) = (Instant::now(), 0, 0);
        Writer {
            sink,
            frame,
            calls: Vec::new(),
            begun,
            from_ns: 0,
            until_ns: 0,
            written_ns: 0,
            gap: None,
            is_untold: false,
            lost_calls,
            lost_others,
        }
    }

    /// Writes everything that arrives, and gives back what the calls came in; the last message is followed by the end of the
    /// channel.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn run(
        mut self,
        rows: &Receiver<Finished>,
        emptied: &Sender<Calls>,
        progress: &Progress,
    ) -> Result<Writer, Error> {
        while let Ok(finished) = rows.recv() {
            let mut written = self.take(finished)?;
            if !written.is_empty() {
                written.iter_mut().for_each(|call| call.forget_memory());
                let _ = emptied.try_send(written); // enough are there
            }
            let is_owed = self.gap.is_none() && std::mem::take(&mut self.is_untold);
            if self.sink.turn() || is_owed {
                progress.wants_all.store(true, Ordering::Relaxed);
            }
            self.show_lost(progress);
            progress.bytes.store(self.sink.bytes(), Ordering::Relaxed);
            progress.pulse.written(self.sink.durable_until_ns());
        }
        self.write_calls()?;
        self.end_gap()?;
        Ok(self)
    }

    fn show_lost(&mut self, progress: &Progress) {
        if let Some(gap) = &mut self.gap {
            progress.pulse.lost(gap.source, (gap.calls - gap.shown) as u64);
            gap.shown = gap.calls;
        }
    }

    /// Writes everything that there is.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_all(&mut self, finished: Finished) -> Result<(), Error> {
        self.take(finished)?;
        self.write_calls()?;
        if self.sink.turn() { self.sink.all_told() } else { Ok(()) }
    }

    /// Takes rows; the calls that were written.
    fn take(&mut self, mut finished: Finished) -> Result<Calls, Error> {
        self.from_ns = std::mem::replace(&mut self.until_ns, finished.until_ns);
        if self.sink.refuses(&CALLS).is_none() {
            self.end_gap()?;
        }
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
            self.write_stacks(Standing::Final, stacks.into_rows())?;
        }
        self.calls.append(&mut finished.calls);
        let mut written = Vec::new();
        let is_due = self.begun.elapsed() >= BATCH_AGE || finished.asked_for.is_some();
        if self.calls.len() >= BATCH_ROWS || is_due {
            written = self.write_calls()?;
        }
        if let Some(trigger) = finished.asked_for.take() {
            self.sink.ask(&trigger)?;
        }
        if let Some(living) = finished.living.take() {
            self.write_living(&living)?;
        }
        if is_due {
            self.begun = Instant::now();
            self.sink.sync(self.written_ns);
        }
        Ok(written)
    }

    /// Writes the calls that were taken; these.
    fn write_calls(&mut self) -> Result<Calls, Error> {
        self.written_ns = self.frame.epoch(self.until_ns);
        let mut calls = std::mem::take(&mut self.calls);
        // Late records and deaths may step back a little; open calls come last.
        calls.sort_by_key(|c| c.end_ns.unwrap_or(u64::MAX));
        for rows in calls.chunks(BATCH_ROWS) {
            self.write_call_rows(Standing::Final, rows)?;
        }
        self.sink.flush();
        Ok(calls)
    }

    fn write_call_rows(&mut self, standing: Standing, calls: &[Box<Call>]) -> Result<(), Error> {
        let rows: Vec<&Call> = calls.iter().map(Box::as_ref).collect();
        self.write_as(standing, &CALLS, &rows, batch::calls(&rows))?;
        self.write_as(standing, &SEM_OPS, &batch::sem_op_rows(&rows), batch::sem_ops)
    }

    /// Whether rows have no place, and are counted instead.
    fn loses(&mut self, table: &Table, standing: Standing, rows: usize) -> bool {
        let Some(source) = self.sink.refuses(table).filter(|_| table.name != LOSSES.name) else { return false };
        let from_ns = self.from_ns;
        let gap = self.gap.get_or_insert(Gap { source, from_ns, calls: 0, shown: 0, others: 0 });
        self.is_untold |= standing == Standing::Open;
        let rows = if standing == Standing::Final { rows as i64 } else { 0 };
        match table.name {
            name if name == CALLS.name => gap.calls += rows,
            name if name == SEM_OPS.name => {} // they go with their calls
            _ => gap.others += rows,
        }
        true
    }

    fn end_gap(&mut self) -> Result<(), Error> {
        let Some(gap) = self.gap.take() else { return Ok(()) };
        self.lost_calls += gap.calls;
        self.lost_others += gap.others;
        let (from_ns, to_ns) = (gap.from_ns, self.until_ns);
        let loss = |source, count| Loss { from_ns, to_ns, source, cpu: None, count: Some(count) };
        let mut lost = vec![loss(gap.source, gap.calls), loss(losses::RECORDS, gap.others)];
        lost.retain(|loss| loss.count != Some(0));
        self.write(&LOSSES, &lost, batch::losses)
    }

    /// Tells what a crash would otherwise take with it.
    fn write_living(&mut self, living: &Living) -> Result<(), Error> {
        self.write_call_rows(Standing::Open, &living.calls)?;
        self.write_as(Standing::Open, &PROCESSES, &living.processes, batch::processes)?;
        self.write_as(Standing::Open, &THREADS, &living.threads, batch::threads)?;
        self.write_as(Standing::Open, &LIFETIMES, &living.lifetimes, batch::lifetimes)?;
        self.write_stacks(Standing::Open, living.stacks.rows())?;
        if living.is_all && self.sink.refuses(&CALLS).is_none() {
            self.sink.all_told()?;
        }
        Ok(())
    }

    fn write_stacks(&mut self, standing: Standing, rows: impl Iterator<Item = StackRow>) -> Result<(), Error> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let some: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect();
            self.write_as(standing, &STACKS, &some, batch::stacks)?;
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
        if self.loses(table, standing, rows.len()) {
            return Ok(());
        }
        let batch: Result<RecordBatch, ArrowError> = self.frame.batch(table, rows, fill);
        let batch = batch.map_err(|e| Error::Write { path: PathBuf::from(table.name), error: e.to_string() })?;
        self.sink.write(table, standing, self.written_ns, &batch)
    }

    /// Completes the trace; what `trace.json` holds, of each if there are several.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(self, mut session: Session) -> Result<Vec<Manifest>, Error> {
        session.calls -= self.lost_calls;
        session.lost_calls += self.lost_calls;
        session.lost_records += self.lost_others;
        self.sink.finish(session)
    }
}
