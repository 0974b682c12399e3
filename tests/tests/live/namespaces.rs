//! Two IPC namespaces whose objects share keys, names and ids.

use ipc_tests::cells::{Cell, Cells};
use ipc_tests::differences::Differences;
use ipc_tests::environment::{self, Live};
use ipc_tests::logs::{self, Performed};
use ipc_tests::programs;
use ipc_tests::recorded::Recorded;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::fs::MetadataExt;
use std::process::Command;

const KINDS: [&str; 4] = ["sem", "shm", "msg", "mq"];
const NAME: &str = "/ipc-workload-twins";

/// The inode of a process's IPC namespace.
fn namespace_of(pid: i32) -> i64 {
    std::fs::metadata(format!("/proc/{pid}/ns/ipc")).unwrap().st_ino() as i64
}

/// What a twin alone does: twin N works on semaphore N, adds N + 1, and so on.
fn check_call(calls: &Cells, row: usize, twin: i64, found: &mut Differences) {
    let what = |column: &str| format!("{column} of call {} of twin {twin}", calls.integer("call_id", row));
    let mut expect = |column: &str, value: i64| found.compare(&what(column), calls.get(column, row), &value.into());
    match calls.text("syscall", row) {
        "semget" => expect("sem_count", 3 + twin),
        "semtimedop" => expect("sem_num", twin),
        "shmget" => expect("size_bytes", (twin + 1) * 4096),
        "msgsnd" | "msgrcv" => expect("msg_type", twin + 1),
        "mq_timedsend" | "mq_timedreceive" if *calls.get("msg_priority", row) != Cell::Null => {
            expect("msg_priority", twin + 1);
        }
        _ => {}
    }
}

/// The `object_ref` and id of each kind that the rows of a twin name; exactly one each.
fn objects_of(calls: &Cells, rows: &[usize], twin: i64, found: &mut Differences) -> BTreeMap<String, (i64, i64)> {
    let mut objects: BTreeMap<String, BTreeSet<(i64, i64)>> = BTreeMap::new();
    for row in rows {
        let place = ["object_ref", "object_id"].map(|column| calls.get(column, *row).integer());
        let kind = calls.text("object_kind", *row);
        // mq_unlink knows a name alone.
        let is_unlink = calls.text("syscall", *row) == "mq_unlink";
        let [Some(object_ref), Some(id)] = place else {
            found.check(is_unlink, || format!("twin {twin}: {} without an object", calls.text("syscall", *row)));
            continue;
        };
        objects.entry(kind.to_owned()).or_default().insert((object_ref, id));
    }
    found.compare("kinds of objects", objects.len(), KINDS.len());
    let mut first = BTreeMap::new();
    for (kind, seen) in objects {
        found.compare(&format!("twin {twin}: objects of kind {kind}"), seen.len(), 1);
        let (object_ref, id) = seen.into_iter().next().unwrap();
        found.check(kind == "mq" || id == 0, || format!("twin {twin}: {kind} has the id {id}"));
        first.insert(kind, (object_ref, id));
    }
    first
}

/// A twin: its place, who and where it is, and the `object_ref` and id of each kind.
struct Twin {
    number: i64,
    ipc_ns: i64,
    process_id: i64,
    objects: BTreeMap<String, (i64, i64)>,
}

/// One lifetime per object, made and removed by its twin.
fn check_lifetimes(trace: &Trace, twin: &Twin, key: i64, found: &mut Differences) {
    let text = ["object_kind", "how_known", "name"];
    let numbers = ["object_ref", "ipc_ns", "object_id", "key"];
    let ends = ["created_by_process_id", "removed_by_process_id", "created_call_id", "removed_call_id", "removed_ns"];
    let lifetimes = Cells::read(trace, "lifetimes", &[&text[..], &numbers, &ends].concat());
    let is_own = |row: &usize| lifetimes.get("ipc_ns", *row).integer() == Some(twin.ipc_ns);
    let own: Vec<usize> = (0..lifetimes.count()).filter(is_own).collect();
    found.compare(&format!("lifetimes in the namespace of twin {}", twin.number), own.len(), KINDS.len());
    for row in own {
        let kind = lifetimes.text("object_kind", row);
        let (object_ref, id) = twin.objects[kind];
        let what = |column: &str| format!("lifetime of {kind} of twin {}: {column}", twin.number);
        let mut expect = |column: &str, value: Cell| found.compare(&what(column), lifetimes.get(column, row), &value);
        expect("object_ref", object_ref.into());
        expect("object_id", id.into());
        expect("how_known", "seen".into());
        expect("created_by_process_id", twin.process_id.into());
        match kind {
            "mq" => expect("name", NAME.into()),
            _ => {
                expect("key", key.into());
                expect("removed_by_process_id", twin.process_id.into());
            }
        }
        // A queue lives on until its last descriptor is closed.
        let known = if kind == "mq" { &ends[2..3] } else { &ends[2..] };
        for column in known {
            found.check(*lifetimes.get(column, row) != Cell::Null, || format!("{} is NULL", what(column)));
        }
    }
}

