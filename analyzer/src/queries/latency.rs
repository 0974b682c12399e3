//! `latency`: how long calls took, by any combination of operation, thread name, process, object and error.

use crate::distribution::bounds_of;
use crate::error::Error;
use crate::filter::Selection;
use crate::groups::{self, Dimension, Group, Key};
use crate::human;
use crate::intern::Texts;
use crate::report::{Column, Rows, Table, Unit, Value, column};
use crate::trace::Trace;
use rayon::prelude::*;
use std::cmp::{Ordering, Reverse};
use std::mem;

const PERCENTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
/// The buckets of durations.
const BUCKETS: usize = 1 << 16;

/// The answer.
#[derive(Debug)]
pub struct Latency {
    by: Vec<Dimension>,
    trace_ids: Vec<String>,
    texts: Texts,
    groups: Vec<Answer>,
    overall: Vec<u64>,
    /// Calls that began before the trace.
    pub before_trace: u64,
}

/// One group, in few bytes: there can be millions.
#[derive(Clone, Copy, Debug)]
struct Answer {
    key: Key,
    count: u64,
    total_ns: i128,
    /// Percentiles and maximum, if any call completed.
    times_ns: Option<([i64; 4], i64)>,
    open: u64,
    open_at_least_ns: i64,
}

/// Asks the traces.
///
/// # Errors
/// A part that cannot be believed.
pub fn ask(traces: &[Trace], selection: &Selection, by: &[Dimension]) -> Result<Latency, Error> {
    let mut latency = Latency {
        by: by.to_vec(),
        trace_ids: traces.iter().map(|t| t.manifest.trace_id.clone()).collect(),
        texts: Texts::default(),
        groups: Vec::new(),
        overall: vec![0; BUCKETS],
        before_trace: 0,
    };
    latency.before_trace = groups::for_each(traces, selection, by, &mut |texts, groups| latency.add(texts, groups))?;
    let Latency { groups, texts, .. } = &mut latency;
    groups.sort_unstable_by(|a, b| order(texts, a, b));
    Ok(latency)
}

/// The longest total first, then by name: the same in every run.
fn order(texts: &Texts, a: &Answer, b: &Answer) -> Ordering {
    let weight = |answer: &Answer| Reverse((answer.total_ns, answer.count, answer.open));
    weight(a).cmp(&weight(b)).then_with(|| a.key.compare(&b.key, texts))
}

/// Some groups, measured, and the counts of all their calls per bucket.
struct Measured {
    groups: Vec<Answer>,
    overall: Vec<u64>,
}

impl Measured {
    fn of(groups: &mut [Group]) -> Measured {
        let mut overall = vec![0; BUCKETS];
        let answer = |group: &mut Group| {
            // Taken: what it holds is given back at once.
            let mut durations = mem::take(&mut group.durations);
            let percentiles = durations.measure(PERCENTILES, |bucket, count| overall[usize::from(bucket)] += count);
            Answer {
                key: group.key,
                count: durations.count,
                total_ns: durations.sum,
                times_ns: percentiles.map(|p| (p, durations.max)),
                open: group.open,
                open_at_least_ns: group.open_at_least_ns,
            }
        };
        let groups = groups.iter_mut().map(answer).collect();
        Measured { groups, overall }
    }
}

impl Latency {
    fn add(&mut self, texts: &Texts, mut groups: Vec<Group>) {
        let share = groups.len().div_ceil(rayon::current_num_threads()).max(1);
        let measured: Vec<Measured> = groups.par_chunks_mut(share).map(Measured::of).collect();
        for part in measured {
            self.overall.iter_mut().zip(part.overall).for_each(|(sum, count)| *sum += count);
            self.groups.extend(part.groups.into_iter().map(|answer| Answer {
                key: answer.key.translated(|number| texts.get(number).map(|text| self.texts.number(text))),
                ..answer
            }));
        }
    }

