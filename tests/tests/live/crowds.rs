//! What a recording takes of the machine where there is much: of processes, threads, forks, semaphores, time.

use ipc_tests::cells::Cells;
use ipc_tests::differences::Differences;
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, wait_until};
use ipc_tests::trace::Trace;
use ipc_tests::usage::{bytes_below, children, memory, processor_time};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What `--memory` is unless given, KiB.
const MEMORY_KIB: u64 = 256 << 10;

/// What of a recorder's memory is its own, KiB: no rings, no table of threads.
fn own_memory(recorder: &Running) -> u64 {
    memory(recorder.pid(), "RssAnon").unwrap()
}

/// The process that takes the snapshots: the first that a recorder starts.
fn helper_of(recorder: &Running) -> i32 {
    children(recorder.pid())[0]
}

/// Waits until the workload stands before a gate; the folder of the recording holds the gates.
fn wait_at(recording: &Recording, gate: &str) {
    wait_until(gate, || recording.path(gate).exists());
}

/// Lets it through.
fn open(recording: &Recording, gate: &str) {
    std::fs::write(recording.path(&format!("{gate}.go")), "").unwrap();
}

/// A limit of the kernel that is higher while this lives.
struct Raised {
    path: &'static str,
    before: String,
}

impl Raised {
    fn to(path: &'static str, least: u64) -> Option<Raised> {
        let before = std::fs::read_to_string(path).unwrap();
        let is_low = before.trim().parse::<u64>().unwrap() < least;
        is_low.then(|| {
            std::fs::write(path, least.to_string()).unwrap();
            Raised { path, before }
        })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path, &self.before);
    }
}

/// Rows and losses are the calls performed. Returns how many were lost.
fn check_equation(trace: &Trace, performed: &Performed) -> u64 {
    let rows: u64 = trace.calls_by_operation().values().sum();
    let lost = trace.lost_calls();
    assert_eq!(rows + lost, performed.total(), "rows and losses are the calls performed");
    let session = &trace.manifest.session;
    assert_eq!((session.calls as u64, session.lost_calls as u64), (rows, lost), "the session");
    lost
}

/// The calls of each thread, by process; each is a thread and a process of the tables, which have each once.
fn check_names(calls: &Cells, trace: &Trace, found: &mut Differences) -> BTreeMap<i64, BTreeMap<i64, u64>> {
    let threads = Cells::read(trace, "threads", &["thread_id", "process_id", "tid"]);
    let processes = Cells::read(trace, "processes", &["process_id", "pid"]);
    let (thread_rows, process_rows) = (threads.by_id("thread_id"), processes.by_id("process_id"));
    let mut made: BTreeMap<i64, BTreeMap<i64, u64>> = BTreeMap::new();
    for row in 0..calls.count() {
        let [process_id, thread_id] = ["process_id", "thread_id"].map(|column| calls.integer(column, row));
        let told = thread_rows.get(&thread_id).map(|row| threads.row(&["process_id", "tid"], *row));
        found.compare("the thread of a call", told, Some(calls.row(&["process_id", "tid"], row)));
        let told = process_rows.get(&process_id).map(|row| processes.integer("pid", *row));
        found.compare("the process of a call", told, Some(calls.integer("pid", row)));
        *made.entry(process_id).or_default().entry(thread_id).or_default() += 1;
    }
    made
}

/// Processes of so many threads each, all inside semop at once.
struct Multitude {
    processes: u64,
    threads: u64,
    rounds: u64,
}

/// What was measured of the recorder, KiB.
struct Measured {
    before: u64,
    inside: u64,
    peak: u64,
}

impl Multitude {
    fn new() -> Multitude {
        Multitude { processes: environment::count(400, 10_000), threads: 5, rounds: 2 }
    }

    fn all(&self) -> u64 {
        self.processes * self.threads
    }

