//! Time from left to right, and colours for more and less.

use crate::human;
use crate::opened::Opened;

/// The width of what time is drawn on, in the units of the drawings.
pub const WIDTH: i64 = 960;
/// What stands to the left of it.
pub const LEFT: i64 = 84;
const TICKS: i64 = 6;

/// The time that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Its begin, nanoseconds since the epoch.
    pub from_ns: i64,
    /// Its end.
    pub to_ns: i64,
}

/// A mark on the axis.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Where.
    pub x: i64,
    /// What it says.
    pub text: String,
    /// On which side of it that stands.
    pub anchor: &'static str,
}

impl Scale {
    /// From the first begin to the last end of what is looked at.
    pub fn of(opened: &Opened) -> Scale {
        let spans = (0..opened.traces.len()).map(|trace| opened.window_ns(trace));
        let (from_ns, to_ns) = spans.fold((i64::MAX, i64::MIN), |(from, to), (a, b)| (from.min(a), to.max(b)));
        let from_ns = if from_ns == i64::MAX { 0 } else { from_ns };
        Scale { from_ns, to_ns: to_ns.max(from_ns.saturating_add(1)) }
    }

    /// How long it is, nanoseconds.
    pub fn length_ns(&self) -> i64 {
        self.to_ns.saturating_sub(self.from_ns).max(1)
    }

    /// Of so many equal parts, in which an instant lies; the last one if behind.
    pub fn part(&self, at_ns: i64, parts: i64) -> i64 {
        let offset = i128::from(at_ns.saturating_sub(self.from_ns).clamp(0, self.length_ns()));
        let part = offset * i128::from(parts) / i128::from(self.length_ns());
        i64::try_from(part).unwrap_or(0).min(parts - 1)
    }

    /// Where an instant is drawn.
    pub fn x(&self, at_ns: i64) -> i64 {
        LEFT + self.part(at_ns, WIDTH + 1)
    }

    /// The marks of the axis: time since the begin.
    pub fn ticks(&self) -> Vec<Tick> {
        let tick = |number: i64| {
            let offset_ns = i128::from(self.length_ns()) * i128::from(number) / i128::from(TICKS);
            let text = if number == 0 { "0".to_owned() } else { format!("+{}", human::duration(offset_ns)) };
            let anchor = match number {
                0 => "start",
                TICKS => "end",
                _ => "middle",
            };
            Tick { x: LEFT + WIDTH * number / TICKS, text, anchor }
        };
        (0..=TICKS).map(tick).collect()
    }
}

/// From 1 to 6, on a logarithmic scale; 0 for nothing.
pub fn shade(value: u128, most: u128) -> u32 {
    if value == 0 {
        return 0;
    }
    let bits = |number: u128| f64::from(u128::BITS - number.leading_zeros());
    let share = bits(value) / bits(most.max(value));
    ((share * 6.0).ceil() as u32).clamp(1, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_drawn_where_they_belong() {
        let scale = Scale { from_ns: 1000, to_ns: 2000 };
        assert_eq!([999, 1000, 1500, 2000, 2001].map(|ns| scale.x(ns)), [84, 84, 84 + 480, 84 + 960, 84 + 960]);
        assert_eq!([1000, 1499, 1500, 1999, 2000].map(|ns| scale.part(ns, 2)), [0, 0, 1, 1, 1]);
        assert_eq!(scale.ticks().len(), 7);
        let all = Scale { from_ns: i64::MIN, to_ns: i64::MAX };
        assert_eq!(all.x(i64::MAX), LEFT + WIDTH);
    }

    #[test]
    fn more_is_darker_and_nothing_has_no_colour() {
        assert_eq!([0, 1, 30, 1000].map(|count| shade(count, 1000)), [0, 1, 3, 6]);
        assert_eq!(shade(u128::MAX, 1), 6);
    }
}
