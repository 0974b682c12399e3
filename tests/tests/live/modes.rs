//! What is recorded: by process, by system call, by the way of attaching.

use ipc_tests::calls;
use ipc_tests::environment::Live;
use ipc_tests::logs::Performed;
use ipc_tests::programs;
use ipc_tests::running::{LONG, Recording, Running, run, wait_until};
use rustix::process::Signal;

/// Starts a scenario that waits at its gate.
fn start_gated(recording: &Recording, arguments: &[&str]) -> Running {
    let gate = recording.text("");
    let command = programs::workload(&[arguments, &["--gate", gate.as_str()]].concat());
    let workload = Running::start(command, recording.folder(), "workload");
    wait_until("the workload waits at its gate", || recording.path("start.waiting").exists());
    workload
}

#[test]
fn a_running_process_is_recorded_and_no_other() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    let workload = start_gated(&recording, &["families", "--count", "20"]);
    let pid = workload.pid();
    let recorder = recording.start_alone(&["--pid", &pid.to_string(), "--syscall", "%sem,%shm,%msg,%mq"]);
    let other = Running::start(programs::workload(&["families"]), recording.folder(), "other");
    other.wait(LONG).with_code(0);
    std::fs::write(recording.path("start.go"), "").unwrap();
    let performed = Performed::read(&workload.wait(LONG).with_code(0).stdout);
    recorder.signal(Signal::INT);
    recorder.wait(LONG).with_code(0);
    let trace = recording.trace();
    let mut expected = performed.calls.clone();
    expected.retain(|operation, _| !calls::is_signal(operation));
    assert_eq!(trace.calls_by_operation(), expected, "the calls of process {pid}");
    assert!(calls::read(&trace).iter().all(|call| call.pid == pid), "no other process");
    assert_eq!(trace.manifest.session.filters.pids, [pid], "the filter is kept in the trace");
}

#[test]
fn follow_adds_the_children_to_come() {
    let Some(_live) = Live::ready() else { return };
    for follow in [false, true] {
        let recording = Recording::new();
        let workload = start_gated(&recording, &["ping-pong", "--count", "100"]);
        let pid = workload.pid().to_string();
        let options = ["--syscall", "%sem", "--pid", &pid, "--follow"];
        let recorder = recording.start_alone(if follow { &options } else { &options[..4] });
        std::fs::write(recording.path("start.go"), "").unwrap();
        let performed = Performed::read(&workload.wait(LONG).with_code(0).stdout);
        recorder.signal(Signal::INT);
        recorder.wait(LONG).with_code(0);
        let rows: u64 = recording.trace().calls_by_operation().values().sum();
        // Without --follow only the first process: semget, SETVAL, IPC_RMID.
        assert_eq!(rows, if follow { performed.total() } else { 3 }, "--follow: {follow}");
    }
}

#[test]
fn only_the_system_calls_asked_for() {
    let Some(_live) = Live::ready() else { return };
    let cases: [(&str, &[&str]); 4] = [
        ("semctl", &["semctl"]),
        ("%msg", &["msgget", "msgsnd", "msgrcv", "msgctl"]),
        ("shmat,mq_timedsend", &["shmat", "mq_timedsend"]),
        // The C library's semop() arrives as semtimedop: who asks for one gets both.
        ("semop", &["semop", "semtimedop"]),
    ];
    for (option, operations) in cases {
        let recording = Recording::new();
        let ended = recording.record(&["--syscall", option], &["families", "--count", "3"]);
        let mut expected = Performed::read(&ended.stdout).calls;
        expected.retain(|operation, _| operations.contains(&operation.as_str()));
        let trace = recording.trace();
        assert_eq!(trace.calls_by_operation(), expected, "--syscall {option}");
        let mut kept = trace.manifest.session.filters.syscalls.clone();
        kept.sort_unstable();
        let mut asked: Vec<_> = operations.iter().map(|name| (*name).to_owned()).collect();
        asked.sort_unstable();
        assert_eq!(kept, asked, "--syscall {option}: the filter is kept in the trace");
    }
}

