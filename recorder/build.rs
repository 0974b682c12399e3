//! Builds the eBPF programs of `../probes` and hands the object to the recorder.
//!
//! Two toolchains can: Debian's `rustc-web` with its prebuilt `core` for BPF, and a rustup nightly with `rust-src`. The
//! one that is found is used and named in `ipc-recorder doctor`. `aya_build` is of no use here: it insists on nightly.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const REMEDY: &str = "run: cargo xtask setup";

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
    }
}

fn build() -> Result<(), String> {
    let root = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("..");
    for watched in ["probes/src", "probes/Cargo.toml", "probes/Cargo.lock", "schema/src", "schema/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rerun-if-env-changed=PATH");
    let linker = find_linker(&root)?;
    let toolchain = Toolchain::find()?;
    println!("cargo::rustc-env=PROBES_TOOLCHAIN={}", toolchain.name());
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = out.join("probes");
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root.join("probes"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", format!("-C linker={} -C link-arg=--btf", linker.display()))
        .env("LD_LIBRARY_PATH", library_path());
    let output = cargo.output().map_err(|e| format!("cannot start cargo for the eBPF programs: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        for line in text.lines() {
            println!("cargo::warning={line}");
        }
        return Err(format!("the eBPF programs in probes/ do not build with {}", toolchain.name()));
    }
    let object = target_dir.join(TARGET).join("release/ipc-probes");
    std::fs::copy(&object, out.join("probes.o")).map_err(|e| format!("cannot copy {}: {e}", object.display()))?;
    Ok(())
}

/// bpf-linker links with the LLVM of the rustc that built it: the outer one.
fn library_path() -> std::ffi::OsString {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = sysroot(Command::new(rustc)).map(|sysroot| sysroot.join("lib"));
    let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = library.into_iter().chain(env::split_paths(&inherited));
    env::join_paths(paths).unwrap_or_else(|_| inherited.clone())
}

/// Where this rustc keeps its libraries, `None` if it cannot be started.
fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}

fn find_linker(root: &Path) -> Result<PathBuf, String> {
    let mut places: Vec<PathBuf> = env::var_os("PATH").map(|p| env::split_paths(&p).collect()).unwrap_or_default();
    places.push(root.join("target/tools/bin"));
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    places.extend(cargo_home.or_else(|| env::home_dir().map(|h| h.join(".cargo"))).map(|h| h.join("bin")));
    let found = places.iter().map(|p| p.join("bpf-linker")).find(|p| p.is_file());
    found
        .and_then(|p| p.canonicalize().ok())
        .ok_or_else(|| format!("bpf-linker is missing, which links the eBPF programs; {REMEDY}"))
}

enum Toolchain {
    /// Debian: rustc-web and libstd-rust-web-dev-bpf.
    Debian,
    /// rustup: nightly with rust-src, which builds `core` itself.
    Nightly,
}

impl Toolchain {
    fn find() -> Result<Toolchain, String> {
        let libraries = |rustc: Command| sysroot(rustc).map(|sysroot| sysroot.join("lib/rustlib"));
        if libraries(Command::new("/usr/bin/rustc")).is_some_and(|l| l.join(TARGET).is_dir()) {
            return Ok(Toolchain::Debian);
        }
        let mut nightly = Command::new("rustup");
        nightly.args(["run", "nightly", "rustc"]);
        if libraries(nightly).is_some_and(|l| l.join("src/rust/library/core").is_dir()) {
            return Ok(Toolchain::Nightly);
        }
        Err(format!(
            "no Rust toolchain here can build eBPF (Debian's rustc-web, or rustup nightly with rust-src); {REMEDY}"
        ))
    }

    fn name(&self) -> &'static str {
        match self {
            Toolchain::Debian => "Debian rustc-web",
            Toolchain::Nightly => "rustup nightly with rust-src",
        }
    }

    fn cargo(&self) -> Command {
        let mut command = match self {
            Toolchain::Debian => {
                let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                scrub(&mut command);
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Toolchain::Nightly => {
                let mut command = Command::new("rustup");
                scrub(&mut command);
                command.args(["run", "nightly", "cargo", "-Z", "build-std=core"]);
                command
            }
        };
        command.env("CARGO_TERM_COLOR", "never");
        command
    }
}

/// What the outer cargo sets for its own build must not reach the inner one.
fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let is_outer = name_text.starts_with("CARGO_")
            && !matches!(&*name_text, "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_HTTP_CAINFO");
        if is_outer || name_text.starts_with("RUSTC") || name_text == "RUSTFLAGS" || name_text == "RUSTUP_TOOLCHAIN" {
            command.env_remove(&name);
        }
    }
}
