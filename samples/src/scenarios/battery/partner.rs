//! A process that waits until the case is inside a blocking call, and then ends the wait.

use crate::process::{leave, own_pid, set_alarm, signal, wait_all, wait_until_inside};
use crate::{Failure, Result};
use std::time::Duration;

/// A process inside a blocking call.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pid: i32,
    number: u16,
}

/// What a partner does to it.
pub(super) type Deed = Box<dyn FnOnce(Waiting) -> Result<()>>;

/// Starts a partner of this process that acts when it is inside the system call `number`.
pub(super) fn start(number: u16, deed: Deed) -> Result<i32> {
    let waiting = Waiting { pid: own_pid(), number };
    // SAFETY: this process has one thread, so no lock of another thread is held in the child.
    match unsafe { libc::fork() } {
        -1 => Err(Failure::last("cannot fork")),
        0 => {
            // SAFETY: prctl(PR_SET_PDEATHSIG) takes a signal number.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            set_alarm(Duration::from_secs(30));
            match waiting.until_inside().and_then(|()| deed(waiting)) {
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

/// Waits for a partner that should have done its deed.
pub(super) fn join(pid: i32) -> Result<()> {
    wait_all(&[pid])
}

impl Waiting {
    fn until_inside(self) -> Result<()> {
        wait_until_inside(self.pid, self.number.into()).map(drop)
    }

    /// Interrupts it by SIGUSR1.
    pub(super) fn interrupt(self) -> Result<()> {
        signal(self.pid, libc::SIGUSR1)
    }

    /// Interrupts it, and waits until it waits again.
    pub(super) fn interrupt_once(self) -> Result<()> {
        self.interrupt()?;
        self.until_delivered()?;
        self.until_inside()
    }

    /// Waits until no signal is left that is sent and not yet delivered.
    fn until_delivered(self) -> Result<()> {
        let path = format!("/proc/{}/status", self.pid);
        for _ in 0..100_000 {
            let text = std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
            let mut pending = text.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd"));
            if pending.all(|line| line.ends_with("0000000000000000")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Err(Failure::new(format!("process {} does not take its signal", self.pid)))
    }
}
