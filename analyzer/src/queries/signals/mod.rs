//! `signals`: which signals were blocked, for how long, and which waited meanwhile.

mod calls;
mod found;
mod judge;
mod masks;
mod pending;
mod rows;
mod threads;

use super::Ask;
use crate::batch::Batch;
use crate::error::Error;
use crate::filter;
use crate::human;
use crate::names::{Processes, Wanted};
use crate::opened::Opened;
use crate::ordered::{self, Direction};
use crate::report::Answer;
use crate::scan;
use crate::trace::Trace;
use calls::{Shard, SignalCalls};
use hashbrown::HashSet;
use ipc_schema::catalogue::Family;
use ipc_schema::tables;
use judge::{Judged, Questions};
use masks::Blocked;
use pending::Pending;
use threads::Threads;

/// The question.
#[derive(Debug, clap::Args)]
pub struct Signals {
    /// How long a signal waits because it is blocked, before that is a finding
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = filter::parse_duration_ns)]
    pending_for: i64,
}

/// What was found in one trace.
struct Answered {
    trace: usize,
    trace_id: String,
    start_ns: i64,
    end_ns: i64,
    /// Whether masks and signals were recorded at all.
    is_recorded: bool,
    threads: Threads,
    /// Thread (`None`: several that ended), how many threads, set of signals, what they have in common.
    blocked: Vec<(Option<i64>, u64, u64, Blocked)>,
    judged: Vec<Judged>,
}

impl Ask for Signals {
    const COMMAND: &'static str = "signals";

    fn ask<'a>(&self, opened: &'a Opened) -> Result<Answer<'a>, Error> {
        let mut answered = Vec::new();
        let mut closing = Vec::new();
        for (number, trace) in opened.traces.iter().enumerate() {
            answered.push(ask_trace(opened, (number, trace), &mut closing)?);
        }
        let processes = Processes::read(&opened.traces, &wanted(&answered))?;
        let mut findings = Vec::new();
        for of in &answered {
            findings.extend(found::blocked_signals(of, &processes, &doubts(opened, of.trace), self.pending_for));
        }
        let tables = vec![rows::pending(&answered, &processes), rows::blocked(&answered)];
        Ok(Answer { findings, tables, closing, ..Answer::default() })
    }
}

/// What could change a finding. Whom the recording followed cannot: of a process that it did not follow no mask is known.
fn doubts(opened: &Opened, trace: usize) -> Vec<String> {
    let filters = opened.traces.get(trace).map(|of| &of.manifest.session.filters);
    let only_followed = filters.is_some_and(|filters| {
        filters.comms.is_empty()
            && filters.cgroups.is_empty()
            && filters.syscalls.is_empty()
            && filters.min_duration_ns.is_none()
    });
    if only_followed { opened.lost(trace) } else { opened.doubts(trace, &[Family::Sig]) }
}

fn ask_trace(opened: &Opened, trace: (usize, &Trace), closing: &mut Vec<String>) -> Result<Answered, Error> {
    let (number, of) = trace;
    let span = opened.span_ns(number);
    let recorded = &of.manifest.session.filters.syscalls;
    let is_recorded = recorded.is_empty() || recorded.iter().any(|operation| operation == "sigprocmask");
    let threads = Threads::read(of)?;
    // Without masks only the signals that ended waits were recorded, and no deliveries: all would seem to be pending.
    let mut pending = if is_recorded { Pending::read(trace, &threads, span)? } else { Pending::default() };
    let episodes = std::mem::take(&mut pending.episodes);
    let questions = Questions::new(&episodes, &threads);
    let shards = rayon::current_num_threads();
    let query = SignalCalls { threads: &threads, interest: &questions.interest, span, shards };
    let mut shards = ordered::fold(trace, &opened.selection, Direction::Forwards, &query)?;
    query.finish(&mut shards);
    let executed = executed(of, &questions.interest.processes)?;
    let blocked = blocked(opened, &mut shards, &query);
    let judged = questions.judge(episodes, shards, &threads, &executed);
    closing.extend(notes(is_recorded, &pending, &threads));
    let trace_id = of.manifest.trace_id.clone();
    Ok(Answered { trace: number, trace_id, start_ns: span.0, end_ns: span.1, is_recorded, threads, blocked, judged })
}

/// What a reader must know of these rows.
fn notes(is_recorded: bool, pending: &Pending, threads: &Threads) -> Vec<String> {
    let mut notes = Vec::new();
    if !is_recorded {
        notes.push("Masks and signals were not recorded: record with --syscall %sig".to_owned());
    }
    if pending.left_out > 0 {
        let signals = human::counted(pending.left_out.into(), "signal");
        notes.push(format!("{signals} that waited for less are in no row"));
    }
    if threads.left_out > 0 {
        let threads = human::counted(threads.left_out.into(), "thread");
        notes.push(format!("{threads} more than can be told apart are in no row"));
    }
    notes
}

/// Which of these processes called execve.
fn executed(trace: &Trace, processes: &HashSet<i64>) -> Result<HashSet<i64>, Error> {
    let read = |batch: &Batch, found: &mut Vec<i64>| {
        let ids = batch.int64("process_id")?;
        found.extend(ids.values().iter().filter(|id| processes.contains(*id)));
        Ok(())
    };
    let found = scan::collect(std::slice::from_ref(trace), &tables::EXECS, &["process_id"], read)?;
    Ok(found.into_iter().collect())
}

/// What all threads blocked: those that made calls about it, those that let go, and those that only inherited a mask.
fn blocked(opened: &Opened, shards: &mut [Shard], query: &SignalCalls<'_>) -> Vec<(Option<i64>, u64, u64, Blocked)> {
    let mut rows = Vec::new();
    let mut followed: HashSet<i64> = HashSet::new();
    let mut add = |thread_id: i64, mask: masks::Mask| {
        let exit_ns = query.threads.get(thread_id).and_then(|thread| thread.exit_ns);
        for (set, mut blocked) in mask.finish(exit_ns.unwrap_or(query.span.1)) {
            // Who has ended blocks nothing any more.
            blocked.since_ns = blocked.since_ns.filter(|_| exit_ns.is_none());
            rows.push((Some(thread_id), 1, set, blocked));
        }
    };
    let mut ended = Vec::new();
    for shard in shards {
        for (thread_id, thread) in std::mem::take(&mut shard.threads) {
            followed.insert(thread_id);
            add(thread_id, thread.mask);
        }
        ended.extend(
            std::mem::take(&mut shard.ended).into_iter().map(|(set, (threads, blocked))| (None, threads, set, blocked)),
        );
    }
    // With filters only threads that made calls are known to be asked for.
    if opened.selection.is_everything() && ended.is_empty() {
        for (thread_id, _) in
            query.threads.iter().filter(|(id, t)| t.mask.is_some_and(|m| m != 0) && !followed.contains(id))
        {
            add(thread_id, query.begin(thread_id).mask);
        }
    }
    rows.extend(ended);
    rows
}

/// Those that the answer names: targets, senders, blockers.
fn wanted(answered: &[Answered]) -> Wanted {
    let mut wanted = Wanted::default();
    for of in answered {
        for judged in of.judged.iter().filter(|judged| judged.is_blocked != Some(false)) {
            wanted.insert((of.trace, judged.episode.process_id));
            wanted.extend(judged.episode.sender.map(|sender| (of.trace, sender)));
            let blocker = judged.blocker.and_then(|blocker| of.threads.get(blocker.thread_id));
            wanted.extend(blocker.map(|thread| (of.trace, thread.process_id)));
        }
    }
    wanted
}
