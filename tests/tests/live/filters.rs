//! The rows under a filter are those of the unfiltered run that match, and what it left out is counted.

use ipc_tests::calls;
use ipc_tests::cells::{Cell, Cells};
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What every run here records: the C library makes signal calls that are not ours to count.
const FAMILIES: &str = "%sem,%shm,%msg,%mq";

/// The columns that are alike in two runs of the same programs; context too, for no filter may cost it.
const STABLE: &[&str] = &[
    "syscall",
    "entry_point",
    "abi",
    "comm",
    "uid",
    "cgroup_id",
    "ipc_ns",
    "outcome",
    "error",
    "object_kind",
    "created",
    "flags",
    "flags_text",
    "command",
    "sem_count",
    "sem_num",
    "sem_op",
    "sem_flags",
    "sem_ops_total",
    "size_bytes",
    "msg_type",
    "msg_type_requested",
    "msg_priority",
    "queue_depth",
    "queue_max_messages",
    "queue_max_message_bytes",
    "timeout_ns",
];

/// The calls of a recording.
struct Kept {
    calls: Cells,
    trace: Trace,
    /// What the programs say that they performed, the signal calls left out.
    performed: u64,
    /// The trace's files live as long as this.
    _recording: Recording,
}

impl Kept {
    fn read(recording: Recording, stdout: &str) -> Kept {
        let trace = recording.trace();
        let more = ["call_id", "pid", "process_id", "duration_ns"];
        let calls = Cells::read(&trace, "calls", &[STABLE, &more].concat());
        let results = stdout.lines().filter(|line| line.starts_with('{')).map(|line| Performed::read(line).calls);
        let own = results.flatten().filter(|(operation, _)| !calls::is_signal(operation));
        let performed = own.map(|(_, count)| count).sum();
        Kept { calls, trace, performed, _recording: recording }
    }

    /// How often each row was seen, of those that `matches` takes.
    fn rows(&self, matches: impl Fn(&Cells, usize) -> bool) -> BTreeMap<Vec<Cell>, usize> {
        let mut rows = BTreeMap::new();
        for row in (0..self.calls.count()).filter(|row| matches(&self.calls, *row)) {
            *rows.entry(self.calls.row(STABLE, row)).or_default() += 1;
        }
        rows
    }

    /// What the filter left out; none: the manifest does not name it.
    fn dropped(&self, filter: &str) -> Option<i64> {
        let dropped = &self.trace.manifest.session.dropped;
        dropped.iter().find(|dropped| dropped.filter == filter).map(|dropped| dropped.calls)
    }

    /// Every process with the id of one that made calls has a start and a name, and every call joins one with a parent.
    fn check_context(&self) {
        let processes =
            Cells::read(&self.trace, "processes", &["process_id", "pid", "start_ns", "comm", "parent_process_id"]);
        let rows: BTreeMap<i64, usize> =
            (0..processes.count()).map(|row| (processes.integer("process_id", row), row)).collect();
        let pids: BTreeSet<i64> = (0..self.calls.count()).map(|call| self.calls.integer("pid", call)).collect();
        for row in (0..processes.count()).filter(|row| pids.contains(&processes.integer("pid", *row))) {
            let context = processes.row(&["start_ns", "comm"], row);
            assert!(!context.contains(&Cell::Null), "process {}: {context:?}", processes.integer("pid", row));
        }
        for call in 0..self.calls.count() {
            let row = rows[&self.calls.integer("process_id", call)];
            assert_eq!(processes.get("pid", row), self.calls.get("pid", call), "the process of a call");
            let parent = processes.get("parent_process_id", row);
            assert_ne!(parent, &Cell::Null, "the parent of process {}", processes.integer("pid", row));
        }
    }
}

/// Rows that one has and the other has not, a few of them.
fn difference(have: &BTreeMap<Vec<Cell>, usize>, have_not: &BTreeMap<Vec<Cell>, usize>) -> String {
    let only: Vec<_> = have.iter().filter(|(row, count)| have_not.get(*row) != Some(count)).take(3).collect();
    format!("{only:?}")
}

/// A script whose `$W` is the folder with copies of the workload program by other names.
fn record(options: &[&str], script: &str) -> Kept {
    let recording = Recording::new();
    for name in ["alpha", "beta", "gamma"] {
        std::fs::copy(programs::path("ipc-workload"), recording.path(name)).unwrap();
    }
    let mut command = recording.command(options);
    command.args(["--", "sh", "-ec", script]).env("W", recording.folder());
    let ended = run(command, recording.folder(), "record").with_code(0);
    let kept = Kept::read(recording, &ended.stdout);
    assert_eq!(kept.trace.lost_calls(), 0, "calls were lost");
    kept
}

