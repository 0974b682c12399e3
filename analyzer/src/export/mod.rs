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
use crate::render;
use chrome::Chrome;
use perfetto::Perfetto;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
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
  ipc-analyzer export --to chrome TRACE --since -10s > trace.json
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
            Form::Perfetto => self.perfetto(&opened),
            Form::Chrome => timeline::write(&opened, &mut Chrome::new(self.file()?, start_ns(&opened))),
            Form::Folded => folded::write(&opened, self.weight, &mut self.file()?),
            Form::Csv => csv::write(&opened, self.folder(&opened)?),
            Form::Lake => lake::write(&opened, self.folder(&opened)?),
        }
    }

    fn perfetto(&self, opened: &Opened) -> Result<(), Error> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Error::Usage("it is no text; name a file: -o trace.pftrace".to_owned()));
        }
        let offset_ns = opened.traces.first().map_or(0, |trace| trace.manifest.session.clock_offset_ns);
        timeline::write(opened, &mut Perfetto::new(self.file()?, start_ns(opened), offset_ns))
    }

    /// The file, or stdout.
    fn file(&self) -> Result<Box<dyn Write>, Error> {
        let Some(path) = &self.output else { return Ok(Box::new(BufWriter::new(io::stdout().lock()))) };
        let file = File::create(path).map_err(|error| refused(path, &error))?;
        Ok(Box::new(BufWriter::new(file)))
    }

    /// The folder, for forms that need one and take whole traces.
    fn folder(&self, opened: &Opened) -> Result<&Path, Error> {
        if !opened.selection.is_everything() {
            return Err(Error::Usage("whole traces are exported so: leave out the filters".to_owned()));
        }
        self.output.as_deref().ok_or_else(|| Error::Usage("it is a folder of files; name it: -o FOLDER".to_owned()))
    }
}

/// When the first recording began, nanoseconds since the epoch.
fn start_ns(opened: &Opened) -> i64 {
    opened.traces.iter().map(|trace| trace.manifest.session.start_ns).min().unwrap_or(0)
}

fn refused(path: &Path, error: &io::Error) -> Error {
    Error::Usage(format!("cannot write {}: {error}", path.display()))
}
