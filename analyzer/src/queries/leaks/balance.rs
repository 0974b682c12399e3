//! What processes took from semaphores without SEM_UNDO, and did not give back: an estimate from the balance of their
//! operations since the last SETVAL or SETALL.
//!
//! Sums need no order. A reset splits the operations by their ends: one that slept across it took effect after it. Balances
//! that do not fit the memory are put off by their hash and counted in a further pass.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::opened::Opened;
use crate::passes::{Pass, Passes, stable_hash};
use crate::query::{GroupStatistics, Only, Query};
use crate::scan;
use crate::sem_ops::SemOps;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};

/// What the balances of all threads may take together, bytes.
const BUDGET_BYTES: usize = 128 << 20;
const BALANCE_BYTES: usize = (size_of::<Of>() + size_of::<Balance>()) * 2;
/// Semaphores that are told apart: some 100 bytes each.
const SEMAPHORES_MAX: usize = 1 << 20;
/// Processes of one semaphore that took more than they gave.
const TAKERS_MAX: usize = 64;
/// Calls of several operations that wait for them, per thread.
const AWAITING_MAX: usize = 1 << 16;
const SEM_UNDO: i32 = 4096;

/// One semaphore: trace, lifetime of the set, number.
pub type Semaphore = (usize, i64, i32);
/// A semaphore and a process.
type Of = (Semaphore, i64);

/// What a process did to a semaphore without SEM_UNDO, after its last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What it took.
    pub taken: i64,
    /// What it gave.
    pub given: i64,
    /// The end of the last call that took, and its id.
    pub last_take: Option<(i64, i64)>,
    /// The end of the last call that gave.
    last_give_ns: Option<i64>,
}

impl Balance {
    fn merge(&mut self, from: Balance) {
        self.taken = self.taken.saturating_add(from.taken);
        self.given = self.given.saturating_add(from.given);
        self.last_take = self.last_take.max(from.last_take);
        self.last_give_ns = self.last_give_ns.max(from.last_give_ns);
    }

    /// What is not given back.
    pub fn held(&self) -> i64 {
        self.taken.saturating_sub(self.given)
    }
}

/// What all processes did to a semaphore.
#[derive(Clone, Debug, Default)]
pub struct Use {
    /// Who gave more than it took, and when for the last time.
    givers: Vec<(i64, Option<i64>)>,
    /// Whether anybody takes *and* gives: it is used as a lock.
    pub is_lock: bool,
    /// The end of the first call that took.
    first_take_ns: Option<i64>,
    /// The end of the last call that wanted to take and could not; of one that is open the end of the recording.
    pub refused_ns: Option<i64>,
    /// Who took more than it gave.
    pub takers: Vec<(i64, Balance)>,
}

impl Use {
    /// Whether somebody else supplies it: then who takes more than it gives consumes. `maker` may have given its first
    /// value.
    pub fn is_supplied(&self, maker: Option<i64>) -> bool {
        let is_first_value = |(giver, last_ns): &(i64, Option<i64>)| {
            Some(*giver) == maker && last_ns.is_some() && *last_ns < self.first_take_ns
        };
        !self.givers.iter().all(is_first_value)
    }
}

/// Asks the traces.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened) -> Result<HashMap<Semaphore, Use>, Error> {
    let mut uses: HashMap<Semaphore, Use> = HashMap::new();
    let resets = scan::fold(&opened.traces, &opened.selection, &ResetQuery)?;
    let mut passes = Passes::new();
    while let Some(pass) = passes.begin() {
        let query = BalanceQuery { opened, resets: &resets, pass, bytes: BUDGET_BYTES / rayon::current_num_threads() };
        let mut partial = scan::fold(&opened.traces, &opened.selection, &query)?;
        query.complete(&mut partial)?;
        query.put_off(&mut partial);
        passes.end(&query.pass);
        for ((semaphore, process_id), balance) in partial.balances {
            if let Some(of) = entry(&mut uses, semaphore) {
                of.add(process_id, balance);
            }
        }
        for (semaphore, refused_ns) in partial.refused {
            if let Some(of) = uses.get_mut(&semaphore) {
                of.refused_ns = of.refused_ns.max(Some(refused_ns));
            }
        }
    }
    Ok(uses)
}

/// The use of a semaphore; `None` if too many are told apart already.
fn entry(uses: &mut HashMap<Semaphore, Use>, semaphore: Semaphore) -> Option<&mut Use> {
    if uses.len() >= SEMAPHORES_MAX && !uses.contains_key(&semaphore) {
        return None;
    }
    Some(uses.entry(semaphore).or_default())
}

