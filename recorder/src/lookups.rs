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
use std::time::{Duration, Instant};

/// How long an answer may take: who captures waits for it, and the rings fill.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing is asked after a late answer: a slow helper is waited for a tenth of the time.
const REST: Duration = Duration::from_secs(10);

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
    questions: Questions,
    _helper: Arc<Helper>,
}

/// Questions, one after the other, to somebody who may be slow.
struct Questions {
    channel: Channel,
    /// When the answer that is still to come was late.
    behind_since: Option<Instant>,
    /// What was asked, or would have been, and not answered in time.
    unanswered: u64,
}

impl Lookups {
    /// Through this channel.
    pub fn through(channel: Channel, helper: Arc<Helper>) -> Lookups {
        Lookups(Some(Arc::new(Mutex::new(Way { questions: Questions::through(channel), _helper: helper }))))
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

    /// Whether a thread is still inside a call; `None`: nobody can tell.
    pub fn is_inside(&self, pid: u32, tid: u32, entry: &EntryPoint, registers: &[u64; 6]) -> Option<bool> {
        let request = Request::IsInside { pid, tid, code: entry.code, registers: *registers };
        self.ask(&request).map(|(is_inside, _)| is_inside)
    }

    /// What is not known because the helper did not answer in time.
    pub fn missing(&self) -> Option<Missing> {
        let unanswered = self.way()?.questions.unanswered;
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
        self.way()?.questions.ask(request)
    }
}

impl Questions {
    fn through(channel: Channel) -> Questions {
        Questions { channel, behind_since: None, unanswered: 0 }
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Option<(T, Option<OwnedFd>)> {
        if self.is_behind() {
            self.unanswered += 1;
            return None;
        }
        self.channel.send(request, None).ok()?;
        let received = self.channel.receive();
        if received.as_ref().is_err_and(is_late) {
            self.unanswered += 1;
            self.behind_since = Some(Instant::now());
        }
        received.ok()?
    }

    /// Whether the last answer was late, and nothing is to be asked yet: neither while it is still to come nor soon after.
    fn is_behind(&mut self) -> bool {
        let Some(since) = self.behind_since else { return false };
        if since.elapsed() < REST {
            return true;
        }
        if self.channel.try_receive::<IgnoredAny>().as_ref().is_err_and(is_late) {
            return true;
        }
        self.behind_since = None;
        false
    }
}

/// Whether there was no message in time.
fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_late_answer_is_nobody_elses() {
        let (own, other) = Channel::pair(Duration::from_millis(20)).unwrap();
        let (mut questions, mut other) = (Questions::through(own), Channel::of(other));
        let mut asked = |pid| questions.ask::<u32>(&Request::Files(pid)).map(|(answer, _)| answer);
        assert_eq!((asked(1), asked(2)), (None, None));
        let pid_asked = |other: &mut Channel| match other.receive().unwrap() {
            Some((Request::Files(pid), _)) => pid,
            _ => 0,
        };
        assert_eq!(pid_asked(&mut other), 1);
        other.send(&1, None).unwrap();
        assert_eq!(asked(3), None, "it is left alone for a while");
        questions.behind_since = Instant::now().checked_sub(REST);
        let answering = std::thread::spawn(move || {
            let pid = pid_asked(&mut other);
            other.send(&pid, None).unwrap();
            pid
        });
        let (fourth, _) = questions.ask::<u32>(&Request::Files(4)).unwrap();
        assert_eq!((fourth, answering.join().unwrap(), questions.unanswered), (4, 4, 3));
    }

    #[test]
    fn half_an_answer_is_none() {
        let (own, other) = Channel::pair(Duration::from_millis(20)).unwrap();
        let mut questions = Questions::through(own);
        rustix::io::write(&other, b"12").unwrap();
        for _ in 0..3 {
            let begun = Instant::now();
            assert!(questions.ask::<u32>(&Request::Files(1)).is_none());
            questions.behind_since = Instant::now().checked_sub(REST);
            assert!(begun.elapsed() < Duration::from_millis(200));
        }
        rustix::io::write(&other, b"3\n").unwrap();
        assert!(!questions.is_behind());
        rustix::io::write(&other, b"45\n").unwrap();
        assert_eq!(questions.ask::<u32>(&Request::Files(2)).unwrap().0, 45);
    }
}