    fn record(&self, recording: &Recording, options: &[&str]) -> (Trace, Performed, Measured) {
        let _raised = Raised::to("/proc/sys/kernel/pid_max", 4 * self.all());
        let numbers = [self.processes, self.threads, self.rounds].map(|number| number.to_string());
        let [processes, threads, rounds] = numbers.each_ref().map(String::as_str);
        let folder = recording.text("");
        let workload = ["multitude", "--processes", processes, "--threads", threads, "--count", rounds];
        let options = [&["--syscall", "%sem"], options].concat();
        let mut recorder = recording.start(&options, &[&workload[..], &["--gate", &folder]].concat());
        wait_at(recording, "start.waiting");
        let before = own_memory(&recorder);
        open(recording, "start");
        wait_at(recording, "all-inside.waiting");
        // What they have told until now is taken.
        std::thread::sleep(Duration::from_millis(500));
        let mut measured = Measured { before, inside: own_memory(&recorder), peak: 0 };
        open(recording, "all-inside");
        while !recorder.has_ended() {
            measured.peak = memory(recorder.pid(), "VmHWM").unwrap_or(measured.peak);
            std::thread::sleep(Duration::from_millis(10));
        }
        let performed = Performed::read(&recorder.wait(LONG).with_code(0).stdout);
        (recording.trace(), performed, measured)
    }
}

const WHO: [&str; 4] = ["process_id", "thread_id", "pid", "tid"];

#[test]
fn of_a_multitude_each_call_and_thread_is_told_once() {
    let Some(_live) = Live::as_root("only root raises kernel.pid_max") else { return };
    let (multitude, recording) = (Multitude::new(), Recording::new());
    // Rings that hold all that comes in the second in which every thread wants a processor, and the recorder gets none.
    let roomy = ["--memory", "1GiB", "--ring-size", "64MiB"];
    let (trace, performed, Measured { before, inside, peak }) = multitude.record(&recording, &roomy);
    println!("{} calls of {} threads", performed.total(), multitude.all());
    println!("KiB of the recorder's own: {before} before, {inside} with all inside; with rings {peak} at most");
    assert_eq!(check_equation(&trace, &performed), 0, "all of it fits into the rings");
    let mut found = Differences::default();
    let calls = Cells::read(&trace, "calls", &WHO);
    let made = check_names(&calls, &trace, &mut found);
    let [main, workers @ ..] = &performed.pids()[..] else { panic!("there are processes") };
    found.compare("processes with calls", made.len() as u64, multitude.processes + 1);
    let calls_each = 1 + 2 * multitude.rounds;
    for threads in made.values().filter(|threads| threads.len() > 1) {
        found.compare("threads of a process", threads.len() as u64, multitude.threads);
        found.check(threads.values().all(|calls| *calls == calls_each), || format!("not {calls_each}: {threads:?}"));
    }
    let pids: BTreeSet<i64> = (0..calls.count()).map(|row| calls.integer("pid", row)).collect();
    let expected: BTreeSet<i64> = workers.iter().chain([main]).map(|pid| i64::from(*pid)).collect();
    found.compare("process ids", pids, expected);
    found.none();
    // Buffers, and of each thread what is known of it, of its process and of its call.
    let allowed = before + (32 << 10) + multitude.all() * 3;
    assert!(inside < allowed, "{inside} KiB, where {allowed} may be");
}

#[test]
fn a_multitude_beyond_the_rings_is_counted_within_the_memory() {
    let Some(_live) = Live::as_root("only root raises kernel.pid_max") else { return };
    let (multitude, recording) = (Multitude::new(), Recording::new());
    // Fewer threads need smaller rings to lose calls.
    let ring = if multitude.all() < 50_000 { "64KiB" } else { "8MiB" };
    let (trace, performed, Measured { before, inside, peak }) = multitude.record(&recording, &["--ring-size", ring]);
    let lost = check_equation(&trace, &performed);
    println!("{} calls of {} threads, {lost} lost", performed.total(), multitude.all());
    println!("KiB of the recorder's own: {before} before, {inside} with all inside; with rings {peak} at most");
    let mut found = Differences::default();
    check_names(&Cells::read(&trace, "calls", &WHO), &trace, &mut found);
    found.none();
    assert!(peak < MEMORY_KIB, "{peak} KiB at most");
}

