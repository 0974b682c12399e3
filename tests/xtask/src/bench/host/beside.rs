//! What is beside a service during a window.

use super::super::watch::{RING, own_cpu_ns, pid, seen_and_lost, start_empty_pair, stop, wait_unreaped};
use super::super::{number, program};
use super::background::Background;
use super::service::{Running, epoch_ns};
use crate::command::{command, output};
use crate::{Result, place};
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What is beside a service during a window.
pub struct Beside {
    /// As the page calls it.
    pub title: &'static str,
    pub storm: Storm,
    pub companion: Companion,
    /// The title of that with which it is compared.
    pub versus: Option<&'static str>,
}

/// Processes in loops of semop that never wait.
#[derive(Clone, Copy, PartialEq)]
pub enum Storm {
    None,
    /// One that makes so many calls per second.
    Rate(u32),
    /// So many, as fast as they can.
    FullSpeed(u32),
}

/// What costs something.
#[derive(Clone, Copy)]
pub enum Companion {
    Nobody,
    /// Two empty eBPF programs at entry and exit of every system call.
    EmptyPair,
    /// `ipc-recorder record -a` with these options.
    Recorder(&'static [&'static str]),
    /// A program that writes as much as the recorder did the last time, and syncs it every second.
    Writer,
}

/// A window; times since the epoch.
#[derive(Debug)]
pub struct Window {
    pub from_ns: u64,
    /// When the recorder was told to stop.
    pub told_ns: u64,
    pub to_ns: u64,
    /// The processor time of the service.
    pub service_cpu_ns: Option<u64>,
    /// Calls of the storm.
    pub storm_per_s: Option<f64>,
    pub recorded: Option<Recorded>,
}

/// What a recorder did in a window.
#[derive(Debug)]
pub struct Recorded {
    /// Its processor time.
    pub cpu_ns: u64,
    /// What it wrote, log and parts.
    pub bytes: u64,
    pub calls: u64,
    pub lost: u64,
}

/// Between what is attached or has ended and the next window.
const SETTLE: Duration = Duration::from_millis(300);
/// Until a recorder records.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between what a [`Companion::Writer`] writes.
const WRITER_PAUSE: Duration = Duration::from_millis(10);

/// What runs beside the service; dropped, it ends.
enum Company {
    Nobody,
    EmptyPair(Process),
    Recorder(Recorder),
    Writer(Background<()>),
}

/// A process that ends with this at the latest.
pub struct Process(pub Child);

struct Recorder {
    process: Process,
    trace: PathBuf,
    /// Its processor time until it was attached.
    attached_cpu_ns: u64,
}

impl Beside {
    /// Runs it for so long beside a service; `bytes_per_s` is what a [`Companion::Writer`] writes.
    pub fn window(&self, service: &Running, length: Duration, bytes_per_s: f64) -> Result<Window> {
        let company = self.companion.start(bytes_per_s)?;
        std::thread::sleep(SETTLE);
        let (from_ns, service_from_cpu_ns) = (epoch_ns(), service.cpu_ns()?);
        let storm_calls = self.storm.run(length)?;
        let told_ns = epoch_ns();
        let storm_per_s = storm_calls.map(|calls| calls as f64 / (told_ns - from_ns) as f64 * 1e9);
        let recorded = company.end()?;
        let service_cpu_ns = service.cpu_ns()?.zip(service_from_cpu_ns).map(|(to, from)| to - from);
        let window = Window { from_ns, told_ns, to_ns: epoch_ns(), service_cpu_ns, storm_per_s, recorded };
        match (&window.recorded, storm_calls) {
            (Some(recorded), Some(calls)) if recorded.calls + recorded.lost < calls => {
                Err(format!("the recorder knows {} of {calls} calls", recorded.calls + recorded.lost))
            }
            _ => Ok(window),
        }
    }
}

impl Window {
    pub fn seconds(&self) -> f64 {
        (self.to_ns - self.from_ns) as f64 / 1e9
    }
}

impl Storm {
    /// The calls that it made, or a calm as long.
    fn run(self, length: Duration) -> Result<Option<u64>> {
        let options = match self {
            Storm::None => {
                std::thread::sleep(length);
                return Ok(None);
            }
            Storm::Rate(rate) => format!("--processes 1 --rate {rate}"),
            Storm::FullSpeed(processes) => format!("--processes {processes}"),
        };
        let mut storm = command(&program("ipc-workload").to_string_lossy());
        storm.args(["storm", "--duration", &format!("{}ms", length.as_millis())]).args(options.split(' '));
        number(&output(&mut storm)?, "calls").map(Some)
    }
}

