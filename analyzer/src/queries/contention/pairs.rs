//! Who waited and who ended the wait: pairs of waiter and waker, with what each was doing.

use crate::batch::Batch;
use crate::error::Error;
use crate::intern::{DictionaryCache, NULL, Texts, Translation};
use crate::passes::{Pass, stable_hash};
use crate::query::{GroupStatistics, Only, Query};
use arrow::array::{Array, Int64Array};
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// What waiters and wakers are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The process
    #[default]
    Process,
    /// The name of the thread
    Comm,
    /// The thread
    Thread,
}

impl By {
    /// The columns of the waiter and of the waker.
    pub const fn columns(self) -> [&'static str; 2] {
        match self {
            By::Process => ["process_id", "waker_process_id"],
            By::Comm => ["comm", "waker_comm"],
            By::Thread => ["thread_id", "waker_thread_id"],
        }
    }
}

/// What the waits of a pair have in common, in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// From the lowest bit: 16 of the waiter's operation, 16 of the waker's, 15 of the reason, whether there is a waker,
    /// 16 of the trace. Texts by their number + 1; 0 for none.
    manner: u64,
    /// Id, or the number of a name.
    waiter: i64,
    /// As the waiter; 0 for none.
    waker: i64,
}

const HAS_WAKER: u64 = 1 << 47;

/// The waits of a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    count: u64,
    total_ns: u64,
    max_ns: i64,
}

impl Waits {
    fn add(&mut self, wait_ns: i64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(wait_ns as u64);
        self.max_ns = self.max_ns.max(wait_ns);
    }

    fn merge(&mut self, from: Waits) {
        self.count += from.count;
        self.total_ns = self.total_ns.saturating_add(from.total_ns);
        self.max_ns = self.max_ns.max(from.max_ns);
    }
}

/// One pair, with its waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The index of the trace.
    pub trace: usize,
    /// Who waited.
    pub waiter: Party,
    /// In what.
    pub syscall: Option<Box<str>>,
    /// Who ended it, if anybody did.
    pub waker: Option<Party>,
    /// In what.
    pub waker_syscall: Option<Box<str>>,
    /// Why the wait ended.
    pub wake_reason: Option<Box<str>>,
    /// How many.
    pub waits: u64,
    /// How long together.
    pub wait_total_ns: u64,
    /// The longest.
    pub wait_max_ns: i64,
}

/// Who takes part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A process or a thread, by the id that the trace gave it.
    Id(i64),
    /// Threads of this name.
    Comm(Option<Box<str>>),
}

/// The pairs of all traces.
pub struct PairsQuery<'a> {
    /// What they are told apart by.
    pub by: By,
    /// Which pairs are answered.
    pub pass: &'a Pass,
    /// What one thread's may take, bytes.
    pub budget_bytes: usize,
}

/// The pairs of some rows.
#[derive(Default)]
pub struct Pairs {
    /// Operations and reasons.
    words: Texts,
    /// Names of threads.
    names: Texts,
    pairs: HashMap<Key, Waits>,
    caches: [DictionaryCache; 5],
    bits: u32,
    /// Calls that began before the trace.
    pub before_trace: u64,
}

/// A pair, its place in the table, and the slack of both, bytes.
const PAIR_BYTES: usize = size_of::<(Key, Waits)>() + 1;

impl Query for PairsQuery<'_> {
    type Partial = Pairs;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        let mut columns = vec!["wait_ns", "syscall", "waker_syscall", "wake_reason"];
        columns.extend(self.by.columns());
        if !statistics.is_always("began", "in_trace") {
            columns.push("began");
        }
        columns
    }

    fn only(&self) -> Option<Only> {
        Some(Only::Positive("wait_ns"))
    }

    fn empty(&self) -> Pairs {
        Pairs { bits: self.pass.bits(), ..Pairs::default() }
    }

    fn fold(&self, pairs: &mut Pairs, batch: &Batch) -> Result<(), Error> {
        self.put_off(pairs);
        pairs.add(self.by, batch, self.pass)?;
        if pairs.pairs.capacity() * PAIR_BYTES > self.budget_bytes && pairs.pairs.len() > 1 {
            self.pass.put_off_half(pairs.bits);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Pairs, mut from: Pairs) {
        self.put_off(into);
        self.put_off(&mut from);
        let (words, names) = (into.words.adopt(&from.words), into.names.adopt(&from.names));
        into.before_trace += from.before_trace;
        for (key, waits) in from.pairs {
            into.pairs.entry(key.translated(self.by, &words, &names)).or_default().merge(waits);
        }
    }
}

impl PairsQuery<'_> {
    /// Drops what a further pass answers, if memory ran short in any thread.
    pub fn put_off(&self, pairs: &mut Pairs) {
        self.pass.catch_up(&mut pairs.bits, |holds| {
            pairs.pairs.retain(|key, _| holds(key.stable_hash(self.by, &pairs.names)));
            pairs.pairs.shrink_to_fit();
        });
    }
}

