//! What the answers say is what a plain loop over the same rows says.

use crate::fixture::{self, Call, Parameters, START_NS};
use crate::{is_harmless, on, rows, stderr, stdout};
use ipc_analyzer::filter::Selection;
use ipc_analyzer::groups::{self, Dimension, Group};
use ipc_analyzer::intern::Texts;
use ipc_analyzer::trace::Trace;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

fn trace(parameters: &Parameters) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let trace = fixture::write(&directory.path().join("t"), parameters);
    (directory, trace)
}

/// `quantile_cont` of DuckDB, rounded.
fn percentile(sorted: &[i64], fraction: f64) -> f64 {
    let position = (sorted.len() - 1) as f64 * fraction;
    let (low, high) = (sorted[position.floor() as usize] as f64, sorted[position.ceil() as usize] as f64);
    low + (high - low) * position.fract()
}

fn check_group(row: &Value, durations: &mut [i64]) {
    durations.sort_unstable();
    assert_eq!(row["count"], durations.len());
    assert_eq!(row["total_ns"], durations.iter().sum::<i64>());
    assert_eq!(row["max_ns"], *durations.last().unwrap());
    for (column, fraction) in [("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p999_ns", 0.999)] {
        let (found, expected) = (row[column].as_i64().unwrap() as f64, percentile(durations, fraction));
        assert!((found - expected).abs() <= f64::max(1.0, expected / 1000.0), "{column}: {found}, not {expected}");
    }
}

fn check_latency(parameters: &Parameters, by: &str, key: impl Fn(&Call) -> Vec<Value>) {
    let (_directory, trace) = trace(parameters);
    let mut groups: BTreeMap<String, (Vec<i64>, u64)> = BTreeMap::new();
    for call in fixture::calls(parameters) {
        let group = groups.entry(Value::Array(key(&call)).to_string()).or_default();
        match call.duration_ns {
            Some(duration) => group.0.push(duration),
            None => group.1 += 1,
        }
    }
    let found = rows("latency", &trace, &["--by", by]);
    assert_eq!(found.len(), groups.len());
    for row in &found {
        let name = Value::Array(by.split(',').map(|column| row[column].clone()).collect()).to_string();
        let (durations, open) = groups.get_mut(&name).unwrap_or_else(|| panic!("no group {name}"));
        assert_eq!(row["open"], *open, "{name}");
        if durations.is_empty() {
            assert_eq!(row["p50_ns"], Value::Null, "{name}");
        } else {
            check_group(row, durations);
        }
    }
}

#[test]
fn latency_of_small_groups_is_exact_and_of_large_ones_within_a_thousandth() {
    let parameters = Parameters { calls: 60_000, parts: 3, ..Parameters::default() };
    check_latency(&parameters, "syscall", |c| vec![c.syscall.into()]);
    check_latency(&parameters, "comm,error", |c| vec![c.comm.as_str().into(), json!(c.error)]);
    check_latency(&Parameters { calls: 40, ..parameters }, "syscall,pid", |c| vec![c.syscall.into(), c.pid.into()]);
}

type Keeps<'a> = &'a dyn Fn(&Call) -> bool;

#[test]
fn filters_keep_what_a_loop_keeps() {
    let parameters = Parameters::default();
    let (_directory, trace) = trace(&parameters);
    let end_ns = fixture::read_manifest(&trace).session.end_ns;
    let since = START_NS + 4_000_000;
    let overlaps = |c: &Call| c.end_ns().unwrap_or(end_ns) >= since && c.start_ns <= since + 1_000_000;
    let cases: [(&[&str], Keeps); 7] = [
        (&["--pid", "1003"], &|c| c.pid == 1003),
        (&["--pid", "1003,1004"], &|c| c.pid == 1003 || c.pid == 1004),
        (&["--comm", "worker"], &|c| c.comm == "worker"),
        (&["--syscall", "%msg"], &|c| c.syscall.starts_with("msg")),
        (&["--object", "sem:2"], &|c| c.object_kind == Some("sem") && c.object_id == Some(2)),
        (&["--syscall", "semop", "--pid", "1001"], &|c| c.syscall == "semop" && c.pid == 1001),
        (&["--since", "+4ms", "--until", "+5ms"], &overlaps),
    ];
    for (arguments, keeps) in cases {
        let expected = fixture::calls(&parameters).filter(|c| keeps(c)).count() as i64;
        let found = rows("latency", &trace, arguments);
        let counted = |row: &Value| row["count"].as_i64().unwrap() + row["open"].as_i64().unwrap();
        assert_eq!(found.iter().map(counted).sum::<i64>(), expected, "{arguments:?}");
        assert!(expected > 0, "{arguments:?} tests nothing");
    }
}

