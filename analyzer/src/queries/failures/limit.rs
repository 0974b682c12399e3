//! Findings `limit`: which limit a failure means, how much of it was in use, who holds it, and how to raise it.

use super::groups::Failures;
use super::holders::{self, Held};
use super::incidents::{Incident, IncidentQuery, Place, needs};
use super::rules::{Limit, REMEDIES, RULES, Rule, SEM, Scope, Takes};
use super::values::{self, Asked, Usage, Values};
use crate::error::Error;
use crate::finding::{Finding, Grade};
use crate::human;
use crate::names::{Processes, Wanted};
use crate::opened::Opened;
use crate::scan;
use std::cmp::Reverse;

/// Findings of this kind that are told; the last one says how many more there are.
const FINDINGS_MAX: usize = 100;
/// A snapshot so near to the failure shows what the failure saw.
const NEAR_NS: u64 = 1_000_000_000;
/// PROC_IPC_INIT_INO of linux/proc_ns.h.
const FIRST_NAMESPACE: i64 = 0xEFFF_FFFF;
/// `kernel.sem` where nobody has changed it.
const SEM_DEFAULTS: [i64; 4] = [32_000, 1_024_000_000, 500, 32_000];

/// Finds them.
///
/// # Errors
/// A part that cannot be believed.
pub fn find(opened: &Opened, failed: &Failures) -> Result<Vec<Finding>, Error> {
    let is_meant = |rule: &Rule| {
        failed.codes.all().iter().any(|code| {
            let (syscall, error) = failed.names(code);
            rule.concerns(syscall, error)
        })
    };
    if !RULES.iter().any(is_meant) {
        return Ok(Vec::new());
    }
    let of_namespaces = RULES.iter().flat_map(|rule| rule.limits).filter(|limit| limit.scope == Scope::Namespace);
    let names: Vec<&'static str> = of_namespaces.map(|limit| limit.name).collect();
    let values = Values::read(&opened.traces, &names)?;
    let found = scan::fold(&opened.traces, &opened.selection, &IncidentQuery { values: &values })?;
    let mut incidents: Vec<(Place, Incident)> = found.into_iter().collect();
    incidents.sort_unstable_by_key(|(place, incident)| (Reverse(incident.calls), *place));
    let more = incidents.split_off(incidents.len().min(FINDINGS_MAX));
    let background = Background::read(opened, values, &incidents)?;
    let mut findings: Vec<Finding> =
        incidents.iter().enumerate().map(|(i, (place, incident))| background.finding(i, place, incident)).collect();
    findings.extend(rest(&more));
    Ok(findings)
}

/// What stands for those that are not told.
fn rest(more: &[(Place, Incident)]) -> Option<Finding> {
    let (place, incident) = more.first()?;
    let calls: u64 = more.iter().map(|(_, incident)| incident.calls).sum();
    let what =
        format!("{} more failed at limits in {} other places.", human::counted(calls.into(), "call"), more.len());
    let remedy = "Ask for less: ipc-analyzer failures TRACE --syscall NAME --pid PID".to_owned();
    Some(Finding {
        kind: "limit",
        grade: Grade::Likely,
        trace: place.trace,
        object: None,
        object_ref: None,
        since_ns: Some(incident.first.end_ns),
        what,
        remedy,
        doubts: Vec::new(),
        evidence: Vec::new(),
    })
}

/// What is known of a limit when a call failed.
#[derive(Clone, Copy, Debug)]
struct State {
    limit: &'static Limit,
    value: Option<i64>,
    usage: Option<Usage>,
    /// What of it the first call asked for.
    needs: Option<i64>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was used up, or asked too much of.
    Met,
    /// There was room.
    Room,
    /// Nothing tells.
    Unknown,
}

/// All that bears on the incidents.
struct Background {
    values: Values,
    /// Per incident and limit: by namespace, process or machine; and by user.
    usages: Vec<Option<Usage>>,
    held: Vec<Held>,
    processes: Processes,
}

/// Questions about usage per incident: two for each of two limits.
const QUESTIONS: usize = 4;

