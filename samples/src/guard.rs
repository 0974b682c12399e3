//! A process that removes what the program leaves behind when it dies early.
//!
//! It hears of every object over a pipe. When the program says that it is done, the guard exits without a call; when
//! the pipe closes without that word, it removes every object it knows.

use crate::{Failure, Result, process};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::time::Duration;

/// A kind of object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sem = 1,
    Shm = 2,
    Msg = 3,
    Mq = 4,
}

/// One message to the guard: kind (0 = done), id, and the name of a POSIX queue. Shorter than PIPE_BUF, so atomic.
const MESSAGE: usize = 64;
const NAME_FROM: usize = 8;

/// The program's end of the pipe.
pub(crate) struct Guard {
    pipe: File,
    pid: i32,
}

impl Guard {
    /// Starts the guard; it outlives the program by little.
    pub(crate) fn start(timeout: Duration) -> Result<Guard> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(Failure::last("cannot create a pipe"));
        }
        // SAFETY: both descriptors are fresh and owned by nobody else.
        let (read, write) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
        // SAFETY: the program has one thread here, so the child may use everything.
        match unsafe { libc::fork() } {
            -1 => Err(Failure::last("cannot fork")),
            0 => {
                drop(write);
                watch(read, timeout);
                process::leave(0)
            }
            pid => Ok(Guard { pipe: write, pid }),
        }
    }

    /// Tells the guard of a System V object.
    pub(crate) fn add(&self, kind: Kind, id: i32) -> Result<()> {
        self.send(kind as u8, id, b"")
    }

    /// Tells the guard of a POSIX queue; the name as the kernel takes it, without the slash.
    pub(crate) fn add_queue(&self, name: &str) -> Result<()> {
        self.send(Kind::Mq as u8, 0, name.as_bytes())
    }

    /// The program removed everything itself.
    pub(crate) fn release(self) -> Result<()> {
        self.send(0, 0, b"")?;
        process::wait(self.pid).map(drop)
    }

    fn send(&self, kind: u8, id: i32, name: &[u8]) -> Result<()> {
        let mut message = [0_u8; MESSAGE];
        message[0] = kind;
        message[4..8].copy_from_slice(&id.to_ne_bytes());
        let length = name.len().min(MESSAGE - NAME_FROM - 1);
        message[NAME_FROM..NAME_FROM + length].copy_from_slice(&name[..length]);
        (&self.pipe).write_all(&message).map_err(|e| Failure::new(format!("cannot tell the guard process: {e}")))
    }
}

/// The guard itself.
fn watch(mut pipe: File, timeout: Duration) {
    // SAFETY: plain system calls without pointers; the guard must survive a Ctrl-C at the terminal and must not hold
    // the program's output open.
    unsafe {
        libc::setsid();
        libc::close(0);
        libc::close(1);
        libc::close(2);
    }
    process::set_alarm(timeout + Duration::from_secs(30));
    let mut message = [0_u8; MESSAGE];
    let mut known = Vec::new();
    while pipe.read_exact(&mut message).is_ok() {
        if message[0] == 0 {
            return;
        }
        known.push(message);
    }
    for message in known {
        remove(&message);
    }
}

/// Removes one object; one that is gone already is no error.
fn remove(message: &[u8; MESSAGE]) {
    let id = i32::from_ne_bytes([message[4], message[5], message[6], message[7]]);
    let name: Vec<u8> = message[NAME_FROM..].iter().copied().take_while(|b| *b != 0).collect();
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: IPC_RMID reads no memory; the name is NUL-terminated.
    unsafe {
        match message[0] {
            1 => libc::syscall(libc::SYS_semctl, id, 0, libc::IPC_RMID, 0),
            2 => libc::syscall(libc::SYS_shmctl, id, libc::IPC_RMID, 0),
            3 => libc::syscall(libc::SYS_msgctl, id, libc::IPC_RMID, 0),
            _ => libc::syscall(libc::SYS_mq_unlink, name.as_ptr()),
        };
    }
}
