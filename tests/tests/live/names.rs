//! Names that programs chose to do harm: they reach no terminal and no spreadsheet, break no JSON, and stay distinct.

use ipc_tests::environment::Live;
use ipc_tests::packs::packed;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes that are a name of a thread and of a queue, and the text that stands for them in a trace.
const NAMES: &[(&[u8], &str)] = &[
    (b"\x1b]0;owned\x07", "\x1b]0;owned\x07"),
    (b"\x1b[2J\x1b[31mred", "\x1b[2J\x1b[31mred"),
    (b"\xc2\x9b2J", "\u{9b}2J"), // CSI in one character
    (b"two\nlines\r", "two\nlines\r"),
    (b"\n", "\n"),
    (b"end\n", "end\n"),
    (b"end", "end"),
    (b"tab\there", "tab\there"),
    (b"\"it's\",x", "\"it's\",x"),
    (b"=1+cmd|'x'!A0", "=1+cmd|'x'!A0"),
    (b"+1", "+1"),
    (b"-1+2", "-1+2"),
    (b"@SUM(A1)", "@SUM(A1)"),
    (b"\xef\xbc\x9d1+1", "\u{ff1d}1+1"), // a wide equals sign
    (b"\t=1", "\t=1"),
    (b"\xe2\x80\xaegnp.exe", "\u{202e}gnp.exe"),
    (b"gnp.exe", "gnp.exe"),
    (b"a\xe2\x80\x8bb", "a\u{200b}b"),
    (b"ab", "ab"),
    (b"a\xff", "a\u{fffd}ff"),
    (b"a\xfe", "a\u{fffd}fe"),
    (b"\xe2\x82", "\u{fffd}e2\u{fffd}82"),
    (b"\xef\xbf\xbdff", "\u{fffd}ef\u{fffd}bf\u{fffd}bdff"),
    (b"back\\nslash", "back\\nslash"),
    (b"back\nslash", "back\nslash"),
    (b"<img src=x>", "<img src=x>"),
    (b"%s%n) S 1 (x", "%s%n) S 1 (x"),
    (b"\x7f", "\x7f"),
];

/// A folder, an argument and a trace of such names.
const FOLDER: &[u8] = b"=\x1b[31m\xe2\x80\xaefolder\n\xff";
const FORMATS: [&str; 4] = ["text", "json", "jsonl", "csv"];

fn name(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The program in a folder with a hostile name.
fn program(recording: &Recording) -> Option<PathBuf> {
    let folder = recording.folder().join(name(FOLDER));
    fs::create_dir(&folder).unwrap();
    programs::compile("named", &["-O1", "-pthread"], &folder)
}

fn arguments(mode: &str, key: &str) -> Vec<OsString> {
    let names = NAMES.iter().map(|(bytes, _)| hexadecimal(bytes));
    let words = [mode.to_owned(), key.to_owned()].into_iter().chain(names).map(OsString::from);
    words.chain(["--".into(), name(FOLDER)]).collect()
}

/// What a terminal obeys, or what makes text look like another.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| {
        let is_hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        c == '\n' || !(c.is_control() || is_hidden)
    })
}

/// The cells of a line of CSV that this analyzer writes: no cell has a line end.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                cell.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    assert!(!quoted, "{line}");
    cells.push(cell);
    cells
}

fn is_formula(cell: &str) -> bool {
    let begins = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    begins && cell.parse::<f64>().is_err()
}

/// Everything that the analyzer says of a trace.
fn check_answers(trace: &Path) {
    for command in programs::answering_commands().iter().filter(|command| *command != "diff") {
        for format in FORMATS {
            let by: &[&str] = if command == "latency" { &["--by", "comm,object,syscall"] } else { &[] };
            let mut asked = Command::new(programs::path("ipc-analyzer"));
            let output =
                asked.arg(command).arg(trace).args(["--limit", "0", "--format", format]).args(by).output().unwrap();
            let what = format!("{command} --format {format} {}", trace.display());
            let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
            assert!(output.status.success(), "{what}: {}", texts[1]);
            texts.iter().for_each(|text| assert!(is_harmless(text), "{what}: {text:?}"));
            match format {
                "json" => drop(serde_json::from_str::<serde_json::Value>(&texts[0]).unwrap()),
                "jsonl" => {
                    texts[0].lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()))
                }
                "csv" => {
                    let width = texts[0].lines().next().map(|line| cells(line).len());
                    for line in texts[0].lines().map(cells) {
                        assert_eq!(Some(line.len()), width, "{what}: {line:?}");
                        assert!(!line.iter().any(|cell| is_formula(cell)), "{what}: {line:?}");
                    }
                }
                _ => {}
            }
        }
    }
}

fn expected() -> BTreeSet<String> {
    NAMES.iter().map(|(_, text)| (*text).to_owned()).collect()
}

/// The texts of a column among those of the names.
fn texts(trace: &Trace, table: &str, column: &str) -> BTreeSet<String> {
    trace.table(table, &[column]).texts(column).into_iter().flatten().collect()
}

