//! Packing traces as they are left on a server: being recorded, cut short, and full of names that must not get out.

use ipc_tests::environment::Live;
use ipc_tests::packs::{Hidden, pack, packed, unpacked};
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What begins whatever must not be in a redacted trace: long enough not to be in compressed bytes by chance.
const SECRET: &str = "Zq7Sec";
const KEY: &str = "0x5ec2e003";

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Records a program whose every name is secret; it runs until the recorder is killed, or to its end.
fn record(recording: &Recording, mode: &str) -> Option<Running> {
    let folder = recording.path("Zq7Secfolder");
    fs::create_dir(&folder).unwrap();
    let compiled = programs::compile("named", &["-O1", "-fno-omit-frame-pointer", "-pthread"], &folder)?;
    let program = folder.join("Zq7Secprogram");
    fs::rename(compiled, &program).unwrap();
    let names: Vec<String> = (0..8).map(|number| hexadecimal(&format!("Zq7Sec name{number}"))).collect();
    let recorder = recording.command(&["--cmdline", "--stacks", "--snapshot-every", "500ms"]);
    // On a host of another name.
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", r#"hostname Zq7Sechost && exec "$0" "$@""#]);
    command.arg(recorder.get_program()).args(recorder.get_args());
    command
        .args(["--comm", "Zq7Sec name0,Zq7Sec name1,Zq7Secother,Zq7Secprogram", "--"])
        .arg(&program)
        .args([mode, KEY])
        .args(names);
    command.args(["--", "--password=Zq7Secargument"]);
    Some(Running::start(command, recording.folder(), "record"))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Where in a file a text stands: as it is, or in anything that is compressed in it.
fn finds(content: &[u8], text: &[u8]) -> bool {
    const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let holds = |content: &[u8]| content.windows(text.len()).any(|window| window == text);
    let frames = (0..content.len()).filter(|place| content[*place..].starts_with(&FRAME));
    let mut decompressed = frames.filter_map(|place| {
        let mut plain = Vec::new();
        let decoder = zstd::stream::read::Decoder::with_buffer(&content[place..]).ok()?.single_frame();
        decoder.take(1 << 28).read_to_end(&mut plain).ok()?;
        Some(plain)
    });
    holds(content) || decompressed.any(|plain| holds(&plain))
}

/// How many files hold what must not get out.
fn leaks(folder: &Path) -> Vec<PathBuf> {
    let key = u32::from_str_radix(KEY.trim_start_matches("0x"), 16).unwrap().to_le_bytes();
    let secrets = [SECRET.as_bytes(), &key, b"5ec2e003"];
    let holds = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        secrets.iter().any(|secret| finds(&content, secret))
    };
    files(folder).into_iter().filter(holds).collect()
}

fn analyzer(arguments: &[&str], trace: &Path) -> String {
    let output = Command::new(programs::path("ipc-analyzer")).args(arguments).arg(trace).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().replace(trace.to_str().unwrap(), "TRACE")
}

#[test]
fn no_secret_is_left_in_a_redacted_trace() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let Some(recorder) = record(&recording, "once") else { return };
    recorder.wait(LONG).with_code(0);
    let tar = recording.path("x.tar");
    packed(&recording.trace_path(), &tar, &["--redact"]);
    assert!(!finds(&fs::read(&tar).unwrap(), SECRET.as_bytes()), "in the tar itself");
    let hidden = unpacked(&tar, &recording.path("hidden"));
    let found: Vec<PathBuf> = leaks(&recording.trace_path());
    for table in ["calls", "processes", "threads", "session", "lifetimes", "objects", "execs", "stacks"] {
        let part = recording.trace_path().join(table).join("part-00000.parquet");
        assert!(found.contains(&part), "there is no secret in {table}, so nothing is shown: {found:?}");
    }
    assert_eq!(leaks(&hidden), Vec::<PathBuf>::new());
    let between = Hidden::between(&Trace::open(&recording.trace_path()), &Trace::open(&hidden));
    println!("{:?} names and keys", between.count());
    assert!(analyzer(&["verify"], &tar).contains("ok"));
}

#[test]
fn a_trace_that_was_cut_short_is_packed_as_it_is() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let Some(recorder) = record(&recording, "wait") else { return };
    let (trace, tar) = (recording.trace_path(), recording.path("x.tar"));
    let log = trace.join("log/00000.arrows.zst");
    wait_until("the program waits", || recorder.stdout().contains("waiting"));
    let before = fs::metadata(&log).map_or(0, |found| found.len());
    wait_until("the log tells of it", || fs::metadata(&log).is_ok_and(|found| found.len() > before));
    let refused = pack(&trace, &tar, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("still being recorded: end it first"), "{said}");
    let program = Trace::open(&trace).manifest.session.filters.pids[0];
    recorder.signal(Signal::KILL);
    recorder.wait(LONG);
    ipc_tests::running::send(program, Signal::TERM);
    // What is not whole stays so.
    let mut damaged = fs::read(&log).unwrap();
    damaged.extend(b"half a block");
    fs::write(&log, damaged).unwrap();
    packed(&trace, &tar, &[]);
    let hidden = recording.path("hidden.tar");
    packed(&trace, &hidden, &["--redact"]);
    for arguments in [&["latency", "--by", "syscall"][..], &["show"], &["summary"], &["deadlocks"]] {
        let arguments = [arguments, &["--format", "jsonl"]].concat();
        assert_eq!(analyzer(&arguments, &tar), analyzer(&arguments, &trace), "{arguments:?}");
    }
    let text = analyzer(&["summary"], &tar);
    assert!(text.contains("the last 12 bytes of") && text.contains("did not end properly"), "{text}");
    assert!(!text.contains("repair"), "a tar cannot be repaired: {text}");
    let text = analyzer(&["summary"], &hidden);
    assert!(text.contains("the last 12 bytes of"), "{text}");
    check_hidden(&recording, &trace, &hidden);
    let mut repair = Command::new(programs::path("ipc-analyzer"));
    repair.arg("repair").arg(&tar);
    let said = run(repair, recording.folder(), "repair").with_code(2).stderr;
    assert!(said.contains("is a tar: unpack it with tar -xf"), "{said}");
}

/// The redacted trace holds no secret, not in the log either, and answers the same.
fn check_hidden(recording: &Recording, trace: &Path, tar: &Path) {
    let hidden = unpacked(tar, &recording.path("hidden"));
    assert!(leaks(trace).contains(&trace.join("log/00000.arrows.zst")), "there is no secret in the log");
    assert_eq!(leaks(&hidden), Vec::<PathBuf>::new());
    for repaired in [trace, &hidden] {
        let mut repair = Command::new(programs::path("ipc-analyzer"));
        repair.arg("repair").arg(repaired);
        run(repair, recording.folder(), "repair").with_code(0);
    }
    let names = Hidden::between(&Trace::open(trace), &Trace::open(&hidden));
    assert!(names.count().0 >= 10, "{names:?}");
    for command in ["latency", "show", "summary", "queues", "objects", "leaks"] {
        let arguments = [command, "--limit", "0", "--format", "jsonl"];
        let (open, hidden) = (analyzer(&arguments, trace), names.names_in(&analyzer(&arguments, &hidden)));
        let [mut open, mut hidden] = [&open, &hidden].map(|text| text.lines().collect::<Vec<_>>());
        open.sort_unstable();
        hidden.sort_unstable();
        assert_eq!(open, hidden, "{command}");
    }
    assert_eq!(leaks(&hidden), Vec::<PathBuf>::new());
}
