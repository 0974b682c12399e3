//! Depths of queues and values of semaphores over time, as steps.

use super::grid::{Collected, Row};
use super::scale::{Scale, Tick};
use crate::curves::{self, Curve};
use crate::error::Error;
use crate::human;
use crate::opened::Opened;
use std::cmp::Reverse;
use std::fmt::Write as _;

/// Curves that are shown: of those with the most changes.
const SHOWN: usize = 8;
const HEIGHT: i64 = 64;
const TOP: i64 = 8;

/// One curve.
#[derive(Clone, Debug)]
pub struct Steps {
    /// What it is of.
    pub name: String,
    /// How sure it is.
    pub how_known: &'static str,
    /// The path of the line.
    pub path: String,
    /// The path of what is below it.
    pub area: String,
    /// The largest value.
    pub most: String,
    /// Where the largest value is, and where 0.
    pub top: i64,
    /// As above.
    pub bottom: i64,
    /// The axis.
    pub ticks: Vec<Tick>,
}

/// Asks the traces. Semaphores are followed only if some call waited for one: most change millions of times, and nobody
/// waits.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened, contention: &Collected, scale: &Scale) -> Result<Vec<Steps>, Error> {
    let waited = |row: &Row<'_>| {
        row.text("side").is_none() && (row.int("contended").unwrap_or(0) > 0 || row.int("open").unwrap_or(0) > 0)
    };
    let with_semaphores = contention.rows("semaphore").any(|row| waited(&row));
    let (values, others) =
        curves::read(opened, with_semaphores)?.into_iter().partition(|curve| curve.name.starts_with("value"));
    let mut found = shown(others, scale);
    found.extend(shown(values, scale));
    Ok(found)
}

fn shown(mut curves: Vec<Curve>, scale: &Scale) -> Vec<Steps> {
    curves.sort_by_key(|curve| Reverse(curve.points.len()));
    curves.truncate(SHOWN);
    curves.sort_by(|a, b| a.name.cmp(&b.name));
    curves.iter().map(|curve| draw(curve, scale)).collect()
}

/// A column of the drawing holds the least and the greatest of its values: no spike is lost. Where nothing is known there is no
/// line.
fn draw(curve: &Curve, scale: &Scale) -> Steps {
    let most = curve.points.iter().filter_map(|point| point.1).max().unwrap_or(0).max(1);
    let y =
        |value: i64| TOP + HEIGHT - (i128::from(value.clamp(0, most)) * i128::from(HEIGHT) / i128::from(most)) as i64;
    let (mut path, mut area, mut begun) = (String::new(), String::new(), None);
    let bottom = TOP + HEIGHT;
    let mut points = curve.points.iter().copied().peekable();
    while let Some((at_ns, first)) = points.next() {
        let x = scale.x(at_ns);
        let (mut all, mut end) = (vec![first], first);
        while let Some((_, value)) = points.next_if(|(next_ns, _)| scale.x(*next_ns) == x) {
            all.push(value);
            end = value;
        }
        let known = || all.iter().copied().flatten();
        // Writing to a String cannot fail.
        if begun.is_some() {
            let _ = write!(path, "H{x}");
        }
        if let (Some(least), Some(greatest)) = (known().min(), known().max()) {
            if begun.is_none() {
                let _ = write!(path, "M{x} {}", y(least));
                begun = Some((path.rfind('M').unwrap_or(0), x));
            }
            let _ = write!(path, "V{}V{}", y(greatest), y(least));
            if let Some(end) = end {
                let _ = write!(path, "V{}", y(end));
            }
        }
        if let (None, Some((from, begin))) = (end, begun) {
            let _ = write!(area, "{}V{bottom}H{begin}Z", &path[from..]);
            begun = None;
        }
    }
    if let Some((from, begin)) = begun {
        let _ = write!(path, "H{}", scale.x(curve.end_ns));
        let _ = write!(area, "{}V{bottom}H{begin}Z", &path[from..]);
    }
    Steps {
        name: human::escape(&curve.name),
        how_known: curve.how_known,
        path,
        area,
        most: human::count(most.into()),
        top: TOP,
        bottom,
        ticks: scale.ticks(),
    }
}