#[test]
fn several_traces_answer_as_one() {
    let (_a, first) = trace(&Parameters::default());
    let (_b, second) = trace(&Parameters { trace_id: "trace-b".to_owned(), seed: 2, ..Parameters::default() });
    let found = rows("latency", &first, &[second.to_str().unwrap(), "--by", "syscall"]);
    let total: i64 = found.iter().map(|row| row["count"].as_i64().unwrap()).sum();
    assert_eq!(total, 2 * 9_997);
}

#[test]
fn verify_passes_what_is_whole_and_show_prints_every_call() {
    let parameters = Parameters { calls: 2_000, ..Parameters::default() };
    let (_directory, trace) = trace(&parameters);
    let verified = on("verify", &trace, &[]);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    let shown = on("show", &trace, &["--format", "jsonl"]);
    let lines: Vec<Value> = stdout(&shown).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2_000);
    let ids: Vec<i64> = lines.iter().map(|line| line["call_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, fixture::calls(&parameters).map(|c| c.call_id).collect::<Vec<_>>());
}

#[test]
fn text_of_traced_programs_is_harmless_on_a_terminal_and_in_csv() {
    let comms = vec!["\x1b[2J\x1b]0;owned\x07".to_owned(), "=cmd|'/c'!A1".to_owned(), "a\nb\u{202e}".to_owned()];
    let (_directory, trace) = trace(&Parameters { calls: 300, comms, ..Parameters::default() });
    for command in ["summary", "latency", "show"] {
        let text = stdout(&on(command, &trace, if command == "latency" { &["--by", "comm"] } else { &[] }));
        assert!(is_harmless(&text), "{command}: {text:?}");
    }
    let csv = stdout(&on("latency", &trace, &["--by", "comm", "--format", "csv"]));
    assert!(!csv.lines().any(|line| line.starts_with('=') || line.starts_with("\"=")), "{csv}");
    assert!(!csv.contains('\x1b'), "{csv:?}");
}

/// Groups that do not fit the memory are answered in further passes, each once.
#[test]
fn a_tiny_memory_gives_the_same_groups() {
    let (_directory, path) = trace(&Parameters { calls: 20_000, parts: 4, ..Parameters::default() });
    let traces = [Trace::open(&path).unwrap()];
    let by = [Dimension::Object, Dimension::Comm, Dimension::Error];
    let groups = |budget_bytes: usize| {
        let mut found = Vec::new();
        let mut visit = |texts: &Texts, groups: Vec<Group>| {
            for mut group in groups {
                let mut key = Vec::new();
                by.iter().for_each(|dimension| group.key.push_values(*dimension, texts, &mut key));
                let percentiles = group.durations.percentiles([0.5, 0.999]);
                found.push(format!("{key:?} {} {} {percentiles:?}", group.durations.sum, group.open));
            }
        };
        groups::for_each_within(budget_bytes, &traces, &Selection::everything(), &by, &mut visit).unwrap();
        found.sort();
        found
    };
    let at_once = groups(usize::MAX);
    assert!(at_once.len() > 100, "{}", at_once.len());
    for budget_bytes in [1, 20_000] {
        assert_eq!(groups(budget_bytes), at_once);
    }
}
