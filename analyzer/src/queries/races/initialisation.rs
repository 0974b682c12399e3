//! Semaphore sets between their creation and their first use: who initialised them, who used them before that, and who
//! initialised them again under waiters.
//!
//! semget(2) makes a set and does not initialise it: the values are set by a second call, and in between another process
//! can get the set. The calls of each set are read backwards: the last act noted of a kind is then the earliest, and what
//! waits while a value is set has been seen before it.

use super::{Act, Names, OBJECTS_MAX};
use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::human;
use crate::intern::{DictionaryCache, NULL, Texts};
use crate::names::{Lifetime, Lifetimes, Wanted};
use crate::opened::Opened;
use crate::ordered::{self, Direction, OrderedQuery, shard_of};
use crate::query::GroupStatistics;
use crate::report::{Column, Rows, Table, Unit, Value, column};
use arrow::array::Array;
use hashbrown::HashMap;

/// Stands for every semaphore of a set.
const ALL: i32 = -1;
/// Waits that a set remembers before it looks which of them are over.
const WAITS_KEPT: usize = 64;

/// What is known of the sets of all traces.
pub(super) struct Sets(Vec<((usize, i64), Set)>);

/// One lifetime of a set.
#[derive(Clone, Debug, Default)]
struct Set {
    /// Who made it, if the trace saw it.
    creator: Option<i64>,
    /// The earliest SETVAL or SETALL by the creator, and which semaphore.
    initialised: Option<(Act, i32)>,
    /// The earliest by another process.
    initialised_by_another: Option<(Act, i32)>,
    /// The earliest operation by the creator that succeeded.
    used: Option<Act>,
    /// The earliest operation by another process that succeeded, and whether it slept.
    used_by_another: Option<(Act, bool)>,
    /// The earliest operation by another process that found nothing to take (EAGAIN).
    tried_by_another: Option<Act>,
    /// A SETVAL or SETALL under a waiter: who waited; how often it happened.
    again: Option<(Act, Act)>,
    again_count: u64,
    waits: Vec<(Act, i32)>,
}

/// What the calls of one row group say, in columns.
#[derive(Default)]
struct Piece {
    object_refs: Vec<i64>,
    acts: Vec<Act>,
    kinds: Vec<Kind>,
    semaphores: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// SETVAL, SETALL.
    Set,
    /// An operation that succeeded at once.
    Used,
    /// One that slept, and succeeded.
    SleptAndUsed,
    /// One that sleeps still, or slept for nothing.
    Slept,
    /// One that would have had to sleep, and did not.
    Tried,
}

struct Query<'a> {
    trace: usize,
    /// Those made in the trace.
    lifetimes: &'a Lifetimes,
}

type Shard = HashMap<i64, Set>;

/// Reads the sets of all traces.
///
/// # Errors
/// A part that cannot be believed.
pub(super) fn ask(opened: &Opened) -> Result<Sets, Error> {
    let mut sets = Vec::new();
    let lifetimes = Lifetimes::read_if(&opened.traces, |_, _| true)?;
    for (number, trace) in opened.traces.iter().enumerate() {
        let query = Query { trace: number, lifetimes: &lifetimes };
        let shards = ordered::fold((number, trace), &opened.selection, Direction::Backwards, &query)?;
        let found = shards.into_iter().flatten().map(|(object_ref, set)| ((number, object_ref), set));
        sets.extend(found);
    }
    sets.sort_unstable_by_key(|(key, _)| *key);
    Ok(Sets(sets))
}

