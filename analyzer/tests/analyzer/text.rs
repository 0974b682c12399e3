//! Text for people: never wider than 80 columns, coloured only on a terminal, and nothing that a traced program chose gets
//! through to it.

use crate::fixture::{self, Parameters};
use crate::rewritten::rewrite;
use crate::{is_harmless, on, stderr, stdout};
use arrow::array::{AsArray, RecordBatch, StringArray};
use ipc_schema::tables::{self, Kind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use tempfile::TempDir;
use unicode_width::UnicodeWidthStr;

const WIDTH: usize = 80;

/// Names as programs give them to their threads, some on purpose.
fn hostile_names() -> Vec<String> {
    let texts = [
        "\u{1b}[31mred\u{1b}[0m",
        "two\nlines\r",
        "\u{202e}gnp.exe",
        "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
        "=cmd|' /C calc'!A0",
        "\u{9b}2J\u{7f}",
        "a\u{200b}b\u{feff}c\u{e0041}",
    ];
    texts.iter().map(|text| (*text).to_owned()).chain(["long ".repeat(60), "w".repeat(300)]).collect()
}

fn hostile_trace(directory: &Path) -> PathBuf {
    let parameters = Parameters {
        trace_id: "\u{1b}]0;title\u{7}".to_owned(),
        calls: 3_000,
        processes: 60,
        comms: hostile_names(),
        losses: vec![("ring_full", Some(1), Some(40)), ("\u{1b}[2J", None, None)],
        ..Parameters::default()
    };
    fixture::write(&directory.join("a directory \u{1b}[32m of many words"), &parameters)
}

/// The real traces of the repository.
pub fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/traces");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 2, "{found:?}");
    found
}

/// What `--help` lists and has `--format`: a new command that answers is put to the test by itself.
pub fn commands() -> Vec<String> {
    let help = stdout(&crate::run(&["--help"]));
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| stdout(&crate::run(&[name, "--help"])).contains("--format "))
        .map(str::to_owned)
        .collect()
}

/// Nothing that a terminal obeys, and no line too long for it.
fn check_lines(what: &str, text: &str, wide_lines: bool) {
    let unsafe_char = text.chars().find(|c| *c != '\n' && ipc_analyzer::human::is_unsafe(*c));
    assert_eq!(unsafe_char, None, "{what}: {text:?}");
    if wide_lines {
        return;
    }
    for line in text.lines() {
        assert!(line.width() <= WIDTH, "{what}: {} columns: {line}", line.width());
    }
}

fn ask(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ipc-analyzer"))
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    let directory = TempDir::new().unwrap();
    let mut traces = samples();
    traces.push(hostile_trace(directory.path()));
    let others: Vec<String> = traces.iter().map(|trace| trace.to_str().unwrap().to_owned()).collect();
    let mut texts = 0;
    for command in commands() {
        for (trace, other) in others.iter().zip(others.iter().cycle().skip(1)) {
            let more: &[&[&str]] = match command.as_str() {
                "latency" => &[&["--by", "syscall,comm,pid,object,error", "--limit", "0"], &["--by", "comm"]],
                _ => &[&["--limit", "0"], &[]],
            };
            for more in more {
                for traces in [&[trace.as_str()][..], &[trace, other]] {
                    let output = ask(&[&[command.as_str()], traces, more].concat(), &[]);
                    let what = format!("{command} {} {more:?}", traces.join(" "));
                    assert!(matches!(output.status.code(), Some(0 | 2)), "{what}: {}", stderr(&output));
                    // One line per call, as strace has it: made to be searched.
                    check_lines(&what, &stdout(&output), command == "show");
                    check_lines(&what, &stderr(&output), !output.status.success());
                    texts += usize::from(output.status.success());
                }
            }
        }
    }
    println!("{texts} texts");
}

