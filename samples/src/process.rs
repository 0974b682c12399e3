//! Processes that die with their parent and never outstay their time.

use crate::context::Context;
use crate::{Failure, Result, clock};
use std::time::{Duration, Instant};

/// The process id of the running process.
pub(crate) fn own_pid() -> i32 {
    std::process::id() as i32
}

/// The thread id of the running thread.
pub(crate) fn own_tid() -> i32 {
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Ends the process after `time` by SIGALRM, whatever it waits for.
pub(crate) fn set_alarm(time: Duration) {
    // SAFETY: alarm takes a number.
    unsafe { libc::alarm(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1)) };
}

/// Leaves at once, without destructors: they belong to the parent.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Forks a process that runs `body` and exits with 0 or, after a line on stderr, 1. Only for a program with one thread.
pub(crate) fn fork(context: &mut Context, body: impl FnOnce(&Context) -> Result<()>) -> Result<i32> {
    let pid = fork_unlisted(context, body)?;
    context.add_pid(pid);
    Ok(pid)
}

/// The same for a process that the result does not list.
pub(crate) fn fork_unlisted(context: &Context, body: impl FnOnce(&Context) -> Result<()>) -> Result<i32> {
    let parent = own_pid();
    // SAFETY: the caller has one thread, so no lock of another thread is held in the child.
    match unsafe { libc::fork() } {
        -1 => Err(Failure::last("cannot fork")),
        0 => {
            // SAFETY: prctl(PR_SET_PDEATHSIG) takes a signal number; getppid takes nothing.
            let orphan = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::getppid() != parent
            };
            if orphan {
                leave(1);
            }
            set_alarm(context.timeout);
            match body(context) {
                Ok(()) => leave(0),
                Err(failure) => {
                    eprintln!("ipc-workload: {failure}");
                    leave(1)
                }
            }
        }
        pid => Ok(pid),
    }
}

/// Moves the process, which has one thread, into an IPC namespace of its own.
pub(crate) fn leave_ipc_namespace() -> Result<()> {
    // SAFETY: unshare takes flags.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } != 0 {
        return Err(Failure::last("cannot have an IPC namespace (are you root?)"));
    }
    Ok(())
}

/// Waits for a process and returns its wait status.
pub(crate) fn wait(pid: i32) -> Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid int that the call fills.
        if unsafe { libc::waitpid(pid, &mut status, 0) } == pid {
            return Ok(status);
        }
        if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return Err(Failure::last("cannot wait for a process"));
        }
    }
}

/// Waits for processes that should exit with 0.
pub(crate) fn wait_all(pids: &[i32]) -> Result<()> {
    for pid in pids {
        let status = wait(*pid)?;
        if status != 0 {
            return Err(Failure::new(format!("process {pid} of the scenario ended with wait status {status:#x}")));
        }
    }
    Ok(())
}

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes two numbers.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(Failure::last("cannot send a signal"));
    }
    Ok(())
}

/// Voluntary context switches of the running thread: how often it slept, whatever for.
pub(crate) fn voluntary_switches() -> i64 {
    // SAFETY: zero is a valid rusage; the call fills it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage.ru_nvcsw
    }
}

/// The state of a thread, as `/proc/TID/stat` has it: R, S, T…
pub(crate) fn state(tid: i32) -> Result<Option<char>> {
    let path = format!("/proc/{tid}/stat");
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
    // It follows the name, which is in brackets and may hold any character.
    Ok(text.rsplit(") ").next().and_then(|rest| rest.chars().next()))
}

/// Waits until the thread `tid` sleeps inside the system call `number`, and returns the boot clock then.
pub(crate) fn wait_until_inside(tid: i32, number: i64) -> Result<i64> {
    let path = format!("/proc/{tid}/syscall");
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        // First the state: the other file shows the system call of a thread that was just woken too.
        let sleeps = state(tid)? == Some('S');
        let text = std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
        // "running" while it is on a CPU, else the number and the argument registers.
        if sleeps && text.split(' ').next().and_then(|n| n.parse().ok()) == Some(number) {
            return Ok(clock::boot_ns());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Err(Failure::new(format!("thread {tid} did not enter system call {number} within 20 s")))
}