/// Runs the script unfiltered and filtered; `filter` is the name by which its drops are counted, if they are.
fn compare(options: &[&str], script: &str, filter: Option<&str>, matches: impl Fn(&Cells, usize) -> bool) {
    let whole = record(&["--syscall", FAMILIES], script);
    assert_eq!(whole.calls.count() as u64, whole.performed, "the unfiltered run has every call");
    // Other processes of the machine are left out of both.
    let mut dropped = whole.trace.manifest.session.dropped.iter().filter(|dropped| dropped.filter != "pid");
    assert!(dropped.all(|dropped| dropped.calls == 0), "nothing to drop");
    let is_syscall = options.contains(&"--syscall");
    let filtered = record(&[if is_syscall { &[][..] } else { &["--syscall", FAMILIES] }, options].concat(), script);
    let (expected, rows) = (whole.rows(matches), filtered.rows(|_, _| true));
    let count: usize = expected.values().sum();
    println!(
        "{options:?}: {count} of {} calls kept, dropped {:?}",
        whole.performed, filtered.trace.manifest.session.dropped
    );
    assert!(0 < count && count < whole.calls.count(), "the filter keeps some calls and drops some");
    let [missing, more] = [difference(&expected, &rows), difference(&rows, &expected)];
    assert!(rows == expected, "{options:?}: missing {missing}, too many {more}");
    if let Some(filter) = filter {
        let dropped = filtered.dropped(filter).unwrap_or_else(|| panic!("what --{filter} dropped is counted")) as u64;
        assert_eq!(count as u64 + dropped, filtered.performed, "{options:?}: rows + dropped = performed");
    }
    filtered.check_context();
}

/// Three programs, with children and threads.
const PROGRAMS: &str =
    "$W/alpha ping-pong --count 50; $W/beta threads --threads 3 --count 30; $W/gamma families; $W/alpha failures";

#[test]
fn the_name_of_the_thread() {
    let Some(_live) = Live::ready() else { return };
    compare(&["--comm", "beta"], PROGRAMS, Some("comm"), |calls, row| calls.text("comm", row) == "beta");
    compare(&["--comm", "alpha", "--comm", "gamma"], PROGRAMS, Some("comm"), |calls, row| {
        calls.text("comm", row) != "beta"
    });
    // Names that the threads give themselves just before they call.
    let names = ["serial-7", "serial-8", "serial-120"];
    let options: Vec<&str> = names.iter().flat_map(|name| ["--comm", name]).collect();
    compare(&options, "$W/alpha recurring --count 100", Some("comm"), |calls, row| {
        names.contains(&calls.text("comm", row))
    });
}

#[test]
fn the_system_call() {
    let Some(_live) = Live::ready() else { return };
    compare(&["--syscall", "semctl,%msg"], PROGRAMS, None, |calls, row| {
        let syscall = calls.text("syscall", row);
        syscall == "semctl" || syscall.starts_with("msg")
    });
    compare(&["--syscall", "%sem", "--comm", "alpha"], PROGRAMS, None, |calls, row| {
        calls.text("syscall", row).starts_with("sem") && calls.text("comm", row) == "alpha"
    });
}

/// Two cgroups, one in the other, removed at the end.
struct Cgroups([PathBuf; 2]);

impl Cgroups {
    /// Below the mount point of cgroup v2; `None` where there is none.
    fn new() -> Option<Cgroups> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, place, "cgroup2", ..] => Some(PathBuf::from(place)),
            _ => None,
        })?;
        let outer = mount.join(format!("ipc-tests-{}", std::process::id()));
        let inner = outer.join("inner");
        std::fs::create_dir_all(&inner).ok()?;
        Some(Cgroups([outer, inner]))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // A process of the test may still be ending in it.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
            while std::fs::remove_dir(folder).is_err() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn the_cgroup_and_those_below() {
    let Some(_live) = Live::ready() else { return };
    let Some(cgroups) = Cgroups::new() else {
        return environment::skip("needs cgroup v2 and the right to make cgroups");
    };
    let [outer, inner] = cgroups.0.each_ref().map(|folder| folder.to_str().unwrap());
    let enter = |folder: &str, what: &str| format!("sh -ec 'echo $$ > {folder}/cgroup.procs; exec $W/{what}'; ");
    let script = [
        enter(outer, "alpha ping-pong --count 20"),
        enter(inner, "beta families"),
        "$W/gamma threads --count 10".to_owned(),
    ]
    .concat();
    let id = |folder: &str| Cell::Integer(std::fs::metadata(folder).unwrap().ino() as i64);
    let is_in = |folders: &[&str], calls: &Cells, row| folders.iter().any(|f| *calls.get("cgroup_id", row) == id(f));
    compare(&["--cgroup", outer], &script, Some("cgroup"), |calls, row| is_in(&[outer, inner], calls, row));
    // As /proc/PID/cgroup writes it.
    let below = Path::new(inner).strip_prefix(Path::new(outer).parent().unwrap()).unwrap();
    let below = format!("/{}", below.display());
    compare(&["--cgroup", &below], &script, Some("cgroup"), |calls, row| is_in(&[inner], calls, row));
}

