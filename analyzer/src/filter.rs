//! Which calls a command looks at: `--since --until --pid --comm --syscall --object`.

use crate::batch::{Batch, Text, int32_at, int64_at};
use crate::error::Error;
use crate::query::{GroupStatistics, Query};
use crate::trace::Trace;
use arrow::array::{Array, BooleanArray};
use arrow::buffer::BooleanBuffer;
use ipc_schema::catalogue::{CATALOGUE, Family, IPC_OPERATIONS, OPERATIONS};
use ipc_schema::tables::{self, Table};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use std::collections::HashSet;

/// The filter as the command line gives it; empty lists keep everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Calls that end at or after it.
    pub since: Option<Moment>,
    /// Calls that start before it.
    pub until: Option<Moment>,
    /// Process ids.
    pub pids: Vec<i32>,
    /// Thread names.
    pub comms: Vec<String>,
    /// Operations.
    pub syscalls: Vec<&'static str>,
    /// Objects.
    pub objects: Vec<ObjectPattern>,
}

/// A point in time, absolute or relative to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nanoseconds since the epoch.
    At(i64),
    /// Nanoseconds after the start of the trace.
    AfterStart(i64),
    /// Nanoseconds before the end of the trace.
    BeforeEnd(i64),
}

/// `sem:ID`, `msg:key=0x…`, `mq:/name`, each with `@ipc_ns` if wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPattern {
    /// sem, shm, msg, mq.
    pub kind: &'static str,
    /// Which one.
    pub selector: Selector,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<i64>,
}

/// How an object is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// semid, shmid, msqid; inode of a POSIX queue.
    Id(i64),
    /// System V key.
    Key(i32),
    /// Name of a POSIX queue.
    Name(String),
}

impl Moment {
    /// Parses RFC 3339, `+5s` or `-10m`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Moment, String> {
        if let Some(rest) = text.strip_prefix('+') {
            return Ok(Moment::AfterStart(parse_duration_ns(rest)?));
        }
        if let Some(rest) = text.strip_prefix('-') {
            return Ok(Moment::BeforeEnd(parse_duration_ns(rest)?));
        }
        let expected = "expected RFC 3339 (2026-11-22T12:00:01.5Z), +5s after the start or -10m before the end";
        let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| expected.to_owned())?;
        time.timestamp_nanos_opt().map(Moment::At).ok_or_else(|| "the year is outside 1678 to 2262".to_owned())
    }

    /// Nanoseconds since the epoch.
    pub fn in_trace(self, trace: &Trace) -> i64 {
        let session = &trace.manifest.session;
        match self {
            Moment::At(time) => time,
            Moment::AfterStart(after) => session.start_ns.saturating_add(after),
            Moment::BeforeEnd(before) => session.end_ns.saturating_sub(before),
        }
    }
}

/// Parses `5s`, `1.5ms`, `10m`: nanoseconds.
///
/// # Errors
/// What is expected.
pub fn parse_duration_ns(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("d", 86400e9)];
    let expected = || format!("{text:?} is no duration: a number and a unit (ns us ms s m h d), as in 5s or 1.5ms");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
    let number: f64 = text[..digits].parse().map_err(|_| expected())?;
    let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..]).ok_or_else(expected)?.1;
    let ns = (number * unit).round();
    if ns.is_finite() && ns < 9.2e18 { Ok(ns as i64) } else { Err(expected()) }
}

/// Parses one value of `--syscall`: a name or a family.
///
/// # Errors
/// The names there are.
pub fn parse_syscall(text: &str) -> Result<Vec<&'static str>, String> {
    if let Some(family) = text.strip_prefix('%') {
        let names = Family::NAMES.map(|(name, _)| format!("%{name}")).join(" ");
        let found = Family::NAMES.iter().find(|(name, _)| *name == family);
        let (_, family) = found.ok_or_else(|| format!("no family {text}; there are {names}"))?;
        return Ok(operations_of(*family));
    }
    // Functions of the C library are in the catalogue, and no operations.
    let libc = CATALOGUE.iter().filter(|e| e.family == Family::Libc).map(|e| e.operation);
    match OPERATIONS.iter().copied().chain(libc).find(|name| *name == text) {
        Some(name) => Ok(vec![name]),
        None => Err(format!("no operation {text:?}; there are {}", OPERATIONS.join(" "))),
    }
}

