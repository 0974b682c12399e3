//! Power cuts. An emulated machine records onto a disk that logs every write and every flush; it is killed. Out of the log come
//! disks as they are when the power goes at any instant: with everything that was flushed, and of the rest any part. Their file
//! systems are recovered, their traces repaired, and everything is promised that is promised of a kill.
//!
//! What the emulated processor takes for a write-back of its own is kept from happening: only what the recorder has synced
//! reaches the disk. A second machine records with a recorder whose syncs do nothing, and must be found out.

use ipc_tests::crashed::{self, Performed, SECOND_NS, Sender};
use ipc_tests::disk::{DiskLog, Entry, Left};
use ipc_tests::environment::{self, Live, boot_ns, random};
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use ipc_tests::trace::Trace;
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The file system, and behind it what the machine says of its workload: a page each time.
const FILE_SYSTEM_BYTES: u64 = 96 << 20;
const PAGE: usize = 4096;
const PROCESSES: usize = 2;
/// The recorder's start takes an emulated processor seconds, in which nothing is written: the power stays on for as long.
const WARM_UP_NS: i64 = 3 * SECOND_NS;
/// The name of the test that runs in the machine.
const INSIDE: &str = "power::inside_the_machine";
/// What it prints when the workload runs.
const RECORDS: &str = "ipctrace-power: it records";
/// Set in the machine: these syncs of the recorder do nothing.
const WITHOUT_SYNC: &str = "IPC_WITHOUT_SYNC";

/// What a recorder could forget.
const FORGOTTEN: [(&str, &[libc::c_long]); 2] = [
    // Alone: that of the log.
    ("data", &[libc::SYS_fdatasync, libc::SYS_sync_file_range]),
    (
        "all",
        &[
            libc::SYS_fdatasync,
            libc::SYS_sync_file_range,
            libc::SYS_fsync,
            libc::SYS_syncfs,
            libc::SYS_sync,
            libc::SYS_msync,
        ],
    ),
];

/// A machine that was killed.
struct Killed {
    recording: Recording,
    log: DiskLog,
    /// What it said of its workload: at which entry of the log, and what.
    said: Vec<(usize, Value)>,
}

/// The kernel and the first root file system; `None`, after a line that says why, where there are none.
fn machine() -> Option<(PathBuf, PathBuf)> {
    match (std::env::var_os("IPC_VM_KERNEL"), std::env::var_os("IPC_VM_INITRAMFS")) {
        (Some(kernel), Some(initramfs)) => Some((kernel.into(), initramfs.into())),
        _ => {
            environment::skip("IPC_VM_KERNEL and IPC_VM_INITRAMFS are not set: cargo xtask test sets them");
            None
        }
    }
}

fn qemu(recording: &Recording, (kernel, initramfs): &(PathBuf, PathBuf), forgotten: Option<&str>) -> Command {
    let without = forgotten.map_or_else(String::new, |forgotten| format!("{WITHOUT_SYNC}={forgotten}"));
    let line = format!(
        "console=ttyS0 panic=-1 quiet no_timer_check {without} -- {INSIDE} --exact --ignored --nocapture --test-threads=1"
    );
    let mut qemu = Command::new("qemu-system-x86_64");
    // As `cargo xtask vm` has it.
    qemu.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "1G", "-nographic", "-no-reboot", "-nic", "none"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).args(["-append", &line]);
    let file = |name: &str, path: &str| format!("driver=file,node-name={name},filename={}", recording.text(path));
    // The flushes need not reach this machine's disk: it goes on.
    for node in [file("disk-file", "disk"), file("log-file", "log")] {
        qemu.args(["-blockdev", &format!("{node},cache.no-flush=on")]);
    }
    qemu.args(["-blockdev", "driver=raw,node-name=disk-raw,file=disk-file"]);
    qemu.args(["-blockdev", "driver=raw,node-name=log-raw,file=log-file"]);
    qemu.args(["-blockdev", "driver=blklogwrites,node-name=disk,file=disk-raw,log=log-raw"]);
    qemu.args(["-device", "virtio-blk-pci,drive=disk,write-cache=on"]);
    qemu
}

