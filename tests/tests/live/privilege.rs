//! What the recorder's processes may do once they record, and what the command that is recorded may.

use ipc_schema::manifest::Missing;
use ipc_tests::cells::Cells;
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{Ended, LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A user that has nothing on this machine.
const USER: u32 = 54_321;

// include/uapi/linux/capability.h
const DAC_OVERRIDE: u32 = 1;
const IPC_OWNER: u32 = 15;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// `/proc/PID/status` of a process or thread: name → value.
fn status(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path.join("status")).unwrap();
    let line = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(line).collect()
}

fn bits(status: &BTreeMap<String, String>, name: &str) -> u64 {
    u64::from_str_radix(&status[name], 16).unwrap()
}

/// The folders of a process's threads.
fn threads(pid: i32) -> Vec<PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The processes that a process started.
fn children(pid: i32) -> Vec<i32> {
    let of_thread = |thread: PathBuf| std::fs::read_to_string(thread.join("children")).unwrap();
    threads(pid).into_iter().map(of_thread).flat_map(|text| pids(&text)).collect()
}

fn pids(text: &str) -> Vec<i32> {
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Nothing that leads to a network is open.
fn check_no_network(pid: i32) {
    let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "netlink"];
    let read = |table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let open: String = tables.map(read).concat();
    let inodes: BTreeSet<&str> = open.split_whitespace().collect();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let Ok(link) = std::fs::read_link(entry.unwrap().path()) else { continue };
        let link = link.to_string_lossy().into_owned();
        let socket = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        assert!(socket.is_none_or(|inode| !inodes.contains(inode)), "{pid} has {link} open");
    }
}

/// Who records has nothing, and its helper what it needs.
fn check_processes(recorder: i32) {
    let of_recorder = threads(recorder);
    assert!(of_recorder.len() > 4, "it records: {of_recorder:?}");
    for thread in of_recorder {
        let status = status(&thread);
        for set in CAPABILITIES {
            assert_eq!(bits(&status, set), 0, "{set} of thread {}", status["Name"]);
        }
        assert_eq!(status["NoNewPrivs"], "1", "thread {}", status["Name"]);
    }
    check_no_network(recorder);
    let is_filtered = |pid: &i32| status(Path::new(&format!("/proc/{pid}")))["Seccomp"] == "2";
    let helpers: Vec<i32> = children(recorder).into_iter().filter(is_filtered).collect();
    assert_eq!(helpers.len(), 1, "one child is the helper");
    let of_helper = threads(helpers[0]);
    assert_eq!(of_helper.len(), 2, "who takes snapshots and who looks processes up");
    let own = bits(&status(Path::new("/proc/self")), "CapEff");
    let needed = [DAC_OVERRIDE, IPC_OWNER, SYS_PTRACE, SYS_ADMIN].map(|bit| 1 << bit).iter().sum::<u64>() & own;
    for thread in of_helper {
        let status = status(&thread);
        let sets = CAPABILITIES.map(|set| bits(&status, set));
        assert_eq!(sets, [0, needed, needed, needed, 0], "{CAPABILITIES:?} of thread {}", status["Name"]);
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{}", status["Name"]);
    }
    check_no_network(helpers[0]);
}

/// That what was given up is not missed: the last snapshot, and a process that came while it recorded.
fn check_is_complete(trace: &Trace) {
    assert!(trace.manifest.complete);
    let limits = Cells::read(trace, "limits", &["phase"]);
    let has = |phase| (0..limits.count()).any(|row| limits.text("phase", row) == phase);
    assert!(has("start") && has("end"), "snapshots at both ends");
    let processes = trace.table("processes", &["comm", "exe"]);
    let mut named = processes.texts("comm").into_iter().zip(processes.texts("exe"));
    let workload = named.find(|(comm, exe)| comm.as_deref() == Some("ipc-workload") && exe.is_some());
    let exe = workload.and_then(|(_, exe)| exe).unwrap_or_default();
    assert_eq!(Path::new(&exe), std::fs::canonicalize(programs::path("ipc-workload")).unwrap());
}

#[test]
fn nothing_is_left_once_it_records() {
    let Some(_live) = Live::as_root("only root has something to give up") else { return };
    let recording = Recording::new();
    let recorder = recording.start_alone(&["--syscall", "%sem"]);
    wait_until("both processes are as they stay", || {
        children(recorder.pid()).iter().all(|pid| status(Path::new(&format!("/proc/{pid}")))["Seccomp"] == "2")
    });
    check_processes(recorder.pid());
    run(programs::workload(&["handoffs", "--count", "50"]), recording.folder(), "workload").with_code(0);
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    check_is_complete(&recording.trace());
}

/// Prints what a process inherits: rights, signals, priority, descriptors.
const INHERITED: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigBlk|SigIgn|SigCgt|Cpus_allowed:)' \
                         /proc/self/status; cut -d ' ' -f 18,19 /proc/self/stat; ls /proc/self/fd; ulimit -a";

