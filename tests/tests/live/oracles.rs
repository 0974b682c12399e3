//! The same files read by others: DuckDB, pandas with pyarrow, Polars; and ipc-analyzer beside them.

use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use std::path::Path;

/// A trace with every table filled as far as recording fills it: every family, failures, open and killed calls.
fn record_mixture(recording: &Recording) {
    let count = environment::count(30, 2000).to_string();
    let script = format!(
        "set -e; W={}; $W families --count {count}; $W failures; $W killed --count 2; \
         $W waiters --threads 6 --count 60 --hold 100us; $W threads --count 300; $W storm --count 10000; \
         $W open --hold 3s & sleep 0.3",
        programs::path("ipc-workload").display()
    );
    let mut command = recording.command(&[]);
    command.args(["--", "sh", "-c", &script]);
    run(command, recording.folder(), "record").with_code(0);
}

#[test]
fn other_readers_read_every_table_alike() {
    let Some(_live) = Live::ready() else { return };
    let Some(python) = environment::python() else { return };
    let recording = Recording::new();
    record_mixture(&recording);
    let mut script = programs::script(python, "readers.py");
    script.arg(recording.trace_path());
    println!("{}", run(script, recording.folder(), "readers").with_code(0).stdout);
}

#[test]
fn latency_is_what_duckdb_computes() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    record_mixture(&recording);
    for by in ["syscall", "comm", "pid", "object", "error", "syscall,error", "comm,syscall,object"] {
        let Some(python) = environment::python() else { return };
        let arguments = ["latency", "--by", by, "--format", "json"];
        let ended = run(programs::analyzer(&arguments, &recording.trace_path()), recording.folder(), "latency");
        let report = recording.path("latency.json");
        std::fs::write(&report, ended.with_code(0).stdout).unwrap();
        let mut script = programs::script(python, "latency.py");
        script.arg(recording.trace_path()).arg(&report).arg(by);
        println!("{}", run(script, recording.folder(), "oracle").with_code(0).stdout);
    }
}

fn verify(recording: &Recording, trace: &Path) -> (i32, String) {
    let ended = run(programs::analyzer(&["verify"], trace), recording.folder(), "verify");
    (ended.code(), format!("{}{}", ended.stdout, ended.stderr))
}

#[test]
fn verify_accepts_a_trace_and_refuses_a_damaged_one() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    record_mixture(&recording);
    let (code, said) = verify(&recording, &recording.trace_path());
    assert_eq!(code, 0, "{said}");
    let mut state = environment::seed();
    for part in recording.trace().parts("calls") {
        let whole = std::fs::read(&part).unwrap();
        let mut damaged = whole.clone();
        let place = environment::random(&mut state) as usize % damaged.len();
        damaged[place] ^= 1 << (environment::random(&mut state) % 8);
        std::fs::write(&part, &damaged).unwrap();
        let (code, said) = verify(&recording, &recording.trace_path());
        assert!(code != 0 && said.contains("calls/part-"), "a changed bit at byte {place}: exit {code}, {said}");
        std::fs::write(&part, &whole[..whole.len() / 2]).unwrap();
        let (code, said) = verify(&recording, &recording.trace_path());
        assert!(code != 0 && said.contains("calls/part-"), "a file cut in half: exit {code}, {said}");
        std::fs::write(&part, &whole).unwrap();
    }
}

#[test]
fn what_is_no_readable_trace_is_refused() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    recording.record(&[], &["families"]);
    let manifest = recording.trace_path().join("trace.json");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    let empty = recording.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let refuse = |trace: &Path, word: &str| {
        for command in ["summary", "latency", "show", "verify"] {
            let ended = run(programs::analyzer(&[command], trace), recording.folder(), "refused");
            let said = ended.stderr.trim_end();
            assert!(matches!(ended.code(), 1 | 3), "{command}: exit {}, {said}", ended.code());
            assert!(said.lines().count() == 1 && said.contains(word), "{command}: one line with {word:?}, not: {said}");
        }
    };
    refuse(&empty, "empty");
    refuse(&recording.path("nowhere"), "nowhere");
    let current = ipc_schema::version::FormatVersion::CURRENT;
    let newer = whole.replacen(&format!("\"format_version\": {current}"), "\"format_version\": 4711", 1);
    assert_ne!(newer, whole, "the version stands first in trace.json");
    std::fs::write(&manifest, newer).unwrap();
    refuse(&recording.trace_path(), "4711");
    std::fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    refuse(&recording.trace_path(), "trace.json");
}
