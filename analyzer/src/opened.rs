//! What every command works on: traces that were opened, what they lost, and which calls to look at.

use crate::error::Error;
use crate::filter::{Filter, Selection};
use crate::losses::Losses;
use crate::marks;
use crate::report::{Answer, Mark, Report};
use crate::session;
use crate::trace::Trace;
use ipc_schema::catalogue::Family;
use std::collections::HashSet;
use std::path::PathBuf;

/// Opened traces.
#[derive(Debug)]
pub struct Opened {
    /// The traces, in the order of the command line.
    pub traces: Vec<Trace>,
    /// What they lost.
    pub losses: Losses,
    /// Which calls.
    pub selection: Selection,
}

impl Opened {
    /// Opens traces.
    ///
    /// # Errors
    /// A trace that cannot be believed, or one given twice.
    pub fn new(paths: &[PathBuf], filter: Filter) -> Result<Opened, Error> {
        let mut seen = HashSet::new();
        let mut traces = Vec::new();
        for path in paths {
            let trace = Trace::open(path)?;
            if !seen.insert(trace.manifest.trace_id.clone()) {
                let text = format!("{} is given twice: its calls would count twice", path.display());
                return Err(Error::Usage(text));
            }
            traces.push(trace);
        }
        session::check(&traces)?;
        let losses = Losses::read(&traces)?;
        let selection = Selection::new(filter, &traces)?;
        Ok(Opened { traces, losses, selection })
    }

    /// An answer with all that a reader must know of it.
    pub fn report<'a>(&'a self, command: &'static str, answer: Answer<'a>) -> Report<'a> {
        Report {
            command,
            traces: &self.traces,
            losses: &self.losses,
            marks: self.marks(answer.before_trace),
            findings: answer.findings,
            preface: answer.preface,
            tables: answer.tables,
            closing: answer.closing,
        }
    }

    /// What every answer must say first.
    pub fn marks(&self, before_trace: u64) -> Vec<Mark> {
        marks::marks(&self.traces, &self.losses, before_trace)
    }

    /// When a recording began and ended, nanoseconds since the epoch.
    pub fn span_ns(&self, trace: usize) -> (i64, i64) {
        self.traces.get(trace).map_or((0, 0), |t| (t.manifest.session.start_ns, t.manifest.session.end_ns))
    }

    /// What is looked at of a recording: all of it, or what `--since` and `--until` leave, nanoseconds since the epoch.
    pub fn window_ns(&self, trace: usize) -> (i64, i64) {
        let (start_ns, end_ns) = self.span_ns(trace);
        let (since_ns, until_ns) = self.selection.window_ns(trace);
        let from_ns = since_ns.map_or(start_ns, |since_ns| since_ns.clamp(start_ns, end_ns.max(start_ns)));
        (from_ns, until_ns.map_or(end_ns, |until_ns| until_ns.min(end_ns)).max(from_ns))
    }

    /// What the trace lost of its calls, and whether the question left some out.
    pub fn lost(&self, trace: usize) -> Vec<String> {
        let mut lost = self.traces.get(trace).map_or_else(Vec::new, |of| marks::lost(of, &self.losses, trace));
        if !self.selection.is_everything() {
            lost.push("only the calls asked for were looked at; ask again without filters".to_owned());
        }
        lost
    }

    /// What could change an answer about calls of `families` in a trace: losses, filters of the recording and of the
    /// question. Empty where every such call is there.
    pub fn doubts(&self, trace: usize, families: &[Family]) -> Vec<String> {
        let Some(of) = self.traces.get(trace) else { return Vec::new() };
        let mut doubts = self.lost(trace);
        doubts.extend(marks::filters(of, families));
        doubts
    }
}