/// The operations of a family.
pub fn operations_of(family: Family) -> Vec<&'static str> {
    let direct = CATALOGUE.iter().filter(|e| e.family == family).map(|e| e.operation);
    let by_ipc =
        IPC_OPERATIONS.iter().map(|o| o.twin()).filter(|twin| twin.family == family).map(|twin| twin.operation);
    let mut names: Vec<_> = direct.chain(by_ipc).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl ObjectPattern {
    /// Parses `sem:5`, `shm:0x1f@4026531839`, `msg:key=0x51`, `mq:/jobs`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<ObjectPattern, String> {
        let expected = || {
            format!(
                "{text:?} is no object: sem:ID, shm:ID, msg:ID, msg:key=0x51 or mq:/name, with @IPC_NAMESPACE if needed"
            )
        };
        let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
        let kind = ["sem", "shm", "msg", "mq"].into_iter().find(|k| *k == kind).ok_or_else(expected)?;
        let (which, ipc_ns) = match rest.rsplit_once('@') {
            Some((which, ns)) => (which, Some(parse_integer(ns).ok_or_else(expected)?)),
            None => (rest, None),
        };
        let selector = if let Some(key) = which.strip_prefix("key=") {
            // A key is a 32-bit pattern: ipcs prints it unsigned.
            let key = parse_integer(key).filter(|k| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(k));
            Selector::Key(key.ok_or_else(expected)? as u32 as i32)
        } else if which.starts_with('/') && kind == "mq" {
            Selector::Name(which.to_owned())
        } else {
            Selector::Id(parse_integer(which).ok_or_else(expected)?)
        };
        Ok(ObjectPattern { kind, selector, ipc_ns })
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// One object of one IPC namespace: kind, id, namespace.
type ObjectIdentity = (&'static str, i64, Option<i64>);

/// The filter applied to certain traces.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    filter: Filter,
    /// Per trace: since (inclusive) and until (exclusive).
    windows: Vec<(Option<i64>, Option<i64>)>,
    /// Per trace: the objects that a key or a name stands for.
    identities: Vec<HashSet<ObjectIdentity>>,
}

impl Selection {
    /// Everything.
    pub fn everything() -> Selection {
        Selection::default()
    }

    /// Resolves moments, keys and names.
    ///
    /// # Errors
    /// Those of reading the traces.
    pub fn new(filter: Filter, traces: &[Trace]) -> Result<Selection, Error> {
        let window = |trace: &Trace| (filter.since.map(|m| m.in_trace(trace)), filter.until.map(|m| m.in_trace(trace)));
        let windows = traces.iter().map(window).collect();
        let identities = resolve_objects(&filter, traces)?;
        Ok(Selection { filter, windows, identities })
    }

    /// Whether it keeps everything.
    pub fn is_everything(&self) -> bool {
        self.columns().is_empty()
    }

    /// The time that is looked at in a trace: since (inclusive) and until (exclusive), nanoseconds since the epoch.
    pub fn window_ns(&self, trace: usize) -> (Option<i64>, Option<i64>) {
        self.windows.get(trace).copied().unwrap_or_default()
    }

    /// The columns it looks at.
    pub fn columns(&self) -> Vec<&'static str> {
        let mut columns = Vec::new();
        if self.filter.since.is_some() {
            columns.push("end_ns");
        }
        if self.filter.until.is_some() {
            columns.push("start_ns");
        }
        if !self.filter.pids.is_empty() {
            columns.push("pid");
        }
        if !self.filter.comms.is_empty() {
            columns.push("comm");
        }
        if !self.filter.syscalls.is_empty() {
            columns.push("syscall");
        }
        if !self.filter.objects.is_empty() {
            columns.extend(OBJECT_COLUMNS);
        }
        columns
    }

    /// Whether a row group can hold a call that is kept, by its statistics.
    pub fn may_match(&self, trace: usize, group: &RowGroupMetaData) -> bool {
        let (since, until) = self.windows.get(trace).copied().unwrap_or_default();
        let statistics =
            |name: &str| group.columns().iter().find(|c| c.column_path().string() == name).and_then(|c| c.statistics());
        if let (Some(until), Some(Statistics::Int64(start))) = (until, statistics("start_ns"))
            && start.min_opt().is_some_and(|min| *min >= until)
        {
            return false;
        }
        if let (Some(since), Some(Statistics::Int64(end))) = (since, statistics("end_ns"))
            && end.null_count_opt() == Some(0)
            && end.max_opt().is_some_and(|max| *max < since)
        {
            return false;
        }
        if let (false, Some(Statistics::Int32(pid))) = (self.filter.pids.is_empty(), statistics("pid"))
            && let (Some(min), Some(max)) = (pid.min_opt(), pid.max_opt())
            && !self.filter.pids.iter().any(|pid| (min..=max).contains(&pid))
        {
            return false;
        }
        may_hold(statistics("syscall"), self.filter.syscalls.iter().copied())
            && may_hold(statistics("comm"), self.filter.comms.iter().map(String::as_str))
    }

    /// Which rows are kept.
    ///
    /// # Errors
    /// A column that the batch does not have.
    pub fn mask(&self, batch: &Batch) -> Result<BooleanArray, Error> {
        let rows = batch.rows();
        let mut keep = BooleanBuffer::new_set(rows);
        let (since, until) = self.windows.get(batch.trace).copied().unwrap_or_default();
        if let Some(since) = since {
            let end = batch.int64("end_ns")?;
            keep = &keep & &BooleanBuffer::collect_bool(rows, |i| end.is_null(i) || end.value(i) >= since);
        }
        if let Some(until) = until {
            let start = batch.int64("start_ns")?;
            keep = &keep & &BooleanBuffer::collect_bool(rows, |i| start.value(i) < until);
        }
        if !self.filter.pids.is_empty() {
            let pid = batch.int32("pid")?;
            keep = &keep & &BooleanBuffer::collect_bool(rows, |i| self.filter.pids.contains(&pid.value(i)));
        }
        if !self.filter.comms.is_empty() {
            keep = &keep & &text_mask(batch.text("comm")?, |text| self.filter.comms.iter().any(|c| c == text));
        }
        if !self.filter.syscalls.is_empty() {
            keep = &keep & &text_mask(batch.text("syscall")?, |text| self.filter.syscalls.contains(&text));
        }
        if !self.filter.objects.is_empty() {
            keep = &keep & &self.object_mask(batch)?;
        }
        Ok(BooleanArray::new(keep, None))
    }

    fn object_mask(&self, batch: &Batch) -> Result<BooleanBuffer, Error> {
        let objects = Objects::new(batch)?;
        let resolved = self.identities.get(batch.trace);
        Ok(BooleanBuffer::collect_bool(batch.rows(), |row| {
            self.filter.objects.iter().any(|pattern| objects.matches(pattern, row))
                || resolved
                    .is_some_and(|set| !set.is_empty() && objects.identity(row).is_some_and(|o| set.contains(&o)))
        }))
    }
}

