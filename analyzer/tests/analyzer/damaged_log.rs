//! A real log, cut short at every byte and damaged at thousands of places: every row of it is as it was or absent, nothing is
//! absent without a loss that says since when, and the trace can be repaired.
//!
//! `tests/killed`: `ipc-recorder record --pid … --follow --segment-size 20KiB` of `ipc-workload numbered --processes 1 --blocked 3
//! --pause 100ms`, killed while it renamed a part (Linux 6.18, two CPUs): one segment is parts, two are a log.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use ipc_analyzer::repair;
use ipc_analyzer::trace::Trace;
use ipc_schema::tables::{CALLS, LIFETIMES, LOSSES, PROCESSES, SEM_OPS, SESSION, TABLES, THREADS, Table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What can be told before it ends, and what of it does not change with its end.
const OPEN: [(&Table, &[&str]); 5] = [
    (&CALLS, &["call_id", "start_ns", "began", "syscall", "pid", "tid", "comm", "object_id", "flags", "sem_num"]),
    (&SEM_OPS, &["call_id", "position", "sem_num", "sem_op", "sem_flags"]),
    (&PROCESSES, &["process_id", "pid", "start_ns"]),
    (&THREADS, &["thread_id", "process_id", "tid", "start_ns"]),
    (&LIFETIMES, &["object_ref", "object_kind", "object_id", "created_ns"]),
];

fn is_soak() -> bool {
    std::env::var("IPC_SOAK").is_ok_and(|value| value == "1")
}

/// The next number of a sequence (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What a trace says, for comparing.
struct Content {
    /// Every row of each table, and how often it is there.
    rows: BTreeMap<&'static str, BTreeMap<OwnedRow, usize>>,
    /// The same of the columns of [`OPEN`].
    begun: BTreeMap<&'static str, BTreeSet<OwnedRow>>,
    /// The rows that are not final.
    open: BTreeMap<&'static str, Vec<(OwnedRow, OwnedRow)>>,
    /// The ends of calls.
    ends_ns: Vec<i64>,
    /// Losses without a count: source, from, to.
    losses: Vec<(String, i64, i64)>,
    damage: usize,
}

/// Makes rows of one table comparable; of all traces in the same way.
#[derive(Default)]
struct Rows {
    whole: BTreeMap<&'static str, RowConverter>,
    begun: BTreeMap<&'static str, RowConverter>,
}

/// The rows of a batch, by the converter of their table.
fn convert(by: &mut BTreeMap<&'static str, RowConverter>, table: &'static Table, batch: &RecordBatch) -> Vec<OwnedRow> {
    let field = |field: &Arc<Field>| SortField::new(field.data_type().clone());
    let new = || RowConverter::new(batch.schema_ref().fields().iter().map(field).collect()).unwrap();
    let rows = by.entry(table.name).or_insert_with(new).convert_columns(batch.columns()).unwrap();
    rows.iter().map(|row| row.owned()).collect()
}

impl Rows {
    fn read(&mut self, path: &Path) -> Result<Content, String> {
        let trace = Trace::open(path).map_err(|error| error.to_string())?;
        let damage = trace.warnings.iter().filter(|warning| warning.contains("not whole")).count();
        let mut content = Content {
            rows: BTreeMap::new(),
            begun: BTreeMap::new(),
            open: BTreeMap::new(),
            ends_ns: Vec::new(),
            losses: Vec::new(),
            damage,
        };
        for table in TABLES.iter().filter(|table| table.name != SESSION.name) {
            for part in trace.parts_of(table) {
                let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&part.path).unwrap()).unwrap();
                reader.build().unwrap().for_each(|batch| self.take(&mut content, table, &batch.unwrap()));
            }
        }
        Ok(content)
    }

    fn take(&mut self, content: &mut Content, table: &'static Table, batch: &RecordBatch) {
        if table.name == LOSSES.name {
            content.losses.extend(losses(batch));
            return;
        }
        let whole = convert(&mut self.whole, table, batch);
        let of_table = content.rows.entry(table.name).or_default();
        whole.iter().for_each(|row| *of_table.entry(row.clone()).or_default() += 1);
        if table.name == CALLS.name {
            let ends = batch.column_by_name("end_ns").unwrap().as_primitive::<Int64Type>();
            content.ends_ns.extend(ends.iter().flatten());
        }
        let Some((_, columns)) = OPEN.iter().find(|(of, _)| of.name == table.name) else { return };
        let wanted: Vec<usize> = columns.iter().map(|column| batch.schema_ref().index_of(column).unwrap()).collect();
        let begun = convert(&mut self.begun, table, &batch.project(&wanted).unwrap());
        content.begun.entry(table.name).or_default().extend(begun.iter().cloned());
        content.open.entry(table.name).or_default().extend(whole.into_iter().zip(begun));
    }
}

fn losses(batch: &RecordBatch) -> Vec<(String, i64, i64)> {
    let instant = |name: &str, row: usize| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row);
    let source = arrow::compute::cast(batch.column_by_name("source").unwrap(), &DataType::Utf8).unwrap();
    let count = batch.column_by_name("count").unwrap();
    let rows = (0..batch.num_rows()).filter(|row| count.is_null(*row));
    rows.map(|row| (source.as_string::<i32>().value(row).to_owned(), instant("from_ns", row), instant("to_ns", row)))
        .collect()
}

