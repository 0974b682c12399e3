//! What a recording may take of the machine, and that what does not fit is counted: nothing is lost in silence.

use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::{Loss, Trace};
use ipc_tests::usage::{bytes_below, processor_time};
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const PING_PONG: [&str; 2] = ["ping-pong", "--count"];

/// Rows and losses are the calls performed, the session tells the same, and the analyzer finds nothing wrong.
fn check_equation(recording: &Recording, trace: &Trace, performed: &Performed) {
    let rows: u64 = trace.calls_by_operation().values().sum();
    assert_eq!(rows + trace.lost_calls(), performed.total(), "rows and losses are the calls performed");
    let session = &trace.manifest.session;
    assert_eq!((session.calls as u64, session.lost_calls as u64), (rows, trace.lost_calls()), "the session");
    run(programs::analyzer(&["verify"], &recording.trace_path()), recording.folder(), "verify").with_code(0);
}

fn lost(trace: &Trace, source: &str) -> Vec<Loss> {
    let mut losses = trace.losses();
    losses.retain(|loss| loss.source == source);
    losses.sort_by_key(|loss| loss.from_ns);
    losses
}

#[test]
fn a_trace_stays_as_small_as_asked_for_and_loses_its_oldest_parts() {
    let Some(_live) = Live::ready() else { return };
    const MAX: u64 = 3 << 20;
    let recording = Recording::new();
    let rounds = environment::count(400_000, 4_000_000).to_string();
    let options = ["--syscall", "%sem", "--max-size", "3MiB"];
    let mut recorder = recording.start(&options, &[PING_PONG[0], PING_PONG[1], &rounds]);
    let mut largest = 0;
    while !recorder.has_ended() {
        largest = largest.max(bytes_below(&recording.trace_path()));
        std::thread::sleep(Duration::from_millis(20));
    }
    let performed = Performed::read(&recorder.wait(LONG).with_code(0).stdout);
    let trace = recording.trace();
    check_equation(&recording, &trace, &performed);
    let rotated = lost(&trace, "rotated_out");
    println!("{} rotations, at most {largest} bytes on the disk of {MAX}", rotated.len());
    assert!(rotated.len() >= 10, "{} rotations", rotated.len());
    // A segment that becomes parts is there twice: an eighth of it.
    assert!(largest <= MAX + MAX / 4, "{largest} bytes at once");
    for pair in rotated.windows(2) {
        assert_eq!(pair[0].to_ns, pair[1].from_ns, "the time that is gone has no holes");
    }
    let ends = trace.table("calls", &["end_ns"]).integers("end_ns");
    let oldest = ends.iter().flatten().min().unwrap();
    let gone = rotated.last().unwrap().to_ns;
    assert!(*oldest >= gone - 20_000_000, "the newest are kept: {oldest} is older than what went, {gone}");
    assert!(rotated[0].from_ns <= trace.manifest.session.start_ns, "the oldest went first");
}

#[test]
fn a_recorder_takes_no_more_of_the_processor_than_it_may() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let recorder = recording.start_alone(&["--syscall", "%sem", "--max-cpu", "10%"]);
    let (begun, before) = (Instant::now(), processor_time(recorder.pid()));
    let workload = programs::workload(&[PING_PONG[0], PING_PONG[1], "500000"]);
    let performed = Performed::read(&run(workload, recording.folder(), "workload").with_code(0).stdout);
    // To complete the trace takes what it takes.
    let (passed, taken) = (begun.elapsed(), processor_time(recorder.pid()) - before);
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    let trace = recording.trace();
    check_equation(&recording, &trace, &performed);
    let shed = lost(&trace, "shed");
    println!("{taken:?} of {passed:?}; {} of {} calls lost", trace.lost_calls(), performed.total());
    assert!(!shed.is_empty() && shed.iter().all(|loss| loss.cpu.is_some()), "it had to shed calls: {shed:?}");
    assert!(trace.manifest.session.calls > 1000, "but not all");
    // What is in the rings when it begins to shed is still taken.
    let allowed = passed.mul_f64(0.1) + Duration::from_millis(250);
    assert!(taken < allowed, "{taken:?} of {passed:?}, where {allowed:?} may be");
}