/// Calls of a forked child.
const CALLS_OF_A_CHILD: u64 = 3;

#[test]
fn a_fork_storm_leaves_nothing_behind_in_memory() {
    let Some(_live) = Live::ready() else { return };
    // In soak, the first burst is more than the threads that the recorder remembers after their end.
    let burst = environment::count(1500, 35_000);
    let recording = Recording::new();
    // The third burst is there so that the workload does not end before it is measured.
    let (folder, bursts) = (recording.text(""), format!("{burst},{},1", 6 * burst));
    let workload = ["forks", "--processes", "2", "--count", &bursts, "--gate", &folder];
    let mut recorder = recording.start(&["--syscall", "%sem"], &workload);
    wait_at(&recording, "start.waiting");
    open(&recording, "start");
    let mut storm = |burst: u32| {
        open(&recording, &format!("burst-{burst}"));
        let is_over = |own: u32| recording.path(&format!("burst-{burst}-{own}.done")).exists();
        while !(0..2).all(is_over) && !recorder.has_ended() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is in the rings is taken.
        std::thread::sleep(Duration::from_millis(500));
        own_memory(&recorder)
    };
    let (first, second) = (storm(1), storm(2));
    open(&recording, "burst-3");
    let performed = Performed::read(&recorder.wait(LONG).with_code(0).stdout);
    let trace = recording.trace();
    assert_eq!(check_equation(&trace, &performed), 0, "the recorder keeps up with two that fork");
    let seconds = performed.json["elapsed_ns"].as_f64().unwrap() / 1e9;
    let children = performed.json["children"].as_u64().unwrap();
    println!("{children} children in {seconds:.1} s; {first} KiB, and then {second} KiB");
    check_children(&trace, &performed);
    // Had they left behind what was known of each process and its thread, it were 600 bytes each: 10 MiB.
    let allowed = first + (8 << 10);
    assert!(second < allowed, "{second} KiB, where {allowed} may be");
}

/// Each child is one process of one thread that made its calls and ended.
fn check_children(trace: &Trace, performed: &Performed) {
    let children = performed.json["children"].as_u64().unwrap();
    let keys_from = performed.json["keys_from"].as_i64().unwrap();
    let mut found = Differences::default();
    let calls = Cells::read(trace, "calls", &[&WHO[..], &["syscall", "error", "key"]].concat());
    let made = check_names(&calls, trace, &mut found);
    let is_of_child = |row: &usize| calls.get("error", *row).text() == Some("ENOENT");
    let mut serials: Vec<i64> =
        (0..calls.count()).filter(is_of_child).map(|row| calls.integer("key", row) - keys_from).collect();
    let processes: BTreeSet<i64> =
        (0..calls.count()).filter(is_of_child).map(|row| calls.integer("process_id", row)).collect();
    serials.sort_unstable();
    serials.dedup();
    found.compare("serials of children", serials.len() as u64, children);
    found.compare("processes of children", processes.len() as u64, children);
    let calls_of = |process_id: &i64| made[process_id].values().copied().collect::<Vec<u64>>();
    let is_wrong = processes.iter().find(|process_id| calls_of(process_id) != [CALLS_OF_A_CHILD]);
    found.check(is_wrong.is_none(), || format!("the calls of process {is_wrong:?}"));
    check_ends(trace, &processes, &mut found);
    println!("{} values compared", found.compared());
    found.none();
}

