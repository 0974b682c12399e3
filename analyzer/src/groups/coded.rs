//! Groups from the codes of whole row groups: keys are looked up once per combination, durations are measured once per
//! value, and a row costs a few additions.

use super::lifetimes::Lifetimes;
use super::{Dimension, GroupQuery, Key, NO_OBJECT, Object, Partial, tally};
use crate::codes::{Codes, Values};
use crate::distribution::bucket_of;
use crate::intern::{NULL, Texts};
use crate::numbering::Numbering;
use crate::scan::CodedGroup;

/// With more groups the counters of each do not stay in the cache.
const TALLIED_MAX: usize = 40;

/// The durations of a row group.
pub struct Durations<'a> {
    /// Each once, nanoseconds.
    pub values: &'a [i64],
    /// Their buckets.
    pub buckets: Vec<u16>,
    /// Whether sums of a row group's rows fit an Int64.
    pub is_small: bool,
}

/// The columns that make a key.
struct KeyColumns<'a> {
    trace: u32,
    /// syscall, comm, error, object kind, object name.
    texts: [Option<Numbered>; 5],
    pid: Option<Codes>,
    /// object_ref, object_id, ipc_ns.
    object: Option<[Codes; 3]>,
    /// object_ref, and per value what it stands for.
    lifetime: Option<(Codes, Vec<&'a Object>)>,
}

/// A column of text, with the number of each of its values.
struct Numbered {
    codes: Codes,
    numbers: Vec<u32>,
}

impl Numbered {
    fn read(group: &CodedGroup<'_>, column: &str, texts: &mut Texts) -> Option<Numbered> {
        let codes = group.codes(column)?;
        let Values::Text(values) = &codes.values else { return None };
        let numbers = values.iter().map(|value| value.map_or(NULL, |value| texts.number(value))).collect();
        Some(Numbered { codes, numbers })
    }

    fn at(&self, row: usize) -> u32 {
        self.numbers.get(self.codes.rows[row] as usize).copied().unwrap_or(NULL)
    }
}

impl<'a> KeyColumns<'a> {
    fn read(
        by: &[Dimension],
        trace: u32,
        group: &CodedGroup<'_>,
        texts: &mut Texts,
        lifetimes: &'a Lifetimes,
    ) -> Option<KeyColumns<'a>> {
        let mut columns = KeyColumns { trace, texts: Default::default(), pid: None, object: None, lifetime: None };
        for dimension in by {
            match dimension {
                Dimension::Syscall => columns.texts[0] = Some(Numbered::read(group, "syscall", texts)?),
                Dimension::Comm => columns.texts[1] = Some(Numbered::read(group, "comm", texts)?),
                Dimension::Error => columns.texts[2] = Some(Numbered::read(group, "error", texts)?),
                Dimension::Pid => columns.pid = Some(group.codes("pid")?),
                Dimension::Object if lifetimes.cover(group) => {
                    let codes = group.codes("object_ref")?;
                    let Values::Int64(values) = &codes.values else { return None };
                    let known: Option<Vec<&Object>> =
                        values.iter().map(|value| lifetimes.get(group.trace(), *value)).collect();
                    columns.lifetime = Some((codes, known?));
                }
                Dimension::Object => {
                    columns.texts[3] = Some(Numbered::read(group, "object_kind", texts)?);
                    columns.texts[4] = Some(Numbered::read(group, "object_name", texts)?);
                    let [object_ref, id, ipc_ns] = ["object_ref", "object_id", "ipc_ns"].map(|name| group.codes(name));
                    columns.object = Some([object_ref?, id?, ipc_ns?]);
                }
            }
        }
        Some(columns)
    }

    /// The columns, first those from which others follow.
    fn all(&self) -> Vec<&Codes> {
        let object = self.lifetime.iter().map(|(codes, _)| codes).chain(self.object.iter().flatten());
        object.chain(self.texts.iter().flatten().map(|text| &text.codes)).chain(&self.pid).collect()
    }

    fn key(&self, row: usize) -> Key {
        let [syscall, comm, error, kind, name] =
            [0, 1, 2, 3, 4].map(|i: usize| self.texts[i].as_ref().map_or(NULL, |text| text.at(row)));
        let pid = self.pid.as_ref().and_then(|codes| match &codes.values {
            Values::Int32(values) => values.get(codes.rows[row] as usize).map(|pid| *pid as u32),
            _ => None,
        });
        if let Some((codes, known)) = &self.lifetime {
            let object = known.get(codes.rows[row] as usize).map_or(NO_OBJECT, |object| **object);
            return Key { trace: self.trace, syscall, comm, pid: pid.unwrap_or(NULL), error, object };
        }
        let object = match &self.object {
            Some(columns) if kind != NULL => {
                let mut present = 0;
                let mut value = |bit: usize| {
                    let Values::Int64(values) = &columns[bit].values else { return 0 };
                    let value = values.get(columns[bit].rows[row] as usize).copied();
                    present |= u32::from(value.is_some()) << bit;
                    value.unwrap_or(0)
                };
                let (object_ref, id, ipc_ns) = (value(0), value(1), value(2));
                Object { kind, name, present, object_ref, id, ipc_ns }
            }
            _ => NO_OBJECT,
        };
        Key { trace: self.trace, syscall, comm, pid: pid.unwrap_or(NULL), error, object }
    }
}

