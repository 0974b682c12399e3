//! What errors mean: one table for all commands.

/// Errors that programs count on: they say that something is not there yet, or there already, and that it was tried.
const ORDINARY: [&str; 6] = ["EAGAIN", "ENOMSG", "EEXIST", "ENOENT", "EINTR", "ETIMEDOUT"];

/// Whether an error is a part of normal work.
pub fn is_ordinary(error: &str) -> bool {
    ORDINARY.contains(&error)
}

/// What an error usually means in an operation; from the man pages.
pub fn meaning(syscall: &str, error: &str) -> Option<&'static str> {
    Some(match (error, syscall) {
        ("EAGAIN", "semop" | "semtimedop") => "would block (IPC_NOWAIT), or timed out",
        ("EAGAIN", "msgsnd" | "mq_timedsend") => "queue full, and told not to wait",
        ("EAGAIN", "mq_timedreceive") => "queue empty, and told not to wait",
        ("EAGAIN", "sigtimedwait") => "timed out",
        ("ENOMSG", _) => "no such message, and told not to wait",
        ("EIDRM", _) => "the object was removed while it waited",
        ("EINTR", _) => "interrupted by a signal",
        ("ETIMEDOUT", _) => "timed out",
        ("EEXIST", _) => "exists, and IPC_EXCL or O_EXCL was asked for",
        ("ENOENT", _) => "does not exist",
        ("EACCES", _) => "no permission on the object",
        ("EPERM", _) => "neither owner nor privileged",
        ("EINVAL", "semget" | "shmget") => "size beyond the limit or the existing object's",
        ("EINVAL", "mq_open") => "attributes beyond fs.mqueue.msg_max, msgsize_max",
        ("EINVAL", "sigaction" | "sigprocmask" | "sigsuspend" | "sigpending" | "sigtimedwait" | "signalfd") => {
            "bad signal, how or size of the set"
        }
        ("EINVAL", _) => "no such id (removed?), or a bad argument",
        ("EFBIG", _) => "semaphore number outside the set",
        ("ERANGE", _) => "semaphore value beyond SEMVMX",
        ("E2BIG", "msgrcv") => "message longer than the buffer",
        ("E2BIG", _) => "more operations than SEMOPM",
        ("EMSGSIZE", _) => "message longer than mq_msgsize, or buffer shorter",
        ("ENOSPC", _) => "system-wide limit on objects reached",
        ("EMFILE", _) => "RLIMIT_MSGQUEUE or RLIMIT_NOFILE reached",
        ("ENFILE", _) => "system file table full",
        ("ENOMEM", _) => "no kernel memory",
        ("EFAULT", _) => "bad pointer",
        ("EBADF", _) => "no such descriptor",
        ("ENOSYS", _) => "not in this kernel",
        _ => return None,
    })
}
