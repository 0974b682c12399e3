//! `cargo xtask soak`: the live tests and those with mutated traces and damaged logs at full counts, with a dated log.

use crate::build::{Profile, static_cargo};
use crate::command::{command, now, output};
use crate::setup::{self, Consent, Need};
use crate::test::{self, Seed};
use crate::{Result, place, vm};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build, Need::Test, Need::Vm], Consent::from_options(options)?)?;
    let folder = place::target("soak");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let date = now("+%Y%m%dT%H%M%SZ")?;
    let path = folder.join(format!("soak-{date}.log"));
    let mut log = fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let seed = Seed::choose()?;
    let machine = output(command("uname").args(["-srvm"]))?;
    let commit = output(command("git").args(["describe", "--always", "--dirty"]))?;
    let _ = writeln!(log, "cargo xtask soak, {date}, {}, seed {}, on {}", commit.trim(), seed.0, machine.trim());

    let mut tests = static_cargo(&["nextest", "run", "--workspace", "--cargo-profile", Profile::Ci.name()]);
    tests.args(["--config-file", "tests/nextest.toml", "--profile", "soak", "-E", &which(options)]);
    test::set_environment(&mut tests, seed);
    tests.env("IPC_SOAK", "1");
    vm::prepare()?;
    let result = run_logged(&mut tests, &mut log);
    eprintln!("log: {}", place::short(&path));
    result
}

/// The tests with full counts, or those of them whose names contain one of the given words: they take hours.
fn which(options: &[String]) -> String {
    let words = options.iter().filter(|option| !option.starts_with('-'));
    let chosen: Vec<String> = words.map(|word| format!("test({word})")).collect();
    let chosen = if chosen.is_empty() { "all()".to_owned() } else { chosen.join(" or ") };
    format!("(binary(live) or test(mutated) or test(damaged_log)) and ({chosen})")
}

/// Shows and keeps what the command prints; nextest reports on stderr.
fn run_logged(command: &mut Command, log: &mut fs::File) -> Result {
    let mut child =
        command.stderr(Stdio::piped()).spawn().map_err(|error| format!("cannot start the tests: {error}"))?;
    let stderr = child.stderr.take().ok_or("the tests have no stderr")?;
    for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
        eprintln!("{line}");
        if line.trim_start().starts_with("Compiling ") {
            continue;
        }
        writeln!(log, "{line}").map_err(|error| format!("cannot write the log: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("cannot wait for the tests: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the tests failed: {status}")) }
}
