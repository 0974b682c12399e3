//! `verify`: whether a trace is whole and agrees with itself: checksums, counts, order, references.

use crate::batch::{Batch, int32_at, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::human;
use crate::losses::Losses;
use crate::part::{self, Checksum};
use crate::query::{GroupStatistics, Query};
use crate::report::{Rows, Table as ReportTable, Unit, Value, column};
use crate::scan::{self, RowGroupReader};
use crate::trace::{Part, Trace};
use arrow::array::Array;
use ipc_schema::tables::{self, Kind, Table, arrow_schema};
use ipc_schema::wire::SOPS_ROOM;
use rayon::prelude::*;
use std::slice;

/// What the ids of one pass may take, bytes.
const PASS_BYTES: u64 = 192 << 20;

const FILES: &str = "checksum, rows, schema, values of each file";

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub rule: &'static str,
    /// How many things were looked at.
    pub checked: u64,
    /// How many break the rule.
    pub faults: u64,
    /// The first fault, or what the figures mean.
    pub detail: String,
    /// Whether it could be looked at at all.
    pub skipped: bool,
}

impl Check {
    fn new(rule: &'static str) -> Check {
        Check { rule, checked: 0, faults: 0, detail: String::new(), skipped: false }
    }

    fn skipped(rule: &'static str, why: impl Into<String>) -> Check {
        Check { detail: why.into(), skipped: true, ..Check::new(rule) }
    }

    fn fault(&mut self, detail: impl FnOnce() -> String) {
        if self.faults == 0 {
            self.detail = detail();
        }
        self.faults += 1;
    }

    fn equal(rule: &'static str, name: &str, found: i128, expected: i128) -> Check {
        let mut check = Check { checked: 1, ..Check::new(rule) };
        check.detail = human::count(expected);
        if found != expected {
            check.fault(|| format!("{} in the files, {name} says {}", human::count(found), human::count(expected)));
        }
        check
    }

    fn merge(&mut self, other: Check) {
        self.checked += other.checked;
        if self.faults == 0 {
            self.detail = other.detail;
        }
        self.faults += other.faults;
    }
}

/// Checks one trace.
///
/// # Errors
/// What keeps the checks from being made at all.
pub fn ask(trace: &Trace, losses: &Losses, index: usize) -> Result<Vec<Check>, Error> {
    let parts: Vec<&Part> = trace.parts.values().flatten().collect();
    let looked: Vec<PartChecks> = parts.par_iter().with_max_len(1).map(|part| check_part(trace, part)).collect();
    let mut checks = merge_parts(&parts, &looked);
    if checks[0].faults > 0 {
        checks.push(Check::skipped("ids and references", "needs readable files"));
        return Ok(checks);
    }
    checks.extend(check_totals(trace, losses, index, &looked));
    checks.extend(check_ids(trace)?);
    checks.extend(check_references(trace)?);
    Ok(checks)
}

/// What one part shows by itself.
struct PartChecks {
    table: &'static str,
    rows: u64,
    readable: Check,
    trace_ids: Check,
    twins: Check,
    order: Check,
    durations: Check,
    outcomes: Check,
}

fn check_part(trace: &Trace, part: &Part) -> PartChecks {
    let mut checks = PartChecks {
        table: part.table.name,
        rows: 0,
        readable: Check::new(FILES),
        trace_ids: Check::new("trace_id is the trace's"),
        twins: Check::new("*_time is *_ns in µs"),
        order: Check::new("calls rise in end_ns, open last"),
        durations: Check::new("duration = end - start ≥ 0"),
        outcomes: Check::new("only open calls have no end"),
    };
    checks.readable.checked = 1;
    if let Err(error) = checks.read(trace, part) {
        checks.readable.fault(|| error.to_string());
    }
    checks
}

impl PartChecks {
    fn checks(&self) -> Vec<Check> {
        [&self.readable, &self.trace_ids, &self.twins, &self.order, &self.durations, &self.outcomes]
            .map(Check::clone)
            .into()
    }

