//! The builds: static, so that one binary runs on the host, in an empty root and in the virtual machine.

use crate::command::{cargo, output, run};
use crate::{Result, place};
use std::path::PathBuf;
use std::process::Command;

/// The programs of this repository that users run.
pub const PROGRAMS: [&str; 3] = ["ipc-recorder", "ipc-analyzer", "ipc-workload"];

/// A cargo profile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Optimised but quick to build: demo, tests, virtual machine. One build serves them all.
    Ci,
    /// What is shipped and measured.
    Release,
}

impl Profile {
    /// The name cargo knows.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Ci => "ci",
            Profile::Release => "release",
        }
    }

    /// The folder with the programs.
    pub fn folder(self) -> PathBuf {
        place::target(&triple()).join(self.name())
    }
}

/// `x86_64-unknown-linux-gnu`. Naming the target keeps the flags below from the build scripts and procedural macros,
/// which cannot be static.
pub fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// `cargo SUBCOMMAND` that builds static programs for [`triple`].
pub fn static_cargo(subcommand: &[&str]) -> Command {
    let mut command = cargo();
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", triple().to_uppercase().replace('-', "_"));
    command.args(subcommand).args(["--locked", "--target", &triple()]).env(flags, "-C target-feature=+crt-static");
    command
}

/// Builds these programs. `--workspace`, whatever is asked for: cargo then gives every dependency the same features, and
/// builds the large ones once.
pub fn build(profile: Profile, programs: &[&str]) -> Result {
    let mut command = static_cargo(&["build", "--workspace", "--profile", profile.name()]);
    command.args(programs.iter().flat_map(|program| ["--bin", program]));
    run(&mut command)
}

/// Builds one test binary and returns its path.
pub fn test_binary(profile: Profile, name: &str) -> Result<PathBuf> {
    let mut command = static_cargo(&["test", "--workspace", "--no-run", "--profile", profile.name()]);
    command.args(["--test", name, "--message-format", "json"]);
    let messages = output(&mut command)?;
    let executable = |line: &str| Some(line.split_once(r#""executable":""#)?.1.split_once('"')?.0.to_owned());
    let mut paths = messages.lines().filter_map(executable).map(PathBuf::from);
    let is_it =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}-")));
    paths.find(is_it).ok_or_else(|| format!("cargo built no test binary {name}"))
}