#[test]
fn equal_ids_of_two_namespaces_are_never_mixed() {
    let Some(_live) = Live::as_root("only root makes IPC namespaces") else { return };
    let count = environment::count(500, 20_000).to_string();
    let log = tempfile::tempdir().unwrap();
    let folder = log.path().to_str().unwrap();
    let options = ["--syscall", "%sem,%shm,%msg,%mq"];
    let Recorded { trace, json, .. } = &Recorded::run(&options, &["twins", "--count", &count, "--log", folder]);
    let columns = [
        "call_id",
        "syscall",
        "pid",
        "process_id",
        "ipc_ns",
        "object_kind",
        "object_ref",
        "object_id",
        "sem_count",
        "sem_num",
        "size_bytes",
        "msg_type",
        "msg_priority",
    ];
    let calls = Cells::read(trace, "calls", &columns);
    let (mut found, mut namespaces, mut refs) = (Differences::default(), BTreeSet::new(), BTreeSet::new());
    for (twin, pid) in (0..).zip(json["twins"].as_array().unwrap()) {
        let pid = pid.as_i64().unwrap();
        let rows: Vec<usize> = (0..calls.count()).filter(|row| calls.integer("pid", *row) == pid).collect();
        found.compare("calls of a twin", rows.len(), logs::read(log.path())[&(pid as i32)].len());
        let ipc_ns = calls.integer("ipc_ns", rows[0]);
        found.check(namespaces.insert(ipc_ns), || format!("both twins are in the namespace {ipc_ns}"));
        for row in 0..calls.count() {
            // Of this process if and only if in this namespace.
            let is_own = calls.integer("pid", row) == pid;
            found.compare("a row's namespace", calls.get("ipc_ns", row).integer() == Some(ipc_ns), is_own);
        }
        rows.iter().for_each(|row| check_call(&calls, *row, twin, &mut found));
        let objects = objects_of(&calls, &rows, twin, &mut found);
        for (kind, (object_ref, _)) in &objects {
            found.check(refs.insert(*object_ref), || format!("{kind} of twin {twin} shares its object_ref"));
        }
        let twin = Twin { number: twin, ipc_ns, process_id: calls.integer("process_id", rows[0]), objects };
        check_lifetimes(trace, &twin, json["key"].as_i64().unwrap(), &mut found);
    }
    println!("{} calls in 2 namespaces, {} values compared", calls.count(), found.compared());
    found.none();
}

/// The rows of `lsipc -KIND` inside the namespace of a process: column → value.
fn lsipc(recording: &Recording, pid: i32, kind: &str, columns: &str) -> Vec<BTreeMap<String, String>> {
    let mut command = Command::new("nsenter");
    command.args([
        "-t",
        &pid.to_string(),
        "--ipc",
        "lsipc",
        "--raw",
        "--bytes",
        "--numeric-perms",
        kind,
        "-o",
        columns,
    ]);
    let text = run(command, recording.folder(), "lsipc").with_code(0).stdout;
    let names: Vec<&str> = columns.split(',').collect();
    let row =
        |line: &str| names.iter().map(|name| (*name).to_owned()).zip(line.split(' ').map(str::to_owned)).collect();
    text.lines().skip(1).map(row).collect()
}

/// A number as lsipc prints it.
fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(|key| i64::from(key as i32)),
        None => text.parse().ok(),
    }
}

/// A column of lsipc and that of `objects` with the same content.
type Alike = (&'static str, &'static str);

/// The kinds of objects that lsipc lists, with its option for each.
const OBJECTS: [(&str, &str, &[Alike]); 3] = [
    (
        "sem",
        "-s",
        &[("KEY", "key"), ("ID", "object_id"), ("UID", "owner_uid"), ("CUID", "creator_uid"), ("NSEMS", "sem_count")],
    ),
    (
        "shm",
        "-m",
        &[
            ("KEY", "key"),
            ("ID", "object_id"),
            ("UID", "owner_uid"),
            ("CUID", "creator_uid"),
            ("SIZE", "size_bytes"),
            ("NATTCH", "attach_count"),
            ("CPID", "creator_pid"),
        ],
    ),
    (
        "msg",
        "-q",
        &[
            ("KEY", "key"),
            ("ID", "object_id"),
            ("UID", "owner_uid"),
            ("CUID", "creator_uid"),
            ("USEDBYTES", "queued_bytes"),
            ("MSGS", "messages"),
            ("LSPID", "last_send_pid"),
            ("LRPID", "last_receive_pid"),
        ],
    ),
];

