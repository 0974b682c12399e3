//! What the helper may ask of the kernel: to read, to look at IPC objects, to visit IPC namespaces. It can make, change and
//! remove nothing: no file is opened for writing, no message is taken, no program is executed, no socket made.

use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::ffi::c_int;

/// What is asked of an argument, which is told by its place.
enum Check {
    Nothing,
    OneOf(u8, &'static [c_int]),
    /// These bits, of those in the mask.
    Bits(u8, c_int, c_int),
    Null(u8),
}
use Check::{Bits, Nothing, Null, OneOf};

// Not in the crate libc; include/uapi/linux/mount.h, msg.h, shm.h.
const FSCONFIG_CMD_CREATE: c_int = 6;
const MSG_STAT_ANY: c_int = 13;
const SHM_INFO: c_int = 14;
const SHM_STAT_ANY: c_int = 15;

const NOT_WRITING: c_int = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
const SEMAPHORES: &[c_int] =
    &[libc::SEM_INFO, libc::SEM_STAT_ANY, libc::GETALL, libc::GETNCNT, libc::GETZCNT, libc::GETPID];

/// Every call that is allowed.
const ALLOWED: &[(i64, Check)] = &[
    // Requests and answers.
    (libc::SYS_recvmsg, Nothing),
    (libc::SYS_sendmsg, Nothing),
    (libc::SYS_write, OneOf(0, &[libc::STDERR_FILENO])),
    // Files, to be read.
    (libc::SYS_openat, Bits(2, NOT_WRITING, libc::O_RDONLY)),
    (libc::SYS_open, Bits(1, NOT_WRITING, libc::O_RDONLY)),
    (libc::SYS_read, Nothing),
    (libc::SYS_pread64, Nothing),
    (libc::SYS_lseek, Nothing),
    (libc::SYS_getdents64, Nothing),
    (libc::SYS_readlink, Nothing),
    (libc::SYS_readlinkat, Nothing),
    (libc::SYS_stat, Nothing),
    (libc::SYS_fstat, Nothing),
    (libc::SYS_newfstatat, Nothing),
    (libc::SYS_statx, Nothing),
    (libc::SYS_fcntl, OneOf(1, &[libc::F_GETFL, libc::F_GETFD])),
    (libc::SYS_close, Nothing),
    // Objects, to be looked at.
    (libc::SYS_semctl, OneOf(2, SEMAPHORES)),
    (libc::SYS_shmctl, OneOf(1, &[SHM_INFO, SHM_STAT_ANY])),
    (libc::SYS_msgctl, OneOf(1, &[libc::MSG_INFO, MSG_STAT_ANY])),
    (libc::SYS_msgrcv, Bits(4, libc::MSG_COPY | libc::IPC_NOWAIT, libc::MSG_COPY | libc::IPC_NOWAIT)),
    (libc::SYS_mq_getsetattr, Null(1)),
    // Namespaces, and the file system of their queues.
    (libc::SYS_setns, OneOf(1, &[libc::CLONE_NEWIPC])),
    (libc::SYS_fsopen, Nothing),
    (libc::SYS_fsconfig, OneOf(1, &[FSCONFIG_CMD_CREATE])),
    (libc::SYS_fsmount, Nothing),
    // Memory, threads, time, the end.
    (libc::SYS_brk, Nothing),
    (libc::SYS_mmap, Bits(2, libc::PROT_EXEC, 0)),
    (libc::SYS_mprotect, Bits(2, libc::PROT_EXEC, 0)),
    (libc::SYS_mremap, Nothing),
    (libc::SYS_munmap, Nothing),
    (libc::SYS_madvise, Nothing),
    (libc::SYS_futex, Nothing),
    (libc::SYS_sched_yield, Nothing),
    (libc::SYS_restart_syscall, Nothing),
    (libc::SYS_rt_sigprocmask, Nothing),
    (libc::SYS_rt_sigreturn, Nothing),
    (libc::SYS_sigaltstack, Nothing),
    (libc::SYS_clock_gettime, Nothing),
    (libc::SYS_getrandom, Nothing),
    (libc::SYS_getpid, Nothing),
    (libc::SYS_gettid, Nothing),
    (libc::SYS_exit, Nothing),
    (libc::SYS_exit_group, Nothing),
];

impl Check {
    /// The rules of which one must hold; none: whatever the arguments are.
    fn rules(&self) -> Result<Vec<SeccompRule>, BackendError> {
        let rule =
            |place, length, how, value| SeccompRule::new(vec![SeccompCondition::new(place, length, how, value)?]);
        // An int: the kernel does not look at the upper half of the register.
        let int = |place, how, value: c_int| rule(place, SeccompCmpArgLen::Dword, how, u64::from(value as u32));
        match *self {
            Nothing => Ok(vec![]),
            OneOf(place, values) => values.iter().map(|value| int(place, SeccompCmpOp::Eq, *value)).collect(),
            Bits(place, mask, value) => Ok(vec![int(place, SeccompCmpOp::MaskedEq(u64::from(mask as u32)), value)?]),
            Null(place) => Ok(vec![rule(place, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?]),
        }
    }
}

fn program() -> Result<BpfProgram, BackendError> {
    let rules = ALLOWED.iter().map(|(number, check)| Ok((*number, check.rules()?)));
    let rules = rules.collect::<Result<BTreeMap<_, _>, BackendError>>()?;
    // What is not allowed fails: the answer then lacks it, and says so.
    let refusal = SeccompAction::Errno(Errno::PERM.raw_os_error() as u32);
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// Every thread of this process is held to it from now on, for ever.
///
/// # Errors
/// The kernel has no seccomp.
pub fn apply() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter_all_threads(&program()?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::fs::{File, OpenOptions};

    /// In a thread: the others of this process go on without it.
    #[test]
    fn what_is_not_allowed_is_refused() {
        let try_all = || {
            seccompiler::apply_filter(&program().unwrap()).unwrap();
            let refused = |result: std::io::Result<()>| result.unwrap_err().raw_os_error() == Some(libc::EPERM);
            // SAFETY: neither takes a pointer; they make a socket, and a queue that is not there.
            let (socket, queue) = unsafe { (libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0), libc::msgget(77, 0)) };
            // SAFETY: a message is asked for without a copy, from a queue that no kernel has; the buffer is never used.
            let taken = unsafe { libc::msgrcv(-1, std::ptr::null_mut(), 0, 0, libc::IPC_NOWAIT) };
            let error = std::io::Error::last_os_error().raw_os_error();
            [
                File::open("/proc/self/comm").is_ok(),
                refused(OpenOptions::new().write(true).open("/proc/self/comm").map(drop)),
                refused(std::fs::remove_file("/nonexistent/file")),
                socket == -1 && queue == -1,
                taken == -1 && error == Some(libc::EPERM),
                std::process::Command::new("true").status().is_err(),
            ]
        };
        assert_eq!(std::thread::spawn(try_all).join().unwrap(), [true; 6]);
    }
}
