//! `export`: traces in the forms of other tools.

mod chrome;
mod csv;
mod folded;
mod lake;
mod perfetto;
mod timeline;

use crate::cli::Which;
use crate::error::Error;
use crate::opened::Opened;
use crate::output::{self, Output};
use crate::render;
use chrome::Chrome;
use perfetto::Perfetto;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// What the folders of a lake say of the files in them, from the outermost to the innermost.
pub const PARTITIONS: [&str; 3] = ["host", "date", "trace_id"];

/// The command.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// What for
    #[arg(long, value_enum)]
    to: Form,

    /// Where to; of perfetto, chrome and folded stdout unless given
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// What the width of a flame graph shows
    #[arg(long, value_enum, default_value_t, help_heading = "Folded stacks")]
    weight: folded::Weight,

    #[command(flatten)]
    which: Which,
}

const EXAMPLES: &str = "\
Examples:
  ipc-analyzer export --to perfetto -o trace.pftrace TRACE   open it in https://ui.perfetto.dev
  ipc-analyzer export --to chrome TRACE --since -10s > calls.json
  ipc-analyzer export --to folded TRACE | flamegraph.pl > flames.svg
  ipc-analyzer export --to csv -o tables TRACE               one file per table
  ipc-analyzer export --to lake -o lake TRACE                one of the traces of a fleet";

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A timeline for https://ui.perfetto.dev: threads, calls, who woke whom, depths and values
    Perfetto,
    /// The same as JSON, for chrome://tracing, Speedscope and others
    Chrome,
    /// Stacks, one per line with a number, for flame graphs; with `record --stacks` down to the functions
    Folded,
    /// A file per table, for spreadsheets
    Csv,
    /// Parquet files of many machines, told apart by their folders: TABLE/host=…/date=…/trace_id=…/part-*.parquet
    Lake,
}

impl Export {
    /// Writes it.
    ///
    /// # Errors
    /// A trace that cannot be believed; nothing can be written there.
    pub fn run(&self) -> Result<(), Error> {
        let opened = self.which.open()?;
        render::write_marks_to_stderr(&opened.marks(0));
        match self.to {
            Form::Csv => csv::write(&opened, self.folder(&opened)?),
            Form::Lake => lake::write(&opened, self.folder(&opened)?),
            Form::Perfetto | Form::Chrome | Form::Folded => self.file(&opened),
        }
    }

    fn file(&self, opened: &Opened) -> Result<(), Error> {
        if self.to == Form::Perfetto && self.output.is_none() && io::stdout().is_terminal() {
            return Err(Error::Usage("it is no text; name a file: -o trace.pftrace".to_owned()));
        }
        let mut out = Output::new(self.output.as_deref(), &opened.traces)?;
        match self.to {
            Form::Perfetto => {
                // Its clock began first.
                let sessions = opened.traces.iter().map(|trace| &trace.manifest.session);
                let offset_ns =
                    sessions.min_by_key(|session| session.start_ns).map_or(0, |first| first.clock_offset_ns);
                timeline::write(opened, &mut Perfetto::new(&mut out, start_ns(opened), offset_ns))?;
            }
            Form::Chrome => timeline::write(opened, &mut Chrome::new(&mut out, start_ns(opened)))?,
            _ => folded::write(opened, self.weight, &mut out)?,
        }
        out.finish()
    }

    /// The folder, for forms that need one and take whole traces.
    fn folder(&self, opened: &Opened) -> Result<&Path, Error> {
        if !opened.selection.is_everything() {
            return Err(Error::Usage("whole traces are exported so: leave out the filters".to_owned()));
        }
        let folder = self.output.as_deref();
        let folder = folder.ok_or_else(|| Error::Usage("it is a folder of files; name it: -o FOLDER".to_owned()))?;
        output::refuse_traces(folder, &opened.traces).map(|()| folder)
    }
}

/// When the first recording began, nanoseconds since the epoch.
fn start_ns(opened: &Opened) -> i64 {
    opened.traces.iter().map(|trace| trace.manifest.session.start_ns).min().unwrap_or(0)
}
