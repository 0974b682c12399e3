//! `diff`: what changed from one trace to another, and how large the change is.

mod compare;
mod measure;

use super::Ask;
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::human;
use crate::opened::Opened;
use crate::report::{Answer, Column, Rows, Table, Unit, Value, column};
use compare::{Change, Failing, Size, Timing};
use ipc_schema::catalogue::Family;
use measure::{By, Measures};

const TEXT_ROWS: usize = 20;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Diff {}

impl Ask for Diff {
    const COMMAND: &'static str = "diff";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        if opened.traces.len() != 2 {
            let given = human::counted(opened.traces.len() as i128, "trace");
            return Err(Error::Usage(format!("diff compares two traces, before and after; {given} given")));
        }
        let measures = Measures::read(opened)?;
        let failings = compare::failings(&measures);
        let timings = compare::timings(measures);
        let unlike = unlike(opened);
        let mut findings: Vec<Finding> =
            timings.iter().filter_map(slower).chain(failings.iter().filter_map(failing)).collect();
        findings.iter_mut().for_each(|finding| finding.doubt(unlike.clone()));
        let lasted_ns = [0, 1].map(|trace| lasted_ns(opened, trace));
        let preface = verdict(&timings, &failings, &unlike);
        let tables = vec![timing_table(timings, lasted_ns), failing_table(failings)];
        Ok(Answer { findings, preface, tables, ..Answer::default() })
    }
}

fn lasted_ns(opened: &Opened, trace: usize) -> i64 {
    let (start_ns, end_ns) = opened.span_ns(trace);
    end_ns.saturating_sub(start_ns).max(0)
}

/// What holds of one of the traces only, and can look like a change.
fn unlike(opened: &Opened) -> Vec<String> {
    let [before, after] = [0, 1].map(|trace| opened.doubts(trace, &Family::OF_CALLS));
    let only = |of: &[String], other: &[String], name: &str| -> Vec<String> {
        of.iter().filter(|text| !other.contains(text)).map(|text| format!("{name} only: {text}")).collect()
    };
    let mut unlike = only(&before, &after, "before");
    unlike.extend(only(&after, &before, "after"));
    unlike
}

/// The answer in a few lines.
fn verdict(timings: &[Timing], failings: &[Failing], unlike: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for change in [Change::Slower, Change::Faster, Change::New, Change::Gone] {
        let of: Vec<&Timing> = timings.iter().filter(|t| t.by == By::Syscall && t.change == change).collect();
        if !of.is_empty() {
            let names: Vec<String> = of.iter().map(|timing| timing.sentence()).collect();
            lines.push(format!("{}: {}", change.name(), names.join("; ")));
        }
    }
    for change in [Change::More, Change::Fewer, Change::New, Change::Gone] {
        let of: Vec<&Failing> = failings.iter().filter(|f| f.change == change).collect();
        if !of.is_empty() {
            let names: Vec<String> = of.iter().take(5).map(|failing| failing.sentence()).collect();
            lines.push(format!("failures, {}: {}", change.name(), names.join("; ")));
        }
    }
    if lines.is_empty() {
        lines.push("no change beyond what chance makes".to_owned());
    }
    lines.extend(unlike.iter().map(|text| format!("! {text}")));
    lines.iter().map(|line| human::escape(line)).collect()
}

fn slower(timing: &Timing) -> Option<Finding> {
    let grade = grade(timing.size)?;
    (timing.change == Change::Slower).then(|| finding("slower", grade, timing.sentence(), timing.object()))
}

fn failing(failing: &Failing) -> Option<Finding> {
    let grade = grade(failing.size)?;
    matches!(failing.change, Change::More | Change::New).then(|| finding("failing", grade, failing.sentence(), None))
}

/// Two recordings are two samples: nothing between them is certain.
fn grade(size: Size) -> Option<Grade> {
    match size {
        Size::Large => Some(Grade::Likely),
        Size::Medium => Some(Grade::Suspect),
        Size::Small | Size::None => None,
    }
}

fn finding(kind: &'static str, grade: Grade, what: String, object: Option<String>) -> Finding {
    Finding {
        kind,
        grade,
        trace: 1,
        object,
        object_ref: None,
        since_ns: None,
        what,
        remedy: "Look at the second trace: ipc-analyzer contention, failures; then at what changed between the two."
            .to_owned(),
        doubts: Vec::new(),
        evidence: Vec::new(),
    }
}