impl Background {
    fn read(opened: &Opened, values: Values, incidents: &[(Place, Incident)]) -> Result<Background, Error> {
        let traces = &opened.traces;
        let usages =
            values::nearest(traces, &incidents.iter().flat_map(|(p, i)| usage_questions(p, i)).collect::<Vec<_>>())?;
        let asked: Vec<holders::Asked> =
            incidents.iter().map(|(place, incident)| held_question(place, incident)).collect();
        let held = holders::read(traces, &asked)?;
        let mut wanted = Wanted::new();
        for ((place, incident), held) in incidents.iter().zip(&held) {
            wanted.insert((place.trace, incident.first.process_id));
            wanted.extend(held.makers.iter().map(|(maker, _)| (place.trace, *maker)));
        }
        Ok(Background { values, usages, held, processes: Processes::read(traces, &wanted)? })
    }

    fn finding(&self, number: usize, place: &Place, incident: &Incident) -> Finding {
        let rule = &RULES[place.rule];
        let held = &self.held[number];
        let states: Vec<State> = (0..rule.limits.len()).map(|i| self.state(number, i, place, incident)).collect();
        let is_sure = incident.is_sure || (rule.limits.iter().any(|l| l.name == "SHMMAX") && !held.has_key);
        let (meant, mut grade, doubts) = decide(&states, incident.first.end_ns);
        if !is_sure
            || meant.iter().any(|state| state.limit.takes == Takes::Unknown && state.limit.name != "RLIMIT_MEMLOCK")
        {
            grade = grade.max(Grade::Likely);
        }
        let mut finding = Finding {
            kind: "limit",
            grade,
            trace: place.trace,
            object: None,
            object_ref: None,
            since_ns: Some(incident.first.end_ns),
            what: self.what(place, incident, &meant, held),
            remedy: self.remedy(place, incident, &meant, held),
            doubts: Vec::new(),
            evidence: {
                let mut calls = incident.evidence.clone();
                calls.sort_unstable();
                calls.into_iter().map(|(_, id)| id).collect()
            },
        };
        finding.doubt(doubts);
        finding
    }

    fn state(&self, number: usize, place_of_limit: usize, place: &Place, incident: &Incident) -> State {
        let limit = &RULES[place.rule].limits[place_of_limit];
        let first = &incident.first;
        let at = number * QUESTIONS + place_of_limit * 2;
        let of = |at: usize| self.usages.get(at).copied().flatten();
        // A user's usage is nowhere but in the row of the user; the limit itself is the process's.
        let usage = match (of(at), of(at + 1)) {
            (Some(own), Some(user)) => Some(Usage { value: own.value, ..user }),
            (own, user) => own.or(user),
        };
        let needs = needs(limit.takes, &first.requests);
        let (value, verdict) = match limit.takes {
            Takes::AtMost(..) => {
                let value = first.ipc_ns.and_then(|ns| self.values.at(place.trace, ns, limit.name, first.end_ns));
                let is_beyond = incident.beyond.get(place_of_limit).is_some_and(|count| *count > 0);
                (
                    value,
                    if is_beyond {
                        Verdict::Met
                    } else if value.is_some() {
                        Verdict::Room
                    } else {
                        Verdict::Unknown
                    },
                )
            }
            Takes::Unknown => (usage.map(|usage| usage.value), Verdict::Unknown),
            _ => (usage.map(|usage| usage.value), verdict(limit, usage, needs, self.held[number].alive)),
        };
        State { limit, value, usage, needs, verdict }
    }

    fn what(&self, place: &Place, incident: &Incident, meant: &[State], held: &Held) -> String {
        let rule = &RULES[place.rule];
        let first = &incident.first;
        let times = if incident.calls == 1 { "once".to_owned() } else { format!("{} times", incident.calls) };
        let who = self.processes.label(place.trace, first.process_id);
        let others = match incident.processes.len() {
            0 | 1 => String::new(),
            n => format!(" and {} other processes", n - 1),
        };
        let call = rule.syscalls.first().map_or("a call", |name| name);
        let mut text = format!("{call} of {who}{others} failed with {} {times}: ", rule.error);
        let limits: Vec<String> = meant.iter().map(|state| describe(state, first.end_ns)).collect();
        text.push_str(&limits.join(", or "));
        if let (Scope::Namespace, Some(ipc_ns)) = (meant.first().map_or(Scope::Host, |s| s.limit.scope), first.ipc_ns) {
            text.push_str(&format!(" (IPC namespace {ipc_ns})"));
        }
        text.push('.');
        if meant.iter().any(|state| !matches!(state.limit.takes, Takes::AtMost(..) | Takes::Unknown)) {
            text.push_str(&self.holders(place.trace, held));
        }
        text
    }

