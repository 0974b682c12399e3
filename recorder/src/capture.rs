//! The thread that drains the rings and joins records into calls; it never encodes and never touches a file.

use crate::attach::{Counters, Slots};
use crate::call::Call;
use crate::finished::{Finished, Living, Loss};
use crate::history::{self, Found};
use crate::join::{Hooks, Join};
use crate::lookups::Lookups;
use crate::outbox::Outbox;
use crate::priority;
use crate::ring::{Reader, boot_ns};
use crate::scan::Scanned;
use crate::trigger::{self, Trigger};
use crate::writer::Progress;
use crossbeam_channel::{Receiver, Sender};
use ipc_schema::losses::{self, Source};
use ipc_schema::wire::CpuCounters;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a round waits when nothing happens: what a call may lag behind in the status line.
const IDLE: Duration = Duration::from_millis(50);

/// How often the counters are read.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);

/// How often it is told what lives.
const LIVING_EVERY: Duration = Duration::from_millis(500);

/// What a trace is written for that somebody wants.
const ASKED: &str = "a signal asked for it";

/// Reads one counter.
type Count = fn(&CpuCounters) -> u64;

/// What the probes count besides calls lost in a full ring, whose records tell the place.
const COUNTED: &[(Source, Count)] = &[
    (losses::RECORDS, |c| c.lost_others),
    (losses::X32, |c| c.x32),
    (losses::NO_SLOT, |c| c.no_slot),
    (losses::SHED, |c| c.shed),
    (losses::NOT_FOLLOWED, |c| c.not_followed),
];

/// What the whole capture came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Calls handed on.
    pub calls: i64,
    /// Calls lost.
    pub lost_calls: i64,
    /// Context, fork, exec, exit and stack records lost.
    pub lost_records: i64,
    /// Records that came behind the reorder window.
    pub late_records: i64,
    /// Calls that each filter dropped.
    pub dropped: Dropped,
}

/// Calls that each filter dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropped {
    /// --pid
    pub pid: i64,
    /// --comm
    pub comm: i64,
    /// --cgroup
    pub cgroup: i64,
    /// --min-duration
    pub min_duration: i64,
}

/// What others found out besides the rings.
pub enum News {
    /// A thread that was there before.
    Scanned(Box<Scanned>),
    /// A snapshot.
    Snapshot(Box<Found>),
}

impl News {
    /// When it was so: CLOCK_BOOTTIME nanoseconds.
    fn time_ns(&self) -> u64 {
        match self {
            News::Scanned(thread) => thread.time_ns,
            News::Snapshot(found) => found.time_ns(),
        }
    }
}

/// What a flight recorder writes a trace for, and when it did.
pub struct Triggers {
    when: Vec<Trigger>,
    /// How long it then rests.
    rest: Duration,
    fired: Option<Instant>,
    /// When the open calls were looked at.
    looked: Instant,
    /// Open calls that it was for.
    open: FxHashSet<i64>,
}

impl Triggers {
    /// None of these has been met.
    pub fn new(when: Vec<Trigger>, rest: Duration) -> Triggers {
        Triggers { when, rest, fired: None, looked: Instant::now(), open: FxHashSet::default() }
    }

    /// Each open call is a reason once.
    fn met_by_open(&mut self, join: &mut Join, now_ns: u64) -> Option<String> {
        if self.looked.elapsed() < LIVING_EVERY || !self.when.iter().any(Trigger::is_of_open) {
            return None;
        }
        self.looked = Instant::now();
        let mut first = None;
        for call in join.open_calls() {
            let met = trigger::met_by_open(&self.when, call, now_ns).filter(|_| self.open.insert(call.call_id));
            first = first.or(met);
        }
        first
    }
}

/// News on their way to the join, which takes them between the records of their time.
struct Desk {
    receiver: Receiver<News>,
    waiting: VecDeque<News>,
    /// Snapshots that the join has seen.
    snapshots: Vec<history::Snapshot>,
}

impl Desk {
    fn receive(&mut self) {
        self.waiting.extend(self.receiver.try_iter());
    }

    /// Waits until those who bring news are gone.
    fn receive_all(&mut self) {
        self.waiting.extend(self.receiver.iter());
    }

    /// Tells the join what was found up to a time.
    fn tell(&mut self, until_ns: u64, join: &mut Join) {
        while self.waiting.front().is_some_and(|news| news.time_ns() <= until_ns) {
            match self.waiting.pop_front() {
                Some(News::Scanned(thread)) => join.scanned(*thread),
                Some(News::Snapshot(found)) => self.snapshots.push(history::rows(*found, join)),
                None => {}
            }
        }
    }
}

/// Takes a record, and before it what was found until then.
fn take_in_order(bytes: &[u8], join: &mut Join, news: &mut Desk) {
    if !news.waiting.is_empty()
        && let Some(time) = bytes.first_chunk()
    {
        news.tell(u64::from_ne_bytes(*time), join); // every record begins with its time
    }
    join.take(bytes);
}

