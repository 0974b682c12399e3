//! Who waits for whom at the end, drawn: processes on a circle, arrows to who holds what they wait for.

use super::grid::Collected;
use crate::human;
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// Processes that are drawn at most: more are a thicket.
const NODES_MAX: usize = 24;
const NODE: (f64, f64) = (132.0, 34.0);

/// The drawing.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Its size.
    pub width: i64,
    /// As above.
    pub height: i64,
    /// The processes.
    pub nodes: Vec<Node>,
    /// The arrows.
    pub edges: Vec<Edge>,
    /// Processes that found no room.
    pub more: usize,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Node {
    /// The left upper corner.
    pub x: i64,
    /// As above.
    pub y: i64,
    /// Its width.
    pub width: i64,
    /// Its height.
    pub height: i64,
    /// Its pid and name.
    pub name: String,
    /// Whether it waits itself.
    pub waits: bool,
}

/// An arrow from who waits to who holds.
#[derive(Clone, Debug)]
pub struct Edge {
    /// A curve.
    pub path: String,
    /// Where the label is.
    pub x: i64,
    /// As above.
    pub y: i64,
    /// What is waited for.
    pub label: String,
}

impl Graph {
    /// From the edges of `deadlocks`; `None` without any.
    pub fn new(deadlocks: &Collected) -> Option<Graph> {
        let mut nodes: BTreeMap<Key<'_>, (String, bool)> = BTreeMap::new();
        let mut arrows = Vec::new();
        for edge in deadlocks.rows("edge") {
            let (Some(waits), Some(holds)) = (edge.int("process_id"), edge.int("holder_process_id")) else { continue };
            let trace = edge.text("trace_id").unwrap_or_default();
            let name = |pid: Option<i64>, comm: Option<&str>| {
                human::escape(&format!(
                    "{} {}",
                    pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
                    comm.unwrap_or("?")
                ))
            };
            let waiter = name(edge.int("pid"), edge.text("comm"));
            let holder = name(edge.int("holder_pid"), edge.text("holder_comm"));
            nodes.entry((trace, waits)).or_insert((waiter, true)).1 = true;
            nodes.entry((trace, holds)).or_insert((holder, edge.is_true("holder_waits")));
            let object = edge.text("object").unwrap_or("?");
            let label = match (edge.text("lacks"), edge.int("sem_num")) {
                (_, Some(number)) => format!("{object}[{number}]"),
                (Some(lacks), None) => format!("{object} ({lacks})"),
                (None, None) => object.to_owned(),
            };
            arrows.push(((trace, waits), (trace, holds), shortened(&human::escape(&label))));
        }
        if nodes.is_empty() {
            return None;
        }
        Some(draw(&nodes, &arrows))
    }
}

/// The text, without its middle where it is long: a program may have chosen it.
fn shortened(text: &str) -> String {
    const HALF: usize = 20;
    let length = text.chars().count();
    if length <= 2 * HALF + 1 {
        return text.to_owned();
    }
    let (first, last) = (text.chars().take(HALF), text.chars().skip(length - HALF));
    first.chain(['…']).chain(last).collect()
}

/// The trace and the process.
type Key<'a> = (&'a str, i64);

fn draw(nodes: &BTreeMap<Key<'_>, (String, bool)>, arrows: &[(Key<'_>, Key<'_>, String)]) -> Graph {
    let count = nodes.len().min(NODES_MAX);
    // So far apart that neighbours on the circle have room for a label between them.
    let radius = if count == 1 { 0.0 } else { (count as f64 * 250.0 / TAU).max(130.0) };
    let (middle_x, middle_y) = (radius + NODE.0, radius * 0.62 + NODE.1 * 1.5);
    let at = |number: usize| {
        let angle = TAU * number as f64 / count as f64 - TAU / 4.0;
        (middle_x + radius * angle.cos(), middle_y + radius * 0.62 * angle.sin())
    };
    let places: BTreeMap<Key<'_>, (f64, f64)> =
        nodes.keys().take(count).enumerate().map(|(i, key)| (*key, at(i))).collect();
    let node = |(key, (name, waits)): (&Key<'_>, &(String, bool))| {
        let (x, y) = places.get(key)?;
        let (x, y) = (x - NODE.0 / 2.0, y - NODE.1 / 2.0);
        let (width, height) = (NODE.0 as i64, NODE.1 as i64);
        Some(Node { x: x as i64, y: y as i64, width, height, name: name.clone(), waits: *waits })
    };
    let edge = |(from, to, label): &(Key<'_>, Key<'_>, String)| {
        let (from, to) = (places.get(from)?, places.get(to)?);
        Some(arrow(*from, *to, label))
    };
    Graph {
        width: (2.0 * middle_x) as i64,
        height: (2.0 * middle_y) as i64,
        nodes: nodes.iter().filter_map(node).collect(),
        edges: arrows.iter().filter_map(edge).collect(),
        more: nodes.len() - count,
    }
}

/// A slightly bent line from the rim of one box to that of the other.
fn arrow(from: (f64, f64), to: (f64, f64), label: &str) -> Edge {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy);
    if length < 1.0 {
        // It waits for what it holds itself.
        let (x, y) = (from.0, from.1 - NODE.1 / 2.0);
        let path = format!(
            "M{:.0} {y:.0}C{:.0} {:.0} {:.0} {:.0} {:.0} {y:.0}",
            x - 20.0,
            x - 40.0,
            y - 40.0,
            x + 40.0,
            y - 40.0,
            x + 20.0
        );
        return Edge { path, x: x as i64, y: (y - 34.0) as i64, label: label.to_owned() };
    }
    let bend = (-dy / length * 18.0, dx / length * 18.0);
    let rim = |(x, y): (f64, f64), (dx, dy): (f64, f64)| {
        let share = (NODE.0 / 2.0 / dx.abs().max(0.01)).min(NODE.1 / 2.0 / dy.abs().max(0.01));
        (x + dx * share, y + dy * share)
    };
    let (begin, end) = (rim(from, (dx, dy)), rim(to, (-dx, -dy)));
    let middle = ((begin.0 + end.0) / 2.0 + bend.0, (begin.1 + end.1) / 2.0 + bend.1);
    let path = format!("M{:.0} {:.0}Q{:.0} {:.0} {:.0} {:.0}", begin.0, begin.1, middle.0, middle.1, end.0, end.1);
    // Nearer to who waits: of two that wait for each other the labels would lie upon each other.
    let on_curve = |begin: f64, middle: f64, end: f64| 0.49 * begin + 0.42 * middle + 0.09 * end;
    let (x, y) = (on_curve(begin.0, middle.0, end.0), on_curve(begin.1, middle.1, end.1));
    Edge { path, x: x as i64, y: y as i64, label: label.to_owned() }
}
