//! What a case finds when its calls begin: native calls outside every pair of markers.

use super::super::abi::{Way, enter};
use super::super::words;
use super::{Bench, word};
use crate::totals::errno_name;
use crate::{Failure, Result, process};
use std::ffi::CString;

/// A native call for setup; what it writes to has room.
pub(in super::super) fn native(number: i64, args: [u64; 6]) -> Result<i64> {
    // SAFETY: the callers in this folder pass numbers, NULL, or memory with room for what the call writes.
    let got = unsafe { enter(Way::Native, number as u16, args) };
    got.map_err(|errno| Failure::new(format!("system call {number} failed with {} ({errno})", errno_name(errno))))
}

/// The mask of blocked signals.
pub(super) fn blocked() -> u64 {
    let mut mask = 0_u64;
    let old = std::ptr::from_mut(&mut mask) as u64;
    // Cannot fail: it only asks.
    let _ = native(libc::SYS_rt_sigprocmask, [0, 0, old, 8, 0, 0]);
    mask
}

/// A POSIX queue that is open.
#[derive(Clone)]
pub(in super::super) struct Queue {
    pub(in super::super) fd: i32,
    /// With a slash, as users write it; `None` for a descriptor that is no queue.
    pub(super) name: Option<String>,
    /// A descriptor of the bench's own, for looking.
    pub(super) watch: i32,
}

impl Bench {
    /// A set of semaphores, all 0.
    pub(in super::super) fn set(&mut self, count: i32) -> Result<i32> {
        self.set_with_key(libc::IPC_PRIVATE, count, 0o600)
    }

    pub(in super::super) fn set_with_key(&mut self, key: i32, count: i32, mode: i32) -> Result<i32> {
        let flags = word(libc::IPC_CREAT | mode);
        native(libc::SYS_semget, [word(key), word(count), flags, 0, 0, 0]).map(|id| id as i32)
    }

    /// A segment.
    pub(in super::super) fn segment(&mut self, size: u64) -> Result<i32> {
        self.segment_with_key(libc::IPC_PRIVATE, size, 0o600)
    }

    pub(in super::super) fn segment_with_key(&mut self, key: i32, size: u64, mode: i32) -> Result<i32> {
        native(libc::SYS_shmget, [word(key), size, word(libc::IPC_CREAT | mode), 0, 0, 0]).map(|id| id as i32)
    }

    /// A System V queue.
    pub(in super::super) fn queue(&mut self) -> Result<i32> {
        self.queue_with_key(libc::IPC_PRIVATE, 0o600)
    }

    pub(in super::super) fn queue_with_key(&mut self, key: i32, mode: i32) -> Result<i32> {
        native(libc::SYS_msgget, [word(key), word(libc::IPC_CREAT | mode), 0, 0, 0, 0]).map(|id| id as i32)
    }

    /// A queue with messages of these types, each of 10 bytes.
    pub(in super::super) fn queue_with(&mut self, types: &[i64]) -> Result<i32> {
        let queue = self.queue()?;
        types.iter().try_for_each(|kind| send(queue, *kind, 10))?;
        Ok(queue)
    }

    /// A queue whose only message of 16,000 bytes leaves no room for another of 500.
    pub(in super::super) fn full_queue(&mut self) -> Result<i32> {
        let queue = self.queue()?;
        (0..2).try_for_each(|_| send(queue, 1, 8_000))?;
        Ok(queue)
    }

