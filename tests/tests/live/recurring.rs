//! Calls join the right process though process ids recur.

use ipc_tests::cells::Cells;
use ipc_tests::differences::Differences;
use ipc_tests::environment::{self, Live};
use ipc_tests::recorded::Recorded;
use ipc_tests::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};

/// A process of the workload as its calls tell it.
struct Serial {
    process_id: i64,
    thread_id: i64,
    pid: i64,
    start_ns: i64,
    end_ns: i64,
}

/// The processes by their serial number, which both calls of each carry.
fn read_serials(trace: &Trace, keys_from: i64, found: &mut Differences) -> BTreeMap<i64, Serial> {
    let columns =
        ["syscall", "key", "sem_num", "pid", "tid", "process_id", "thread_id", "comm", "start_ns", "end_ns", "error"];
    let calls = Cells::read(trace, "calls", &columns);
    let mut serials: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for row in 0..calls.count() {
        let serial = match calls.text("syscall", row) {
            "semget" => calls.integer("key", row) - keys_from,
            _ => calls.integer("sem_num", row),
        };
        serials.entry(serial).or_default().push(row);
    }
    let mut processes = BTreeMap::new();
    for (serial, rows) in serials {
        let what = format!("serial {serial}");
        let [first, last] = rows[..] else { panic!("{what} has {} calls instead of 2", rows.len()) };
        found.compare(&what, [calls.text("syscall", first), calls.text("syscall", last)], ["semget", "semctl"]);
        found.compare(&what, [calls.text("error", first), calls.text("error", last)], ["ENOENT", "EINVAL"]);
        let same = ["process_id", "thread_id", "pid", "tid", "comm"];
        found.compare(&what, calls.row(&same, last), calls.row(&same, first));
        found.compare(&what, calls.text("comm", first), &format!("serial-{serial}"));
        found.compare(&what, calls.integer("tid", first), calls.integer("pid", first));
        let integer = |column, row| calls.integer(column, row);
        processes.insert(
            serial,
            Serial {
                process_id: integer("process_id", first),
                thread_id: integer("thread_id", first),
                pid: integer("pid", first),
                start_ns: integer("start_ns", first),
                end_ns: integer("end_ns", last),
            },
        );
    }
    processes
}

/// Each process has a row of its own with its times, name, parent and end.
fn check_processes(trace: &Trace, serials: &BTreeMap<i64, Serial>, parent_pid: i64, found: &mut Differences) {
    let columns = ["process_id", "pid", "start_ns", "exit_ns", "exit_code", "comm", "parent_process_id"];
    let processes = Cells::read(trace, "processes", &columns);
    let rows = processes.by_id("process_id");
    let first_parent = (0..processes.count()).find(|row| processes.integer("pid", *row) == parent_pid);
    let first_parent = processes.integer("process_id", first_parent.expect("the first process has a row"));
    let forced: BTreeSet<i64> = serials.values().map(|process| process.pid).collect();
    let told = (0..processes.count()).filter(|row| forced.contains(&processes.integer("pid", *row))).count();
    found.compare("rows of processes with these ids", told, serials.len());
    for (serial, process) in serials {
        let (what, row) = (format!("process of serial {serial}"), rows[&process.process_id]);
        found.compare(&what, processes.integer("pid", row), process.pid);
        found.compare(&what, processes.text("comm", row), &format!("serial-{serial}"));
        found.compare(&what, processes.integer("exit_code", row), (serial % 100) << 8);
        let parent = if serial % 2 == 0 { first_parent } else { serials[&(serial - 1)].process_id };
        found.compare(&what, processes.integer("parent_process_id", row), parent);
        let [start_ns, exit_ns] = ["start_ns", "exit_ns"].map(|column| processes.integer(column, row));
        found.check(start_ns <= process.start_ns && process.end_ns <= exit_ns, || {
            format!("{what}: calls [{}, {}] outside its life [{start_ns}, {exit_ns}]", process.start_ns, process.end_ns)
        });
    }
    let mut lives: BTreeMap<i64, Vec<[i64; 2]>> = BTreeMap::new();
    for process in serials.values() {
        let row = rows[&process.process_id];
        let life = ["start_ns", "exit_ns"].map(|column| processes.integer(column, row));
        lives.entry(process.pid).or_default().push(life);
    }
    for (pid, lives) in lives {
        let overlap = lives.windows(2).find(|lives| lives[0][1] > lives[1][0]);
        found.check(overlap.is_none(), || format!("two processes wear the id {pid} at once: {overlap:?}"));
    }
}

fn check_threads(trace: &Trace, serials: &BTreeMap<i64, Serial>, found: &mut Differences) {
    let threads = Cells::read(trace, "threads", &["thread_id", "process_id", "tid", "comm"]);
    let rows = threads.by_id("thread_id");
    for (serial, process) in serials {
        let (what, row) = (format!("thread of serial {serial}"), rows[&process.thread_id]);
        found.compare(&what, threads.integer("process_id", row), process.process_id);
        found.compare(&what, threads.integer("tid", row), process.pid);
        found.compare(&what, threads.text("comm", row), &format!("serial-{serial}"));
    }
}

#[test]
fn every_call_joins_its_process_though_ids_recur() {
    let Some(_live) = Live::as_root("only root chooses process ids") else { return };
    let pairs = environment::count(1000, 10_000);
    let recorded = Recorded::run(&["--syscall", "%sem"], &["recurring", "--count", &pairs.to_string()]);
    let (trace, json) = (&recorded.trace, &recorded.json);
    let mut found = Differences::default();
    let serials = read_serials(trace, json["keys_from"].as_i64().unwrap(), &mut found);
    let expected: Vec<i64> = (0..2 * pairs as i64).collect();
    assert_eq!(serials.keys().copied().collect::<Vec<_>>(), expected, "every process made its calls");
    let forced = json["forced"].as_array().unwrap();
    for (serial, process) in &serials {
        let pid = forced[*serial as usize % forced.len()].as_i64().unwrap();
        found.compare(&format!("id of serial {serial}"), process.pid, pid);
    }
    let mut ids: Vec<i64> = serials.values().map(|process| process.process_id).collect();
    ids.sort_unstable();
    ids.dedup();
    found.compare("distinct processes", ids.len(), expected.len());
    check_processes(trace, &serials, json["pids"][0].as_i64().unwrap(), &mut found);
    check_threads(trace, &serials, &mut found);
    println!("{} processes with {} ids, {} values compared", serials.len(), forced.len(), found.compared());
    found.none();
}
