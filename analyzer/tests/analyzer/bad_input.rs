//! Each way in which a trace can be wrong: one clear line, the documented exit code.

use crate::fixture::{self, Parameters, TraceWriter};
use crate::{on, refuses, run, stderr, stdout};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use ipc_schema::tables;
use ipc_schema::version::FormatVersion;
use parquet::arrow::ArrowWriter;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

fn trace() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let parameters = Parameters { calls: 500, ..Parameters::default() };
    let trace = fixture::write(&directory.path().join("t"), &parameters);
    (directory, trace)
}

const CALLS: &str = "calls/part-00000.parquet";

fn edit_manifest(trace: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let file = trace.join("trace.json");
    let mut json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut json);
    fs::write(file, serde_json::to_vec(&json).unwrap()).unwrap();
}

/// Makes the manifest agree with a file that a test has changed.
fn list_again(trace: &Path, file: &str, rows: u64) {
    let writer = TraceWriter { directory: trace.to_owned(), trace_id: "trace-a".to_owned() };
    let mut manifest = fixture::read_manifest(trace);
    manifest.parts.retain(|part| part.file != file);
    manifest.parts.push(writer.listed(&tables::CALLS, file, rows));
    fixture::write_manifest(trace, &manifest);
}

#[test]
fn what_is_no_trace() {
    let (directory, trace) = trace();
    refuses(&run(&["summary", "/nonexistent"]), 3, "/nonexistent is not a trace: No such file");
    refuses(&on("summary", directory.path(), &[]), 3, "it holds no trace.json; give the directory that");
    refuses(&on("summary", &trace.join("trace.json"), &[]), 3, "it is a file");
    fs::write(trace.join("trace.json"), "{not json").unwrap();
    refuses(&on("summary", &trace, &[]), 3, "not a manifest of a trace");
    fs::write(trace.join("trace.json"), "{}").unwrap();
    refuses(&on("summary", &trace, &[]), 3, "has no format_version");
    fs::remove_file(trace.join("trace.json")).unwrap();
    fs::create_dir(trace.join("trace.json")).unwrap();
    refuses(&on("summary", &trace, &[]), 3, "not a regular file");
}