    /// Who holds it, as far as the trace knows.
    fn holders(&self, trace: usize, held: &Held) -> String {
        if held.alive == 0 {
            return String::new();
        }
        let maker = |(maker, count): &(i64, u64)| format!("{count} by {}", self.processes.label(trace, *maker));
        let mut parts: Vec<String> = held.makers.iter().map(maker).collect();
        let told: u64 = held.makers.iter().map(|(_, count)| count).sum();
        let others = held.alive.saturating_sub(told).saturating_sub(held.older);
        parts.extend((others > 0).then(|| format!("{others} by others")));
        parts.extend((held.older > 0).then(|| format!("{} before the recording", held.older)));
        format!(" {} lived then, made: {}.", human::counted(held.alive.into(), "object"), parts.join(", "))
    }

    fn remedy(&self, place: &Place, incident: &Incident, meant: &[State], held: &Held) -> String {
        let first = &incident.first;
        let mut parts: Vec<String> = Vec::new();
        for state in meant {
            let Some((_, raise)) = REMEDIES.iter().find(|(name, _)| *name == state.limit.name) else { continue };
            let verb = if state.limit.takes == Takes::Unknown { "Look at" } else { "Raise" };
            let value = self.suggestion(place, incident, state);
            parts.push(format!("{verb} {}: {}", state.limit.name, raise.replace("{}", &value)));
        }
        if meant.iter().any(|s| s.limit.scope == Scope::Namespace)
            && first.ipc_ns.is_some_and(|ns| ns != FIRST_NAMESPACE)
        {
            parts.push("run it inside that IPC namespace (nsenter --ipc --target PID)".to_owned());
        }
        let remove = match held_question(place, incident).kind {
            "sem" => "ipcrm -s",
            "shm" => "ipcrm -m",
            _ => "ipcrm -q",
        };
        if meant.iter().any(|state| !matches!(state.limit.takes, Takes::AtMost(..))) && !held.idle.is_empty() {
            let lines: Vec<String> = held.idle.iter().map(|id| format!("{remove} {id}")).collect();
            parts.push(format!("remove what nobody uses: {}", lines.join("; ")));
        }
        parts.join("; ") + "."
    }

    /// What to raise it to: twice as much, and enough for what was asked; `MORE` where no snapshot tells how much it is.
    fn suggestion(&self, place: &Place, incident: &Incident, state: &State) -> String {
        let is_compared = matches!(state.limit.takes, Takes::AtMost(..));
        let used = state.usage.and_then(|usage| usage.in_use).filter(|_| !is_compared).unwrap_or(0);
        let wanted = state.needs.unwrap_or(1).saturating_add(used);
        let value = match state.value {
            Some(value) => value.saturating_mul(2).max(wanted).to_string(),
            None if is_compared => wanted.to_string(),
            None => "MORE".to_owned(),
        };
        let Some(changed) = SEM.iter().position(|name| *name == state.limit.name) else { return value };
        let first = &incident.first;
        let known = |name| first.ipc_ns.and_then(|ns| self.values.at(place.trace, ns, name, first.end_ns));
        let of = |i: usize| known(SEM[i]).unwrap_or(SEM_DEFAULTS[i]).to_string();
        (0..SEM.len()).map(|i| if i == changed { value.clone() } else { of(i) }).collect::<Vec<_>>().join(" ")
    }
}

fn usage_questions(place: &Place, incident: &Incident) -> [Asked; QUESTIONS] {
    let first = &incident.first;
    let nobody =
        Asked { trace: place.trace, name: "", ipc_ns: None, process_id: None, uid: None, time_ns: first.end_ns };
    let mut questions = [nobody; QUESTIONS];
    for (i, limit) in RULES[place.rule].limits.iter().enumerate().take(QUESTIONS / 2) {
        let own = Asked { name: limit.name, ..nobody };
        questions[i * 2] = match limit.scope {
            Scope::Namespace if first.ipc_ns.is_none() => nobody,
            Scope::Namespace => Asked { ipc_ns: first.ipc_ns, ..own },
            Scope::Process | Scope::User => Asked { process_id: Some(first.process_id), ..own },
            Scope::Host => own,
        };
        if limit.scope == Scope::User && first.uid.is_some() {
            questions[i * 2 + 1] = Asked { uid: first.uid, ..own };
        }
    }
    questions
}