impl OrderedQuery for Query<'_> {
    type Piece = Piece;
    type Shard = Shard;

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        let of_call =
            ["object_kind", "object_ref", "command", "outcome", "error", "process_id", "call_id", "start_ns", "end_ns"];
        of_call.into_iter().chain(["sem_num", "sem_ops_total", "slept"]).collect()
    }

    fn piece(&self) -> Piece {
        Piece::default()
    }

    fn cut(&self, batch: &Batch, pieces: &mut [Piece]) -> Result<(), Error> {
        let mut texts = Texts::default();
        let [sem, setval, setall] = ["sem", "SETVAL", "SETALL"].map(|t| texts.number(t));
        let [ok, open, again] = ["ok", "open", "EAGAIN"].map(|t| texts.number(t));
        let mut numbers = |name: &str| -> Result<Vec<u32>, Error> {
            Ok(DictionaryCache::default().numbers(&batch.text(name)?, &mut texts))
        };
        let (kinds, commands, outcomes) = (numbers("object_kind")?, numbers("command")?, numbers("outcome")?);
        let errors = numbers("error")?;
        let (refs, semaphores, totals) =
            (batch.int64("object_ref")?, batch.int32("sem_num")?, batch.int32("sem_ops_total")?);
        let slept = batch.boolean("slept")?;
        for row in (0..batch.rows()).filter(|row| kinds[*row] == sem) {
            let Some(object_ref) = int64_at(refs, row) else { continue };
            let total = int32_at(totals, row);
            let did_sleep = slept.is_valid(row) && slept.value(row);
            let kind = match (commands[row], outcomes[row]) {
                (command, outcome) if command == setval || command == setall => (outcome == ok).then_some(Kind::Set),
                (NULL, outcome) if total.is_some() => match (outcome == ok, did_sleep || outcome == open) {
                    (true, false) => Some(Kind::Used),
                    (true, true) => Some(Kind::SleptAndUsed),
                    (false, true) => Some(Kind::Slept),
                    (false, false) => (errors[row] == again).then_some(Kind::Tried),
                },
                _ => None,
            };
            let Some(kind) = kind else { continue };
            let one = commands[row] == setval || total == Some(1);
            let piece = &mut pieces[shard_of(object_ref, pieces.len())];
            piece.object_refs.push(object_ref);
            piece.acts.push(act(batch, row)?);
            piece.kinds.push(kind);
            piece.semaphores.push(if one { int32_at(semaphores, row).unwrap_or(ALL) } else { ALL });
        }
        Ok(())
    }

    fn shard(&self) -> Shard {
        Shard::default()
    }

    fn fold(&self, shard: &mut Shard, piece: &Piece) -> Result<(), Error> {
        for i in (0..piece.acts.len()).rev() {
            let object_ref = piece.object_refs[i];
            if shard.len() >= OBJECTS_MAX && !shard.contains_key(&object_ref) {
                continue;
            }
            let set = shard.entry(object_ref).or_insert_with(|| self.set(object_ref));
            set.add(piece.acts[i], piece.kinds[i], piece.semaphores[i]);
        }
        Ok(())
    }
}

impl Query<'_> {
    fn set(&self, object_ref: i64) -> Set {
        let creator = self.lifetimes.get(self.trace, object_ref).and_then(|lifetime| lifetime.created_by);
        Set { creator, ..Set::default() }
    }
}

fn act(batch: &Batch, row: usize) -> Result<Act, Error> {
    Ok(Act {
        start_ns: batch.int64("start_ns")?.value(row),
        end_ns: int64_at(batch.int64("end_ns")?, row).unwrap_or(i64::MAX),
        process_id: batch.int64("process_id")?.value(row),
        call_id: batch.int64("call_id")?.value(row),
    })
}

/// Whether two semaphores of a set can be the same one.
fn meet(a: i32, b: i32) -> bool {
    a == b || a == ALL || b == ALL
}

impl Set {
    /// Adds the next call, backwards in time.
    fn add(&mut self, act: Act, kind: Kind, semaphore: i32) {
        let by_creator = self.creator == Some(act.process_id);
        match kind {
            Kind::Set => {
                self.note_waiters(act, semaphore);
                let earliest = if by_creator { &mut self.initialised } else { &mut self.initialised_by_another };
                *earliest = Some((act, semaphore));
            }
            Kind::Used if by_creator => self.used = Some(act),
            Kind::SleptAndUsed if by_creator => {
                self.used = Some(act);
                self.wait(act, semaphore);
            }
            Kind::Used => self.used_by_another = Some((act, false)),
            Kind::SleptAndUsed => {
                self.used_by_another = Some((act, true));
                self.wait(act, semaphore);
            }
            Kind::Slept => self.wait(act, semaphore),
            Kind::Tried if by_creator => {}
            Kind::Tried => self.tried_by_another = Some(act),
        }
    }

    fn wait(&mut self, act: Act, semaphore: i32) {
        if self.waits.len() >= WAITS_KEPT && self.waits.len() == self.waits.capacity() {
            // Later calls end before `act` does: what began after that is over for them.
            self.waits.retain(|(wait, _)| wait.start_ns <= act.end_ns);
        }
        self.waits.push((act, semaphore));
    }