    fn read(&mut self, trace: &Trace, part: &Part) -> Result<(), Error> {
        let open = part::open(part, Checksum::Whole)?;
        let fields = arrow_schema::schema(part.table);
        let columns: Vec<&str> = fields.fields().iter().map(|field| field.name().as_str()).collect();
        let mut last_end_ns = i64::MIN;
        for group in 0..open.metadata.metadata().num_row_groups() {
            for batch in RowGroupReader::new(0, &open, group, &columns)? {
                let batch = batch?;
                self.rows += batch.rows() as u64;
                self.check_trace_ids(trace, &batch)?;
                self.check_twins(part, &batch)?;
                if part.table.name == tables::CALLS.name {
                    self.check_calls(&batch, &mut last_end_ns)?;
                }
            }
        }
        Ok(())
    }

    fn check_trace_ids(&mut self, trace: &Trace, batch: &Batch) -> Result<(), Error> {
        let text = batch.text("trace_id")?;
        let right: Vec<bool> = text.values.iter().map(|id| id == Some(trace.manifest.trace_id.as_str())).collect();
        self.trace_ids.checked += batch.rows() as u64;
        for row in 0..batch.rows() {
            if !text.index(row).is_some_and(|index| right[index]) {
                let found = || human::escape(text.get(row).unwrap_or("NULL"));
                self.trace_ids.fault(|| format!("{} has {}", self.table, found()));
            }
        }
        Ok(())
    }

    /// A twin is its instant in microseconds.
    fn check_twins(&mut self, part: &Part, batch: &Batch) -> Result<(), Error> {
        for instant in part.table.columns.iter().filter(|column| column.kind == Kind::Instant) {
            let (ns, time) = (batch.int64(instant.name)?, batch.time(&tables::twin(instant.name))?);
            if time.null_count() == batch.rows() {
                // A version without the twin.
                continue;
            }
            self.twins.checked += batch.rows() as u64;
            for row in 0..batch.rows() {
                let twin_us = time.is_valid(row).then(|| time.value(row));
                if twin_us != int64_at(ns, row).map(|ns| ns.div_euclid(1000)) {
                    self.twins.fault(|| format!("{} row {row} of a batch of {}", instant.name, self.table));
                }
            }
        }
        Ok(())
    }

    fn check_calls(&mut self, batch: &Batch, last_end_ns: &mut i64) -> Result<(), Error> {
        let (ids, starts, ends) = (batch.int64("call_id")?, batch.int64("start_ns")?, batch.int64("end_ns")?);
        let (durations, outcomes) = (batch.int64("duration_ns")?, batch.text("outcome")?);
        for check in [&mut self.order, &mut self.durations, &mut self.outcomes] {
            check.checked += batch.rows() as u64;
        }
        for row in 0..batch.rows() {
            let (end, duration) = (int64_at(ends, row), int64_at(durations, row));
            let place = end.unwrap_or(i64::MAX);
            let call = || format!("call {}", ids.value(row));
            if place < *last_end_ns {
                self.order.fault(|| format!("{} ends before the one above it", call()));
            }
            *last_end_ns = place;
            let expected = end.and_then(|end| end.checked_sub(starts.value(row)));
            if duration != expected || duration.is_some_and(|duration| duration < 0) {
                self.durations.fault(|| format!("{}: {duration:?}, expected {expected:?}", call()));
            }
            if (outcomes.get(row) == Some("open")) != end.is_none() {
                self.outcomes.fault(|| format!("{} is {:?}", call(), outcomes.get(row)));
            }
        }
        Ok(())
    }
}

fn merge_parts(parts: &[&Part], looked: &[PartChecks]) -> Vec<Check> {
    let Some((first, rest)) = looked.split_first() else {
        return vec![Check { faults: 1, detail: "the trace has no part".to_owned(), ..Check::new(FILES) }];
    };
    let mut checks = first.checks();
    for part in rest {
        checks.iter_mut().zip(part.checks()).for_each(|(check, other)| check.merge(other));
    }
    if checks[0].faults == 0 {
        let rows: u64 = looked.iter().map(|part| part.rows).sum();
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let unlisted = parts.iter().filter(|part| part.listed.is_none()).count();
        let unlisted = if unlisted > 0 { format!(", {unlisted} without checksum") } else { String::new() };
        checks[0].detail = format!("{} in {}{unlisted}", human::counted(rows.into(), "row"), human::bytes(bytes));
    }
    checks
}

