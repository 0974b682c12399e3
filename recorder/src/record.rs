//! `record`: the whole of a recording, from the command line to the closing summary.

use crate::Failure;
use crate::attach::{self, Filter, Probes, Request};
use crate::batch::Frame;
use crate::capture::{Capture, Totals};
use crate::cli::{self, Attach, Record};
use crate::command;
use crate::priority;
use crate::ring::Reader;
use crate::session;
use crate::sink::{self, Sink};
use crate::writer::{Progress, Writer};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use ipc_schema::manifest::{Filters, Manifest, Session};
use ipc_schema::version::FormatVersion;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Chunks of rows that may wait for the writer before the rings have to.
const ROWS_WAITING: usize = 64;

/// How often the status line changes.
const STATUS_EVERY: Duration = Duration::from_millis(200);

enum Event {
    Signal(Origin),
    CommandEnded(std::io::Result<ExitStatus>),
}

/// Records; returns the exit status.
pub fn run(options: Record) -> Result<u8, Failure> {
    let with_signals = !options.command.is_empty() || !options.pids.is_empty();
    let operations = cli::operations(&options.syscalls, with_signals).map_err(Failure::usage)?;
    check_pids(&options.pids)?;
    attach::begin_again_if_misdetected(); // before anything is made
    let command_text = command_text(&options.command);
    let mut session = session::begin(command_text);
    session.filters = Filters {
        pids: options.pids.iter().map(|p| *p as i32).collect(),
        follow: options.follow,
        syscalls: if operations.len() == ipc_schema::catalogue::OPERATIONS.len() {
            vec![]
        } else {
            operations.iter().map(|o| (*o).to_owned()).collect()
        },
    };
    let directory = options.output.clone().unwrap_or_else(|| PathBuf::from(session::default_name(&session)));
    let is_new = sink::create_directory(&directory)?;
    let prepared = prepare(&directory, &options, &operations, session);
    if prepared.is_err() && is_new {
        // Nothing was recorded: leave nothing behind. A directory that is not empty stays.
        let _ = std::fs::remove_dir(&directory);
    }
    prepared?.record(&options)
}

/// A process that is not there would be recorded as silence.
fn check_pids(pids: &[u32]) -> Result<(), Failure> {
    match pids.iter().find(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        Some(pid) => Err(Failure::error(format!("there is no process {pid}; `ps -e` lists those that are"))),
        None => Ok(()),
    }
}