#[test]
fn machines_get_what_was_there_and_terminals_do_not() {
    let directory = TempDir::new().unwrap();
    let trace = hostile_trace(directory.path());
    let trace = trace.to_str().unwrap();
    for format in ["json", "jsonl", "csv"] {
        let output = ask(&["latency", trace, "--by", "comm", "--format", format, "--limit", "0"], &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        check_lines(format, &stdout(&output), true);
    }
    let output = ask(&["latency", trace, "--by", "comm", "--format", "json"], &[]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found: Vec<&str> =
        json["rows"].as_array().unwrap().iter().map(|row| row["comm"].as_str().unwrap()).collect();
    let mut expected = hostile_names();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn what_has_no_room_is_named() {
    let directory = TempDir::new().unwrap();
    let trace =
        fixture::write(&directory.path().join("t"), &Parameters { calls: 3_000, open: 0, ..Parameters::default() });
    let trace = trace.to_str().unwrap();
    let text = stdout(&ask(&["latency", trace, "--by", "syscall,comm,pid,object,error"], &[]));
    assert!(text.contains("… no room for "), "{text}");
    assert!(text.contains(": --format json shows all"), "{text}");
    let narrow = stdout(&ask(&["latency", trace], &[]));
    assert!(!narrow.contains("no room for") && narrow.contains("p99.9"), "{narrow}");
}

/// Runs the analyzer with a terminal as its stdout.
fn on_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> Option<String> {
    let words = [env!("CARGO_BIN_EXE_ipc-analyzer")].into_iter().chain(arguments.iter().copied());
    let command: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command.join(" "), "/dev/null"])
        .env_remove("CI") // colours are on there, whatever TERM says
        .env_remove("CLICOLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .envs(environment.iter().copied())
        .output();
    match output {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            println!("skipped: script(1) of bsdutils cannot be started: {error}");
            None
        }
    }
}

#[test]
fn colours_are_for_terminals() {
    let sample = samples()[0].to_str().unwrap().to_owned();
    let latency = ["latency", sample.as_str()];
    let escapes = |text: &str| text.contains('\u{1b}');
    assert!(!escapes(&stdout(&ask(&latency, &[]))));
    assert!(escapes(&stdout(&ask(&latency, &[("CLICOLOR_FORCE", "1")]))));
    assert!(!escapes(&stdout(&ask(&latency, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]))));
    let json = [&latency[..], &["--format", "json"]].concat();
    assert!(!escapes(&stdout(&ask(&json, &[("CLICOLOR_FORCE", "1")]))));
    let Some(shown) = on_a_terminal(&latency, &[]) else { return };
    assert!(escapes(&shown), "{shown:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&latency, &[(name, value)]).unwrap();
        assert!(!escapes(&shown) && shown.contains("syscall"), "{name}: {shown:?}");
    }
    assert!(!escapes(&on_a_terminal(&json, &[]).unwrap()));
}

/// One text column at a time, so that all else leads to where it is printed.
#[test]
fn no_text_of_any_column_reaches_a_terminal_as_it_is() {
    const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{202e}";
    let sample = samples().into_iter().find(|sample| sample.ends_with("battery")).unwrap();
    let mut changed = 0;
    for table in tables::TABLES {
        for column in table.columns.iter().filter(|column| column.kind == Kind::Text && column.name != "trace_id") {
            let directory = TempDir::new().unwrap();
            let trace = directory.path().join("t");
            rewrite(&sample, &trace, table, true, |batch| {
                // The sample is older than some columns.
                let Ok(place) = batch.schema().index_of(column.name) else { return batch };
                let texts = batch.column(place).as_string::<i32>();
                let hostile: StringArray = texts.iter().map(|text| text.map(|_| HOSTILE)).collect();
                let mut columns = batch.columns().to_vec();
                columns[place] = Arc::new(hostile);
                RecordBatch::try_new(batch.schema(), columns).unwrap()
            });
            changed += 1;
            for command in commands().into_iter().filter(|command| command != "diff") {
                let output = on(&command, &trace, &[]);
                for text in [stdout(&output), stderr(&output)] {
                    assert!(is_harmless(&text), "{command} {}.{}: {text:?}", table.name, column.name);
                }
            }
        }
    }
    println!("{changed} columns");
    assert!(changed > 30, "{changed}");
}