    /// A fresh IPC namespace whose sysctls are as given: a path below /proc/sys and what to write.
    pub(in super::super) fn limits(&mut self, limits: &[(&str, &str)]) -> Result<()> {
        // SAFETY: unshare takes a number; this process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWIPC) } != 0 {
            return Err(Failure::last("cannot make an IPC namespace"));
        }
        limits.iter().try_for_each(|(name, value)| write_sysctl(name, value))
    }

    /// Runs calls without privilege: as another effective user and group.
    pub(in super::super) fn unprivileged(&mut self, calls: impl FnOnce(&mut Bench) -> Result<()>) -> Result<()> {
        let keep = u64::MAX;
        native(libc::SYS_setresgid, [keep, 65_534, keep, 0, 0, 0])?;
        native(libc::SYS_setresuid, [keep, 65_534, keep, 0, 0, 0])?;
        let result = calls(self);
        native(libc::SYS_setresuid, [keep, 0, keep, 0, 0, 0])?;
        native(libc::SYS_setresgid, [keep, 0, keep, 0, 0, 0])?;
        result
    }

    /// Runs calls while the system has no room for another open file; only the privileged may open one.
    pub(in super::super) fn without_files(&mut self, calls: impl FnOnce(&mut Bench) -> Result<()>) -> Result<()> {
        let _found = FileTable::keep()?;
        // Nothing else is sure: the kernel counts open files roughly, by CPU.
        write_sysctl(FILE_MAX, "0")?;
        calls(self)
    }

    /// Whether this process has CAP_SYS_RESOURCE; root of a container has not.
    pub(in super::super) fn may_exceed_limits(&mut self) -> Result<bool> {
        const SYS_RESOURCE: u32 = 24;
        let path = "/proc/self/status";
        let text = std::fs::read_to_string(path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
        let set = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
        Ok(set.is_some_and(|set| set >> SYS_RESOURCE & 1 == 1))
    }

    /// Blocks exactly these signals.
    pub(in super::super) fn block(&mut self, set: &str) -> Result<()> {
        let set = words::set(set);
        let how = word(libc::SIG_SETMASK);
        native(libc::SYS_rt_sigprocmask, [how, std::ptr::from_ref(&set) as u64, 0, 8, 0, 0]).map(drop)
    }

    /// Sends this process a signal.
    pub(in super::super) fn raise(&mut self, signal: i32) -> Result<()> {
        process::signal(process::own_pid(), signal)
    }

    /// Sets the soft limit of a resource.
    pub(in super::super) fn rlimit(&mut self, resource: libc::__rlimit_resource_t, soft: u64) -> Result<()> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid rlimit, filled by one call and read by the other.
        let set = unsafe {
            libc::getrlimit(resource, &mut limit) == 0 && {
                limit.rlim_cur = soft;
                libc::setrlimit(resource, &limit) == 0
            }
        };
        if set { Ok(()) } else { Err(Failure::last("cannot set a resource limit")) }
    }

    /// Installs a handler that does nothing.
    pub(in super::super) fn handle(&mut self, signal: i32, flags: i32) -> Result<()> {
        extern "C" fn nothing(_signal: i32) {}
        // SAFETY: zero is a valid sigaction; the handler does nothing.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as libc::sighandler_t;
            action.sa_flags = flags;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if result == 0 { Ok(()) } else { Err(Failure::last("cannot install a handler")) }
    }

    /// An open queue of its own name.
    pub(in super::super) fn mq(&mut self, flags: i32, max_messages: i64, max_message_bytes: i64) -> Result<Queue> {
        let name = self.mq_name();
        let attributes = [0, max_messages, max_message_bytes, 0, 0, 0, 0, 0_i64];
        let pointer = name.as_ptr() as u64;
        let flags = word(flags | libc::O_CREAT | libc::O_EXCL);
        let fd = native(libc::SYS_mq_open, [pointer, flags, 0o600, attributes.as_ptr() as u64, 0, 0])? as i32;
        self.known_mq(&name, fd)
    }

    /// A queue name without slash, as the kernel takes it, removed at the end of the case.
    pub(in super::super) fn mq_name(&mut self) -> CString {
        let name = format!("battery-{}-{}", process::own_pid(), self.names.len());
        let name = CString::new(name).unwrap_or_default();
        self.names.push(name.clone());
        name
    }

    /// An open descriptor of the queue `name`.
    pub(super) fn known_mq(&mut self, name: &CString, fd: i32) -> Result<Queue> {
        let flags = word(libc::O_RDONLY | libc::O_NONBLOCK);
        let watch = native(libc::SYS_mq_open, [name.as_ptr() as u64, flags, 0, 0, 0, 0])? as i32;
        Ok(Queue { fd, name: Some(format!("/{}", name.to_string_lossy())), watch })
    }
}

