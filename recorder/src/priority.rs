//! The threads that empty the rings go before the programs that fill them: two of those at full speed on two CPUs would
//! otherwise leave too little to keep up (measured: half of the calls lost; none with it).
//!
//! A thread inherits its priority from who starts it, and only to raise it takes a right: it is raised once, before the
//! rights are given up, and each thread then lowers its own.

use ipc_schema::manifest::Missing;
use std::sync::OnceLock;

/// What empties the rings: the highest priority that nice(2) knows.
pub const CAPTURE: i32 = -20;
/// What comes behind it: on one processor with the capture it waits.
pub const WRITER: i32 = -10;
/// What has time.
pub const CONVERTER: i32 = 5;

static REFUSED: OnceLock<String> = OnceLock::new();

/// What the user gave to the whole.
static GIVEN: OnceLock<i32> = OnceLock::new();

/// Raises the calling thread to the highest that any thread is to have.
pub fn raise() {
    let given = GIVEN.get_or_init(|| rustix::process::getpriority_process(None).unwrap_or(0));
    set(CAPTURE.min(*given));
}

/// Lowers it to what the user gave.
pub fn lower() {
    set(GIVEN.get().copied().unwrap_or(0));
}

/// Sets the priority of the calling thread; a refusal is kept for [`missing`].
pub fn set(nice: i32) {
    // On Linux a priority belongs to a thread, and no id means the calling one.
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        let _ = REFUSED.set(error.to_string()); // the first reason is enough
    }
}

/// What the trace says if it was refused.
pub fn missing() -> Option<Missing> {
    REFUSED.get().map(|reason| Missing {
        feature: "priority".into(),
        reason: reason.clone(),
        remedy: "CAP_SYS_NICE; without it a busy host may leave too little to keep up, which the losses then tell"
            .into(),
    })
}
