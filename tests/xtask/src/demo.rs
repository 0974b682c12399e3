//! `cargo xtask demo`: a first trace, from the kernel to a report.

use crate::build::{self, Profile};
use crate::command::{command, line, run as run_to_end};
use crate::setup::{self, Consent, Need};
use crate::{Result, place};
use std::path::{Path, PathBuf};

/// Kernel or privilege lacking: the recorder's exit code.
const LACKING: i32 = 4;
/// The trace that stands in where this machine cannot record.
const SAMPLE: &str = "samples/traces/contended";

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build], Consent::from_options(options)?)?;
    build::build(Profile::Ci, &build::PROGRAMS)?;
    let trace = record()?;
    for report in [&["summary"][..], &["latency", "--by", "syscall,comm"]] {
        println!("\n$ ipc-analyzer {} {}", report.join(" "), trace.display());
        run_to_end(command(&program("ipc-analyzer")).args(report).arg(&trace))?;
    }
    println!("\nThe same files open in DuckDB (and pandas, Polars, Spark):");
    println!("$ duckdb -c \"{}\"", duckdb_query(&trace));
    Ok(())
}

/// Records a contended workload, or names the sample when this machine lets nobody record.
fn record() -> Result<PathBuf> {
    let folder = place::target("demo");
    place::empty(&folder)?;
    // Every program runs in the root of the repository: the paths in the report can be typed there.
    let trace = PathBuf::from(place::short(&folder)).join("trace");
    let mut recorder = command(&program("ipc-recorder"));
    recorder.arg("record").arg("-o").arg(&trace).arg("--").arg(program("ipc-workload")).arg("waiters");
    println!("$ {}", line(&recorder));
    let status = recorder.status().map_err(|error| format!("cannot start ipc-recorder: {error}"))?;
    match status.code() {
        Some(0) => Ok(trace),
        Some(LACKING) => {
            println!("This machine does not let us record (see above); the report is of the sample {SAMPLE}.");
            Ok(PathBuf::from(SAMPLE))
        }
        _ => Err(format!("`{}` failed: {status}", line(&recorder))),
    }
}

fn program(name: &str) -> String {
    Profile::Ci.folder().join(name).display().to_string()
}

fn duckdb_query(trace: &Path) -> String {
    let files = trace.join("calls/*.parquet");
    let files = files.display();
    format!(
        "SELECT comm, syscall, count(*) AS calls, sum(duration_ns) / 1e9 AS seconds \
         FROM '{files}' GROUP BY ALL ORDER BY seconds DESC"
    )
}
