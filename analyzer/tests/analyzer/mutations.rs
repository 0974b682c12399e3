//! Damaged and forged traces: never a panic, never a wrong row in silence, never more than 1 GiB or 10 s.
//!
//! Each mutated trace is put to two commands in turn, in a form of output in turn, each in a process of its own that the
//! kernel keeps within its limits: six hundred processes of a normal run, forty thousand under `IPC_SOAK=1`.

use crate::fixture::{self, Parameters, Random};
use crate::mutate::compact::Node;
use crate::mutate::parquet::{forge_footer, forge_page};
use crate::mutate::{Mutation, Source};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Address space, which is more than what is in use.
const MEMORY_KIB: u64 = 1 << 20;
/// Both threads together.
const CPU_SECONDS: u64 = 20;
const TIME: Duration = Duration::from_secs(10);
const THREADS: usize = 2;
const FORMATS: [&str; 4] = ["text", "json", "jsonl", "csv"];
/// The commands that are put to each mutated trace.
const COMMANDS_EACH: u64 = 2;

/// `IPC_SEED`, or the day's.
fn seed() -> u64 {
    let seed = std::env::var("IPC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    println!("seed: IPC_SEED={seed}");
    seed
}

fn is_soak() -> bool {
    std::env::var("IPC_SOAK").is_ok_and(|value| value == "1")
}

/// Runs the binary within the limits that a hostile trace must not break.
fn confined(arguments: &[&str]) -> (Output, Duration) {
    let begun = Instant::now();
    let limits = format!("ulimit -v {MEMORY_KIB}; ulimit -t {CPU_SECONDS}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &limits, env!("CARGO_BIN_EXE_ipc-analyzer")])
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .env("RAYON_NUM_THREADS", THREADS.to_string())
        .output()
        .unwrap();
    (output, begun.elapsed())
}

/// What is asked of the analyzer, and of how many traces.
struct Question {
    words: Vec<String>,
    traces: usize,
    /// What it writes; `None`: whatever `--format` says.
    form: Option<&'static str>,
}

/// Those that write something else than answers, and what.
const EXPORTS: [(&[&str], &str); 4] = [
    (&["report"], "text"),
    (&["export", "--to", "perfetto"], "binary"),
    (&["export", "--to", "chrome"], "json"),
    (&["export", "--to", "folded"], "text"),
];

/// What `--help` lists: a new command is put to the test by itself.
fn questions(trace: &Path, other: &Path) -> Vec<Question> {
    let question = |name: &str| {
        let paths = [trace.to_str().unwrap(), other.to_str().unwrap()];
        let accepts = |traces: usize| {
            let (output, _) = confined(&[&[name], &paths[..traces]].concat());
            output.status.code() == Some(0)
        };
        let traces = (1..=2).find(|traces| accepts(*traces));
        if traces.is_none() {
            println!("skipped: {name} answers neither for one trace nor for two");
        }
        traces.map(|traces| Question { words: vec![name.to_owned()], traces, form: None })
    };
    let export = |(words, form): (&[&str], &'static str)| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Question { words, traces: 1, form: Some(form) }
    };
    let mut questions: Vec<Question> = crate::text::commands().iter().filter_map(|name| question(name)).collect();
    questions.extend(EXPORTS.map(export));
    questions
}

/// A trace that is changed and made whole again, file by file.
struct Victim<'a> {
    source: &'a Source,
    directory: PathBuf,
    /// What the commands say of the whole trace.
    answers: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl<'a> Victim<'a> {
    fn new(source: &'a Source, directory: PathBuf) -> Victim<'a> {
        let victim = Victim { source, directory, answers: Mutex::default() };
        for (file, content) in &source.parts {
            victim.put(file, content);
        }
        victim.put("trace.json", source.manifest.to_string().as_bytes());
        victim
    }

    fn put(&self, file: &str, content: &[u8]) {
        let path = self.directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn restore(&self, mutation: &Mutation) {
        for (file, _) in &mutation.files {
            match self.source.parts.iter().find(|(name, _)| name == file) {
                Some((_, content)) => self.put(file, content),
                None => self.put("trace.json", self.source.manifest.to_string().as_bytes()),
            }
        }
    }

    fn ask(&self, question: &Question, format: &str, other: &Path) -> (Output, Duration) {
        let paths = [self.directory.to_str().unwrap(), other.to_str().unwrap()];
        let words: Vec<&str> = question.words.iter().map(String::as_str).collect();
        let form: &[&str] = if question.form.is_none() { &["--format", format] } else { &[] };
        confined(&[&words, &paths[..question.traces], form].concat())
    }

    /// What a command says of the whole trace; asked while it is whole.
    fn right_answer(&self, question: &Question, format: &str, other: &Path) -> Vec<u8> {
        let key = format!("{} {format}", question.words.join(" "));
        if let Some(answer) = self.answers.lock().unwrap().get(&key) {
            return answer.clone();
        }
        let (output, _) = self.ask(question, format, other);
        assert_eq!(output.status.code(), Some(0), "{key}: {}", crate::stderr(&output));
        self.answers.lock().unwrap().insert(key, output.stdout.clone());
        output.stdout
    }
}

/// What is wrong with how a command took a mutated trace.
fn fault(mutation: &Mutation, output: &Output, took: Duration, right: &[u8], format: &str) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        None => return Some(format!("ended by {}", output.status)),
        Some(0 | 3) => {}
        Some(code) => return Some(format!("exit code {code}")),
    }
    if said.contains("panicked") {
        return Some("a panic is shown".to_owned());
    }
    if took > TIME {
        return Some(format!("took {took:?}"));
    }
    if !mutation.checksum_holds && output.status.code() == Some(0) && output.stdout != right {
        return Some("a wrong answer from a file whose checksum fails".to_owned());
    }
    if output.status.code() == Some(3) && said.lines().filter(|line| line.starts_with("ipc-analyzer:")).count() != 1 {
        return Some("no one line that says why".to_owned());
    }
    // What has been written when a later part cannot be believed is no whole document, and cannot be taken for one.
    let format = if output.status.success() || format == "binary" { format } else { "text" };
    unprintable(&output.stdout, format).or_else(|| unprintable(&output.stderr, "text"))
}

/// Whether something gets to a terminal that it would obey.
fn unprintable(shown: &[u8], format: &str) -> Option<String> {
    if format == "binary" {
        return None;
    }
    let Ok(text) = std::str::from_utf8(shown) else { return Some("no UTF-8".to_owned()) };
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\n') {
        return Some(format!("the control character {c:?}"));
    }
    if format == "json" && !text.is_empty() && serde_json::from_str::<serde_json::Value>(text).is_err() {
        return Some("no JSON".to_owned());
    }
    None
}

struct Run {
    seed: u64,
    sources: Vec<Source>,
    questions: Vec<Question>,
    next: AtomicU64,
    last: u64,
    /// Faults, and how often each exit code came.
    seen: Mutex<(Vec<String>, BTreeMap<String, u64>, Duration)>,
}

impl Run {
    fn work(&self, directory: &Path) {
        let victims: Vec<Victim<'_>> =
            self.sources.iter().map(|source| Victim::new(source, directory.join(&source.name))).collect();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.last {
                return;
            }
            let mut random = Random(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)));
            let at = random.below(victims.len() as u64) as usize;
            self.put_to_test(number, &victims[at], &mut random);
        }
    }

    fn put_to_test(&self, number: u64, victim: &Victim<'_>, random: &mut Random) {
        let other = &self.sources.iter().find(|source| source.name != victim.source.name).unwrap().directory;
        let asked: Vec<(&Question, &str)> = (0..COMMANDS_EACH)
            .map(|i| {
                let turn = (number * COMMANDS_EACH + i) as usize;
                let question = &self.questions[turn % self.questions.len()];
                (question, question.form.unwrap_or(FORMATS[turn / self.questions.len() % FORMATS.len()]))
            })
            .collect();
        let right: Vec<Vec<u8>> =
            asked.iter().map(|(question, format)| victim.right_answer(question, format, other)).collect();
        let mutation = victim.source.mutate(&self.sources, random);
        mutation.files.iter().for_each(|(file, content)| victim.put(file, content));
        for ((question, format), right) in asked.iter().zip(&right) {
            let (output, took) = victim.ask(question, format, other);
            let fault = fault(&mutation, &output, took, right, format);
            let mut seen = self.seen.lock().unwrap();
            let outcome = match output.status.code() {
                Some(0) => "answered",
                Some(3) => "refused",
                _ => "broken",
            };
            *seen.1.entry(outcome.to_owned()).or_default() += 1;
            seen.2 = seen.2.max(took);
            if let Some(fault) = fault {
                let said: String = crate::stderr(&output).chars().take(400).collect();
                let text = format!(
                    "{number}: {}: {} --format {format}: {fault}: {said}",
                    mutation.what,
                    question.words.join(" ")
                );
                println!("{text}");
                seen.0.push(text);
            }
        }
        keep(number, &victim.directory);
        victim.restore(&mutation);
    }
}

