//! `cargo xtask setup`: finds what is missing and installs it, below `target/` or, as root on Debian, by apt-get.

use crate::command::{cargo, command, output, run, succeeds};
use crate::{Result, place, vm};
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What a command of `cargo xtask` needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To build the recorder.
    Build,
    /// To run the tests.
    Test,
    /// To boot other kernels.
    Vm,
    /// To measure against peers.
    Bench,
    /// To measure beside PostgreSQL.
    BenchHost,
    /// To type-check for macOS.
    Macos,
    /// To make the Debian package.
    Package,
}

impl Need {
    /// Everything.
    pub const ALL: [Need; 7] =
        [Need::Build, Need::Test, Need::Vm, Need::Bench, Need::BenchHost, Need::Macos, Need::Package];
}

/// How an item is installed.
enum Install {
    /// Debian packages.
    Debian(&'static [&'static str]),
    /// A crate and its version, by cargo, into `target/tools`.
    Cargo(&'static str, &'static str),
    /// [`PYTHON_PACKAGES`] in `target/python`, and [`OLD_DUCKDB`] below it.
    Python,
    /// The kernels of [`vm::KERNELS`], unpacked below `target/vm`.
    Kernels,
}

/// One thing that must be there.
struct Item {
    name: &'static str,
    needed_by: &'static [Need],
    is_present: fn() -> bool,
    install: Install,
    /// What helps where this program cannot install it.
    elsewhere: &'static str,
}

/// Pinned, because a test that compares results with theirs must know whom it compares with.
const PYTHON_PACKAGES: &[&str] = &[
    "chdb==4.4.0",
    "duckdb==2.0.0",
    "pandas==3.1.1",
    "perfetto==0.59.1",
    "polars==2.1.0",
    "posix-ipc==1.3.2",
    "prometheus-client==0.26.0",
    "protobuf==7.36.2",
    "pyarrow==26.0.1",
    "pyspark==4.3.0",
    "sysv-ipc==1.2.0",
    "ziglang==0.17.1",
];

/// One that people still have, in a folder of its own: two of a name do not go together.
const OLD_DUCKDB: (&str, &str) = ("duckdb-old", "duckdb==1.1.3");

