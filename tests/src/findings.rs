//! What the analyzer finds in a trace, beside what it should find.

use crate::programs;
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// The commands whose answers begin with findings.
pub const COMMANDS: [&str; 7] = ["failures", "contention", "deadlocks", "queues", "leaks", "races", "signals"];

/// A finding of the analyzer.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The command that told it.
    pub command: &'static str,
    /// What it is: `deadlock`, `convoy`…
    pub finding: String,
    /// certain, likely or suspect.
    pub grade: String,
    /// The object, as `--object` takes it.
    pub object: Option<String>,
    /// What could change it.
    pub doubts: String,
    /// All it says in words.
    text: String,
}

/// A finding that a program's own account calls for; see `samples/src/scenarios/incidents`.
#[derive(Clone, Debug)]
pub struct Expected {
    command: String,
    finding: String,
    objects: Option<Vec<String>>,
    grades: Vec<String>,
    /// Silence is right, too.
    pub is_optional: bool,
    says: Vec<String>,
}

/// How much the analyzer could see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// A filter hid other processes from it: what is certain otherwise may be likely, with the doubt that makes it so.
    Filtered,
    /// Nothing was hidden.
    Whole,
}

/// How found and expected fit.
#[derive(Default)]
pub struct Verdict {
    /// Findings that were expected.
    pub right: Vec<Finding>,
    /// Findings that were not.
    pub wrong: Vec<Finding>,
    /// What should have been found.
    pub missed: Vec<Expected>,
}

/// The findings of one command.
///
/// # Panics
/// When the command fails.
pub fn of_command(command: &'static str, trace: &Path) -> Vec<Finding> {
    let output = programs::analyzer(&[command, "--format", "json"], trace).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ipc-analyzer {command} {}: {}\n{said}", trace.display(), output.status);
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("ipc-analyzer {command} {}: {error}", trace.display()));
    let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("{command}: no rows in {answer}"));
    rows.iter().filter(|row| row["section"] == "finding").map(|row| Finding::read(command, row)).collect()
}

impl Finding {
    fn read(command: &'static str, row: &Value) -> Finding {
        let text = |column: &str| row[column].as_str().map(str::to_owned);
        let needed = |column: &str| text(column).unwrap_or_else(|| panic!("{command}: no {column} in {row}"));
        // Each is there for the user, whatever it says.
        let _ = (needed("what"), needed("remedy"));
        Finding {
            command,
            finding: needed("finding"),
            grade: needed("grade"),
            object: text("object"),
            doubts: doubts(&row["doubts"]),
            text: without_separators(&words(row)),
        }
    }
}

/// The doubts as text, empty when there are none.
fn doubts(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(texts) if texts.is_empty() => String::new(),
        Value::String(text) if text == "[]" => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Every text of the row; its numbers and lists are ids and instants.
fn words(row: &Value) -> String {
    let columns = row.as_object().unwrap().values();
    columns.filter_map(Value::as_str).collect::<Vec<&str>>().join(" | ")
}

/// 6,074,404 is 6074404.
fn without_separators(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let is_digit = |place: usize| characters.get(place).is_some_and(char::is_ascii_digit);
    let is_kept =
        |place: &usize| characters[*place] != ',' || !(*place > 0 && is_digit(place - 1) && is_digit(place + 1));
    (0..characters.len()).filter(is_kept).map(|place| characters[place]).collect()
}

impl Expected {
    /// What a workload printed as `expected`.
    pub fn read(list: &Value) -> Vec<Expected> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let one = |value: &Value| Expected {
            command: value["command"].as_str().unwrap().to_owned(),
            finding: value["finding"].as_str().unwrap().to_owned(),
            objects: value["objects"].is_array().then(|| texts(&value["objects"])),
            grades: texts(&value["grades"]),
            is_optional: value["optional"].as_bool().unwrap(),
            says: texts(&value["says"]),
        };
        list.as_array().unwrap().iter().map(one).collect()
    }

    /// Whether one of these commands is to tell it.
    pub fn is_of(&self, commands: &[&str]) -> bool {
        commands.contains(&self.command.as_str())
    }

    fn allows(&self, finding: &Finding, sight: Sight) -> bool {
        let has = |grade: &str| self.grades.iter().any(|right| right == grade);
        let held_back = sight == Sight::Filtered && finding.grade == "likely" && !finding.doubts.is_empty();
        let is_graded = has(&finding.grade) || (held_back && has("certain"));
        is_graded
            && self.command == finding.command
            && self.finding == finding.finding
            && self.names(finding.object.as_deref())
            && self.says.iter().all(|text| finding.text.contains(text.as_str()))
    }

    /// Whether it is about this object, or any.
    pub fn names(&self, object: Option<&str>) -> bool {
        let Some(objects) = &self.objects else { return true };
        // It may name the namespace, too.
        let object = object.unwrap_or_default().split('@').next().unwrap_or_default();
        objects.iter().any(|right| right == object)
    }
}

