//! `trace.json` has no checksum of its own: what answers rest on is compared with the table `session`, which has one.

use crate::batch::Batch;
use crate::error::Error;
use crate::filter::Selection;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use crate::trace::Trace;
use ipc_schema::manifest;
use ipc_schema::tables::{self, Table};

/// What is compared: the name and the value.
type Facts = Vec<(&'static str, String)>;

/// Compares both for each trace.
///
/// # Errors
/// [`Error::Damaged`] when they disagree or the table has another number of rows.
pub fn check(traces: &[Trace]) -> Result<(), Error> {
    let rows = scan::fold(traces, &Selection::everything(), &SessionQuery)?;
    for (i, trace) in traces.iter().enumerate() {
        let of_trace: Vec<&Facts> = rows.iter().filter(|(trace, _)| *trace == i).map(|(_, facts)| facts).collect();
        let file = trace.path.join(manifest::FILE_NAME).display().to_string();
        match of_trace[..] {
            [] if !trace.manifest.complete => {}
            [facts] => compare(&file, trace, facts)?,
            _ => {
                let what = format!("the table session has {} rows, not one; copy the trace again", of_trace.len());
                return Err(Error::damaged(file, what));
            }
        }
    }
    Ok(())
}

fn compare(file: &str, trace: &Trace, facts: &Facts) -> Result<(), Error> {
    // While a recording runs its totals are not final.
    let expected = from_manifest(trace);
    for ((name, found), (_, expected)) in facts.iter().zip(&expected) {
        if found != expected && trace.manifest.complete {
            let what = format!("says {name} = {expected}, the table session says {found}; copy the trace again");
            return Err(Error::damaged(file, what));
        }
    }
    Ok(())
}

fn from_manifest(trace: &Trace) -> Facts {
    let session = &trace.manifest.session;
    vec![
        ("trace_id", trace.manifest.trace_id.clone()),
        ("host", session.host.clone()),
        ("kernel", session.kernel.clone()),
        ("start_ns", session.start_ns.to_string()),
        ("end_ns", session.end_ns.to_string()),
        ("calls", session.calls.to_string()),
        ("lost_calls", session.lost_calls.to_string()),
        ("lost_records", session.lost_records.to_string()),
        ("late_records", session.late_records.to_string()),
        ("filters", serde_json::to_value(&session.filters).unwrap_or_default().to_string()),
        ("missing", serde_json::to_value(&session.missing).unwrap_or_default().to_string()),
    ]
}

struct SessionQuery;

const TEXTS: [&str; 3] = ["trace_id", "host", "kernel"];
const NUMBERS: [&str; 6] = ["start_ns", "end_ns", "calls", "lost_calls", "lost_records", "late_records"];
const DOCUMENTS: [&str; 2] = ["filters", "missing"];

impl Query for SessionQuery {
    type Partial = Vec<(usize, Facts)>;

    fn table(&self) -> &'static Table {
        &tables::SESSION
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        TEXTS.iter().chain(&NUMBERS).chain(&DOCUMENTS).copied().collect()
    }

    fn empty(&self) -> Self::Partial {
        Vec::new()
    }

    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        // One is right, two are wrong, more say nothing new.
        for row in 0..batch.rows().min(2) {
            let mut facts = Facts::new();
            for name in TEXTS {
                facts.push((name, batch.text(name)?.get(row).unwrap_or_default().to_owned()));
            }
            for name in NUMBERS {
                facts.push((name, batch.int64(name)?.value(row).to_string()));
            }
            for name in DOCUMENTS {
                let text = batch.text(name)?.get(row).unwrap_or_default();
                let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                facts.push((name, json.to_string()));
            }
            partial.push((batch.trace, facts));
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        into.extend(from);
    }
}
