//! The command line.

use crate::error::Error;
use crate::export::Export;
use crate::filter::{Filter, Moment, ObjectPattern, parse_syscall};
use crate::finding;
use crate::groups::Dimension;
use crate::human::{self, Zone};
use crate::opened::Opened;
use crate::page;
use crate::queries::Ask;
use crate::queries::contention::Contention;
use crate::queries::deadlocks::Deadlocks;
use crate::queries::diff::Diff;
use crate::queries::failures::Failures;
use crate::queries::leaks::Leaks;
use crate::queries::objects::Objects;
use crate::queries::queues::Queues;
use crate::queries::races::Races;
use crate::queries::signals::Signals;
use crate::queries::{latency, show, summary, verify};
use crate::render::{self, Format, Output};
use crate::repair;
use crate::report::{Answer, Severity};
use crate::views::Views;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ipc_schema::command_line;
use std::path::{Path, PathBuf};

/// Answers questions from IPC traces recorded by ipc-recorder: on any machine, without root.
#[derive(Debug, Parser)]
#[command(name = "ipc-analyzer", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ipc-analyzer summary TRACE                          what happened, what failed, what was lost
  ipc-analyzer latency TRACE --by syscall,comm        where the time goes
  ipc-analyzer deadlocks TRACE                        who waits for ever, and how sure that is
  ipc-analyzer failures TRACE --since -10s            what failed, at which limit, what to do
  ipc-analyzer contention TRACE --object sem:5        who waits for whom at one semaphore
  ipc-analyzer show TRACE --pid 1234 --limit 20       calls as strace prints them
  ipc-analyzer latency TRACE --format json | jq '.rows[0]'
  ipc-analyzer verify TRACE                           is the copy whole?

Exit codes: 0 done, 1 error or a finding under --check, 2 usage, 3 trace unreadable, damaged, or incomplete under --strict";

#[derive(Debug, Subcommand)]
enum Command {
    /// What was recorded and what happened: losses first, then operations, errors, processes
    #[command(after_help = SUMMARY_EXAMPLES)]
    Summary(Common),
    /// How long calls took: count, total, mean, percentiles, maximum; open calls as lower bounds
    #[command(after_help = LATENCY_EXAMPLES)]
    Latency {
        /// What to group by, any combination
        #[arg(long, value_delimiter = ',', default_value = "syscall", value_name = "KEY,...")]
        by: Vec<Dimension>,
        #[command(flatten)]
        common: Common,
    },
    /// What failed: errno by call, object and process; the limit that was hit, its usage then, the remedy
    #[command(after_help = FAILURES_EXAMPLES)]
    Failures(Asked<Failures>),
    /// Who waits for whom: waits, hand-offs, waiter and waker, hold times, convoys, per semaphore and queue
    #[command(after_help = CONTENTION_EXAMPLES)]
    Contention(Asked<Contention>),
    /// Who waits for ever: circles of open calls over semaphores and queues, with the evidence
    #[command(after_help = DEADLOCKS_EXAMPLES)]
    Deadlocks(Asked<Deadlocks>),
    /// How full queues were: depth over time, blocked senders and receivers, residence, starvation
    #[command(after_help = QUEUES_EXAMPLES)]
    Queues(Asked<Queues>),
    /// What was left behind: objects that outlive their creators, semaphores that dead processes hold
    #[command(after_help = LEAKS_EXAMPLES)]
    Leaks(Asked<Leaks>),
    /// What happened in a wrong order: use before initialisation, re-initialisation under waiters, use after removal
    #[command(after_help = RACES_EXAMPLES)]
    Races(Asked<Races>),
    /// Which signals were blocked, for how long, and which waited meanwhile
    #[command(after_help = SIGNALS_EXAMPLES)]
    Signals(Asked<Signals>),
    /// The story of each object: made, used and removed by whom; processes by objects
    #[command(after_help = OBJECTS_EXAMPLES)]
    Objects(Asked<Objects>),
    /// What changed from one trace to another: latency, failures, contention
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Asked<Diff>),
    /// One line per call, in the order in which they ended
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Print each line when its time has come, as it happened
        #[arg(long)]
        realtime: bool,
        #[command(flatten)]
        common: Common,
    },
    /// One HTML file to look at: findings, latency over time, who waits for whom, depths, deadlocks, leaks, signals
    Report(page::Report),
    /// Traces in the forms of other tools
    Export(Export),
    /// The analyses as SQL views, for DuckDB and Spark: over traces, or over a lake of many machines' traces
    Views(Views),
    /// Check that the files are whole and agree with each other
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Common),
    /// Complete what a crash left: what stands in the log of a trace becomes parts, in place
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair {
        /// Directories written by `ipc-recorder record -o`
        #[arg(required = true, value_name = "TRACE")]
        traces: Vec<PathBuf>,
    },
    /// Print what makes a shell complete the words of this command line
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Whose
        shell: Shell,
    },
    /// Write the man pages and shell completions of this program into a folder
    #[command(hide = true)]
    Pages { folder: PathBuf },
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(ipc-analyzer completions bash)             for this shell
  ipc-analyzer completions fish > ~/.config/fish/completions/ipc-analyzer.fish";