fn rows_of(looked: &[PartChecks], table: &Table) -> u64 {
    looked.iter().filter(|part| part.table == table.name).map(|part| part.rows).sum()
}

/// The manifest's totals against the rows.
fn check_totals(trace: &Trace, losses: &Losses, index: usize, looked: &[PartChecks]) -> Vec<Check> {
    let session = &trace.manifest.session;
    let calls = rows_of(looked, &tables::CALLS);
    let mut checks = Vec::new();
    if !trace.manifest.complete {
        checks.push(Check::skipped("totals of session", "the recording did not end properly"));
        return checks;
    }
    checks.push(Check::equal("calls = session.calls", "session.calls", calls.into(), session.calls.into()));
    checks.push(match losses.calls(index) {
        (lost, false) => {
            Check::equal("losses = session.lost_calls", "session.lost_calls", lost, session.lost_calls.into())
        }
        (_, true) => Check::skipped("losses = session.lost_calls", "losses of unknown size"),
    });
    let rows = rows_of(looked, &tables::SESSION);
    checks.push(Check::equal("session has one row", "the format", rows.into(), 1));
    checks
}

/// One call of a pass: its id and how many rows `sem_ops` must have of it.
type CallEntry = (i64, u64);

/// Unique ids, and the operations of each call, in as many passes as memory asks for.
fn check_ids(trace: &Trace) -> Result<Vec<Check>, Error> {
    let rows = |table: &Table, bytes: u64| trace.listed_rows(table).saturating_mul(bytes);
    let needed = rows(&tables::CALLS, size_of::<CallEntry>() as u64).saturating_add(rows(&tables::SEM_OPS, 8));
    let passes = needed / PASS_BYTES + 1;
    let mut unique = Check::new("call_id is unique");
    let mut operations = Check::new("sem_ops has each call's operations");
    for pass in 0..passes {
        let traces = slice::from_ref(trace);
        let mut calls = scan::fold(traces, &Selection::everything(), &CallEntries { pass, passes })?;
        let mut ids = scan::fold(traces, &Selection::everything(), &OperationCalls { pass, passes })?;
        calls.par_sort_unstable();
        ids.par_sort_unstable();
        unique.checked += calls.len() as u64;
        for pair in calls.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            unique.fault(|| format!("call {} twice", pair[0].0));
        }
        operations.checked += ids.len() as u64;
        compare_operations(&calls, &ids, &mut operations);
    }
    Ok(vec![unique, operations])
}

fn compare_operations(calls: &[CallEntry], ids: &[i64], check: &mut Check) {
    let mut ids = ids.iter().copied().peekable();
    let mut count = |of: i64| std::iter::from_fn(|| ids.next_if(|id| *id == of)).count() as u64;
    let mut strays = Vec::new();
    for (call_id, expected) in calls {
        let found = count(*call_id);
        if found != *expected {
            strays.push((*call_id, found, *expected));
        }
    }
    for (call_id, found, expected) in strays {
        check.fault(|| format!("call {call_id} has {found}, expected {expected}"));
    }
}

/// Spreads ids over passes.
fn pass_of(id: i64, passes: u64) -> u64 {
    ((id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % passes
}

struct CallEntries {
    pass: u64,
    passes: u64,
}

impl Query for CallEntries {
    type Partial = Vec<CallEntry>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["call_id", "sem_ops_total", "sem_num"]
    }

    fn empty(&self) -> Self::Partial {
        Vec::new()
    }

    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        let (ids, totals, first) = (batch.int64("call_id")?, batch.int32("sem_ops_total")?, batch.int32("sem_num")?);
        for row in 0..batch.rows() {
            let id = ids.value(row);
            if pass_of(id, self.passes) == self.pass {
                // Operations that could not be copied are unknown, and there are none.
                let total = int32_at(totals, row).filter(|total| *total > 1 && first.is_valid(row)).unwrap_or(0);
                partial.push((id, (total as u64).min(SOPS_ROOM[2] as u64)));
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, mut from: Self::Partial) {
        into.append(&mut from);
    }
}

struct OperationCalls {
    pass: u64,
    passes: u64,
}

impl Query for OperationCalls {
    type Partial = Vec<i64>;

    fn table(&self) -> &'static Table {
        &tables::SEM_OPS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["call_id"]
    }

    fn empty(&self) -> Self::Partial {
        Vec::new()
    }

    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        let ids = batch.int64("call_id")?.values().iter().copied();
        partial.extend(ids.filter(|id| pass_of(*id, self.passes) == self.pass));
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, mut from: Self::Partial) {
        into.append(&mut from);
    }
}