/// An empty file system.
fn make_disk(recording: &Recording) {
    for name in ["empty", "log"] {
        File::create(recording.path(name)).unwrap();
    }
    File::options()
        .write(true)
        .open(recording.path("empty"))
        .unwrap()
        .set_len(FILE_SYSTEM_BYTES + PAGE as u64)
        .unwrap();
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    mkfs.args(["-q", "-b", "4096"]).arg(recording.path("empty")).arg((FILE_SYSTEM_BYTES / 4096).to_string());
    run(mkfs, recording.folder(), "mkfs").with_code(0);
    fs::copy(recording.path("empty"), recording.path("disk")).unwrap();
}

/// Has a machine record for `time`, and kills it.
fn kill_machine(machine: &(PathBuf, PathBuf), forgotten: Option<&str>, time: Duration) -> Killed {
    let recording = Recording::new();
    make_disk(&recording);
    let mut qemu = Running::start(qemu(&recording, machine, forgotten), recording.folder(), "console");
    let begun_ns = boot_ns();
    while !qemu.stdout().contains(RECORDS) {
        let is_late = boot_ns() - begun_ns > 180 * SECOND_NS;
        assert!(!is_late && !qemu.has_ended(), "the machine does not record:\n{}{}", qemu.stdout(), qemu.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(time);
    let console = qemu.stdout();
    assert!(!qemu.has_ended(), "the machine ended by itself:\n{console}");
    drop(qemu);
    let log = DiskLog::read(&recording.path("log"));
    let is_page = |entry: &&Entry| entry.offset == FILE_SYSTEM_BYTES && entry.bytes == PAGE as u64;
    let pages = log.entries.iter().enumerate().filter(|(_, entry)| is_page(entry));
    let said: Vec<(usize, Value)> = pages.map(|(index, entry)| (index, parse(&log.data(entry)))).collect();
    assert!(said.len() > 10, "the machine said little:\n{console}");
    Killed { recording, log, said }
}

fn parse(page: &[u8]) -> Value {
    let end = page.iter().position(|byte| *byte == 0).unwrap_or(page.len());
    serde_json::from_slice(&page[..end]).unwrap()
}

impl Killed {
    /// What had been done, and when that was, when the power went before entry `cut`.
    fn performed_by(&self, cut: usize) -> Option<(Performed, i64)> {
        let said: Vec<&Value> = self.said.iter().take_while(|(index, _)| *index < cut).map(|(_, said)| said).collect();
        let last = said.last()?;
        let line = &last["line"];
        let pids = line["senders"].as_array()?.iter().filter_map(Value::as_i64);
        let sender = |(own, pid): (usize, i64)| {
            let mut ended_ns = Vec::new();
            for said in &said {
                ended_ns.resize(said["ended"][own].as_u64().unwrap() as usize, said["boot_ns"].as_i64().unwrap());
            }
            Sender { pid, ended_ns, is_exact: false }
        };
        let senders = pids.enumerate().map(sender).collect();
        Some((Performed { senders, blocked: crashed::blocked(line) }, last["boot_ns"].as_i64()?))
    }

    /// The trace as it is found when the power went before entry `cut`, after the file system's recovery.
    fn trace_of(&self, cut: usize, left: Left, state: &mut u64) -> PathBuf {
        let (folder, disk) = (self.recording.folder(), self.recording.path("cut"));
        fs::copy(self.recording.path("empty"), &disk).unwrap();
        self.log.cut(&File::options().write(true).open(&disk).unwrap(), cut, left, state);
        let mut recovery = Command::new("/sbin/e2fsck");
        recovery.args(["-f", "-y"]).arg(&disk);
        let recovered = run(recovery, folder, "e2fsck");
        // 0: nothing to do; 1: recovered.
        assert!(recovered.code() <= 1, "the file system does not recover:\n{}", recovered.stdout);
        let found = self.recording.path("found");
        let _ = fs::remove_dir_all(&found); // that of the cut before
        fs::create_dir(&found).unwrap();
        let mut copy = Command::new("/sbin/debugfs");
        copy.args(["-R", &format!("rdump / {}", found.display())]).arg(&disk);
        run(copy, folder, "debugfs").with_code(0);
        found.join("trace")
    }

    /// What is found after a power cut; an error is a broken promise.
    fn check(&self, cut: usize, left: Left, state: &mut u64) -> Result<String, String> {
        let trace = self.trace_of(cut, left, state);
        let Some((performed, cut_ns)) = self.performed_by(cut) else { return Ok("nothing was done yet".to_owned()) };
        if !trace.join(ipc_schema::manifest::FILE_NAME).exists() {
            let ended = performed.ended_by(cut_ns - SECOND_NS);
            return if ended == 0 { Ok("no trace yet".to_owned()) } else { Err(format!("no trace of {ended} calls")) };
        }
        let folder = self.recording.folder();
        for command in ["repair", "verify"] {
            let ended = run(programs::analyzer(&[command], &trace), folder, command);
            if ended.code() != 0 {
                return Err(format!("{command}: {}{}", ended.stdout, ended.stderr));
            }
        }
        crashed::check(&Trace::open(&trace), &performed, cut_ns).map(|found| {
            let ended = performed.ended_by(cut_ns);
            format!("{ended} calls had ended, {found:?}")
        })
    }

    /// Cuts at the end and at random instants.
    fn check_all(&self, cuts: u64, state: &mut u64) -> Vec<Result<String, String>> {
        let boot_ns = |said: &Value| said["boot_ns"].as_i64().unwrap();
        let warm_ns = boot_ns(&self.said[0].1) + WARM_UP_NS;
        let first = self.said.iter().find(|(_, said)| boot_ns(said) > warm_ns).expect("it recorded for longer").0;
        let check = |number: u64| {
            let (last, left) = (self.log.entries.len(), [Left::Some, Left::Nothing, Left::All][(number % 3) as usize]);
            let cut = if number == 0 { last } else { first + 1 + random(state) as usize % (last - first) };
            let result = self.check(cut, left, state);
            println!("cut before write {cut} of {last}, unflushed {left:?}: {result:?}");
            result
        };
        (0..cuts).map(check).collect()
    }
}

#[test]
fn a_power_cut_takes_at_most_a_second() {
    let Some(_live) = Live::ready() else { return };
    let Some(machine) = machine() else { return };
    let mut state = environment::seed();
    // A machine is good for many cuts, but each records the same way.
    for _ in 0..environment::count(1, 5) {
        let time = Duration::from_millis(6000 + random(&mut state) % 2000);
        let killed = kill_machine(&machine, None, time);
        for result in killed.check_all(environment::count(4, 40), &mut state) {
            result.unwrap();
        }
    }
}

#[test]
fn a_recorder_that_does_not_sync_is_found_out() {
    let Some(_live) = Live::ready() else { return };
    let Some(machine) = machine() else { return };
    let mut state = environment::seed();
    for (forgotten, _) in &FORGOTTEN[..environment::count(1, FORGOTTEN.len() as u64) as usize] {
        let killed = kill_machine(&machine, Some(forgotten), Duration::from_secs(5));
        let results = killed.check_all(3, &mut state);
        assert!(
            results[0].is_err(),
            "at the end everything older than a second is there, though nobody synced {forgotten}"
        );
    }
}

/// Mounts the disk so that nothing reaches it unless somebody syncs.
fn mount_disk() {
    for (name, value) in [
        ("dirty_writeback_centisecs", "0"),
        ("dirty_expire_centisecs", "360000"),
        ("dirty_background_ratio", "80"),
        ("dirty_ratio", "90"),
    ] {
        fs::write(Path::new("/proc/sys/vm").join(name), value).unwrap();
    }
    fs::create_dir_all("/disk").unwrap();
    mount("/dev/vda", "/disk", "ext4", MountFlags::empty(), Some(c"commit=300,noauto_da_alloc")).unwrap();
}

/// What a sender has done so far: its file is read on from where it was left.
struct Counter {
    file: File,
    ended: u64,
}

impl Counter {
    fn count(&mut self) -> u64 {
        let mut end = [0; 8];
        while self.file.read_at(&mut end, 8 * self.ended).unwrap() == 8 && end != [0; 8] {
            self.ended += 1;
        }
        self.ended
    }
}

/// Has these system calls of a program do nothing, and succeed.
fn without(calls: &'static [libc::c_long], command: &mut Command) {
    let install = || {
        let statement =
            |code: u32, value: u32, yes: u8, no: u8| libc::sock_filter { code: code as u16, jt: yes, jf: no, k: value };
        // The number of the call is the first word of what a filter sees.
        let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
        for (index, call) in calls.iter().enumerate() {
            let to_end = (calls.len() - index) as u8;
            program.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32, to_end, 0));
        }
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO, 0, 0));
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the filter is valid for its length, and the kernel copies it.
        match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it allocates a little; the memory of this C library is usable in a forked child.
    unsafe { command.pre_exec(install) };
}

