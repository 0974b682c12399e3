//! A scenario that was recorded to its end, without a loss.

use crate::logs::Performed;
use crate::running::Recording;
use crate::trace::Trace;
use serde_json::Value;

/// The trace and what the workload said.
pub struct Recorded {
    /// The trace; its files live as long as this.
    pub trace: Trace,
    /// The workload's result.
    pub json: Value,
    _recording: Recording,
}

impl Recorded {
    /// Records `ipc-workload ARGUMENTS` with the recorder's `options`.
    ///
    /// # Panics
    /// When a program fails or a call is lost.
    pub fn run(options: &[&str], arguments: &[&str]) -> Recorded {
        let recording = Recording::new();
        let json = Performed::read(&recording.record(options, arguments).stdout).json;
        let trace = recording.trace();
        assert_eq!(trace.lost_calls(), 0, "calls were lost");
        Recorded { trace, json, _recording: recording }
    }
}