/// `IPC_MUTATION=NUMBER IPC_KEEP=DIR` leaves that trace there.
fn keep(number: u64, directory: &Path) {
    let wanted = std::env::var("IPC_MUTATION").ok().and_then(|text| text.parse().ok());
    let Some(kept) = std::env::var_os("IPC_KEEP").filter(|_| wanted == Some(number)) else { return };
    let done = Command::new("cp").arg("-r").args([directory.as_os_str(), &kept]).status().unwrap();
    assert!(done.success());
}

/// Real traces of the repository and a synthetic one with several row groups.
fn sources(directory: &Path) -> Vec<Source> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/traces");
    let synthetic = directory.join("synthetic-source");
    let losses = vec![("ring_full", Some(1), Some(40)), ("x32", None, None)];
    fixture::write(
        &synthetic,
        &Parameters { calls: 6_000, parts: 2, row_group_rows: 1000, losses, ..Parameters::default() },
    );
    vec![
        Source::read("battery", &samples.join("battery")),
        Source::read("contended", &samples.join("contended")),
        Source::read("synthetic", &synthetic),
    ]
}

#[test]
fn mutated_traces_are_refused_or_answered() {
    let directory = TempDir::new().unwrap();
    let sources = sources(directory.path());
    let questions = questions(&sources[0].directory, &sources[1].directory);
    let count = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = count("IPC_MUTATION").unwrap_or(0);
    let last = count("IPC_MUTATION").map(|only| only + 1);
    let last = last.or(count("IPC_MUTATIONS")).unwrap_or(if is_soak() { 20_000 } else { 300 });
    let run = Run { seed: seed(), sources, questions, next: AtomicU64::new(first), last, seen: Mutex::default() };
    let folders = (0..THREADS).map(|thread| directory.path().join(format!("thread-{thread}")));
    std::thread::scope(|scope| {
        for folder in folders {
            let run = &run;
            scope.spawn(move || run.work(&folder));
        }
    });
    let (faults, outcomes, longest) = run.seen.into_inner().unwrap();
    let commands: Vec<String> = run.questions.iter().map(|question| question.words.join(" ")).collect();
    println!(
        "{} mutated traces, {COMMANDS_EACH} of {commands:?} each: {outcomes:?}, the longest {longest:?}",
        last - first
    );
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

const CALLS: &str = "calls/part-00000.parquet";
const INT_MAX: i64 = i32::MAX as i64;

/// A page whose body is `bytes` zeros: some 30 KB for a GiB.
fn bomb(header: &mut Node, body: &mut Vec<u8>, bytes: usize) -> bool {
    let mut compressor = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(bytes as u64), &mut compressor).unwrap();
    *body = compressor.finish().unwrap();
    header.set(2, bytes as i64) && header.set(3, body.len() as i64)
}

