//! `doctor`: what this kernel and this user can record, tried, not guessed.

use crate::Failure;
use crate::attach::{self, Filter, Probes, Request, TOOLCHAIN};
use crate::plan::Way;
use ipc_schema::catalogue::OPERATIONS;
use std::io::Write as _;

/// Prints a line per feature. Fails with status 4 if nothing can be recorded.
pub fn run() -> Result<u8, Failure> {
    let name = rustix::system::uname();
    let mut lines = vec![
        format!("ipc-recorder {} (probes built by {TOOLCHAIN})", env!("CARGO_PKG_VERSION")),
        format!("kernel       {} {}", name.release().to_string_lossy(), name.machine().to_string_lossy()),
        match attach::offsets().1 {
            None => "BTF          available".into(),
            Some(missing) => format!("BTF          missing: {}\n             {}", missing.reason, missing.remedy),
        },
    ];
    let ways = [Way::BtfTracepoint, Way::RawTracepoint, Way::Kprobe];
    let results: Vec<_> = ways.iter().map(|way| (*way, try_way(*way))).collect();
    for (way, result) in &results {
        lines.push(match result {
            Ok(missing) if missing.is_empty() => format!("{:<14} available", way.name()),
            Ok(missing) => format!("{:<14} available, but {}", way.name(), missing.join("; ")),
            Err(error) => format!("{:<14} not available: {error}", way.name()),
        });
    }
    // Kprobes are taken only where they are asked for.
    let chosen = results.iter().find(|(way, result)| result.is_ok() && *way != Way::Kprobe).map(|(way, _)| way);
    lines.push(match chosen {
        Some(way) => format!("record will use {}", way.name()),
        None => "record cannot work here: run as root, or with CAP_BPF and CAP_PERFMON, on Linux 5.8 or newer".into(),
    });
    let text = lines.join("\n") + "\n";
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(if chosen.is_some() { 0 } else { 4 })
}

/// Attaches everything in one way for a moment; what is missing then.
fn try_way(way: Way) -> Result<Vec<String>, attach::Error> {
    // The kernel takes long to let go of a kprobe: these stand for all, and have the kernel's own copies.
    let operations = if way == Way::Kprobe { &["semtimedop", "sigprocmask"] } else { OPERATIONS };
    let entries = attach::entries_of(operations);
    let request = Request { way: Some(way), ring_bytes: 65536, entries, filter: Filter::Pids, ..Request::default() };
    let mut probes = Probes::attach(&request)?;
    probes.links.detach();
    Ok(probes
        .missing
        .iter()
        .filter(|m| m.feature.contains('_')) // hooks, not the missing BTF
        .map(|m| m.remedy.trim_start_matches("without it ").to_owned())
        .collect())
}