/// `--syscall` here stands for all options; `--cmdline` for those without a value.
#[test]
fn options_stand_in_a_file_above_that_in_the_environment_above_that_on_the_command_line() {
    let Some(_live) = Live::ready() else { return };
    let cases = [
        ("", "", "semget", true),
        ("IPC_RECORDER_SYSCALL=msgget,msgctl IPC_RECORDER_CMDLINE=no", "", "msgctl,msgget", false),
        ("IPC_RECORDER_SYSCALL=msgget", "--syscall shmget", "shmget", true),
        ("XDG_CONFIG_HOME=/nowhere IPC_RECORDER_CMDLINE=1", "--syscall shmdt", "shmdt", true),
    ];
    for (environment, options, syscalls, with_cmdlines) in cases {
        let recording = Recording::new();
        std::fs::create_dir(recording.path("ipctrace")).unwrap();
        let settings = "cmdline = true\nsyscall = [\"%sem\"]\n\n[record]\nsyscall = [\"semget\"]\n";
        std::fs::write(recording.path("ipctrace/ipc-recorder.toml"), settings).unwrap();
        let mut command = recording.command(&options.split_whitespace().collect::<Vec<_>>());
        command.env("XDG_CONFIG_HOME", recording.folder());
        command.envs(environment.split_whitespace().filter_map(|word| word.split_once('=')));
        // Its --help is none of the recorder's, and it lives for long enough for its command line to be read.
        command.arg("--").args(["sh", "-c", "sleep 0.5", "--help"]);
        run(command, recording.folder(), "record").with_code(0);
        let trace = recording.trace();
        let mut kept = trace.manifest.session.filters.syscalls.clone();
        kept.sort_unstable();
        assert_eq!(kept.join(","), syscalls, "{environment} {options}");
        let has_cmdlines = trace.table("processes", &["cmdline"]).texts("cmdline").iter().any(Option::is_some);
        assert_eq!(has_cmdlines, with_cmdlines, "{environment} {options}");
    }
}

#[test]
fn a_file_of_options_that_says_what_no_option_is_is_refused_with_its_place() {
    let recording = Recording::new();
    let path = recording.path("wrong.toml");
    for (settings, told) in [
        ("[record]\nmaxsize = \"2GiB\"\n", "wrong.toml: [record] maxsize is no option that can be set; those are "),
        ("pid = 1\n", "pid is no option that can be set"),
        ("[snapshot-helper]\n", "[snapshot-helper] is no command"),
        ("max-size = \"much\"\n", "invalid value 'much' for '--max-size"),
    ] {
        std::fs::write(&path, settings).unwrap();
        let mut command = recording.command(&["--duration", "1s"]);
        command.env("IPC_RECORDER_CONFIG", &path);
        let ended = run(command, recording.folder(), "record").with_code(2);
        assert!(ended.stderr.contains(told), "{settings}: {}", ended.stderr);
        assert!(!recording.trace_path().exists());
    }
}

#[test]
fn the_way_taken_is_kept_in_the_trace() {
    let Some(_live) = Live::ready() else { return };
    for way in ["auto", "btf-tracepoint", "raw-tracepoint"] {
        let recording = Recording::new();
        let ended = Running::start(
            {
                let mut command = recording.command(&["--attach", way]);
                command.arg("--").arg(programs::path("ipc-workload")).args(["families"]);
                command
            },
            recording.folder(),
            "record",
        )
        .wait(LONG);
        if way == "btf-tracepoint" && ended.code() == 4 {
            println!("no BTF tracepoints here: {}", ended.stderr);
            continue;
        }
        let ended = ended.with_code(0);
        let attached = recording.trace().manifest.session.attach;
        for hook in ["sys_enter", "sys_exit"] {
            let taken = attached.iter().find(|attached| attached.hook == hook).expect("the hook is in the trace");
            println!("--attach {way}: {hook} by {}", taken.way);
            assert!(way == "auto" || taken.way == way, "--attach {way}: {hook} by {}; {}", taken.way, ended.stderr);
        }
    }
}
