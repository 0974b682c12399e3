//! Writes synthetic traces in the format of `ipc_schema`, so that the analyzer is tested without a recorder.

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use ipc_schema::manifest::{BLOCK_BYTES, ClockSample, FILE_NAME, Manifest, Part, Session};
use ipc_schema::tables::{self, Encoding, Table, arrow_schema};
use ipc_schema::version::FormatVersion;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding as ParquetEncoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// 2026-11-22T12:00:00Z.
pub const START_NS: i64 = 1_795_348_800_000_000_000;

/// What a synthetic trace holds.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub trace_id: String,
    pub seed: u64,
    /// Calls, the open ones included.
    pub calls: usize,
    /// The last of them are open.
    pub open: usize,
    /// Files of the table `calls`.
    pub parts: usize,
    pub row_group_rows: usize,
    pub processes: usize,
    pub objects: usize,
    /// Every so-manieth semaphore call has several operations; 0: none.
    pub multiple_operations: usize,
    /// Rows of the table `losses`: source, CPU, count.
    pub losses: Vec<(&'static str, Option<i32>, Option<i64>)>,
    pub complete: bool,
    /// The names of threads, taken in turn.
    pub comms: Vec<String>,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            trace_id: "trace-a".to_owned(),
            seed: 1,
            calls: 10_000,
            open: 3,
            parts: 2,
            row_group_rows: 3000,
            processes: 7,
            objects: 5,
            multiple_operations: 10,
            losses: Vec::new(),
            complete: true,
            comms: vec!["worker".to_owned(), "postgres".to_owned(), "main".to_owned()],
        }
    }
}

/// One synthetic call.
#[derive(Clone, Debug)]
pub struct Call {
    pub call_id: i64,
    pub start_ns: i64,
    pub duration_ns: Option<i64>,
    pub outcome: &'static str,
    pub syscall: &'static str,
    pub error: Option<&'static str>,
    pub pid: i32,
    pub comm: String,
    pub object_kind: Option<&'static str>,
    pub object_id: Option<i64>,
    pub key: Option<i32>,
    pub operations: i32,
}

impl Call {
    pub fn end_ns(&self) -> Option<i64> {
        self.duration_ns.map(|duration| self.start_ns + duration)
    }
}

/// A generator that is the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

const SYSCALLS: [(&str, Option<&str>); 8] = [
    ("semtimedop", Some("sem")),
    ("semtimedop", Some("sem")),
    ("semtimedop", Some("sem")),
    ("semop", Some("sem")),
    ("msgsnd", Some("msg")),
    ("msgrcv", Some("msg")),
    ("mq_timedsend", Some("mq")),
    ("sigprocmask", None),
];
const ERRORS: [&str; 4] = ["EAGAIN", "EINTR", "EIDRM", "EINVAL"];

/// The calls of a trace, in the order of their ends, open ones last.
pub fn calls(parameters: &Parameters) -> impl Iterator<Item = Call> {
    let p = parameters.clone();
    let mut random = Random(p.seed);
    let mut end_ns = START_NS;
    (0..p.calls).map(move |i| {
        let (syscall, kind) = SYSCALLS[random.below(SYSCALLS.len() as u64) as usize];
        // A long tail: most are short, few are a million times as long.
        let shift = random.next().leading_zeros().min(20);
        let duration = ((200 + random.below(1800) as i64) << shift) + random.below(1 << shift) as i64;
        end_ns += 1 + random.below(2000) as i64;
        let open = i + p.open >= p.calls;
        let outcome = match random.below(50) {
            _ if open => "open",
            0 => "killed",
            1..=4 => "error",
            _ => "ok",
        };
        let object = random.below(p.objects as u64) as i64;
        let pid = 1000 + random.below(p.processes as u64) as i32;
        let several = kind == Some("sem") && p.multiple_operations > 0 && i % p.multiple_operations == 0;
        Call {
            call_id: i as i64,
            start_ns: (end_ns - duration).max(START_NS - 5_000_000_000),
            duration_ns: (!open).then(|| end_ns - (end_ns - duration).max(START_NS - 5_000_000_000)),
            outcome,
            syscall,
            error: (outcome == "error").then(|| ERRORS[random.below(4) as usize]),
            pid,
            comm: p.comms[pid as usize % p.comms.len()].clone(),
            object_kind: kind,
            object_id: kind.map(|_| object),
            key: (kind == Some("msg") && i % 100 == 5).then_some(0x5100 + object as i32),
            operations: if kind != Some("sem") { 0 } else { 1 + i32::from(several) * (1 + (i % 5) as i32) },
        }
    })
}

