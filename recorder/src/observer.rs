//! What the probes do not see: the calls that were there before them, and the objects. Beside a recording, and alone
//! (`ipc-recorder snapshot`).

use crate::Failure;
use crate::attach::Slots;
use crate::batch::Frame;
use crate::bounds::Bounds;
use crate::capture::News;
use crate::cli::SnapshotOptions;
use crate::directory::Directory;
use crate::finished::Finished;
use crate::follow::Follow;
use crate::history::{self, Phase};
use crate::join::{Hooks, Join};
use crate::lookups::Lookups;
use crate::priority;
use crate::privilege;
use crate::record::summarize;
use crate::ring::boot_ns;
use crate::session;
use crate::sink::Sink;
use crate::snapshot::{Helper, Snapshots};
use crate::writer::Writer;
use crossbeam_channel::{Receiver, Sender};
use ipc_schema::catalogue::OPERATIONS;
use ipc_schema::manifest::Missing;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread that looks at it during a recording.
pub struct Observer {
    /// Where it tells what it finds.
    pub news: Sender<News>,
    /// Processes whose allocations failed; it works until this ends.
    pub failed: Receiver<u32>,
    /// What is kept.
    pub follow: Follow,
    /// Whether command lines are kept.
    pub with_cmdlines: bool,
    /// Whether the threads that are there are those that the probes see.
    pub scans: bool,
    /// Time between two snapshots.
    pub every: Duration,
}

impl Observer {
    /// Starts it; it ends when the capture has no more failures to tell. Returns what was withheld from it.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(self, helper: Option<Snapshots>, slots: Slots) -> std::io::Result<JoinHandle<Vec<Missing>>> {
        let work = move || {
            priority::lower();
            let Some(helper) = helper else { return vec![] };
            let mut missing = Vec::new();
            if let Err(error) = self.look(helper, &slots, &mut missing) {
                missing.push(no_snapshots(&error));
            }
            missing
        };
        std::thread::Builder::new().name("observer".into()).spawn(work)
    }

    /// Every thread that is followed; what of them was withheld.
    fn scan(&self, helper: &mut Snapshots, slots: &Slots) -> std::io::Result<Option<Missing>> {
        helper.scan(&self.follow, self.with_cmdlines, |mut thread| {
            // Asked after the registers were read: a call that began since the probes were live has left its mark.
            if slots.of(thread.tid) != 0 {
                thread.call = None;
            }
            let _ = self.news.send(News::Scanned(Box::new(thread))); // the capture may have ended
        })
    }

    fn look(&self, mut helper: Snapshots, slots: &Slots, missing: &mut Vec<Missing>) -> std::io::Result<()> {
        if self.scans {
            missing.extend(self.scan(&mut helper, slots)?);
        }
        let tell = |found| {
            let _ = self.news.send(News::Snapshot(Box::new(found))); // the capture may have ended
        };
        let first = history::take(&mut helper, Phase::Start, None)?;
        missing.extend_from_slice(history::missing(&first));
        tell(first);
        let mut helper = history::run(helper, self.every, &self.failed, tell)?;
        tell(history::take(&mut helper, Phase::End, None)?);
        Ok(())
    }
}

/// What a recording without snapshots lacks.
pub fn no_snapshots(error: &std::io::Error) -> Missing {
    let remedy = match error.kind() {
        std::io::ErrorKind::TimedOut => {
            "see what held it up (/proc/PID/stack, /proc/PID/wchan); from then on there are no snapshots"
        }
        _ => "run as root; without them objects, queued and limits are empty, and what was there before is unknown",
    };
    Missing { feature: "snapshots".into(), reason: error.to_string(), remedy: remedy.into() }
}

/// `snapshot`: what is there now, without eBPF; returns the exit status.
pub fn once(options: &SnapshotOptions) -> Result<u8, Failure> {
    let (mut helper, lookups) = Helper::start()?;
    let mut session = session::begin(None);
    let directory = options.output.clone().unwrap_or_else(|| PathBuf::from(session::default_name(&session)));
    let (directory, _) = Directory::create(&directory)?;
    privilege::give_up_all()?;
    let manifest = session::manifest(&session)?;
    let frame = Frame { trace_id: manifest.trace_id.as_str().into(), clock_offset_ns: session.clock_offset_ns };
    let mut writer = Writer::new(Box::new(Sink::begin(&directory, manifest, Bounds::NONE)?), frame);
    let finished = look(options, &mut helper, lookups, &mut session.missing)?;
    session.calls = finished.calls.len() as i64;
    let clock = session::clock_sample();
    session.end_ns = clock.boot_ns + session.clock_offset_ns;
    writer.write_all(finished)?;
    writer.finish(session)?.iter().for_each(|manifest| summarize(directory.path(), manifest));
    Ok(0)
}

/// Every thread, then every object.
fn look(
    options: &SnapshotOptions,
    helper: &mut Snapshots,
    lookups: Lookups,
    missing: &mut Vec<Missing>,
) -> std::io::Result<Finished> {
    let mut join = Join::new(boot_ns(), 0, Hooks::default());
    join.look_up_with(lookups);
    if options.cmdline {
        join.keep_cmdlines();
    }
    let never = vec![std::process::id(), helper.pid()];
    let follow = Follow { operations: OPERATIONS.to_vec(), never, ..Follow::default() };
    missing.extend(helper.scan(&follow, options.cmdline, |thread| join.scanned(thread))?);
    let found = history::take(helper, Phase::Start, None)?;
    missing.extend_from_slice(history::missing(&found));
    let rows = history::rows(found, &mut join);
    let mut finished = join.finish(|_| 0);
    finished.snapshots.push(rows);
    Ok(finished)
}
