//! The lines of one trace: the calls of each semaphore and each side of each queue, backwards in time.

use super::line::{Line, LineKey, Rules, Side, Wait, Waited};
use crate::batch::{Batch, Text, int32_at, int64_at};
use crate::error::Error;
use crate::ordered::{OrderedQuery, shard_of};
use crate::passes::{Pass, stable_hash};
use crate::query::GroupStatistics;
use arrow::array::{Array, Int32Array, Int64Array};
use hashbrown::HashMap;

/// A line without waits, its place in the table, and the slack of both, bytes.
const LINE_BYTES: isize = (size_of::<Line>() + size_of::<LineKey>()) as isize * 3 / 2 + 32;

/// What the calls of a trace say of each line.
pub struct LinesQuery {
    /// When waiting is a convoy.
    pub rules: Rules,
    /// Which objects are answered.
    pub pass: Pass,
    /// What one shard may take, bytes.
    pub budget_bytes: isize,
    /// The end of the recording: open calls wait until then.
    pub trace_end_ns: i64,
}

/// The lines of one shard.
#[derive(Default)]
pub struct Shard {
    /// Each line with its key.
    pub lines: Vec<(LineKey, Line)>,
    numbers: HashMap<LineKey, u32>,
    bytes: isize,
    bits: u32,
    /// What is said of all calls, those of other passes too.
    pub aside: Aside,
}

/// What is said of calls beside the lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aside {
    /// Calls that began before the trace.
    pub before_trace: u64,
    /// Calls on no object that is known: they are in no line.
    pub without_object: u64,
    /// Calls of which it is not known whether they slept.
    pub unknown: u64,
}

impl Aside {
    /// Adds up.
    pub fn add(&mut self, from: Aside) {
        self.before_trace += from.before_trace;
        self.without_object += from.without_object;
        self.unknown += from.unknown;
    }
}

const OPEN: u8 = 1;
const SLEPT: u8 = 1 << 1;
const HANDOFF: u8 = 1 << 2;
const TIMEOUT: u8 = 1 << 3;
const TAKE: u8 = 1 << 4;
const GIVE: u8 = 1 << 5;
const HAS_DELAY: u8 = 1 << 6;

/// The calls of some lines in one row group. Of most calls only their number is kept.
#[derive(Default)]
pub struct Piece {
    numbers: HashMap<LineKey, u32>,
    /// Per line its calls.
    operations: Vec<(LineKey, u64)>,
    /// Per call that slept, is open, took or gave: line, what it was, start, end (of open calls: none), thread.
    lines: Vec<u32>,
    kinds: Vec<u8>,
    starts: Vec<i64>,
    ends: Vec<i64>,
    threads: Vec<i64>,
    /// Per call that slept: wait, wake-up delay, wakings.
    waits: Vec<(i64, i64, i32)>,
    aside: Aside,
}

impl OrderedQuery for LinesQuery {
    type Piece = Piece;
    type Shard = Shard;

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        let mut columns = vec!["start_ns", "end_ns", "syscall", "outcome", "object_ref", "thread_id"];
        columns.extend(["sem_num", "sem_op", "sem_ops_total"]);
        columns.push("wait_ns");
        if !statistics.is_at_most("wait_ns", 0) {
            columns.extend(["wakeup_delay_ns", "wakings", "wake_reason"]);
        }
        if !statistics.is_always("began", "in_trace") {
            columns.push("began");
        }
        columns
    }

    fn piece(&self) -> Piece {
        Piece::default()
    }

    fn cut(&self, batch: &Batch, pieces: &mut [Piece]) -> Result<(), Error> {
        let columns = Columns::new(batch)?;
        let bits = self.pass.bits();
        let mut last: Option<(LineKey, usize, u32)> = None;
        let mut aside = Aside::default();
        for row in 0..batch.rows() {
            if !columns.line.is_operation(row) {
                continue;
            }
            aside.before_trace += u64::from(columns.is_before_trace(row));
            aside.unknown += u64::from(columns.is_unknown(row));
            let Some(key) = columns.line.get(row) else {
                aside.without_object += 1;
                continue;
            };
            let (shard, line) = match last {
                Some((known, shard, line)) if known == key => (shard, line),
                _ if bits > 0 && !self.pass.holds(hash_of(&key), bits) => continue,
                _ => {
                    let shard = shard_of(key.object_ref, pieces.len());
                    (shard, pieces[shard].line(key))
                }
            };
            last = Some((key, shard, line));
            pieces[shard].add(&columns, row, key, line);
        }
        // Of whatever shard, and of the objects of other passes too.
        if let Some(piece) = pieces.first_mut() {
            piece.aside.add(aside);
        }
        Ok(())
    }

    fn shard(&self) -> Shard {
        Shard { bits: self.pass.bits(), ..Shard::default() }
    }

    fn fold(&self, shard: &mut Shard, piece: &Piece) -> Result<(), Error> {
        self.put_off(shard);
        shard.aside.add(piece.aside);
        let numbers: Vec<Option<u32>> =
            piece.operations.iter().map(|(key, calls)| shard.count(key, *calls, &self.pass)).collect();
        let mut waits = piece.waits.iter().rev();
        let mut grown_bytes = 0;
        for row in (0..piece.lines.len()).rev() {
            let kind = piece.kinds[row];
            let wait = if kind & SLEPT != 0 { waits.next() } else { None };
            let number = numbers.get(piece.lines[row] as usize).copied().flatten();
            let line = number.and_then(|number| shard.lines.get_mut(number as usize));
            let Some((_, line)) = line else { continue };
            let (start_ns, end_ns, thread) = (piece.starts[row], piece.ends[row], piece.threads[row]);
            if let Some((wait_ns, delay_ns, wakings)) = wait.copied() {
                let delay_ns = (kind & HAS_DELAY != 0).then_some(delay_ns);
                let (is_handoff, is_timeout) = (kind & HANDOFF != 0, kind & TIMEOUT != 0);
                let wait = Wait { start_ns, end_ns, wait_ns, delay_ns, wakings, is_handoff, is_timeout };
                grown_bytes += line.wait(&wait, &self.rules);
            }
            if kind & OPEN != 0 {
                grown_bytes += line.open(start_ns, self.trace_end_ns, &self.rules);
            } else if kind & GIVE != 0 {
                grown_bytes += line.give(thread, start_ns);
            } else if kind & TAKE != 0 {
                grown_bytes += line.take(thread, end_ns, &self.rules);
            }
        }
        shard.bytes += grown_bytes;
        if shard.bytes > self.budget_bytes && shard.lines.len() > 1 {
            self.pass.put_off_half(shard.bits);
        }
        Ok(())
    }
}

