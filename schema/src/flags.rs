//! Names of the constants that appear in calls, each list with the header it comes from.

/// A constant and its name.
pub type Name = (i64, &'static str);

/// `include/uapi/asm-generic/errno-base.h`, `errno.h`; the numbers are those of x86 and arm64.
pub const ERRNOS: &[Name] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (7, "E2BIG"),
    (8, "ENOEXEC"),
    (9, "EBADF"),
    (10, "ECHILD"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (15, "ENOTBLK"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (25, "ENOTTY"),
    (26, "ETXTBSY"),
    (27, "EFBIG"),
    (28, "ENOSPC"),
    (29, "ESPIPE"),
    (30, "EROFS"),
    (31, "EMLINK"),
    (32, "EPIPE"),
    (33, "EDOM"),
    (34, "ERANGE"),
    (35, "EDEADLK"),
    (36, "ENAMETOOLONG"),
    (37, "ENOLCK"),
    (38, "ENOSYS"),
    (39, "ENOTEMPTY"),
    (40, "ELOOP"),
    (42, "ENOMSG"),
    (43, "EIDRM"),
    (75, "EOVERFLOW"),
    (90, "EMSGSIZE"),
    (95, "EOPNOTSUPP"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
];

/// The kernel's own codes that never reach user space, `include/linux/errno.h`: the call is restarted or shows EINTR.
pub const RESTARTS: &[Name] =
    &[(512, "ERESTARTSYS"), (513, "ERESTARTNOINTR"), (514, "ERESTARTNOHAND"), (516, "ERESTART_RESTARTBLOCK")];

/// The errno that user space sees for a kernel return value: restarts are EINTR.
///
/// `None` for a success and for a value that is no errno; an errno without a name here is `None` too.
pub fn errno_name(ret: i64) -> Option<&'static str> {
    if !(-4095..0).contains(&ret) {
        return None;
    }
    if is_restart(ret) {
        return Some("EINTR");
    }
    name(ERRNOS, -ret)
}

/// Whether a kernel return value asks for a restart of the call.
pub fn is_restart(ret: i64) -> bool {
    name(RESTARTS, ret.wrapping_neg()).is_some()
}

/// The name of `value` in `list`.
pub fn name(list: &[Name], value: i64) -> Option<&'static str> {
    list.iter().find(|(v, _)| *v == value).map(|(_, n)| *n)
}

/// Flags of semget and msgget: `include/uapi/linux/ipc.h`.
pub const GET_FLAGS: &[Name] = &[(0o1000, "IPC_CREAT"), (0o2000, "IPC_EXCL")];

/// Flags of shmget: `include/uapi/linux/shm.h`, `asm-generic/hugetlb_encode.h`.
pub const SHMGET_FLAGS: &[Name] =
    &[(0o1000, "IPC_CREAT"), (0o2000, "IPC_EXCL"), (0o4000, "SHM_HUGETLB"), (0o10000, "SHM_NORESERVE")];

/// Flags of shmat: `include/uapi/linux/shm.h`.
pub const SHMAT_FLAGS: &[Name] =
    &[(0o10000, "SHM_RDONLY"), (0o20000, "SHM_RND"), (0o40000, "SHM_REMAP"), (0o100000, "SHM_EXEC")];

/// Flags of msgsnd and msgrcv: `include/uapi/linux/msg.h`.
pub const MSG_FLAGS: &[Name] =
    &[(0o4000, "IPC_NOWAIT"), (0o10000, "MSG_NOERROR"), (0o20000, "MSG_EXCEPT"), (0o40000, "MSG_COPY")];

/// Flags of one semaphore operation: `include/uapi/linux/sem.h`.
pub const SEM_FLAGS: &[Name] = &[(0o4000, "IPC_NOWAIT"), (0x1000, "SEM_UNDO")];

/// The access modes of mq_open, by the low two bits: `include/uapi/asm-generic/fcntl.h`.
pub const ACCESS_MODES: [&str; 4] = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_WRONLY|O_RDWR"];

/// Flags of mq_open: `include/uapi/asm-generic/fcntl.h`; the access mode stands in [`ACCESS_MODES`].
pub const MQ_OPEN_FLAGS: &[Name] =
    &[(0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o4000, "O_NONBLOCK"), (0o2000000, "O_CLOEXEC")];

/// Flags of signalfd4: `include/uapi/linux/signalfd.h`.
pub const SIGNALFD_FLAGS: &[Name] = &[(0o4000, "SFD_NONBLOCK"), (0o2000000, "SFD_CLOEXEC")];

/// Flags of mq_getsetattr's new attributes: the only one it takes.
pub const MQ_FLAGS: &[Name] = &[(0o4000, "O_NONBLOCK")];

/// Flags of `struct sigaction`: `include/uapi/asm-generic/signal-defs.h`, `arch/x86/include/uapi/asm/signal.h`.
pub const SA_FLAGS: &[Name] = &[
    (0x1, "SA_NOCLDSTOP"),
    (0x2, "SA_NOCLDWAIT"),
    (0x4, "SA_SIGINFO"),
    (0x400, "SA_UNSUPPORTED"),
    (0x800, "SA_EXPOSE_TAGBITS"),
    (0x0400_0000, "SA_RESTORER"),
    (0x0800_0000, "SA_ONSTACK"),
    (0x1000_0000, "SA_RESTART"),
    (0x4000_0000, "SA_NODEFER"),
    (0x8000_0000, "SA_RESETHAND"),
];

/// What became of a generated signal: TRACE_SIGNAL_* of `include/trace/events/signal.h`.
pub const SIGNAL_RESULTS: &[Name] =
    &[(0, "delivered"), (1, "ignored"), (2, "pending"), (3, "overflow"), (4, "lose_info")];

/// Commands of semctl: `include/uapi/linux/ipc.h`, `sem.h`.
pub const SEMCTL_COMMANDS: &[Name] = &[
    (0, "IPC_RMID"),
    (1, "IPC_SET"),
    (2, "IPC_STAT"),
    (3, "IPC_INFO"),
    (11, "GETPID"),
    (12, "GETVAL"),
    (13, "GETALL"),
    (14, "GETNCNT"),
    (15, "GETZCNT"),
    (16, "SETVAL"),
    (17, "SETALL"),
    (18, "SEM_STAT"),
    (19, "SEM_INFO"),
    (20, "SEM_STAT_ANY"),
];

/// Commands of shmctl: `include/uapi/linux/ipc.h`, `shm.h`.
pub const SHMCTL_COMMANDS: &[Name] = &[
    (0, "IPC_RMID"),
    (1, "IPC_SET"),
    (2, "IPC_STAT"),
    (3, "IPC_INFO"),
    (11, "SHM_LOCK"),
    (12, "SHM_UNLOCK"),
    (13, "SHM_STAT"),
    (14, "SHM_INFO"),
    (15, "SHM_STAT_ANY"),
];

/// Commands of msgctl: `include/uapi/linux/ipc.h`, `msg.h`.
pub const MSGCTL_COMMANDS: &[Name] = &[
    (0, "IPC_RMID"),
    (1, "IPC_SET"),
    (2, "IPC_STAT"),
    (3, "IPC_INFO"),
    (11, "MSG_STAT"),
    (12, "MSG_INFO"),
    (13, "MSG_STAT_ANY"),
];

/// The bit that old C libraries add to commands, `include/linux/ipc.h`; stripped before decoding.
pub const IPC_64: i64 = 0x100;

/// How a mask changes: `include/uapi/asm-generic/signal-defs.h`.
pub const SIG_HOW: &[Name] = &[(0, "SIG_BLOCK"), (1, "SIG_UNBLOCK"), (2, "SIG_SETMASK")];

/// Signal names, `include/uapi/asm-generic/signal.h`; x86 and arm64.
pub const SIGNALS: &[Name] = &[
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (16, "SIGSTKFLT"),
    (17, "SIGCHLD"),
    (18, "SIGCONT"),
    (19, "SIGSTOP"),
    (20, "SIGTSTP"),
    (21, "SIGTTIN"),
    (22, "SIGTTOU"),
    (23, "SIGURG"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (26, "SIGVTALRM"),
    (27, "SIGPROF"),
    (28, "SIGWINCH"),
    (29, "SIGIO"),
    (30, "SIGPWR"),
    (31, "SIGSYS"),
];

/// How the `flags` of an operation are spelt, `None` for an operation without flags.
pub fn flags_of(operation: &str) -> Option<&'static [Name]> {
    Some(match operation {
        "semget" | "msgget" => GET_FLAGS,
        "shmget" => SHMGET_FLAGS,
        "shmat" => SHMAT_FLAGS,
        "msgsnd" | "msgrcv" => MSG_FLAGS,
        "mq_open" => MQ_OPEN_FLAGS,
        "mq_getsetattr" => MQ_FLAGS,
        "signalfd" => SIGNALFD_FLAGS,
        "sigaction" => SA_FLAGS,
        _ => return None,
    })
}

/// The commands of a `*ctl` operation, `None` for any other.
pub fn commands_of(operation: &str) -> Option<&'static [Name]> {
    Some(match operation {
        "semctl" => SEMCTL_COMMANDS,
        "shmctl" => SHMCTL_COMMANDS,
        "msgctl" => MSGCTL_COMMANDS,
        _ => return None,
    })
}

