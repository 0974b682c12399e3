//! What goes to other tools: refused where they would read something else than the analyzer does, and harmless whatever
//! traced programs wrote into names. That the numbers are right is compared with DuckDB, Spark and Perfetto's own schema on
//! recorded traces.

use crate::fixture::{self, Parameters};
use crate::{is_harmless, on, refuses, run, stderr, stdout};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const HOSTILE: [&str; 4] =
    ["<script>alert(1)</script>", "\"><img src=x onerror=y>", "\u{1b}]0;owned\u{7}\n\u{202e}", "=cmd|'/c'!A1;;"];

fn hostile() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let comms = HOSTILE.map(str::to_owned).to_vec();
    let trace = fixture::write(&directory.path().join("t"), &Parameters { calls: 800, comms, ..Parameters::default() });
    (directory, trace)
}

/// Files below a folder, with their contents.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn a_report_runs_nothing_asks_for_nothing_and_shows_every_section() {
    let (directory, trace) = hostile();
    let path = directory.path().join("report.html");
    let written = on("report", &trace, &["-o", path.to_str().unwrap()]);
    assert!(written.status.success(), "{}", stderr(&written));
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page, stdout(&on("report", &trace, &[])), "a file or stdout, the same");
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'"));
    for forbidden in ["<script", "<img", "http://", "https://", "<iframe", "@import", "url(h"] {
        assert!(!page.to_lowercase().contains(forbidden), "{forbidden}");
    }
    assert!(is_harmless(&page), "no control character and no change of direction");
    for section in ["findings", "latency", "contention", "queues", "failures", "deadlocks", "leaks", "signals"] {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section}");
        assert!(page.contains(&format!("href=\"#{section}\"")), "{section}");
    }
    // Its numbers are those of the command that it names.
    let latency = stdout(&on("latency", &trace, &["--by", "syscall", "--format", "csv"]));
    let syscalls: Vec<&str> = latency.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert!(syscalls.len() > 3);
    for syscall in syscalls {
        assert!(page.contains(&format!("<td>{syscall}</td>")), "{syscall}");
    }
}

#[test]
fn names_do_no_harm_in_any_export() {
    let (directory, trace) = hostile();
    for form in ["chrome", "folded"] {
        let exported = stdout(&on("export", &trace, &["--to", form]));
        assert!(!exported.is_empty() && !exported.contains('\u{1b}'), "{form}");
        if form == "chrome" {
            let json: serde_json::Value = serde_json::from_str(&exported).unwrap();
            assert!(json["traceEvents"].as_array().unwrap().len() >= 800);
        } else {
            assert!(
                is_harmless(&exported)
                    && exported.lines().all(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().is_ok())
            );
            assert!(!exported.contains(";;"), "what separates frames is in no name");
        }
    }
    let tables = directory.path().join("tables");
    let written = on("export", &trace, &["--to", "csv", "-o", tables.to_str().unwrap()]);
    assert!(written.status.success(), "{}", stderr(&written));
    let calls = fs::read_to_string(tables.join("calls.csv")).unwrap();
    assert_eq!(calls.lines().count(), 801);
    assert!(is_harmless(&calls) && !calls.split(',').any(|cell| cell.starts_with('=')), "no formula");
    assert_eq!(fs::read_dir(&tables).unwrap().count(), ipc_schema::tables::TABLES.len());
}

#[test]
fn a_lake_holds_the_files_as_they_are_and_a_trace_once() {
    let (directory, trace) = hostile();
    let lake = directory.path().join("lake");
    let export = |trace: &Path| on("export", trace, &["--to", "lake", "-o", lake.to_str().unwrap()]);
    assert!(export(&trace).status.success());
    let first = files(&lake);
    assert!(export(&trace).status.success());
    assert!(first == files(&lake), "a second time changes nothing");
    let manifest = fixture::read_manifest(&trace);
    assert_eq!(first.len(), manifest.parts.len());
    for part in &manifest.parts {
        let content = fs::read(trace.join(&part.file)).unwrap();
        let held = first.iter().filter(|(path, of)| path.starts_with(lake.join(&part.table)) && *of == content);
        assert_eq!(held.count(), 1, "{}", part.file);
    }
    let place = first[0].0.strip_prefix(&lake).unwrap().to_string_lossy().into_owned();
    assert!(
        place.contains("/host=") && place.contains("/date=20") && place.contains("/trace_id=trace-a/part-"),
        "{place}"
    );
    // A part that was damaged goes nowhere.
    let part = trace.join(&manifest.parts[0].file);
    let mut content = fs::read(&part).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&part, content).unwrap();
    let refused = export(&trace);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(first == files(&lake), "what was there before is there still, and nothing else");
}

#[test]
fn what_sql_would_read_otherwise_is_refused() {
    let (directory, trace) = hostile();
    let views = |path: &Path| run(&["views", path.to_str().unwrap()]);
    let made = stdout(&views(&trace));
    assert!(made.contains("CREATE OR REPLACE VIEW contention AS") && made.contains("/calls/part-*.parquet"), "{made}");
    let strange = directory.path().join("a[1]");
    fixture::write(&strange, &Parameters { calls: 10, ..Parameters::default() });
    refuses(&views(&strange), 2, "as a pattern");
    let tar = directory.path().join("t.tar");
    let mut builder = tar::Builder::new(fs::File::create(&tar).unwrap());
    builder.append_dir_all("t", &trace).unwrap();
    builder.finish().unwrap();
    refuses(&views(&tar), 2, "tar -xf");
    refuses(&run(&["views", "s3://bucket/lake", trace.to_str().unwrap()]), 2, "is a lake: give it alone");
    refuses(&views(&directory.path().join("nowhere")), 3, "is not a trace");
    let remote = stdout(&run(&["views", "--dialect", "spark", "s3a://bucket/it's/"]));
    assert!(remote.contains("OPTIONS (path 's3a://bucket/it\\'s/calls'"), "{remote}");
}

#[test]
fn exports_that_make_no_sense_are_refused() {
    let (directory, trace) = hostile();
    let folder = directory.path().join("x");
    let folder = folder.to_str().unwrap();
    refuses(&on("export", &trace, &["--to", "lake", "-o", folder, "--pid", "1001"]), 2, "leave out the filters");
    refuses(&on("export", &trace, &["--to", "csv"]), 2, "-o FOLDER");
    refuses(&on("export", &trace, &["--to", "perfetto", "-o", "/nowhere/x"]), 2, "/nowhere/x");
    refuses(&on("report", &trace, &["-o", "/nowhere/x"]), 2, "/nowhere/x");
}
