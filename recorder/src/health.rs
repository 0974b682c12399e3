//! The recorder's own health: what it does, for a service manager and for Prometheus.
//!
//! It is made from what the threads of a recording count ([`Pulse`]); nothing here touches a ring or a file of the trace.

use crate::Failure;
use crate::governor::processor_time;
use crate::pulse::Pulse;
use crate::writer::Progress;
use ipc_schema::losses::SOURCES;
use sd_notify::NotifyState;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the file for Prometheus is replaced.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// How often a service manager is told something at least.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How long the end of a recording waits for the last figures: their disk may be another, and hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service manager, if one started this program.
pub struct Manager {
    /// Half of the time after which it takes silence for a hang, at most [`TOLD_EVERY`].
    every: Duration,
    told: Instant,
    /// What the capture and the writer had done then.
    seen: (u64, u64),
    is_ready: bool,
}

impl Manager {
    /// Nothing was told yet.
    pub fn new() -> Manager {
        let every = sd_notify::watchdog_enabled().map_or(TOLD_EVERY, |limit| (limit / 2).min(TOLD_EVERY));
        Manager { every, told: Instant::now(), seen: (0, 0), is_ready: false }
    }

    /// To be called often. Ready is a recording whose first rows have gone all the way; alive is one of which both the
    /// capture and the writer have moved since it was last told. Either does so twenty times a second when nothing
    /// happens, so that one that stands still hangs.
    pub fn tick(&mut self, pulse: &Pulse, status: impl FnOnce() -> String) {
        let now = (pulse.captured.load(Ordering::Relaxed), pulse.written.load(Ordering::Relaxed));
        if !self.is_ready && now.1 > 0 {
            self.is_ready = true;
            tell(&[NotifyState::Ready, NotifyState::Watchdog, NotifyState::Status(&status())]);
            (self.told, self.seen) = (Instant::now(), now);
        } else if self.is_ready && self.told.elapsed() >= self.every {
            let have_moved = now.0 > self.seen.0 && now.1 > self.seen.1;
            match have_moved {
                true => tell(&[NotifyState::Watchdog, NotifyState::Status(&status())]),
                // What was handed on waits for the writer, or there is nothing to wait for.
                false if now.0 > now.1 => {
                    tell(&[NotifyState::Status("the writer stands still: does the disk answer?")])
                }
                false => tell(&[NotifyState::Status("the capture stands still")]),
            }
            (self.told, self.seen) = (Instant::now(), now);
        }
    }

    /// The recording has ended; what was captured is being written.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("completing the trace")]);
    }
}

fn tell(news: &[NotifyState]) {
    let _ = sd_notify::notify(news); // a manager that does not listen will say so itself
}

/// What a figure is made from.
struct Figures<'a> {
    is_recording: bool,
    /// Nanoseconds since the epoch.
    start_ns: i64,
    /// From the boot clock to the epoch.
    clock_offset_ns: i64,
    queue_capacity: usize,
    progress: &'a Progress,
}

/// One metric: its samples are pairs of labels and values.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&Figures) -> Vec<(String, f64)>,
}

const METRICS: &[Metric] = &[
    Metric {
        name: "ipc_recorder_info",
        kind: "gauge",
        help: "The version of ipc-recorder.",
        samples: |_| vec![(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0)],
    },
    Metric {
        name: "ipc_recorder_recording",
        kind: "gauge",
        help: "1 while calls are captured; 0 before and after. What was killed leaves 1 and a file that gets old.",
        samples: |f| one(f64::from(u8::from(f.is_recording))),
    },
    Metric {
        name: "ipc_recorder_start_time_seconds",
        kind: "gauge",
        help: "When the recording began, since the epoch; 0 before.",
        samples: |f| one(seconds(f.start_ns)),
    },
    Metric {
        name: "ipc_recorder_calls_total",
        kind: "counter",
        help: "Calls captured.",
        samples: |f| one(count(&f.progress.calls)),
    },
    Metric {
        name: "ipc_recorder_lost_calls_total",
        kind: "counter",
        help: "Calls lost, by the source that the table losses names.",
        samples: |f| lost(f, true),
    },
    Metric {
        name: "ipc_recorder_lost_details_total",
        kind: "counter",
        help: "Details lost of calls that are in the trace, by source.",
        samples: |f| lost(f, false),
    },
    Metric {
        name: "ipc_recorder_trace_bytes",
        kind: "gauge",
        help: "Bytes of the trace on disk.",
        samples: |f| one(count(&f.progress.bytes)),
    },
    Metric {
        name: "ipc_recorder_queue_length",
        kind: "gauge",
        help: "Chunks of rows that wait for the writer.",
        samples: |f| one(count(&f.progress.pulse.waiting)),
    },
    Metric {
        name: "ipc_recorder_queue_capacity",
        kind: "gauge",
        help: "Chunks of rows that may wait before the rings fill.",
        samples: |f| one(f.queue_capacity as f64),
    },
    Metric {
        name: "ipc_recorder_captured_timestamp_seconds",
        kind: "gauge",
        help: "Everything before was taken from the rings, since the epoch; 0: nothing yet.",
        samples: |f| one(captured(f)),
    },
    Metric {
        name: "ipc_recorder_durable_timestamp_seconds",
        kind: "gauge",
        help: "Everything before is on the disk and survives a power cut, since the epoch; 0: nothing yet.",
        samples: |f| one(seconds(f.progress.pulse.durable_until_ns.load(Ordering::Relaxed))),
    },
    Metric {
        name: "ipc_recorder_cpu_seconds_total",
        kind: "counter",
        help: "Processor time of the recorder, without its snapshot helper.",
        samples: |_| one(processor_time().as_secs_f64()),
    },
];