/// Writes `value` as `NAME|NAME|0600`: the names of its bits, then what has no name: in octal where the operation has
/// permission bits (`mode`), else in hexadecimal. Zero is `0`.
///
/// # Errors
/// Those of `out`.
pub fn write_flags(out: &mut impl core::fmt::Write, list: &[Name], value: i32, mode: bool) -> core::fmt::Result {
    let mut rest = value as u32;
    let mut separator = "";
    for (bit, name) in list {
        let bit = *bit as u32;
        if rest & bit == bit {
            write!(out, "{separator}{name}")?;
            separator = "|";
            rest &= !bit;
        }
    }
    match (rest, mode, separator) {
        (0, _, "") => out.write_str("0"),
        (0, _, _) => Ok(()),
        (_, true, _) => write!(out, "{separator}0{rest:o}"),
        (_, false, _) => write!(out, "{separator}{rest:#x}"),
    }
}

/// Writes the flags of mq_open: the access mode, the other flags, and, where it may create, the permission bits.
///
/// # Errors
/// Those of `out`.
pub fn write_open_flags(out: &mut impl core::fmt::Write, list: &[Name], flags: i32, mode: i32) -> core::fmt::Result {
    const O_CREAT: i32 = 0o100;
    out.write_str(ACCESS_MODES[(flags & 3) as usize])?;
    if flags & !3 != 0 {
        out.write_str("|")?;
        write_flags(out, list, flags & !3, false)?;
    }
    if flags & O_CREAT != 0 { write!(out, "|0{mode:o}") } else { Ok(()) }
}

/// Writes a signal set: `SIGINT|SIGTERM|SIGRT_2`; the empty set is `0`, the full one `ALL`.
///
/// # Errors
/// Those of `out`.
pub fn write_signal_set(out: &mut impl core::fmt::Write, set: u64) -> core::fmt::Result {
    if set == 0 || set == u64::MAX {
        return out.write_str(if set == 0 { "0" } else { "ALL" });
    }
    let mut separator = "";
    for signal in (1..=64).filter(|n| set >> (n - 1) & 1 == 1) {
        match name(SIGNALS, signal) {
            Some(name) => write!(out, "{separator}{name}")?,
            None => write!(out, "{separator}SIGRT_{}", signal - 32)?,
        }
        separator = "|";
    }
    Ok(())
}