/// What was printed, and of it the signals that are ignored, but for the two that the C library keeps for its threads.
fn without_ignored(text: &str) -> (String, u64) {
    const OF_LIBRARY: u64 = 0b11 << 31;
    let (lines, ignored): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| !line.starts_with("SigIgn:"));
    let signals = u64::from_str_radix(ignored[0].trim_start_matches("SigIgn:").trim(), 16).unwrap();
    (lines.join("\n"), signals & !OF_LIBRARY)
}

#[test]
fn the_command_is_as_without_the_recorder() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    // Not what is usual: another priority, a signal ignored.
    let set_up = "trap '' HUP; exec nice -n 3 \"$@\"";
    let shell = || {
        let mut command = Command::new("sh");
        command.args(["-c", set_up, "sh"]);
        command
    };
    let mut alone = shell();
    alone.args(["sh", "-c", INHERITED]);
    let alone = run(alone, recording.folder(), "alone").with_code(0).stdout;
    let mut recorded = shell();
    recorded.arg(programs::path("ipc-recorder")).arg("record").arg("-o").arg(recording.trace_path());
    recorded.args(["--", "sh", "-c", INHERITED]);
    let recorded = run(recorded, recording.folder(), "record").with_code(0).stdout;
    println!("{alone}");
    let ((alone, ignored), (recorded, recorded_ignored)) = (without_ignored(&alone), without_ignored(&recorded));
    assert!(ignored & 1 == 1 && alone.contains("Seccomp:\t0"), "it was set up");
    assert_eq!((recorded, recorded_ignored), (alone, ignored));
}

/// The programs and a folder where another user reaches them.
struct Reachable {
    recording: Recording,
}

impl Reachable {
    fn new() -> Reachable {
        let recording = Recording::new();
        for program in ["ipc-recorder", "ipc-workload"] {
            std::fs::copy(programs::path(program), recording.path(program)).unwrap();
        }
        std::fs::set_permissions(recording.folder(), PermissionsExt::from_mode(0o1777)).unwrap();
        Reachable { recording }
    }

    /// Runs the recorder as another user, with the capabilities that setpriv(1) is told.
    fn run(&self, capabilities: &str, arguments: &[&str]) -> Ended {
        let (user, sets) = (format!("--reuid={USER}"), format!("=-all{capabilities}"));
        let mut command = Command::new("setpriv");
        command.args([&user, &format!("--regid={USER}"), "--clear-groups"]);
        command.args(["--inh-caps", "--ambient-caps", "--bounding-set"].map(|set| format!("{set}{sets}")));
        command.arg(self.recording.path("ipc-recorder")).args(arguments);
        run(command, self.recording.folder(), "record")
    }
}

fn features(missing: &[Missing]) -> BTreeSet<&str> {
    missing.iter().map(|m| m.feature.as_str()).collect()
}

#[test]
fn two_capabilities_are_enough_for_every_call() {
    let Some(_live) = Live::as_root("only root can give a part of its privilege away") else { return };
    let place = Reachable::new();
    let (trace, workload) = (place.recording.text("trace"), place.recording.text("ipc-workload"));
    let command = ["record", "-o", &trace, "--", &workload, "handoffs", "--count", "200"];
    let ended = place.run(",+bpf,+perfmon", &command).with_code(0);
    let performed = Performed::read(&ended.stdout);
    let trace = place.recording.trace();
    let mut rows = trace.calls_by_operation();
    rows.retain(|operation, _| performed.calls.contains_key(operation));
    assert_eq!((rows, trace.lost_calls()), (performed.calls.clone(), 0));
    let calls = trace.table("calls", &["sem_op", "wait_ns", "waker_process_id"]);
    let sops = calls.integers("sem_op").into_iter().flatten().count() as u64;
    assert_eq!(sops, performed.calls["semtimedop"], "the operation of each");
    let waits = calls.integers("wait_ns").into_iter().zip(calls.integers("waker_process_id"));
    let (slept, told) = waits
        .filter(|(wait, _)| wait.is_some_and(|w| w > 0))
        .fold((0, 0), |(slept, told), (_, waker)| (slept + 1, told + u64::from(waker.is_some())));
    println!("{slept} calls slept, of {told} the waker is known");
    assert!(slept > 0 && told == slept, "{slept} calls slept, of {told} the waker is known");
    let missing = &trace.manifest.session.missing;
    println!("{missing:#?}");
    let mut found = features(missing);
    // Only while others have such objects.
    for feature in ["semaphore values in snapshots", "queued messages in snapshots"] {
        found.remove(feature);
    }
    let rest = ["POSIX queues in snapshots", "priority", "processes of others", "snapshots of other IPC namespaces"];
    assert_eq!(found, BTreeSet::from(rest), "exactly the rest");
    assert!(missing.iter().all(|m| !m.reason.is_empty() && !m.remedy.is_empty()), "why, and what helps");
}

