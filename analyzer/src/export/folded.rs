//! Folded stacks: a line per stack, its frames from the outermost to the innermost with semicolons between them, and a number.
//! Flame graphs are drawn from them. Above the functions stands the thread's name, below them the operation and the object.

use crate::batch::{Batch, int64_at};
use crate::error::Error;
use crate::human;
use crate::names::object;
use crate::opened::Opened;
use crate::query::{GroupStatistics, Query};
use crate::scan;
use hashbrown::HashMap;
use ipc_schema::tables::{self, Table};
use std::collections::BTreeMap;
use std::io::Write;

/// What the number is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Weight {
    /// Nanoseconds in the call
    #[default]
    Duration,
    /// Nanoseconds until the last waking
    Wait,
    /// Calls
    Calls,
}

/// Where calls were made: the trace, the stack, and the frames that are known of a call itself.
type Site = (usize, Option<i64>, [String; 3]);

/// Writes the lines, in order.
///
/// # Errors
/// A part that cannot be believed; those of `out`.
pub fn write(opened: &Opened, weight: Weight, out: &mut impl Write) -> Result<(), Error> {
    let sites = scan::fold(&opened.traces, &opened.selection, &Sites { weight })?;
    let stacks = read_stacks(opened)?;
    let mut lines: BTreeMap<String, i128> = BTreeMap::new();
    for ((trace, stack, [comm, syscall, object]), sum) in sites {
        let functions = stack.and_then(|stack| stacks.get(&(trace, stack))).into_iter().flatten().map(String::as_str);
        let frames = [comm.as_str()].into_iter().chain(functions).chain([syscall.as_str(), object.as_str()]);
        let frames: Vec<&str> = frames.filter(|frame| !frame.is_empty()).collect();
        *lines.entry(frames.join(";")).or_default() += sum;
    }
    for (frames, sum) in lines.into_iter().filter(|(_, sum)| *sum > 0) {
        writeln!(out, "{frames} {sum}")?;
    }
    Ok(out.flush()?)
}

/// What of a name is kept: names of threads have 15 bytes, those of functions can be as long as this.
const NAME_CHARS: usize = 256;
/// Sites that a thread tells apart; further ones have no stack.
const SITES_MAX: usize = 1 << 18;

/// A frame's name: what separates frames and lines is in none.
fn frame(name: &str) -> String {
    let name: String = name.chars().take(NAME_CHARS).collect();
    human::escape(&name).replace(';', ":")
}

struct Sites {
    weight: Weight,
}

impl Sites {
    fn column(&self) -> &'static str {
        match self.weight {
            Weight::Duration | Weight::Calls => "duration_ns",
            Weight::Wait => "wait_ns",
        }
    }
}

impl Query for Sites {
    type Partial = HashMap<Site, i128>;

    fn table(&self) -> &'static Table {
        &tables::CALLS
    }

    fn columns(&self, _: &dyn GroupStatistics) -> Vec<&'static str> {
        vec!["comm", "syscall", "stack_id", "object_kind", "object_id", "object_name", self.column()]
    }

    fn empty(&self) -> Self::Partial {
        HashMap::new()
    }

    fn fold(&self, sites: &mut Self::Partial, batch: &Batch) -> Result<(), Error> {
        let (comms, syscalls, stacks) = (batch.text("comm")?, batch.text("syscall")?, batch.int64("stack_id")?);
        let (kinds, ids, names) = (batch.text("object_kind")?, batch.int64("object_id")?, batch.text("object_name")?);
        let weights = batch.int64(self.column())?;
        // By the numbers of the texts first: there are few texts, and many rows.
        let mut sums: HashMap<_, (usize, i128)> = HashMap::new();
        for row in 0..batch.rows() {
            let weight = match self.weight {
                Weight::Calls => 1,
                _ => i128::from(int64_at(weights, row).unwrap_or(0)),
            };
            let of_call = (comms.index(row), syscalls.index(row), int64_at(stacks, row));
            let of_object = (kinds.index(row), int64_at(ids, row), names.index(row));
            sums.entry((of_call, of_object)).or_insert((row, 0)).1 += weight;
        }
        for (row, sum) in sums.into_values() {
            let text = |text: Option<&str>| frame(text.unwrap_or("?"));
            let object = kinds.get(row).map(|kind| frame(&object(kind, int64_at(ids, row), names.get(row))));
            let frames = [text(comms.get(row)), text(syscalls.get(row)), object.unwrap_or_default()];
            let stack = int64_at(stacks, row).filter(|_| sites.len() < SITES_MAX);
            *sites.entry((batch.trace, stack, frames)).or_default() += sum;
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        for (site, sum) in from {
            *into.entry(site).or_default() += sum;
        }
    }
}

/// The functions of each stack, the outermost first.
fn read_stacks(opened: &Opened) -> Result<HashMap<(usize, i64), Vec<String>>, Error> {
    let columns = ["stack_id", "frame", "module", "symbol"];
    let mut rows = scan::collect(&opened.traces, &tables::STACKS, &columns, read_frames)?;
    rows.sort_unstable_by(|a, b| b.cmp(a));
    let mut stacks: HashMap<(usize, i64), Vec<String>> = HashMap::new();
    for (trace, stack, _, name) in rows {
        stacks.entry((trace, stack)).or_default().push(name);
    }
    Ok(stacks)
}

fn read_frames(batch: &Batch, found: &mut Vec<(usize, i64, i32, String)>) -> Result<(), Error> {
    let (stacks, frames) = (batch.int64("stack_id")?, batch.int32("frame")?);
    let (modules, symbols) = (batch.text("module")?, batch.text("symbol")?);
    for row in 0..batch.rows() {
        let module = || modules.get(row).map(|path| format!("[{}]", path.rsplit('/').next().unwrap_or(path)));
        let symbol = symbols.get(row).map(|symbol| symbol.split("+0x").next().unwrap_or(symbol).to_owned());
        let name = symbol.or_else(module).unwrap_or_else(|| "[unknown]".to_owned());
        found.push((batch.trace, stacks.value(row), frames.value(row), frame(&name)));
    }
    Ok(())
}