const SUMMARY_EXAMPLES: &str = "\
Examples:
  ipc-analyzer summary TRACE                          losses, operations, errors, processes
  ipc-analyzer summary web1 web2 db1 --format json    of several machines together";

const FAILURES_EXAMPLES: &str = "\
Examples:
  ipc-analyzer failures TRACE                         which limit was hit, and what helps
  ipc-analyzer failures TRACE --syscall %shm --check  exit with 1 if an allocation failed";

const CONTENTION_EXAMPLES: &str = "\
Examples:
  ipc-analyzer contention TRACE                       the busiest semaphores, and who woke whom
  ipc-analyzer contention TRACE --only pairs --pairs comm
  ipc-analyzer contention TRACE --convoy-waiters 5 --convoy-for 200ms";

const DEADLOCKS_EXAMPLES: &str = "\
Examples:
  ipc-analyzer deadlocks TRACE                        circles, and what would end them
  ipc-analyzer deadlocks TRACE --check                exit with 1 if there is one";

const QUEUES_EXAMPLES: &str = "\
Examples:
  ipc-analyzer queues TRACE --object mq:/jobs         one queue
  ipc-analyzer queues TRACE --full-for 100ms          what held senders up for as long";

const LEAKS_EXAMPLES: &str = "\
Examples:
  ipc-analyzer leaks TRACE                            left behind, and by whom
  ipc-analyzer leaks TRACE --unused-for 10m           only what nobody used for as long";

const RACES_EXAMPLES: &str = "\
Examples:
  ipc-analyzer races TRACE                            what happened in a wrong order
  ipc-analyzer races TRACE --object sem:key=0x51      to one semaphore set";

const SIGNALS_EXAMPLES: &str = "\
Examples:
  ipc-analyzer signals TRACE --pid 4711               why SIGTERM does nothing
  ipc-analyzer signals TRACE --pending-for 100ms      what waited for as long";

const OBJECTS_EXAMPLES: &str = "\
Examples:
  ipc-analyzer objects TRACE --object shm:7           its story
  ipc-analyzer objects TRACE --format csv             processes by objects, for a spreadsheet";

const DIFF_EXAMPLES: &str = "\
Examples:
  ipc-analyzer diff BEFORE AFTER                      did the deploy do it?
  ipc-analyzer diff BEFORE AFTER --check --comm worker";

const VERIFY_EXAMPLES: &str = "\
Examples:
  ipc-analyzer verify TRACE && rm -r ORIGINAL         is the copy whole?";

const SHOW_EXAMPLES: &str = "\
Examples:
  ipc-analyzer show TRACE --object sem:5 --since -1s  the last second of one semaphore set
  ipc-analyzer show TRACE --realtime                  as it happened
  ipc-analyzer show TRACE --format jsonl | jq 'select(.wait_ns > 1e9)'";

const REPAIR_EXAMPLES: &str = "\
Examples:
  ipc-analyzer repair TRACE                           after a crash or a power cut; other commands read it as it is";

const LATENCY_EXAMPLES: &str = "\
Examples:
  ipc-analyzer latency TRACE                          by operation
  ipc-analyzer latency TRACE --by object,syscall      which semaphore set, segment or queue
  ipc-analyzer latency TRACE --by syscall,error       what failing calls cost
  ipc-analyzer latency A B --by comm --format csv     several traces together";

