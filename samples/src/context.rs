//! What every scenario needs: the totals, the guard, the options, and what goes to stdout.

use crate::call::Caller;
use crate::guard::Guard;
use crate::totals::Totals;
use crate::{Failure, Result, process};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// One run of the program.
pub(crate) struct Context {
    pub(crate) totals: &'static Totals,
    pub(crate) guard: Guard,
    pub(crate) log: Option<PathBuf>,
    pub(crate) timeout: Duration,
    gate: Option<PathBuf>,
    scenario: &'static str,
    pids: Vec<i32>,
    more: Map<String, Value>,
}

impl Context {
    pub(crate) fn new(log: Option<PathBuf>, timeout: Duration, gate: Option<PathBuf>) -> Result<Context> {
        if let Some(folder) = &log {
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::new(format!("cannot create the log folder {}: {e}", folder.display())))?;
        }
        let totals = Totals::shared()?;
        // Before the guard, so that its own end is bounded too.
        let guard = Guard::start(timeout)?;
        process::set_alarm(timeout);
        let pids = vec![process::own_pid()];
        Ok(Context { totals, guard, log, timeout, gate, scenario: "", pids, more: Map::new() })
    }

    /// The calls of the running thread, with room in its log for `expected_calls`.
    pub(crate) fn caller(&self, expected_calls: u64) -> Caller {
        Caller::new(self.totals, self.log.as_deref(), expected_calls)
    }

    /// Says that it waits (`NAME.waiting`) and waits until somebody creates `NAME.go`; at once without `--gate`.
    pub(crate) fn wait_at_gate(&self, name: &str) -> Result<()> {
        let Some(folder) = &self.gate else { return Ok(()) };
        self.note_at_gate(&format!("{name}.waiting"))?;
        let go = folder.join(format!("{name}.go"));
        // The alarm bounds it.
        while !go.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Creates a file in the folder of `--gate`, if there is one.
    pub(crate) fn note_at_gate(&self, file: &str) -> Result<()> {
        let Some(folder) = &self.gate else { return Ok(()) };
        let path = folder.join(file);
        std::fs::write(&path, process::own_pid().to_string())
            .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))
    }

    pub(crate) fn name(&mut self, scenario: &'static str) {
        self.scenario = scenario;
    }

    /// Adds a process that performs calls to the result.
    pub(crate) fn add_pid(&mut self, pid: i32) {
        self.pids.push(pid);
    }

    /// Adds a field to the result.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.more.insert(name.to_owned(), value.into());
    }

    /// Prints the result and lets the guard go.
    pub(crate) fn finish(self) -> Result<()> {
        let mut result = Map::new();
        result.insert("scenario".to_owned(), self.scenario.into());
        result.insert("performed".to_owned(), self.totals.performed());
        result.insert("errors".to_owned(), self.totals.errors());
        result.insert("pids".to_owned(), self.pids.into());
        result.extend(self.more);
        println!("{}", Value::Object(result));
        self.guard.release()
    }
}