/// Writes a trace and returns its directory.
pub fn write(directory: &Path, parameters: &Parameters) -> PathBuf {
    let writer = TraceWriter { directory: directory.to_owned(), trace_id: parameters.trace_id.clone() };
    let mut parts = Vec::new();
    let (mut written, mut end_ns) = (0i64, START_NS);
    let mut all = calls(parameters).peekable();
    let mut operations: Vec<(i64, i32)> = Vec::new();
    let rows_per_part = parameters.calls.div_ceil(parameters.parts.max(1)).max(1);
    for number in 0..parameters.parts.max(1) {
        let mut file = writer.create(&tables::CALLS, number, parameters.row_group_rows);
        let mut left = rows_per_part;
        while left > 0 && all.peek().is_some() {
            let chunk: Vec<Call> = all.by_ref().take(left.min(parameters.row_group_rows)).collect();
            left -= chunk.len();
            written += chunk.len() as i64;
            end_ns = chunk.iter().filter_map(Call::end_ns).fold(end_ns, i64::max);
            operations.extend(chunk.iter().filter(|c| c.operations > 1).map(|c| (c.call_id, c.operations)));
            file.write(&call_batch(&writer.trace_id, &chunk)).unwrap();
        }
        parts.push(writer.finish(&tables::CALLS, number, file));
    }
    let session = session(parameters, written, end_ns + 1_000_000);
    parts.extend(writer.other_tables(parameters, &session, &operations));
    let manifest = Manifest {
        format_version: FormatVersion::CURRENT.0,
        trace_id: parameters.trace_id.clone(),
        complete: parameters.complete,
        session,
        parts,
        log_from: None,
    };
    write_manifest(directory, &manifest);
    directory.to_owned()
}

pub fn write_manifest(directory: &Path, manifest: &Manifest) {
    fs::write(directory.join(FILE_NAME), serde_json::to_vec_pretty(manifest).unwrap()).unwrap();
}

pub fn read_manifest(directory: &Path) -> Manifest {
    serde_json::from_slice(&fs::read(directory.join(FILE_NAME)).unwrap()).unwrap()
}

pub fn session(parameters: &Parameters, calls: i64, end_ns: i64) -> Session {
    let lost = parameters.losses.iter().filter(|(source, _, _)| *source != "records").filter_map(|l| l.2).sum();
    Session {
        format_version: FormatVersion::CURRENT.0,
        recorder_version: "0.1.0".to_owned(),
        host: "db1".to_owned(),
        kernel: "6.1.0-56-cloud-amd64 #1 SMP".to_owned(),
        arch: "x86_64".to_owned(),
        start_ns: START_NS,
        end_ns,
        clock_samples: vec![ClockSample { boot_ns: 0, epoch_ns: START_NS }],
        calls,
        lost_calls: lost,
        ..Session::default()
    }
}

/// The checksums of a file's blocks as the manifest spells them.
pub fn blocks(content: &[u8]) -> String {
    let block = |bytes| format!("{:016x}", twox_hash::XxHash3_64::oneshot(bytes));
    content.chunks(BLOCK_BYTES).map(block).collect()
}

/// Writes the parts of one trace.
pub struct TraceWriter {
    pub directory: PathBuf,
    pub trace_id: String,
}

