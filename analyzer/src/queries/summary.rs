//! `summary`: what was recorded, what happened, what failed, who did it.

use crate::batch::{Batch, int64_at};
use crate::distribution::Distribution;
use crate::error::Error;
use crate::filter::Selection;
use crate::human;
use crate::intern::{DictionaryCache, NULL, Texts, Translation};
use crate::losses::Losses;
use crate::meaning::meaning;
use crate::query::{GroupStatistics, Query};
use crate::render::Output;
use crate::report::{Column, Table, Unit, Value, column};
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table as TraceTable};
use std::cmp::Reverse;

/// Processes that a thread counts at the same time; beyond it the least busy ones are forgotten, and it is said.
const PROCESSES_MAX: usize = 1 << 20;
/// Rows of the sections of errors and processes.
const TOP_ROWS: usize = 10;

/// What the calls add up to.
#[derive(Default)]
pub struct Summary {
    texts: Texts,
    operations: Vec<Operation>,
    errors: HashMap<(u32, u32), u64>,
    processes: HashMap<(u32, i64), Process>,
    processes_forgotten: bool,
    /// Calls that began before the trace.
    pub before_trace: u64,
    caches: [DictionaryCache; 5],
}

#[derive(Clone, Default)]
struct Operation {
    name: u32,
    ok: u64,
    errors: u64,
    killed: u64,
    open: u64,
    open_at_least_ns: i64,
    durations: Distribution,
}

#[derive(Clone, Copy)]
struct Process {
    pid: i32,
    comm: u32,
    calls: u64,
    errors: u64,
    total_ns: i128,
}

struct SummaryQuery {
    ends_ns: Vec<i64>,
}

/// Asks the traces.
///
/// # Errors
/// A part that cannot be believed.
pub fn ask(traces: &[Trace], selection: &Selection) -> Result<Summary, Error> {
    let ends_ns = traces.iter().map(|trace| trace.manifest.session.end_ns).collect();
    scan::fold(traces, selection, &SummaryQuery { ends_ns })
}

impl Query for SummaryQuery {
    type Partial = Summary;

    fn table(&self) -> &'static TraceTable {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        let mut columns = vec!["duration_ns", "outcome", "syscall", "error", "process_id", "pid", "comm"];
        if statistics.null_count("duration_ns") != Some(0) {
            columns.push("start_ns");
        }
        if !statistics.is_always("began", "in_trace") {
            columns.push("began");
        }
        columns
    }

    fn empty(&self) -> Summary {
        Summary::default()
    }

    fn fold(&self, summary: &mut Summary, batch: &Batch) -> Result<(), Error> {
        let (syscalls, errors, comms) = (
            summary.numbers(0, batch, "syscall")?,
            summary.numbers(1, batch, "error")?,
            summary.numbers(2, batch, "comm")?,
        );
        let outcomes = summary.numbers(3, batch, "outcome")?;
        summary.count_before_trace(batch)?;
        let [ok, error, killed] = ["ok", "error", "killed"].map(|name| summary.texts.number(name));
        let (durations, processes, pids) =
            (batch.int64("duration_ns")?, batch.int64("process_id")?, batch.int32("pid")?);
        let starts = if batch.has("start_ns") { Some(batch.int64("start_ns")?) } else { None };
        let mut seen = Seen::default();
        for row in 0..batch.rows() {
            let operation = summary.operation(syscalls[row]);
            let duration = int64_at(durations, row);
            match (duration, starts) {
                (Some(duration), _) => operation.durations.add(duration, &mut 0),
                (None, Some(starts)) => {
                    let at_least_ns = self.ends_ns[batch.trace].saturating_sub(starts.value(row));
                    operation.open_at_least_ns = operation.open_at_least_ns.max(at_least_ns);
                }
                (None, None) => {}
            }
            let outcome = outcomes[row];
            operation.ok += u64::from(outcome == ok);
            operation.errors += u64::from(outcome == error);
            operation.killed += u64::from(outcome == killed);
            operation.open += u64::from(duration.is_none());
            if errors[row] != NULL {
                seen.error(&mut summary.errors, (syscalls[row], errors[row]));
            }
            let call = Process {
                pid: pids.value(row),
                comm: comms[row],
                calls: 1,
                errors: u64::from(outcome == error),
                total_ns: duration.unwrap_or(0).into(),
            };
            seen.process(&mut summary.processes, (batch.trace as u32, processes.value(row)), call);
        }
        seen.flush(summary);
        summary.forget_processes();
        Ok(())
    }

    fn merge(&self, into: &mut Summary, from: Summary) {
        let translation = into.texts.adopt(&from.texts);
        for operation in from.operations.into_iter().filter(|operation| operation.calls() > 0) {
            into.operation(translation.of(operation.name)).merge(operation);
        }
        for ((syscall, error), count) in from.errors {
            *into.errors.entry((translation.of(syscall), translation.of(error))).or_default() += count;
        }
        into.merge_processes(from.processes, &translation);
        into.processes_forgotten |= from.processes_forgotten;
        into.before_trace += from.before_trace;
    }
}

