//! `record`: the whole of a recording, from the command line to the closing summary.

use crate::Failure;
use crate::attach::{self, Filter, Probes, Request};
use crate::batch::Frame;
use crate::bounds::{Bounds, KeepFree, Memory};
use crate::capture::{Capture, Settings, Totals, Triggers};
use crate::cli::{self, Attach, Exit, Flight, Limits, Record};
use crate::command;
use crate::directory::{self, Directory, Made};
use crate::flight;
use crate::follow::{self, Follow};
use crate::forward::Forward;
use crate::governor;
use crate::health::{Manager, Metrics, Recorded};
use crate::join::Hooks;
use crate::libraries;
use crate::lookups::Lookups;
use crate::observer::{Observer, no_snapshots};
use crate::outbox::{self, Outbox};
use crate::plan::{self, Way};
use crate::priority;
use crate::privilege;
use crate::procfs;
use crate::ring::{self, Reader};
use crate::session;
use crate::sink::Sink;
use crate::snapshot::{Helper, Snapshots};
use crate::writer::{Destination, Progress, Writer};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use ipc_schema::manifest::{Dropped, Filters, Manifest, Missing, Session};
use ipc_schema::text;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the status line changes.
const STATUS_EVERY: Duration = Duration::from_millis(200);

enum Event {
    Signal(Origin),
    CommandEnded(std::io::Result<ExitStatus>),
}

/// Records, into memory if it is a flight recorder; returns the exit status.
pub fn run(options: &Record, flight: Option<&Flight>) -> Result<u8, Failure> {
    let with_signals = !options.command.is_empty() || !options.pids.is_empty();
    let operations = cli::operations(&options.syscalls, with_signals).map_err(Failure::usage)?;
    check_exit(options)?;
    let elsewhere = procfs::inside_pid_namespace();
    check_can_follow(options, elsewhere.as_ref())?;
    check_pids(&options.pids)?;
    let cgroups = cgroup_ids(&options.cgroups)?;
    attach::begin_again_if_misdetected(); // before anything is made
    let metrics = options.metrics.as_deref().map(Metrics::begin).transpose()?;
    let command_text = command_text(&options.command);
    let mut session = session::begin(command_text);
    session.missing.extend(elsewhere);
    session.filters = Filters {
        pids: options.pids.iter().map(|p| *p as i32).collect(),
        follow: options.follow,
        syscalls: if operations.len() == ipc_schema::catalogue::OPERATIONS.len() {
            vec![]
        } else {
            operations.iter().map(|o| (*o).to_owned()).collect()
        },
        comms: options.comms.clone(),
        cgroups: options.cgroups.clone(),
        min_duration_ns: options.min_duration.map(|d| d.as_nanos() as i64),
    };
    let (output, made) = Output::of(options, flight, &session)?;
    let prepared = prepare(output, options, &operations, cgroups, session);
    if prepared.is_err() {
        made.into_iter().for_each(Made::remove);
    }
    prepared?.record(options, flight, metrics)
}

/// Where what is recorded goes, and what it may take.
enum Output {
    /// Into this trace.
    Trace(Directory, Bounds),
    /// Into memory, and from there into traces.
    Flight(flight::Settings),
}

impl Output {
    /// What the options ask for, and what was made of it.
    fn of(options: &Record, flight: Option<&Flight>, session: &Session) -> Result<(Output, Option<Made>), Failure> {
        let bounds = bounds(&options.limits);
        let Some(&Flight { keep, traces, .. }) = flight else {
            let path = options.output.clone().unwrap_or_else(|| PathBuf::from(session::default_name(session)));
            let (directory, made) = Directory::create(&path)?;
            return Ok((Output::Trace(directory, bounds), made));
        };
        let directory = options.output.clone().unwrap_or_else(|| PathBuf::from("."));
        let made = if directory.is_dir() { None } else { Directory::create(&directory)?.1 };
        let bounds = Bounds { backlog_bytes: Memory(options.limits.memory).window_bytes(), ..bounds };
        Ok((Output::Flight(flight::Settings { directory, keep, traces, bounds }), made))
    }

    fn path(&self) -> &Path {
        match self {
            Output::Trace(directory, _) => directory.path(),
            Output::Flight(settings) => &settings.directory,
        }
    }