/// The objects of a namespace in the snapshots of one phase are those that lsipc lists.
fn compare_objects(recording: &Recording, objects: &Cells, phase: &str, pid: i32, found: &mut Differences) {
    let ipc_ns = namespace_of(pid);
    for (kind, option, columns) in OBJECTS {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let listed = lsipc(recording, pid, option, &names.join(","));
        let mut expected: Vec<Vec<Option<i64>>> =
            listed.iter().map(|row| names.iter().map(|name| number(&row[*name])).collect()).collect();
        let is_listed = |row: &usize| {
            objects.text("phase", *row) == phase
                && objects.integer("ipc_ns", *row) == ipc_ns
                && objects.text("object_kind", *row) == kind
        };
        let cells = |row| columns.iter().map(|(_, column)| objects.get(column, row).integer()).collect();
        let mut told: Vec<Vec<Option<i64>>> = (0..objects.count()).filter(is_listed).map(cells).collect();
        told.sort();
        expected.sort();
        found.check(!expected.is_empty(), || format!("{phase}: lsipc lists no {kind} of the namespace {ipc_ns}"));
        found.compare(&format!("{phase}: {kind} of the namespace {ipc_ns}"), told, expected);
    }
}

/// The queue of a twin, which lsipc does not list.
fn check_queue(objects: &Cells, phase: &str, pid: i32, found: &mut Differences) {
    let ipc_ns = namespace_of(pid);
    let is_queue = |row: &usize| {
        objects.text("phase", *row) == phase
            && objects.integer("ipc_ns", *row) == ipc_ns
            && objects.text("object_kind", *row) == "mq"
    };
    let rows: Vec<usize> = (0..objects.count()).filter(is_queue).collect();
    let columns = ["name", "messages", "queued_bytes", "max_messages", "max_message_bytes", "mode", "owner_uid"];
    let told: Vec<Vec<Cell>> = rows.into_iter().map(|row| objects.row(&columns, row)).collect();
    let numbers = [1, 4, 4, 64, 0o600, 0].map(Cell::Integer);
    let expected: Vec<Cell> = [Cell::from(NAME)].into_iter().chain(numbers).collect();
    found.compare(&format!("{phase}: queues of the namespace {ipc_ns}"), told, vec![expected]);
}

/// The limits of a namespace and their usage are those of `lsipc -g`.
fn compare_limits(recording: &Recording, limits: &Cells, phase: &str, pid: i32, found: &mut Differences) {
    let ipc_ns = namespace_of(pid);
    let listed = lsipc(recording, pid, "-g", "RESOURCE,LIMIT,USED");
    let mut compared = 0;
    for row in 0..limits.count() {
        if limits.text("phase", row) != phase || limits.get("ipc_ns", row).integer() != Some(ipc_ns) {
            continue;
        }
        let Some(line) = listed.iter().find(|line| line["RESOURCE"] == limits.text("name", row)) else { continue };
        let what = format!("{phase}: {} of the namespace {ipc_ns}", line["RESOURCE"]);
        // Beyond what a signed number holds the limit is no limit.
        if let Some(limit) = number(&line["LIMIT"]) {
            found.compare(&what, limits.integer("value", row), limit);
        }
        found.compare(&what, limits.get("in_use", row).integer(), number(&line["USED"]));
        compared += 1;
    }
    found.check(compared >= 10, || format!("{phase}: only {compared} limits of the namespace {ipc_ns} were compared"));
}

/// Twins that hold their objects, recorded from outside.
#[test]
fn snapshots_are_what_lsipc_lists_inside() {
    let Some(_live) = Live::ready() else { return };
    if !environment::is_root() || Command::new("lsipc").arg("-V").output().is_err() {
        return environment::skip("needs root, and lsipc: apt-get install util-linux");
    }
    let recording = Recording::new();
    let gate = recording.text("");
    let workload = Running::start(programs::workload(&["twins", "--gate", &gate]), recording.folder(), "workload");
    let release = |name: &str| std::fs::write(recording.path(&format!("{name}.go")), "").unwrap();
    release("start");
    let waiting = [0, 1].map(|twin| recording.path(&format!("twin-{twin}.waiting")));
    let pid = |file| std::fs::read_to_string(file).ok().and_then(|text| text.parse::<i32>().ok());
    wait_until("the twins hold their objects", || waiting.iter().all(|file| pid(file).is_some()));
    let twins = waiting.each_ref().map(|file| pid(file).unwrap());
    let recorder = recording.start_alone(&[]);
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    let mut found = Differences::default();
    let trace = recording.trace();
    let columns = OBJECTS.iter().flat_map(|(_, _, columns)| columns.iter().map(|(_, column)| *column));
    let more = ["phase", "ipc_ns", "object_kind", "name", "max_messages", "max_message_bytes", "mode"];
    let columns: BTreeSet<&str> = columns.chain(more).collect();
    let objects = Cells::read(&trace, "objects", &columns.into_iter().collect::<Vec<_>>());
    let limits = Cells::read(&trace, "limits", &["phase", "ipc_ns", "name", "value", "in_use"]);
    for phase in ["start", "end"] {
        for pid in twins {
            compare_objects(&recording, &objects, phase, pid, &mut found);
            check_queue(&objects, phase, pid, &mut found);
            compare_limits(&recording, &limits, phase, pid, &mut found);
        }
    }
    ["twin-0", "twin-1"].into_iter().for_each(release);
    Performed::read(&workload.wait(LONG).with_code(0).stdout);
    println!("{} values compared", found.compared());
    found.none();
}