/// Each name is a text of its own, in every table and every form of output.
fn check_distinct(path: &Path) {
    let (trace, expected) = (Trace::open(path), expected());
    for (table, column) in [("calls", "comm"), ("threads", "comm")] {
        let missing: Vec<String> = expected.difference(&texts(&trace, table, column)).cloned().collect();
        assert!(missing.is_empty(), "{table}.{column} lacks {missing:?}");
    }
    let queues: BTreeSet<String> = expected.iter().map(|name| format!("/{name}")).collect();
    for (table, column) in [("calls", "object_name"), ("lifetimes", "name"), ("objects", "name")] {
        let missing: Vec<String> = queues.difference(&texts(&trace, table, column)).cloned().collect();
        assert!(missing.is_empty(), "{table}.{column} lacks {missing:?}");
    }
    for (format, header) in [("text", 1), ("jsonl", 0), ("csv", 1)] {
        let mut asked = Command::new(programs::path("ipc-analyzer"));
        asked.args(["latency", "--by", "comm", "--syscall", "mq_open", "--limit", "0", "--format", format]).arg(path);
        let output = String::from_utf8(asked.output().unwrap().stdout).unwrap();
        let first = |line: &str| match format {
            "csv" => cells(line)[0].clone(),
            "jsonl" => serde_json::from_str::<serde_json::Value>(line).unwrap()["comm"].to_string(),
            _ => line.get(..15).unwrap_or(line).to_owned(),
        };
        let begin = output.lines().position(|line| line.starts_with("comm")).unwrap_or(0) + header;
        let rows = output.lines().skip(begin).take(NAMES.len());
        let shown: BTreeSet<String> = rows.map(first).collect();
        assert_eq!(shown.len(), NAMES.len(), "{format}: {output}");
    }
}

#[test]
fn hostile_names_do_no_harm() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let Some(program) = program(&recording) else { return };
    let path = recording.folder().join(name(b"trace \x1b]0;x\x07\xe2\x80\xae=1"));
    let mut command = Command::new(programs::path("ipc-recorder"));
    command.args(["record", "--cmdline", "--stacks", "--snapshot-every", "500ms", "-o"]).arg(&path).arg("--");
    command.arg(&program).args(arguments("once", "0x5ec2e001"));
    let ended = run(command, recording.folder(), "record").with_code(0);
    assert!(ended.stderr.contains("next: ipc-analyzer summary") && is_harmless(&ended.stderr), "{:?}", ended.stderr);
    check_distinct(&path);
    let manifest = String::from_utf8(fs::read(path.join("trace.json")).unwrap()).unwrap();
    assert!(manifest.contains("named once"), "{manifest}");
    for (tar, arguments) in [("plain.tar", &[][..]), ("redacted.tar", &["--redact"])] {
        packed(&path, &recording.path(tar), arguments);
        check_answers(&recording.path(tar));
    }
    check_answers(&path);
    check_refusals(&recording, &path);
}

/// What the recorder says of paths and commands that it cannot use.
fn check_refusals(recording: &Recording, path: &Path) {
    let nowhere = recording.folder().join(name(b"no\x1b[2J\n\xe2\x80\xae/where"));
    let recorder = |words: &[&str], paths: &[&Path]| {
        let mut command = Command::new(programs::path("ipc-recorder"));
        command.args(words).args(paths).current_dir(recording.folder());
        let ended = run(command, recording.folder(), "refused");
        assert_ne!(ended.code(), 0);
        assert!(!ended.stderr.is_empty() && is_harmless(&ended.stderr), "{words:?}: {:?}", ended.stderr);
    };
    recorder(&["record", "-o"], &[path]);
    recorder(&["record", "-o"], &[&nowhere]);
    recorder(&["record", "-o", "x", "--"], &[&nowhere]);
    recorder(&["record", "-o", "x", "--duration", "1s", "--cgroup", "/no\x1b[2J\u{202e}"], &[]);
    recorder(&["record", "-o", "x", "--duration", "1s", "--syscall", "no\x1b[2J\u{202e}"], &[]);
    recorder(&["snapshot", "-o"], &[path]);
    recorder(&["pack"], &[&nowhere]);
    recorder(&["pack", "-o"], &[path, path]);
}

/// The scan reads `/proc`, which has names in ways of its own.
#[test]
fn hostile_names_that_were_there_before_are_found() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let Some(program) = program(&recording) else { return };
    let mut command = Command::new(program);
    command.args(arguments("wait", "0x5ec2e002"));
    let program = Running::start(command, recording.folder(), "named");
    wait_until("the threads wait", || program.stdout().contains("waiting"));
    let pid = program.pid().to_string();
    let recorder = recording.start_alone(&["--pid", &pid, "--cmdline", "--duration", "2s"]);
    recorder.wait(LONG).with_code(0);
    program.signal(Signal::TERM);
    program.wait(LONG).with_code(0);
    let rows = recording.trace().table("calls", &["comm", "began", "syscall"]);
    let (comms, began) = (rows.texts("comm"), rows.texts("began"));
    let waiting = comms.into_iter().zip(began).filter(|(_, began)| began.as_deref() == Some("before_trace"));
    let waiting: BTreeSet<String> = waiting.filter_map(|(comm, _)| comm).collect();
    assert_eq!(waiting.intersection(&expected()).count(), NAMES.len(), "{waiting:?}");
    let starts = recording.trace().table("threads", &["start_ns"]).integers("start_ns");
    assert!(starts.iter().all(Option::is_some), "{starts:?}");
    check_answers(&recording.trace_path());
}
