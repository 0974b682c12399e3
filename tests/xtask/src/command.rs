//! Other programs: started with a known environment, their failures told in one line.

use crate::{Result, place};
use std::process::{Command, Stdio};

/// What cargo sets for the program it runs and a cargo started from there must not inherit, and what would change the
/// flags of the builds.
const SCRUBBED: &[&str] = &["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"];

/// A program looked up in [`place::search_path`], run in the root of the repository.
pub fn command(program: &str) -> Command {
    let path = std::env::join_paths(place::search_path()).unwrap_or_default();
    let mut command = Command::new(place::program(program).unwrap_or_else(|| program.into()));
    command.current_dir(place::root()).env("PATH", path);
    for name in SCRUBBED {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo, building below `target/` whatever the environment says.
pub fn cargo() -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(&cargo);
    command.env("CARGO_TARGET_DIR", place::root().join("target"));
    command
}

/// Runs a command to its end; anything but success is an error that names it.
pub fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", line(command))) }
}

/// Now in UTC, in a format of date(1).
pub fn now(format: &str) -> Result<String> {
    Ok(output(command("date").args(["--utc", format]))?.trim().to_owned())
}

/// Runs a command and returns what it wrote to stdout; its stderr is shown only on failure.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(command, &error))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|_| format!("`{}` printed no UTF-8", line(command)));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` failed: {}\n{}", line(command), output.status, stderr.trim_end()))
}

/// Whether a command succeeds, in silence.
pub fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// The command as a line that can be typed.
pub fn line(command: &Command) -> String {
    let program = place::short(command.get_program().as_ref());
    let arguments = command.get_args().map(|argument| place::short(argument.as_ref()));
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start `{}`: {error}; `cargo xtask setup` installs what is missing", line(command))
}
