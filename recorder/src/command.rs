//! Starts the command to record, held back until the probes know it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::JoinHandle;

/// A command that has a process id but has not begun.
pub struct Held {
    /// Its process id.
    pub pid: u32,
    go: OwnedFd,
    spawning: JoinHandle<io::Result<Child>>,
}

/// Forks a process that waits for [`Held::go`] before it becomes the command.
///
/// # Errors
/// The process cannot be made.
pub fn hold(arguments: &[OsString]) -> io::Result<Held> {
    let cloexec = rustix::pipe::PipeFlags::CLOEXEC;
    let (pid_read, pid_write) = rustix::pipe::pipe_with(cloexec)?;
    let (go_read, go) = rustix::pipe::pipe_with(cloexec)?;
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).env_remove(crate::attach::BEGUN_AGAIN);
    let go_in_child = go.as_raw_fd();
    let hold = move || {
        // The child has a copy of our end too, which would keep the pipe open for ever if we died.
        // SAFETY: the descriptor is the child's copy, and nothing else in the child uses it before it execs.
        unsafe { libc::close(go_in_child) };
        rustix::io::write(&pid_write, &std::process::id().to_ne_bytes())?;
        let mut byte = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(&go_read, &mut byte))? {
            1 => Ok(()),
            _ => Err(io::Error::other("the recorder gave up")),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made: close, write, read.
    unsafe { command.pre_exec(hold) };
    // `spawn` returns only after exec, so it waits in a thread of its own.
    let spawning = std::thread::Builder::new().name("spawn".into()).spawn(move || command.spawn())?;
    let mut pid = [0; 4];
    match std::fs::File::from(pid_read).read_exact(&mut pid) {
        Ok(()) => Ok(Held { pid: u32::from_ne_bytes(pid), go, spawning }),
        Err(e) => Err(joined(spawning).err().unwrap_or(e)),
    }
}

fn joined(spawning: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    spawning.join().unwrap_or_else(|_| Err(io::Error::other("starting the command panicked")))
}

impl Held {
    /// Lets it begin.
    ///
    /// # Errors
    /// It cannot be executed.
    pub fn go(self) -> io::Result<Child> {
        std::fs::File::from(self.go).write_all(&[1])?;
        joined(self.spawning)
    }
}

/// The file of a command, looked up in PATH as `execvp` does.
pub fn file(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![PathBuf::new()]
    } else {
        std::env::split_paths(&path).collect()
    };
    let file = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())?;
    file.canonicalize().ok()
}

/// Why a command could not be started, and what to do.
pub fn start_failure(command: &OsString, error: &io::Error) -> String {
    let name = command.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => format!("cannot start {name}: no such program; check its name and PATH"),
        io::ErrorKind::PermissionDenied => format!("cannot start {name}: permission denied; is it executable?"),
        _ => format!("cannot start {name}: {error}"),
    }
}