/// Each of these processes has ended, and has a parent, whose program it runs.
fn check_ends(trace: &Trace, children: &BTreeSet<i64>, found: &mut Differences) {
    let columns = ["process_id", "exit_ns", "exit_code", "parent_process_id", "exe"];
    let processes = Cells::read(trace, "processes", &columns);
    let rows = processes.by_id("process_id");
    for process_id in children {
        let what = |column: &str| format!("{column} of process {process_id}");
        let value = |column: &str| processes.get(column, rows[process_id]).integer();
        found.check(value("exit_ns").is_some(), || what("exit_ns"));
        let parent = value("parent_process_id").and_then(|parent| rows.get(&parent));
        found.check(parent.is_some(), || what("parent_process_id"));
        // They are gone before anybody can look.
        let exe = processes.get("exe", rows[process_id]);
        found.check(exe.text().is_some_and(|exe| exe.ends_with("/ipc-workload")), || what("exe"));
        found.compare(&what("exit_code"), value("exit_code"), Some(0));
    }
}

/// Per hour.
fn hourly(amount: f64, of: Duration) -> f64 {
    amount * 3600.0 / of.as_secs_f64()
}

#[test]
fn a_trickle_costs_little_and_is_told_to_the_call() {
    let Some(_live) = Live::ready() else { return };
    const CALLS_A_SECOND: u64 = 10;
    let whole = Duration::from_secs(environment::trickle_seconds(4, 60));
    let recording = Recording::new();
    let (count, folder) = ((whole.as_secs() * CALLS_A_SECOND).to_string(), recording.text(""));
    let timeout = format!("{}s", whole.as_secs() + 60);
    let workload = ["trickle", "--count", &count, "--every", "100ms", "--timeout", &timeout, "--gate", &folder];
    let recorder = recording.start(&["--syscall", "%sem"], &workload);
    wait_at(&recording, "start.waiting");
    let processors = || processor_time(recorder.pid()) + processor_time(helper_of(&recorder));
    let look = || (processors(), bytes_below(&recording.trace_path()), own_memory(&recorder));
    open(&recording, "start");
    std::thread::sleep(whole / 4);
    let first = look();
    std::thread::sleep(whole / 2);
    let second = look();
    let performed = Performed::read(&recorder.wait(whole + LONG).with_code(0).stdout);
    let trace = recording.trace();
    assert_eq!(check_equation(&trace, &performed), 0, "nothing of a trickle is lost");
    let taken = second.0 - first.0;
    let bytes = second.1.saturating_sub(first.1) as f64;
    println!(
        "{} calls in {whole:?}: {:.1} s of a processor and {:.1} MiB per hour as it records, {} bytes in the end",
        performed.total(),
        hourly(taken.as_secs_f64(), whole / 2),
        hourly(bytes, whole / 2) / f64::from(1 << 20),
        bytes_below(&recording.trace_path()),
    );
    println!("{} KiB of memory at first, then {}", first.2, second.2);
    assert!(taken < whole / 2 / 50 + Duration::from_millis(50), "{taken:?} of {:?}: more than 2 %", whole / 2);
    // To make a part of a segment takes some memory, for a while.
    assert!(second.2 < first.2 + (16 << 10), "{} KiB, and then {} KiB", first.2, second.2);
}

/// How 32,000 semaphores may be there.
struct Population {
    sets: u64,
    semaphores: u64,
    /// What a snapshot of them may take of a processor.
    allowed: Duration,
}

const POPULATIONS: [Population; 3] = [
    Population { sets: 32_000, semaphores: 1, allowed: Duration::from_secs(1) },
    Population { sets: 64, semaphores: 500, allowed: Duration::from_millis(200) },
    Population { sets: 1, semaphores: 32_000, allowed: Duration::from_millis(50) },
];

/// What snapshots cost who uses what they look at.
struct Cost {
    snapshots: u32,
    /// What the helper, and the recorder, took of the processors.
    taken: [Duration; 2],
    mean_ns: u64,
    longest_ns: u64,
    longer: String,
    peak: u64,
}

