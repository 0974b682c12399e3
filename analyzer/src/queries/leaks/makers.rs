//! How many objects the programs made, removed and left.

use super::left::Left;
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::filter::Selection;
use crate::names::Processes;
use crate::query::{GroupStatistics, Query};
use crate::report::{Rows, Table, Unit, Value, column};
use crate::scan;
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table as TraceTable};
use std::cmp::Reverse;

/// Processes that are told apart; the objects of further ones are of a maker without a name.
const PROCESSES_MAX: usize = 1 << 17;
const TEXT_ROWS: usize = 10;

/// The objects of one maker.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    made: u64,
    removed: u64,
    left: u64,
    bytes: i64,
}

impl Made {
    fn merge(&mut self, from: Made) {
        self.made += from.made;
        self.removed += from.removed;
        self.left += from.left;
        self.bytes = self.bytes.saturating_add(from.bytes);
    }
}

/// By trace and name of the maker, the most left first.
pub struct Makers(Vec<((usize, Option<String>), Made)>);

/// Reads them.
///
/// # Errors
/// A part that cannot be believed.
pub fn read(traces: &[Trace], left: &Left) -> Result<Makers, Error> {
    let mut of_processes = scan::fold(traces, &Selection::everything(), &MadeQuery)?;
    for object in left.objects.iter().filter(|object| object.lifetime.created_ns.is_some()) {
        let bytes = object.state.and_then(|state| state.bytes).unwrap_or(0);
        let made = Made { left: 1, bytes, ..Made::default() };
        add(&mut of_processes, (object.trace, object.lifetime.created_by), made);
    }
    let wanted = of_processes.keys().filter_map(|(trace, maker)| Some((*trace, (*maker)?))).collect();
    let processes = Processes::read(traces, &wanted)?;
    let mut by_name: HashMap<(usize, Option<String>), Made> = HashMap::new();
    for ((trace, maker), made) in of_processes {
        let name = maker.and_then(|maker| processes.get(trace, maker)?.comm.clone());
        by_name.entry((trace, name)).or_default().merge(made);
    }
    let mut makers: Vec<_> = by_name.into_iter().collect();
    makers.sort_by(|(a, of_a), (b, of_b)| {
        let weight = |made: &Made| Reverse((made.left, made.bytes, made.made));
        weight(of_a).cmp(&weight(of_b)).then_with(|| a.cmp(b))
    });
    Ok(Makers(makers))
}

type OfProcesses = HashMap<(usize, Option<i64>), Made>;

fn add(of_processes: &mut OfProcesses, key: (usize, Option<i64>), made: Made) {
    let is_full = of_processes.len() >= PROCESSES_MAX && !of_processes.contains_key(&key);
    let key = if is_full { (key.0, None) } else { key };
    of_processes.entry(key).or_default().merge(made);
}

struct MadeQuery;

impl Query for MadeQuery {
    type Partial = OfProcesses;

    fn table(&self) -> &'static TraceTable {
        &tables::LIFETIMES
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["created_ns", "created_by_process_id", "removed_ns"]
    }

    fn empty(&self) -> OfProcesses {
        OfProcesses::new()
    }

    fn fold(&self, of_processes: &mut OfProcesses, batch: &Batch) -> Result<(), Error> {
        let (created, makers) = (batch.int64("created_ns")?, batch.int64("created_by_process_id")?);
        let removed = batch.int64("removed_ns")?;
        for row in (0..batch.rows()).filter(|row| int64_at(created, *row).is_some()) {
            let removed = u64::from(int64_at(removed, row).is_some());
            add(of_processes, (batch.trace, int64_at(makers, row)), Made { made: 1, removed, ..Made::default() });
        }
        Ok(())
    }

    fn merge(&self, into: &mut OfProcesses, from: OfProcesses) {
        from.into_iter().for_each(|(key, made)| add(into, key, made));
    }
}

impl Makers {
    /// The table.
    pub fn table<'a>(self, traces: &'a [Trace]) -> Table<'a> {
        let row = move |((trace, comm), made): ((usize, Option<String>), Made)| {
            Ok(vec![
                Value::text(traces.get(trace).map(|trace| trace.manifest.trace_id.clone())),
                Value::text(comm),
                Value::Int(made.made.into()),
                Value::Int(made.removed.into()),
                Value::Int(made.left.into()),
                Value::Int(made.bytes.into()),
            ])
        };
        let rows: Rows<'a> = Box::new(self.0.into_iter().map(row));
        let columns = vec![
            column("trace_id", if traces.len() > 1 { "trace" } else { "" }, Unit::Text),
            column("comm", "maker", Unit::Text),
            column("made", "made", Unit::Count),
            column("removed", "removed", Unit::Count),
            column("left", "left", Unit::Count),
            column("bytes", "bytes left", Unit::Count),
        ];
        let title = "Objects made in the recording, by their makers".to_owned();
        Table { section: Some("creator"), title, columns, rows, sparse: false, text_limit: TEXT_ROWS }
    }
}
