//! `report`: one HTML file to look at and to pass on. It holds no script and asks for nothing from anywhere: what a traced
//! program wrote into a name can do nothing in it. Every figure names the command that gives its numbers.

mod bars;
mod graph;
mod grid;
mod heat;
mod matrix;
mod scale;
mod steps;

use crate::cli::Which;
use crate::error::Error;
use crate::finding::{self, Finding};
use crate::groups::Dimension;
use crate::human::{self, Zone};
use crate::opened::Opened;
use crate::output::Output;
use crate::queries::contention::Contention;
use crate::queries::deadlocks::{self, Deadlocks};
use crate::queries::failures::Failures;
use crate::queries::leaks::Leaks;
use crate::queries::queues::Queues;
use crate::queries::races::Races;
use crate::queries::signals::Signals;
use crate::queries::{Ask, latency};
use crate::report::{Answer, Mark, Severity};
use askama::Template;
use bars::Bars;
use clap::{Args, Command};
use graph::Graph;
use grid::{Collected, Grid};
use heat::Heat;
use matrix::Matrix;
use scale::Scale;
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;
use steps::Steps;

/// The command.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// Where to; stdout unless given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    which: Which,
}

const EXAMPLES: &str = "\
Examples:
  ipc-analyzer report TRACE -o report.html            open it in any browser; it needs no network
  ipc-analyzer report TRACE -o last.html --since -30s";

/// What stands in the file.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    title: String,
    version: &'static str,
    facts: Vec<(&'static str, String)>,
    marks: Vec<Marked>,
    findings: Vec<Found>,
    sections: Vec<Section>,
}

/// Something that a reader must know.
struct Marked {
    is_loss: bool,
    text: String,
}

/// A finding.
struct Found {
    grade: &'static str,
    heading: String,
    what: String,
    remedy: String,
    doubts: Vec<String>,
}

/// One question and its answer.
struct Section {
    id: &'static str,
    title: &'static str,
    /// What the figure shows.
    meaning: Cow<'static, str>,
    /// What to type for its numbers.
    command: String,
    figures: Vec<Figure>,
    grids: Vec<Grid>,
    /// What is to be known of the numbers.
    notes: Vec<String>,
    /// What is said where there is nothing to show.
    nothing: &'static str,
}

impl Section {
    fn is_empty(&self) -> bool {
        self.figures.is_empty() && self.grids.iter().all(|grid| grid.rows.is_empty())
    }
}

enum Figure {
    Heat(Heat),
    Matrix(Matrix),
    Steps(Steps),
    Graph(Graph),
    Bars(Bars),
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// A trace that cannot be believed; the file cannot be written.
    pub fn run(&self) -> Result<(), Error> {
        let opened = self.which.open()?;
        let page = Page::new(&opened)?.render().map_err(io::Error::other)?;
        let mut out = Output::new(self.output.as_deref(), &opened.traces)?;
        out.write_all(page.as_bytes())?;
        out.finish()?;
        let Some(path) = &self.output else { return Ok(()) };
        let size = human::bytes(page.len() as u64);
        anstream::eprintln!("{}: {size}; open it in a browser", path.display());
        Ok(())
    }
}

/// The answers of all commands, of which the page is made.
struct Answers {
    latency: Collected,
    failures: Collected,
    contention: Collected,
    deadlocks: Collected,
    /// The moment of which they tell; `None`: the end.
    deadlocks_at_ns: Option<i64>,
    queues: Collected,
    leaks: Collected,
    signals: Collected,
    findings: Vec<Finding>,
    before_trace: u64,
}