    /// Notes that `set` came while another process waited.
    fn note_waiters(&mut self, set: Act, semaphore: i32) {
        let is_under = |(wait, of): &&(Act, i32)| {
            wait.start_ns < set.start_ns
                && wait.end_ns > set.end_ns
                && wait.process_id != set.process_id
                && meet(*of, semaphore)
        };
        if let Some((wait, _)) = self.waits.iter().find(is_under) {
            self.again = Some((set, *wait));
            self.again_count += 1;
        }
    }

    /// The first successful operation of anyone.
    fn first_use(&self) -> Option<Act> {
        let by_another = self.used_by_another.map(|(act, _)| act);
        self.used.into_iter().chain(by_another).min_by_key(|act| act.end_ns)
    }

    /// Whether another process used it before its creator had initialised it: certain, or possible.
    fn used_too_early(&self) -> Option<(Act, Act, bool)> {
        let (initialised, _) = self.initialised?;
        let tried = self.tried_by_another.map(|act| (act, false));
        let (used, slept) = self.used_by_another.into_iter().chain(tried).min_by_key(|(act, _)| act.end_ns)?;
        if used.start_ns >= initialised.end_ns {
            return None;
        }
        Some((initialised, used, used.end_ns < initialised.start_ns && !slept))
    }

    /// Whether two processes initialised the same semaphore before anyone had used it.
    fn initialised_twice(&self) -> Option<(Act, Act)> {
        let ((first, a), (second, b)) = (self.initialised?, self.initialised_by_another?);
        let unused = |act: Act| self.first_use().is_none_or(|used| used.end_ns > act.start_ns);
        (meet(a, b) && unused(first) && unused(second)).then_some((first, second))
    }

    /// Whether its values were set anew under a waiter after it had been in use.
    fn initialised_under_waiters(&self) -> Option<(Act, Act)> {
        let (set, wait) = self.again?;
        self.first_use().is_some_and(|used| used.end_ns < set.start_ns).then_some((set, wait))
    }
}

impl Sets {
    /// Whether the set is among them.
    pub(super) fn has(&self, trace: usize, object_ref: i64) -> bool {
        self.0.binary_search_by_key(&(trace, object_ref), |(key, _)| *key).is_ok()
    }

    /// Adds the processes that the answer names.
    pub(super) fn names_wanted(&self, wanted: &mut Wanted) {
        for ((trace, _), set) in &self.0 {
            let acts = [set.initialised.map(|(act, _)| act), set.initialised_by_another.map(|(act, _)| act), set.used];
            let more = [set.used_by_another.map(|(act, _)| act), set.again.map(|(a, _)| a), set.again.map(|(_, b)| b)];
            let ids = acts
                .into_iter()
                .chain(more)
                .chain([set.tried_by_another])
                .flatten()
                .map(|act| act.process_id)
                .chain(set.creator);
            wanted.extend(ids.map(|id| (*trace, id)));
        }
    }

    /// What is wrong.
    pub(super) fn findings(&self, names: &Names) -> Vec<Finding> {
        self.0.iter().flat_map(|((trace, object_ref), set)| findings_of(*trace, *object_ref, set, names)).collect()
    }

    /// The sets that were made in the trace: when, by whom, initialised and used when and by whom.
    pub(super) fn table(self, opened: &Opened, names: Names) -> Table<'static> {
        let ids: Vec<String> = opened.traces.iter().map(|trace| trace.manifest.trace_id.clone()).collect();
        let many = ids.len() > 1;
        let made = self.0.into_iter().filter_map(move |((trace, object_ref), set)| {
            let lifetime = names.lifetimes.get(trace, object_ref)?;
            let created_ns = lifetime.created_ns?;
            Some(Ok(row(ids.get(trace), object_ref, lifetime, created_ns, &set, |id| names.processes.label(trace, id))))
        });
        let rows: Rows<'static> = Box::new(made);
        Table {
            section: Some("creation"),
            title: "Sets made in the trace".to_owned(),
            columns: columns(many),
            rows,
            sparse: false,
            text_limit: 20,
        }
    }
}

