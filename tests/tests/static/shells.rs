//! Completions load in each shell, and complete.

use ipc_tests::{environment, programs};
use std::process::Command;

/// The shell; and what loads the completions from stdin's file `$1`, and prints what completes `ipc-analyzer l`.
const SHELLS: [(&str, &str); 3] = [
    (
        "bash",
        "source \"$1\"; COMP_WORDS=(ipc-analyzer l); COMP_CWORD=1; _ipc__analyzer ipc-analyzer l ipc-analyzer; \
         echo \"${COMPREPLY[@]}\"",
    ),
    ("zsh", "autoload -U compinit; compinit -D -u; source \"$1\"; whence -w _ipc-analyzer; functions _ipc-analyzer"),
    ("fish", "source $argv[1]; complete -C 'ipc-analyzer l'"),
];

#[test]
fn completions_load_in_each_shell_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, script) in SHELLS {
        let completions = Command::new(programs::path("ipc-analyzer")).args(["completions", shell]).output().unwrap();
        assert!(completions.status.success() && !completions.stdout.is_empty());
        let path = folder.path().join(shell);
        std::fs::write(&path, completions.stdout).unwrap();
        let mut command = Command::new(shell);
        // No settings of whoever runs the tests.
        match shell {
            "bash" => command.args(["--norc", "-c", script, "test"]),
            "zsh" => command.args(["-f", "-c", script, "test"]),
            _ => command.args(["--no-config", "-c", script]),
        };
        let output = match command.arg(&path).env("HOME", folder.path()).output() {
            Ok(output) => output,
            Err(error) => {
                environment::skip(&format!("there is no {shell}: {error}"));
                continue;
            }
        };
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && wrong.is_empty(), "{shell}: {said}{wrong}");
        for word in ["latency", "leaks"] {
            assert!(said.contains(word), "{shell} does not complete {word}: {said}");
        }
        println!("{shell}: {} lines", said.lines().count());
    }
}
