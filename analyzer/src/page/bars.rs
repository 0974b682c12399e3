//! Bars from left to right: stretches of time by who they concern.

use super::grid::{Collected, Row};
use super::scale::{LEFT, Scale, Tick, WIDTH};
use crate::human;
use std::cmp::Reverse;

/// Bars of one figure.
const SHOWN: usize = 16;
const ROW_HEIGHT: i64 = 26;

/// Some bars below each other.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What they are.
    pub name: &'static str,
    /// Height of the drawing.
    pub height: i64,
    /// Where the axis is.
    pub axis_y: i64,
    /// The bars.
    pub bars: Vec<Bar>,
    /// The axis; none where lengths are shown.
    pub ticks: Vec<Tick>,
}

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Where it begins.
    pub x: i64,
    /// Where it is.
    pub y: i64,
    /// How long it is.
    pub width: i64,
    /// What it says.
    pub text: String,
    /// Whether it went on to the end.
    pub is_open: bool,
}

/// When signals waited, and how long threads blocked them.
pub fn of_signals(signals: &Collected, scale: &Scale) -> Vec<Bars> {
    let mut pending: Vec<Row<'_>> = signals.rows("pending").collect();
    pending.sort_by_key(|row| Reverse(row.int("pending_ns")));
    let waits = |row: &Row<'_>| {
        let (from_ns, to_ns) = (row.int("since_ns")?, row.int("until_ns")?);
        let took = human::duration(row.int("pending_ns")?.into());
        let (signal, comm) = (row.text("signal_name").unwrap_or("?"), row.text("target_comm").unwrap_or("?"));
        let (pid, result) = (row.int("target_pid").unwrap_or(0), row.text("result").unwrap_or("?"));
        let text = human::escape(&format!("{signal} for {pid} {comm}: {took}, {result}"));
        let x = scale.x(from_ns);
        Some(Bar { x, y: 0, width: (scale.x(to_ns) - x).max(2), text, is_open: result == "still pending" })
    };
    let mut blocked: Vec<Row<'_>> = signals.rows("blocked").collect();
    blocked.sort_by_key(|row| Reverse(row.int("blocked_ns")));
    let blocks = |row: &Row<'_>| {
        let blocked_ns = row.int("blocked_ns")?;
        let (names, comm) = (row.text("signals").unwrap_or("?"), row.text("comm").unwrap_or("?"));
        let took = human::duration(blocked_ns.into());
        let text = human::escape(&format!("{} {comm} blocked {names}: {took}", row.int("tid").unwrap_or(0)));
        let share = i128::from(blocked_ns) * i128::from(WIDTH) / i128::from(scale.length_ns());
        let width = i64::try_from(share).unwrap_or(WIDTH).clamp(2, WIDTH);
        Some(Bar { x: LEFT, y: 0, width, text, is_open: row.is_true("still_blocked") })
    };
    let pending = Bars::new("Signals that waited", pending.iter().filter_map(waits).collect(), scale.ticks());
    let blocked =
        Bars::new("Signals that threads blocked, time in all", blocked.iter().filter_map(blocks).collect(), Vec::new());
    [pending, blocked].into_iter().filter(|bars| !bars.bars.is_empty()).collect()
}

impl Bars {
    fn new(name: &'static str, mut bars: Vec<Bar>, ticks: Vec<Tick>) -> Bars {
        bars.truncate(SHOWN);
        for (bar, number) in bars.iter_mut().zip(0..) {
            bar.y = 4 + number * ROW_HEIGHT;
        }
        let axis_y = 8 + bars.len() as i64 * ROW_HEIGHT;
        Bars { name, height: axis_y + 20, axis_y, bars, ticks }
    }
}