#[test]
fn the_duration() {
    let Some(_live) = Live::ready() else { return };
    let Some(python) = environment::python() else { return };
    let (long, short) = (20, 500);
    let program = format!(
        "import signal\n\
         for _ in range({long}): signal.sigtimedwait([signal.SIGUSR1], 0.02)\n\
         for _ in range({short}): signal.sigpending()\n"
    );
    let recording = Recording::new();
    let mut command = recording.command(&["--syscall", "sigtimedwait,sigpending", "--min-duration", "5ms"]);
    command.arg("--").arg(python.get_program()).args(["-c", &program]);
    run(command, recording.folder(), "record").with_code(0);
    let kept = Kept::read(recording, "");
    let durations: Vec<i64> = (0..kept.calls.count()).map(|row| kept.calls.integer("duration_ns", row)).collect();
    assert!(durations.iter().all(|duration| *duration >= 5_000_000), "a shorter call was kept: {durations:?}");
    let is_long = |row: &usize| kept.calls.text("syscall", *row) == "sigtimedwait";
    assert_eq!((0..durations.len()).filter(is_long).count(), long, "every long call is kept");
    let dropped = kept.dropped("min_duration").expect("what --min-duration dropped is counted");
    println!("{} calls kept, {dropped} dropped", durations.len());
    assert_eq!(durations.len() + dropped as usize, long + short, "rows + dropped = performed");
    assert_eq!(kept.trace.lost_calls(), 0, "calls were lost");
    assert_eq!(kept.trace.manifest.session.filters.min_duration_ns, Some(5_000_000), "the filter is kept in the trace");
}

/// Records a workload that was there before, and a neighbour beside it.
fn record_running(options: &[&str], own: impl Fn(i32) -> Vec<String>) -> (Kept, Vec<i32>) {
    let recording = Recording::new();
    let gate = recording.text("");
    let workload = programs::workload(&["ping-pong", "--count", "100", "--gate", &gate]);
    let workload = Running::start(workload, recording.folder(), "workload");
    wait_until("the workload waits at its gate", || recording.path("start.waiting").exists());
    let more = own(workload.pid());
    let options: Vec<&str> = options.iter().copied().chain(more.iter().map(String::as_str)).collect();
    let recorder = recording.start_alone(&options);
    let neighbour = run(programs::workload(&["families"]), recording.folder(), "neighbour").with_code(0);
    std::fs::write(recording.path("start.go"), "").unwrap();
    let stdout = workload.wait(LONG).with_code(0).stdout;
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    (Kept::read(recording, &(neighbour.stdout + &stdout)), Performed::read(&stdout).pids())
}

#[test]
fn the_process_and_its_descendants() {
    let Some(_live) = Live::ready() else { return };
    let options = ["--syscall", FAMILIES];
    let (whole, pids) = record_running(&options, |_| Vec::new());
    for follow in [false, true] {
        let pids = if follow { &pids[..] } else { &pids[..1] };
        let is_own = |calls: &Cells, row| pids.iter().any(|pid| calls.integer("pid", row) == i64::from(*pid));
        let expected = whole.rows(is_own);
        let own = |pid: i32| {
            let more = follow.then(|| "--follow".to_owned());
            ["--pid".to_owned(), pid.to_string()].into_iter().chain(more).collect()
        };
        let (filtered, _) = record_running(&options, own);
        let rows = filtered.rows(|_, _| true);
        let [missing, more] = [difference(&expected, &rows), difference(&rows, &expected)];
        assert!(rows == expected, "--follow: {follow}: missing {missing}, too many {more}");
        let count: usize = rows.values().sum();
        let dropped = filtered.dropped("pid").expect("what --pid dropped is counted");
        println!("--follow: {follow}: {count} calls kept, {dropped} dropped");
        // The neighbour's at least, and whatever else the machine did.
        let left_out = filtered.performed - count as u64;
        assert!(dropped as u64 >= left_out, "--follow: {follow}: {dropped} dropped, at least {left_out} were made");
    }
}