impl LinesQuery {
    /// Drops what a further pass answers, if memory ran short in any shard.
    pub fn put_off(&self, shard: &mut Shard) {
        self.pass.catch_up(&mut shard.bits, |holds| {
            shard.lines.retain(|(key, _)| holds(hash_of(key)));
            shard.lines.shrink_to_fit();
            shard.numbers = (0..).zip(&shard.lines).map(|(number, (key, _))| (*key, number)).collect();
            shard.bytes = shard.lines.iter().map(|(_, line)| line.bytes()).sum();
        });
    }
}

fn hash_of(key: &LineKey) -> u64 {
    stable_hash(&[key.object_ref as u64])
}

impl Line {
    fn bytes(&self) -> isize {
        let of_waits = |w: &Waited| size_of::<Waited>() + w.waits.heap_bytes() + w.delays.heap_bytes();
        let heap = self.waited.as_deref().map_or(0, of_waits) + self.holds.heap_bytes();
        LINE_BYTES + heap as isize
    }
}

impl Shard {
    /// Counts the calls of a line; its number, `None` where another pass answers it.
    fn count(&mut self, key: &LineKey, calls: u64, pass: &Pass) -> Option<u32> {
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None if self.bits > 0 && !pass.holds(hash_of(key), self.bits) => return None,
            None => {
                let number = self.lines.len() as u32;
                self.lines.push((*key, Line::default()));
                self.numbers.insert(*key, number);
                self.bytes += LINE_BYTES;
                number
            }
        };
        self.lines.get_mut(number as usize)?.1.operations += calls;
        Some(number)
    }
}

impl Piece {
    fn line(&mut self, key: LineKey) -> u32 {
        *self.numbers.entry(key).or_insert_with(|| {
            self.operations.push((key, 0));
            (self.operations.len() - 1) as u32
        })
    }

    fn add(&mut self, columns: &Columns<'_>, row: usize, key: LineKey, line: u32) {
        self.operations[line as usize].1 += 1;
        let mut kind = columns.kind(row, &key);
        if let Some((wait_ns, delay_ns, wakings)) = columns.wait(row) {
            kind |= SLEPT | columns.ended_by(row) | if delay_ns.is_some() { HAS_DELAY } else { 0 };
            self.waits.push((wait_ns, delay_ns.unwrap_or(0), wakings));
        }
        if kind != 0 {
            self.lines.push(line);
            self.kinds.push(kind);
            self.starts.push(columns.starts.value(row));
            self.ends.push(columns.ends.value(row));
            self.threads.push(columns.threads.value(row));
        }
    }
}

/// What a value of a text column means, looked up once per batch.
struct Meanings<'a, T> {
    text: Text<'a>,
    meanings: Vec<T>,
}

impl<'a, T: Copy> Meanings<'a, T> {
    fn new(text: Text<'a>, of: impl Fn(&str) -> T, absent: T) -> Meanings<'a, T> {
        Meanings { meanings: text.values.iter().map(|value| value.map_or(absent, &of)).collect(), text }
    }

    fn get(&self, row: usize) -> Option<T> {
        self.meanings.get(self.text.index(row)?).copied()
    }
}

/// The side that an operation stands on; `None`: it takes part in no line.
pub fn side_of(syscall: &str) -> Option<Side> {
    match syscall {
        "semop" | "semtimedop" => Some(Side::Semaphore),
        "msgsnd" | "mq_timedsend" => Some(Side::Send),
        "msgrcv" | "mq_timedreceive" => Some(Side::Receive),
        _ => None,
    }
}

/// The columns that tell to which line a call belongs.
pub struct LineColumns<'a> {
    sides: Meanings<'a, Option<Side>>,
    objects: &'a Int64Array,
    semaphores: &'a Int32Array,
    totals: &'a Int32Array,
}