    /// The table of the groups.
    pub fn table(&self) -> Table<'_> {
        let by_trace = self.by_trace();
        let mut columns = Vec::new();
        if by_trace {
            columns.push(column("trace_id", "trace", Unit::Text));
        }
        columns.extend(self.by.iter().flat_map(|dimension| key_columns(*dimension)));
        columns.extend(MEASURES);
        if self.groups.iter().any(|group| group.open > 0) {
            columns.push(column("open", "open", Unit::Count));
            columns.push(column("open_at_least_ns", "open ≥", Unit::Duration));
        } else {
            columns.push(column("open", "", Unit::Count));
            columns.push(column("open_at_least_ns", "", Unit::Duration));
        }
        let rows: Rows<'_> = Box::new(self.groups.iter().map(move |group| Ok(self.row(group, by_trace))));
        Table { section: None, title: String::new(), columns, rows, sparse: false, text_limit: 40 }
    }

    fn by_trace(&self) -> bool {
        self.trace_ids.len() > 1 && groups::separates_traces(&self.by)
    }

    fn row(&self, group: &Answer, by_trace: bool) -> Vec<Value> {
        let mut row = Vec::with_capacity(20);
        if by_trace {
            row.push(Value::text(self.trace_ids.get(group.key.trace as usize).cloned()));
        }
        for dimension in &self.by {
            group.key.push_values(*dimension, &self.texts, &mut row);
        }
        row.push(Value::Int(group.count.into()));
        row.push(Value::Int(group.total_ns));
        let count = i128::from(group.count);
        row.push(if count > 0 { Value::Int((group.total_ns + count / 2) / count) } else { Value::Null });
        for i in 0..PERCENTILES.len() {
            row.push(Value::int(group.times_ns.map(|(percentiles, _)| percentiles[i])));
        }
        row.push(Value::int(group.times_ns.map(|(_, max)| max)));
        row.push(Value::Int(group.open.into()));
        row.push(if group.open > 0 { Value::Int(group.open_at_least_ns.into()) } else { Value::Null });
        row
    }

    /// The distribution of all completed calls as bars: 1, 2, 5 per decade.
    pub fn bars(&self) -> Vec<String> {
        let mut bars: Vec<(i64, u64)> = Vec::new();
        for (bucket, count) in self.overall.iter().enumerate().filter(|(_, count)| **count > 0) {
            let lower = step_below(bounds_of(bucket as u16).0);
            match bars.last_mut() {
                Some((step, sum)) if *step == lower => *sum += count,
                _ => bars.push((lower, *count)),
            }
        }
        let calls = bars.iter().map(|(_, count)| i128::from(*count)).sum();
        if calls == 0 {
            return Vec::new();
        }
        let title = format!("How long {} took", human::counted(calls, "completed call"));
        [String::new(), title].into_iter().chain(human::bars(&fill_gaps(&bars))).collect()
    }
}

/// The largest of 0, 1, 2, 5, 10, 20, 50… that is not above `value`.
fn step_below(value: i64) -> i64 {
    let mut step = 0;
    let mut next = 1;
    while next <= value {
        step = next;
        let Some(above) = step_above(next) else { break };
        next = above;
    }
    step
}

/// The next of 1, 2, 5, 10, 20, 50…
fn step_above(step: i64) -> Option<i64> {
    let mut decade = step.max(1);
    while decade % 10 == 0 {
        decade /= 10;
    }
    match (step, decade) {
        (0, _) => Some(1),
        (_, 2) => (step / 2).checked_mul(5),
        _ => step.checked_mul(2),
    }
}

/// Steps without calls between steps with calls are drawn too: a gap is a finding.
fn fill_gaps(bars: &[(i64, u64)]) -> Vec<human::Bar> {
    let mut filled: Vec<human::Bar> = Vec::new();
    for (lower, count) in bars {
        while let Some(last) = filled.last()
            && last.upper < *lower
        {
            let lower = last.upper;
            filled.push(human::Bar { lower, upper: step_above(lower).unwrap_or(i64::MAX), count: 0 });
        }
        filled.push(human::Bar { lower: *lower, upper: step_above(*lower).unwrap_or(i64::MAX), count: *count });
    }
    filled
}

const MEASURES: [Column; 8] = [
    column("count", "calls", Unit::Count),
    column("total_ns", "total", Unit::Duration),
    column("mean_ns", "mean", Unit::Duration).yields(3),
    column("p50_ns", "p50", Unit::Duration),
    column("p90_ns", "p90", Unit::Duration).yields(2),
    column("p99_ns", "p99", Unit::Duration),
    column("p999_ns", "p99.9", Unit::Duration).yields(1),
    column("max_ns", "max", Unit::Duration),
];

fn key_columns(dimension: Dimension) -> Vec<Column> {
    match dimension {
        Dimension::Syscall => vec![column("syscall", "syscall", Unit::Text)],
        Dimension::Comm => vec![column("comm", "comm", Unit::Text)],
        Dimension::Pid => vec![column("pid", "pid", Unit::Id)],
        Dimension::Error => vec![column("error", "error", Unit::Text)],
        Dimension::Object => vec![
            column("object", "object", Unit::Text),
            column("object_kind", "", Unit::Text),
            column("object_ref", "", Unit::Id),
            column("object_id", "", Unit::Id),
            column("object_name", "", Unit::Text),
            column("ipc_ns", "", Unit::Id),
        ],
    }
}