/// The columns, which are the elements of the schema behind its root, that are needed for a table of `count`.
fn more_columns(footer: &mut Node, count: usize) {
    if let Some(Node::List(_, elements, _)) = footer.field(2) {
        let last = elements[elements.len() - 1].clone();
        elements.extend(vec![last; count]);
    }
}

/// A thousand row groups of a million rows, all of the same pages.
fn many_groups(footer: &mut Node) {
    const ROWS: i64 = 1 << 20;
    let groups = footer.field(4).unwrap();
    let mut group = groups.elements()[0].clone();
    group.set(3, ROWS);
    *groups = Node::List(12, vec![group; 1 << 10], None);
    footer.set(3, ROWS << 10);
}

/// What a file claims and how it is refused; without the check the process would reserve it, and end there.
#[test]
fn claims_are_refused_before_memory_is_reserved() {
    let directory = TempDir::new().unwrap();
    let sources = sources(directory.path());
    let source = &sources[0];
    let whole = &source.parts.iter().find(|(file, _)| file == CALLS).unwrap().1;
    let has_dictionary = |header: &mut Node| header.field(7).is_some();
    let forged: Vec<(&str, Vec<u8>)> = vec![
        ("claims a page of 2147483647 bytes", forge_page(whole, |header, _| header.set(2, INT_MAX))),
        ("claims a page of 1073741824 bytes", forge_page(whole, |header, body| bomb(header, body, 1 << 30))),
        (
            "claims a dictionary of 2147483647 values",
            forge_page(whole, |header, _| has_dictionary(header) && header.field(7).unwrap().set(1, INT_MAX)),
        ),
        ("in 2182 rows", forge_page(whole, |header, _| header.field(5).is_some_and(|data| data.set(1, INT_MAX)))),
        ("in encoding 6", forge_page(whole, |header, _| header.field(5).is_some_and(|data| data.set(2, 6)))),
        (
            "claims a row group of 16777216 rows",
            forge_footer(whole, |footer| assert!(footer.field(4).unwrap().elements()[0].set(3, 1 << 24))),
        ),
        (
            "claims 2147483646 columns in one",
            forge_footer(whole, |footer| {
                assert!(footer.field(2).unwrap().elements()[0].set(5, INT_MAX - 1));
            }),
        ),
        ("its columns take", forge_footer(whole, many_groups)),
        (
            "claims a list of 4294967295 elements",
            forge_footer(whole, |footer| {
                *footer.field(4).unwrap() = Node::List(12, Vec::new(), Some(u32::MAX.into()));
            }),
        ),
        ("columns, more than a trace can need", forge_footer(whole, |footer| more_columns(footer, 100_000))),
        (
            "not in order",
            forge_footer(whole, |footer| {
                if let Node::Structure(fields) = footer {
                    let again = (fields[0].0, fields[0].1.clone());
                    fields.push(again);
                }
            }),
        ),
    ];
    let victim = Victim::new(source, directory.path().join("victim"));
    for (said, content) in forged {
        let mutation = source.vouched(said.to_owned(), CALLS, content, None);
        mutation.files.iter().for_each(|(file, content)| victim.put(file, content));
        let (output, took) = confined(&["show", victim.directory.to_str().unwrap()]);
        crate::refuses(&output, 3, said);
        assert!(took < TIME, "{said}: {took:?}");
    }
}