impl<'a> LineColumns<'a> {
    /// Their names.
    pub const NAMES: [&'static str; 4] = ["syscall", "object_ref", "sem_num", "sem_ops_total"];

    /// Those of a batch.
    ///
    /// # Errors
    /// A column that it does not have.
    pub fn new(batch: &'a Batch) -> Result<LineColumns<'a>, Error> {
        Ok(LineColumns {
            sides: Meanings::new(batch.text("syscall")?, side_of, None),
            objects: batch.int64("object_ref")?,
            semaphores: batch.int32("sem_num")?,
            totals: batch.int32("sem_ops_total")?,
        })
    }

    /// Whether it takes part in lines.
    #[inline]
    pub fn is_operation(&self, row: usize) -> bool {
        self.sides.get(row).flatten().is_some()
    }

    /// The line of a call. One with several operations sleeps on the first that blocks: which one is not recorded.
    #[inline]
    pub fn get(&self, row: usize) -> Option<LineKey> {
        let side = self.sides.get(row)??;
        let object_ref = int64_at(self.objects, row)?;
        let is_single = side == Side::Semaphore && int32_at(self.totals, row).is_none_or(|total| total <= 1);
        let sem_num = if is_single { int32_at(self.semaphores, row) } else { None };
        Some(LineKey { object_ref, sem_num, side })
    }
}

/// The columns of a batch of calls.
struct Columns<'a> {
    line: LineColumns<'a>,
    starts: &'a Int64Array,
    ends: &'a Int64Array,
    threads: &'a Int64Array,
    /// Whether the call succeeded.
    outcomes: Meanings<'a, bool>,
    operations: &'a Int32Array,
    waits: &'a Int64Array,
    woken: Option<Woken<'a>>,
    began: Option<Meanings<'a, bool>>,
}

/// The columns of calls that slept.
struct Woken<'a> {
    delays: &'a Int64Array,
    wakings: &'a Int32Array,
    reasons: Meanings<'a, u8>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a Batch) -> Result<Columns<'a>, Error> {
        let reason = |reason: &str| match reason {
            "peer" => HANDOFF,
            "timeout" => TIMEOUT,
            _ => 0,
        };
        let woken = || -> Result<_, Error> {
            Ok(Woken {
                delays: batch.int64("wakeup_delay_ns")?,
                wakings: batch.int32("wakings")?,
                reasons: Meanings::new(batch.text("wake_reason")?, reason, 0),
            })
        };
        let began =
            || -> Result<_, Error> { Ok(Meanings::new(batch.text("began")?, |began| began == "before_trace", false)) };
        Ok(Columns {
            line: LineColumns::new(batch)?,
            starts: batch.int64("start_ns")?,
            ends: batch.int64("end_ns")?,
            threads: batch.int64("thread_id")?,
            outcomes: Meanings::new(batch.text("outcome")?, |outcome| outcome == "ok", false),
            operations: batch.int32("sem_op")?,
            waits: batch.int64("wait_ns")?,
            woken: if batch.has("wake_reason") { Some(woken()?) } else { None },
            began: if batch.has("began") { Some(began()?) } else { None },
        })
    }

    /// Whether it is open, took or gave. Of a call with several operations it is not known.
    #[inline]
    fn kind(&self, row: usize, key: &LineKey) -> u8 {
        if self.ends.is_null(row) {
            return OPEN;
        }
        if key.sem_num.is_none() || self.outcomes.get(row) != Some(true) {
            return 0;
        }
        match int32_at(self.operations, row) {
            Some(operation) if operation < 0 => TAKE,
            Some(operation) if operation > 0 => GIVE,
            _ => 0,
        }
    }

    /// Wait, wake-up delay and wakings of a call that slept and ended.
    #[inline]
    fn wait(&self, row: usize) -> Option<(i64, Option<i64>, i32)> {
        let wait_ns = int64_at(self.waits, row).filter(|wait_ns| *wait_ns > 0)?;
        if self.ends.is_null(row) {
            return None;
        }
        let woken = self.woken.as_ref();
        let delay_ns = woken.and_then(|woken| int64_at(woken.delays, row));
        let wakings = woken.and_then(|woken| int32_at(woken.wakings, row)).unwrap_or(0);
        Some((wait_ns, delay_ns, wakings))
    }

    fn ended_by(&self, row: usize) -> u8 {
        self.woken.as_ref().and_then(|woken| woken.reasons.get(row)).unwrap_or(0)
    }

    /// Whether it ended and nothing is known of its sleep.
    #[inline]
    fn is_unknown(&self, row: usize) -> bool {
        self.waits.is_null(row) && self.ends.is_valid(row)
    }

    fn is_before_trace(&self, row: usize) -> bool {
        self.began.as_ref().and_then(|began| began.get(row)).unwrap_or(false)
    }
}
