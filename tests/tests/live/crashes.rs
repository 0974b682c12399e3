//! Recordings that die: killed at random instants, at a chosen system call, while they finish; and repairs that die. What is
//! left is read before and after the repair, and compared call by call with what the workload did.
//!
//! A kill takes nothing that was written, synced or not: `power.rs` is about that.

use ipc_tests::crashed::{self, Found, Performed, SECOND_NS};
use ipc_tests::environment::{self, Live, boot_ns, random};
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, send, wait_until};
use ipc_tests::trace::Trace;
use ipc_tests::usage::children;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How a recording dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// So long after it began.
    After(Duration),
    /// So long after it was told to end.
    Finishing(Duration),
    /// When one of its threads makes one of these system calls for the `number`-th time: by strace.
    At { calls: &'static str, number: u64 },
}

/// What rotation and renaming consist of.
const STEPS: [&str; 4] = ["rename", "fsync,fdatasync", "unlink,unlinkat,rmdir", "openat,mkdir"];
/// Small, so that there are several each second.
const SEGMENT_SIZE: &str = "192KiB";
const BLOCKED: &str = "20";
/// The questions put before and after the repair.
const QUESTIONS: &[&[&str]] = &[
    &["latency", "--by", "pid,syscall,object,error"],
    &["contention"],
    &["deadlocks"],
    &["objects"],
    &["queues"],
    &["leaks"],
];

impl Death {
    fn choose(round: u64, state: &mut u64) -> Death {
        let ms = |state: &mut u64, below: u64| Duration::from_millis(random(state) % below);
        match round % 4 {
            0 => Death::After(ms(state, 3000)),
            // The first second is most of what there can be of it.
            1 => Death::After(ms(state, 1000)),
            2 => {
                let calls = STEPS[(random(state) % STEPS.len() as u64) as usize];
                Death::At { calls, number: 1 + random(state) % 30 }
            }
            _ => Death::Finishing(ms(state, 150)),
        }
    }
}

/// What was on the disk when the recording died.
#[derive(Debug, Default)]
struct Left {
    segments: usize,
    log_bytes: u64,
    parts: usize,
    unlisted: usize,
    hidden: usize,
    is_complete: bool,
}

impl Left {
    fn look(trace: &Path) -> Left {
        let mut left = Left::default();
        let manifest = Trace::open(trace).manifest;
        left.is_complete = manifest.complete;
        for path in files(trace) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let relative = path.strip_prefix(trace).unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') {
                left.hidden += 1;
            } else if name.ends_with(".parquet") {
                let is_listed = manifest.parts.iter().any(|part| part.file == relative);
                *if is_listed { &mut left.parts } else { &mut left.unlisted } += 1;
            } else if relative.starts_with("log") {
                left.segments += 1;
                left.log_bytes += fs::metadata(&path).unwrap().len();
            }
        }
        left
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
        // The end of the tail is told by it.
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        fs::File::options().append(true).open(&target).unwrap().set_modified(written).unwrap();
    }
}

/// A recording that died, and what the workload did.
struct Crashed {
    recording: Recording,
    performed: Performed,
    crash_ns: i64,
    left: Left,
}