fn row(
    trace_id: Option<&String>,
    object_ref: i64,
    lifetime: &Lifetime,
    created_ns: i64,
    set: &Set,
    label: impl Fn(i64) -> String,
) -> Vec<Value> {
    let initialised = [set.initialised, set.initialised_by_another].into_iter().flatten();
    let initialised = initialised.map(|(act, _)| act).min_by_key(|act| act.end_ns);
    let used = set.first_use();
    let window_ns = initialised.map(|act| act.end_ns.saturating_sub(created_ns));
    let who = |id: Option<i64>| Value::text(id.map(&label));
    vec![
        Value::text(trace_id.map(String::as_str)),
        Value::Text(lifetime.object()),
        Value::Int(object_ref.into()),
        Value::Int(created_ns.into()),
        Value::int(lifetime.created_by),
        who(lifetime.created_by),
        Value::int(window_ns),
        Value::int(initialised.map(|act| act.end_ns)),
        Value::int(initialised.map(|act| act.process_id)),
        who(initialised.map(|act| act.process_id)),
        Value::int(used.map(|act| act.end_ns)),
        Value::int(used.map(|act| act.process_id)),
        who(used.map(|act| act.process_id)),
    ]
}

fn columns(many_traces: bool) -> Vec<Column> {
    vec![
        column("trace_id", if many_traces { "trace" } else { "" }, Unit::Text),
        column("object", "object", Unit::Text),
        column("object_ref", "", Unit::Id),
        column("created_ns", "", Unit::Instant),
        column("created_by_process_id", "", Unit::Id),
        column("created_by", "made by", Unit::Text),
        column("window_ns", "initialised after", Unit::Duration),
        column("initialised_ns", "", Unit::Instant),
        column("initialised_by_process_id", "", Unit::Id),
        column("initialised_by", "by", Unit::Text),
        column("first_use_ns", "", Unit::Instant),
        column("first_use_by_process_id", "", Unit::Id),
        column("first_use_by", "first used by", Unit::Text),
    ]
}

fn findings_of(trace: usize, object_ref: i64, set: &Set, names: &Names) -> Vec<Finding> {
    let who = |act: Act| names.processes.label(trace, act.process_id);
    let object = names.lifetimes.get(trace, object_ref).map(Lifetime::object);
    let of = object.as_deref().unwrap_or("a set").to_owned();
    let mut findings = Vec::new();
    let mut add = |kind, grade, since: Act, what: String, remedy: &str, evidence: [Act; 2]| {
        let evidence = evidence.iter().map(|act| act.call_id).collect();
        let object = object.clone();
        let (since_ns, object_ref) = (Some(since.start_ns), Some(object_ref));
        let (remedy, doubts) = (remedy.to_owned(), Vec::new());
        findings.push(Finding { kind, grade, trace, object, object_ref, since_ns, what, remedy, doubts, evidence });
    };
    if let Some((initialised, used, is_certain)) = set.used_too_early() {
        let grade = if is_certain { Grade::Certain } else { Grade::Likely };
        let before = human::duration((i128::from(initialised.end_ns) - i128::from(used.start_ns)).max(0));
        let what = format!("{} used {of} {before} before {} had initialised it.", who(used), who(initialised));
        add("init_race", grade, used, what, INITIALISE, [used, initialised]);
    }
    if let Some((first, second)) = set.initialised_twice() {
        let what = format!("{} and {} both initialised {of} before anyone had used it.", who(first), who(second));
        add("init_race", Grade::Certain, first, what, INITIALISE, [first, second]);
    }
    if let Some((again, wait)) = set.initialised_under_waiters() {
        let times = human::counted(set.again_count.into(), "time");
        let what = format!(
            "{} set the values of {of} anew while {} waited for it ({times}): adjustments of SEM_UNDO are lost, and who \
             held it does not hold it any more.",
            who(again),
            who(wait)
        );
        add("reinit_under_waiters", Grade::Certain, again, what, AGAIN, [again, wait]);
    }
    findings
}

const INITIALISE: &str = "Let the creator (IPC_CREAT|IPC_EXCL succeeds for one process only) initialise the set and then \
                          make a first semop; let the others wait until IPC_STAT shows sem_otime != 0.";
const AGAIN: &str = "Initialise once, by the creator; release with semop instead of SETVAL or SETALL, or remove the set \
                     and make a new one.";
