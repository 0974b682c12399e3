//! What other processes are: asked of the helper, for who captures has no right to look.

use crate::binaries::{Mapped, mapped_files};
use crate::procfs::{self, Status};
use crate::scan;
use crate::snapshot::{Channel, Helper};
use ipc_schema::catalogue::EntryPoint;
use ipc_schema::manifest::Missing;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long an answer may take: who captures waits for it, and the rings fill.
pub const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
enum Request {
    Process { pid: u32, with_cmdline: bool },
    Files(u32),
    Open { pid: u32, mapping: String, path: String },
    IsInside { pid: u32, tid: u32, code: u8, registers: [u64; 6] },
}

/// What `/proc` says of a process; all of it may be gone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Described {
    /// Process id of the parent.
    pub parent_pid: Option<u32>,
    /// Process id in its own namespace.
    pub ns_pid: Option<i32>,
    /// Path of the program.
    pub exe: Option<String>,
    /// cgroup path.
    pub cgroup: Option<String>,
    /// Arguments, if they were asked for.
    pub cmdline: Option<String>,
}

impl Described {
    fn of(pid: u32, with_cmdline: bool) -> Described {
        let status = Status::of(pid);
        Described {
            parent_pid: status.parent_pid(),
            ns_pid: status.ns_pid(),
            exe: procfs::exe(pid),
            cgroup: procfs::cgroup(pid),
            cmdline: if with_cmdline { procfs::cmdline(pid) } else { None },
        }
    }
}

/// Asks the helper; without one nothing is known.
#[derive(Clone, Default)]
pub struct Lookups(Option<Arc<Mutex<Way>>>);

/// The way to the helper. The channel goes first: the helper ends when it is closed.
struct Way {
    channel: Channel,
    /// The last answer is still to come: until then nothing is asked.
    is_behind: bool,
    /// What was asked, or would have been, and not answered in time.
    unanswered: u64,
    _helper: Arc<Helper>,
}

impl Lookups {
    /// Through this channel.
    pub fn through(channel: Channel, helper: Arc<Helper>) -> Lookups {
        Lookups(Some(Arc::new(Mutex::new(Way { channel, is_behind: false, unanswered: 0, _helper: helper }))))
    }

    /// What a process is.
    pub fn process(&self, pid: u32, with_cmdline: bool) -> Described {
        self.ask(&Request::Process { pid, with_cmdline }).map(|(found, _)| found).unwrap_or_default()
    }

    /// The files that a process has mapped executable.
    pub fn files(&self, pid: u32) -> Vec<Mapped> {
        self.ask(&Request::Files(pid)).map(|(found, _)| found).unwrap_or_default()
    }

    /// Opens one of them.
    pub fn open(&self, pid: u32, file: &Mapped) -> Option<File> {
        let (mapping, path) = (file.mapping.clone(), file.path.clone());
        let (_, opened): ((), _) = self.ask(&Request::Open { pid, mapping, path })?;
        opened.map(File::from)
    }

    /// Whether a thread is still inside a call.
    pub fn is_inside(&self, pid: u32, tid: u32, entry: &EntryPoint, registers: &[u64; 6]) -> bool {
        let request = Request::IsInside { pid, tid, code: entry.code, registers: *registers };
        self.ask(&request).is_some_and(|(is_inside, _)| is_inside)
    }

    /// What is not known because the helper did not answer in time.
    pub fn missing(&self) -> Option<Missing> {
        let unanswered = self.way()?.unanswered;
        (unanswered > 0).then(|| Missing {
            feature: "processes".into(),
            reason: format!("the helper, which looks at them, did not answer {unanswered} times within {PATIENCE:?}"),
            remedy: "see what holds it up (/proc/PID/stack, /proc/PID/wchan); programs and cgroups of these are NULL"
                .into(),
        })
    }

    fn way(&self) -> Option<MutexGuard<'_, Way>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None` also when the helper is gone, or hangs.
    fn ask<T: DeserializeOwned>(&self, request: &Request) -> Option<(T, Option<OwnedFd>)> {
        self.way()?.ask(request)
    }
}

impl Way {
    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Option<(T, Option<OwnedFd>)> {
        if self.is_behind && self.channel.has_news() {
            self.receive::<IgnoredAny>();
        }
        if self.is_behind {
            self.unanswered += 1;
            return None;
        }
        self.channel.send(request, None).ok()?;
        self.receive()
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Option<(T, Option<OwnedFd>)> {
        let received = self.channel.receive();
        self.is_behind = received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.unanswered += u64::from(self.is_behind);
        received.ok()?
    }
}

/// The helper's side: answers until nobody asks any more.
pub fn serve(mut channel: Channel) -> io::Result<()> {
    while let Some((request, _)) = channel.receive()? {
        match request {
            Request::Process { pid, with_cmdline } => channel.send(&Described::of(pid, with_cmdline), None)?,
            Request::Files(pid) => channel.send(&mapped_files(pid), None)?,
            Request::Open { pid, mapping, path } => {
                // Nothing but what the process executes: not every file of the machine.
                let is_asked = |file: &Mapped| file.mapping == mapping && file.path == path;
                let file = mapped_files(pid).into_iter().find(is_asked);
                let opened = file.and_then(|file| file.open(pid));
                channel.send(&(), opened.as_ref().map(File::as_fd))?;
            }
            Request::IsInside { pid, tid, code, registers } => {
                channel.send(&scan::is_still_inside(pid, tid, code, &registers), None)?;
            }
        }
    }
    Ok(())
}