    fn begin(self, manifest: Manifest) -> Result<Box<dyn Destination>, directory::Error> {
        Ok(match self {
            Output::Trace(directory, bounds) => Box::new(Sink::begin(&directory, manifest, bounds)?),
            Output::Flight(settings) => Box::new(flight::Flight::begin(settings, manifest)?),
        })
    }
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        max_bytes: limits.max_size,
        keep_free: limits.keep_free.unwrap_or(KeepFree::Default),
        segment_bytes: limits.segment_size,
        backlog_bytes: Memory(limits.memory).backlog_bytes(),
    }
}

/// Kretprobes are a comparison of kprobes.
fn check_exit(options: &Record) -> Result<(), Failure> {
    match (options.exit, options.attach) {
        (None, _) | (_, Some(Attach::Only(Way::Kprobe))) => Ok(()),
        _ => Err(Failure::usage("--exit goes with --attach kprobe only")),
    }
}

/// Processes are followed by the host's ids.
fn check_can_follow(options: &Record, elsewhere: Option<&Missing>) -> Result<(), Failure> {
    match elsewhere {
        Some(missing) if filter(options) != Filter::None => Err(Failure {
            status: 4,
            message: format!(
                "cannot follow processes without {} ({}): start it with docker run --pid=host, or record everything: -a",
                missing.feature, missing.reason
            ),
        }),
        _ => Ok(()),
    }
}

/// What the ends by kretprobes are worth.
fn kretprobes_miss() -> Missing {
    Missing {
        feature: "ends of calls".into(),
        reason: "kretprobes miss those of calls that sleep at the same time, and do not say how many".into(),
        remedy: "record without --exit kretprobe, which is for comparison".into(),
    }
}

/// A process that is not there would be recorded as silence.
fn check_pids(pids: &[u32]) -> Result<(), Failure> {
    match pids.iter().find(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        Some(pid) => Err(Failure::error(format!("there is no process {pid}; `ps -e` lists those that are"))),
        None => Ok(()),
    }
}

/// A cgroup that is not there would be recorded as silence.
fn cgroup_ids(paths: &[String]) -> Result<Vec<u64>, Failure> {
    let id = |path: &String| {
        let missing = || Failure::error(format!("there is no cgroup {path}; /proc/PID/cgroup tells that of a process"));
        follow::cgroup_id(path).ok_or_else(missing)
    };
    paths.iter().map(id).collect()
}

/// A thread name as the kernel keeps it.
fn padded(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    comm
}

