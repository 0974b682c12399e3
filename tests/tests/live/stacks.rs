//! User stacks: those of programs whose functions and frames are known.

use ipc_tests::environment::Live;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A row of `stacks`.
#[derive(Debug)]
struct Frame {
    build_id: Option<String>,
    module: Option<String>,
    /// Without the offset.
    function: Option<String>,
}

/// The build id that the linker gives to the programs.
const BUILD_ID: &str = "00112233445566778899aabbccddeeff00112233";

/// The stacks by id, innermost frame first.
fn stacks(trace: &Trace) -> BTreeMap<i64, Vec<Frame>> {
    let rows = trace.table("stacks", &["stack_id", "frame", "build_id", "module", "symbol"]);
    let (ids, frames) = (rows.integers("stack_id"), rows.integers("frame"));
    let (build_ids, modules, symbols) = (rows.texts("build_id"), rows.texts("module"), rows.texts("symbol"));
    let mut stacks: BTreeMap<i64, Vec<Frame>> = BTreeMap::new();
    for row in 0..rows.count() {
        let stack = stacks.entry(ids[row].unwrap()).or_default();
        assert_eq!(frames[row], Some(stack.len() as i64), "the frames of a stack rise by one from 0");
        let function = symbols[row].as_deref().map(|s| s.split_once("+0x").unwrap().0.to_owned());
        stack.push(Frame { build_id: build_ids[row].clone(), module: modules[row].clone(), function });
    }
    stacks
}

/// The `stack_id` of each call of one entry point.
fn stack_ids(trace: &Trace, entry_point: &str) -> Vec<Option<i64>> {
    let rows = trace.table("calls", &["entry_point", "stack_id"]);
    let names = rows.texts("entry_point");
    let ids = rows.integers("stack_id").into_iter().zip(names);
    ids.filter(|(_, name)| name.as_deref() == Some(entry_point)).map(|(id, _)| id).collect()
}

fn record(recording: &Recording, options: &[&str], program: &Path, arguments: &[&str]) -> Trace {
    let mut command = recording.command(options);
    command.arg("--").arg(program).args(arguments);
    run(command, recording.folder(), "record").with_code(0);
    let trace = recording.trace();
    assert_eq!((trace.lost_calls(), trace.losses().len()), (0, 0), "nothing is lost");
    trace
}

#[test]
fn the_stacks_of_a_known_program_are_its_functions() {
    let Some(_live) = Live::ready() else { return };
    let build_id = format!("-Wl,--build-id=0x{BUILD_ID}");
    for (linking, way) in [("-no-pie", "btf-tracepoint"), ("-pie", "raw-tracepoint"), ("-static", "auto")] {
        let recording = Recording::new();
        let options = ["-O0", "-fno-omit-frame-pointer", linking, build_id.as_str()];
        let Some(program) = programs::compile("nested", &options, recording.folder()) else { return };
        let options = ["--stacks", "--attach", way, "--syscall", "%sem"];
        let trace = record(&recording, &options, &program, &["500"]);
        let (ids, stacks) = (stack_ids(&trace, "semop"), stacks(&trace));
        assert_eq!(ids.len(), 1000, "{linking}: semop");
        let module = program.canonicalize().unwrap();
        for id in ids.iter().map(|id| id.unwrap_or_else(|| panic!("{linking}: a call without a stack"))) {
            let stack = &stacks[&id];
            let functions: Vec<_> = stack.iter().take(4).map(|f| f.function.as_deref().unwrap_or("?")).collect();
            assert_eq!(functions, ["inner", "middle", "outer", "main"], "{linking}: {stack:?}");
            for frame in &stack[..4] {
                assert_eq!(frame.build_id.as_deref(), Some(BUILD_ID), "{linking}: {frame:?}");
                assert_eq!(frame.module.as_deref(), module.to_str(), "{linking}: {frame:?}");
            }
        }
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 2, "{linking}: outer calls middle at two places, and each stack is kept once");
    }
}