/// Fits findings to what is expected, one to one.
pub fn judge(expected: &[Expected], found: Vec<Finding>, sight: Sight) -> Verdict {
    let mut verdict = Verdict::default();
    // What must be there takes its finding first.
    let mut open: Vec<&Expected> = expected.iter().collect();
    open.sort_by_key(|expected| expected.is_optional);
    for finding in found {
        match open.iter().position(|expected| expected.allows(&finding, sight)) {
            Some(place) => {
                open.remove(place);
                verdict.right.push(finding);
            }
            None => verdict.wrong.push(finding),
        }
    }
    verdict.missed = open.into_iter().filter(|expected| !expected.is_optional).cloned().collect();
    verdict
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { command, finding, grade, object, text, .. } = self;
        write!(f, "{command}: {grade} {finding} of {}: {text}", object.as_deref().unwrap_or("no object"))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected { command, finding, objects, grades, says, .. } = self;
        write!(f, "{command}: {} {finding}", grades.join(" or "))?;
        if let Some(objects) = objects {
            write!(f, " of {}", objects.join(" or "))?;
        }
        if says.is_empty() { Ok(()) } else { write!(f, " that says {}", says.join(" and ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expected(optional: bool) -> Vec<Expected> {
        Expected::read(&json!([{
            "command": "failures", "finding": "limit", "objects": ["sem:5"], "grades": ["certain"],
            "optional": optional, "says": ["6074404"],
        }]))
    }

    fn found(change: impl Fn(&mut Value)) -> Vec<Finding> {
        let mut row = json!({
            "section": "finding", "finding": "limit", "grade": "certain", "object": "sem:5@402", "doubts": "[]",
            "what": "6,074,404 of them", "remedy": "none",
        });
        change(&mut row);
        vec![Finding::read("failures", &row)]
    }

    /// Right, wrong and missed.
    fn counts(expected: &[Expected], found: Vec<Finding>, sight: Sight) -> (usize, usize, usize) {
        let Verdict { right, wrong, missed } = judge(expected, found, sight);
        (right.len(), wrong.len(), missed.len())
    }

    #[test]
    fn what_is_expected_is_right_and_silence_is_not() {
        assert_eq!(counts(&expected(false), found(|_| ()), Sight::Whole), (1, 0, 0));
        assert_eq!(counts(&expected(false), vec![], Sight::Whole), (0, 0, 1));
        assert_eq!(counts(&expected(true), vec![], Sight::Whole), (0, 0, 0));
        assert_eq!(counts(&[], found(|_| ()), Sight::Whole), (0, 1, 0));
    }

    #[test]
    fn another_object_grade_or_number_and_a_second_one_are_wrong() {
        let wrong = |column: &'static str, value: &'static str| found(move |row| row[column] = value.into());
        for (column, value) in
            [("object", "sem:6"), ("grade", "suspect"), ("what", "6,074,405"), ("finding", "permission")]
        {
            assert_eq!(counts(&expected(false), wrong(column, value), Sight::Whole), (0, 1, 1), "{column}");
        }
        let evidence = found(|row| (row["what"], row["evidence"]) = ("many".into(), json!([6_074_404])));
        assert_eq!(counts(&expected(false), evidence, Sight::Whole), (0, 1, 1), "a call's id is no limit");
        let twice = [found(|_| ()), found(|_| ())].concat();
        assert_eq!(counts(&expected(false), twice, Sight::Whole), (1, 1, 0));
    }

    #[test]
    fn a_filter_may_hold_back_what_is_certain_but_only_with_a_doubt() {
        let likely =
            |doubts: &'static str| found(move |row| (row["grade"], row["doubts"]) = ("likely".into(), doubts.into()));
        assert_eq!(counts(&expected(false), likely("[\"others\"]"), Sight::Filtered), (1, 0, 0));
        assert_eq!(counts(&expected(false), likely("[\"others\"]"), Sight::Whole), (0, 1, 1));
        assert_eq!(counts(&expected(false), likely("[]"), Sight::Filtered), (0, 1, 1));
    }
}