impl TraceWriter {
    pub fn create(&self, table: &Table, number: usize, row_group_rows: usize) -> ArrowWriter<fs::File> {
        let path = self.directory.join(file_of(table, number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
            .set_max_row_group_row_count(Some(row_group_rows));
        for column in table.columns.iter().filter(|column| column.encoding == Encoding::Delta) {
            let path = ColumnPath::from(column.name);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, ParquetEncoding::DELTA_BINARY_PACKED);
        }
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        let schema = Arc::new(arrow_schema::schema(table));
        ArrowWriter::try_new_with_options(fs::File::create(path).unwrap(), schema, options).unwrap()
    }

    pub fn finish(&self, table: &Table, number: usize, file: ArrowWriter<fs::File>) -> Part {
        let rows = file.close().unwrap().file_metadata().num_rows() as u64;
        self.listed(table, &file_of(table, number), rows)
    }

    /// The manifest's line for a file as it is.
    pub fn listed(&self, table: &Table, file: &str, rows: u64) -> Part {
        let content = fs::read(self.directory.join(file)).unwrap();
        Part {
            table: table.name.to_owned(),
            file: file.to_owned(),
            rows,
            bytes: content.len() as u64,
            checksum: format!("xxh3_128:{:032x}", twox_hash::XxHash3_128::oneshot(&content)),
            blocks: Some(blocks(&content)),
        }
    }

    pub fn write_table(&self, table: &Table, rows: usize, columns: BTreeMap<&str, ArrayRef>) -> Part {
        let mut file = self.create(table, 0, 1 << 20);
        if rows > 0 {
            file.write(&batch(table, &self.trace_id, rows, columns)).unwrap();
        }
        self.finish(table, 0, file)
    }

    fn other_tables(&self, parameters: &Parameters, session: &Session, operations: &[(i64, i32)]) -> Vec<Part> {
        let mut parts = vec![
            self.write_table(&tables::SESSION, 1, session_columns(session)),
            self.write_sem_ops(operations),
            self.write_ids(&tables::PROCESSES, "process_id", parameters.processes),
            self.write_ids(&tables::THREADS, "thread_id", parameters.processes),
            self.write_losses(&parameters.losses),
        ];
        for table in [&tables::EXECS, &tables::OBJECTS, &tables::LIFETIMES, &tables::QUEUED, &tables::LIMITS] {
            parts.push(self.write_table(table, 0, BTreeMap::new()));
        }
        parts
    }

    fn write_sem_ops(&self, operations: &[(i64, i32)]) -> Part {
        let rows = || operations.iter().flat_map(|(id, n)| (0..*n).map(move |position| (*id, position)));
        let mut columns: BTreeMap<&str, ArrayRef> = BTreeMap::new();
        columns.insert("call_id", Arc::new(Int64Array::from_iter_values(rows().map(|(id, _)| id))));
        columns.insert("position", Arc::new(Int32Array::from_iter_values(rows().map(|(_, position)| position))));
        columns.insert("sem_num", Arc::new(Int32Array::from_iter_values(rows().map(|(_, position)| position))));
        columns.insert("sem_op", Arc::new(Int32Array::from_iter_values(rows().map(|_| -1))));
        columns.insert("sem_flags", Arc::new(Int32Array::from_iter_values(rows().map(|_| 4096))));
        let count = rows().count();
        self.write_table(&tables::SEM_OPS, count, columns)
    }

    fn write_ids(&self, table: &Table, column: &str, count: usize) -> Part {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1000..1000 + count as i64));
        self.write_table(table, count, BTreeMap::from([(column, ids)]))
    }

    pub fn write_losses(&self, losses: &[(&str, Option<i32>, Option<i64>)]) -> Part {
        let sources: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter(losses.iter().map(|l| Some(l.0))));
        let mut columns = BTreeMap::from([("source", sources)]);
        columns.insert("cpu", Arc::new(Int32Array::from_iter(losses.iter().map(|l| l.1))));
        columns.insert("count", Arc::new(Int64Array::from_iter(losses.iter().map(|l| l.2))));
        let moments = |after: i64| Int64Array::from_iter_values(losses.iter().map(|_| START_NS + after));
        columns.insert("from_ns", Arc::new(moments(1_000_000)));
        columns.insert("to_ns", Arc::new(moments(2_000_000)));
        self.write_table(&tables::LOSSES, losses.len(), columns)
    }
}

pub fn file_of(table: &Table, number: usize) -> String {
    format!("{}/part-{number:05}.parquet", table.name)
}

pub fn session_columns(session: &Session) -> BTreeMap<&'static str, ArrayRef> {
    let text = |text: &str| -> ArrayRef { Arc::new(DictionaryArray::<Int32Type>::from_iter([Some(text)])) };
    let number = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
    BTreeMap::from([
        ("host", text(&session.host)),
        ("kernel", text(&session.kernel)),
        ("arch", text(&session.arch)),
        ("start_ns", number(session.start_ns)),
        ("end_ns", number(session.end_ns)),
        ("calls", number(session.calls)),
        ("lost_calls", number(session.lost_calls)),
        ("filters", text(&serde_json::to_string(&session.filters).unwrap())),
        ("attach", text("[]")),
        ("missing", text("[]")),
        ("clock_samples", text("[]")),
    ])
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(DictionaryArray::<Int32Type>::from_iter(values))
}

