//! Text that fits 80 columns: paragraphs are broken at spaces, tables cut their longest texts short, and where that is not
//! enough the columns that matter least give way, which a line below the table says. Numbers are never cut.
//!
//! Widths are those that a terminal shows: two columns for 漢, none for a combining accent.

use crate::report::{Column, Unit};
use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a terminal.
pub const WIDTH: usize = 80;
/// A text of which less is seen says nothing.
const TEXT_WIDTH_MIN: usize = 12;

/// The columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// As much of a text as fits, with an ellipsis where something is missing.
pub fn fit(text: &str, room: usize) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    let (head, _) = split(text, room.saturating_sub(1));
    Cow::Owned(format!("{head}…"))
}

/// What fits into `room` and the rest; a character at least, so that there is an end.
fn split(text: &str, room: usize) -> (&str, &str) {
    let mut used = 0;
    let end = text.char_indices().find(|(at, c)| {
        used += c.width().unwrap_or(0);
        used > room && *at > 0
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

/// Breaks a text at spaces, and words that are longer than a line; lines after the first begin with `indent`.
pub fn wrapped(text: &str, room: usize, indent: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    let mut column = 0;
    for (i, word) in text.split(' ').enumerate() {
        let length = width(word);
        if i > 0 && column > 0 && column + 1 + length > room {
            lines.push('\n');
            lines.push_str(indent);
            column = 0;
        } else if i > 0 {
            lines.push(' ');
            column += 1;
        }
        let mut rest = word;
        while column + width(rest) > room {
            let (head, tail) = split(rest, room.saturating_sub(column));
            if tail.is_empty() {
                break;
            }
            lines.push_str(head);
            lines.push('\n');
            lines.push_str(indent);
            (rest, column) = (tail, 0);
        }
        lines.push_str(rest);
        column += width(rest);
    }
    lines
}

/// Breaks a line that is too long; the lines after it stand two further to the right.
pub fn broken(line: &str) -> Cow<'_, str> {
    if width(line) <= WIDTH {
        return Cow::Borrowed(line);
    }
    let text = line.trim_start_matches(' ');
    let margin = (line.len() - text.len()).min(WIDTH / 2);
    let indent = " ".repeat(margin + 2);
    Cow::Owned(format!("{}{}", " ".repeat(margin), wrapped(text, WIDTH - margin - 2, &indent)))
}

/// Widths, alignments and the choice of the columns of a text table.
#[derive(Debug)]
pub struct Layout {
    columns: Vec<Place>,
}

/// One column of a table.
#[derive(Clone, Debug)]
struct Place {
    heading: &'static str,
    is_text: bool,
    yields: u8,
    /// The widest cell so far.
    wanted: usize,
    /// What it gets; `None`: it gave way.
    given: Option<usize>,
}

impl Layout {
    /// For the columns of a table that have headings.
    pub fn new<'a>(columns: impl Iterator<Item = &'a Column>) -> Layout {
        let place = |column: &Column| Place {
            heading: column.heading,
            is_text: column.unit == Unit::Text,
            yields: column.yields,
            wanted: width(column.heading),
            given: Some(0),
        };
        Layout { columns: columns.map(place).collect() }
    }

    /// Makes room for further rows; whether other columns are shown than before.
    pub fn make_room(&mut self, rows: &[Vec<String>]) -> bool {
        for row in rows {
            for (place, cell) in self.columns.iter_mut().zip(row) {
                place.wanted = place.wanted.max(width(cell));
            }
        }
        let before = self.shown();
        for place in self.columns.iter_mut().filter(|place| place.given.is_some()) {
            place.given = Some(place.wanted);
        }
        while self.line_width(1) > WIDTH {
            if !self.shorten() && !self.give_way() {
                break;
            }
        }
        self.shown() != before
    }

    fn shown(&self) -> Vec<bool> {
        self.columns.iter().map(|place| place.given.is_some()).collect()
    }

    fn line_width(&self, gap: usize) -> usize {
        let widths: Vec<usize> = self.columns.iter().filter_map(|place| place.given).collect();
        widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1)
    }

    /// Takes what is too much from the widest texts; whether that was enough.
    fn shorten(&mut self) -> bool {
        let mut excess = self.line_width(1).saturating_sub(WIDTH);
        let alone = self.columns.iter().filter(|place| place.given.is_some()).count() == 1;
        while excess > 0 {
            let least = |place: &Place| if alone { 1 } else { TEXT_WIDTH_MIN.max(width(place.heading)) };
            let texts = self.columns.iter_mut().filter(|place| place.is_text);
            let widest = texts
                .filter_map(|place| Some((place.given?, least(place), place)))
                .filter(|(given, least, _)| given > least)
                .max_by_key(|(given, ..)| *given);
            let Some((given, _, place)) = widest else { return false };
            place.given = Some(given - 1);
            excess -= 1;
        }
        true
    }

    /// Leaves out the column that matters least: the last of those declared so, then the last; never the first.
    fn give_way(&mut self) -> bool {
        let shown = self.columns.iter_mut().enumerate().filter(|(_, place)| place.given.is_some());
        let Some((_, place)) = shown.skip(1).max_by_key(|(i, place)| (place.yields, *i)) else { return false };
        place.given = None;
        for place in self.columns.iter_mut().filter(|place| place.given.is_some()) {
            place.given = Some(place.wanted);
        }
        true
    }

    /// The headings.
    pub fn headings(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|place| place.heading.to_owned()).collect();
        self.line(&headings)
    }

    /// The columns that gave way.
    pub fn left_out(&self) -> Vec<&'static str> {
        self.columns.iter().filter(|place| place.given.is_none()).map(|place| place.heading).collect()
    }

    /// One row.
    pub fn line(&self, cells: &[String]) -> String {
        let gap = if self.line_width(2) <= WIDTH { "  " } else { " " };
        let mut line = String::with_capacity(WIDTH);
        for (i, (place, cell)) in self.columns.iter().zip(cells).filter(|(place, _)| place.given.is_some()).enumerate()
        {
            if i > 0 {
                line.push_str(gap);
            }
            let room = place.given.unwrap_or(0);
            let cell = if place.is_text { fit(cell, room) } else { Cow::Borrowed(cell.as_str()) };
            let space = " ".repeat(room.saturating_sub(width(&cell)));
            match place.is_text {
                true => line.extend([&*cell, space.as_str()]),
                false => line.extend([space.as_str(), &*cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::column;

    #[test]
    fn texts_are_cut_at_columns_not_at_bytes() {
        for (text, room, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字漢…"),
            ("漢字漢字", 6, "漢字…"),
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
            ("größer", 4, "grö…"),
        ] {
            assert_eq!(fit(text, room), expected, "{text} in {room}");
            assert!(width(&fit(text, room)) <= room);
        }
    }

    #[test]
    fn lines_break_at_spaces_and_in_long_words() {
        assert_eq!(wrapped("one two three", 8, "  "), "one two\n  three");
        assert_eq!(wrapped("a abcdefghij b", 4, ">"), "a\n>abcd\n>efgh\n>ij b");
        assert_eq!(wrapped("漢字漢字", 5, ""), "漢字\n漢字");
        assert_eq!(wrapped("  indented", 20, ""), "  indented");
        assert_eq!(wrapped("", 5, ""), "");
        let long = format!("  path: {}", "x".repeat(200));
        assert!(broken(&long).lines().all(|line| width(line) <= WIDTH), "{}", broken(&long));
        assert_eq!(broken(&long).replace(['\n', ' '], ""), long.replace(' ', ""));
    }

    fn layout(columns: &[Column], rows: &[Vec<String>]) -> Layout {
        let mut layout = Layout::new(columns.iter());
        layout.make_room(rows);
        layout
    }

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn long_texts_are_cut_before_a_column_gives_way() {
        let columns = [column("a", "object", Unit::Text), column("b", "calls", Unit::Count)];
        let cells = row(&[&"n".repeat(200), "123,456"]);
        let layout = layout(&columns, std::slice::from_ref(&cells));
        assert_eq!(layout.line(&cells), format!("{}… 123,456", "n".repeat(71)));
        assert!(layout.left_out().is_empty());
    }

    #[test]
    fn numbers_are_never_cut_and_what_matters_least_gives_way() {
        let number = "1,234,567,890";
        let columns = [
            column("a", "comm", Unit::Text),
            column("b", "total", Unit::Count),
            column("c", "mean", Unit::Count).yields(1),
            column("d", "p99.9", Unit::Count).yields(2),
            column("e", "p99", Unit::Count),
            column("f", "max", Unit::Count),
        ];
        let cells = row(&["a thread of a long name", number, number, number, number, number]);
        let layout = layout(&columns, std::slice::from_ref(&cells));
        assert_eq!(layout.left_out(), ["p99.9"]);
        let line = layout.line(&cells);
        assert!(line.starts_with("a thread of a long name ") && width(&line) == 79, "{line}");
        assert_eq!(line.matches(number).count(), 4);
    }

    #[test]
    fn no_table_is_too_wide_for_a_line() {
        let mut columns = vec![column("a", "first", Unit::Text)];
        columns.extend((0..30).map(|_| column("n", "number", Unit::Count)));
        let mut cells = row(&[&"漢".repeat(90)]);
        cells.extend((0..30).map(|i| i128::pow(10, i).to_string()));
        let layout = layout(&columns, std::slice::from_ref(&cells));
        assert!(width(&layout.line(&cells)) <= WIDTH && width(&layout.headings()) <= WIDTH);
        assert_eq!(layout.left_out().len() + layout.shown().iter().filter(|shown| **shown).count(), 31);
        let one = self::layout(&columns[..1], &[row(&[&"漢".repeat(90)])]);
        assert!(width(&one.line(&cells)) <= WIDTH);
    }

    #[test]
    fn later_rows_can_need_more_room() {
        let columns = [column("a", "a", Unit::Count), column("b", "b", Unit::Count)];
        let mut layout = Layout::new(columns.iter());
        assert!(!layout.make_room(&[row(&["1", "2"])]));
        assert!(layout.make_room(&[row(&[&"9".repeat(50), &"9".repeat(50)])]));
        assert_eq!(layout.left_out(), ["b"]);
    }
}
