//! Every system call, every limit: each row of a trace equals what the case of the battery says, column by column.

use ipc_schema::catalogue::{Abi, CATALOGUE, IPC_OPERATIONS};
use ipc_schema::flags;
use ipc_tests::environment::{self, Live};
use ipc_tests::expected::{self, Expected};
use ipc_tests::logs::Performed;
use ipc_tests::running::{LONG, Recording};
use std::collections::BTreeSet;

/// At least so many calls: fewer mean that the table of cases was cut.
const FLOOR_NATIVE: usize = 285;
/// i386 makes each case twice: as old programs do, and by the calls added since.
const FLOOR_I386: usize = 570;

/// Runs the battery under the recorder; `None` where the kernel lacks the way, or i386.
fn record(recording: &Recording, way: &str, abi: &str) -> Option<Vec<Expected>> {
    let log = recording.text("log");
    let arguments = ["battery", "--abi", abi, "--log", &log];
    let ended = recording.start(&["--attach", way], &arguments).wait(LONG);
    // A way that the plan has and the kernel lacks is exit 4. The emulated machine lacks none of the three.
    let may_lack = std::env::var_os("IPC_VM").is_none() && way != "auto";
    if ended.code() == 4 && may_lack {
        println!("--attach {way}: not here: {}", ended.stderr.trim_end());
        return None;
    }
    let result = Performed::read(&ended.with_code(0).stdout).json;
    if result["i386"] == false {
        environment::skip("the kernel takes no i386 calls");
        return None;
    }
    let expected = expected::read(&recording.path("log"));
    println!("--attach {way}, {abi}: {} cases, {} calls", result["cases"], result["calls"]);
    assert_eq!(
        Some(expected.len() as u64),
        result["calls"].as_u64(),
        "the lines and the calls that the program counted"
    );
    Some(expected)
}

fn battery(way: &str, abi: &str, floor: usize) {
    let Some(_live) = Live::as_root("the battery lowers limits, which takes root") else { return };
    let recording = Recording::new();
    let Some(expected) = record(&recording, way, abi) else { return };
    assert!(expected.len() >= floor, "{} calls, fewer than {floor}", expected.len());
    covers_everything(&expected, abi);
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "calls were lost");
    let found = expected::compare(&trace, &expected);
    println!("{} rows, {} values compared", found.rows, found.values);
    let differences = found.differences.join("\n  ");
    assert!(found.differences.is_empty(), "{} differences:\n  {differences}", found.differences.len());
    assert_eq!(found.rows, expected.len(), "every expected call has its row");
}

/// The battery itself: no entry point, no operation of `ipc`, no command is without a case that succeeds.
fn covers_everything(expected: &[Expected], abi: &str) {
    let abi = if abi == "i386" { Abi::I386 } else { Abi::X86_64 };
    let of = |column: &str| -> BTreeSet<(&str, &str)> {
        let done = expected.iter().filter(|call| call.columns["error"].is_null());
        let known = done.filter(|call| call.columns.get(column).is_some_and(|value| value.is_string()));
        known.map(|call| (call.text("syscall"), call.text(column))).collect()
    };
    // The restart after a signal makes sigsuspend an error always.
    let never_succeed = ["rt_sigsuspend", "sigsuspend"];
    let entered: BTreeSet<&str> = expected.iter().map(|call| call.text("entry_point")).collect();
    for entry in CATALOGUE.iter().filter(|entry| entry.number(abi).is_some()) {
        assert!(entered.contains(entry.name), "no case enters by {}", entry.name);
    }
    let entries = of("entry_point");
    for (operation, entry) in CATALOGUE.iter().filter(|e| e.number(abi).is_some()).map(|e| (e.operation, e.name)) {
        let by_ipc = operation.is_empty() || never_succeed.contains(&entry);
        assert!(by_ipc || entries.contains(&(operation, entry)), "no case succeeds by {entry}");
    }
    for operation in IPC_OPERATIONS.iter().filter(|_| abi == Abi::I386) {
        let name = operation.twin().operation;
        assert!(entries.contains(&(name, "ipc")), "no case succeeds by operation {} of ipc", operation.number);
    }
    let commands = of("command");
    for operation in ["semctl", "shmctl", "msgctl"] {
        for (_, command) in flags::commands_of(operation).unwrap() {
            assert!(commands.contains(&(operation, command)), "no case makes {operation} {command}");
        }
    }
}

#[test]
fn battery_by_btf_tracepoint() {
    battery("btf-tracepoint", "x86_64", FLOOR_NATIVE);
}

#[test]
fn battery_by_raw_tracepoint() {
    battery("raw-tracepoint", "x86_64", FLOOR_NATIVE);
}

#[test]
fn battery_by_kprobe() {
    battery("kprobe", "x86_64", FLOOR_NATIVE);
}

#[test]
fn battery_by_what_the_recorder_chooses() {
    battery("auto", "x86_64", FLOOR_NATIVE);
}

#[test]
fn i386_battery_by_btf_tracepoint() {
    battery("btf-tracepoint", "i386", FLOOR_I386);
}

#[test]
fn i386_battery_by_raw_tracepoint() {
    battery("raw-tracepoint", "i386", FLOOR_I386);
}

#[test]
fn i386_battery_by_kprobe() {
    battery("kprobe", "i386", FLOOR_I386);
}

#[test]
fn i386_battery_by_what_the_recorder_chooses() {
    battery("auto", "i386", FLOOR_I386);
}