/// Neighbouring rows are mostly of the same process and error: they are added up before the maps are touched.
#[derive(Default)]
struct Seen {
    error: Option<((u32, u32), u64)>,
    process: Option<((u32, i64), Process)>,
}

impl Seen {
    fn error(&mut self, errors: &mut HashMap<(u32, u32), u64>, key: (u32, u32)) {
        match &mut self.error {
            Some((last, count)) if *last == key => *count += 1,
            last => {
                if let Some((key, count)) = last.replace((key, 1)) {
                    *errors.entry(key).or_default() += count;
                }
            }
        }
    }

    fn process(&mut self, processes: &mut HashMap<(u32, i64), Process>, key: (u32, i64), call: Process) {
        match &mut self.process {
            Some((last, process)) if *last == key => process.add(&call),
            last => {
                if let Some((key, process)) = last.replace((key, call)) {
                    add_process(processes, key, process);
                }
            }
        }
    }

    fn flush(self, summary: &mut Summary) {
        if let Some((key, count)) = self.error {
            *summary.errors.entry(key).or_default() += count;
        }
        if let Some((key, process)) = self.process {
            add_process(&mut summary.processes, key, process);
        }
    }
}

fn add_process(processes: &mut HashMap<(u32, i64), Process>, key: (u32, i64), process: Process) {
    processes.entry(key).and_modify(|known| known.add(&process)).or_insert(process);
}

impl Process {
    fn add(&mut self, other: &Process) {
        self.comm = other.comm;
        self.calls += other.calls;
        self.errors += other.errors;
        self.total_ns += other.total_ns;
    }
}

impl Operation {
    fn calls(&self) -> u64 {
        self.durations.count + self.open
    }

    fn merge(&mut self, from: Operation) {
        self.ok += from.ok;
        self.errors += from.errors;
        self.killed += from.killed;
        self.open += from.open;
        self.open_at_least_ns = self.open_at_least_ns.max(from.open_at_least_ns);
        self.durations.merge(from.durations);
    }
}

impl Summary {
    fn numbers(&mut self, cache: usize, batch: &Batch, column: &str) -> Result<Vec<u32>, Error> {
        Ok(self.caches[cache].numbers(&batch.text(column)?, &mut self.texts))
    }

    fn count_before_trace(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.has("began") {
            let before = self.texts.number("before_trace");
            let began = self.numbers(4, batch, "began")?;
            self.before_trace += began.iter().filter(|number| **number == before).count() as u64;
        }
        Ok(())
    }

    /// Operations are few and their numbers small.
    fn operation(&mut self, name: u32) -> &mut Operation {
        let place = name.wrapping_add(1) as usize;
        if self.operations.len() <= place {
            self.operations.resize(place + 1, Operation::default());
        }
        let operation = &mut self.operations[place];
        operation.name = name;
        operation
    }

    fn merge_processes(&mut self, from: HashMap<(u32, i64), Process>, translation: &Translation) {
        for (key, process) in from {
            add_process(&mut self.processes, key, Process { comm: translation.of(process.comm), ..process });
        }
    }

    fn forget_processes(&mut self) {
        if self.processes.len() > PROCESSES_MAX {
            let mut calls: Vec<u64> = self.processes.values().map(|process| process.calls).collect();
            let (_, median, _) = calls.select_nth_unstable(PROCESSES_MAX / 2);
            let median = *median;
            self.processes.retain(|_, process| process.calls > median);
            self.processes_forgotten = true;
        }
    }

    /// The tables: operations, errors, processes.
    pub fn tables<'a>(&'a self, traces: &'a [Trace]) -> Vec<Table<'a>> {
        vec![self.operation_table(), self.error_table(), self.process_table(traces)]
    }