fn timing_table(timings: Vec<Timing>, lasted_ns: [i64; 2]) -> Table<'static> {
    let rows: Rows<'static> = Box::new(timings.into_iter().map(move |timing| Ok(timing_row(&timing, lasted_ns))));
    Table {
        section: Some("latency"),
        title: "How long calls took, the largest change first".to_owned(),
        columns: timing_columns(),
        rows,
        sparse: false,
        text_limit: TEXT_ROWS,
    }
}

fn timing_row(timing: &Timing, lasted_ns: [i64; 2]) -> Vec<Value> {
    let [before, after] = &timing.sides;
    let mut row = vec![
        Value::Text(timing.by.name().to_owned()),
        Value::Text(timing.name.clone()),
        Value::Text(timing.change.name().to_owned()),
        Value::Text(timing.size.name().to_owned()),
        Value::int(timing.effect_permille),
    ];
    for side in [before, after] {
        row.push(Value::Int(side.count.into()));
    }
    for (side, lasted_ns) in [before, after].into_iter().zip(lasted_ns) {
        row.push(Value::int((lasted_ns > 0).then(|| i128::from(side.count) * 60_000_000_000 / i128::from(lasted_ns))));
    }
    row.extend([before, after].map(|side| Value::int(side.p50_ns)));
    row.extend([before, after].map(|side| Value::int(side.p99_ns)));
    row.extend([before, after].map(|side| Value::int(side.mean_ns)));
    row.extend([before, after].map(|side| Value::Int(side.slept.into())));
    row.extend([before, after].map(|side| Value::Int(side.wait_ns)));
    row.extend([before, after].map(|side| Value::int(side.wait_p99_ns)));
    row
}

fn timing_columns() -> Vec<Column> {
    vec![
        column("by", "by", Unit::Text),
        column("name", "what", Unit::Text),
        column("change", "change", Unit::Text),
        column("size", "", Unit::Text),
        column("effect_permille", "effect ‰", Unit::Id),
        column("count_before", "calls", Unit::Count),
        column("count_after", "after", Unit::Count),
        column("per_minute_before", "", Unit::Count),
        column("per_minute_after", "", Unit::Count),
        column("p50_before_ns", "p50", Unit::Duration),
        column("p50_after_ns", "after", Unit::Duration),
        column("p99_before_ns", "p99", Unit::Duration),
        column("p99_after_ns", "after", Unit::Duration),
        column("mean_before_ns", "", Unit::Duration),
        column("mean_after_ns", "", Unit::Duration),
        column("slept_before", "", Unit::Count),
        column("slept_after", "", Unit::Count),
        column("wait_before_ns", "", Unit::Duration),
        column("wait_after_ns", "", Unit::Duration),
        column("wait_p99_before_ns", "", Unit::Duration),
        column("wait_p99_after_ns", "", Unit::Duration),
    ]
}

fn failing_table(failings: Vec<Failing>) -> Table<'static> {
    let row = |failing: &Failing| {
        vec![
            Value::Text(failing.syscall.clone()),
            Value::Text(failing.error.clone()),
            Value::Text(failing.change.name().to_owned()),
            Value::Text(failing.size.name().to_owned()),
            Value::Int(failing.counts[0].into()),
            Value::Int(failing.counts[1].into()),
            Value::Int(failing.calls[0].into()),
            Value::Int(failing.calls[1].into()),
        ]
    };
    let rows: Rows<'static> = Box::new(failings.into_iter().map(move |failing| Ok(row(&failing))));
    Table {
        section: Some("failure"),
        title: "Failures, the largest change first".to_owned(),
        columns: vec![
            column("syscall", "syscall", Unit::Text),
            column("error", "error", Unit::Text),
            column("change", "change", Unit::Text),
            column("size", "", Unit::Text),
            column("count_before", "before", Unit::Count),
            column("count_after", "after", Unit::Count),
            column("calls_before", "of calls", Unit::Count),
            column("calls_after", "of calls", Unit::Count),
        ],
        rows,
        sparse: false,
        text_limit: TEXT_ROWS,
    }
}
