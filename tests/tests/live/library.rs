//! Calls of library functions that make no system call.

use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run};
use ipc_tests::trace::{Rows, Trace};
use std::path::Path;

/// In the order in which the programs call them.
const FUNCTIONS: [&str; 4] = ["sigemptyset", "sigaddset", "sigfillset", "sigdelset"];

/// What the C library fills: every signal but the two that it uses itself, 32 and 33.
const FULL: i64 = !(3 << 31);
const SIGUSR1: i64 = 10;
const SIGUSR2: i64 = 12;

fn library_rows(trace: &Trace) -> (Rows, Vec<usize>) {
    let columns = [
        "syscall",
        "entry_point",
        "abi",
        "outcome",
        "pid",
        "start_ns",
        "end_ns",
        "duration_ns",
        "return_value",
        "object_kind",
        "signal",
        "sig_set",
        "slept",
    ];
    let rows = trace.table("calls", &columns);
    let names = rows.texts("entry_point");
    let places = (0..names.len()).filter(|i| FUNCTIONS.contains(&names[*i].as_deref().unwrap())).collect();
    (rows, places)
}

/// The rows of COUNT rounds in one thread: each function in its order, with its signal and the set before.
fn check(trace: &Trace, count: usize) {
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let (rows, places) = library_rows(trace);
    let expected = [(None, None), (Some(SIGUSR1), Some(0)), (None, None), (Some(SIGUSR2), Some(FULL))];
    let (names, operations) = (rows.texts("entry_point"), rows.texts("syscall"));
    let (signals, sets) = (rows.integers("signal"), rows.integers("sig_set"));
    assert_eq!(places.len(), 4 * count, "calls of the four functions");
    for (i, place) in places.iter().enumerate() {
        let told = (names[*place].as_deref(), signals[*place], sets[*place]);
        let (signal, set) = expected[i % 4];
        assert_eq!(told, (Some(FUNCTIONS[i % 4]), signal, set), "call {i}");
        assert_eq!(operations[*place], names[*place], "call {i}: syscall names the function, too");
    }
    let pids = rows.integers("pid");
    assert!(places.iter().all(|i| pids[*i] == pids[places[0]]), "no other process");
    for i in [places[0], places[4 * count - 1]] {
        let text = |column: &str| rows.texts(column)[i].clone();
        let number = |column: &str| rows.integers(column)[i];
        assert_eq!((text("abi").as_deref(), text("outcome").as_deref()), (Some("x86_64"), Some("ok")));
        assert_eq!((number("duration_ns"), number("start_ns")), (Some(0), number("end_ns")));
        assert_eq!((number("return_value"), number("slept"), text("object_kind")), (None, None, None));
    }
}

fn record(recording: &Recording, options: &[&str], program: &Path, arguments: &[&str]) -> Trace {
    let mut command = recording.command(options);
    command.arg("--").arg(program).args(arguments);
    run(command, recording.folder(), "record").with_code(0);
    recording.trace()
}

#[test]
fn calls_into_the_c_library_are_counted_exactly() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let Some(program) = programs::compile("sigsets", &["-O1"], recording.folder()) else { return };
    let count = environment::count(20_000, 100_000);
    // Another process, which calls the same functions all the time.
    let mut other = std::process::Command::new(&program);
    other.arg("1000000000");
    let mut other = Running::start(other, recording.folder(), "other");
    let trace = record(&recording, &["--libc", "sigset"], &program, &[&count.to_string()]);
    assert!(!other.has_ended(), "the other process was there all the time");
    check(&trace, count as usize);
    let attached: Vec<_> = trace.manifest.session.attach.iter().filter(|a| a.way == "uprobe").collect();
    assert!(attached.iter().any(|a| a.hook.contains("libc.so.6")), "{attached:?}");
}

#[test]
fn the_functions_of_a_static_program_are_counted() {
    let Some(_live) = Live::ready() else { return };
    let workload = programs::path("ipc-workload");
    let count = environment::count(5_000, 100_000);
    // `cargo xtask test` builds it static.
    let library = if is_dynamic(&workload) { "sigset".to_owned() } else { format!("sigset={}", workload.display()) };
    let arguments = ["sigsets", "--count", &count.to_string()];
    check(&record(&Recording::new(), &["--libc", &library], &workload, &arguments), count as usize);
}

#[test]
fn a_file_without_the_functions_is_missing_or_refused() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let Some(program) = programs::compile("nested", &[], recording.folder()) else { return };
    let library = format!("sigset={}", program.display());
    let trace = record(&recording, &["--libc", &library], &program, &["1"]);
    let missing = &trace.manifest.session.missing;
    let told = missing.iter().find(|m| m.feature == "library calls").expect("it is missing");
    assert!(FUNCTIONS.iter().all(|name| told.reason.contains(name)), "{told:?}");
    for file in ["/nowhere", "/proc/self/status"] {
        let refused =
            Running::start(recording.command(&["--libc", &format!("sigset={file}")]), recording.folder(), "refused");
        assert!(refused.wait(LONG).with_code(2).stderr.contains(file), "the message names {file}");
    }
}

/// Whether a program names a loader.
fn is_dynamic(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap();
    bytes[..4096.min(bytes.len())].windows(11).any(|w| w == b"/ld-linux-x" || w == b"/ld-musl-x8")
}
