//! What is wrong: a signal that somebody sent waits for a mask that nobody will change.

use super::Answered;
use super::judge::Judged;
use super::pending::Fate;
use super::rows::names;
use crate::finding::{Finding, Grade};
use crate::human;
use crate::names::Processes;
use hashbrown::HashMap;

/// SIGCHLD, SIGCONT, SIGURG, SIGWINCH: who does not ask for them does not miss them; SIGKILL, SIGSTOP: not blocked.
const HARMLESS: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 27 | 1 << 8 | 1 << 18;
/// SIGHUP, SIGINT, SIGQUIT, SIGTERM: sent to end a process.
const ENDING: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14;
/// A signal that is pending when the recording ends is worth a look from here on, nanoseconds.
const CUT_SHORT_NS: i64 = 100_000_000;

/// The findings of one trace: one per target and signal.
pub fn blocked_signals(of: &Answered, processes: &Processes, doubts: &[String], pending_ns: i64) -> Vec<Finding> {
    let mut worst: HashMap<(i64, Option<i64>, i32), (&Judged, Grade)> = HashMap::new();
    for judged in &of.judged {
        let Some(grade) = grade(of, judged, pending_ns) else { continue };
        let episode = &judged.episode;
        let rank = |(judged, grade): &(&Judged, Grade)| (std::cmp::Reverse(*grade), judged.episode.length_ns());
        let entry = worst.entry((episode.process_id, episode.thread_id, episode.signal)).or_insert((judged, grade));
        if rank(&(judged, grade)) > rank(entry) {
            *entry = (judged, grade);
        }
    }
    worst.into_values().map(|(judged, grade)| finding(of, judged, grade, processes, doubts)).collect()
}

/// How sure it is that something is wrong; `None`: nothing is.
fn grade(of: &Answered, judged: &Judged, pending_ns: i64) -> Option<Grade> {
    let episode = &judged.episode;
    let is_meant = episode.bit() & !HARMLESS != 0 && !judged.is_ignored && !judged.is_awaited;
    if !is_meant || judged.is_blocked != Some(true) || !of.is_recorded {
        return None;
    }
    let length_ns = episode.length_ns();
    match episode.fate {
        Fate::Fetched => None,
        Fate::Delivered => (length_ns >= pending_ns).then_some(Grade::Suspect),
        Fate::Pending if length_ns >= pending_ns => {
            Some(if episode.is_older { Grade::Suspect } else { Grade::Certain })
        }
        // The recording ended too early to tell.
        Fate::Pending => (episode.until_ns >= of.end_ns && length_ns >= CUT_SHORT_NS).then_some(Grade::Suspect),
    }
}

fn finding(of: &Answered, judged: &Judged, grade: Grade, processes: &Processes, doubts: &[String]) -> Finding {
    let episode = &judged.episode;
    let target = processes.label(of.trace, episode.process_id);
    let mut finding = Finding {
        kind: "blocked_signal",
        grade,
        trace: of.trace,
        object: None,
        object_ref: None,
        since_ns: Some(episode.since_ns),
        what: what(of, judged, &target, processes),
        remedy: remedy(of, judged, processes),
        doubts: Vec::new(),
        evidence: judged.blocker.iter().map(|blocker| blocker.call_id).collect(),
    };
    let started_ns = processes.get(of.trace, episode.process_id).and_then(|process| process.start_ns);
    if started_ns.is_none_or(|started_ns| started_ns < of.start_ns) {
        let doubt = "it ran before the recording: a signalfd that it had then would not show";
        finding.doubt([doubt.to_owned()]);
    }
    finding.doubt(doubts.iter().cloned());
    finding
}

fn what(of: &Answered, judged: &Judged, target: &str, processes: &Processes) -> String {
    let episode = &judged.episode;
    let (signal, waited) = (names(episode.bit()), human::duration(episode.length_ns().into()));
    let by = match episode.sender {
        Some(sender) if sender == episode.process_id => ", which it sent itself".to_owned(),
        Some(sender) => format!(" from {}", processes.label(of.trace, sender)),
        None => String::new(),
    };
    let times = match episode.sent {
        0 => " from before the recording".to_owned(),
        1 => String::new(),
        times => format!(", sent {times} times"),
    };
    let who =
        if episode.thread_id.is_some() { "the thread that it is for blocks it" } else { "every thread blocks it" };
    let then = match episode.fate {
        Fate::Delivered => format!("waited {waited} to be delivered: {who}"),
        _ if episode.until_ns < of.end_ns => {
            format!("waited {waited} until its target ended: {who}, nobody fetched it")
        }
        _ => format!("has waited {waited}: {who}, nobody fetches it"),
    };
    format!("{signal} for {target}{by}{times} {then}. {}", origin(of, judged, processes))
}

/// Who blocked it.
fn origin(of: &Answered, judged: &Judged, processes: &Processes) -> String {
    let Some(blocker) = judged.blocker else {
        return "It was blocked before the recording began.".to_owned();
    };
    let thread = of.threads.get(blocker.thread_id);
    let label = thread.map_or_else(|| "?".to_owned(), |thread| processes.label(of.trace, thread.process_id));
    let before_ns = judged.episode.since_ns.saturating_sub(blocker.at_ns).max(0);
    let (call, before) = (blocker.call_id, human::duration(before_ns.into()));
    match (blocker.generations, thread.map(|thread| thread.process_id)) {
        (0, _) => format!("It blocked the signal itself, in call {call}, {before} before that."),
        (_, Some(process_id)) if process_id == judged.episode.process_id => {
            format!(
                "It inherited the mask of another of its threads, which blocked it in call {call}, {before} before."
            )
        }
        _ => format!(
            "It inherited the mask: {label} had blocked the signal in call {call}, {before} before it \
             was sent."
        ),
    }
}

fn remedy(of: &Answered, judged: &Judged, processes: &Processes) -> String {
    let inherited = judged.blocker.is_none_or(|blocker| blocker.generations > 0);
    let cure = if inherited {
        "Unblock it between fork and exec (sigprocmask, or posix_spawnattr_setsigmask)"
    } else {
        "Unblock it when the section that must not be interrupted ends (sigprocmask)"
    };
    let pid = processes.get(of.trace, judged.episode.process_id).map(|process| process.pid);
    let now = match pid {
        Some(pid) if judged.episode.bit() & ENDING != 0 && judged.episode.until_ns >= of.end_ns => {
            format!(" Until then only kill -KILL {pid} ends the process.")
        }
        _ => String::new(),
    };
    format!("{cure}, or fetch it with sigwait or a signalfd.{now}")
}