/// What a capture is told besides its rings.
pub struct Settings {
    /// When it began, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    /// Shorter calls are dropped.
    pub min_duration_ns: u64,
    /// What the probes tell beyond calls.
    pub hooks: Hooks,
    /// Whether command lines are kept.
    pub with_cmdlines: bool,
    /// The file of the command that is recorded.
    pub program: Option<PathBuf>,
    /// Tells what processes are.
    pub lookups: Lookups,
    /// What others found out; it ends before the capture does.
    pub news: Receiver<News>,
    /// Whom to tell that an allocation failed.
    pub failures: Option<Sender<u32>>,
    /// Of a flight recorder.
    pub triggers: Option<Triggers>,
}

/// Drains, joins and hands on.
pub struct Capture {
    reader: Reader,
    join: Join,
    counters: Counters,
    slots: Slots,
    last_counters: Vec<CpuCounters>,
    last_read: Instant,
    last_living: Instant,
    last_read_ns: u64,
    /// When the probes were attached, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    news: Desk,
    failures: Option<Sender<u32>>,
    triggers: Option<Triggers>,
    /// Descendants were asked for and cannot be followed.
    cannot_follow: bool,
    totals: Totals,
    /// Of the calls lost on the way to the writer, those that were shown.
    shown_lost: u64,
}

impl Capture {
    /// A capture of what the rings hold.
    pub fn new(reader: Reader, counters: Counters, slots: Slots, settings: Settings) -> Capture {
        let last_counters = vec![CpuCounters::default(); reader.delivered.len()];
        let Settings { start_ns, min_duration_ns, hooks, with_cmdlines, program, lookups, news, failures, triggers } =
            settings;
        let mut join = Join::new(start_ns, min_duration_ns, hooks);
        join.look_up_with(lookups);
        if with_cmdlines {
            join.keep_cmdlines();
        }
        if let Some(program) = program {
            join.stacks.set_program(program);
        }
        Capture {
            reader,
            join,
            counters,
            slots,
            last_counters,
            last_read: Instant::now(),
            last_living: Instant::now(),
            last_read_ns: start_ns,
            start_ns,
            news: Desk { receiver: news, waiting: VecDeque::new(), snapshots: vec![] },
            failures,
            triggers,
            cannot_follow: false,
            totals: Totals::default(),
            shown_lost: 0,
        }
    }

    /// Descendants were asked for, but this kernel does not let them be followed: what they do is lost, nobody knows how
    /// much.
    pub fn cannot_follow(&mut self) {
        self.cannot_follow = true;
    }

    /// Works until `stop` is set *and the probes are detached*, then takes what is left. Ends early if the writer is
    /// gone.
    pub fn run(mut self, mut rows: Outbox, progress: &Progress, stop: &AtomicBool) -> Totals {
        priority::set(priority::CAPTURE);
        while !stop.load(Ordering::Acquire) {
            self.reader.wait(IDLE);
            self.news.receive();
            let (join, news) = (&mut self.join, &mut self.news);
            let until_ns = self.reader.round(|bytes| take_in_order(bytes, join, news));
            self.news.tell(until_ns, &mut self.join);
            self.join.settle(until_ns);
            self.note_losses();
            let until_ns = progress.recorded_until(until_ns);
            let mut finished = Finished { until_ns, ..self.join.finished() };
            let wants_all = progress.wants_all.swap(false, Ordering::Relaxed) || rows.owes_living();
            if wants_all || self.last_living.elapsed() >= LIVING_EVERY {
                finished.living = Some(self.join.living(until_ns, wants_all));
                self.last_living = Instant::now();
            }
            if let Some(trigger) = self.trigger(&finished.calls, until_ns, progress) {
                finished.asked_for = Some(trigger);
                finished.living = Some(self.join.living(until_ns, true));
            }
            let finished = self.note(finished, progress);
            if rows.send(finished).is_err() {
                return self.totals; // the writer says why
            }
            self.join.fill_again(rows.emptied());
            self.show(&rows, progress);
        }
        self.finish(rows, progress)
    }

    fn finish(mut self, mut rows: Outbox, progress: &Progress) -> Totals {
        self.failures = None; // nobody takes snapshots of failures any more
        self.news.receive_all();
        let (join, news) = (&mut self.join, &mut self.news);
        self.reader.finish(|bytes| take_in_order(bytes, join, news));
        self.news.tell(u64::MAX, &mut self.join);
        self.note_losses();
        self.note_last_losses();
        if self.cannot_follow {
            let (from_ns, to_ns) = (self.start_ns, self.last_read_ns);
            self.join.lost(Loss { from_ns, to_ns, source: losses::NOT_FOLLOWED, cpu: None, count: None });
        }
        let slots = &self.slots;
        let until_ns = progress.recorded_until(self.last_read_ns);
        let finished = Finished { until_ns, ..self.join.finish(|tid| slots.of(tid)) };
        self.totals.late_records = self.reader.late as i64;
        self.totals.dropped = self.dropped();
        let mut finished = self.note(finished, progress);
        if progress.wants_trace.swap(false, Ordering::Relaxed) {
            finished.asked_for = Some(ASKED.to_owned());
            finished.living = Some(Living { is_all: true, ..Living::default() }); // nothing lives any more
        }
        let _ = rows.finish(finished); // the writer says why
        self.show(&rows, progress);
        self.totals.calls -= rows.lost_calls as i64;
        self.totals.lost_calls += rows.lost_calls as i64;
        self.totals.lost_records += rows.lost_others as i64;
        self.totals
    }

