//! The process that takes the snapshots and looks at other processes, and the ways to ask it.
//!
//! It is started before any privilege is dropped, and keeps those that reading what belongs to others takes; it ends when
//! those who ask do. Two sockets lead to it, each answered by a thread: snapshots take their time, and the capture does not
//! wait for them.

use super::channel::Channel;
use super::{Limit, Snapshot, control, filter, limits, take};
use crate::follow::Follow;
use crate::lookups::{self, Lookups};
use crate::priority;
use crate::privilege;
use crate::scan::{self, Scanned};
use ipc_schema::manifest::Missing;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::CapabilitySet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// The hidden subcommand under which this program runs [`serve`].
pub const SUBCOMMAND: &str = "snapshot-helper";

/// What the helper keeps: to enter IPC namespaces and mount their queues (SYS_ADMIN), to look at the processes of others
/// (SYS_PTRACE), at their System V objects (IPC_OWNER), and at files that only they may read, such as their queues,
/// `/proc/PID/syscall` and `/proc/PID/fd` (DAC_OVERRIDE; the filter lets nothing be opened for writing).
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::DAC_OVERRIDE);

/// How long a snapshot may take, or the look at one thread: files in `/proc` can be behind locks that are held for long.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
enum Request {
    Snapshot,
    ProcessLimits(u32),
    Scan { follow: Follow, with_cmdlines: bool },
}

#[derive(Serialize, Deserialize)]
enum Found {
    Thread(Box<Scanned>),
    /// No more threads; what of them was withheld.
    Done(Option<Missing>),
}

/// The helper process: it ends when nobody can ask it any more.
pub struct Helper(Child);

impl Helper {
    /// Starts it: this program again, under its hidden subcommand.
    pub fn start() -> io::Result<(Snapshots, Lookups)> {
        let (snapshots, their_snapshots) = Channel::pair(PATIENCE)?;
        let (lookups, their_lookups) = Channel::pair(lookups::PATIENCE)?;
        let helper = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .stdin(Stdio::from(their_snapshots))
            .stdout(Stdio::from(their_lookups))
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("the snapshot helper does not start: {error}")))?;
        let helper = Arc::new(Helper(helper));
        Ok((Snapshots { channel: snapshots, helper: helper.clone() }, Lookups::through(lookups, helper)))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It ends by itself, for both sockets are closed; under sudo it belongs to another user by now.
        let _ = self.0.kill();
        // One that hangs in the kernel does not even die.
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Asks for snapshots.
pub struct Snapshots {
    channel: Channel,
    helper: Arc<Helper>,
}

impl Snapshots {
    /// The helper's process id: its calls are not to be recorded.
    pub fn pid(&self) -> u32 {
        self.helper.0.id()
    }

    /// Takes a snapshot. What could not be read stands in its `missing`; an error means that the helper is gone, or that its
    /// answer, if it comes, is not waited for: it must not be asked again.
    pub fn take(&mut self) -> io::Result<Snapshot> {
        self.channel.send(&Request::Snapshot, None)?;
        self.answer()
    }

    /// The limits of one process that its IPC calls can meet; empty if it is gone.
    pub fn process_limits(&mut self, pid: u32) -> io::Result<Vec<Limit>> {
        self.channel.send(&Request::ProcessLimits(pid), None)?;
        self.answer()
    }

    /// Looks at every thread that is followed; what of them was withheld.
    pub fn scan(
        &mut self,
        follow: &Follow,
        with_cmdlines: bool,
        mut each: impl FnMut(Scanned),
    ) -> io::Result<Option<Missing>> {
        self.channel.send(&Request::Scan { follow: follow.clone(), with_cmdlines }, None)?;
        loop {
            match self.answer()? {
                Found::Thread(thread) => each(*thread),
                Found::Done(missing) => return Ok(missing),
            }
        }
    }

    fn answer<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot helper ended");
        let silent = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, format!("the snapshot helper was silent for {PATIENCE:?}"))
            }
            _ => error,
        };
        self.channel.receive().map_err(silent)?.map(|(answer, _)| answer).ok_or_else(gone)
    }
}

/// The helper itself: answers requests until nobody can ask any more.
pub fn serve() -> io::Result<()> {
    // Ctrl-C and a service's stop reach it too, but the last snapshot is taken after them.
    control::ignore_group_signals();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It holds a descriptor per namespace.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })?;
    let (snapshots, lookups) = (inherited(&io::stdin())?, inherited(&io::stdout())?);
    priority::raise(); // the capture waits for what is looked up
    privilege::keep_only(KEPT)?;
    // What a thread does to begin and a process to learn of its pages is not what the filter is about.
    rustix::param::page_size();
    let begun = Arc::new(Barrier::new(2));
    let begins = begun.clone();
    let look = move || {
        begins.wait();
        lookups::serve(lookups)
    };
    let looking = std::thread::Builder::new().name("lookups".into()).spawn(look)?;
    priority::lower();
    begun.wait();
    filter::apply().map_err(io::Error::other)?;
    unless_gone(answer_all(snapshots))?;
    unless_gone(looking.join().unwrap_or_else(|_| Err(io::Error::other("looking at processes panicked"))))
}

/// A recorder that was killed takes no answer.
fn unless_gone(ended: io::Result<()>) -> io::Result<()> {
    ended.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(error),
    })
}

fn inherited(socket: &impl AsFd) -> io::Result<Channel> {
    let own: OwnedFd = socket.as_fd().try_clone_to_owned()?;
    Ok(Channel::of(own))
}

fn answer_all(mut channel: Channel) -> io::Result<()> {
    while let Some((request, _)) = channel.receive()? {
        match request {
            Request::Snapshot => channel.send(&take(), None)?,
            Request::ProcessLimits(pid) => channel.send(&limits::of_process(pid), None)?,
            Request::Scan { follow, with_cmdlines } => {
                let missing = scan::threads(&follow, with_cmdlines, |thread| {
                    channel.send(&Found::Thread(Box::new(thread)), None)
                })?;
                channel.send(&Found::Done(missing), None)?;
            }
        }
    }
    Ok(())
}
