//! Kprobes on the wrappers of the system calls, and on the functions that hold the kernel's own copies.
//!
//! The emulated machine has kprobes; where there are none these tests say so.

use super::counting::{mixture, ping_pong, record_exactly, storm};
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::recorded::Recorded;
use ipc_tests::running::{LONG, Recording};
use ipc_tests::trace::Trace;

const KPROBES: [&str; 2] = ["--attach", "kprobe"];

/// Fewer wrappers: the kernel takes its time over each that is let go.
const OF_SEMAPHORES: [&str; 4] = ["--attach", "kprobe", "--syscall", "%sem"];

/// As [`Live::ready`], where the kernel has kprobes.
fn ready() -> Option<Live> {
    let live = Live::ready()?;
    // The emulated machine has them: what fails there is a failure.
    if std::env::var_os("IPC_VM").is_some() {
        return Some(live);
    }
    let ended = Recording::new().start(&OF_SEMAPHORES, &["ping-pong", "--count", "1"]).wait(LONG);
    if ended.code() == 4 {
        println!("not here: {}", ended.stderr.trim_end());
        return None;
    }
    ended.with_code(0);
    Some(live)
}

#[test]
fn ping_pong_loses_nothing() {
    let Some(_live) = ready() else { return };
    ping_pong(&OF_SEMAPHORES);
}

#[test]
fn storm_adds_up() {
    let Some(_live) = ready() else { return };
    storm(&KPROBES);
}

#[test]
fn threads_and_families_are_exact() {
    let Some(_live) = ready() else { return };
    mixture(&KPROBES);
}

#[test]
fn failures_and_deaths_and_i386_calls_are_exact() {
    let Some(_live) = ready() else { return };
    record_exactly(&KPROBES, &["failures", "--count", "2"]);
    record_exactly(&OF_SEMAPHORES, &["killed", "--count", "5"]);
    record_exactly(&OF_SEMAPHORES, &["int80", "--count", "1000"]);
}

#[test]
fn every_hook_is_attached_by_its_way() {
    let Some(_live) = ready() else { return };
    let (recording, _) = record_exactly(&KPROBES, &["families", "--count", "1"]);
    let session = &recording.trace().manifest.session;
    assert!(session.missing.is_empty(), "missing: {:?}", session.missing);
    let by_kprobe = session.attach.iter().filter(|attached| attached.way == "kprobe");
    let hooks: Vec<&str> = by_kprobe.map(|attached| attached.hook.as_str()).collect();
    assert_eq!(hooks, ["__do_semtimedop", "sigprocmask", "sys_enter"]);
}

/// What calls took, in order: by the kernel, by their rows; and how many rows say that their arguments changed.
struct Taken {
    by_kernel: Vec<i64>,
    by_rows: Vec<i64>,
    changed: usize,
}

impl Taken {
    /// The raced calls are those of `syscall` with one of these values in `column`.
    fn new(trace: &Trace, by_kernel: Vec<i64>, syscall: &str, column: &str, values: &[i64]) -> Taken {
        let rows = trace.table("calls", &["syscall", "sig_how", "args_changed", column]);
        let (syscalls, hows) = (rows.texts("syscall"), rows.texts("sig_how"));
        let (changes, found) = (rows.integers("args_changed"), rows.integers(column));
        let is_raced = |row: &usize| {
            let is_other = hows[*row].as_deref().is_some_and(|how| how != "SIG_SETMASK");
            syscalls[*row].as_deref() == Some(syscall) && !is_other && found[*row].is_some_and(|v| values.contains(&v))
        };
        let raced: Vec<usize> = (0..rows.count()).filter(is_raced).collect();
        Taken {
            by_kernel,
            by_rows: raced.iter().filter_map(|row| found[*row]).collect(),
            changed: raced.iter().filter(|row| changes[**row] == Some(1)).count(),
        }
    }

    /// How many rows do not say what the kernel took.
    fn wrong(&self) -> usize {
        assert_eq!(self.by_rows.len(), self.by_kernel.len(), "rows of raced calls");
        self.by_rows.iter().zip(&self.by_kernel).filter(|(row, kernel)| row != kernel).count()
    }
}

/// The raced operations and sets, recorded in one way.
fn race(options: &[&str]) -> [(&'static str, Taken); 2] {
    let count = environment::count(200, 2_000).to_string();
    let Recorded { trace, json, .. } = &Recorded::run(options, &["racer", "--count", &count]);
    let numbers = |name: &str| -> Vec<i64> {
        json[name].as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
    };
    let adds = Taken::new(trace, numbers("adds"), "semtimedop", "sem_op", &numbers("may_add"));
    let sets = Taken::new(trace, numbers("sets"), "sigprocmask", "sig_set", &numbers("may_set"));
    let taken = [("semtimedop", adds), ("sigprocmask", sets)];
    for (syscall, taken) in &taken {
        let (calls, wrong, changed) = (taken.by_kernel.len(), taken.wrong(), taken.changed);
        println!("{options:?}: {calls} raced {syscall}: {wrong} rows differ from the kernel, {changed} args_changed");
    }
    taken
}

#[test]
fn the_kernels_own_copy_decides() {
    let Some(_live) = ready() else { return };
    let by_entry = race(&["--attach", "raw-tracepoint"]);
    for (syscall, own) in race(&KPROBES) {
        assert_eq!(
            (own.wrong(), own.changed),
            (0, own.by_kernel.len()),
            "{syscall}: rows that are wrong, args_changed"
        );
    }
    // What user memory held is not what the kernel took: else the test would have tested nothing.
    for (syscall, entry) in by_entry {
        assert_eq!(
            entry.wrong(),
            entry.by_kernel.len(),
            "{syscall}: rows that are wrong without the kernel's own copy"
        );
    }
}

/// 40 threads that sleep in semop at the same time: how many calls were made, and how many were seen to end.
fn ends_of_sleepers(options: &[&str]) -> [u64; 2] {
    let options = [&OF_SEMAPHORES, options].concat();
    let recording = Recording::new();
    let ended = recording.record(&options, &["waiters", "--threads", "40", "--count", "1", "--hold", "20ms"]);
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let outcomes = trace.table("calls", &["outcome"]).texts("outcome");
    let seen = outcomes.iter().filter(|outcome| matches!(outcome.as_deref(), Some("ok" | "error"))).count() as u64;
    let performed = Performed::read(&ended.stdout).total();
    println!("{options:?}: {performed} calls, {} rows, {seen} ends", outcomes.len());
    [performed, seen]
}

#[test]
fn sys_exit_sees_the_ends_that_kretprobes_miss() {
    let Some(_live) = ready() else { return };
    let [performed, seen] = ends_of_sleepers(&["--exit", "sys-exit"]);
    assert_eq!(seen, performed, "the ends that sys_exit sees");
    // A comparison: how many they miss is the kernel's affair.
    ends_of_sleepers(&["--exit", "kretprobe"]);
}
