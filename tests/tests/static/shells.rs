//! Completions load in each shell, and complete; and every command tells how it is used.

use ipc_tests::{environment, programs};
use std::path::Path;
use std::process::{Command, Output};

/// The programs, and words that complete their `re`.
const PROGRAMS: [(&str, &[&str]); 2] = [("ipc-analyzer", &["repair", "report"]), ("ipc-recorder", &["record"])];

/// The shell; and what loads the completions from the file `$1`, and prints what completes `PROGRAM re`.
const SHELLS: [(&str, &str); 3] = [
    (
        "bash",
        "source \"$1\"; COMP_WORDS=(PROGRAM re); COMP_CWORD=1; _FUNCTION PROGRAM re PROGRAM; echo \"${COMPREPLY[@]}\"",
    ),
    ("zsh", "autoload -U compinit; compinit -D -u; source \"$1\"; whence -w _PROGRAM; functions _PROGRAM"),
    ("fish", "source $argv[1]; complete -C 'PROGRAM re'"),
];

#[test]
fn completions_load_in_each_shell_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    for (program, words) in PROGRAMS {
        for (shell, script) in SHELLS {
            let completions = Command::new(programs::path(program)).args(["completions", shell]).output().unwrap();
            assert!(completions.status.success() && !completions.stdout.is_empty());
            let path = folder.path().join(shell);
            std::fs::write(&path, completions.stdout).unwrap();
            let script = script.replace("FUNCTION", &program.replace('-', "__")).replace("PROGRAM", program);
            let output = match run(shell, &script, &path) {
                Ok(output) => output,
                Err(error) => {
                    environment::skip(&format!("there is no {shell}: {error}"));
                    continue;
                }
            };
            let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && wrong.is_empty(), "{shell}: {said}{wrong}");
            for word in words {
                assert!(said.contains(word), "{shell} does not complete {word}: {said}");
            }
            println!("{program}, {shell}: {} lines", said.lines().count());
        }
    }
}

/// With no settings of whoever runs the tests.
fn run(shell: &str, script: &str, completions: &Path) -> std::io::Result<Output> {
    let mut command = Command::new(shell);
    match shell {
        "bash" => command.args(["--norc", "-c", script, "test"]),
        "zsh" => command.args(["-f", "-c", script, "test"]),
        _ => command.args(["--no-config", "-c", script]),
    };
    command.arg(completions).env("HOME", completions.parent().unwrap()).output()
}

/// The examples name only options that there are.
#[test]
fn every_command_has_examples_of_its_use() {
    let mut seen = 0;
    for (program, _) in PROGRAMS {
        for name in programs::commands(program) {
            let help = programs::help(program, &[&name]);
            let examples =
                help.split_once("Examples:\n").unwrap_or_else(|| panic!("{program} {name} has no examples")).1;
            let lines: Vec<&str> =
                examples.lines().filter(|line| line.contains(&format!("{program} {name}"))).collect();
            assert!(!lines.is_empty(), "{program} {name}: {examples}");
            for option in lines.iter().flat_map(|line| line.split_whitespace()).filter(|word| word.starts_with("--")) {
                assert!(
                    option == "--" || help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                    "{name} has no {option}"
                );
            }
            seen += lines.len();
        }
    }
    println!("{seen} examples");
}
