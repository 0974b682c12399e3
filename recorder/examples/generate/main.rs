//! Writes a trace of any size through the recorder's own writer and sink, so that parts, row groups, encodings and
//! checksums are those of a recording: `cargo run --release -p ipc-recorder --example generate -- DIR --calls 20000000`.
//!
//! It is an example and no command: nobody who records needs it. The recorder is a program without a library, so its
//! modules are compiled in here, as they are.
#![expect(dead_code, reason = "most of the recorder captures, and nothing is captured here")]

#[path = "../../src/attach.rs"]
mod attach;
#[path = "../../src/batch.rs"]
mod batch;
#[path = "../../src/binaries.rs"]
mod binaries;
#[path = "../../src/bounds.rs"]
mod bounds;
#[path = "../../src/btf.rs"]
mod btf;
#[path = "../../src/call.rs"]
mod call;
#[path = "../../src/copies.rs"]
mod copies;
#[path = "../../src/decode.rs"]
mod decode;
#[path = "../../src/directory.rs"]
mod directory;
#[path = "../../src/finished.rs"]
mod finished;
#[path = "../../src/follow.rs"]
mod follow;
#[path = "../../src/history.rs"]
mod history;
#[path = "../../src/join.rs"]
mod join;
#[path = "../../src/libraries.rs"]
mod libraries;
#[path = "../../src/log.rs"]
mod log;
#[path = "../../src/lookups.rs"]
mod lookups;
mod model;
#[path = "../../src/objects.rs"]
mod objects;
mod operations;
#[path = "../../src/parts.rs"]
mod parts;
#[path = "../../src/plan.rs"]
mod plan;
#[path = "../../src/priority.rs"]
mod priority;
#[path = "../../src/privilege.rs"]
mod privilege;
#[path = "../../src/procfs.rs"]
mod procfs;
#[path = "../../src/pulse.rs"]
mod pulse;
#[path = "../../src/ring.rs"]
mod ring;
#[path = "../../src/scan.rs"]
mod scan;
#[path = "../../src/session.rs"]
mod session;
#[path = "../../src/shared.rs"]
mod shared;
#[path = "../../src/signals.rs"]
mod signals;
#[path = "../../src/sink.rs"]
mod sink;
#[expect(unused_imports, reason = "it exports what serves its helper process")]
#[path = "../../src/snapshot/mod.rs"]
mod snapshot;
#[path = "../../src/stacks.rs"]
mod stacks;
#[path = "../../src/tasks.rs"]
mod tasks;
#[path = "../../src/waits.rs"]
mod waits;
#[path = "../../src/wrappers.rs"]
mod wrappers;
#[path = "../../src/writer.rs"]
mod writer;

use batch::Frame;
use clap::Parser;
use crossbeam_channel::Receiver;
use finished::Finished;
use ipc_schema::manifest::Session;
use model::{Model, START_NS};
use std::path::PathBuf;
use std::process::ExitCode;
use writer::Writer;

/// What the trace looks like.
#[derive(Debug, Parser)]
#[command(name = "generate")]
pub struct Shape {
    /// The new trace.
    directory: PathBuf,
    /// Rows of `calls`, those still open at the end among them.
    #[arg(long, default_value_t = 20_000_000)]
    calls: u64,
    /// Processes.
    #[arg(long, default_value_t = 64)]
    processes: u32,
    /// Threads of each process.
    #[arg(long, default_value_t = 4)]
    threads: u32,
    /// Objects of all kinds.
    #[arg(long, default_value_t = 1_200)]
    objects: u32,
    /// Every thread uses every object alike: as many groups by object and process as there can be.
    #[arg(long)]
    spread: bool,
    /// The same seed gives the same rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Calls handed over at a time.
const CALLS_AT_ONCE: u64 = 4_096;
/// 2026-01-01 00:00 UTC less the boot clock at the first call.
const CLOCK_OFFSET_NS: i64 = 1_767_225_600_000_000_000 - START_NS as i64;

fn main() -> ExitCode {
    match generate(&Shape::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(shape: &Shape) -> Result<(), Box<dyn std::error::Error>> {
    let mut model = Model::new(shape);
    let mut session = fixed_session();
    let manifest = session::manifest(&session)?;
    let (directory, _) = directory::Directory::create(&shape.directory)?;
    let frame = Frame { trace_id: manifest.trace_id.as_str().into(), clock_offset_ns: CLOCK_OFFSET_NS };
    let writer = Writer::new(Box::new(sink::Sink::begin(&directory, manifest, bounds::Bounds::NONE)?), frame);
    let (sender, receiver) = crossbeam_channel::bounded(4);
    let writing = std::thread::spawn(move || write(writer, &receiver));
    let open = u64::from(shape.processes * shape.threads).min(shape.calls);
    let mut left = shape.calls - open;
    while left > 0 {
        let count = left.min(CALLS_AT_ONCE);
        let calls = (0..count).map(|_| Box::new(model.next_call())).collect();
        left -= count;
        if sender.send(Finished { calls, ..Finished::default() }).is_err() {
            break; // the writer says why
        }
    }
    // A failed writer has hung up, and says why below.
    let _ = sender.send(model.finish(open as usize));
    drop(sender);
    let writer = writing.join().map_err(|_| "the writer panicked")??;
    session.end_ns = model.now_ns() as i64 + CLOCK_OFFSET_NS;
    session.calls = shape.calls as i64;
    writer.finish(session)?;
    Ok(())
}

/// Writes what arrives, at the priority of anybody: nothing is lost when this falls behind.
fn write(mut writer: Writer, rows: &Receiver<Finished>) -> Result<Writer, directory::Error> {
    for finished in rows {
        writer.write_all(finished)?;
    }
    Ok(writer)
}

/// A session of no host: the same wherever it is generated.
fn fixed_session() -> Session {
    let start_ns = START_NS as i64 + CLOCK_OFFSET_NS;
    Session {
        host: "generated".into(),
        kernel: "none".into(),
        boot_id: None,
        start_ns,
        clock_offset_ns: CLOCK_OFFSET_NS,
        clock_samples: Vec::new(),
        ..session::begin(None)
    }
}
