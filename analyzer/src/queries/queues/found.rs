//! What is wrong with a queue: it held senders up, or some of its messages starved.

use super::Answered;
use super::queue::{Queue, User};
use super::waiting::Starved;
use crate::finding::{EVIDENCE_MAX, Finding, Grade};
use crate::human;
use crate::names::Processes;
use std::cmp::Reverse;

/// Processes that a finding names per side.
const NAMED: usize = 2;

/// Senders slept on a queue that was full all the time.
pub fn back_pressure(of: &Answered, processes: &Processes, doubts: &[String]) -> Option<Finding> {
    let queue = &of.queue;
    let stretch = queue.full.worst?;
    let duration = |ns: i64| human::duration(ns.into());
    let again = match queue.full.qualified {
        1 => String::new(),
        several => format!(" (the longest of {several} times)"),
    };
    let what = format!(
        "Full for {} without interruption{again}: {} slept {} on average, {} in total. {} {}",
        duration(stretch.length_ns()),
        human::counted(stretch.blocked.into(), "send"),
        duration(stretch.blocked_ns / i64::try_from(stretch.blocked).unwrap_or(i64::MAX).max(1)),
        duration(stretch.blocked_ns),
        users(of, processes, "send", |user| user.sends),
        users(of, processes, "receive", |user| user.receives),
    );
    let room = match (queue.max_messages, queue.max_bytes) {
        (Some(messages), _) => format!("It takes {messages} messages (mq_maxmsg, at most fs.mqueue.msg_max)"),
        (None, Some(bytes)) => format!("It takes {bytes} bytes (msg_qbytes, at first kernel.msgmnb)"),
        (None, None) => "A larger queue".to_owned(),
    };
    let remedy = format!(
        "Receive faster or with more receivers: ipc-analyzer latency TRACE --object {} --by syscall,comm tells where \
         the time goes. {room}; more only puts it off while sending is faster than receiving.",
        of.object
    );
    let is_in = |held: &&(i64, i64, i64)| held.1 >= stretch.from_ns && held.1 <= stretch.to_ns;
    let evidence = queue.held_up.iter().filter(is_in).map(|held| held.2).take(EVIDENCE_MAX).collect();
    Some(finding(of, "back_pressure", stretch.from_ns, what, remedy, evidence, doubts))
}

/// Messages of one type or priority waited while later ones of others went.
pub fn starvation(of: &Answered, processes: &Processes, doubts: &[String]) -> Vec<Finding> {
    let mut starved: Vec<(Option<i64>, Starved, u64)> = Vec::new();
    for (class, of_class) in &of.queue.waiting.classes {
        starved.extend(of_class.worst.map(|worst| (*class, worst, of_class.starved)));
    }
    starved.sort_unstable_by_key(|(class, worst, _)| (Reverse(worst.stay_ns), *class));
    let Some((class, worst, _)) = starved.first().copied() else { return Vec::new() };
    let total: u64 = starved.iter().map(|(_, _, count)| count).sum();
    let is_mq = of.kind == "mq";
    let noun = if is_mq { "priority" } else { "type" };
    let name = class.map_or_else(|| "?".to_owned(), |class| class.to_string());
    let stay = human::duration(worst.stay_ns.into());
    let (verb, others) = if worst.is_waiting { ("has waited for", "were") } else { ("waited", "had been") };
    let what = format!(
        "A message of {noun} {name} {verb} {stay}, while messages of other {} that {others} sent later were received. In \
         all {} waited too long, of {}. {}",
        if is_mq { "priorities" } else { "types" },
        human::counted(total.into(), "message"),
        listed(noun, &starved),
        users(of, processes, "receive", |user| user.receives),
    );
    let remedy = if is_mq {
        "The highest priority always goes first: send fewer of it, receive faster, or give what must not wait a queue \
         of its own."
    } else {
        "Nobody asks for this type often enough: look which msgtyp each receiver passes (ipc-analyzer show TRACE \
         --syscall msgrcv), receive with msgtyp 0 or a negative one, or give each type a queue of its own."
    };
    let evidence = starved.iter().map(|(_, worst, _)| worst.call_id).take(EVIDENCE_MAX).collect();
    let mut found = finding(of, "starvation", worst.since_ns, what, remedy.to_owned(), evidence, doubts);
    if of.queue.waiting.forgotten > 0 {
        found.doubt(["more messages were on their way than could be remembered".to_owned()]);
    }
    vec![found]
}

/// `priority 1` or `types 7, 9`.
fn listed(noun: &str, starved: &[(Option<i64>, Starved, u64)]) -> String {
    const MOST: usize = 5;
    let names: Vec<String> =
        starved.iter().take(MOST).map(|(class, ..)| class.map_or_else(|| "?".to_owned(), |c| c.to_string())).collect();
    let more = if starved.len() > MOST { format!(" and {} more", starved.len() - MOST) } else { String::new() };
    format!("{noun} {}{more}", names.join(", "))
}

fn finding(
    of: &Answered,
    kind: &'static str,
    since_ns: i64,
    what: String,
    remedy: String,
    evidence: Vec<i64>,
    doubts: &[String],
) -> Finding {
    let mut finding = Finding {
        kind,
        grade: Grade::Certain,
        trace: of.trace,
        object: Some(of.object.clone()),
        object_ref: Some(of.object_ref),
        since_ns: Some(since_ns),
        what,
        remedy,
        doubts: Vec::new(),
        evidence,
    };
    finding.doubt(doubts.iter().cloned());
    finding
}

/// The busiest processes of a side, with how often they did it.
fn users(of: &Answered, processes: &Processes, verb: &str, moved: impl Fn(&User) -> u64) -> String {
    let mut users: Vec<(i64, u64)> = busiest(&of.queue, &moved);
    let total = users.len();
    users.truncate(NAMED);
    let named = users.iter().map(|(process_id, count)| {
        let rate = rate(*count, of.queue.depth.known_ns);
        format!("{} {verb}s {rate}", processes.label(of.trace, *process_id))
    });
    let named: Vec<String> = named.collect();
    match total {
        0 => format!("Nobody {verb}s."),
        total if total > NAMED => format!("{}, {} more {verb}.", named.join(", "), total - NAMED),
        _ => format!("{}.", named.join(", ")),
    }
}

/// The processes of a side by how much they moved.
pub fn busiest(queue: &Queue, moved: impl Fn(&User) -> u64) -> Vec<(i64, u64)> {
    let mut users: Vec<(i64, u64)> = queue.users.iter().map(|(process_id, user)| (*process_id, moved(user))).collect();
    users.retain(|(_, count)| *count > 0);
    users.sort_unstable_by_key(|(process_id, count)| (Reverse(*count), *process_id));
    users
}

/// `120 a second`, `3 in 12.0 s`.
fn rate(count: u64, known_ns: i64) -> String {
    let per_second = i128::from(count) * 1_000_000_000 / i128::from(known_ns.max(1));
    if per_second >= 10 {
        return format!("{} a second", human::count(per_second));
    }
    format!("{} in {}", human::counted(count.into(), "message"), human::duration(known_ns.into()))
}
