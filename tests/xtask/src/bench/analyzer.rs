//! `cargo xtask bench analyzer`: what answers cost, beside DuckDB and Polars on the same files.
//!
//! The traces are written by the recorder's own writer and sink; the script that asks and compares is
//! `tests/interop/speed.py`.

use super::{built, machine, program};
use crate::build::{self, Profile, static_cargo};
use crate::command::{command, now, output, run as run_command};
use crate::setup::{self, Consent, Need};
use crate::{Result, place};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// A generated trace: its folder, and what makes it.
struct Trace {
    name: &'static str,
    options: &'static [&'static str],
}

const SMALL: Trace = Trace { name: "calls-20m", options: &["--calls", "20000000"] };
const LARGE: Trace = Trace { name: "calls-200m", options: &["--calls", "200000000"] };
const MANY_GROUPS: Trace = Trace {
    name: "groups-1m",
    options: &["--calls", "20000000", "--processes", "500", "--threads", "1", "--objects", "2000", "--spread"],
};

/// The command; some minutes, and 5 GB below `target`. `--quick`: 20 million calls only, and no page.
pub fn run(options: &[String]) -> Result {
    let is_quick = options.iter().any(|option| option == "--quick");
    setup::ensure(&[Need::Build, Need::Test], Consent::from_options(options)?)?;
    if built().is_none() {
        build::build(Profile::Release, &["ipc-analyzer"])?;
    }
    let mut script = command(&place::python().to_string_lossy());
    script.arg(place::root().join("tests/interop/speed.py"));
    script.arg("--analyzer").arg(program("ipc-analyzer")).arg("--trace").arg(SMALL.path()?);
    if !is_quick {
        script.arg("--large").arg(LARGE.path()?).arg("--groups").arg(MANY_GROUPS.path()?);
    }
    // What it compares and measures meanwhile.
    script.stderr(Stdio::inherit());
    let tables = output(&mut script)?;
    let date = now("+%Y-%m-%d")?;
    let page = format!(
        "# What answers cost\n\nWritten by `cargo xtask bench analyzer` on {}: {}.\n\n{tables}",
        date,
        machine()?
    );
    print!("{page}");
    if is_quick {
        return Ok(());
    }
    let path = place::root().join("docs/performance-analyzer.md");
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

impl Trace {
    /// Its folder; it is made if it is not there.
    fn path(&self) -> Result<PathBuf> {
        let path = place::target("traces").join(self.name);
        if !path.join("trace.json").exists() {
            place::remove(&path)?;
            fs::create_dir_all(place::target("traces")).map_err(|error| format!("target/traces: {error}"))?;
            let profile = ["--profile", Profile::Release.name()];
            let mut generate = static_cargo(&["run", "--package", "ipc-recorder", "--example", "generate"]);
            run_command(generate.args(profile).arg("--").arg(&path).args(self.options))?;
        }
        Ok(path)
    }
}