/// Every row of `found` is one of `whole`, as often at most, or tells the beginning of one; what is absent is a loss.
fn compare(found: &Content, whole: &Content) -> Result<(), String> {
    for (table, rows) in &found.rows {
        let known = &whole.rows[table];
        let none = BTreeSet::new();
        let begun = whole.begun.get(table).unwrap_or(&none);
        let begins: BTreeMap<&OwnedRow, &OwnedRow> =
            found.open.get(table).into_iter().flatten().map(|(whole, begun)| (whole, begun)).collect();
        for (row, count) in rows {
            let is_known = known.get(row).is_some_and(|known| count <= known);
            let is_begun = *count == 1 && begins.get(row).is_some_and(|row| begun.contains(*row));
            if !is_known && !is_begun {
                return Err(format!("a row of {table} that was never recorded"));
            }
        }
        let ids: BTreeSet<&OwnedRow> = begins.values().copied().collect();
        if !begun.is_empty() && ids.len() < rows.values().sum::<usize>() {
            return Err(format!("a row of {table} twice: before and after its end"));
        }
    }
    let mut absent: BTreeMap<i64, i64> = BTreeMap::new();
    whole.ends_ns.iter().for_each(|end| *absent.entry(*end).or_default() += 1);
    found.ends_ns.iter().for_each(|end| *absent.entry(*end).or_default() -= 1);
    let is_told = |end: i64| {
        found
            .losses
            .iter()
            .any(|(source, from, to)| *from <= end && (source == "tail" || (source == "log_damaged" && end <= *to)))
    };
    match absent.iter().find(|(end, count)| **count > 0 && !is_told(**end)) {
        Some((end, _)) => Err(format!("a call that ended at {end} is absent, and no loss says so: {:?}", found.losses)),
        None => Ok(()),
    }
}

/// A copy of the trace whose log is to be damaged.
struct Victim {
    directory: TempDir,
    rows: Rows,
    whole: Content,
}

impl Victim {
    fn new() -> Victim {
        let directory = TempDir::new().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/killed"), &directory.path().join("trace"));
        let mut rows = Rows::default();
        let whole = rows.read(&directory.path().join("trace")).unwrap();
        assert!(whole.damage == 0 && whole.ends_ns.len() > 1000, "{} calls", whole.ends_ns.len());
        Victim { directory, rows, whole }
    }

    fn trace(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            fs::read_dir(self.trace().join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        assert_eq!(found.len(), 2);
        found
    }

    /// Reads the trace with this content of a segment, and repairs it now and then.
    fn damage(&mut self, segment: &Path, content: &[u8], what: &str, with_repair: bool) -> Content {
        let original = fs::read(segment).unwrap();
        fs::write(segment, content).unwrap();
        let found = self.rows.read(&self.trace()).unwrap_or_else(|error| panic!("{what}: {error}"));
        compare(&found, &self.whole).unwrap_or_else(|error| panic!("{what}: {error}"));
        if with_repair {
            self.repair(&found, what);
        }
        fs::write(segment, original).unwrap();
        found
    }

    /// The repaired trace says the same.
    fn repair(&mut self, found: &Content, what: &str) {
        let copied = self.directory.path().join("repaired");
        copy(&self.trace(), &copied);
        let repaired = repair::repair(&copied).unwrap().unwrap();
        assert_eq!(repaired.damage.len(), found.damage, "{what}");
        let again = self.rows.read(&copied).unwrap();
        assert!(
            again.rows == found.rows && again.losses.len() == found.losses.len(),
            "{what}: not the same when repaired"
        );
        assert!(repair::repair(&copied).unwrap().is_none(), "{what}: a repaired trace needs no repair");
        fs::remove_dir_all(&copied).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_log_that_is_cut_short_is_read_to_its_last_block() {
    let mut victim = Victim::new();
    let (mut read, mut ends) = (0, BTreeSet::new());
    let segments = victim.segments();
    for segment in &segments {
        let original = fs::read(segment).unwrap();
        let step = if is_soak() { 1 } else { 151 };
        // Every length, or some, and none and all.
        for length in (0..original.len()).step_by(step).chain([original.len()]) {
            let what = format!("{} cut to {length} bytes", segment.display());
            let found = victim.damage(segment, &original[..length], &what, read % 64 == 0);
            ends.insert(found.ends_ns.len());
            // A cut between two blocks looks like a recording that died there, which it tells as a tail.
            let is_whole = length == original.len();
            assert!(found.losses.iter().any(|(source, ..)| source == "tail"), "{what}");
            assert!(found.damage == 1 || is_whole || segment == segments.last().unwrap(), "{what}: nobody says so");
            read += 1;
        }
    }
    println!("{read} lengths, {} different numbers of calls", ends.len());
    assert!(ends.len() > 4, "the cuts fell into different blocks: {ends:?}");
}

#[test]
fn a_byte_that_changed_in_the_log_changes_no_row() {
    let mut victim = Victim::new();
    let mut state = std::env::var("IPC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    println!("seed: IPC_SEED={state}");
    let places = if is_soak() { 10_000 } else { 100 };
    let (segments, mut told) = (victim.segments(), 0);
    for number in 0..places {
        let segment = &segments[usize::from(random(&mut state).is_multiple_of(4))];
        let mut content = fs::read(segment).unwrap();
        let place = random(&mut state) as usize % content.len();
        content[place] ^= 1 << (random(&mut state) % 8);
        let what = format!("{} changed at {place}", segment.display());
        let found = victim.damage(segment, &content, &what, number % 64 == 0);
        // Bits without a meaning change nothing at all.
        assert!(found.damage == 1 || found.rows == victim.whole.rows, "{what}: nothing says that it is damaged");
        told += found.damage;
    }
    println!("{told} of {places} changes were told");
    assert!(10 * told > 9 * places);
}