#[test]
fn a_stack_ends_where_junk_begins() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let options = ["-O0", "-fno-omit-frame-pointer", "-mno-red-zone"];
    let Some(program) = programs::compile("junk", &options, recording.folder()) else { return };
    let trace = record(&recording, &["--stacks", "--syscall", "%sem"], &program, &[]);
    let stacks = stacks(&trace);
    let functions = |id: &Option<i64>| -> Vec<String> {
        stacks[&id.unwrap()].iter().map(|f| f.function.clone().unwrap_or_default()).collect()
    };
    let told: Vec<_> = stack_ids(&trace, "semop").iter().map(functions).collect();
    // An address that nothing lies at, one in data, one in code that no call returns to; at last a real one before it.
    assert_eq!(told, [vec!["call"], vec!["call"], vec!["call"], vec!["call", "main"]]);
}

/// Where the calls of semop came from: build ids and offsets.
fn places(trace: &Trace) -> BTreeSet<Vec<(Option<String>, Option<i64>)>> {
    let rows = trace.table("stacks", &["stack_id", "build_id", "offset"]);
    let places = rows.texts("build_id").into_iter().zip(rows.integers("offset"));
    let mut stacks: BTreeMap<Option<i64>, Vec<_>> = BTreeMap::new();
    for (id, place) in rows.integers("stack_id").into_iter().zip(places) {
        stacks.entry(id).or_default().push(place);
    }
    let ids = stack_ids(trace, "semop");
    assert!(ids.len() >= 1000, "{} calls", ids.len());
    ids.iter().map(|id| stacks.get(id).unwrap_or_else(|| panic!("{id:?} has no frames")).clone()).collect()
}

/// What a recorder leaves that was told to end this way while it recorded the program.
fn ended_by(mut recorder: Command, signal: Signal, program: &Path, recording: &Recording) {
    recorder.args(["--comm", "nested", "--stacks", "--syscall", "%sem"]);
    let recorder = Running::start(recorder, recording.folder(), "recorder");
    wait_until("it records", || recorder.has_thread("capture"));
    let mut command = Command::new(program);
    command.arg("500");
    run(command, recording.folder(), "nested").with_code(0);
    std::thread::sleep(Duration::from_millis(1_500)); // a crash takes a second
    recorder.signal(signal);
    recorder.wait(LONG);
}

#[test]
fn the_stacks_of_a_killed_recorder_and_of_a_flight_are_the_same() {
    let Some(_live) = Live::ready() else { return };
    let whole = Recording::new();
    let options = ["-O0", "-fno-omit-frame-pointer", "-pie", "-Wl,--build-id"];
    let Some(program) = programs::compile("nested", &options, whole.folder()) else { return };
    let expected = places(&record(&whole, &["--stacks", "--syscall", "%sem"], &program, &["500"]));
    assert!(expected.len() == 2 && expected.iter().all(|stack| stack.len() >= 4), "{expected:?}");

    let killed = Recording::new();
    ended_by(killed.command(&["-a"]), Signal::KILL, &program, &killed);
    run(programs::analyzer(&["repair"], &killed.trace_path()), killed.folder(), "repair").with_code(0);
    assert_eq!(places(&killed.trace()), expected, "after a kill");

    let flight = Recording::new();
    let mut command = Command::new(programs::path("ipc-recorder"));
    command.args(["flight", "-a", "-o"]).arg(flight.path("traces"));
    ended_by(command, Signal::INT, &program, &flight);
    let traces: Vec<_> = std::fs::read_dir(flight.path("traces")).unwrap().flatten().collect();
    assert_eq!(traces.len(), 1);
    assert_eq!(places(&Trace::open(&traces[0].path())), expected, "in a flight recorder's trace");
}

#[test]
fn no_stacks_unless_asked_for() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    recording.record(&["--syscall", "%sem"], &["ping-pong", "--count", "10"]);
    let trace = recording.trace();
    let ids = trace.table("calls", &["stack_id"]).integers("stack_id");
    assert!(ids.len() >= 40 && ids.iter().all(Option::is_none), "stack_id is NULL");
    assert_eq!(trace.table("stacks", &["stack_id"]).count(), 0);
}