impl Companion {
    fn start(self, bytes_per_s: f64) -> Result<Company> {
        Ok(match self {
            Companion::Nobody => Company::Nobody,
            Companion::EmptyPair => Company::EmptyPair(Process(start_empty_pair()?)),
            Companion::Recorder(options) => Company::Recorder(Recorder::start(options)?),
            Companion::Writer => Company::Writer(start_writer(bytes_per_s)?),
        })
    }
}

impl Company {
    fn end(self) -> Result<Option<Recorded>> {
        match self {
            Company::Nobody => Ok(None),
            Company::EmptyPair(mut pair) => stop(&mut pair.0, Signal::TERM).map(|()| None),
            Company::Recorder(recorder) => recorder.end().map(Some),
            Company::Writer(writer) => writer.stop().map(|_| None),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Recorder {
    /// Starts it, as a service manager does, and waits until its first rows have gone all the way.
    fn start(options: &[&str]) -> Result<Recorder> {
        let (trace, socket) = (place::target("bench").join("trace"), place::target("bench").join("manager"));
        place::remove(&trace)?;
        let _ = fs::remove_file(&socket); // there is none at first
        let manager = UnixDatagram::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        manager.set_read_timeout(Some(START_LIMIT)).map_err(|error| error.to_string())?;
        let mut recorder = command(&program("ipc-recorder").to_string_lossy());
        recorder.args(["record", "-a", "--ring-size", RING]).args(options);
        recorder.arg("-o").arg(&trace).env("NOTIFY_SOCKET", &socket);
        recorder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process(recorder.spawn().map_err(|error| format!("cannot start ipc-recorder: {error}"))?);
        if manager.recv(&mut [0; 1024]).is_err() {
            let _ = process.0.kill(); // it may have ended by itself
            return Err(format!("ipc-recorder does not record:\n{}", process.said()));
        }
        Ok(Recorder { attached_cpu_ns: own_cpu_ns(process.0.id())?, process, trace })
    }

    /// Stops it, and waits until everything is written.
    fn end(mut self) -> Result<Recorded> {
        let child = &self.process.0;
        kill_process(pid(child)?, Signal::INT).map_err(|error| format!("ipc-recorder: {error}"))?;
        wait_unreaped(child)?;
        let cpu_ns = own_cpu_ns(child.id())? - self.attached_cpu_ns;
        let bytes = written_bytes(child)?;
        let said = self.process.said();
        match self.process.0.wait() {
            Ok(status) if status.success() => {}
            other => return Err(format!("ipc-recorder ended with {other:?}\n{said}")),
        }
        let (calls, lost) = seen_and_lost(&self.trace)?;
        Ok(Recorded { cpu_ns, bytes, calls, lost })
    }
}

impl Process {
    /// What an ended process wrote to stderr: less than a pipe holds.
    fn said(&mut self) -> String {
        let mut text = String::new();
        let read = self.0.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        if let Some(Err(error)) = read { error.to_string() } else { text }
    }
}

/// What a process that is not yet reaped has written to files, bytes.
fn written_bytes(child: &Child) -> Result<u64> {
    let path = format!("/proc/{}/io", child.id());
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let count = text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    count.ok_or_else(|| format!("{path} has no wchar"))
}

fn start_writer(bytes_per_s: f64) -> Result<Background<()>> {
    let path = place::target("bench").join("plain");
    let mut file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (began, mut written, mut synced_s) = (Instant::now(), 0, 0);
    let failed = move |error| format!("{}: {error}", path.display());
    Ok(Background::start(move || {
        std::thread::sleep(WRITER_PAUSE);
        let elapsed = began.elapsed();
        let due = (bytes_per_s * elapsed.as_secs_f64()) as usize - written;
        file.write_all(&vec![0x5a; due]).map_err(&failed)?;
        written += due;
        if elapsed.as_secs() > synced_s {
            synced_s = elapsed.as_secs();
            file.sync_data().map_err(&failed)?;
        }
        Ok(())
    }))
}