impl Population {
    /// Records nothing but snapshots while a process uses every semaphore.
    fn cost(&self, every: &str, hold: &str) -> Cost {
        let recording = Recording::new();
        let recorder = recording.start_alone(&["--comm", "nobody", "--snapshot-every", every]);
        let helper = helper_of(&recorder);
        let (sets, semaphores, folder) = (self.sets.to_string(), self.semaphores.to_string(), recording.text(""));
        let numbers = ["populated", "--sets", &sets, "--semaphores", &semaphores, "--hold", hold, "--gate", &folder];
        // The first snapshot is over by then.
        std::thread::sleep(Duration::from_millis(500));
        let workload = Running::start(programs::workload(&numbers), recording.folder(), "workload");
        open(&recording, "start");
        wait_at(&recording, "populated.waiting");
        let processors = || [helper, recorder.pid()].map(processor_time);
        let before = processors();
        open(&recording, "populated");
        let told = Performed::read(&workload.wait(LONG).with_code(0).stdout).json;
        let after = processors();
        let peak = memory(recorder.pid(), "VmHWM").unwrap();
        recorder.signal(Signal::INT);
        recorder.wait(LONG).with_code(0);
        let number = |name: &str| told[name].as_u64().unwrap();
        Cost {
            snapshots: self.snapshots(&recording.trace()),
            taken: [0, 1].map(|process| after[process] - before[process]),
            mean_ns: number("mean_ns"),
            longest_ns: number("longest_ns"),
            longer: told["longer"].to_string(),
            peak,
        }
    }

    /// How many periodic snapshots have all of it.
    fn snapshots(&self, trace: &Trace) -> u32 {
        let objects = Cells::read(trace, "objects", &["phase", "snapshot_ns", "ipc_ns", "object_kind"]);
        let mut sets: BTreeMap<[i64; 2], u64> = BTreeMap::new();
        let is_set =
            |row: &usize| [objects.text("phase", *row), objects.text("object_kind", *row)] == ["periodic", "sem"];
        for row in (0..objects.count()).filter(is_set) {
            *sets.entry(["snapshot_ns", "ipc_ns"].map(|column| objects.integer(column, row))).or_default() += 1;
        }
        sets.values().filter(|found| **found == self.sets).count() as u32
    }
}

#[test]
fn a_snapshot_of_many_semaphores_costs_their_users_little() {
    let Some(_live) = Live::as_root("only root makes IPC namespaces") else { return };
    let is_soak = environment::count(0, 1) == 1;
    let (hold, shapes) = if is_soak { ("10s", &POPULATIONS[..]) } else { ("2s", &POPULATIONS[..1]) };
    for shape in shapes {
        let (without, with) = (shape.cost("1h", hold), shape.cost("1s", hold));
        println!("{} sets of {} semaphores, used as fast as it goes:", shape.sets, shape.semaphores);
        for (what, cost) in [("no", &without), ("every second", &with)] {
            let Cost { snapshots, taken: [helper, recorder], mean_ns, longest_ns, longer, peak } = cost;
            println!("  {what} snapshot, {snapshots} taken: helper {helper:?}, recorder {recorder:?}, {peak} KiB;");
            println!("  semop {mean_ns} ns, at most {longest_ns} ns; longer than ns: {longer}");
        }
        assert_eq!(without.snapshots, 0, "there is what to compare with");
        assert!(with.snapshots >= if is_soak { 9 } else { 1 }, "{} snapshots", with.snapshots);
        let each = with.taken[0] / with.snapshots;
        assert!(each < shape.allowed, "{each:?} of a processor for a snapshot");
        assert!(with.peak < MEMORY_KIB, "{} KiB at most", with.peak);
        assert!(with.mean_ns < 5 * without.mean_ns, "{} ns, and without {}", with.mean_ns, without.mean_ns);
        let allowed = 20 * without.longest_ns + 20_000_000;
        assert!(with.longest_ns < allowed, "a semop waited for {} ns", with.longest_ns);
    }
}
