//! Facts about the host and this recording.

use crate::ring::{boot_ns, epoch_ns};
use ipc_schema::manifest::{ClockSample, Manifest, Session};
use ipc_schema::version::FormatVersion;

/// The boot clock and the wall clock, read as close together as can be.
pub fn clock_sample() -> ClockSample {
    // Of several pairs the one with the least time between the two boot readings is the truest.
    let pair = || {
        let (before, epoch, after) = (boot_ns(), epoch_ns(), boot_ns());
        (after - before, ClockSample { boot_ns: ((before + after) / 2) as i64, epoch_ns: epoch as i64 })
    };
    (0..5).map(|_| pair()).min_by_key(|(gap, _)| *gap).map_or_else(|| pair().1, |(_, sample)| sample)
}

/// A session of this host that begins now; totals and what was attached are filled in later.
pub fn begin(command: Option<String>) -> Session {
    let clock = clock_sample();
    let name = rustix::system::uname();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    Session {
        format_version: FormatVersion::CURRENT.0,
        recorder_version: env!("CARGO_PKG_VERSION").into(),
        host: name.nodename().to_string_lossy().into_owned(),
        kernel: format!("{} {}", name.release().to_string_lossy(), name.version().to_string_lossy()),
        arch: name.machine().to_string_lossy().into_owned(),
        boot_id: boot_id.map(|b| b.trim().to_owned()),
        command,
        start_ns: clock.epoch_ns,
        end_ns: clock.epoch_ns,
        clock_offset_ns: clock.epoch_ns - clock.boot_ns,
        clock_samples: vec![clock],
        ..Session::default()
    }
}

/// The name of a trace that the user did not name: `ipctrace-HOST-YYYYMMDDTHHMMSSZ`.
pub fn default_name(session: &Session) -> String {
    let time = chrono::DateTime::from_timestamp_nanos(session.start_ns).format("%Y%m%dT%H%M%SZ");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let host: String = session.host.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("ipctrace-{host}-{time}")
}

/// The manifest of a trace that begins: with a new id, not complete, without parts.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn manifest(session: &Session) -> std::io::Result<Manifest> {
    let format_version = FormatVersion::CURRENT.0;
    Ok(Manifest {
        format_version,
        trace_id: trace_id()?,
        complete: false,
        session: session.clone(),
        parts: vec![],
        log_from: Some(0),
    })
}

/// A new trace id: 32 hexadecimal digits.
fn trace_id() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