#[test]
fn a_newer_version_is_refused_before_anything_else() {
    let (_directory, trace) = trace();
    // Nothing else of it need make sense.
    let (current, newer) = (FormatVersion::CURRENT.0, FormatVersion::CURRENT.0 + 1);
    fs::write(trace.join("trace.json"), format!(r#"{{"format_version": {newer}, "everything": "else"}}"#)).unwrap();
    for command in ["summary", "latency", "show", "verify"] {
        let output = on(command, &trace, &[]);
        let text = format!("has format version {newer}; this ipc-analyzer reads up to {current}: update ipc-analyzer");
        refuses(&output, 3, &text);
    }
    fs::write(trace.join("trace.json"), r#"{"format_version": 99999999999}"#).unwrap();
    refuses(&on("summary", &trace, &[]), 3, "update ipc-analyzer");
    fs::write(trace.join("trace.json"), r#"{"format_version": 0}"#).unwrap();
    refuses(&on("summary", &trace, &[]), 3, "never existed");
}

#[test]
fn a_manifest_cannot_point_outside() {
    for file in ["/etc/passwd", "../t/calls/part-00000.parquet", "calls/../../x.parquet", ""] {
        let (_directory, trace) = trace();
        edit_manifest(&trace, |json| json["parts"][0]["file"] = file.into());
        refuses(&on("summary", &trace, &[]), 3, "outside the trace");
    }
    let (_directory, trace) = trace();
    edit_manifest(&trace, |json| json["parts"][0]["file"] = "session/part-00000.parquet".into());
    refuses(&on("summary", &trace, &[]), 3, "not in the folder calls");
}

#[test]
fn a_manifest_that_contradicts_itself() {
    let (_directory, trace) = trace();
    edit_manifest(&trace, |json| json["parts"][0]["checksum"] = "md5:1".into());
    refuses(&on("summary", &trace, &[]), 3, "no checksum of the form xxh3_128:");
    edit_manifest(&trace, |json| json["parts"][1] = json["parts"][0].clone());
    refuses(&on("summary", &trace, &[]), 3, "");
    let (_directory, trace) = self::trace();
    edit_manifest(&trace, |json| json["parts"][0]["rows"] = 7.into());
    refuses(&on("summary", &trace, &[]), 3, "holds 250 rows, trace.json lists 7");
    let (_directory, trace) = self::trace();
    edit_manifest(&trace, |json| json["session"]["end_ns"] = 7.into());
    refuses(&on("summary", &trace, &[]), 3, "says end_ns = 7, the table session says");
    let (_directory, trace) = self::trace();
    edit_manifest(&trace, |json| {
        let twice = json["parts"][0].clone();
        json["parts"].as_array_mut().unwrap().push(twice);
    });
    refuses(&on("summary", &trace, &[]), 3, "listed twice");
}

#[test]
fn files_that_are_missing_or_damaged() {
    let (_directory, trace) = trace();
    let file = trace.join(CALLS);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 100]).unwrap();
    refuses(&on("summary", &trace, &[]), 3, "truncated");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&file, &flipped).unwrap();
    for command in ["summary", "latency"] {
        refuses(&on(command, &trace, &[]), 3, "checksum differs from trace.json");
    }
    let output = on("verify", &trace, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stdout(&output).contains("DAMAGED"), "{}", stdout(&output));
    fs::remove_file(&file).unwrap();
    refuses(&on("summary", &trace, &[]), 3, "listed in trace.json but not there");
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    refuses(&on("summary", &trace, &[]), 3, "not a regular file");
}

#[test]
fn files_that_are_no_part_of_a_trace() {
    let (_directory, trace) = trace();
    for content in [&b""[..], b"PAR1", b"hello, this is no Parquet file", b"PAR1aaaaaaaaaaaaaa\xff\xff\xff\x7fPAR1"] {
        fs::write(trace.join(CALLS), content).unwrap();
        list_again(&trace, CALLS, 1);
        refuses(&on("summary", &trace, &[]), 3, "not a Parquet file, or truncated");
    }
    let foreign: [(ArrayRef, &str, &str); 2] = [
        (Arc::new(Int64Array::from(vec![1, 2])), "x", "has no column trace_id: not a part of the table calls"),
        (Arc::new(Int64Array::from(vec![1, 2])), "trace_id", "column trace_id is Int64, the table calls wants Utf8"),
    ];
    for (array, name, said) in foreign {
        write_parquet(&trace.join(CALLS), &RecordBatch::try_from_iter([(name, array)]).unwrap());
        list_again(&trace, CALLS, 2);
        refuses(&on("latency", &trace, &[]), 3, said);
    }
    let output = on("verify", &trace, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn columns_of_other_versions() {
    let (_directory, trace) = trace();
    let calls: Vec<_> = fixture::calls(&Parameters { calls: 500, ..Parameters::default() }).take(250).collect();
    let batch = fixture::call_batch("trace-a", &calls);
    let before = on("latency", &trace, &["--format", "json"]);
    // A later version's column is not looked at; a column that an older version lacks is NULL.
    let without_error = batch.schema().index_of("error").unwrap();
    let mut columns: Vec<(String, ArrayRef)> = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| (field.name().clone(), array.clone()))
        .collect();
    columns.remove(without_error);
    columns.push(("of_tomorrow".to_owned(), Arc::new(StringArray::from(vec!["x"; 250]))));
    write_parquet(&trace.join(CALLS), &RecordBatch::try_from_iter(columns).unwrap());
    list_again(&trace, CALLS, 250);
    let after = on("latency", &trace, &["--format", "json"]);
    assert!(after.status.success(), "{}", stderr(&after));
    let rows = |output: &std::process::Output| -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["rows"].clone()
    };
    assert_eq!(rows(&before), rows(&after));
}

#[test]
fn a_part_that_is_not_listed_is_read_and_reported() {
    let (_directory, trace) = trace();
    let before = crate::rows("latency", &trace, &[]);
    let mut manifest = fixture::read_manifest(&trace);
    manifest.parts.retain(|part| part.file != CALLS);
    fixture::write_manifest(&trace, &manifest);
    assert_eq!(crate::rows("latency", &trace, &[]), before);
    let output = on("latency", &trace, &[]);
    assert!(stdout(&output).contains("not listed in trace.json"), "{}", stdout(&output));
    let strict = on("latency", &trace, &["--strict"]);
    assert_eq!(strict.status.code(), Some(3));
    assert!(stderr(&strict).contains("--strict"));
    // The recorder's unfinished files are not parts.
    fs::write(trace.join("calls/.part-00007.parquet"), "x").unwrap();
    assert_eq!(crate::rows("latency", &trace, &[]), before);
}

#[test]
fn an_incomplete_trace_is_read_and_marked() {
    let directory = TempDir::new().unwrap();
    let parameters = Parameters { calls: 500, complete: false, ..Parameters::default() };
    let trace = fixture::write(directory.path(), &parameters);
    let output = on("summary", &trace, &[]);
    assert!(output.status.success());
    assert!(stdout(&output).contains("did not end properly"), "{}", stdout(&output));
    assert_eq!(on("summary", &trace, &["--strict"]).status.code(), Some(3));
}

#[test]
fn losses_come_first_and_strict_refuses_them() {
    let directory = TempDir::new().unwrap();
    let losses = vec![("ring_full", Some(1), Some(40)), ("ring_full", Some(0), Some(2)), ("x32", None, Some(7))];
    let parameters = Parameters { calls: 500, losses, ..Parameters::default() };
    let trace = fixture::write(directory.path(), &parameters);
    for command in ["summary", "latency", "verify"] {
        let output = on(command, &trace, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.starts_with("! LOST 42 calls (ring_full on CPUs 0 1, 1.00 ms to 2.00 ms"), "{text}");
        assert_eq!(on(command, &trace, &["--strict"]).status.code(), Some(3));
    }
    let shown = on("show", &trace, &["--limit", "1"]);
    assert!(stderr(&shown).contains("LOST 42 calls"));
    let json: serde_json::Value = serde_json::from_slice(&on("latency", &trace, &["--format", "json"]).stdout).unwrap();
    assert_eq!(json["losses"][0]["count"], 42);
    assert_eq!(json["losses"][1]["source"], "x32");
    let strict = on("summary", &trace, &["--strict"]);
    assert!(stderr(&strict).contains("--strict: LOST 42 calls"));
}

#[test]
fn verify_finds_what_checksums_cannot() {
    let (_directory, trace) = trace();
    assert!(on("verify", &trace, &[]).status.success());
    let mut calls: Vec<_> = fixture::calls(&Parameters { calls: 500, ..Parameters::default() }).take(250).collect();
    calls.swap(10, 11);
    calls[20].call_id = 21;
    calls[30].duration_ns = calls[30].duration_ns.map(|ns| ns + 1);
    calls[40].pid = 77;
    calls[50].operations = 9;
    write_parquet(&trace.join(CALLS), &fixture::call_batch("trace-b", &calls));
    list_again(&trace, CALLS, 250);
    let output = on("verify", &trace, &["--format", "jsonl"]);
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    let damaged: Vec<&str> = text.lines().filter(|line| line.contains("DAMAGED")).collect();
    for rule in ["trace_id", "rise in end_ns", "call_id is unique", "sem_ops", "processes", "threads"] {
        assert!(damaged.iter().any(|line| line.contains(rule)), "{rule} in {damaged:#?}");
    }
}

#[test]
fn usage_errors() {
    let (_directory, trace) = trace();
    for (arguments, said) in [
        (&["--syscall", "semopp"][..], "no operation"),
        (&["--syscall", "%semm"], "there are %sem %shm %msg %mq %sig"),
        (&["--since", "yesterday"], "expected RFC 3339"),
        (&["--object", "sem"], "is no object"),
        (&["--by", "colour"], "possible values"),
        (&["--format", "xml"], "possible values"),
    ] {
        let output = on("latency", &trace, arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let twice = run(&["summary", trace.to_str().unwrap(), trace.to_str().unwrap()]);
    refuses(&twice, 2, "is given twice");
    refuses(&on("verify", &trace, &["--pid", "1"]), 2, "leave out the filters");
    assert_eq!(run(&["summary"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}
