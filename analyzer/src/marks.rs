//! What bears on an answer: losses, incomplete files, filters, a late start, missing privileges.

use crate::filter;
use crate::human;
use crate::losses::{Loss, Losses};
use crate::report::{Mark, Severity};
use crate::trace::Trace;
use ipc_schema::catalogue::{Family, OPERATIONS};
use ipc_schema::manifest::Missing;

/// What every answer from these traces must say. `before_trace`: how many of its calls began before the recording.
pub fn marks(traces: &[Trace], losses: &Losses, before_trace: u64) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (i, trace) in traces.iter().enumerate() {
        let of = if traces.len() > 1 { format!("{}: ", human::escape(&trace.name())) } else { String::new() };
        let mut add = |severity, text: String| marks.push(Mark { severity, text: format!("{of}{text}") });
        for (source, loss) in losses.of(i) {
            add(Severity::Loss, loss_text(trace, source, loss));
        }
        for warning in &trace.warnings {
            add(Severity::Loss, human::escape(warning));
        }
        if trace.manifest.session.late_records > 0 {
            let records = human::counted(trace.manifest.session.late_records.into(), "record");
            add(Severity::Loss, format!("{records} arrived too late to be sorted: the order of calls is not exact"));
        }
        for text in filters(trace, &Family::OF_CALLS).into_iter().chain(missing(trace)) {
            add(Severity::Limit, text);
        }
    }
    if before_trace > 0 {
        let calls = human::counted(before_trace.into(), "call");
        let text = format!("{calls} began before the recording: start is a bound, the duration a lower bound");
        marks.push(Mark { severity: Severity::Limit, text });
    }
    marks.sort_by_key(|mark| mark.severity);
    marks
}

fn loss_text(trace: &Trace, source: &str, loss: &Loss) -> String {
    let start_ns = trace.manifest.session.start_ns;
    let after = |ns: i64| human::duration(ns.saturating_sub(start_ns).max(0).into());
    let noun = match source {
        "records" => "record",
        "not_followed" => "descendant",
        _ => "call",
    };
    let amount = match (loss.count, loss.unknown) {
        (0, _) => format!("an unknown number of {noun}s"),
        (count, 0) => human::counted(count, noun),
        (count, _) => format!("more than {}", human::counted(count, noun)),
    };
    let cpus: Vec<String> = loss.cpus.iter().map(ToString::to_string).collect();
    let place = match cpus.len() {
        0 => String::new(),
        1 => format!(" on CPU {}", cpus[0]),
        2..=16 => format!(" on CPUs {}", cpus.join(" ")),
        many => format!(" on {many} CPUs"),
    };
    let (from, to) = (after(loss.from_ns), after(loss.to_ns));
    let effect = match source {
        "records" => "names of threads and processes can be missing or old, calls are all there",
        "copy_fault" => "user memory could not be copied, the calls themselves are all there",
        "x32" => "x32 calls are not captured",
        "not_followed" => "nothing that they did is in any answer",
        _ => "counts and totals are too low, percentiles can shift",
    };
    let why = human::escape(source);
    let what = if source == "copy_fault" { "details of " } else { "" };
    format!("LOST {what}{amount} ({why}{place}, {from} to {to} after the start): {effect}")
}

/// What a trace lost of its calls, one line each.
pub fn lost(trace: &Trace, losses: &Losses, number: usize) -> Vec<String> {
    let mut lost = Vec::new();
    match losses.calls(number) {
        (0, false) => {}
        (count, false) => lost.push(format!("{} lost", human::counted(count, "call"))),
        (count, true) => lost.push(format!("more than {} lost", human::counted(count, "call"))),
    }
    if !trace.manifest.complete {
        lost.push("the recording was not finished: what came last is missing".to_owned());
    }
    lost
}

/// What the recording was told to leave out, as far as it bears on calls of `families`.
pub fn filters(trace: &Trace, families: &[Family]) -> Vec<String> {
    let mut limits = Vec::new();
    let filters = &trace.manifest.session.filters;
    let list = |values: &[String]| values.iter().map(|v| human::escape(v)).collect::<Vec<_>>().join(", ");
    if !filters.pids.is_empty() {
        let pids: Vec<String> = filters.pids.iter().map(ToString::to_string).collect();
        let follow = if filters.follow { " and descendants" } else { "" };
        limits.push(format!("recorded only of process {}{follow}: the others are in no answer", pids.join(", ")));
    }
    let is_left_out = |operation: &&str| !filters.syscalls.iter().any(|recorded| recorded == operation);
    if !filters.syscalls.is_empty() && operations_of(families).iter().any(is_left_out) {
        limits.push(of_operations(&filters.syscalls, list));
    }
    if !filters.comms.is_empty() {
        limits.push(format!("recorded only threads named {}: the others are in no answer", list(&filters.comms)));
    }
    if !filters.cgroups.is_empty() {
        limits.push(format!("recorded only cgroup {}: the others are in no answer", list(&filters.cgroups)));
    }
    if let Some(shortest) = filters.min_duration_ns {
        let shortest = human::duration(shortest.into());
        limits.push(format!("recorded only calls of at least {shortest}: counts and percentiles are of those alone"));
    }
    limits
}

fn operations_of(families: &[Family]) -> Vec<&'static str> {
    families.iter().flat_map(|family| filter::operations_of(*family)).collect()
}

/// What privilege or kernel withheld.
fn missing(trace: &Trace) -> Vec<String> {
    let text = |missing: &Missing| {
        let (feature, reason) = (human::escape(&missing.feature), human::escape(&missing.reason));
        format!("missing {feature}: {reason}; {}", human::escape(&missing.remedy))
    };
    trace.manifest.session.missing.iter().map(text).collect()
}

/// Which operations were recorded, or which were not: the shorter list.
fn of_operations(recorded: &[String], list: impl Fn(&[String]) -> String) -> String {
    let is_left_out = |operation: &&&str| !recorded.iter().any(|r| r == **operation);
    let left_out: Vec<String> = OPERATIONS.iter().filter(is_left_out).map(|o| (*o).to_owned()).collect();
    if left_out.len() < recorded.len() {
        return format!("recorded without {}: they are in no answer", list(&left_out));
    }
    format!("recorded only {}: other operations are in no answer", list(recorded))
}