/// Which calls of which traces.
#[derive(Debug, Args)]
pub struct Which {
    /// Directories written by `ipc-recorder record -o`, or tars written by `ipc-recorder pack`
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,

    /// Only calls that end at or after this: RFC 3339, +5s after the start, -10m before the end
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = Moment::parse, help_heading = "Which calls")]
    since: Option<Moment>,

    /// Only calls that start before this: RFC 3339, +5s, -10m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = Moment::parse, help_heading = "Which calls")]
    until: Option<Moment>,

    /// Only calls of these processes
    #[arg(long, value_name = "PID,...", value_delimiter = ',', help_heading = "Which calls")]
    pid: Vec<i32>,

    /// Only calls of threads with these names
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = "Which calls")]
    comm: Vec<String>,

    /// Only these operations: names, or families %sem %shm %msg %mq %sig
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = parse_syscall, help_heading = "Which calls")]
    syscall: Vec<Operations>,

    /// Only calls on these objects: sem:ID, shm:ID, msg:key=0x51, mq:/name, each with @IPC_NAMESPACE if needed
    #[arg(long, value_name = "OBJECT,...", value_delimiter = ',', value_parser = ObjectPattern::parse, help_heading = "Which calls")]
    object: Vec<ObjectPattern>,
}

impl Which {
    /// Opens the traces.
    ///
    /// # Errors
    /// As of [`Opened::new`].
    pub fn open(&self) -> Result<Opened, Error> {
        let filter = Filter {
            since: self.since,
            until: self.until,
            pids: self.pid.clone(),
            comms: self.comm.clone(),
            syscalls: self.syscall.iter().flatten().copied().collect(),
            objects: self.object.clone(),
        };
        Opened::new(&self.traces, filter)
    }
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    which: Which,

    /// The form of the answer
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: Format,

    /// At most so many rows of each table; 0: all
    #[arg(long, value_name = "ROWS", help_heading = "Output")]
    limit: Option<usize>,

    /// The zone of times in text
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    tz: Zone,

    /// Exit with 3 if anything was lost or the trace is incomplete
    #[arg(long, help_heading = "Output")]
    strict: bool,
}

/// The operations that one value of `--syscall` stands for.
type Operations = Vec<&'static str>;

impl Common {
    fn output(&self) -> Output {
        Output { format: self.format, zone: self.tz, limit: self.limit }
    }

    fn open(&self) -> Result<Opened, Error> {
        self.which.open()
    }

    /// Under `--strict` an answer that something lost could change is no answer.
    fn strict(&self, opened: &Opened) -> Result<(), Error> {
        let loss = opened.marks(0).into_iter().find(|mark| mark.severity == Severity::Loss);
        match loss {
            Some(mark) if self.strict => Err(Error::Strict(mark.text)),
            _ => Ok(()),
        }
    }
}

/// A command that looks for something wrong.
#[derive(Debug, Args)]
struct Asked<C: Ask> {
    #[command(flatten)]
    question: C,

    /// Exit with 1 if anything is found that is certain or likely
    #[arg(long, help_heading = "Output")]
    check: bool,

    #[command(flatten)]
    common: Common,
}

impl<C: Ask> Asked<C> {
    fn run(&self) -> Result<(), Error> {
        let opened = self.common.open()?;
        let mut answer = self.question.ask(&opened)?;
        finding::sort(&mut answer.findings);
        let alarms = answer.findings.iter().filter(|finding| finding.is_alarm()).count();
        render::write(opened.report(C::COMMAND, answer), self.common.output())?;
        self.common.strict(&opened)?;
        if self.check && alarms > 0 {
            return Err(Error::Found(human::counted(alarms as i128, "finding")));
        }
        Ok(())
    }
}

