//! The analyzer on synthetic traces, through its binary.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod bad_input;
mod contention;
mod corpus;
mod damaged_log;
mod deadlocks;
mod encodings;
mod exports;
mod failures;
mod fixture;
mod leaks;
mod mutate;
mod mutations;
mod objects;
mod packed;
mod queues;
mod races;
mod rewritten;
mod rows;
mod settings;
mod signals;
mod text;

use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary.
fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ipc-analyzer")).args(arguments).env_remove("CLICOLOR_FORCE").output().unwrap()
}

/// Runs `command` on a trace, with further arguments.
fn on(command: &str, trace: &Path, arguments: &[&str]) -> Output {
    let mut all = vec![command, trace.to_str().unwrap()];
    all.extend_from_slice(arguments);
    run(&all)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether a terminal shows all of a text and obeys none of it.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}'))
}

/// The rows of a command that must succeed.
fn rows(command: &str, trace: &Path, arguments: &[&str]) -> Vec<serde_json::Value> {
    let mut all = vec!["--format", "json"];
    all.extend_from_slice(arguments);
    let output = on(command, trace, &all);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["command"], command);
    json["rows"].as_array().unwrap().clone()
}

/// The findings of a command that must succeed: kind, grade, object.
fn findings(command: &str, trace: &Path, arguments: &[&str]) -> Vec<[String; 3]> {
    let found = rows(command, trace, arguments).into_iter().filter(|row| row["section"] == "finding");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    found.map(|row| ["finding", "grade", "object"].map(|name| text(&row[name]))).collect()
}

/// The command fails with `code` and one line on stderr that says `text`; nothing is on stdout.
fn refuses(output: &Output, code: i32, text: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "expected {text:?} in {said:?}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ipc-analyzer:")).count(), 1, "{said:?}");
    assert!(!said.contains("panicked"), "{said:?}");
    assert_eq!(stdout(output), "");
}