/// The system's limit of open files as it was found: written back whatever happens to the case that lowers it.
pub(in super::super) struct FileTable(String);

/// The limit of open files in the whole system.
const FILE_MAX: &str = "fs/file-max";

impl FileTable {
    pub(in super::super) fn keep() -> Result<FileTable> {
        let path = format!("/proc/sys/{FILE_MAX}");
        let found = std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
        Ok(FileTable(found.trim().to_owned()))
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        if let Err(failure) = write_sysctl(FILE_MAX, &self.0) {
            eprintln!("ipc-workload: {failure}");
        }
    }
}

/// Writes a sysctl, of this process' namespace where it has one.
pub(in super::super) fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value).map_err(|e| Failure::new(format!("cannot write {value} to {path}: {e}")))
}

/// Sends a System V message of `size` bytes.
pub(in super::super) fn send(queue: i32, kind: i64, size: usize) -> Result<()> {
    let message = [&kind.to_ne_bytes()[..], &vec![b'm'; size]].concat();
    native(libc::SYS_msgsnd, [word(queue), message.as_ptr() as u64, size as u64, 0, 0, 0]).map(drop)
}

/// Adds to a semaphore.
pub(in super::super) fn add(set: i32, number: u16, value: i16) -> Result<()> {
    let sop = libc::sembuf { sem_num: number, sem_op: value, sem_flg: 0 };
    native(libc::SYS_semop, [word(set), std::ptr::from_ref(&sop) as u64, 1, 0, 0, 0]).map(drop)
}

/// Sets a semaphore.
pub(in super::super) fn set_value(set: i32, number: i32, value: i32) -> Result<()> {
    native(libc::SYS_semctl, [word(set), word(number), word(libc::SETVAL), word(value), 0, 0]).map(drop)
}

/// Removes a set, a segment or a System V queue.
pub(in super::super) fn remove_set(set: i32) -> Result<()> {
    native(libc::SYS_semctl, [word(set), 0, word(libc::IPC_RMID), 0, 0, 0]).map(drop)
}

pub(in super::super) fn remove_queue(queue: i32) -> Result<()> {
    native(libc::SYS_msgctl, [word(queue), word(libc::IPC_RMID), 0, 0, 0, 0]).map(drop)
}

pub(in super::super) fn remove_segment(segment: i32) -> Result<()> {
    native(libc::SYS_shmctl, [word(segment), word(libc::IPC_RMID), 0, 0, 0, 0]).map(drop)
}

/// Receives a System V message and throws it away.
pub(in super::super) fn take(queue: i32) -> Result<()> {
    let mut message = [0_u64; 1200];
    native(libc::SYS_msgrcv, [word(queue), message.as_mut_ptr() as u64, 8_192, 0, 0, 0]).map(drop)
}

impl Queue {
    /// Sends a message natively.
    pub(in super::super) fn send(&self, size: usize, priority: u64) -> Result<()> {
        let body = vec![b'q'; size];
        native(libc::SYS_mq_timedsend, [word(self.fd), body.as_ptr() as u64, size as u64, priority, 0, 0]).map(drop)
    }

    /// Receives a message natively and throws it away.
    pub(in super::super) fn take(&self) -> Result<()> {
        let mut body = [0_u8; 8_192];
        native(libc::SYS_mq_timedreceive, [word(self.fd), body.as_mut_ptr() as u64, 8_192, 0, 0, 0]).map(drop)
    }

    /// The name as the kernel takes it.
    pub(in super::super) fn kernel_name(&self) -> CString {
        CString::new(self.name.as_deref().unwrap_or("").trim_start_matches('/')).unwrap_or_default()
    }

    /// A descriptor that is no queue.
    pub(in super::super) const fn wrong(fd: i32) -> Queue {
        Queue { fd, name: None, watch: -1 }
    }
}
