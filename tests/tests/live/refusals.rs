//! What cannot be done is refused in one clear line, with the right exit code, and nothing is lost.

use ipc_tests::environment::Live;
use ipc_tests::programs;
use ipc_tests::running::{Ended, LONG, Recording, Running, run};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// One line that says all of `words`.
fn check_line(ended: &Ended, words: &[&str]) {
    let said = ended.stderr.trim_end();
    println!("{said}");
    assert_eq!(said.lines().count(), 1, "one line, not:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_command_that_cannot_be_started() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let mut command = recording.command(&[]);
    command.args(["--", "/nonexistent/program"]);
    let ended = run(command, recording.folder(), "record").with_code(1);
    check_line(&ended, &["/nonexistent/program"]);
    assert!(!recording.trace_path().exists(), "no directory is left");
}

#[test]
fn a_directory_that_is_not_empty() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    std::fs::create_dir(recording.trace_path()).unwrap();
    let mine = recording.trace_path().join("trace.json");
    std::fs::write(&mine, "mine").unwrap();
    let mut command = recording.command(&[]);
    command.args(["--", "true"]);
    let ended = run(command, recording.folder(), "record").with_code(1);
    check_line(&ended, &["trace", "empty"]);
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine", "nothing is overwritten");
    assert_eq!(std::fs::read_dir(recording.trace_path()).unwrap().count(), 1, "nothing is added");
}

#[test]
fn a_system_call_that_nobody_knows() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let mut command = recording.command(&["--syscall", "semopp"]);
    command.args(["--", "true"]);
    let ended = run(command, recording.folder(), "record").with_code(2);
    check_line(&ended, &["semopp", "semop"]);
    assert!(!recording.trace_path().exists(), "no directory is left");
}

#[test]
fn kretprobes_without_kprobes() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let mut command = recording.command(&["--exit", "kretprobe"]);
    command.args(["--", "true"]);
    let ended = run(command, recording.folder(), "record").with_code(2);
    check_line(&ended, &["--exit", "--attach kprobe"]);
    assert!(!recording.trace_path().exists(), "no directory is left");
}

#[test]
fn a_process_that_does_not_exist() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    // Above every pid_max.
    let ended = run(recording.command(&["--pid", "4194305", "--duration", "1s"]), recording.folder(), "record");
    assert!(matches!(ended.code(), 1 | 2), "exit code {}", ended.code());
    check_line(&ended, &["4194305"]);
    assert!(!recording.trace_path().exists(), "no directory is left");
}

#[test]
fn a_doctor_without_privilege() {
    let Some(_live) = Live::as_root("only root can give its privilege up") else { return };
    let recording = Recording::new();
    // Where another user reaches it.
    std::fs::set_permissions(recording.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = recording.path("ipc-recorder");
    std::fs::copy(programs::path("ipc-recorder"), &program).unwrap();
    let mut doctor = Command::new("setpriv");
    doctor.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    doctor.arg(&program).arg("doctor");
    let ended = Running::start(doctor, recording.folder(), "doctor").wait(LONG).with_code(4);
    println!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("CAP_BPF and CAP_PERFMON"), "the remedy");
}

#[test]
fn wrong_options() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    for options in [["--ring-size", "3MiB"], ["--duration", "soon"], ["--attach", "magic"], ["--pid", "me"]] {
        let mut command = recording.command(&options);
        command.args(["--", "true"]);
        let ended = run(command, recording.folder(), "record").with_code(2);
        assert!(ended.stderr.contains(options[1]), "{options:?}: {}", ended.stderr);
        assert!(!recording.trace_path().exists(), "no directory is left");
    }
}
