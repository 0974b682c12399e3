//! Every call that waits, and for whom.

use super::QUEUE;
use super::circle::Circles;
use super::graph::ANY;
use super::sites::{Party, Site};
use super::state::State;
use super::waits::Wait;
use crate::opened::Opened;
use crate::report::{Column, Rows, Table, Unit, Value, column};
use std::cmp::Reverse;
use std::rc::Rc;

const WAITER: [Column; 18] = [
    column("trace_id", "", Unit::Text),
    column("call_id", "call", Unit::Id),
    column("pid", "pid", Unit::Id),
    column("tid", "tid", Unit::Id),
    column("process_id", "", Unit::Id),
    column("thread_id", "", Unit::Id),
    column("comm", "comm", Unit::Text),
    column("syscall", "call of", Unit::Text),
    column("object", "object", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("sem_num", "sem", Unit::Id),
    column("began", "", Unit::Text),
    column("start_ns", "", Unit::Instant),
    column("waits_ns", "waits", Unit::Duration),
    column("timeout_ns", "timeout", Unit::Duration),
    column("deadline_ns", "", Unit::Instant),
    column("lacks", "", Unit::Text),
    column("circle", "circle", Unit::Text),
];

const EDGE: [Column; 18] = [
    column("trace_id", "", Unit::Text),
    column("call_id", "call", Unit::Id),
    column("process_id", "", Unit::Id),
    column("thread_id", "", Unit::Id),
    column("pid", "pid", Unit::Id),
    column("tid", "", Unit::Id),
    column("comm", "comm", Unit::Text),
    column("object", "object", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("sem_num", "sem", Unit::Id),
    column("lacks", "lacks", Unit::Text),
    column("holder_process_id", "", Unit::Id),
    column("holder_pid", "of pid", Unit::Id),
    column("holder_comm", "comm", Unit::Text),
    column("how_known", "known by", Unit::Text),
    column("gives", "", Unit::Count),
    column("since_ns", "since", Unit::Instant),
    column("holder_waits", "waits too", Unit::Text),
];

/// The tables. Their rows are made as they are written: there can be as many edges as waits times helpers.
pub fn tables<'a>(opened: &'a Opened, of: Rc<(State, Circles)>) -> Vec<Table<'a>> {
    let mut columns = WAITER.to_vec();
    if of.1.found.is_empty() {
        // Nothing to see on a terminal.
        columns.iter_mut().filter(|column| column.name == "circle").for_each(|column| column.heading = "");
    }
    let edges = table("edge", "Who waits for whom", EDGE.to_vec(), edges(opened, of.clone()));
    let waiters = table("waiter", "Waiting calls, the longest first", columns, waiters(opened, of));
    vec![edges, waiters]
}

fn trace_id(opened: &Opened, trace: usize) -> Value {
    Value::text(opened.traces.get(trace).map(|trace| trace.manifest.trace_id.clone()))
}

fn waiters<'a>(opened: &'a Opened, of: Rc<(State, Circles)>) -> Rows<'a> {
    let waits = &of.0.known.waits;
    let mut order: Vec<usize> = (0..waits.len()).collect();
    order.sort_by_key(|wait| (Reverse(waits_ns(&of.0, &waits[*wait])), *wait));
    Box::new(order.into_iter().map(move |number| Ok(waiter(opened, &of.0, &of.1, number))))
}

fn waits_ns(state: &State, wait: &Wait) -> i64 {
    state.known.moments.at_ns(wait.trace).saturating_sub(wait.start_ns)
}

fn waiter(opened: &Opened, state: &State, circles: &Circles, number: usize) -> Vec<Value> {
    let wait = &state.known.waits[number];
    let circle = match (circles.in_circle[number], circles.is_behind[number]) {
        (true, _) => Some("in"),
        (_, true) => Some("behind"),
        _ => None,
    };
    let need = state.needs[number].first().and_then(|need| state.sites.get(need.site));
    let sem_num = need.map(|site| site.place.2).or(wait.sem_num).filter(|number| *number != QUEUE);
    vec![
        trace_id(opened, wait.trace),
        Value::Int(wait.call_id.into()),
        Value::Int(wait.pid.into()),
        Value::Int(wait.tid.into()),
        Value::Int(wait.process_id.into()),
        Value::Int(wait.thread_id.into()),
        Value::Text(wait.comm.clone()),
        Value::Text(wait.syscall.to_owned()),
        Value::Text(wait.object.clone()),
        Value::int(wait.object_ref),
        Value::int(sem_num),
        Value::Text(if wait.before_trace { "before_trace" } else { "in_trace" }.to_owned()),
        Value::Int(wait.start_ns.into()),
        Value::Int(waits_ns(state, wait).into()),
        Value::int(wait.timeout_ns),
        Value::int(wait.deadline_ns),
        Value::text(need.map(|site| site.lack.name())),
        Value::text(circle),
    ]
}

fn edges<'a>(opened: &'a Opened, of: Rc<(State, Circles)>) -> Rows<'a> {
    let (mut wait, mut need, mut party) = (0, 0, 0);
    Box::new(std::iter::from_fn(move || {
        let (state, circles) = &*of;
        loop {
            let Some(at) = state.needs.get(wait)?.get(need) else {
                (wait, need, party) = (wait + 1, 0, 0);
                continue;
            };
            let site = &state.sites[at.site];
            let Some(one) = site.parties.get(party) else {
                (need, party) = (need + 1, 0);
                continue;
            };
            let holder_waits = !circles.gives[at.site][party];
            party += 1;
            return Some(Ok(edge(opened, state, (&state.known.waits[wait], site, one), holder_waits)));
        }
    }))
}

fn edge(opened: &Opened, state: &State, of: (&Wait, &Site, &Party), holder_waits: bool) -> Vec<Value> {
    let (wait, site, party) = of;
    let holder = party.process_id.and_then(|id| state.known.processes.get(wait.trace, id));
    vec![
        trace_id(opened, wait.trace),
        Value::Int(wait.call_id.into()),
        Value::Int(wait.process_id.into()),
        Value::Int(wait.thread_id.into()),
        Value::Int(wait.pid.into()),
        Value::Int(wait.tid.into()),
        Value::Text(wait.comm.clone()),
        Value::Text(wait.object.clone()),
        Value::int(wait.object_ref),
        Value::int(Some(site.place.2).filter(|number| *number != QUEUE)),
        Value::Text(site.lack.name().to_owned()),
        Value::int(party.process_id),
        Value::int(holder.map(|holder| holder.pid)),
        Value::text(holder.and_then(|holder| holder.comm.clone())),
        Value::Text(party.how.name().to_owned()),
        Value::int(Some(party.gives).filter(|gives| *gives != ANY)),
        Value::int(party.since_ns),
        Value::Bool(holder_waits),
    ]
}

fn table<'a>(section: &'static str, title: &str, columns: Vec<Column>, rows: Rows<'a>) -> Table<'a> {
    Table { section: Some(section), title: title.to_owned(), columns, rows, sparse: false, text_limit: 20 }
}