fn one(value: f64) -> Vec<(String, f64)> {
    vec![(String::new(), value)]
}

fn count(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn captured(figures: &Figures) -> f64 {
    match figures.progress.pulse.captured_until_ns.load(Ordering::Relaxed) {
        0 => 0.0,
        until_ns => seconds(until_ns as i64 + figures.clock_offset_ns),
    }
}

fn lost(figures: &Figures, counts_calls: bool) -> Vec<(String, f64)> {
    let sources = SOURCES.iter().zip(&figures.progress.pulse.lost).filter(|(s, _)| s.counts_calls == counts_calls);
    sources.map(|(source, lost)| (format!("{{source=\"{}\"}}", source.name), count(lost))).collect()
}

/// The text format of Prometheus, version 0.0.4.
fn render(figures: &Figures) -> String {
    let mut text = String::new();
    for Metric { name, kind, help, samples } in METRICS {
        text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples(figures) {
            text += &format!("{name}{labels} {value}\n");
        }
    }
    text
}

/// A file that Prometheus' node_exporter collects (`--collector.textfile.directory`).
pub struct Metrics {
    path: PathBuf,
    folder: PathBuf,
}

impl Metrics {
    /// Writes the file for the first time.
    ///
    /// # Errors
    /// It cannot be written, or holds something else.
    pub fn begin(path: &Path) -> Result<Metrics, Failure> {
        let refuse = |reason: String| Failure::error(format!("--metrics {}: {reason}", path.display()));
        let ours = format!("# HELP {} ", METRICS[0].name);
        match std::fs::read(path) {
            Ok(text) if !text.starts_with(ours.as_bytes()) => {
                return Err(refuse("holds something else, which is not overwritten; name another file".into()));
            }
            _ => {} // what cannot be read shows when it is written
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let metrics = Metrics { path: path.to_owned(), folder: folder.to_owned() };
        let nothing = Progress::default();
        let figures =
            Figures { is_recording: false, start_ns: 0, clock_offset_ns: 0, queue_capacity: 0, progress: &nothing };
        let hint = "the file is replaced: its folder must exist and be writable";
        metrics.write(&figures).map_err(|error| refuse(format!("{}; {hint}", error.kind())))?;
        Ok(metrics)
    }

    /// Replaces it: whoever reads it finds the old one or the new one, whole.
    fn write(&self, figures: &Figures) -> std::io::Result<()> {
        // The collector reads *.prom only, and is another user.
        let readable = std::fs::Permissions::from_mode(0o644);
        let mut file =
            tempfile::Builder::new().prefix(".ipc-recorder-").permissions(readable).tempfile_in(&self.folder)?;
        file.write_all(render(figures).as_bytes())?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// Keeps it fresh on a thread of its own: its disk may hang.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn keep(self, recorded: Recorded) -> std::io::Result<Keeper> {
        let (end, ended) = crossbeam_channel::bounded::<()>(0);
        let (last, done) = crossbeam_channel::bounded::<()>(0);
        std::thread::Builder::new().name("metrics".into()).spawn(move || {
            let _last = last; // its end tells that of the thread
            let mut is_recording = true;
            let mut is_told = false;
            while is_recording {
                let result = self.write(&recorded.figures(true));
                self.complain_once(result, &mut is_told);
                is_recording = ended.recv_timeout(METRICS_EVERY).is_err_and(|error| error.is_timeout());
            }
            self.complain_once(self.write(&recorded.figures(false)), &mut is_told);
        })?;
        Ok(Keeper { end: Some(end), done })
    }

    fn complain_once(&self, result: std::io::Result<()>, is_told: &mut bool) {
        if let Err(error) = result
            && !std::mem::replace(is_told, true)
        {
            anstream::eprintln!(
                "ipc-recorder: cannot write {}: {}; the recording goes on",
                self.path.display(),
                error.kind()
            );
        }
    }
}

/// The recording that the figures are of.
pub struct Recorded {
    /// Nanoseconds since the epoch.
    pub start_ns: i64,
    /// From the boot clock to the epoch.
    pub clock_offset_ns: i64,
    /// Chunks of rows that may wait for the writer.
    pub queue_capacity: usize,
    /// What it has done.
    pub progress: Arc<Progress>,
}

impl Recorded {
    fn figures(&self, is_recording: bool) -> Figures<'_> {
        let Recorded { start_ns, clock_offset_ns, queue_capacity, ref progress } = *self;
        Figures { is_recording, start_ns, clock_offset_ns, queue_capacity, progress }
    }
}

/// Keeps the file fresh as long as it lives; then it is written once more.
pub struct Keeper {
    end: Option<crossbeam_channel::Sender<()>>,
    done: crossbeam_channel::Receiver<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end = None;
        let _ = self.done.recv_timeout(PATIENCE);
    }
}