/// A file system of so many bytes; unmounted when it goes.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, bytes: u64) -> Disk {
        fs::create_dir(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(&path).status();
        assert!(mounted.unwrap().success(), "a tmpfs can be mounted");
        Disk(path)
    }

    /// Fills it, to the last byte.
    fn fill(&self) {
        let filler = fs::File::create(self.0.join("filler")).unwrap();
        let zeros = vec![0; 1 << 16];
        while std::io::Write::write_all(&mut &filler, &zeros).is_ok() {}
        while std::io::Write::write_all(&mut &filler, &[0]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Disk {
    fn trace(&self) -> PathBuf {
        self.0.join("trace")
    }

    /// A recording of semaphores onto it.
    fn recorder(&self, options: &[&str]) -> Command {
        let mut command = Command::new(programs::path("ipc-recorder"));
        command.arg("record").arg("-o").arg(self.trace()).args(["--syscall", "%sem"]).args(options);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn boot_to_epoch_ns(trace: &Trace, boot_ns: i64) -> i64 {
    boot_ns + trace.manifest.session.clock_offset_ns
}

#[test]
fn a_disk_that_was_full_costs_the_calls_of_that_time_and_they_are_counted() {
    let Some(_live) = Live::as_root("only root mounts a small disk") else { return };
    let recording = Recording::new();
    let disk = Disk::mount(recording.path("disk"), 4 << 20);
    let command = disk.recorder(&["--comm", "ipc-workload", "--memory", "32MiB", "--max-size", "1500KiB"]);
    let recorder = Running::start(command, recording.folder(), "record");
    wait_until("it records", || disk.trace().join("trace.json").exists());
    let perform = |rounds: &str| {
        let workload = programs::workload(&[PING_PONG[0], PING_PONG[1], rounds]);
        Performed::read(&run(workload, recording.folder(), "workload").with_code(0).stdout).total()
    };
    let mut performed = perform("20000");
    let from = environment::boot_ns();
    disk.fill();
    let full = Instant::now();
    performed += perform("400000");
    wait_until("it says that the disk is full", || recorder.stderr().contains("cannot write"));
    std::thread::sleep(Duration::from_secs(environment::count(2, 5)).saturating_sub(full.elapsed()));
    disk.free();
    let to = environment::boot_ns();
    wait_until("it says that it writes again", || recorder.stderr().trim_end().ends_with("writing again"));
    performed += perform("20000");
    recorder.signal(Signal::INT);
    let ended = recorder.wait(LONG).with_code(0);
    let trace = Trace::open(&disk.trace());
    run(programs::analyzer(&["verify"], &disk.trace()), recording.folder(), "verify").with_code(0);
    let rows: u64 = trace.calls_by_operation().values().sum();
    assert_eq!(rows + trace.lost_calls(), performed, "rows and losses are the calls performed");
    let gap = lost(&trace, "disk_full");
    println!("{gap:?}\n{}", ended.stderr);
    assert!(!gap.is_empty(), "memory was not enough");
    let (from, to) = (boot_to_epoch_ns(&trace, from), boot_to_epoch_ns(&trace, to));
    let last = gap.last().unwrap().to_ns;
    assert!(gap[0].from_ns >= from - 1_000_000_000, "the gap begins when memory is full, behind the disk");
    assert!(last <= to + 7_000_000_000, "and ends when there is room and what failed was tried again");
    let ends = trace.table("calls", &["end_ns"]).integers("end_ns");
    assert!(ends.iter().flatten().any(|end| *end > last), "and then it records again");
}

#[test]
fn a_disk_that_stays_full_keeps_what_was_written() {
    let Some(_live) = Live::as_root("only root mounts a small disk") else { return };
    let recording = Recording::new();
    let disk = Disk::mount(recording.path("disk"), 4 << 20);
    let mut command = disk.recorder(&["--memory", "32MiB", "--"]);
    command.arg(programs::path("ipc-workload")).args([PING_PONG[0], PING_PONG[1], "500000"]);
    let ended = run(command, recording.folder(), "record").with_code(0);
    let performed = Performed::read(&ended.stdout);
    let trace = Trace::open(&disk.trace());
    let rows: u64 = trace.calls_by_operation().values().sum();
    println!("{rows} calls on 4 MiB, {} lost", trace.lost_calls());
    assert_eq!(rows + trace.lost_calls(), performed.total());
    assert!(rows > 50_000 && !lost(&trace, "disk_full").is_empty());
    run(programs::analyzer(&["verify"], &disk.trace()), recording.folder(), "verify").with_code(0);
}

#[test]
fn what_is_to_stay_free_stays_free() {
    let Some(_live) = Live::as_root("only root mounts a small disk") else { return };
    let recording = Recording::new();
    let disk = Disk::mount(recording.path("disk"), 16 << 20);
    let mut recorder = Running::start(disk.recorder(&["--keep-free", "10MiB"]), recording.folder(), "record");
    wait_until("it records", || disk.trace().join("trace.json").exists() || recorder.has_ended());
    let workload = programs::workload(&[PING_PONG[0], PING_PONG[1], "800000"]);
    let mut workload = Running::start(workload, recording.folder(), "workload");
    let mut least = u64::MAX;
    while !workload.has_ended() {
        let found = rustix::fs::statvfs(&disk.0).unwrap();
        least = least.min(found.f_bavail * found.f_frsize);
        std::thread::sleep(Duration::from_millis(5));
    }
    recorder.signal(Signal::INT);
    let ended = recorder.wait(LONG).with_code(0);
    println!("least free: {least} bytes of {}", 16 << 20);
    // What was written before must become parts: that may take of it what the segments of the log held.
    assert!(least >= 8 << 20, "{least} bytes were free");
    assert!(ended.stderr.contains("are to stay so"), "{}", ended.stderr);
}
