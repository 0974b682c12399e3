//! What a command found wrong: how sure it is, why, and what to do about it.

use crate::human::{self, Zone};
use crate::report::{Column, Rows, Table, Unit, Value, column};
use crate::trace::Trace;

/// Calls that a finding names as its evidence at most.
pub const EVIDENCE_MAX: usize = 16;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing that the trace could not see would change it.
    Certain,
    /// It rests on an estimate, or something could change it: `doubts` says what.
    Likely,
    /// Worth a look.
    Suspect,
}

impl Grade {
    /// The value of the column `grade`.
    pub const fn name(self) -> &'static str {
        match self {
            Grade::Certain => "certain",
            Grade::Likely => "likely",
            Grade::Suspect => "suspect",
        }
    }
}

/// Something wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What kind of thing, in one word: `deadlock`, `convoy`…; the list stands in `docs/queries.md`.
    pub kind: &'static str,
    /// How sure it is.
    pub grade: Grade,
    /// The index of the trace.
    pub trace: usize,
    /// As `--object` takes it.
    pub object: Option<String>,
    /// The lifetime, as in the table `lifetimes`.
    pub object_ref: Option<i64>,
    /// Since when, nanoseconds since the epoch.
    pub since_ns: Option<i64>,
    /// What is wrong, in one or two sentences.
    pub what: String,
    /// What to do next.
    pub remedy: String,
    /// What the trace could not see and might change this.
    pub doubts: Vec<String>,
    /// Ids of calls that show it, [`EVIDENCE_MAX`] at most.
    pub evidence: Vec<i64>,
}

impl Finding {
    /// Adds what could change it: what was certain is likely then.
    pub fn doubt(&mut self, doubts: impl IntoIterator<Item = String>) {
        self.doubts.extend(doubts);
        if !self.doubts.is_empty() {
            self.grade = self.grade.max(Grade::Likely);
        }
    }

    /// Whether `--check` ends with 1 for it.
    pub fn is_alarm(&self) -> bool {
        self.grade < Grade::Suspect
    }

    /// What, of which object, since when; and in which trace where there are several. Escaped.
    pub fn heading(&self, traces: &[Trace], zone: Zone) -> String {
        let object = self.object.as_deref().map(|object| format!(" {}", human::escape(object))).unwrap_or_default();
        let since = self.since_ns.map(|ns| format!(", since {}", human::instant(ns, zone))).unwrap_or_default();
        let of = match traces {
            [_, _, ..] => traces.get(self.trace).map(|trace| format!(" in {}", human::escape(&trace.name()))),
            _ => None,
        };
        let of = of.unwrap_or_default();
        format!("{}{object}{since}{of}", self.kind.replace('_', " "))
    }

    /// For people.
    fn paragraph(&self, traces: &[Trace], zone: Zone) -> Vec<Line> {
        let head = format!("{} {}", self.grade.name(), self.heading(traces, zone));
        let mut lines = vec![Line { sign: "", text: head, is_heading: true }];
        let mut add = |sign, text: &str| lines.push(Line { sign, text: human::escape(text), is_heading: false });
        add("", &self.what);
        add("→", &self.remedy);
        self.doubts.iter().for_each(|doubt| add("?", doubt));
        if !self.evidence.is_empty() {
            let ids: Vec<String> = self.evidence.iter().map(ToString::to_string).collect();
            add("#", &format!("calls {}", ids.join(" ")));
        }
        lines
    }

    fn row(&self, trace_id: Option<&str>) -> Vec<Value> {
        vec![
            Value::Text(self.kind.to_owned()),
            Value::Text(self.grade.name().to_owned()),
            Value::text(trace_id),
            Value::text(self.object.as_deref()),
            Value::int(self.object_ref),
            Value::int(self.since_ns),
            Value::Text(self.what.clone()),
            Value::Text(self.remedy.clone()),
            Value::Json(serde_json::Value::from(self.doubts.clone()).to_string()),
            Value::Json(serde_json::Value::from(self.evidence.clone()).to_string()),
        ]
    }
}

/// A line of a finding's paragraph.
pub struct Line {
    /// What stands before it.
    pub sign: &'static str,
    /// Escaped.
    pub text: String,
    /// Whether it is the first.
    pub is_heading: bool,
}

/// The surest first, then the oldest.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.grade, f.since_ns.unwrap_or(i64::MAX), f.trace, f.kind, f.object_ref);
        key(a).cmp(&key(b)).then_with(|| a.what.cmp(&b.what))
    });
}

/// The paragraphs for people.
pub fn paragraphs(findings: &[Finding], traces: &[Trace], zone: Zone) -> Vec<Vec<Line>> {
    findings.iter().map(|finding| finding.paragraph(traces, zone)).collect()
}

/// The rows for machines.
pub fn table<'a>(findings: &'a [Finding], traces: &'a [Trace]) -> Table<'a> {
    let id = |finding: &Finding| traces.get(finding.trace).map(|trace| trace.manifest.trace_id.as_str());
    let rows: Rows<'a> = Box::new(findings.iter().map(move |finding| Ok(finding.row(id(finding)))));
    Table {
        section: Some("finding"),
        title: "Findings".to_owned(),
        columns: COLUMNS.to_vec(),
        rows,
        sparse: false,
        text_limit: 0,
    }
}

const COLUMNS: [Column; 10] = [
    column("finding", "finding", Unit::Text),
    column("grade", "grade", Unit::Text),
    column("trace_id", "trace", Unit::Text),
    column("object", "object", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("since_ns", "since", Unit::Instant),
    column("what", "what", Unit::Text),
    column("remedy", "remedy", Unit::Text),
    column("doubts", "doubts", Unit::Text),
    column("evidence", "calls", Unit::Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(grade: Grade, since_ns: i64) -> Finding {
        Finding {
            kind: "deadlock",
            grade,
            trace: 0,
            object: None,
            object_ref: None,
            since_ns: Some(since_ns),
            what: String::new(),
            remedy: String::new(),
            doubts: Vec::new(),
            evidence: Vec::new(),
        }
    }

    #[test]
    fn a_doubt_leaves_nothing_certain_and_makes_nothing_surer() {
        for (before, after) in [(Grade::Certain, Grade::Likely), (Grade::Suspect, Grade::Suspect)] {
            let mut finding = finding(before, 0);
            finding.doubt([]);
            assert_eq!(finding.grade, before);
            finding.doubt(["3 calls were lost".to_owned()]);
            assert_eq!(finding.grade, after);
        }
    }

    #[test]
    fn the_surest_and_oldest_come_first() {
        let mut findings = [finding(Grade::Suspect, 1), finding(Grade::Certain, 9), finding(Grade::Certain, 5)];
        sort(&mut findings);
        assert_eq!(findings.map(|f| f.since_ns), [Some(5), Some(9), Some(1)]);
    }
}