    fn operation_table(&self) -> Table<'_> {
        let mut operations: Vec<&Operation> = self.operations.iter().filter(|o| o.calls() > 0).collect();
        let name = |operation: &Operation| self.texts.get(operation.name);
        operations.sort_by_key(|o| (Reverse((o.durations.sum, o.calls())), name(o)));
        let any = |f: fn(&Operation) -> u64| operations.iter().any(|operation| f(operation) > 0);
        let columns = operation_columns(any(|o| o.killed), any(|o| o.open));
        let total = human::counted(operations.iter().map(|o| i128::from(o.calls())).sum(), "call");
        let rows = operations.into_iter().map(|operation| Ok(self.operation_row(operation)));
        let title = format!("{total}, the longest in total first");
        Table { section: Some("syscall"), title, columns, rows: Box::new(rows), sparse: false, text_limit: 0 }
    }

    fn operation_row(&self, operation: &Operation) -> Vec<Value> {
        let mut durations = operation.durations.clone();
        let [p50, p99] = durations.percentiles([0.5, 0.99]).map_or([None; 2], |p| p.map(Some));
        let completed = durations.count > 0;
        let open_at_least = (operation.open > 0).then_some(operation.open_at_least_ns);
        vec![
            Value::text(self.texts.get(operation.name)),
            Value::Int(operation.calls().into()),
            Value::Int(operation.ok.into()),
            Value::Int(operation.errors.into()),
            Value::Int(operation.killed.into()),
            Value::Int(operation.open.into()),
            Value::Int(durations.sum),
            Value::int(p50),
            Value::int(p99),
            Value::int(completed.then_some(durations.max)),
            Value::int(open_at_least),
        ]
    }

    fn error_table(&self) -> Table<'_> {
        let mut errors: Vec<_> =
            self.errors.iter().map(|((s, e), n)| (self.texts.get(*s), self.texts.get(*e), *n)).collect();
        errors.sort_by_key(|(syscall, error, count)| (Reverse(*count), *syscall, *error));
        let rows = errors.into_iter().map(|(syscall, error, count)| {
            let meaning = meaning(syscall.unwrap_or_default(), error.unwrap_or_default());
            Ok(vec![Value::Int(count.into()), Value::text(syscall), Value::text(error), Value::text(meaning)])
        });
        Table {
            section: Some("error"),
            title: "Errors".to_owned(),
            columns: vec![
                column("calls", "calls", Unit::Count),
                column("syscall", "syscall", Unit::Text),
                column("error", "error", Unit::Text),
                column("meaning", "usually", Unit::Text),
            ],
            rows: Box::new(rows),
            sparse: false,
            text_limit: TOP_ROWS,
        }
    }

    fn process_table<'a>(&'a self, traces: &'a [Trace]) -> Table<'a> {
        let mut processes: Vec<_> = self.processes.iter().collect();
        processes.sort_unstable_by_key(|(key, process)| (Reverse((process.total_ns, process.calls)), **key));
        let rows = processes.into_iter().map(|((trace, id), process)| {
            Ok(vec![
                Value::text(traces.get(*trace as usize).map(|trace| trace.manifest.trace_id.clone())),
                Value::Int((*id).into()),
                Value::Int(process.pid.into()),
                Value::text(self.texts.get(process.comm)),
                Value::Int(process.calls.into()),
                Value::Int(process.errors.into()),
                Value::Int(process.total_ns),
            ])
        });
        let forgotten = if self.processes_forgotten { " (of more than could be counted: the busiest)" } else { "" };
        Table {
            section: Some("process"),
            title: format!("Processes{forgotten}"),
            columns: process_columns(traces.len() > 1),
            rows: Box::new(rows),
            sparse: false,
            text_limit: TOP_ROWS,
        }
    }
}

fn operation_columns(killed: bool, open: bool) -> Vec<Column> {
    let shown = |shown: bool, heading| if shown { heading } else { "" };
    vec![
        column("syscall", "syscall", Unit::Text),
        column("calls", "calls", Unit::Count),
        column("ok", "", Unit::Count),
        column("errors", "errors", Unit::Count),
        column("killed", shown(killed, "killed"), Unit::Count),
        column("open", shown(open, "open"), Unit::Count),
        column("total_ns", "total", Unit::Duration),
        column("p50_ns", "p50", Unit::Duration),
        column("p99_ns", "p99", Unit::Duration),
        column("max_ns", "max", Unit::Duration),
        column("open_at_least_ns", shown(open, "open ≥"), Unit::Duration),
    ]
}

fn process_columns(many_traces: bool) -> Vec<Column> {
    vec![
        column("trace_id", if many_traces { "trace" } else { "" }, Unit::Text),
        column("process_id", "", Unit::Id),
        column("pid", "pid", Unit::Id),
        column("comm", "comm", Unit::Text),
        column("calls", "calls", Unit::Count),
        column("errors", "errors", Unit::Count),
        column("total_ns", "total", Unit::Duration),
    ]
}

/// The facts of each recording, for people.
pub fn preface(traces: &[Trace], losses: &Losses, output: Output) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, trace) in traces.iter().enumerate() {
        let session = &trace.manifest.session;
        let lasted = human::duration((i128::from(session.end_ns) - i128::from(session.start_ns)).max(0));
        let kernel = human::escape(session.kernel.split(' ').next().unwrap_or_default());
        let (host, arch) = (human::escape(&session.host), human::escape(&session.arch));
        lines.push(human::escape(&trace.name()));
        lines.push(format!(
            "  {host}, Linux {kernel} {arch}, {} for {lasted}",
            human::instant(session.start_ns, output.zone)
        ));
        if let Some(command) = &session.command {
            lines.push(format!("  command: {}", human::escape(command)));
        }
        if let Some(trigger) = &session.trigger {
            lines.push(format!("  written for: {}", human::escape(trigger)));
        }
        let bytes = trace.parts.values().flatten().map(|part| part.bytes).sum();
        let lost = match losses.calls(i) {
            (0, false) => "none lost".to_owned(),
            (lost, false) => format!("{} lost", human::count(lost)),
            (lost, true) => format!("more than {} lost", human::count(lost)),
        };
        let calls = human::counted(session.calls.into(), "call");
        lines.push(format!("  {calls} recorded, {lost}, {} on disk", human::bytes(bytes)));
    }
    lines
}