impl Key {
    fn translated(self, by: By, words: &Translation, names: &Translation) -> Key {
        let word = |shift: u32, bits: u32| {
            let number = self.manner >> shift & ((1 << bits) - 1);
            // Too many words in both together cannot be: each was let in by `word`.
            u64::from(words.of((number as u32).wrapping_sub(1)).wrapping_add(1)) << shift
        };
        let name = |number: i64| match by {
            By::Comm => i64::from(names.of((number as u32).wrapping_sub(1)).wrapping_add(1)),
            By::Process | By::Thread => number,
        };
        let rest = self.manner & (HAS_WAKER | 0xffff << 48);
        Key {
            manner: rest | word(0, 16) | word(16, 16) | word(32, 15),
            waiter: name(self.waiter),
            waker: name(self.waker),
        }
    }

    fn stable_hash(&self, by: By, names: &Texts) -> u64 {
        let party = |number: i64| match by {
            By::Comm => names.stable_hash((number as u32).wrapping_sub(1)),
            By::Process | By::Thread => number as u64,
        };
        stable_hash(&[self.manner >> 47, party(self.waiter), party(self.waker)])
    }
}

impl Pairs {
    /// Adds calls, all of which waited.
    fn add(&mut self, by: By, batch: &Batch, pass: &Pass) -> Result<(), Error> {
        if batch.has("began") {
            let began = batch.text("began")?;
            let is_before = |row: &usize| began.get(*row) == Some("before_trace");
            self.before_trace += (0..batch.rows()).filter(is_before).count() as u64;
        }
        let [syscalls, wakers, reasons] = [(0, "syscall"), (1, "waker_syscall"), (2, "wake_reason")]
            .map(|(cache, column)| Ok::<_, Error>(self.caches[cache].numbers(&batch.text(column)?, &mut self.words)));
        let (syscalls, wakers, reasons) = (syscalls?, wakers?, reasons?);
        let trace = u16::try_from(batch.trace).map_err(|_| Error::Usage("too many traces at once".to_owned()))?;
        if self.words_are_too_many() {
            return Err(Error::damaged("the trace", "more operations and reasons than there can be; copy it again"));
        }
        let [waiters, wakers_of] = by.columns();
        let waiters = self.parties(3, by, batch, waiters)?;
        let wakers_of = self.parties(4, by, batch, wakers_of)?;
        let waits = batch.int64("wait_ns")?.values();
        let word = |number: u32| u64::from(number.wrapping_add(1));
        let trace = u64::from(trace) << 48;
        let words = syscalls.iter().zip(&wakers).zip(&reasons);
        for (row, ((syscall, waker_syscall), reason)) in words.enumerate() {
            let waker = wakers_of.get(row);
            let manner = trace | word(*syscall) | word(*waker_syscall) << 16 | word(*reason) << 32;
            let key = Key {
                manner: manner | if waker.is_some() { HAS_WAKER } else { 0 },
                waiter: waiters.get(row).unwrap_or(0),
                waker: waker.unwrap_or(0),
            };
            if self.bits > 0 && !pass.holds(key.stable_hash(by, &self.names), self.bits) {
                continue;
            }
            self.pairs.entry(key).or_default().add(waits[row]);
        }
        Ok(())
    }

    /// 15 bits hold them; a catalogue has some thirty.
    fn words_are_too_many(&self) -> bool {
        self.words.get((1 << 15) - 2).is_some()
    }

    fn parties<'a>(&mut self, cache: usize, by: By, batch: &'a Batch, column: &str) -> Result<Parties<'a>, Error> {
        Ok(match by {
            By::Comm => Parties::Names(self.caches[cache].numbers(&batch.text(column)?, &mut self.names)),
            By::Process | By::Thread => Parties::Ids(batch.int64(column)?),
        })
    }

    /// Calls `visit` with each pair, in no order.
    pub fn for_each(&self, by: By, mut visit: impl FnMut(Pair)) {
        let text = |texts: &Texts, number: u64| texts.get((number as u32).wrapping_sub(1)).map(Box::from);
        let party = |number: i64| match by {
            By::Comm => Party::Comm(text(&self.names, number as u64)),
            By::Process | By::Thread => Party::Id(number),
        };
        for (key, waits) in &self.pairs {
            let word = |shift: u32, bits: u32| text(&self.words, key.manner >> shift & ((1 << bits) - 1));
            visit(Pair {
                trace: (key.manner >> 48) as usize,
                waiter: party(key.waiter),
                syscall: word(0, 16),
                waker: (key.manner & HAS_WAKER != 0).then(|| party(key.waker)),
                waker_syscall: word(16, 16),
                wake_reason: word(32, 15),
                waits: waits.count,
                wait_total_ns: waits.total_ns,
                wait_max_ns: waits.max_ns,
            });
        }
    }
}

/// Waiters or wakers of a batch.
enum Parties<'a> {
    Ids(&'a Int64Array),
    Names(Vec<u32>),
}

impl Parties<'_> {
    /// The id, or the number of the name + 1, of a row.
    #[inline]
    fn get(&self, row: usize) -> Option<i64> {
        match self {
            Parties::Ids(ids) => ids.is_valid(row).then(|| ids.value(row)),
            Parties::Names(numbers) => numbers.get(row).filter(|n| **n != NULL).map(|n| i64::from(*n) + 1),
        }
    }
}
