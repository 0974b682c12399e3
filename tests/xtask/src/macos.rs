//! `cargo xtask check-macos`: type-checks the analyzer for macOS without a Mac.
//!
//! Debian's rustc builds the standard library from its source, and Zig, from PyPI, is the C compiler that knows macOS's
//! headers.

use crate::command::{cargo, run as run_to_end};
use crate::setup::{self, Consent, Need};
use crate::{Result, place};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const TRIPLE: &str = "aarch64-apple-darwin";

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Macos], Consent::from_options(options)?)?;
    check()
}

/// The check; everything is installed.
pub fn check() -> Result {
    let compiler = compiler()?;
    let mut check = cargo();
    check.args([
        "check",
        "--locked",
        "--profile",
        "ci",
        "--package",
        "ipc-analyzer",
        "--target",
        TRIPLE,
        "-Z",
        "build-std=std,panic_unwind",
    ]);
    // Debian's compiler is a stable one; the variable lets it build the standard library.
    check.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    check.env("CARGO_TARGET_DIR", place::target("macos"));
    run_to_end(check.env("CC_aarch64_apple_darwin", compiler).env("AR_aarch64_apple_darwin", "true"))
}

/// A C compiler for macOS: Zig takes its own form of the target's name, so what the cc crate adds is dropped.
fn compiler() -> Result<PathBuf> {
    let path = place::target("macos").join("cc");
    let script = format!(
        "#!/bin/bash\n# Written by cargo xtask check-macos.\nkept=()\nfor argument; do\n  case $argument in\n    \
         --target=*|-mmacosx-version-min=*|-isysroot|-arch|arm64) ;;\n    *) kept+=(\"$argument\") ;;\n  esac\ndone\n\
         exec {} -m ziglang cc -target aarch64-macos \"${{kept[@]}}\"\n",
        place::python().display()
    );
    let written = fs::create_dir_all(place::target("macos"))
        .and_then(|()| fs::write(&path, script))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
    written.map(|()| path.clone()).map_err(|error| format!("{}: {error}", path.display()))
}
