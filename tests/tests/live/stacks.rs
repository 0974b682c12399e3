//! User stacks: those of programs whose functions and frames are known.

use ipc_tests::environment::Live;
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use ipc_tests::trace::Trace;
use std::collections::BTreeMap;
use std::path::Path;

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
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
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