/// Whether what `calls` refers to exists, where the table is filled.
fn check_references(trace: &Trace) -> Result<Vec<Check>, Error> {
    let references: [(&'static str, &'static Table, &'static str); 2] = [
        ("calls refer to processes", &tables::PROCESSES, "process_id"),
        ("calls refer to threads", &tables::THREADS, "thread_id"),
    ];
    let traces = slice::from_ref(trace);
    let mut checks = Vec::new();
    for (rule, table, column) in references {
        let mut known = scan::fold(traces, &Selection::everything(), &Ids { table, column })?;
        known.par_sort_unstable();
        if known.is_empty() {
            checks.push(Check::skipped(rule, format!("the table {} is empty", table.name)));
            continue;
        }
        let mut check = scan::fold(traces, &Selection::everything(), &References { rule, column, known: &known })?;
        let twice = known.windows(2).find(|pair| pair[0] == pair[1]);
        if let Some(pair) = twice {
            check.fault(|| format!("{column} {} twice in {}", pair[0], table.name));
        }
        checks.push(check);
    }
    Ok(checks)
}

/// The ids of a table.
struct Ids {
    table: &'static Table,
    column: &'static str,
}

impl Query for Ids {
    type Partial = Vec<i64>;

    fn table(&self) -> &'static Table {
        self.table
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec![self.column]
    }

    fn empty(&self) -> Self::Partial {
        Vec::new()
    }

    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        partial.extend_from_slice(batch.int64(self.column)?.values());
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, mut from: Self::Partial) {
        into.append(&mut from);
    }
}

struct References<'a> {
    rule: &'static str,
    column: &'static str,
    known: &'a [i64],
}

impl Query for References<'_> {
    type Partial = Check;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec![self.column]
    }

    fn empty(&self) -> Check {
        Check::new(self.rule)
    }

    fn fold(&self, check: &mut Check, batch: &Batch) -> Result<(), Error> {
        let mut last = None;
        for id in batch.int64(self.column)?.values() {
            check.checked += 1;
            if last != Some(*id) && self.known.binary_search(id).is_err() {
                check.fault(|| format!("{} {id} is unknown", self.column));
            } else {
                last = Some(*id);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Check, from: Check) {
        into.merge(from);
    }
}

/// The checks of all traces as a table.
pub fn table<'a>(traces: &'a [Trace], checks: &'a [(usize, Check)]) -> ReportTable<'a> {
    let rows: Rows<'a> = Box::new(checks.iter().map(|(trace, check)| {
        let result = match (check.skipped, check.faults) {
            (true, _) => "skipped",
            (false, 0) => "ok",
            (false, _) => "DAMAGED",
        };
        Ok(vec![
            Value::text(traces.get(*trace).map(|trace| trace.manifest.trace_id.clone())),
            Value::Text(result.to_owned()),
            Value::Text(check.rule.to_owned()),
            Value::Int(check.checked.into()),
            Value::Int(check.faults.into()),
            Value::Text(check.detail.clone()),
        ])
    }));
    let columns = vec![
        column("trace_id", if traces.len() > 1 { "trace" } else { "" }, Unit::Text),
        column("result", "result", Unit::Text),
        column("rule", "rule", Unit::Text),
        column("checked", "checked", Unit::Count),
        column("faults", "faults", Unit::Count),
        column("detail", "detail", Unit::Text),
    ];
    ReportTable { section: None, title: String::new(), columns, rows, sparse: false, text_limit: 0 }
}
