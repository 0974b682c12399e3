//! What `/proc` says of processes and threads; all of it may be gone by the time it is asked.

use ipc_schema::manifest::Missing;
use ipc_schema::text;
use std::path::PathBuf;

/// A file of `/proc`: names in it may be no UTF-8.
pub fn read(path: &str) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| text::of_bytes(&bytes).into_owned())
}

/// `/proc/PID/status`, of a process or of one thread.
#[derive(Debug, Default)]
pub struct Status(String);

impl Status {
    /// Of a process.
    pub fn of(pid: u32) -> Status {
        Status(read(&format!("/proc/{pid}/status")).unwrap_or_default())
    }

    /// Of a thread; `None` if it is gone.
    pub fn of_thread(pid: u32, tid: u32) -> Option<Status> {
        read(&format!("/proc/{pid}/task/{tid}/status")).map(Status)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// The parent's process id.
    pub fn parent_pid(&self) -> Option<u32> {
        self.field("PPid")?.parse().ok()
    }

    /// The process id in its own namespace.
    pub fn ns_pid(&self) -> Option<i32> {
        self.field("NStgid")?.split_whitespace().last()?.parse().ok()
    }

    /// The thread id in its own namespace.
    pub fn ns_tid(&self) -> Option<i32> {
        self.field("NSpid")?.split_whitespace().last()?.parse().ok()
    }

    /// The real user id.
    pub fn uid(&self) -> Option<u32> {
        self.field("Uid")?.split_whitespace().next()?.parse().ok()
    }

    /// A signal set: SigBlk, SigPnd, ShdPnd, SigIgn.
    pub fn signals(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.field(name)?, 16).ok()
    }
}

/// What is different where this process has another pid namespace than the host: the probes tell the host's ids, and
/// `/proc` knows others.
pub fn inside_pid_namespace() -> Option<Missing> {
    /// PROC_PID_INIT_INO of include/linux/proc_ns.h.
    const OF_HOST: &str = "pid:[4026531836]";
    let own = std::fs::read_link("/proc/self/ns/pid").ok()?;
    (own.as_os_str() != OF_HOST).then(|| Missing {
        feature: "the host's pid namespace".into(),
        reason: format!("this one is {}", own.display()),
        remedy:
            "docker run --pid=host, or nsenter -t 1 -p; without it process ids are the host's, what processes run and \
                 the calls that they were inside of before are unknown, and the recorder's own snapshots are recorded"
                .into(),
    })
}

/// The path of a process's program.
pub fn exe(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(text::of_bytes(path.as_os_str().as_encoded_bytes()).into_owned())
}

/// The arguments of a process, separated by blanks.
pub fn cmdline(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = bytes.split(|b| *b == 0).filter(|w| !w.is_empty()).map(text::of_bytes).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The path of a process's cgroup v2.
pub fn cgroup(pid: u32) -> Option<String> {
    let text = read(&format!("/proc/{pid}/cgroup"))?;
    text.lines().find_map(|l| l.strip_prefix("0::")).map(str::to_owned)
}

/// The name of a thread, NUL-padded.
pub fn comm(pid: u32, tid: u32) -> Option<[u8; 16]> {
    let text = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    let mut comm = [0; 16];
    // A name may hold line ends; the last one is not of it.
    for (to, from) in comm.iter_mut().zip(text.strip_suffix(b"\n").unwrap_or(&text).iter().take(15)) {
        *to = *from;
    }
    Some(comm)
}

/// When a thread started: CLOCK_BOOTTIME nanoseconds, as exact as the clock ticks of `/proc` (10 ms).
pub fn start_ns(pid: u32, tid: u32) -> Option<u64> {
    let text = read(&format!("/proc/{pid}/task/{tid}/stat"))?;
    // The name may hold blanks and brackets; field 22 is the start.
    let ticks: u64 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

/// The inode of a process's IPC namespace.
pub fn ipc_ns(pid: u32) -> Option<u32> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/ipc")).ok()?;
    link.to_str()?.strip_prefix("ipc:[")?.strip_suffix(']')?.parse().ok()
}

/// Every process.
pub fn pids() -> Vec<u32> {
    numbers(PathBuf::from("/proc"))
}

/// Every thread of a process.
pub fn tids(pid: u32) -> Vec<u32> {
    numbers(PathBuf::from(format!("/proc/{pid}/task")))
}

fn numbers(folder: PathBuf) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}