/// The recorder, under strace where that is to kill it.
fn recorder(recording: &Recording, options: &[&str], death: Death) -> Command {
    let command = recording.command(options);
    let Death::At { calls, number } = death else { return command };
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-o"]).arg(recording.path("strace")); // all other calls at full speed
    strace.arg(format!("--trace={calls}")).arg(format!("--inject={calls}:signal=KILL:when={number}"));
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

/// Records the workload until the recording dies.
fn crash(death: Death, pause: &str) -> Crashed {
    let recording = Recording::new();
    let (gate, ends) = (recording.path("gate"), recording.path("ends"));
    [&gate, &ends].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let options = ["--gate", gate.to_str().unwrap(), "--ends", ends.to_str().unwrap(), "--pause", pause];
    let arguments = [&["numbered", "--blocked", BLOCKED], &options[..]].concat();
    let workload = Running::start(programs::workload(&arguments), recording.folder(), "workload");
    wait_until("the workload waits", || gate.join("start.waiting").exists());
    let pid = workload.pid().to_string();
    let options = ["--pid", &pid, "--follow", "--segment-size", SEGMENT_SIZE, "--ring-size", "16MiB"];
    let recorder = Running::start(recorder(&recording, &options, death), recording.folder(), "record");
    let manifest = recording.trace_path().join(ipc_schema::manifest::FILE_NAME);
    let crash_ns = die(recorder, death, &manifest, || fs::write(gate.join("start.go"), "").unwrap());
    let line = workload.stdout().lines().next().unwrap_or_default().to_owned();
    workload.signal(Signal::TERM);
    workload.wait(LONG);
    // Dead before anybody waited or sent: there is nothing to find.
    let nothing = Performed { senders: Vec::new(), blocked: Vec::new() };
    let performed = if line.is_empty() { nothing } else { Performed::read(&line, &ends) };
    let left = if manifest.exists() { Left::look(&recording.trace_path()) } else { Left::default() };
    Crashed { recording, performed, crash_ns, left }
}

/// Has the recorder die; returns when it ceased to record, by the boot clock.
fn die(mut recorder: Running, death: Death, manifest: &Path, go: impl FnOnce()) -> i64 {
    // The manifest is written first when the probes are live.
    wait_until("the recorder records or is dead", || recorder.has_ended() || manifest.exists());
    go();
    let mut told_ns = None;
    match death {
        Death::After(time) => std::thread::sleep(time),
        Death::Finishing(time) => {
            std::thread::sleep(Duration::from_millis(800));
            told_ns = Some(boot_ns());
            recorder.signal(Signal::TERM);
            std::thread::sleep(time);
        }
        Death::At { .. } => {
            let limit = boot_ns() + 5 * SECOND_NS;
            while !recorder.has_ended() && boot_ns() < limit {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let crash_ns = told_ns.unwrap_or_else(boot_ns);
    if !recorder.has_ended() {
        match (death, children(recorder.pid()).first()) {
            (Death::At { .. }, Some(recorder)) => send(*recorder, Signal::KILL),
            _ => recorder.signal(Signal::KILL),
        }
    }
    recorder.wait(LONG);
    crash_ns
}

/// What the analyzer answers, without what is said of the trace itself.
fn answers(trace: &Path, folder: &Path) -> Vec<(Value, Value)> {
    let ask = |question: &&[&str]| {
        let command = programs::analyzer(&[*question, &["--format", "json", "--limit", "0"]].concat(), trace);
        let mut answer: Value = serde_json::from_str(&run(command, folder, "answer").with_code(0).stdout).unwrap();
        (answer["rows"].take(), answer["losses"].take())
    };
    QUESTIONS.iter().map(ask).collect()
}

/// The first row that differs is told, not all of them.
fn same(question: &[&str], before: &(Value, Value), after: &(Value, Value)) {
    assert_eq!(before.1, after.1, "losses before and after the repair");
    let rows = |answer: &(Value, Value)| answer.0.as_array().unwrap().clone();
    let (before, after) = (rows(before), rows(after));
    let different = before.iter().zip(&after).find(|(before, after)| before != after);
    assert_eq!(different, None, "{question:?}: a row before and after the repair");
    assert_eq!(before.len(), after.len(), "{question:?}: rows before and after the repair");
}

/// Every file opens in DuckDB.
fn opens(traces: &[&Path], folder: &Path) {
    let Some(python) = environment::python() else { return };
    let mut script = programs::script(python, "opens.py");
    run(
        {
            script.args(traces);
            script
        },
        folder,
        "opens",
    )
    .with_code(0);
}

fn repair(trace: &Path) -> Command {
    programs::analyzer(&["repair"], trace)
}

/// `verify` finds every rule kept.
fn verify(trace: &Path, folder: &Path) {
    let verify = run(programs::analyzer(&["verify", "--format", "json"], trace), folder, "verify").with_code(0);
    let answer: Value = serde_json::from_str(&verify.stdout).unwrap();
    let rules = answer["rows"].as_array().unwrap();
    let is_kept = |rule: &&Value| rule["result"] == "ok" || rule["result"] == "skipped";
    assert!(rules.len() > 5 && rules.iter().all(|rule| is_kept(&rule)), "{}", verify.stdout);
}

/// Repairs a copy, killed again and again before it is let to its end.
fn repair_in_pieces(trace: &Path, folder: &Path, state: &mut u64) -> PathBuf {
    let pieces = folder.join("pieces");
    copy(trace, &pieces);
    for _ in 0..3 {
        let repairing = Running::start(repair(&pieces), folder, "repair");
        std::thread::sleep(Duration::from_millis(random(state) % 250));
        drop(repairing);
    }
    run(repair(&pieces), folder, "repair").with_code(0);
    pieces
}

/// Everything that is promised of a recording that died.
fn check(crashed: &Crashed, state: &mut u64) -> Found {
    let (folder, trace) = (crashed.recording.folder(), crashed.recording.trace_path());
    let before = answers(&trace, folder);
    let pieces = repair_in_pieces(&trace, folder, state);
    let whole = folder.join("repaired");
    copy(&trace, &whole);
    run(repair(&whole), folder, "repair").with_code(0);
    opens(&[&trace, &whole, &pieces], folder);
    for ((question, before), after) in QUESTIONS.iter().zip(&before).zip(answers(&whole, folder)) {
        same(question, before, &after);
    }
    let mut found = Vec::new();
    for repaired in [&whole, &pieces] {
        verify(repaired, folder);
        let left = Left::look(repaired);
        assert_eq!((left.segments, left.unlisted, left.hidden), (0, 0, 0), "nothing is left over: {left:?}");
        let checked = crashed::check(&Trace::open(repaired), &crashed.performed, crashed.crash_ns);
        found.push(checked.unwrap_or_else(|what| panic!("{}: {what}", repaired.display())));
    }
    found.swap_remove(0)
}

#[test]
fn a_recording_that_is_killed_keeps_what_was_recorded() {
    let Some(_live) = Live::ready() else { return };
    let mut state = environment::seed();
    let rounds = environment::count(6, 500);
    let (mut with_rows, mut with_parts_and_log, mut halfway) = (0, 0, 0);
    for round in 0..rounds {
        let death = Death::choose(round, &mut state);
        // At full speed rings may overflow, which is counted: most rounds are to be without.
        let pause = if round % 5 == 4 { "0ns" } else { "1ms" };
        let crashed = crash(death, pause);
        if !crashed.recording.trace_path().join(ipc_schema::manifest::FILE_NAME).exists() {
            println!("round {round}: {death:?}: there is no trace yet");
            continue;
        }
        let found = check(&crashed, &mut state);
        let ended = crashed.performed.ended_by(crashed.crash_ns);
        println!("round {round}: {death:?}, pause {pause}: {:?}, {ended} calls ended, {found:?}", crashed.left);
        with_rows += u64::from(found.calls > 0);
        with_parts_and_log += u64::from(crashed.left.parts > 0 && crashed.left.segments > 0);
        halfway += u64::from(crashed.left.hidden + crashed.left.unlisted > 0);
    }
    println!(
        "of {rounds}: {with_rows} with rows, {with_parts_and_log} with parts and a log, {halfway} halfway into a part"
    );
    assert!(2 * with_rows >= rounds && with_parts_and_log > 0, "the kills came too early to prove anything");
}

#[test]
fn threads_that_are_blocked_at_a_kill_are_open_once() {
    let Some(_live) = Live::ready() else { return };
    let mut state = environment::seed();
    let time = Duration::from_secs(environment::count(6, 30));
    let crashed = crash(Death::After(time), "2ms");
    // Told again in every segment, and converted by then.
    assert!(crashed.left.parts > 0, "the log was rotated: {:?}", crashed.left);
    assert_eq!(crashed.performed.blocked.len(), 20);
    assert!(crashed.performed.blocked.iter().all(|of| of.between_ns.1 < crashed.crash_ns - 3 * SECOND_NS));
    println!("{:?}", check(&crashed, &mut state));
}

#[test]
fn a_repair_that_is_killed_at_any_step_can_be_done_again() {
    let Some(_live) = Live::ready() else { return };
    let mut state = environment::seed();
    let crashed = crash(Death::After(Duration::from_millis(1800)), "1ms");
    let (folder, trace) = (crashed.recording.folder(), crashed.recording.trace_path());
    let steps = environment::count(12, 200);
    let mut killed = 0;
    for step in 0..steps {
        let calls = STEPS[(step % STEPS.len() as u64) as usize];
        let number = 1 + random(&mut state) % 12;
        let pieces = folder.join(format!("step-{step}"));
        copy(&trace, &pieces);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(folder.join("strace"));
        strace.arg(format!("--trace={calls}")).arg(format!("--inject={calls}:signal=KILL:when={number}"));
        strace.arg(programs::path("ipc-analyzer")).arg("repair").arg(&pieces);
        killed += u64::from(run(strace, folder, "strace").code() != 0);
        run(repair(&pieces), folder, "repair").with_code(0);
        let found = crashed::check(&Trace::open(&pieces), &crashed.performed, crashed.crash_ns);
        found.unwrap_or_else(|what| panic!("repair killed at {calls} {number}: {what}"));
        verify(&pieces, folder);
        let left = Left::look(&pieces);
        assert_eq!((left.segments, left.unlisted, left.hidden), (0, 0, 0), "killed at {calls} {number}: {left:?}");
        fs::remove_dir_all(&pieces).unwrap();
    }
    println!("{killed} of {steps} repairs were killed");
    assert!(2 * killed >= steps, "too few repairs were killed: {killed} of {steps}");
}
