//! Whether and how much to test.

use crate::programs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Proof that this machine can record; while it lives no other live test of this process runs.
pub struct Live {
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Whether the variable is `1`.
fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == "1")
}

impl Live {
    /// `None`, after a line that says why, where this machine cannot record.
    ///
    /// # Panics
    /// Instead of `None` under `IPC_REQUIRE_LIVE=1`.
    pub fn ready() -> Option<Live> {
        static REASON: OnceLock<Option<String>> = OnceLock::new();
        match REASON.get_or_init(why_not) {
            Some(reason) => {
                skip(reason);
                None
            }
            None => Some(Live { _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) }),
        }
    }

    /// The same for a test that needs root, for this.
    pub fn as_root(why: &str) -> Option<Live> {
        if !is_root() {
            skip(why);
            return None;
        }
        Live::ready()
    }
}

/// Says that the test is skipped, and why.
///
/// # Panics
/// Under `IPC_REQUIRE_LIVE=1`.
pub fn skip(reason: &str) {
    assert!(!is_set("IPC_REQUIRE_LIVE"), "IPC_REQUIRE_LIVE=1, but: {reason}");
    println!("skipped: {reason}");
}

fn why_not() -> Option<String> {
    for name in ["ipc-recorder", "ipc-workload"] {
        if let Err(reason) = programs::find(name) {
            return Some(reason);
        }
    }
    let doctor = Command::new(programs::path("ipc-recorder")).arg("doctor").output();
    match doctor {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "`ipc-recorder doctor` says that it cannot record here ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Some(format!("`ipc-recorder doctor` cannot be started: {error}")),
    }
}

/// A count: `soak` under `IPC_SOAK=1`, a tenth of `normal` in an emulated machine.
pub fn count(normal: u64, soak: u64) -> u64 {
    match (is_set("IPC_SOAK"), is_set("IPC_VM")) {
        (true, _) => soak,
        (false, true) => normal / 10,
        (false, false) => normal,
    }
}

/// How long to record a trickle: `IPC_TRICKLE_SECONDS`, for an hour by hand, else as [`count`] has it.
pub fn trickle_seconds(normal: u64, soak: u64) -> u64 {
    let given = std::env::var("IPC_TRICKLE_SECONDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or_else(|| count(normal, soak).max(1))
}

/// The seed of this run, printed.
pub fn seed() -> u64 {
    let given = std::env::var("IPC_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| since.as_nanos() as u64)
    });
    println!("seed: IPC_SEED={seed}");
    seed
}

/// The next number of a sequence that `state` began (splitmix64).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The Python of the oracles; `None`, after a line that says why, where there is none.
pub fn python() -> Option<Command> {
    match std::env::var_os("IPC_PYTHON") {
        Some(python) => Some(Command::new(python)),
        None => {
            skip("IPC_PYTHON is not set: cargo xtask test sets it");
            None
        }
    }
}

/// Whether root runs the tests.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// CLOCK_BOOTTIME, nanoseconds.
pub fn boot_ns() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