impl Use {
    fn add(&mut self, process_id: i64, balance: Balance) {
        self.is_lock |= balance.taken > 0 && balance.given > 0;
        let take_ns = balance.last_take.map(|(end_ns, _)| end_ns);
        self.first_take_ns = match (self.first_take_ns, take_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match balance.held() {
            // Two tell as much as many: only one of them can be the maker.
            ..=-1 if self.givers.len() < 2 => self.givers.push((process_id, balance.last_give_ns)),
            1.. if self.takers.len() < TAKERS_MAX => self.takers.push((process_id, balance)),
            _ => {}
        }
    }
}

/// When the semaphores of a set were given values: all of them, and one by one.
#[derive(Clone, Debug, Default)]
struct Reset {
    all_ns: Option<i64>,
    one_ns: HashMap<i32, i64>,
}

type Resets = HashMap<(usize, i64), Reset>;

/// Finds the last of them.
struct ResetQuery;

impl Query for ResetQuery {
    type Partial = Resets;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["command", "object_ref", "sem_num", "end_ns", "outcome"]
    }

    fn only(&self) -> Option<Only> {
        Some(Only::Filled("command"))
    }

    fn empty(&self) -> Resets {
        Resets::new()
    }

    fn fold(&self, resets: &mut Resets, batch: &Batch) -> Result<(), Error> {
        let (commands, outcomes) = (batch.text("command")?, batch.text("outcome")?);
        let (refs, numbers, ends) = (batch.int64("object_ref")?, batch.int32("sem_num")?, batch.int64("end_ns")?);
        for row in 0..batch.rows() {
            let (Some(object_ref), Some(end_ns)) = (int64_at(refs, row), int64_at(ends, row)) else { continue };
            if outcomes.get(row) != Some("ok") {
                continue;
            }
            match (commands.get(row), int32_at(numbers, row)) {
                (Some("SETALL"), _) => {
                    let reset = resets.entry((batch.trace, object_ref)).or_default();
                    reset.all_ns = reset.all_ns.max(Some(end_ns));
                }
                (Some("SETVAL"), Some(number)) => {
                    let one_ns = &mut resets.entry((batch.trace, object_ref)).or_default().one_ns;
                    one_ns.entry(number).and_modify(|known| *known = end_ns.max(*known)).or_insert(end_ns);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Resets, from: Resets) {
        for (set, reset) in from {
            let known = into.entry(set).or_default();
            known.all_ns = known.all_ns.max(reset.all_ns);
            for (number, end_ns) in reset.one_ns {
                known.one_ns.entry(number).and_modify(|known| *known = end_ns.max(*known)).or_insert(end_ns);
            }
        }
    }
}

struct BalanceQuery<'a> {
    opened: &'a Opened,
    resets: &'a Resets,
    pass: Pass,
    /// What the balances of a thread may take.
    bytes: usize,
}

/// A call, as far as its operations bear on balances.
#[derive(Clone, Copy, Debug)]
struct Call {
    trace: usize,
    object_ref: i64,
    process_id: i64,
    call_id: i64,
    /// Of one that is open the end of the recording.
    end_ns: i64,
    is_done: bool,
    /// Number, what is added, flags: of its first operation.
    first: (i32, i32, i32),
}

#[derive(Default)]
struct Partial<'a> {
    balances: HashMap<Of, Balance>,
    refused: HashMap<Semaphore, i64>,
    /// Calls whose further operations stand in `sem_ops`, all of one trace.
    awaiting: Vec<Call>,
    sem_ops: Option<(usize, SemOps<'a>)>,
    bits: u32,
}

impl<'a> Query for BalanceQuery<'a> {
    type Partial = Partial<'a>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec![
            "sem_op",
            "syscall",
            "outcome",
            "object_ref",
            "process_id",
            "call_id",
            "end_ns",
            "sem_num",
            "sem_flags",
            "sem_ops_total",
        ]
    }