/// In the order of installation: a later item may need an earlier one.
const ITEMS: &[Item] = &[
    Item {
        name: "Rust for eBPF",
        needed_by: &[Need::Build],
        is_present: || debian_bpf_toolchain() || nightly_with_source(),
        install: Install::Debian(&["rustc-web", "libstd-rust-web-dev-bpf"]),
        elsewhere: "rustup toolchain install nightly --component rust-src",
    },
    Item {
        name: "bpf-linker",
        needed_by: &[Need::Build],
        is_present: || place::program("bpf-linker").is_some(),
        install: Install::Cargo("bpf-linker", "0.10.3"),
        elsewhere: "",
    },
    Item {
        name: "Clippy for eBPF",
        needed_by: &[Need::Test],
        is_present: || debian_clippy().is_some() || (!debian_bpf_toolchain() && nightly_with_source()),
        install: Install::Debian(&["rust-web-clippy"]),
        elsewhere: "rustup component add --toolchain nightly clippy",
    },
    Item {
        name: "cargo-nextest",
        needed_by: &[Need::Test],
        is_present: || place::program("cargo-nextest").is_some(),
        install: Install::Cargo("cargo-nextest", "0.9.143"),
        elsewhere: "",
    },
    Item {
        name: "cargo-deb",
        needed_by: &[Need::Package],
        is_present: || place::program("cargo-deb").is_some(),
        install: Install::Cargo("cargo-deb", "3.8.0"),
        elsewhere: "",
    },
    Item {
        name: "systemd-analyze, dpkg-deb",
        needed_by: &[Need::Package],
        is_present: || place::program("systemd-analyze").is_some() && place::program("dpkg-deb").is_some(),
        install: Install::Debian(&["systemd", "dpkg"]),
        elsewhere: "install systemd and dpkg",
    },
    Item {
        name: "kernel headers",
        needed_by: &[Need::Test],
        is_present: || Path::new("/usr/include/asm-generic/unistd.h").exists(),
        install: Install::Debian(&["linux-libc-dev"]),
        elsewhere: "install the package with /usr/include/asm-generic/unistd.h (linux-libc-dev, kernel-headers)",
    },
    Item {
        name: "strace",
        needed_by: &[Need::Test, Need::Bench],
        is_present: || place::program("strace").is_some(),
        install: Install::Debian(&["strace"]),
        elsewhere: "install the package strace",
    },
    Item {
        name: "stress-ng",
        needed_by: &[Need::Test],
        is_present: || place::program("stress-ng").is_some(),
        install: Install::Debian(&["stress-ng"]),
        elsewhere: "install the package stress-ng",
    },
    Item {
        name: "Apache httpd",
        needed_by: &[Need::Test],
        is_present: || Path::new("/usr/sbin/apache2").exists() && place::program("ab").is_some(),
        // The programs alone: no server is started.
        install: Install::Debian(&["apache2-bin", "apache2-utils"]),
        elsewhere: "install Apache httpd 2.4 with its prefork module, and ab",
    },
    Item {
        name: "PostgreSQL",
        needed_by: &[Need::Test, Need::BenchHost],
        is_present: || postgresql().is_some(),
        install: Install::Debian(&["postgresql"]),
        elsewhere: "install PostgreSQL's server, psql and pgbench below /usr/lib/postgresql",
    },
    Item {
        name: "Python with venv",
        needed_by: &[Need::Test, Need::Macos],
        is_present: || python_packages_installed() || python_with_venv(),
        install: Install::Debian(&["python3", "python3-venv"]),
        elsewhere: "install Python 3.11 or later with the module venv",
    },
    Item {
        name: "Python libraries",
        needed_by: &[Need::Test, Need::Macos],
        is_present: python_packages_installed,
        install: Install::Python,
        elsewhere: "",
    },
    Item {
        name: "zsh, fish",
        needed_by: &[Need::Test],
        is_present: || ["zsh", "fish"].iter().all(|name| place::program(name).is_some()),
        install: Install::Debian(&["zsh", "fish"]),
        elsewhere: "install the packages zsh and fish",
    },
    Item {
        name: "Chromium",
        needed_by: &[Need::Test],
        is_present: || place::program("chromium").is_some(),
        install: Install::Debian(&["chromium"]),
        elsewhere: "install Chromium: reports are looked at in it",
    },
    Item {
        name: "Java",
        needed_by: &[Need::Test],
        is_present: || place::program("java").is_some(),
        install: Install::Debian(&["default-jre-headless"]),
        elsewhere: "install Java 17 or later: Spark runs on it",
    },
    Item {
        name: "qemu",
        needed_by: &[Need::Vm],
        is_present: || place::program("qemu-system-x86_64").is_some(),
        install: Install::Debian(&["qemu-system-x86"]),
        elsewhere: "install the package with qemu-system-x86_64",
    },
    Item {
        name: "file systems of ext4",
        needed_by: &[Need::Vm],
        is_present: || ["mkfs.ext4", "e2fsck", "debugfs"].iter().all(|name| place::program(name).is_some()),
        install: Install::Debian(&["e2fsprogs"]),
        elsewhere: "install the package with mkfs.ext4, e2fsck and debugfs (e2fsprogs)",
    },
    Item {
        name: "kernels to test on",
        needed_by: &[Need::Vm],
        is_present: || vm::KERNELS.iter().all(|kernel| kernel.image().is_some()),
        install: Install::Kernels,
        elsewhere: "unpack Debian's linux-image-6.1.0-*-cloud-amd64 (dpkg -x) into target/vm/debian-6.1",
    },
    Item {
        name: "perf",
        needed_by: &[Need::Bench, Need::BenchHost],
        is_present: || place::program("perf").is_some(),
        install: Install::Debian(&["linux-perf"]),
        elsewhere: "install the package with perf (linux-perf, linux-tools)",
    },
    Item {
        name: "bpftrace",
        needed_by: &[Need::Bench],
        is_present: || place::program("bpftrace").is_some(),
        install: Install::Debian(&["bpftrace"]),
        elsewhere: "install the package bpftrace",
    },
    Item {
        name: "Rust's library source",
        needed_by: &[Need::Macos],
        is_present: || library_source().is_some(),
        install: Install::Debian(&["rustc-web", "rust-web-src"]),
        elsewhere: "rustup component add rust-src",
    },
];

/// Whether the user must be asked.
pub enum Consent {
    /// Ask on the terminal.
    Ask,
    /// `--yes`, or nobody is there to answer.
    Given,
}

impl Consent {
    /// By the options of the command line: `--yes`.
    pub fn from_options(options: &[String]) -> Result<Consent> {
        let is_given = options.iter().any(|option| option == "--yes") || !std::io::stdin().is_terminal();
        Ok(if is_given { Consent::Given } else { Consent::Ask })
    }
}