fn held_question(place: &Place, incident: &Incident) -> holders::Asked {
    let rule = &RULES[place.rule];
    let kind = match rule.syscalls.first() {
        Some(name) if name.starts_with("sem") => "sem",
        Some(name) if name.starts_with("shm") => "shm",
        Some(name) if name.starts_with("msg") => "msg",
        _ => "mq",
    };
    let first = &incident.first;
    // 0 is the inode of nothing.
    holders::Asked {
        trace: place.trace,
        ipc_ns: first.ipc_ns.unwrap_or(0),
        kind,
        time_ns: first.end_ns,
        key: first.key,
    }
}

/// What a snapshot says of a limit that is used up one by one. `alive`: so many objects are known to have lived.
fn verdict(limit: &Limit, usage: Option<Usage>, needs: Option<i64>, alive: u64) -> Verdict {
    let Some(usage) = usage else { return Verdict::Unknown };
    let counts_objects = limit.scope == Scope::Namespace && limit.takes == Takes::One;
    if counts_objects && i64::try_from(alive).is_ok_and(|alive| alive >= usage.value) {
        return Verdict::Met;
    }
    match (usage.in_use, needs) {
        (Some(in_use), Some(needs)) if in_use.saturating_add(needs) > usage.value => Verdict::Met,
        // Queues that are unlinked but open are in no snapshot.
        (Some(_), Some(_)) if limit.scope != Scope::User => Verdict::Room,
        _ => Verdict::Unknown,
    }
}

/// Which of the limits of a rule were met, how sure that is, and what could change it.
fn decide(states: &[State], time_ns: i64) -> (Vec<State>, Grade, Vec<String>) {
    let of = |verdict: Verdict| states.iter().copied().filter(|state| state.verdict == verdict).collect::<Vec<_>>();
    let (met, unknown) = (of(Verdict::Met), of(Verdict::Unknown));
    if let [_] = states {
        return (states.to_vec(), Grade::Certain, Vec::new());
    }
    let is_compared = |state: &State| matches!(state.limit.takes, Takes::AtMost(..));
    if !met.is_empty() && states.iter().all(is_compared) {
        return (met, Grade::Certain, Vec::new());
    }
    let far = states.iter().filter_map(|s| s.usage).find(|usage| usage.snapshot_ns.abs_diff(time_ns) > NEAR_NS);
    let doubts = |far: Option<Usage>| -> Vec<String> {
        let text = |usage: Usage| {
            let apart = human::duration(usage.snapshot_ns.abs_diff(time_ns).into());
            format!("the snapshot that tells the usage is {apart} away from the failure")
        };
        far.map(text).into_iter().collect()
    };
    match (met.len(), unknown.len()) {
        (1, 0) => (met, Grade::Certain, doubts(far)),
        (0, 1) if far.is_none() => (unknown, Grade::Certain, Vec::new()),
        (0, 1) => (unknown, Grade::Certain, doubts(far)),
        (0, 0) => {
            let share =
                |s: &State| s.usage.and_then(|u| Some(u.in_use? as f64 / (u.value.max(1) as f64))).unwrap_or(0.0);
            let nearest = states.iter().copied().max_by(|a, b| share(a).total_cmp(&share(b)));
            let doubt = "by the time of the snapshot nothing was used up any more".to_owned();
            (nearest.into_iter().collect(), Grade::Likely, vec![doubt])
        }
        (0, _) => {
            let doubt = "no snapshot tells which of them it was".to_owned();
            (unknown, Grade::Likely, vec![doubt])
        }
        // The kernel looks at the first one first.
        _ => (met.into_iter().take(1).collect(), Grade::Likely, doubts(far)),
    }
}

/// A limit, its value, its usage and what was asked.
fn describe(state: &State, time_ns: i64) -> String {
    let name = state.limit.name;
    if state.limit.takes == Takes::Unknown {
        return name.to_owned();
    }
    let asked = state.needs.filter(|_| state.limit.takes != Takes::One);
    let asked = asked.map(|needs| format!(", {needs} asked for")).unwrap_or_default();
    let value =
        state.value.map_or_else(|| format!("{name}, whose value no snapshot tells"), |v| format!("{name} is {v}"));
    let Some((usage, in_use)) = state.usage.and_then(|usage| Some((usage, usage.in_use?))) else {
        return format!("{value}{asked}");
    };
    let apart = human::duration(usage.snapshot_ns.abs_diff(time_ns).into());
    let when = if usage.snapshot_ns < time_ns { "before" } else { "later" };
    format!("{value}, {in_use} in use {apart} {when}{asked}")
}
