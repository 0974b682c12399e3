//! Incidents planted on purpose and programs with nothing wrong: whether the analyzer finds the ones and is silent at the
//! others. Precision and recall must both be 1.
//!
//! Each is recorded in an IPC namespace of its own, which the recorder lives in, too: what a leak leaves behind is there
//! when the recording ends, and goes with the recorder. With `IPC_KEEP=DIR` the traces are kept, `DIR/NAME-SEED`, each with
//! what was expected of it, `DIR/NAME-SEED.json`.

use ipc_tests::environment::{self, Live};
use ipc_tests::findings::{self, Expected, Finding, Sight, Verdict, judge};
use ipc_tests::foreign::{self, Program};
use ipc_tests::planted;
use ipc_tests::programs;
use ipc_tests::running::{Recording, Running, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// So many are recorded at a time: most of what they do is to wait.
const AT_A_TIME: usize = 6;

/// Everything is bounded by this.
const LONG: Duration = Duration::from_secs(120);

/// What is recorded.
#[derive(Clone)]
enum Subject {
    /// `ipc-workload incident NAME --seed SEED`.
    Planted(String, u64),
    /// A program that nobody here wrote: there is nothing to find.
    Foreign(Program),
}

/// One recording and what came of it.
struct Outcome {
    name: String,
    verdict: Verdict,
    /// Commands that were silent where nothing was to be found.
    silent: usize,
}

impl Subject {
    fn must_be_alone(&self) -> bool {
        matches!(self, Subject::Planted(incident, _) if incident == "world-accessible")
    }

    fn name(&self) -> String {
        match self {
            Subject::Planted(incident, seed) => format!("{incident}-{seed}"),
            Subject::Foreign(program) => program.name().to_owned(),
        }
    }
}

/// `unshare --ipc ipc-recorder record OPTIONS -- COMMAND`.
fn recorder(recording: &Recording, options: &[&str], command: &Command) -> Command {
    let record = recording.command(options);
    let mut unshare = Command::new("unshare");
    unshare.arg("--ipc").arg(record.get_program()).args(record.get_args());
    unshare.arg("--").arg(command.get_program()).args(command.get_args());
    unshare
}

/// Records a planted incident to its end or, if it must not end first, until it is in place; returns its own account.
fn record_planted(recording: &Recording, options: &[&str], incident: &str, seed: u64) -> Value {
    let workload = programs::workload(&["incident", incident, "--seed", &seed.to_string(), "--timeout", "100s"]);
    let mut running = Running::start(recorder(recording, options, &workload), recording.folder(), "record");
    wait_until(&format!("{incident} is in place or over"), || running.has_ended() || running.stdout().contains('\n'));
    if !running.has_ended() && running.stdout().contains(r#""ends":"recording""#) {
        end_recording(&mut running);
        running.signal(Signal::TERM);
    }
    let ended = running.wait(LONG).with_code(0);
    serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
}

/// The first signal goes to the command, which ignores it; the next one ends the recording.
fn end_recording(running: &mut Running) {
    wait_until("the recording is over", || {
        let is_over = running.stderr().contains("the recording is complete");
        if !is_over {
            running.signal(Signal::INT);
            std::thread::sleep(Duration::from_millis(100));
        }
        is_over || running.has_ended()
    });
}

/// Records the subject, looks whether the trace holds what was planted, and lets the analyzer judge.
fn examine(subject: &Subject, options: &[&str], commands: &[&'static str]) -> Outcome {
    let recording = Recording::new();
    let account = match subject {
        Subject::Planted(incident, seed) => record_planted(&recording, options, incident, *seed),
        Subject::Foreign(program) => {
            let command = program.command(recording.folder());
            let options = [options, &["--ring-size", "32MiB"]].concat();
            Running::start(recorder(&recording, &options, &command), recording.folder(), "record")
                .wait(LONG)
                .with_code(0);
            json!({ "incident": program.name(), "parameters": {}, "expected": [], "clean": true })
        }
    };
    let trace = recording.trace();
    assert_eq!(trace.lost_calls(), 0, "{}: calls were lost", subject.name());
    keep(&subject.name(), &recording.trace_path(), &account);
    match subject {
        Subject::Planted(incident, _) => planted::check(incident, &account, &trace),
        Subject::Foreign(program) => program.check(&trace),
    }
    let sight = if options.contains(&"--all") { Sight::Whole } else { Sight::Filtered };
    let mut expected = Expected::read(&account["expected"]);
    expected.retain(|expected| expected.is_of(commands));
    ask(subject.name(), &recording.trace_path(), &expected, sight, commands)
}

fn ask(name: String, trace: &Path, expected: &[Expected], sight: Sight, commands: &[&'static str]) -> Outcome {
    let mut found = Vec::new();
    let mut silent = 0;
    for command in commands {
        let of_command = findings::of_command(command, trace);
        let is_silent = of_command.is_empty() && !expected.iter().any(|e| e.is_of(&[command]) && !e.is_optional);
        silent += usize::from(is_silent);
        found.extend(of_command);
    }
    if sight == Sight::Whole {
        // Others live on this machine, too.
        found.retain(|finding| expected.iter().any(|expected| expected.names(finding.object.as_deref())));
    }
    Outcome { name, verdict: judge(expected, found, sight), silent }
}

/// Keeps a trace under `IPC_KEEP`.
fn keep(name: &str, trace: &Path, account: &Value) {
    let Some(folder) = std::env::var_os("IPC_KEEP").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).unwrap();
    let place = folder.join(name);
    // An older one of the same seed.
    let _ = std::fs::remove_dir_all(&place);
    let copied = Command::new("cp").arg("-r").arg(trace).arg(&place).status().unwrap();
    assert!(copied.success(), "cp -r {} {}", trace.display(), place.display());
    std::fs::write(folder.join(format!("{name}.json")), account.to_string()).unwrap();
}

/// Examines all, several at a time; in the order of the subjects.
fn examine_all(subjects: &[Subject], at_a_time: usize, commands: &[&'static str]) -> Vec<Outcome> {
    let next = Mutex::new(subjects.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let Some((place, subject)) = next.lock().unwrap().next() else { return };
                    let outcome = examine(subject, &[], commands);
                    outcomes.lock().unwrap().push((place, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The table, and what is wrong in words; returns precision and recall.
fn report(outcomes: &[Outcome]) -> (f64, f64) {
    println!("{:<40} {:>5} {:>5} {:>6} {:>6}", "recording", "right", "wrong", "missed", "silent");
    let [mut right, mut wrong, mut missed, mut silent] = [0; 4];
    for Outcome { name, verdict, silent: quiet } in outcomes {
        let counts = [verdict.right.len(), verdict.wrong.len(), verdict.missed.len()];
        println!("{name:<40} {:>5} {:>5} {:>6} {quiet:>6}", counts[0], counts[1], counts[2]);
        (right, wrong, missed, silent) = (right + counts[0], wrong + counts[1], missed + counts[2], silent + quiet);
    }
    for Outcome { name, verdict, .. } in outcomes {
        verdict.wrong.iter().for_each(|finding: &Finding| println!("{name}: wrong: {finding}"));
        verdict.missed.iter().for_each(|expected| println!("{name}: missed: {expected}"));
    }
    let share = |of: usize, others: usize| if of + others == 0 { 1.0 } else { of as f64 / (of + others) as f64 };
    let (precision, recall) = (share(right, wrong), share(right, missed));
    println!("true positives {right}, false positives {wrong}, false negatives {missed}, true negatives {silent}");
    println!("precision {precision:.3}, recall {recall:.3}");
    (precision, recall)
}

/// The incidents that the workload knows.
fn incidents() -> Vec<String> {
    let help = programs::workload(&["incident", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = help.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
    assert!(names.len() >= 29, "incidents of ipc-workload: {names:?}");
    names
}

/// Whether this machine can plant them at all.
fn can_plant() -> bool {
    if !environment::is_root() {
        environment::skip("only root makes IPC namespaces and becomes other users");
    }
    environment::is_root()
}

#[test]
fn every_planted_incident_is_found_and_nothing_else() {
    let Some(_live) = Live::ready() else { return };
    if !can_plant() {
        return;
    }
    let commands = findings::COMMANDS;
    let mut state = environment::seed();
    let mut subjects: Vec<Subject> = foreign::installed().into_iter().map(Subject::Foreign).collect();
    for incident in incidents() {
        for _ in 0..environment::count(1, 10).max(1) {
            let seed = environment::random(&mut state) % 1_000_000;
            subjects.push(Subject::Planted(incident.clone(), seed));
        }
    }
    // What is open to everybody may show in the snapshots of others: it has the machine for itself.
    let (alone, together) = subjects.into_iter().partition::<Vec<_>, _>(Subject::must_be_alone);
    let mut outcomes = examine_all(&together, AT_A_TIME, &commands);
    outcomes.extend(examine_all(&alone, 1, &commands));
    let (precision, recall) = report(&outcomes);
    assert!(precision >= 1.0 && recall >= 1.0, "precision {precision:.3}, recall {recall:.3}");
}

#[test]
fn a_deadlock_that_nothing_was_hidden_of_is_certain() {
    let Some(_live) = Live::ready() else { return };
    if !can_plant() {
        return;
    }
    let seed = environment::random(&mut environment::seed()) % 1_000_000;
    let subject = Subject::Planted("deadlock-semaphores".to_owned(), seed);
    let outcomes = [examine(&subject, &["--all"], &["deadlocks"])];
    assert_eq!(report(&outcomes), (1.0, 1.0));
}
