//! `cargo xtask vm`: boots other kernels under qemu and runs the counting tests there.
//!
//! qemu emulates every instruction (TCG): no virtualisation by the host is needed, so it works inside virtual machines
//! too. The first root file system holds static programs only; this program is its `/init`.

use crate::build::{self, Profile};
use crate::command::command;
use crate::cpio::Archive;
use crate::setup::{self, Consent, Need};
use crate::test::Seed;
use crate::{Result, place};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A kernel of the matrix.
pub struct Kernel {
    /// Its folder below `target/vm`.
    pub name: &'static str,
    /// Debian's package that depends on the kernel of the day.
    pub package: &'static str,
}

/// The kernel matrix.
pub const KERNELS: &[Kernel] = &[Kernel { name: "debian-6.1", package: "linux-image-cloud-amd64" }];

/// What `/init` prints before the tests, and at their end.
pub const BEGIN: &str = "ipctrace-vm: the tests begin";
/// Printed only when every test passed: a panic, a hang or a failure never prints it.
pub const PASSED: &str = "ipctrace-vm: the tests passed";

/// Only the tests that count, and those of kprobes: they need no second program to compare with.
const TESTS: &[&str] = &["counting::", "battery::", "kprobes::", "--test-threads=1"];
/// What a virtio disk needs of the kernel's modules, each after those that it needs.
const MODULES: [&str; 6] = [
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
];
/// Where `/init` finds them, in the order of their names.
pub const MODULES_FOLDER: &str = "modules";
/// Emulation is ten to twenty times slower than the processor, and takes four times as long again where others use it:
/// what is slow must not look like what hangs.
const TIME_LIMIT: Duration = Duration::from_secs(1800);
/// What `/init` prints while the tests run, every [`BEAT`].
pub const ALIVE: &str = "ipctrace-vm: alive";
/// How often.
pub const BEAT: Duration = Duration::from_secs(15);
/// How much of the console is shown when something went wrong.
const TAIL_LINES: usize = 60;

impl Kernel {
    /// Where it is unpacked.
    pub fn folder(&self) -> PathBuf {
        place::target("vm").join(self.name)
    }

    /// The file that boots.
    pub fn image(&self) -> Option<PathBuf> {
        let files = fs::read_dir(self.folder().join("boot")).ok()?;
        files.flatten().find(|file| file.file_name().to_string_lossy().starts_with("vmlinuz-")).map(|file| file.path())
    }

    /// Its drivers.
    fn drivers(&self) -> Option<PathBuf> {
        let versions = fs::read_dir(self.folder().join("lib/modules")).ok()?;
        versions.flatten().map(|version| version.path().join("kernel/drivers")).find(|drivers| drivers.is_dir())
    }

    /// The first root file system: the programs and the modules.
    fn initramfs(&self) -> PathBuf {
        self.folder().join("initramfs.cpio")
    }
}

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build, Need::Vm], Consent::from_options(options)?)?;
    prepare()?;
    boot_all(Seed::choose()?)
}

