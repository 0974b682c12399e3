//! Depths of queues and values of semaphores over time, as steps.

use super::grid::Collected;
use super::scale::{LEFT, Scale, Tick, WIDTH};
use crate::calls;
use crate::curves::{self, COLUMNS, Curve, Semaphores};
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
    let mut curves = curves::read(opened)?;
    let mut found = shown(std::mem::take(&mut curves), scale);
    let waited = |row: &super::grid::Row<'_>| {
        row.int("sem_num").is_some() && (row.int("contended").unwrap_or(0) > 0 || row.int("open").unwrap_or(0) > 0)
    };
    if contention.rows("semaphore").any(|row| waited(&row)) {
        let mut semaphores = Semaphores::new(opened)?;
        calls::for_each(&opened.traces, &opened.selection, &COLUMNS, |cursor| {
            semaphores.add(cursor.batch.trace, &cursor.call())?;
            Ok(true)
        })?;
        found.extend(shown(semaphores.finish(opened)?, scale));
    }
    Ok(found)
}

fn shown(mut curves: Vec<Curve>, scale: &Scale) -> Vec<Steps> {
    curves.sort_by_key(|curve| Reverse(curve.points.len()));
    curves.truncate(SHOWN);
    curves.sort_by(|a, b| a.name.cmp(&b.name));
    curves.iter().map(|curve| draw(curve, scale)).collect()
}

/// A column of the drawing holds the least and the greatest of its values: no spike is lost.
fn draw(curve: &Curve, scale: &Scale) -> Steps {
    let most = curve.points.iter().map(|point| point.1).max().unwrap_or(0).max(1);
    let y =
        |value: i64| TOP + HEIGHT - (i128::from(value.clamp(0, most)) * i128::from(HEIGHT) / i128::from(most)) as i64;
    let (mut path, mut last) = (String::new(), None);
    let mut points = curve.points.iter().peekable();
    while let Some((at_ns, first)) = points.next() {
        let x = scale.x(*at_ns);
        let (mut least, mut greatest, mut end) = (*first, *first, *first);
        while let Some((_, value)) = points.next_if(|(next_ns, _)| scale.x(*next_ns) == x) {
            (least, greatest, end) = (least.min(*value), greatest.max(*value), *value);
        }
        // Writing to a String cannot fail.
        let _ = match last {
            None => write!(path, "M{x} {}", y(*first)),
            Some(_) => write!(path, "H{x}V{}", y(*first)),
        };
        if least < greatest {
            let _ = write!(path, "V{}V{}", y(greatest), y(least));
        }
        let _ = write!(path, "V{}", y(end));
        last = Some(x);
    }
    let bottom = TOP + HEIGHT;
    let begin = curve.points.first().map_or(LEFT, |(at_ns, _)| scale.x(*at_ns));
    let _ = write!(path, "H{}", LEFT + WIDTH);
    let area = format!("{path}V{bottom}H{begin}Z");
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
