//! Programs that run under a test: bounded in time, ended with the test, their output kept in files.

use crate::programs;
use crate::trace::Trace;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing in a test takes longer, unless it is soaked.
pub const LONG: Duration = Duration::from_secs(240);

/// A program that runs.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    what: String,
}

/// A program that ended.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Running {
    /// Starts `command`, its output in files `NAME.stdout` and `NAME.stderr` of `folder`.
    pub fn start(mut command: Command, folder: &Path, name: &str) -> Running {
        let (stdout, stderr) = (folder.join(format!("{name}.stdout")), folder.join(format!("{name}.stderr")));
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        Running { child, stdout, stderr, what }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it printed until now.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it said until now.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Whether it has a thread of this name.
    pub fn has_thread(&self, name: &str) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        tasks.map(|task| fs::read_to_string(task.path().join("comm"))).any(|comm| comm.is_ok_and(|c| c.trim() == name))
    }

    /// Whether it ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended { status, stdout: self.stdout(), stderr: self.stderr() };
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{} still runs after {limit:?}; it said:\n{}", self.what, self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error: it has ended. What the kernel does not let go must not keep the test from saying so.
        let _ = self.child.kill();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Ended {
    /// Its exit code; a signal as a shell shows it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Itself, when it exited with `code`.
    ///
    /// # Panics
    /// When it did not.
    pub fn with_code(self, code: i32) -> Ended {
        assert_eq!(self.code(), code, "exit code; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Sends a signal to a process that exists.
pub fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Runs a command to its end, within [`LONG`].
pub fn run(command: Command, folder: &Path, name: &str) -> Ended {
    Running::start(command, folder, name).wait(LONG)
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within 30 seconds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "after 30 s still not: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A recording to be made, in a temporary folder.
pub struct Recording {
    folder: TempDir,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording::new()
    }
}

impl Recording {
    /// A new folder.
    pub fn new() -> Recording {
        Recording { folder: TempDir::with_prefix("ipc-tests-").unwrap() }
    }

    /// The folder: of the trace, the outputs and whatever the test needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The trace's directory.
    pub fn trace_path(&self) -> PathBuf {
        self.path("trace")
    }

    /// `ipc-recorder record -o TRACE OPTIONS`.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(programs::path("ipc-recorder"));
        command.arg("record").arg("-o").arg(self.trace_path()).args(options);
        command
    }

    /// Starts `ipc-recorder record -o TRACE OPTIONS -- ipc-workload ARGUMENTS`.
    pub fn start(&self, options: &[&str], arguments: &[&str]) -> Running {
        let mut command = self.command(options);
        command.arg("--").arg(programs::path("ipc-workload")).args(arguments);
        Running::start(command, self.folder(), "record")
    }

    /// The same to its end, which must be a success.
    pub fn record(&self, options: &[&str], arguments: &[&str]) -> Ended {
        self.start(options, arguments).wait(LONG).with_code(0)
    }

    /// Starts `ipc-recorder record -o TRACE OPTIONS` without a command and waits until it records.
    pub fn start_alone(&self, options: &[&str]) -> Running {
        let mut recorder = Running::start(self.command(options), self.folder(), "record");
        // The manifest is written first when the probes are live.
        wait_until("the recorder records", || {
            assert!(!recorder.has_ended(), "the recorder ended early:\n{}", recorder.stderr());
            self.trace_path().join(ipc_schema::manifest::FILE_NAME).exists()
        });
        recorder
    }

    /// The trace.
    pub fn trace(&self) -> Trace {
        Trace::open(&self.trace_path())
    }
}