pub fn call_batch(trace_id: &str, calls: &[Call]) -> RecordBatch {
    let int64 =
        |value: fn(&Call) -> Option<i64>| -> ArrayRef { Arc::new(Int64Array::from_iter(calls.iter().map(value))) };
    let int32 =
        |value: fn(&Call) -> Option<i32>| -> ArrayRef { Arc::new(Int32Array::from_iter(calls.iter().map(value))) };
    let columns = BTreeMap::from([
        ("call_id", int64(|c| Some(c.call_id))),
        ("began", texts(calls.iter().map(|_| Some("in_trace")))),
        ("start_ns", int64(|c| Some(c.start_ns))),
        ("end_ns", int64(Call::end_ns)),
        ("duration_ns", int64(|c| c.duration_ns)),
        ("outcome", texts(calls.iter().map(|c| Some(c.outcome)))),
        ("syscall", texts(calls.iter().map(|c| Some(c.syscall)))),
        ("entry_point", texts(calls.iter().map(|c| Some(c.syscall)))),
        ("abi", texts(calls.iter().map(|_| Some("x86_64")))),
        ("cpu", int32(|c| Some(c.pid % 2))),
        ("pid", int32(|c| Some(c.pid))),
        ("tid", int32(|c| Some(c.pid))),
        ("process_id", int64(|c| Some(c.pid.into()))),
        ("thread_id", int64(|c| Some(c.pid.into()))),
        ("comm", texts(calls.iter().map(|c| Some(c.comm.as_str())))),
        ("ipc_ns", int64(|_| Some(4_026_531_839))),
        ("object_kind", texts(calls.iter().map(|c| c.object_kind))),
        ("object_id", int64(|c| c.object_id)),
        ("key", int32(|c| c.key)),
        ("return_value", int64(|c| c.duration_ns.map(|_| if c.error.is_some() { -1 } else { 0 }))),
        ("error", texts(calls.iter().map(|c| c.error))),
        ("sem_num", int32(|c| (c.operations > 0).then_some(0))),
        ("sem_op", int32(|c| (c.operations > 0).then_some(-1))),
        ("sem_flags", int32(|c| (c.operations > 0).then_some(4096))),
        ("sem_ops_total", int32(|c| (c.operations > 0).then_some(c.operations))),
    ]);
    batch(&tables::CALLS, trace_id, calls.len(), columns)
}

/// A batch with the columns given; others are NULL, or empty where NULL is not allowed.
pub fn batch(table: &Table, trace_id: &str, rows: usize, columns: BTreeMap<&str, ArrayRef>) -> RecordBatch {
    let schema = arrow_schema::schema(table);
    let arrays: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match (field.name().as_str(), columns.get(field.name().as_str())) {
            ("trace_id", _) => texts((0..rows).map(|_| Some(trace_id))),
            (_, Some(array)) => array.clone(),
            _ => twin(table, field, &columns).unwrap_or_else(|| filler(field, rows)),
        })
        .collect();
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

fn twin(table: &Table, field: &Field, columns: &BTreeMap<&str, ArrayRef>) -> Option<ArrayRef> {
    let instant = table.columns.iter().find(|c| tables::twin(c.name) == *field.name() && c.name != field.name())?;
    let ns = columns.get(instant.name)?.as_any().downcast_ref::<Int64Array>()?;
    let us = ns.iter().map(|ns| ns.map(|ns| ns.div_euclid(1000)));
    Some(Arc::new(TimestampMicrosecondArray::from_iter(us).with_timezone("UTC")))
}

fn filler(field: &Field, rows: usize) -> ArrayRef {
    if field.is_nullable() {
        return new_null_array(field.data_type(), rows);
    }
    match field.data_type() {
        DataType::Int64 => Arc::new(Int64Array::from(vec![0; rows])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![1; rows])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Arc::new(TimestampMicrosecondArray::from(vec![0; rows]).with_timezone("UTC"))
        }
        _ => texts((0..rows).map(|_| Some(""))),
    }
}