fn command_text(command: &[std::ffi::OsString]) -> Option<String> {
    let words: Vec<_> = command.iter().map(|word| text::of_bytes(word.as_encoded_bytes())).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Everything is attached, and the command, if any, has begun.
struct Prepared {
    probes: Probes,
    output: Output,
    manifest: Manifest,
    frame: Frame,
    session: Session,
    start_ns: u64,
    command: Option<(Child, Forward)>,
    signals: SignalsInfo<WithOrigin>,
    helper: Option<Snapshots>,
    lookups: Lookups,
    scans: bool,
    follow: Follow,
}

fn prepare(
    output: Output,
    options: &Record,
    operations: &[&'static str],
    cgroups: Vec<u64>,
    mut session: Session,
) -> Result<Prepared, Failure> {
    // Both with the rights and signals that this process was given.
    let (helper, lookups) = Helper::start().map_or_else(|e| (Err(e), Lookups::default()), |(h, l)| (Ok(h), l));
    // The threads that are there are those that the probes see only where ids are the host's.
    let scans = procfs::inside_pid_namespace().is_none();
    let lookups = if scans { lookups } else { Lookups::default() };
    let held = if options.command.is_empty() { None } else { Some(command::hold(&options.command)?) };
    let helper_pid = helper.as_ref().map_or(0, Snapshots::pid);
    let signals = SignalsInfo::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    if matches!(output, Output::Flight(_)) {
        signals.handle().add_signal(SIGUSR1)?;
    }
    let mut probes = attach(options, operations, cgroups, helper_pid)?;
    let never = vec![std::process::id(), helper_pid];
    let pids = options.pids.iter().copied().collect();
    let mut follow = Follow { pids, operations: operations.to_vec(), never };
    if let Some(held) = held.as_ref().filter(|_| !options.all) {
        probes.follow(held.pid)?;
        follow.pids.insert(held.pid);
        session.filters.pids.push(held.pid as i32);
        session.filters.follow = true;
    }
    session.attach = probes.attached.clone();
    session.missing.extend(probes.missing.iter().cloned());
    session.missing.extend(options.exit.filter(|exit| *exit == Exit::Kretprobe).map(|_| kretprobes_miss()));
    session.missing.extend(helper.as_ref().err().map(no_snapshots));
    let clock = session::clock_sample();
    session.start_ns = clock.boot_ns + session.clock_offset_ns;
    let manifest = session::manifest(&session)?;
    priority::raise();
    let forward = held.as_ref().map(|held| Forward::to(held.pid)).transpose()?;
    privilege::give_up_all().map_err(|error| Failure::error(format!("cannot give up privileges: {error}")))?;
    let started = held.map(command::Held::go).transpose();
    let child = started.map_err(|error| Failure::error(command::start_failure(&options.command[0], &error)))?;
    let trace_id = manifest.trace_id.as_str().into();
    let frame = Frame { trace_id, clock_offset_ns: session.clock_offset_ns };
    let start_ns = clock.boot_ns as u64;
    let helper = helper.ok();
    Ok(Prepared {
        probes,
        output,
        manifest,
        frame,
        session,
        start_ns,
        command: child.zip(forward),
        signals,
        helper,
        lookups,
        scans,
        follow,
    })
}

/// Attaches what the options ask for; the processes that they name are followed.
fn attach(
    options: &Record,
    operations: &[&'static str],
    cgroups: Vec<u64>,
    snapshot_helper: u32,
) -> Result<Probes, Failure> {
    let mut probes = Probes::attach(&Request {
        way: options.attach.and_then(|a| match a {
            Attach::Auto => None,
            Attach::Only(way) => Some(way),
        }),
        exit: (options.exit == Some(Exit::Kretprobe)).then_some(Way::Kretprobe),
        ring_bytes: options.ring_size.unwrap_or_else(|| Memory(options.limits.memory).ring_bytes(cpus())),
        entries: attach::entries_of(operations),
        filter: filter(options),
        comms: options.comms.iter().map(|name| padded(name)).collect(),
        cgroups,
        signals: operations.contains(&"sigprocmask"),
        snapshot_helper,
        without_wakers: options.no_wakers,
        stacks: options.stacks,
    })?;
    if !options.libraries.is_empty() {
        probes.attach_libraries(&libraries::find(&options.libraries, &options.pids));
    }
    for pid in &options.pids {
        probes.follow(*pid)?;
    }
    Ok(probes)
}

/// How many CPUs there can be: as many rings as there are.
fn cpus() -> u64 {
    aya::util::nr_cpus().map_or(1, |cpus| cpus as u64)
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
fn watch_signals(mut signals: SignalsInfo<WithOrigin>, events: Sender<Event>) -> Result<(), Failure> {
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
    observer: JoinHandle<Vec<Missing>>,
    writer: JoinHandle<Result<Writer, directory::Error>>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    begun: Instant,
}

/// What the probes tell beyond calls.
fn hooks(probes: &Probes, follow: &Follow) -> Hooks {
    Hooks {
        wakings: probes.has(plan::WAKINGS),
        signals: probes.has("signal_generate"),
        deliveries: probes.has("signal_deliver"),
        all_signals: follow.operations.contains(&"sigprocmask"),
    }
}

impl Prepared {
    fn record(self, options: &Record, flight: Option<&Flight>, metrics: Option<Metrics>) -> Result<u8, Failure> {
        let (hooks, lookups) = (hooks(&self.probes, &self.follow), self.lookups.clone());
        let Probes { rings, counters, slots, mut links, .. } = self.probes;
        let (news_sender, news) = crossbeam_channel::unbounded();
        let (failures, failed) = crossbeam_channel::bounded(1);
        let settings = Settings {
            start_ns: self.start_ns,
            min_duration_ns: self.session.filters.min_duration_ns.unwrap_or(0) as u64,
            hooks,
            with_cmdlines: options.cmdline,
            program: options.command.first().and_then(|name| command::file(name)),
            lookups: self.lookups,
            news,
            failures: self.helper.is_some().then_some(failures),
            triggers: flight.map(|flight| Triggers::new(flight.when.clone(), flight.keep)),
        };
        let observer = Observer {
            news: news_sender,
            failed,
            follow: self.follow,
            with_cmdlines: options.cmdline,
            scans: self.scans,
            every: options.snapshot_every,
        };
        let observer = observer.start(self.helper, slots.clone())?;
        let governed = counters.clone();
        let mut capture = Capture::new(Reader::new(rings)?, counters, slots, settings);
        if self.session.filters.follow && self.session.missing.iter().any(|m| m.feature == "task_newtask") {
            capture.cannot_follow();
        }
        let path = self.output.path().to_owned();
        let (output, manifest, frame) = (self.output, self.manifest, self.frame);
        let begin = move || Ok(Writer::new(output.begin(manifest)?, frame));
        let queue_capacity = (Memory(options.limits.memory).queue_bytes() / outbox::PIECE_BYTES).max(2);
        let running = Running::start(capture, observer, begin, queue_capacity)?;
        if let Some(share) = options.limits.max_cpu {
            governor::start(share, governed, running.stop.clone())?;
        }
        priority::lower();
        let recorded = Recorded {
            start_ns: self.session.start_ns,
            clock_offset_ns: self.session.clock_offset_ns,
            queue_capacity,
            progress: running.progress.clone(),
        };
        let metrics = metrics.map(|metrics| metrics.keep(recorded)).transpose()?;
        let (events_sender, events) = crossbeam_channel::unbounded();
        watch_signals(self.signals, events_sender.clone())?;
        let (child, forward) = self.command.unzip();
        if let Some(child) = child {
            watch_command(child, events_sender)?;
        }
        let ended = running.wait(&events, options.duration, forward.as_ref());
        running.progress.detached_ns.store(ring::boot_ns(), Ordering::Relaxed);
        links.detach();
        let manifests = running.finish(self.session, &lookups)?;
        drop(metrics); // with the last figures
        match flight {
            Some(_) => anstream::eprintln!("ipc-recorder: traces written: {}", manifests.len()),
            None => manifests.iter().for_each(|manifest| summarize(&path, manifest)),
        }
        match (ended, forward) {
            (Some(status), _) => Ok(exit_status(status?)),
            (None, None) => Ok(0),
            (None, Some(forward)) => wait_for_command(&events, &forward),
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
fn wait_for_command(events: &Receiver<Event>, command: &Forward) -> Result<u8, Failure> {
    anstream::eprintln!("ipc-recorder: the recording is complete; waiting for the command to end");
    loop {
        match events.recv() {
            Ok(Event::CommandEnded(status)) => return Ok(exit_status(status?)),
            Ok(Event::Signal(origin)) => forward(&origin, command),
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
fn forward(origin: &Origin, command: &Forward) {
    if origin.cause != Cause::Kernel
        && let Some(signal) = rustix::process::Signal::from_named_raw(origin.signal)
    {
        command.send(signal);
    }
}

impl Running {
    /// Starts the threads; `begin` is the beginning of the writer's: the rings are being emptied by then, however long the
    /// disk takes.
    fn start(
        capture: Capture,
        observer: JoinHandle<Vec<Missing>>,
        begin: impl FnOnce() -> Result<Writer, directory::Error> + Send + 'static,
        queue_capacity: usize,
    ) -> Result<Running, Failure> {
        let (send, receive) = crossbeam_channel::bounded(queue_capacity);
        let (emptied, empty) = crossbeam_channel::bounded(outbox::EMPTIED_MAX);
        let outbox = Outbox::new(send, empty, capture.start_ns);
        let (progress, stop) = (Arc::new(Progress::default()), Arc::new(AtomicBool::new(false)));
        let writer = {
            let progress = progress.clone();
            let write = move || {
                priority::set(priority::WRITER);
                begin()?.run(&receive, &emptied, &progress)
            };
            std::thread::Builder::new().name("writer".into()).spawn(write)?
        };
        let capture = {
            let (progress, stop) = (progress.clone(), stop.clone());
            std::thread::Builder::new().name("capture".into()).spawn(move || capture.run(outbox, &progress, &stop))?
        };
        Ok(Running { capture, observer, writer, stop, progress, begun: Instant::now() })
    }

    /// Waits for what ends the recording; returns how the command ended, if it did.
    fn wait(
        &self,
        events: &Receiver<Event>,
        duration: Option<Duration>,
        command: Option<&Forward>,
    ) -> Option<std::io::Result<ExitStatus>> {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::default_spinner());
        let deadline = duration.map(|d| self.begun + d);
        let mut signals = 0;
        let mut manager = Manager::new();
        let ended = loop {
            let until =
                deadline.map_or(STATUS_EVERY, |d| d.saturating_duration_since(Instant::now()).min(STATUS_EVERY));
            match events.recv_timeout(until) {
                Ok(Event::CommandEnded(status)) => break Some(status),
                Ok(Event::Signal(origin)) if origin.signal == SIGUSR1 => {
                    self.progress.wants_trace.store(true, Ordering::Relaxed);
                }
                Ok(Event::Signal(origin)) => match command.filter(|_| signals == 0) {
                    Some(command) => {
                        signals += 1;
                        forward(&origin, command);
                    }
                    None => {
                        let is_asked = [SIGINT, SIGQUIT].contains(&origin.signal);
                        self.progress.wants_trace.store(is_asked, Ordering::Relaxed);
                        break None;
                    }
                },
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if deadline.is_some_and(|d| Instant::now() >= d) || self.writer.is_finished() {
                break None;
            }
            bar.set_message(self.status());
            bar.tick();
            manager.tick(&self.progress.pulse, || self.status());
        };
        manager.stopping();
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
            HumanCount(self.progress.pulse.lost_calls()),
            HumanBytes(self.progress.bytes.load(Ordering::Relaxed)),
        )
    }

    /// The probes are detached: takes what is left and completes the trace.
    fn finish(self, mut session: Session, lookups: &Lookups) -> Result<Vec<Manifest>, Failure> {
        let clock = session::clock_sample();
        let end_ns = clock.boot_ns + session.clock_offset_ns;
        session.end_ns = end_ns;
        session.clock_samples.push(clock);
        self.stop.store(true, Ordering::Release);
        let panicked = |_| Failure::error("a thread of the recorder panicked; please report this");
        let totals = self.capture.join().map_err(panicked)?;
        let withheld = self.observer.join().map_err(panicked)?;
        let writer = self.writer.join().map_err(panicked)??;
        session.missing.extend(withheld);
        session.missing.extend(lookups.missing());
        session.missing.extend(priority::missing());
        session.calls = totals.calls;
        session.dropped = dropped(&totals, &session.filters);
        session.lost_calls = totals.lost_calls;
        session.lost_records = totals.lost_records;
        session.late_records = totals.late_records;
        let manifests = writer.finish(session)?;
        self.progress.bytes.store(manifests.iter().map(bytes).sum(), Ordering::Relaxed);
        self.progress.pulse.completed(end_ns);
        Ok(manifests)
    }
}

/// Bytes of the parts.
fn bytes(manifest: &Manifest) -> u64 {
    manifest.parts.iter().map(|p| p.bytes).sum()
}

/// What each filter that was asked for dropped.
fn dropped(totals: &Totals, filters: &Filters) -> Vec<Dropped> {
    let filters = [
        ("pid", !filters.pids.is_empty(), totals.dropped.pid),
        ("comm", !filters.comms.is_empty(), totals.dropped.comm),
        ("cgroup", !filters.cgroups.is_empty(), totals.dropped.cgroup),
        ("min_duration", filters.min_duration_ns.is_some(), totals.dropped.min_duration),
    ];
    let asked = filters.into_iter().filter(|(_, is_asked, _)| *is_asked);
    asked.map(|(filter, _, calls)| Dropped { filter: filter.into(), calls }).collect()
}

/// The closing summary.
pub fn summarize(directory: &Path, manifest: &Manifest) {
    let session = &manifest.session;
    let directory = text::escape(&directory.display().to_string());
    let seconds = (session.end_ns - session.start_ns) as f64 / 1e9;
    let calls = session.calls as u64;
    let of_calls = manifest.parts.iter().filter(|p| matches!(p.table.as_str(), "calls" | "sem_ops"));
    let per_call = of_calls.map(|p| p.bytes).sum::<u64>() as f64 / calls.max(1) as f64;
    anstream::eprintln!(
        "ipc-recorder: {} calls in {seconds:.1} s, {} lost; {} in {directory} ({per_call:.1} bytes per call)",
        HumanCount(calls),
        HumanCount(session.lost_calls as u64),
        HumanBytes(bytes(manifest)),
    );
    if session.lost_calls > 0 {
        anstream::eprintln!(
            "  the table `losses` tells when, where and why; of full rings a larger --ring-size loses less"
        );
    }
    for missing in &session.missing {
        anstream::eprintln!("  missing: {}: {}", text::escape(&missing.feature), text::escape(&missing.reason));
    }
    anstream::eprintln!("  next: ipc-analyzer summary {directory}");
}