/// Runs the command that the arguments ask for.
///
/// # Errors
/// What ended it early.
pub fn run() -> Result<(), Error> {
    let cli: Cli = command_line::parse().map_err(Error::Usage)?;
    match cli.command {
        Command::Summary(common) => run_summary(&common),
        Command::Latency { by, common } => run_latency(&by, &common),
        Command::Show { realtime, common } => run_show(realtime, &common),
        Command::Failures(asked) => asked.run(),
        Command::Contention(asked) => asked.run(),
        Command::Deadlocks(asked) => asked.run(),
        Command::Queues(asked) => asked.run(),
        Command::Leaks(asked) => asked.run(),
        Command::Races(asked) => asked.run(),
        Command::Signals(asked) => asked.run(),
        Command::Objects(asked) => asked.run(),
        Command::Diff(asked) => asked.run(),
        Command::Report(report) => report.run(),
        Command::Export(export) => export.run(),
        Command::Views(views) => views.run(),
        Command::Verify(common) => run_verify(&common),
        Command::Completions { shell } => {
            command_line::completions::<Cli>(shell);
            Ok(())
        }
        Command::Pages { folder } => command_line::pages::<Cli>(&folder).map_err(Error::Output),
        Command::Repair { traces } => traces.iter().try_for_each(|trace| run_repair(trace)),
    }
}

fn run_summary(common: &Common) -> Result<(), Error> {
    let opened = common.open()?;
    let summary = summary::ask(&opened.traces, &opened.selection)?;
    let answer = Answer {
        preface: summary::preface(&opened.traces, &opened.losses, common.output()),
        tables: summary.tables(&opened.traces),
        before_trace: summary.before_trace,
        ..Answer::default()
    };
    render::write(opened.report("summary", answer), common.output())?;
    common.strict(&opened)
}

fn run_latency(by: &[Dimension], common: &Common) -> Result<(), Error> {
    let opened = common.open()?;
    let mut keys = by.to_vec();
    keys.sort_by_key(|key| by.iter().position(|k| k == key));
    keys.dedup();
    let latency = latency::ask(&opened.traces, &opened.selection, &keys)?;
    let closing = if common.format == Format::Text { latency.bars() } else { Vec::new() };
    let before_trace = latency.before_trace;
    let answer = Answer { tables: vec![latency.table()], closing, before_trace, ..Answer::default() };
    render::write(opened.report("latency", answer), common.output())?;
    common.strict(&opened)
}

fn run_show(realtime: bool, common: &Common) -> Result<(), Error> {
    let opened = common.open()?;
    if common.format == Format::Text || realtime {
        if common.format != Format::Text {
            return Err(Error::Usage("--realtime prints text: leave out --format".to_owned()));
        }
        render::write_marks_to_stderr(&opened.marks(0));
        let lines = show::Lines { zone: common.tz, realtime, limit: common.limit };
        show::write_lines(&opened.traces, &opened.selection, lines)?;
    } else {
        let answer = Answer { tables: vec![show::table(&opened.traces, &opened.selection)?], ..Answer::default() };
        render::write(opened.report("show", answer), common.output())?;
    }
    common.strict(&opened)
}

fn run_repair(path: &Path) -> Result<(), Error> {
    let name = path.display();
    let Some(repaired) = repair::repair(path)? else {
        anstream::eprintln!("{name}: nothing to repair");
        return Ok(());
    };
    repaired.damage.iter().for_each(|what| anstream::eprintln!("{name}: {what}"));
    let calls = human::counted(repaired.calls.into(), "call");
    anstream::eprintln!("{name}: {calls} of its log are in parts now; next: ipc-analyzer summary {name}");
    Ok(())
}

fn run_verify(common: &Common) -> Result<(), Error> {
    let opened = common.open()?;
    if !opened.selection.is_everything() {
        return Err(Error::Usage("verify looks at the whole trace: leave out the filters".to_owned()));
    }
    let mut checks = Vec::new();
    for (i, trace) in opened.traces.iter().enumerate() {
        checks.extend(verify::ask(trace, &opened.losses, i)?.into_iter().map(|check| (i, check)));
    }
    let answer = Answer { tables: vec![verify::table(&opened.traces, &checks)], ..Answer::default() };
    render::write(opened.report("verify", answer), common.output())?;
    let faults = checks.iter().filter(|(_, check)| check.faults > 0);
    let damaged: Vec<String> = faults.map(|(_, check)| format!("{} ({})", check.rule, check.detail)).collect();
    if !damaged.is_empty() {
        return Err(Error::Check(format!("damaged: {}", damaged.join("; "))));
    }
    common.strict(&opened)
}