    fn empty(&self) -> Partial<'a> {
        Partial { bits: self.pass.bits(), ..Partial::default() }
    }

    fn fold(&self, partial: &mut Partial<'a>, batch: &Batch) -> Result<(), Error> {
        self.put_off(partial);
        if partial.awaiting.len() > AWAITING_MAX || partial.awaiting.first().is_some_and(|c| c.trace != batch.trace) {
            self.complete(partial)?;
        }
        let outcomes = batch.text("outcome")?;
        let ids = [batch.int64("object_ref")?, batch.int64("process_id")?, batch.int64("call_id")?];
        let ends = batch.int64("end_ns")?;
        let first = [batch.int32("sem_num")?, batch.int32("sem_op")?, batch.int32("sem_flags")?];
        let totals = batch.int32("sem_ops_total")?;
        let (_, end_ns) = self.opened.span_ns(batch.trace);
        for row in 0..batch.rows() {
            let [number, operation, flags] = first.map(|column| int32_at(column, row));
            let (Some(number), Some(operation), Some(flags)) = (number, operation, flags) else { continue };
            let Some(object_ref) = int64_at(ids[0], row) else { continue };
            let call = Call {
                trace: batch.trace,
                object_ref,
                process_id: ids[1].value(row),
                call_id: ids[2].value(row),
                end_ns: int64_at(ends, row).unwrap_or(end_ns),
                is_done: outcomes.get(row) == Some("ok"),
                first: (number, operation, flags),
            };
            if int32_at(totals, row).is_some_and(|total| total > 1) {
                partial.awaiting.push(call);
            } else {
                self.add(partial, &call, call.first);
            }
        }
        if partial.balances.len() * BALANCE_BYTES > self.bytes && partial.balances.len() > 1 {
            self.pass.put_off_half(partial.bits);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Partial<'a>, mut from: Partial<'a>) {
        self.put_off(into);
        self.put_off(&mut from);
        for (of, balance) in from.balances {
            into.balances.entry(of).or_default().merge(balance);
        }
        for (semaphore, refused_ns) in from.refused {
            let known = into.refused.entry(semaphore).or_insert(refused_ns);
            *known = refused_ns.max(*known);
        }
        into.awaiting.append(&mut from.awaiting);
    }
}

impl<'a> BalanceQuery<'a> {
    /// Adds the calls whose operations stand in `sem_ops`.
    fn complete(&self, partial: &mut Partial<'a>) -> Result<(), Error> {
        let mut awaiting = std::mem::take(&mut partial.awaiting);
        awaiting.sort_unstable_by_key(|call| (call.trace, call.call_id));
        for calls in awaiting.chunk_by(|a, b| a.trace == b.trace) {
            let Some((first, from)) = calls.first().and_then(|c| Some((c, self.opened.traces.get(c.trace)?))) else {
                continue;
            };
            let sem_ops = match partial.sem_ops.take() {
                Some((trace, sem_ops)) if trace == first.trace => sem_ops,
                _ => SemOps::new(first.trace, from),
            };
            let mut sem_ops = sem_ops;
            for some in calls.chunks(AWAITING_MAX) {
                sem_ops.load_calls(some.iter().map(|call| call.call_id))?;
                for call in some {
                    match sem_ops.of(call.call_id) {
                        Some(all) => all.iter().for_each(|operation| self.add(partial, call, *operation)),
                        None => self.add(partial, call, call.first),
                    }
                }
            }
            partial.sem_ops = Some((first.trace, sem_ops));
        }
        Ok(())
    }

    fn add(&self, partial: &mut Partial<'a>, call: &Call, (number, operation, flags): (i32, i32, i32)) {
        let semaphore = (call.trace, call.object_ref, number);
        if operation < 0 && !call.is_done {
            if partial.refused.len() < SEMAPHORES_MAX || partial.refused.contains_key(&semaphore) {
                let known = partial.refused.entry(semaphore).or_insert(call.end_ns);
                *known = call.end_ns.max(*known);
            }
            return;
        }
        if operation == 0 || !call.is_done || flags & SEM_UNDO != 0 || call.end_ns <= self.reset_ns(semaphore) {
            return;
        }
        let of = (semaphore, call.process_id);
        if partial.bits > 0 && !self.pass.holds(hash(&of), partial.bits) {
            return;
        }
        let balance = partial.balances.entry(of).or_default();
        let amount = i64::from(operation.unsigned_abs());
        if operation < 0 {
            balance.taken = balance.taken.saturating_add(amount);
            balance.last_take = balance.last_take.max(Some((call.end_ns, call.call_id)));
        } else {
            balance.given = balance.given.saturating_add(amount);
            balance.last_give_ns = balance.last_give_ns.max(Some(call.end_ns));
        }
    }

    /// The end of the last call that gave a semaphore a value.
    fn reset_ns(&self, (trace, object_ref, number): Semaphore) -> i64 {
        let Some(reset) = self.resets.get(&(trace, object_ref)) else { return i64::MIN };
        reset.all_ns.max(reset.one_ns.get(&number).copied()).unwrap_or(i64::MIN)
    }

    /// Drops the balances of later passes if memory ran short in any thread.
    fn put_off(&self, partial: &mut Partial<'a>) {
        self.pass.catch_up(&mut partial.bits, |holds| {
            partial.balances.retain(|of, _| holds(hash(of)));
            partial.balances.shrink_to_fit();
        });
    }
}

/// The same in every thread.
fn hash(((trace, object_ref, number), process_id): &Of) -> u64 {
    stable_hash(&[*trace as u64, *object_ref as u64, *number as u64, *process_id as u64])
}
