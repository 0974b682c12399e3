//! `cargo xtask test`: what must hold before a change goes in. `.ci/run` calls it.

use crate::build::{self, Profile, static_cargo};
use crate::command::{cargo, command, run as run_to_end};
use crate::setup::{self, Consent, Need};
use crate::steps::Steps;
use crate::{Result, dist, licences, macos, package, place, vm};
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// From where the random tests start.
#[derive(Clone, Copy)]
pub struct Seed(pub u64);

impl Seed {
    /// `IPC_SEED`, to repeat a run; else a new one.
    pub fn choose() -> Result<Seed> {
        match std::env::var("IPC_SEED") {
            Ok(text) => text.parse().map(Seed).map_err(|_| format!("IPC_SEED={text} is not a number")),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(Seed(u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)))
            }
        }
    }
}

/// The command.
pub fn run(options: &[String]) -> Result {
    let seed = Seed::choose()?;
    eprintln!("seed {} (repeat with IPC_SEED={})", seed.0, seed.0);
    let mut steps = Steps::new();
    let result = run_steps(&mut steps, options, seed);
    steps.print();
    eprintln!("seed {}", seed.0);
    result
}

fn run_steps(steps: &mut Steps, options: &[String], seed: Seed) -> Result {
    let needs = [Need::Build, Need::Test, Need::Vm, Need::Macos, Need::Package];
    let plan = setup::plan(&needs, Consent::from_options(options)?)?;
    steps.step("format", format)?;
    // Before anything is installed: on a bare machine this proves that the analyzer needs none of it.
    steps.step("analyzer, built by itself", || build::build(Profile::Ci, &["ipc-analyzer"]))?;
    steps.step("setup", || plan.install())?;
    steps.step("licences", licences::check)?;
    steps.step("build", || {
        run_to_end(static_cargo(&["build", "--profile", Profile::Ci.name()]).args(["--workspace", "--all-targets"]))
    })?;
    steps.step("clippy", clippy)?;
    steps.step("root of the virtual machine", vm::prepare)?;
    steps.step("tests", || tests(seed))?;
    steps.step("documentation's tests", || {
        run_to_end(static_cargo(&["test", "--doc", "--profile", Profile::Ci.name()]).arg("--workspace"))
    })?;
    steps.step("static programs in an empty root", || dist::prove(&Profile::Ci.folder()))?;
    steps.step("Debian package", || package::prove(Profile::Ci))?;
    steps.step("kernel matrix", || vm::boot_all(seed))?;
    steps.step("analyzer for macOS, type-checked", macos::check)
}

fn format() -> Result {
    run_to_end(cargo().args(["fmt", "--all", "--", "--check"]))?;
    run_to_end(cargo().args(["fmt", "--manifest-path", "probes/Cargo.toml", "--", "--check"]))
}

fn clippy() -> Result {
    let mut clippy = static_cargo(&["clippy", "--profile", Profile::Ci.name()]);
    run_to_end(clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    clippy_of_the_probes()
}

/// For the machine that they run on, with the clippy of the compiler that builds them.
fn clippy_of_the_probes() -> Result {
    let mut clippy = match setup::debian_clippy() {
        Some(debian) => {
            let mut clippy = command(&debian.to_string_lossy());
            clippy.args(["clippy"]).env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            clippy
        }
        None => {
            let mut clippy = command("rustup");
            clippy.args(["run", "nightly", "cargo", "clippy", "-Z", "build-std=core"]);
            clippy
        }
    };
    clippy.args(["--release", "--locked", "--target", "bpfel-unknown-none", "--", "-D", "warnings"]);
    let target = place::target("probes-clippy");
    run_to_end(clippy.current_dir(place::root().join("probes")).env("CARGO_TARGET_DIR", target))
}

fn tests(seed: Seed) -> Result {
    let mut tests = static_cargo(&["nextest", "run", "--workspace", "--cargo-profile", Profile::Ci.name()]);
    tests.args(["--config-file", "tests/nextest.toml"]);
    set_environment(&mut tests, seed);
    run_to_end(&mut tests)
}

/// What the tests learn from here.
pub fn set_environment(tests: &mut Command, seed: Seed) {
    tests.env("IPC_BIN_DIR", Profile::Ci.folder()).env("IPC_PYTHON", place::python());
    tests.env("IPC_SEED", seed.0.to_string());
    if let Some((kernel, initramfs)) = vm::machine() {
        tests.env("IPC_VM_KERNEL", kernel).env("IPC_VM_INITRAMFS", initramfs);
    }
    if can_record() {
        tests.env("IPC_REQUIRE_LIVE", "1");
    }
}

/// Whether this machine must be able to record, judged without the recorder: where it holds, a live test that skips
/// itself is a failure.
fn can_record() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let has = |capability: u32| capabilities & (1 << capability) != 0;
    // In a user namespace capabilities count for nothing in the kernel at large.
    let is_initial_namespace = read("/proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]);
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    is_initial_namespace && version >= (5, 8) && (has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON)))
}