/// Builds the programs and writes what the kernels boot with.
pub fn prepare() -> Result {
    build::build(Profile::Ci, &[&build::PROGRAMS[..], &["xtask"]].concat())?;
    let tests = build::test_binary(Profile::Ci, "live")?;
    for kernel in KERNELS {
        let (path, archive) = (kernel.initramfs(), initramfs_of(kernel, &tests)?);
        fs::write(&path, archive).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// What the tests need to boot the first kernel themselves: its image, and what it boots with.
pub fn machine() -> Option<(PathBuf, PathBuf)> {
    let kernel = KERNELS.first()?;
    Some((kernel.image()?, kernel.initramfs()))
}

/// Boots every kernel; [`prepare`] was there before.
pub fn boot_all(seed: Seed) -> Result {
    for kernel in KERNELS {
        let image = kernel.image().ok_or_else(|| format!("no kernel {}; run cargo xtask setup", kernel.name))?;
        eprintln!("booting {}", place::short(&image));
        let began = Instant::now();
        let log = kernel.folder().join("console.log");
        Console::watch(qemu(&image, &kernel.initramfs(), seed)?, &log)?;
        eprintln!(
            "{}: passed in {:.0} s (console: {})",
            kernel.name,
            began.elapsed().as_secs_f64(),
            place::short(&log)
        );
    }
    Ok(())
}

fn initramfs_of(kernel: &Kernel, tests: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp", MODULES_FOLDER] {
        archive.directory(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.program("init", &read(&Profile::Ci.folder().join("xtask"))?);
    archive.program("live", &read(tests)?);
    for program in build::PROGRAMS {
        archive.program(&format!("bin/{program}"), &read(&Profile::Ci.folder().join(program))?);
    }
    let drivers = kernel.drivers().ok_or_else(|| format!("{} has no drivers; run cargo xtask setup", kernel.name))?;
    for (number, module) in MODULES.iter().enumerate() {
        let module = drivers.join(module).with_extension("ko");
        archive.program(&format!("{MODULES_FOLDER}/{number}.ko"), &read(&module)?);
    }
    Ok(archive.finish())
}

fn qemu(image: &Path, initramfs: &Path, seed: Seed) -> Result<Child> {
    // Whoever kills this program kills the machine with it.
    let mut qemu = command("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    // thread=single: with a thread per processor the emulator at times keeps the translation of code that the kernel has
    // patched since. A processor then meets a breakpoint that is gone, retries, meets it again, and the machine stands
    // still: seen where recorders attach and detach, in one of some ten runs of all tests (qemu 7.2).
    qemu.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "2G"]);
    qemu.args(["-nographic", "-no-reboot", "-nic", "none"]);
    // panic=-1 reboots at once, and -no-reboot makes that an end. What the kernel does not know becomes the environment
    // of /init, and what follows -- its arguments.
    // no_timer_check: where the emulator gets little time, the kernel would find the timer broken and give up.
    let line = format!("console=ttyS0 panic=-1 quiet no_timer_check IPC_SEED={} -- {}", seed.0, TESTS.join(" "));
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs).args(["-append", &line]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    qemu.spawn().map_err(|error| format!("cannot start qemu: {error}; run cargo xtask setup"))
}

/// What the virtual machine prints.
struct Console {
    lines: Receiver<String>,
    seen: Vec<String>,
    log: fs::File,
}

impl Console {
    /// Follows the machine to its end. Success is the marker, and nothing else.
    fn watch(mut machine: Child, log: &Path) -> Result {
        let stdout = machine.stdout.take().ok_or("qemu has no stdout")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(std::io::Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let log = fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut console = Console { lines, seen: Vec::new(), log };
        let result = console.read(Instant::now() + TIME_LIMIT);
        // Both fail only when it is gone already.
        let _ = machine.kill();
        let _ = machine.wait();
        result.map_err(|error| format!("{error}; the end of the console:\n{}", console.tail()))
    }

    fn read(&mut self, deadline: Instant) -> Result {
        let mut is_begun = false;
        // A test's name comes before its end: between them the machine may say that it is alive.
        let mut begun_line = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return Err("the virtual machine did not end in time".to_owned()),
                Err(_) => return Err("the virtual machine ended without passing the tests".to_owned()),
            };
            // The log is a convenience; the verdict does not depend on it.
            let _ = writeln!(self.log, "{line}");
            if line.ends_with(PASSED) {
                return Ok(());
            }
            // The firmware leaves control characters before the first line.
            is_begun |= line.ends_with(BEGIN);
            if let Some((begun, _)) = line.split_once(ALIVE) {
                begun_line.push_str(begun);
            } else if is_begun {
                eprintln!("  {}{line}", std::mem::take(&mut begun_line));
            }
            self.seen.push(line);
        }
    }

    fn tail(&self) -> String {
        self.seen[self.seen.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}
