//! What each command prints for chosen samples, byte for byte. Where a change is meant:
//! `UPDATE=1 cargo test -p ipc-tests --test static golden`, and the difference is read before it is committed.

use ipc_tests::programs;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One command on the samples that show something of it. Each is printed for people and as JSON.
struct Case {
    command: &'static str,
    samples: &'static [&'static str],
    arguments: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { command: "summary", samples: &["contended", "battery"], arguments: &["--limit", "12"] },
    Case { command: "latency", samples: &["contended"], arguments: &["--by", "syscall,object"] },
    Case { command: "latency", samples: &["battery"], arguments: &["--by", "error", "--syscall", "%sem,%msg"] },
    Case { command: "failures", samples: &["battery"], arguments: &["--limit", "25"] },
    Case { command: "failures", samples: &["limit"], arguments: &[] },
    Case { command: "contention", samples: &["battery"], arguments: &["--limit", "25"] },
    Case { command: "contention", samples: &["convoy"], arguments: &[] },
    Case { command: "deadlocks", samples: &["deadlock"], arguments: &[] },
    Case { command: "queues", samples: &["back-pressure"], arguments: &[] },
    Case { command: "signals", samples: &["blocked-signal"], arguments: &[] },
    Case { command: "leaks", samples: &["battery"], arguments: &[] },
    Case { command: "races", samples: &["battery"], arguments: &["--limit", "25"] },
    Case { command: "objects", samples: &["battery"], arguments: &["--limit", "15"] },
    Case { command: "diff", samples: &["contended+battery"], arguments: &["--limit", "15"] },
    Case { command: "show", samples: &["battery"], arguments: &["--limit", "40"] },
    Case { command: "verify", samples: &["contended", "battery"], arguments: &[] },
];

/// Two traces at a time.
const PAIRS: &[&str] = &["diff"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// From the root of the repository, so that the paths in it are the same everywhere.
fn analyzer(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(programs::path("ipc-analyzer"));
    command.args(arguments).current_dir(root()).env_remove("CLICOLOR_FORCE");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn differs(file: &Path, shown: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, shown).unwrap();
    }
    let golden = fs::read_to_string(file).unwrap_or_default();
    if golden == shown {
        return None;
    }
    let line = golden.lines().zip(shown.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or(golden.lines().count().min(shown.lines().count()));
    let of = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    Some(format!("{}:{}:\n-{}\n+{}", file.display(), line + 1, of(&golden), of(shown)))
}

/// The files of a case and what the command prints now.
fn printed(case: &Case) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for sample in case.samples {
        let traces: Vec<String> = match PAIRS.contains(&case.command) {
            true => sample.split('+').map(|name| format!("samples/traces/{name}")).collect(),
            false => vec![format!("samples/traces/{sample}")],
        };
        for (format, ending) in [("text", "txt"), ("json", "json")] {
            let traces = traces.iter().map(String::as_str);
            let words = [case.command].into_iter().chain(traces).chain(case.arguments.iter().copied());
            let arguments: Vec<&str> = words.chain(["--format", format]).collect();
            let (code, shown, said) = analyzer(&arguments);
            assert_eq!(code, Some(0), "{arguments:?}: {said}");
            files.push((format!("{}-{sample}.{ending}", case.command), shown));
        }
    }
    files
}

#[test]
fn the_commands_print_what_they_printed() {
    let folder = root().join("tests/golden");
    let (mut differences, mut names) = (Vec::new(), BTreeSet::new());
    for (name, shown) in CASES.iter().flat_map(printed) {
        differences.extend(differs(&folder.join(&name), &shown));
        assert!(names.insert(name.clone()), "two cases write {name}");
    }
    let there: BTreeSet<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let strays: Vec<&String> = there.difference(&names).collect();
    assert!(strays.is_empty(), "no case writes {strays:?} in tests/golden");
    let hint = "if that is meant: UPDATE=1 cargo test -p ipc-tests --test static golden";
    assert!(differences.is_empty(), "{}\n{hint}", differences.join("\n"));
    println!("{} outputs", names.len());
}

/// A command that answers without a golden output is a command that nobody looked at.
#[test]
fn every_command_has_a_golden_output() {
    let names = programs::answering_commands();
    let missing: Vec<&String> = names.iter().filter(|name| CASES.iter().all(|case| case.command != *name)).collect();
    assert!(missing.is_empty(), "without a golden output: {missing:?}");
}