impl Answers {
    fn ask(opened: &Opened) -> Result<Answers, Error> {
        let mut findings = Vec::new();
        let mut keep = |mut answer: Answer<'_>| {
            findings.append(&mut answer.findings);
            Collected::new(answer)
        };
        let latency = latency::ask(&opened.traces, &opened.selection, &[Dimension::Syscall])?;
        let before_trace = latency.before_trace;
        let latency = keep(Answer { tables: vec![latency.table()], ..Answer::default() })?;
        let failures = keep(default_of::<Failures>()?.ask(opened)?)?;
        let contention = keep(default_of::<Contention>()?.ask(opened)?)?;
        let answer = default_of::<Deadlocks>()?.ask(opened)?;
        let newest = answer.findings.iter().filter_map(|finding| finding.since_ns).max();
        let mut circles = keep(answer)?;
        // A circle that ended before the recording did is drawn as it was.
        let deadlocks_at_ns = newest.filter(|_| Graph::new(&circles).is_none()).map(deadlocks::seen_at_ns);
        if let Some(ns) = deadlocks_at_ns {
            circles = Collected::new(Deadlocks::at(ns).ask(opened)?)?;
        }
        let queues = keep(default_of::<Queues>()?.ask(opened)?)?;
        let leaks = keep(default_of::<Leaks>()?.ask(opened)?)?;
        keep(default_of::<Races>()?.ask(opened)?)?;
        let signals = keep(default_of::<Signals>()?.ask(opened)?)?;
        finding::sort(&mut findings);
        Ok(Answers {
            latency,
            failures,
            contention,
            deadlocks: circles,
            deadlocks_at_ns,
            queues,
            leaks,
            signals,
            findings,
            before_trace,
        })
    }
}

/// The question as it is asked without options.
fn default_of<Q: Args>() -> Result<Q, Error> {
    let command = Q::augment_args(Command::new("question").no_binary_name(true));
    let matches = command.try_get_matches_from([] as [&str; 0]);
    let question = matches.and_then(|matches| Q::from_arg_matches(&matches));
    question.map_err(|error| Error::Usage(error.to_string()))
}

impl Page {
    fn new(opened: &Opened) -> Result<Page, Error> {
        let names: Vec<String> = opened.traces.iter().map(|trace| human::escape(&trace.name())).collect();
        let trace = names.join(" ");
        let answers = Answers::ask(opened)?;
        let marks = opened.marks(answers.before_trace);
        let marked = |mark: &Mark| Marked { is_loss: mark.severity == Severity::Loss, text: mark.text.clone() };
        Ok(Page {
            title: match names.as_slice() {
                [one] => format!("IPC of {one}"),
                several => format!("IPC of {} traces", several.len()),
            },
            version: env!("CARGO_PKG_VERSION"),
            facts: facts(opened),
            marks: marks.iter().map(marked).collect(),
            findings: answers.findings.iter().map(|finding| Found::new(finding, opened)).collect(),
            sections: sections(opened, &answers, &trace)?,
        })
    }
}

/// What was recorded, where, and for how long.
fn facts(opened: &Opened) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    for trace in &opened.traces {
        let session = &trace.manifest.session;
        let took = human::duration(session.end_ns.saturating_sub(session.start_ns).into());
        facts.push(("trace", format!("{} ({})", trace.name(), trace.manifest.trace_id)));
        facts.push(("recorded", format!("{}, {took}", human::instant(session.start_ns, Zone::Utc))));
        facts.push(("host", format!("{}, {} {}", session.host, session.kernel, session.arch)));
        facts.extend(session.command.clone().map(|command| ("command", command)));
    }
    if !opened.selection.is_everything() {
        // As it was typed: the numbers of the commands below are those of the same filters.
        let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        facts.push(("asked", format!("only some calls, by the filters of: ipc-analyzer {}", words.join(" "))));
    }
    facts.into_iter().map(|(name, text)| (name, human::escape(&text))).collect()
}

impl Found {
    fn new(finding: &Finding, opened: &Opened) -> Found {
        Found {
            grade: finding.grade.name(),
            heading: finding.heading(&opened.traces, Zone::Utc),
            what: human::escape(&finding.what),
            remedy: human::escape(&finding.remedy),
            doubts: finding.doubts.iter().map(|doubt| human::escape(doubt)).collect(),
        }
    }
}