fn may_hold<'a>(statistics: Option<&Statistics>, mut wanted: impl ExactSizeIterator<Item = &'a str>) -> bool {
    let Some(Statistics::ByteArray(bounds)) = statistics else { return true };
    let (Some(min), Some(max)) = (bounds.min_opt(), bounds.max_opt()) else { return true };
    wanted.len() == 0 || wanted.any(|text| min.data() <= text.as_bytes() && text.as_bytes() <= max.data())
}

/// Looks at each value once, then at the rows.
fn text_mask(text: Text<'_>, keep: impl Fn(&str) -> bool) -> BooleanBuffer {
    let wanted: Vec<bool> = text.values.iter().map(|value| value.is_some_and(&keep)).collect();
    BooleanBuffer::collect_bool(text.keys.len(), |row| text.index(row).is_some_and(|index| wanted[index]))
}

const OBJECT_COLUMNS: [&str; 5] = ["object_kind", "object_id", "key", "object_name", "ipc_ns"];

/// The columns that say which object a call was about.
struct Objects<'a> {
    kind: Text<'a>,
    id: &'a arrow::array::Int64Array,
    key: &'a arrow::array::Int32Array,
    name: Text<'a>,
    ipc_ns: &'a arrow::array::Int64Array,
}

impl<'a> Objects<'a> {
    fn new(batch: &'a Batch) -> Result<Objects<'a>, Error> {
        Ok(Objects {
            kind: batch.text("object_kind")?,
            id: batch.int64("object_id")?,
            key: batch.int32("key")?,
            name: batch.text("object_name")?,
            ipc_ns: batch.int64("ipc_ns")?,
        })
    }

    fn matches(&self, pattern: &ObjectPattern, row: usize) -> bool {
        self.kind.get(row) == Some(pattern.kind)
            && (pattern.ipc_ns.is_none() || int64_at(self.ipc_ns, row) == pattern.ipc_ns)
            && match &pattern.selector {
                Selector::Id(id) => int64_at(self.id, row) == Some(*id),
                Selector::Key(key) => int32_at(self.key, row) == Some(*key),
                Selector::Name(name) => self.name.get(row) == Some(name),
            }
    }

    fn identity(&self, row: usize) -> Option<ObjectIdentity> {
        let kind = self.kind.get(row)?;
        let kind = ["sem", "shm", "msg", "mq"].into_iter().find(|k| *k == kind)?;
        Some((kind, int64_at(self.id, row)?, int64_at(self.ipc_ns, row)))
    }
}

/// Finds the ids behind keys and names, which only the calls that got or opened an object carry.
struct ResolveObjects<'a> {
    patterns: Vec<&'a ObjectPattern>,
    traces: usize,
}

impl Query for ResolveObjects<'_> {
    type Partial = Vec<HashSet<ObjectIdentity>>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        OBJECT_COLUMNS.to_vec()
    }

    fn empty(&self) -> Self::Partial {
        vec![HashSet::new(); self.traces]
    }

    fn fold(&self, partial: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        let objects = Objects::new(batch)?;
        for row in 0..batch.rows() {
            if self.patterns.iter().any(|pattern| objects.matches(pattern, row)) {
                partial[batch.trace].extend(objects.identity(row));
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        for (into, from) in into.iter_mut().zip(from) {
            into.extend(from);
        }
    }
}

fn resolve_objects(filter: &Filter, traces: &[Trace]) -> Result<Vec<HashSet<ObjectIdentity>>, Error> {
    let patterns: Vec<_> = filter.objects.iter().filter(|p| !matches!(p.selector, Selector::Id(_))).collect();
    if patterns.is_empty() {
        return Ok(vec![HashSet::new(); traces.len()]);
    }
    crate::scan::fold(traces, &Selection::everything(), &ResolveObjects { patterns, traces: traces.len() })
}