/// What is to be installed; nothing happens to the machine before [`Plan::install`].
pub struct Plan(Vec<&'static Item>);

/// Installs whatever these needs miss.
pub fn ensure(needs: &[Need], consent: Consent) -> Result {
    plan(needs, consent)?.install()
}

/// Lists what these needs miss and asks; quick and silent when nothing is missing.
pub fn plan(needs: &[Need], consent: Consent) -> Result<Plan> {
    let is_needed = |item: &&Item| item.needed_by.iter().any(|need| needs.contains(need));
    let missing: Vec<&Item> = ITEMS.iter().filter(is_needed).filter(|item| !(item.is_present)()).collect();
    if missing.is_empty() {
        return Ok(Plan(missing));
    }
    eprintln!("These are missing and will be installed:");
    for item in &missing {
        eprintln!("  {:<22} {}", item.name, item.install.describe());
    }
    refuse_what_cannot_be_installed(&missing)?;
    match consent {
        Consent::Given => Ok(Plan(missing)),
        Consent::Ask if ask("Install them? [Y/n] ")? => Ok(Plan(missing)),
        Consent::Ask => Err("nothing was installed".to_owned()),
    }
}

impl Plan {
    /// Installs it all: Debian's packages in one go, then the rest in order.
    pub fn install(self) -> Result {
        let packages: Vec<&str> = self.0.iter().flat_map(|item| item.install.packages()).copied().collect();
        if self.0.iter().any(|item| item.install.is_by_apt()) && is_root() {
            update_package_lists();
        }
        if !packages.is_empty() {
            install_debian(&packages)?;
        }
        for item in &self.0 {
            match item.install {
                Install::Debian(_) => {}
                Install::Cargo(name, version) => install_crate(name, version)?,
                Install::Python => install_python()?,
                Install::Kernels => vm::KERNELS.iter().try_for_each(unpack_kernel)?,
            }
            if !(item.is_present)() {
                return Err(format!("{} is still missing after: {}", item.name, item.install.describe()));
            }
        }
        Ok(())
    }
}

impl Install {
    /// The commands, as they are shown.
    fn describe(&self) -> String {
        match self {
            Install::Debian(packages) => format!("apt-get install {}", packages.join(" ")),
            Install::Cargo(name, version) => format!("cargo install {name} --version {version} (into target/tools)"),
            Install::Python => format!("pip install {} (into target/python)", PYTHON_PACKAGES.join(" ")),
            Install::Kernels => {
                let names: Vec<&str> = vm::KERNELS.iter().map(|kernel| kernel.package).collect();
                format!("apt-get download {} (unpacked into target/vm, not installed)", names.join(" "))
            }
        }
    }

    fn packages(&self) -> &'static [&'static str] {
        if let Install::Debian(packages) = self { packages } else { &[] }
    }

    fn is_by_apt(&self) -> bool {
        matches!(self, Install::Debian(_) | Install::Kernels)
    }
}

/// Packages need root on Debian; elsewhere the user does it. What needs neither is no obstacle.
fn refuse_what_cannot_be_installed(missing: &[&Item]) -> Result {
    let packages: Vec<&str> = missing.iter().flat_map(|item| item.install.packages()).copied().collect();
    if is_debian() && (packages.is_empty() || is_root()) {
        return Ok(());
    }
    if is_debian() {
        return Err(format!("run as root first: apt-get update && apt-get install -y {}", packages.join(" ")));
    }
    let by_hand: Vec<String> = missing
        .iter()
        .filter(|item| item.install.is_by_apt())
        .map(|item| format!("\n  {:<22} {}", item.name, item.elsewhere))
        .collect();
    if by_hand.is_empty() {
        return Ok(());
    }
    Err(format!("only on Debian can this be installed for you; elsewhere, do this first:{}", by_hand.concat()))
}

fn ask(question: &str) -> Result<bool> {
    eprint!("{question}");
    std::io::stderr().flush().map_err(|error| error.to_string())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| format!("cannot read the answer: {error}"))?;
    Ok(["", "y", "yes"].contains(&answer.trim().to_lowercase().as_str()) && !answer.is_empty())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian") && place::program("apt-get").is_some()
}