    /// What a trace is to be written for, if it is.
    fn trigger(&mut self, ended: &[Box<Call>], now_ns: u64, progress: &Progress) -> Option<String> {
        if progress.wants_trace.swap(false, Ordering::Relaxed) {
            return Some(ASKED.to_owned());
        }
        let triggers = self.triggers.as_mut()?;
        if triggers.fired.is_some_and(|fired| fired.elapsed() < triggers.rest) {
            return None;
        }
        let met = trigger::met(&triggers.when, ended).or_else(|| triggers.met_by_open(&mut self.join, now_ns))?;
        triggers.fired = Some(Instant::now());
        Some(met)
    }

    fn dropped(&self) -> Dropped {
        let sum = |count: Count| self.last_counters.iter().map(count).sum::<u64>() as i64;
        Dropped {
            pid: sum(|c| c.dropped_pid),
            comm: sum(|c| c.dropped_comm),
            cgroup: sum(|c| c.dropped_cgroup),
            min_duration: self.join.too_short as i64,
        }
    }

    /// Adds what was found besides, and counts.
    fn note(&mut self, mut finished: Finished, progress: &Progress) -> Finished {
        finished.snapshots.append(&mut self.news.snapshots);
        if let Some(failures) = &self.failures
            && let Some(call) = finished.calls.iter().rfind(|c| history::ran_out(c))
        {
            history::tell(failures, call.pid);
        }
        self.totals.calls += finished.calls.len() as i64;
        for loss in &finished.losses {
            let count = loss.count.unwrap_or(0);
            progress.pulse.lost(loss.source, count as u64);
            if loss.source.counts_calls {
                self.totals.lost_calls += count;
            } else if loss.source == losses::RECORDS {
                self.totals.lost_records += count;
            }
        }
        finished
    }

    fn show(&mut self, rows: &Outbox, progress: &Progress) {
        progress.calls.store(self.totals.calls as u64 - rows.lost_calls, Ordering::Relaxed);
        progress.pulse.handed_on(rows.sent, rows.until_ns, rows.waiting());
        progress.pulse.lost(losses::QUEUE_FULL, rows.lost_calls - self.shown_lost);
        self.shown_lost = rows.lost_calls;
    }

    fn note_losses(&mut self) {
        for gap in std::mem::take(&mut self.reader.gaps) {
            self.lost(losses::RING_FULL, Some(gap.cpu), gap.from_ns, gap.to_ns, u64::from(gap.calls));
        }
        if self.last_read.elapsed() >= COUNTERS_EVERY {
            self.note_counters();
        }
    }

    fn note_counters(&mut self) -> Vec<CpuCounters> {
        let (now, now_ns) = (self.counters.read(), boot_ns());
        let before = std::mem::replace(&mut self.last_counters, now.clone());
        for (cpu, (now, before)) in now.iter().zip(&before).enumerate() {
            for (source, value) in COUNTED {
                let count = value(now) - value(before);
                self.lost(*source, Some(cpu as u16), self.last_read_ns, now_ns, count);
            }
        }
        (self.last_read, self.last_read_ns) = (Instant::now(), now_ns);
        now
    }

    /// What was lost behind the last record, and what the numbers of the records say that the counters do not.
    fn note_last_losses(&mut self) {
        let counters = self.note_counters();
        let now_ns = self.last_read_ns;
        for (cpu, counted) in counters.iter().enumerate() {
            let delivered = self.reader.delivered[cpu];
            if let Some(gap) = delivered.last_gap(cpu as u16, counted.lost_calls, now_ns) {
                self.lost(losses::RING_FULL, Some(gap.cpu), gap.from_ns, gap.to_ns, u64::from(gap.calls));
            }
            let explained = delivered.records + counted.lost_calls + counted.lost_others;
            let unexplained = counted.seq.saturating_sub(explained);
            self.lost(losses::UNEXPLAINED, Some(cpu as u16), 0, now_ns, unexplained);
        }
        self.lost(losses::MALFORMED, None, 0, now_ns, self.join.malformed);
        self.lost(losses::COPY_FAULT, None, 0, now_ns, self.join.copy_faults);
        self.lost(losses::STACKS, None, 0, now_ns, self.join.stacks.refused);
    }

    fn lost(&mut self, source: Source, cpu: Option<u16>, from_ns: u64, to_ns: u64, count: u64) {
        if count > 0 {
            // 0: since the beginning
            let from_ns = from_ns.max(self.start_ns.min(to_ns));
            self.join.lost(Loss { from_ns, to_ns, source, cpu, count: Some(count as i64) });
        }
    }
}
