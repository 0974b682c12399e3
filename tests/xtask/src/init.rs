//! The first process of the virtual machine: mounts what the programs need, runs the tests, switches the machine off.

use crate::Result;
use crate::vm::{ALIVE, BEAT, BEGIN, MODULES_FOLDER, PASSED};
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, finit_module, reboot};
use std::fs;
use std::process::Command;
use std::time::Instant;

/// Type and place of what is mounted, in order.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("mqueue", "/dev/mqueue"),
];

/// Does it all; the marker is printed only after every test has passed.
pub fn run() -> ! {
    match mount_all().and_then(|()| load_modules()).and_then(|()| run_tests()) {
        Ok(()) => println!("{PASSED}"),
        Err(error) => println!("ipctrace-vm: {error}"),
    }
    rustix::fs::sync();
    let error = reboot(RebootCommand::PowerOff);
    // Returning from pid 1 is a kernel panic, which ends the machine too.
    panic!("cannot power off: {error:?}");
}

fn mount_all() -> Result {
    for (kind, place) in MOUNTS {
        std::fs::create_dir_all(place).map_err(|error| format!("{place}: {error}"))?;
        mount(*kind, *place, *kind, MountFlags::empty(), None).map_err(|error| format!("mount {place}: {error}"))?;
    }
    Ok(())
}

/// Loads the drivers of disks.
fn load_modules() -> Result {
    let entries = fs::read_dir(format!("/{MODULES_FOLDER}")).map_err(|error| format!("no modules: {error}"))?;
    let mut modules: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for path in modules {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let module = fs::File::open(&path).map_err(|error| failed(&error))?;
        finit_module(&module, c"", 0).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Says every [`BEAT`] that the machine lives, how much memory is left, and what the programs under test are doing: whoever
/// watches can tell a machine that stands still from a test that hangs.
fn beat() {
    let began = Instant::now();
    loop {
        std::thread::sleep(BEAT);
        let free = read("/proc/meminfo").lines().find_map(|line| line.strip_prefix("MemAvailable:").map(str::to_owned));
        let free = free.unwrap_or_default();
        println!("{ALIVE} {} s,{} free{}", began.elapsed().as_secs(), free.replace("  ", ""), states());
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Per process of ours: its name, state and where in the kernel it waits.
fn states() -> String {
    let mut states = String::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let folder = format!("/proc/{}", entry.file_name().to_string_lossy());
        let status = read(&format!("{folder}/status"));
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        if field("Name:").starts_with("ipc-") {
            let place = read(&format!("{folder}/wchan"));
            states.push_str(&format!("; {} {} {place}", field("Name:"), &field("State:").get(..1).unwrap_or("?")));
        }
    }
    states
}

fn run_tests() -> Result {
    println!("{BEGIN}");
    std::thread::spawn(beat);
    let mut tests = Command::new("/live");
    tests.args(std::env::args().skip(1));
    tests.env("PATH", "/bin").env("TMPDIR", "/tmp").env("RUST_BACKTRACE", "1");
    tests.env("IPC_BIN_DIR", "/bin").env("IPC_REQUIRE_LIVE", "1").env("IPC_VM", "1");
    let child = tests.spawn().map_err(|error| format!("cannot start /live: {error}"))?;
    loop {
        // Orphans end here too, and must not stay as zombies.
        let (pid, status) = wait(WaitOptions::empty())
            .map_err(|error| format!("wait: {error}"))?
            .ok_or("wait returned without a process")?;
        if pid.as_raw_nonzero().get().unsigned_abs() != child.id() {
            continue;
        }
        return match status.exit_status() {
            Some(0) => Ok(()),
            _ => Err(format!("the tests failed: {status:?}")),
        };
    }
}