impl GroupQuery<'_> {
    /// Adds a row group; `false`: it has open calls, or columns that are no codes.
    pub(super) fn fold_row_group(&self, partial: &mut Partial, group: &CodedGroup<'_>) -> bool {
        self.put_off(partial);
        let Some(durations) = group.codes("duration_ns").filter(|codes| !codes.has_nulls) else { return false };
        let Values::Int64(values) = &durations.values else { return false };
        let Some(before_trace) = count_before_trace(group) else { return false };
        let trace = if self.separate_traces { group.trace() as u32 } else { 0 };
        let Some(columns) = KeyColumns::read(self.by, trace, group, &mut partial.texts, self.lifetimes) else {
            return false;
        };
        partial.before_trace += before_trace;
        let (min, max) = values.iter().fold((i64::MAX, i64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        let is_small = min >= 0 && max < 1 << 40;
        let of_values = Durations { values, buckets: values.iter().map(|value| bucket_of(*value)).collect(), is_small };
        let numbering = Numbering::of(&columns.all(), group.rows());
        if is_small && numbering.examples.len() <= TALLIED_MAX {
            self.add_tallied(partial, &columns, &numbering, (&durations, &of_values));
        } else {
            self.add_together(partial, &columns, &numbering, (&durations.rows, &of_values));
        }
        self.check_memory(partial);
        true
    }

    /// Few groups: the large ones are counted row by row, the rest put together.
    fn add_tallied(
        &self,
        partial: &mut Partial,
        columns: &KeyColumns<'_>,
        numbering: &Numbering,
        (durations, of_values): (&Codes, &Durations<'_>),
    ) {
        let mut slots = vec![tally::NONE; numbering.examples.len()];
        for (slot, example) in slots.iter_mut().zip(&numbering.examples).filter(|(_, example)| **example != u32::MAX) {
            let number = partial.find(&columns.key(*example as usize), &self.pass);
            *slot = partial.tallies.slot_of(number, &partial.groups);
        }
        let others = partial.tallies.add(&numbering.numbers, &slots, &durations.rows, of_values);
        if partial.tallies.is_full() {
            partial.settle();
        }
        if !others.is_empty() {
            let of_rows = |all: &[u32]| others.iter().map(|row| all[*row as usize]).collect::<Vec<u32>>();
            let rest = Numbering { numbers: of_rows(&numbering.numbers), examples: numbering.examples.clone() };
            self.add_together(partial, columns, &rest, (&of_rows(&durations.rows), of_values));
        }
    }

    /// Many groups: puts the durations of each together.
    fn add_together(
        &self,
        partial: &mut Partial,
        columns: &KeyColumns<'_>,
        numbering: &Numbering,
        (durations, of_values): (&[u32], &Durations<'_>),
    ) {
        let (together, ends) = numbering.together(durations);
        let (mut grown_bytes, mut begin) = (0, 0);
        for (end, example) in ends.iter().zip(&numbering.examples) {
            let of_group = &together[begin..*end as usize];
            begin = *end as usize;
            if of_group.is_empty() {
                continue;
            }
            let number = partial.find(&columns.key(*example as usize), &self.pass);
            if let Some(group) = partial.groups.get_mut(number as usize) {
                group.durations.add_codes(of_group, of_values, &mut grown_bytes);
            }
        }
        partial.bytes = partial.bytes.saturating_add_signed(grown_bytes);
    }
}

/// How many calls began before the trace. `None`: the column is no codes.
fn count_before_trace(group: &CodedGroup<'_>) -> Option<u64> {
    if group.is_always("began", "in_trace") {
        return Some(0);
    }
    let codes = group.codes("began")?;
    let Values::Text(values) = &codes.values else { return None };
    let before: Vec<bool> = values.iter().map(|value| value == Some("before_trace")).collect();
    let is_before = |code: &&u32| before.get(**code as usize).copied().unwrap_or(false);
    Some(codes.rows.iter().filter(is_before).count() as u64)
}
