//! What the pages tell a reader to type works, on the sample that is part of the repository.

use ipc_tests::{environment, programs};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const SAMPLE: &str = "samples/traces/contended";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// With the programs.
fn path() -> OsString {
    let folder = programs::path("ipc-analyzer").parent().unwrap().to_owned();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(env!("PATH")))).unwrap()
}

/// The contents of the blocks marked ```language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let mut found = Vec::new();
    for block in text.split(&format!("\n```{language}\n")).skip(1) {
        found.push(block.split("\n```").next().unwrap().to_owned());
    }
    found
}

#[test]
fn the_commands_of_the_pages_work() {
    let mut ran = 0;
    for page in ["README.md", "samples/README.md"] {
        for line in blocks(page, "console").iter().flat_map(|block| block.lines()) {
            let Some(command) = line.strip_prefix("$ ") else { continue };
            let output =
                Command::new("sh").args(["-c", command]).current_dir(root()).env("PATH", path()).output().unwrap();
            assert!(output.status.success(), "{page}: {command}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!output.stdout.is_empty(), "{page}: {command} printed nothing");
            ran += 1;
        }
    }
    assert!(ran >= 5, "only {ran} commands were found");
    println!("{ran} commands");
}

/// Each answers a question from a sample, and prints what it says.
#[test]
fn the_guides_print_what_they_say() {
    for page in ["docs/guides/duckdb.md", "docs/guides/pandas.md", "docs/guides/polars.md", "docs/fleet.md"] {
        let Some(python) = environment::python() else { return };
        let mut guide = programs::script(python, "guide.py");
        let output = guide.arg(page).env("PATH", path()).current_dir(root()).output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_sql_of_the_pages_works() {
    let Some(python) = environment::python() else { return };
    let mut query = programs::script(python, "queries.py");
    let sql: Vec<String> = ["docs/queries.md", "docs/format.md"].iter().flat_map(|page| blocks(page, "sql")).collect();
    assert!(sql.len() >= 3, "only {} queries were found", sql.len());
    query.args(sql.iter().map(|text| text.replace("TRACE", SAMPLE))).current_dir(root());
    let output = query.output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The first two rows of `ipc-analyzer summary` are those of its definition in docs/queries.md.
#[test]
fn summary_is_what_its_definition_computes() {
    let Some(python) = environment::python() else { return };
    let sql = blocks("docs/queries.md", "sql")[0].replace("TRACE", SAMPLE);
    let expected = programs::script(python, "queries.py").arg(sql).current_dir(root()).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let summary = programs::analyzer(&["summary", "--format", "json"], &root().join(SAMPLE)).output().unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary.stdout).unwrap();
    let mut compared = 0;
    for line in expected.lines().take(2) {
        let cells: Vec<&str> = line.split('\t').collect();
        let rows = summary["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["section"] == "syscall" && row["syscall"] == cells[0]).unwrap();
        for (column, cell) in ["calls", "errors", "total_ns"].into_iter().zip(&cells[1..]) {
            assert_eq!(row[column].to_string(), *cell, "{} of {}", column, cells[0]);
        }
        compared += 1;
    }
    assert_eq!(compared, 2, "{expected}");
}