#[test]
fn without_capabilities_they_are_named() {
    let Some(_live) = Live::as_root("only root can give its privilege up") else { return };
    let place = Reachable::new();
    let trace = place.recording.text("trace");
    for capabilities in ["", ",+bpf", ",+perfmon"] {
        let ended = place.run(capabilities, &["record", "-o", &trace, "--", "echo", "it began"]).with_code(4);
        let said = ended.stderr.trim_end();
        assert_eq!((said.lines().count(), ended.stdout.as_str()), (1, ""), "one line and no command: {said}");
        assert!(said.contains("CAP_BPF") && said.contains("CAP_PERFMON"), "{said}");
        assert!(!place.recording.trace_path().exists(), "no directory is left");
    }
}

/// Every file and folder below, with itself.
fn everything_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.flat_map(|entry| everything_below(&entry)));
    }
    found
}

fn check_belongs_to_user(trace: &Path) {
    for path in everything_below(trace) {
        let found = std::fs::symlink_metadata(&path).unwrap();
        let mode = if found.is_dir() { 0o700 } else { 0o600 };
        let (owner, mode_found) = ((found.uid(), found.gid()), found.mode() & 0o7777);
        assert_eq!((owner, mode_found), ((USER, USER), mode), "{}", path.display());
    }
}

#[test]
fn under_sudo_the_trace_belongs_to_the_caller() {
    let Some(_live) = Live::as_root("only root is what sudo makes of a user") else { return };
    let recording = Recording::new();
    // A folder that the user cannot even enter, and a command that is root: neither may need what was given up.
    std::fs::set_permissions(recording.folder(), PermissionsExt::from_mode(0o700)).unwrap();
    let script = "trap 'id -u; exit 7' TERM; echo; while :; do sleep 0.01; done";
    let mut command = recording.command(&[]);
    command.args(["--", "sh", "-c", script]).env("SUDO_UID", USER.to_string()).env("SUDO_GID", USER.to_string());
    let recorder = Running::start(command, recording.folder(), "record");
    let manifest = recording.trace_path().join(ipc_schema::manifest::FILE_NAME);
    wait_until("it records", || manifest.exists() && recorder.stdout().contains('\n'));
    check_belongs_to_user(&recording.trace_path());
    let user = format!("{USER}\t{USER}\t{USER}\t{USER}");
    for thread in threads(recorder.pid()) {
        let status = status(&thread);
        assert_eq!((&status["Uid"], &status["Gid"], status["Groups"].as_str()), (&user, &user, ""));
        assert_eq!(CAPABILITIES.map(|set| bits(&status, set)), [0; 5]);
    }
    recorder.signal(Signal::TERM);
    let ended = recorder.wait(LONG).with_code(7);
    assert_eq!(ended.stdout, "\n0\n", "the command was root, and was told the signal");
    check_belongs_to_user(&recording.trace_path());
    let trace = recording.trace();
    assert!(trace.manifest.complete && !everything_below(&trace_folder(&recording, "limits")).is_empty());
    assert!(!features(&trace.manifest.session.missing).contains("priority"), "it was raised before");
}

fn trace_folder(recording: &Recording, table: &str) -> PathBuf {
    recording.trace_path().join(table)
}

#[test]
fn another_pid_namespace_is_told() {
    let Some(_live) = Live::ready() else { return };
    if !environment::is_root() || Command::new("unshare").arg("--version").output().is_err() {
        return environment::skip("needs root, and unshare: apt-get install util-linux");
    }
    const FEATURE: &str = "the host's pid namespace";
    let recording = Recording::new();
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--ipc"]).arg(programs::path("ipc-recorder")).args(arguments);
        run(command, recording.folder(), "inside")
    };
    let (output, workload) = (recording.text("trace"), programs::path("ipc-workload"));
    let workload = workload.to_str().unwrap();
    let command = ["--", workload, "handoffs", "--count", "50"];
    let refused = inside(&[&["record", "-o", &output][..], &command].concat()).with_code(4);
    assert!(refused.stderr.contains(FEATURE) && refused.stdout.is_empty(), "{}", refused.stderr);
    assert!(!recording.trace_path().exists(), "no directory is left");
    let ended = inside(&[&["record", "-a", "-o", &output][..], &command].concat()).with_code(0);
    let performed = Performed::read(&ended.stdout);
    let trace = recording.trace();
    let rows = trace.calls_by_operation()["semtimedop"];
    assert!(rows >= performed.calls["semtimedop"], "{rows} calls");
    assert!(features(&trace.manifest.session.missing).contains(FEATURE), "{}", ended.stderr);
    // The ids are the host's: what `/proc` says of them here is of others.
    let exes = trace.table("processes", &["pid", "comm", "ns_pid"]);
    assert!(exes.integers("ns_pid").into_iter().all(|pid| pid.is_none()), "of no process an id inside is known");
    let told = inside(&["doctor"]).with_code(0).stdout;
    let line = told.lines().find(|line| line.starts_with(FEATURE)).unwrap();
    assert!(line.contains("missing: this one is pid:["), "{line}");
}
