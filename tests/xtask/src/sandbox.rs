//! A copy of this machine that can be spoiled: its file system under an overlay in memory, in namespaces of its own. What
//! is installed there is gone with it. It takes root.

use crate::command::{command, succeeds};
use crate::{Result, place};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlink};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Devices that are those of this machine.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Type and place of what is mounted in it, in order.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "proc"),
    ("sysfs", "sys"),
    ("cgroup2", "sys/fs/cgroup"),
    ("tmpfs", "run"),
    ("tmpfs", "dev"),
    ("tmpfs", "dev/shm"),
    ("devpts", "dev/pts"),
];

/// The namespaces of a sandbox.
const NAMESPACES: &[&str] = &["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--net"];

/// Whether this user may make one: root, but not of every container.
pub fn is_possible() -> bool {
    rustix::process::geteuid().is_root() && succeeds(command("unshare").args(NAMESPACES).arg("true"))
}

/// This program again, as the first process of a sandbox, where it runs the hidden command `name`. Who kills it kills all.
pub fn inside(name: &str, arguments: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let mut unshare = command("unshare");
    unshare.args(NAMESPACES).arg(program).arg(name).args(arguments);
    Ok(unshare)
}

/// Makes the copy and moves this process, the first of its namespaces, into it. The repository stands in it where it
/// stands outside; nothing else that is written there stays.
pub fn enter() -> Result {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(failed("private mounts"))?;
    // In /run nothing of this machine is needed.
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).map_err(failed("mount /run"))?;
    for folder in ["upper", "work", "root"] {
        mkdirat(CWD, format!("/run/{folder}"), Mode::from_raw_mode(0o755)).map_err(failed("mkdir"))?;
    }
    let options = CString::new("lowerdir=/,upperdir=/run/upper,workdir=/run/work").unwrap_or_default();
    mount("overlay", "/run/root", "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(failed("mount overlay"))?;
    let repository = place::root();
    let there = format!("/run/root{}", repository.display());
    for (kind, folder) in MOUNTS {
        let path = format!("/run/root/{folder}");
        fs::create_dir_all(&path).map_err(|error| format!("{path}: {error}"))?;
        mount(*kind, path.as_str(), *kind, MountFlags::empty(), None).map_err(failed(&path))?;
    }
    fs::create_dir_all(&there).map_err(|error| format!("{there}: {error}"))?;
    mount_bind(&repository, there.as_str()).map_err(failed(&there))?;
    for device in DEVICES {
        let (here, there) = (format!("/dev/{device}"), format!("/run/root/dev/{device}"));
        openat(CWD, there.as_str(), OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600))
            .map_err(failed(&there))?;
        mount_bind(here.as_str(), there.as_str()).map_err(failed(&there))?;
    }
    // As in a container: what is of the kernel, and so of everybody, stays as it is.
    mount_bind("/run/root/proc/sys", "/run/root/proc/sys").map_err(failed("/proc/sys"))?;
    for path in ["/run/root/proc/sys", "/run/root/sys"] {
        mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, c"").map_err(failed(path))?;
    }
    for (to, link) in [("/proc/self/fd", "/run/root/dev/fd"), ("pts/ptmx", "/run/root/dev/ptmx")] {
        symlink(to, link).map_err(failed(link))?;
    }
    // Not chroot: what systemd does for a service it does at the root of a file system.
    std::env::set_current_dir("/run/root").map_err(|error| format!("/run/root: {error}"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("the old root"))?;
    std::env::set_current_dir(Path::new(&repository)).map_err(|error| format!("{}: {error}", repository.display()))
}

/// Puts an empty folder over one.
pub fn hide(folder: &str) -> Result {
    mount("tmpfs", folder, "tmpfs", MountFlags::empty(), None).map_err(failed(folder))
}

fn failed(what: &str) -> impl FnOnce(Errno) -> String + '_ {
    move |error| format!("{what}: {error}")
}
