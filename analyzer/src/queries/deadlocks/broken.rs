//! When long waits were ended by force, in each trace: who is killed, or loses the object it waits for, may have been in a
//! deadlock until then. The end of a recorded command by Ctrl-C is such a moment.

use super::Moments;
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use ipc_schema::tables::{self, Table};

/// Shorter waits were in no deadlock that anybody noticed.
const LONG_NS: i64 = 1_000_000_000;
/// What ends by one deed ends within this time.
const TOGETHER_NS: i64 = 1_000_000_000;

/// The last such moment of each trace, just before the first wait was ended; `None` if no trace has one.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(opened: &Opened) -> Result<Option<Moments>, Error> {
    let traces = opened.traces.len();
    let last = scan::fold(&opened.traces, &opened.selection, &BrokenQuery { traces })?;
    let first = last.iter().map(|ends| ends.iter().min().map(|ns| ns.saturating_sub(1)));
    let at_ns: Vec<Option<i64>> = first.collect();
    if at_ns.iter().all(Option::is_none) {
        return Ok(None);
    }
    // Nothing waits before all time.
    Ok(Some(Moments { at_ns: at_ns.into_iter().map(|ns| ns.unwrap_or(i64::MIN)).collect(), are_asked: true }))
}

struct BrokenQuery {
    traces: usize,
}

impl Query for BrokenQuery {
    /// Per trace the ends within [`TOGETHER_NS`] of the last: no more than there were threads.
    type Partial = Vec<Vec<i64>>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, statistics: &dyn GroupStatistics) -> Vec<&'static str> {
        if statistics.is_always("outcome", "ok") {
            return Vec::new();
        }
        vec!["outcome", "error", "start_ns", "end_ns", "wait_ns"]
    }

    fn empty(&self) -> Vec<Vec<i64>> {
        vec![Vec::new(); self.traces]
    }

    fn fold(&self, last: &mut Vec<Vec<i64>>, batch: &Batch) -> Result<(), Error> {
        if !batch.has("outcome") {
            return Ok(());
        }
        let (outcome, error) = (batch.text("outcome")?, batch.text("error")?);
        let (start, end, wait) = (batch.int64("start_ns")?, batch.int64("end_ns")?, batch.int64("wait_ns")?);
        for row in 0..batch.rows() {
            let is_long = int64_at(end, row).filter(|ns| ns.saturating_sub(start.value(row)) >= LONG_NS);
            let Some(end_ns) = is_long else { continue };
            if outcome.get(row) == Some("killed") || error.get(row) == Some("EIDRM") {
                // Who removes an object is back from that before its waiters are: the waking tells when it took effect.
                let woken_ns = int64_at(wait, row).map(|ns| start.value(row).saturating_add(ns));
                add(last, batch.trace, woken_ns.map_or(end_ns, |ns| ns.min(end_ns)));
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<Vec<i64>>, from: Vec<Vec<i64>>) {
        for (trace, ends) in from.into_iter().enumerate() {
            ends.into_iter().for_each(|ns| add(into, trace, ns));
        }
    }
}

fn add(last: &mut [Vec<i64>], trace: usize, end_ns: i64) {
    let Some(ends) = last.get_mut(trace) else { return };
    // The latest is the first of them.
    let latest = ends.first().copied().unwrap_or(end_ns);
    if latest.saturating_sub(end_ns) > TOGETHER_NS {
        return;
    }
    ends.push(end_ns);
    if end_ns > latest {
        ends.retain(|ns| end_ns.saturating_sub(*ns) <= TOGETHER_NS);
        let newest = ends.len() - 1;
        ends.swap(0, newest);
    }
}