/// Runs in the machine until that is killed: records onto the disk, and says behind the file system how far the workload is.
#[test]
#[ignore = "it mounts a disk: for the machine of these tests"]
fn inside_the_machine() {
    mount_disk();
    let recording = Recording::new();
    let (gate, ends) = (recording.path("gate"), recording.path("ends"));
    [&gate, &ends].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let options = ["--gate", gate.to_str().unwrap(), "--ends", ends.to_str().unwrap(), "--processes", "2"];
    let arguments = [&["numbered", "--blocked", "5", "--pause", "20ms", "--hold", "280s"], &options[..]].concat();
    let workload = Running::start(programs::workload(&arguments), recording.folder(), "workload");
    wait_until("the workload waits", || gate.join("start.waiting").exists());
    let mut recorder = Command::new(programs::path("ipc-recorder"));
    recorder.args(["record", "-o", "/disk/trace", "--follow", "--segment-size", "24KiB"]);
    recorder.args(["--pid", &workload.pid().to_string()]);
    let forgotten = std::env::var(WITHOUT_SYNC).unwrap_or_default();
    if let Some((_, calls)) = FORGOTTEN.iter().find(|(name, _)| *name == forgotten) {
        without(calls, &mut recorder);
    }
    let mut recorder = Running::start(recorder, recording.folder(), "record");
    wait_until("the recorder records", || Path::new("/disk/trace/trace.json").exists());
    fs::write(gate.join("start.go"), "").unwrap();
    let path = |own: usize| ends.join(format!("{own}.ends"));
    wait_until("the workload runs", || {
        workload.stdout().contains('\n') && (0..PROCESSES).all(|own| path(own).exists())
    });
    let line: Value = serde_json::from_str(workload.stdout().lines().next().unwrap()).unwrap();
    let open = |own: usize| Counter { file: File::open(path(own)).unwrap(), ended: 0 };
    let mut counters: Vec<Counter> = (0..PROCESSES).map(open).collect();
    // No sync: that would write the recorder's files, too.
    let disk = File::options().write(true).custom_flags(OFlags::DIRECT.bits() as i32).open("/dev/vda").unwrap();
    let mut memory = vec![0; 2 * PAGE];
    let begins = memory.as_ptr().align_offset(PAGE);
    let page = &mut memory[begins..begins + PAGE];
    println!("{RECORDS}");
    let begun_ns = boot_ns();
    while boot_ns() - begun_ns < LONG.as_nanos() as i64 {
        assert!(!recorder.has_ended(), "the recorder ended:\n{}", recorder.stderr());
        // First what had ended, then the time: it had ended by then.
        let ended: Vec<u64> = counters.iter_mut().map(Counter::count).collect();
        let said = json!({ "ended": ended, "boot_ns": boot_ns(), "line": line }).to_string();
        page.fill(0);
        page[..said.len()].copy_from_slice(said.as_bytes());
        disk.write_all_at(page, FILE_SYSTEM_BYTES).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
}
