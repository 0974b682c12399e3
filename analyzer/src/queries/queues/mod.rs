//! `queues`: how full queues were, who waited at them, and what waited in them.

mod calls;
mod depth;
mod found;
mod full;
mod known;
mod queue;
mod rows;
mod times;
mod waiting;

use super::Ask;
use crate::error::Error;
use crate::filter::{self, Selection};
use crate::human;
use crate::names::{Lifetimes, Processes, Wanted};
use crate::opened::Opened;
use crate::ordered::{self, Direction};
use crate::report::Answer;
use calls::QueueCalls;
use depth::Span;
use ipc_schema::catalogue::Family;
use known::KnownQueues;
pub use queue::SNAPSHOT_NS;
use queue::{Queue, Settings};

/// The question.
#[derive(Debug, clap::Args)]
pub struct Queues {
    /// How long a queue is full without interruption, and holds senders up, before that is a finding
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = filter::parse_duration_ns)]
    full_for: i64,

    /// How long a message waits while later ones of other types or priorities go, before that is a finding
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = filter::parse_duration_ns)]
    starving: i64,
}

/// What was found of one queue.
struct Answered {
    trace: usize,
    trace_id: String,
    object_ref: i64,
    /// msg, mq; ? if the table `lifetimes` does not have it.
    kind: String,
    object: String,
    span: Span,
    /// When the queue or the recording ended.
    end_ns: i64,
    full_ns: i64,
    queue: Queue,
}

impl Ask for Queues {
    const COMMAND: &'static str = "queues";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let mut answered = Vec::new();
        let mut closing = Vec::new();
        for trace in 0..opened.traces.len() {
            let (from_ns, to_ns) = opened.window_ns(trace);
            let settings = Settings {
                span: Span { from_ns, to_ns },
                full_ns: self.full_for,
                starving_ns: self.starving,
                changes_max: 0,
            };
            let known = KnownQueues::read(&opened.traces[trace])?;
            let (of_trace, left_out) = ask_trace(opened, trace, &known, &opened.selection, settings)?;
            answered.extend(of_trace);
            if left_out > 0 {
                let calls = human::counted(left_out.into(), "call");
                closing.push(format!("{calls} on more queues than can be told apart are left out"));
            }
        }
        name(opened, &mut answered)?;
        let findings = findings(opened, &answered, &mut closing)?;
        let tables = vec![rows::queues(&answered), rows::classes(&answered), rows::series(&answered)];
        Ok(Answer { findings, tables, closing, ..Answer::default() })
    }
}

/// The queues of a trace in the order of their numbers, and how many calls found no room.
fn ask_trace(
    opened: &Opened,
    trace: usize,
    known: &KnownQueues,
    selection: &Selection,
    settings: Settings,
) -> Result<(Vec<Answered>, u64), Error> {
    let Some(of) = opened.traces.get(trace) else { return Ok((Vec::new(), 0)) };
    let query = QueueCalls { known, settings: &settings, shards: rayon::current_num_threads() };
    let shards = ordered::fold((trace, of), selection, Direction::Forwards, &query)?;
    let left_out = shards.iter().map(|shard| shard.calls_left_out).sum();
    let mut answered: Vec<Answered> = Vec::new();
    for (object_ref, mut queue) in shards.into_iter().flat_map(|shard| shard.queues) {
        let full_ns = queue.finish(&settings);
        answered.push(Answered {
            trace,
            trace_id: of.manifest.trace_id.clone(),
            object_ref,
            kind: String::new(),
            object: String::new(),
            span: settings.span,
            end_ns: queue.end_ns(&settings),
            full_ns,
            queue,
        });
    }
    answered.sort_by_key(|of| of.object_ref);
    Ok((answered, left_out))
}

/// Changes of all queues of a trace that [`depths`] keeps, 16 bytes each.
const CHANGES_MAX: usize = 1 << 23;

/// The depth of a queue over time.
pub struct DepthCurve {
    /// The trace.
    pub trace: usize,
    /// The queue, as `--object` takes it.
    pub object: String,
    /// kernel, reconstructed, or reconstructed without anchor.
    pub how_known: &'static str,
    /// Messages, and since when, nanoseconds since the epoch.
    pub changes: Vec<(i64, i64)>,
    /// Until when the last one holds.
    pub end_ns: i64,
}

/// The depth of every queue over time, whatever calls were asked for.
///
/// # Errors
/// A part that cannot be believed.
pub fn depths(opened: &Opened) -> Result<Vec<DepthCurve>, Error> {
    let mut answered = Vec::new();
    for trace in 0..opened.traces.len() {
        let (from_ns, to_ns) = opened.span_ns(trace);
        let span = Span { from_ns, to_ns: to_ns.max(from_ns) };
        let known = KnownQueues::read(&opened.traces[trace])?;
        let changes_max = CHANGES_MAX / known.len().max(1);
        let settings = Settings { span, full_ns: i64::MAX, starving_ns: i64::MAX, changes_max };
        answered.extend(ask_trace(opened, trace, &known, &Selection::everything(), settings)?.0);
    }
    name(opened, &mut answered)?;
    let curve = |of: Answered| {
        let (trace, object, how_known) = (of.trace, of.object, of.queue.how_known());
        let (changes, is_cut_off) = of.queue.depth.into_changes();
        let last_ns = changes.last().map(|(at_ns, _)| *at_ns).filter(|_| is_cut_off);
        DepthCurve { trace, object, how_known, changes, end_ns: last_ns.unwrap_or(of.end_ns) }
    };
    Ok(answered.into_iter().map(curve).collect())
}

/// Gives the queues their names.
fn name(opened: &Opened, answered: &mut [Answered]) -> Result<(), Error> {
    let wanted: Wanted = answered.iter().map(|of| (of.trace, of.object_ref)).collect();
    let lifetimes = Lifetimes::read(&opened.traces, &wanted)?;
    for of in answered {
        of.object = lifetimes.label(of.trace, of.object_ref);
        of.kind = lifetimes.get(of.trace, of.object_ref).map_or_else(|| "?".to_owned(), |life| life.kind.clone());
    }
    Ok(())
}

fn findings(
    opened: &Opened,
    answered: &[Answered],
    closing: &mut Vec<String>,
) -> Result<Vec<crate::finding::Finding>, Error> {
    let is_wrong = |of: &&Answered| {
        of.queue.full.worst.is_some() || of.queue.waiting.classes.values().any(|class| class.worst.is_some())
    };
    let wrong: Vec<&Answered> = answered.iter().filter(is_wrong).collect();
    let users = |of: &&Answered| of.queue.users.keys().map(|id| (of.trace, *id)).collect::<Vec<_>>();
    let wanted: Wanted = wrong.iter().flat_map(users).collect();
    let processes = Processes::read(&opened.traces, &wanted)?;
    let mut findings = Vec::new();
    for trace in 0..opened.traces.len() {
        let doubts = opened.doubts(trace, &[Family::Msg, Family::Mq]);
        // A receive that was lost leaves a message behind that seems to wait for ever.
        let is_lossy = opened.losses.calls(trace) != (0, false);
        if is_lossy {
            closing.push("Calls were lost: which messages starved cannot be told".to_owned());
        }
        for of in wrong.iter().filter(|of| of.trace == trace) {
            // Who was not recorded does not change that these senders slept.
            findings.extend(found::back_pressure(of, &processes, &opened.lost(trace)));
            if !is_lossy {
                findings.extend(found::starvation(of, &processes, &doubts));
            }
        }
    }
    Ok(findings)
}