/// Debian's rustc with its prebuilt `core` for `bpfel-unknown-none`.
fn debian_bpf_toolchain() -> bool {
    let libraries = fs::read_dir("/usr/lib/rustlib/bpfel-unknown-none/lib");
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    Path::new("/usr/bin/rustc").exists() && libraries.is_ok_and(|entries| entries.flatten().any(is_core))
}

/// The cargo-clippy that belongs to Debian's rustc.
pub fn debian_clippy() -> Option<&'static Path> {
    let (clippy, driver) = (Path::new("/usr/bin/cargo-clippy"), Path::new("/usr/bin/clippy-driver"));
    (debian_bpf_toolchain() && clippy.exists() && driver.exists()).then_some(clippy)
}

/// A nightly toolchain of rustup with the component rust-src.
fn nightly_with_source() -> bool {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup"));
    let Some(home) = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(home) else { return false };
    let Ok(toolchains) = fs::read_dir(home.join("toolchains")) else { return false };
    toolchains.flatten().any(|toolchain| {
        toolchain.file_name().to_string_lossy().starts_with("nightly")
            && toolchain.path().join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
    })
}

/// The source of the standard library of `/usr/bin/rustc`.
pub fn library_source() -> Option<PathBuf> {
    let source = Path::new("/usr/lib/rustlib/src/rust/library");
    source.join("std/Cargo.toml").exists().then(|| source.to_path_buf())
}

/// The folder with PostgreSQL's programs: Debian keeps each version's in one of their own.
pub fn postgresql() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    folders.retain(|folder| ["initdb", "psql", "pgbench"].iter().all(|program| folder.join(program).exists()));
    folders.sort();
    folders.pop()
}

fn python_with_venv() -> bool {
    succeeds(command("python3").args(["-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"]))
}

/// The list of packages is written beside them once they are all installed.
fn python_packages_list() -> PathBuf {
    place::target("python").join("packages.txt")
}

fn python_packages_installed() -> bool {
    let installed = fs::read_to_string(python_packages_list());
    installed.is_ok_and(|list| list == python_packages()) && place::python().exists()
}

fn python_packages() -> String {
    format!("{}\n{}", PYTHON_PACKAGES.join("\n"), OLD_DUCKDB.1)
}

/// A foreign repository that cannot be reached must not stop us: what is really missing shows in the installation.
fn update_package_lists() {
    if let Err(error) = run(command("apt-get").args(["update", "-q"])) {
        eprintln!("{error}; going on with the package lists that are there");
    }
}

fn install_debian(packages: &[&str]) -> Result {
    let mut install = command("apt-get");
    // Another apt may be at work on a machine that has just started.
    install.args(["-o", "DPkg::Lock::Timeout=300", "install", "-q", "-y", "--no-install-recommends"]);
    run(install.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn install_crate(name: &str, version: &str) -> Result {
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", name, "--version", version, "--root"]);
    eprintln!("installing {name} {version}");
    // Its own target folder: cargo would otherwise share, and keep, the workspace's.
    install.arg(place::target("tools")).env("CARGO_TARGET_DIR", place::target("tools").join("build"));
    run(&mut install)?;
    place::remove(&place::target("tools").join("build"))
}

fn install_python() -> Result {
    let folder = place::target("python");
    place::remove(&folder)?;
    run(command("python3").args(["-m", "venv"]).arg(&folder))?;
    let install = || {
        let mut install = command(&place::python().to_string_lossy());
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        install
    };
    run(install().args(PYTHON_PACKAGES))?;
    run(install().arg("--target").arg(folder.join(OLD_DUCKDB.0)).arg(OLD_DUCKDB.1))?;
    let list = python_packages_list();
    fs::write(&list, python_packages()).map_err(|error| format!("{}: {error}", list.display()))
}

/// Debian's package names the kernel of the day by its dependency; that one is unpacked.
fn unpack_kernel(kernel: &vm::Kernel) -> Result {
    let folder = kernel.folder();
    place::empty(&folder)?;
    let depends = output(command("apt-cache").args(["depends", kernel.package]))?;
    let image = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .ok_or_else(|| format!("the package {} names no kernel; run apt-get update", kernel.package))?;
    run(command("apt-get").args(["download", "-q", &format!("linux-image-{image}")]).current_dir(&folder))?;
    let archives = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let archive =
        archives.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "deb"));
    let archive = archive.ok_or_else(|| format!("apt-get download left no package in {}", folder.display()))?;
    run(command("dpkg").arg("-x").args([&archive, &folder]))?;
    fs::remove_file(&archive).map_err(|error| format!("{}: {error}", archive.display()))
}