fn command_text(command: &[std::ffi::OsString]) -> Option<String> {
    let words: Vec<_> = command.iter().map(|w| w.to_string_lossy()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Everything is attached, and the command, if any, has begun.
struct Prepared {
    probes: Probes,
    sink: Sink,
    frame: Frame,
    session: Session,
    start_ns: u64,
    child: Option<Child>,
    events: Receiver<Event>,
    events_sender: Sender<Event>,
}

fn prepare(
    directory: &Path,
    options: &Record,
    operations: &[&'static str],
    mut session: Session,
) -> Result<Prepared, Failure> {
    let (events_sender, events) = crossbeam_channel::unbounded();
    watch_signals(events_sender.clone())?;
    let mut probes = Probes::attach(&Request {
        way: options.attach.and_then(|a| match a {
            Attach::Auto => None,
            Attach::Only(way) => Some(way),
        }),
        ring_bytes: options.ring_size,
        entries: attach::entries_of(operations),
        filter: filter(options),
    })?;
    for pid in &options.pids {
        probes.follow(*pid)?;
    }
    let held = if options.command.is_empty() { None } else { Some(command::hold(&options.command)?) };
    if let Some(held) = held.as_ref().filter(|_| !options.all) {
        probes.follow(held.pid)?;
        session.filters.pids.push(held.pid as i32);
        session.filters.follow = true;
    }
    session.attach = probes.attached.clone();
    session.missing = probes.missing.clone();
    let clock = session::clock_sample();
    session.start_ns = clock.boot_ns + session.clock_offset_ns;
    let trace_id = session::trace_id()?;
    let manifest = Manifest {
        format_version: FormatVersion::CURRENT.0,
        trace_id: trace_id.clone(),
        complete: false,
        session: session.clone(),
        parts: vec![],
    };
    let sink = Sink::new(directory, manifest)?;
    let child = match held.map(command::Held::go).transpose() {
        Ok(child) => child,
        Err(error) => {
            let _ = std::fs::remove_file(directory.join(ipc_schema::manifest::FILE_NAME));
            return Err(Failure::error(command::start_failure(&options.command[0], &error)));
        }
    };
    let frame = Frame { trace_id: trace_id.into(), clock_offset_ns: session.clock_offset_ns };
    let start_ns = clock.boot_ns as u64;
    Ok(Prepared { probes, sink, frame, session, start_ns, child, events, events_sender })
}

fn filter(options: &Record) -> Filter {
    match (options.all, options.command.is_empty(), options.pids.is_empty()) {
        (true, _, _) | (false, true, true) => Filter::None,
        (false, false, _) => Filter::Tree,
        (false, true, false) if options.follow => Filter::Tree,
        (false, true, false) => Filter::Pids,
    }
}

/// Signals become events; a terminal's Ctrl-C is told from a signal that a process sent.
fn watch_signals(events: Sender<Event>) -> Result<(), Failure> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for origin in &mut signals {
            if events.send(Event::Signal(origin)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The threads of a recording.
struct Running {
    capture: JoinHandle<Totals>,
    writer: JoinHandle<Result<Writer, sink::Error>>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    begun: Instant,
}

impl Prepared {
    fn record(self, options: &Record) -> Result<u8, Failure> {
        let Probes { rings, counters, slots, mut links, .. } = self.probes;
        let mut capture = Capture::new(Reader::new(rings)?, counters, slots, self.start_ns);
        if self.session.filters.follow && self.session.missing.iter().any(|m| m.feature == "sched_process_fork") {
            capture.cannot_follow();
        }
        let running = Running::start(capture, Writer::new(self.sink, self.frame))?;
        let command_pid = self.child.as_ref().map(Child::id);
        let watching = self.child.is_some();
        if let Some(child) = self.child {
            watch_command(child, self.events_sender)?;
        }
        let ended = running.wait(&self.events, options.duration, command_pid, watching);
        links.detach();
        let sink = running.finish(self.session)?;
        summarize(&sink);
        match (ended, watching) {
            (Some(status), _) => Ok(exit_status(status?)),
            (None, false) => Ok(0),
            (None, true) => wait_for_command(&self.events, command_pid),
        }
    }
}

fn watch_command(mut child: Child, events: Sender<Event>) -> Result<(), Failure> {
    std::thread::Builder::new().name("command".into()).spawn(move || {
        let _ = events.send(Event::CommandEnded(child.wait())); // the recorder may be gone
    })?;
    Ok(())
}

/// The recording is over and written, the command goes on: its end decides the exit status.
fn wait_for_command(events: &Receiver<Event>, pid: Option<u32>) -> Result<u8, Failure> {
    anstream::eprintln!("ipc-recorder: the recording is complete; waiting for the command to end");
    loop {
        match events.recv() {
            Ok(Event::CommandEnded(status)) => return Ok(exit_status(status?)),
            Ok(Event::Signal(origin)) => forward(&origin, pid),
            Err(error) => return Err(Failure::error(error)),
        }
    }
}

/// As a shell reports it: 128 + signal for a command that a signal killed.
fn exit_status(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1) as u8
}

/// Passes a signal on to the command, unless the terminal sent it to both.
fn forward(origin: &Origin, pid: Option<u32>) {
    if origin.cause == Cause::Kernel {
        return;
    }
    let pid = pid.and_then(|p| rustix::process::Pid::from_raw(p as i32));
    if let (Some(pid), Some(signal)) = (pid, rustix::process::Signal::from_named_raw(origin.signal)) {
        let _ = rustix::process::kill_process(pid, signal); // it may have ended
    }
}

impl Running {
    fn start(capture: Capture, writer: Writer) -> Result<Running, Failure> {
        let (send, receive) = crossbeam_channel::bounded(ROWS_WAITING);
        let (progress, stop) = (Arc::new(Progress::default()), Arc::new(AtomicBool::new(false)));
        let writer = {
            let progress = progress.clone();
            std::thread::Builder::new().name("writer".into()).spawn(move || writer.run(&receive, &progress))?
        };
        let capture = {
            let (progress, stop) = (progress.clone(), stop.clone());
            std::thread::Builder::new().name("capture".into()).spawn(move || capture.run(&send, &progress, &stop))?
        };
        Ok(Running { capture, writer, stop, progress, begun: Instant::now() })
    }

    /// Waits for what ends the recording; returns how the command ended, if it did.
    fn wait(
        &self,
        events: &Receiver<Event>,
        duration: Option<Duration>,
        command_pid: Option<u32>,
        watching: bool,
    ) -> Option<std::io::Result<ExitStatus>> {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::default_spinner());
        let deadline = duration.map(|d| self.begun + d);
        let mut signals = 0;
        let ended = loop {
            let until =
                deadline.map_or(STATUS_EVERY, |d| d.saturating_duration_since(Instant::now()).min(STATUS_EVERY));
            match events.recv_timeout(until) {
                Ok(Event::CommandEnded(status)) => break Some(status),
                Ok(Event::Signal(_)) if !watching || signals > 0 => break None,
                Ok(Event::Signal(origin)) => {
                    signals += 1;
                    forward(&origin, command_pid);
                }
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if deadline.is_some_and(|d| Instant::now() >= d) || self.writer.is_finished() {
                break None;
            }
            bar.set_message(self.status());
            bar.tick();
        };
        bar.finish_and_clear();
        ended
    }

    fn status(&self) -> String {
        let calls = self.progress.calls.load(Ordering::Relaxed);
        let seconds = self.begun.elapsed().as_secs_f64();
        format!(
            "recording {:.0} s: {} calls ({}/s), {} lost, {}",
            seconds,
            HumanCount(calls),
            HumanCount((calls as f64 / seconds.max(0.001)) as u64),
            HumanCount(self.progress.lost.load(Ordering::Relaxed)),
            HumanBytes(self.progress.bytes.load(Ordering::Relaxed)),
        )
    }

    /// The probes are detached: takes what is left and completes the trace.
    fn finish(self, mut session: Session) -> Result<Sink, Failure> {
        let clock = session::clock_sample();
        session.end_ns = clock.boot_ns + session.clock_offset_ns;
        session.clock_samples.push(clock);
        self.stop.store(true, Ordering::Release);
        let panicked = |_| Failure::error("a thread of the recorder panicked; please report this");
        let totals = self.capture.join().map_err(panicked)?;
        let writer = self.writer.join().map_err(panicked)??;
        session.missing.extend(priority::missing());
        session.calls = totals.calls;
        session.lost_calls = totals.lost_calls;
        session.lost_records = totals.lost_records;
        session.late_records = totals.late_records;
        Ok(writer.finish(session)?)
    }
}

/// The closing summary.
fn summarize(sink: &Sink) {
    let session = &sink.manifest.session;
    let bytes: u64 = sink.manifest.parts.iter().map(|p| p.bytes).sum();
    let directory = sink.directory().display();
    let seconds = (session.end_ns - session.start_ns) as f64 / 1e9;
    let calls = session.calls as u64;
    let of_calls = sink.manifest.parts.iter().filter(|p| matches!(p.table.as_str(), "calls" | "sem_ops"));
    let per_call = of_calls.map(|p| p.bytes).sum::<u64>() as f64 / calls.max(1) as f64;
    anstream::eprintln!(
        "ipc-recorder: {} calls in {seconds:.1} s, {} lost; {} in {directory} ({per_call:.1} bytes per call)",
        HumanCount(calls),
        HumanCount(session.lost_calls as u64),
        HumanBytes(bytes),
    );
    if session.lost_calls > 0 {
        anstream::eprintln!("  the table `losses` tells when and where; a larger --ring-size loses less");
    }
    for missing in &session.missing {
        anstream::eprintln!("  missing: {}: {}", missing.feature, missing.reason);
    }
    anstream::eprintln!("  next: ipc-analyzer summary {directory}");
}
