//! Passes signals on to the command, also when it runs as another user by now and this process has no right left: the kernel
//! sends the signal of a file in the name of who became its owner, when they did (`sigio_perm` of fs/fcntl.c).

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;

/// The way to a command.
pub struct Forward {
    pid: Pid,
    receiving: OwnedFd,
    sending: OwnedFd,
}

/// Not in the crate libc; include/uapi/asm-generic/fcntl.h.
const F_SETSIG: c_int = 10;

impl Forward {
    /// To be made with the rights that the user has.
    ///
    /// # Errors
    /// The process is gone.
    pub fn to(pid: u32) -> io::Result<Forward> {
        let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidInput)?;
        let (receiving, sending) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let forward = Forward { pid, receiving, sending };
        forward.control(libc::F_SETOWN, pid.as_raw_nonzero().get())?;
        forward.control(libc::F_SETFL, libc::O_ASYNC)?;
        Ok(forward)
    }

    /// Sends a signal; nobody may be there any more.
    pub fn send(&self, signal: Signal) {
        if kill_process(self.pid, signal) == Err(Errno::PERM) && self.control(F_SETSIG, signal.as_raw()).is_ok() {
            let _ = rustix::io::write(&self.sending, &[0]);
            let _ = rustix::io::read(&self.receiving, &mut [0]);
        }
    }

    fn control(&self, command: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: these commands take an int and change the state of the open file alone.
        match unsafe { libc::fcntl(self.receiving.as_raw_fd(), command, value) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}