/// The limits that were hit and the permissions that were lacking, with what helps.
fn limits(findings: &[Finding]) -> Grid {
    let is_failure = |finding: &&Finding| matches!(finding.kind, "limit" | "permission");
    let row =
        |finding: &Finding| vec![finding.kind.to_owned(), human::escape(&finding.what), human::escape(&finding.remedy)];
    Grid {
        title: "Limits and permissions".to_owned(),
        columns: ["", "what happened", "what helps"].map(|name| (name, false)).to_vec(),
        rows: findings.iter().filter(is_failure).map(row).collect(),
        more: 0,
    }
}

fn sections(opened: &Opened, answers: &Answers, trace: &str) -> Result<Vec<Section>, Error> {
    let scale = Scale::of(opened);
    let command = |words: &str| format!("ipc-analyzer {words} {trace}");
    let Answers { latency, failures, contention, deadlocks, queues, leaks, signals, .. } = answers;
    let heat = heat::read(opened, &scale)?.into_iter().map(Figure::Heat).collect();
    let curves = steps::read(opened, contention, &scale)?.into_iter().map(Figure::Steps).collect();
    let (when, asked) = match answers.deadlocks_at_ns {
        None => ("the end".to_owned(), "deadlocks".to_owned()),
        Some(ns) => (human::instant(ns, Zone::Utc), format!("deadlocks --at {}", human::rfc3339_ns(ns))),
    };
    Ok(vec![
        Section {
            id: "latency",
            title: "Latency over time",
            meaning: "Each cell: how many calls ended in that time after that long; stronger is more, on a logarithmic scale.".into(),
            command: command("latency --by syscall"),
            figures: heat,
            grids: vec![latency.grid("", 16)],
            notes: latency.notes.clone(),
            nothing: "No call was recorded.",
        },
        Section {
            id: "contention",
            title: "Who waits for whom",
            meaning: "Rows wait, columns end the wait: total time; stronger is longer.".into(),
            command: command("contention"),
            figures: Matrix::new(contention).into_iter().map(Figure::Matrix).collect(),
            grids: vec![contention.grid("semaphore", 12)],
            notes: contention.notes.clone(),
            nothing: "No call used a semaphore or a queue that is known.",
        },
        Section {
            id: "queues",
            title: "Queue depths and semaphore values",
            meaning: "Counted by the kernel where it says so, else reconstructed: from the calls in the order of their ends, and \
                      what snapshots counted.".into(),
            command: command("queues"),
            figures: curves,
            grids: vec![queues.grid("queue", 12)],
            notes: queues.notes.clone(),
            nothing: "No queue was used, and no call waited for a semaphore.",
        },
        Section {
            id: "failures",
            title: "Failures",
            meaning: "What failed, how often, at which limit, and what helps.".into(),
            command: command("failures"),
            figures: Vec::new(),
            grids: vec![limits(&answers.findings), failures.grid("failure", 20)],
            notes: failures.notes.clone(),
            nothing: "No call failed.",
        },
        Section {
            id: "deadlocks",
            title: "Who waits for ever",
            meaning: format!("Who had not got what it waits for at {when}: an arrow goes to who holds it.").into(),
            command: command(&asked),
            figures: Graph::new(deadlocks).into_iter().map(Figure::Graph).collect(),
            grids: vec![deadlocks.grid("waiter", 12)],
            notes: deadlocks.notes.clone(),
            nothing: "No call was waiting at the end.",
        },
        Section {
            id: "leaks",
            title: "What was left behind",
            meaning: "Objects that were still there at the end, and who made them.".into(),
            command: command("leaks"),
            figures: Vec::new(),
            grids: vec![leaks.grid("object", 20), leaks.grid("creator", 8)],
            notes: leaks.notes.clone(),
            nothing: "No object was left.",
        },
        Section {
            id: "signals",
            title: "Blocked signals",
            meaning: "How long signals waited because every thread they could go to blocked them, and how long threads blocked \
                      them in all.".into(),
            command: command("signals"),
            figures: bars::of_signals(signals, &scale).into_iter().map(Figure::Bars).collect(),
            grids: vec![signals.grid("pending", 12), signals.grid("blocked", 12)],
            notes: signals.notes.clone(),
            nothing: "No thread blocked a signal, or signal calls were not recorded.",
        },
    ])
}
