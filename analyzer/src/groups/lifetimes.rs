//! What a lifetime stands for: which object. A call then says it in one number.

use super::{Dimension, Object};
use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::intern::{NULL, Texts};
use crate::scan::{self, CodedGroup};
use crate::trace::Trace;
use hashbrown::HashMap;
use ipc_schema::tables;
use std::slice;

/// With more lifetimes every call's own columns are read: some 10 MiB per thread.
const LIFETIMES_MAX: u64 = 50_000;

/// The lifetimes of all traces.
#[derive(Default)]
pub struct Lifetimes {
    objects: HashMap<(usize, i64), Object>,
    /// The texts of the objects: the first of every thread.
    pub texts: Texts,
}

/// Lifetime, kind, id, name, namespace.
type Row = (i64, String, i64, Option<String>, Option<i64>);

impl Lifetimes {
    /// Reads them, if they are asked for and few.
    ///
    /// # Errors
    /// A part that cannot be believed.
    pub fn read(traces: &[Trace], by: &[Dimension]) -> Result<Lifetimes, Error> {
        let mut lifetimes = Lifetimes::default();
        let rows: u64 = traces.iter().map(|trace| trace.listed_rows(&tables::LIFETIMES)).sum();
        let has_unlisted = traces.iter().flat_map(|t| t.parts_of(&tables::LIFETIMES)).any(|part| part.listed.is_none());
        if !by.contains(&Dimension::Object) || rows > LIFETIMES_MAX || has_unlisted {
            return Ok(lifetimes);
        }
        const COLUMNS: [&str; 5] = ["object_ref", "object_kind", "object_id", "name", "ipc_ns"];
        for (number, trace) in traces.iter().enumerate() {
            let mut rows: Vec<Row> = scan::collect(slice::from_ref(trace), &tables::LIFETIMES, &COLUMNS, read)?;
            // Their numbers do not depend on which thread came first.
            rows.sort();
            for (object_ref, kind, id, name, ipc_ns) in rows {
                let kind = lifetimes.texts.number(&kind);
                let name = name.map_or(NULL, |name| lifetimes.texts.number(&name));
                let present = 0b011 | u32::from(ipc_ns.is_some()) << 2;
                let object = Object { kind, name, present, object_ref, id, ipc_ns: ipc_ns.unwrap_or(0) };
                lifetimes.objects.insert((number, object_ref), object);
            }
        }
        Ok(lifetimes)
    }

    /// What a lifetime stands for.
    pub fn get(&self, trace: usize, object_ref: i64) -> Option<&Object> {
        self.objects.get(&(trace, object_ref))
    }

    /// Whether every call of a row group that is about an object has its lifetime.
    pub fn cover(&self, group: &CodedGroup<'_>) -> bool {
        let [without_lifetime, without_object] = ["object_ref", "object_kind"].map(|name| group.null_count(name));
        !self.objects.is_empty() && without_lifetime.is_some() && without_lifetime == without_object
    }
}

fn read(batch: &Batch, rows: &mut Vec<Row>) -> Result<(), Error> {
    let (refs, ids, ipc_ns) = (batch.int64("object_ref")?, batch.int64("object_id")?, batch.int64("ipc_ns")?);
    let (kinds, names) = (batch.text("object_kind")?, batch.text("name")?);
    for row in 0..batch.rows() {
        let kind = kinds.get(row).unwrap_or_default().to_owned();
        rows.push((refs.value(row), kind, ids.value(row), names.get(row).map(str::to_owned), int64_at(ipc_ns, row)));
    }
    Ok(())
}
