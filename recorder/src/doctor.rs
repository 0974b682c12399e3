//! `doctor`: what this kernel and this user can record, tried, not guessed.

use crate::Failure;
use crate::attach::{self, Filter, Probes, Request, TOOLCHAIN};
use crate::follow::{self, Follow};
use crate::libraries::{self, Choice};
use crate::observer::no_snapshots;
use crate::plan::Way;
use crate::priority;
use crate::procfs;
use crate::scan;
use crate::snapshot::{self, Helper};
use ipc_schema::catalogue::OPERATIONS;
use ipc_schema::manifest::Missing;
use std::io::Write as _;

/// Prints what there is and what is not. Fails with status 4 if nothing can be recorded.
pub fn run() -> Result<u8, Failure> {
    let name = rustix::system::uname();
    let mut lines = vec![
        format!("ipc-recorder {} (probes built by {TOOLCHAIN})", env!("CARGO_PKG_VERSION")),
        format!("kernel {} {}", name.release().to_string_lossy(), name.machine().to_string_lossy()),
        String::new(),
    ];
    let ways = [Way::BtfTracepoint, Way::RawTracepoint, Way::Kprobe].map(|way| (way, try_way(way)));
    // Kprobes are taken only where they are asked for.
    let chosen = ways.iter().find(|(way, result)| result.is_ok() && *way != Way::Kprobe).map(|(way, _)| *way);
    lines.push(line("kernel types (BTF)", attach::offsets().1));
    lines.extend(ways.into_iter().map(|(way, result)| of_way(way, result)));
    lines.extend(of_probes(chosen).into_iter().chain(of_helper()).map(|(feature, missing)| line(feature, missing)));
    lines.push(line("the host's pid namespace", procfs::inside_pid_namespace()));
    priority::raise();
    priority::lower();
    lines.push(line("priority", priority::missing()));
    lines.push(String::new());
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

/// A feature; below it why it is missing, and what would help.
fn line(feature: &str, missing: Option<Missing>) -> String {
    match missing {
        None => format!("{feature:<36} available"),
        Some(Missing { reason, remedy, .. }) => format!("{feature:<36} missing: {reason}\n    {remedy}"),
    }
}

fn of_way(way: Way, result: Result<Vec<String>, attach::Error>) -> String {
    let name = way.name();
    match result {
        Ok(missing) if missing.is_empty() => format!("{name:<36} available"),
        Ok(missing) => format!("{name:<36} available, but {}", missing.join("; ")),
        Err(error) => format!("{name:<36} not available: {error}"),
    }
}

/// Attaches everything in one way for a moment; what is missing then.
fn try_way(way: Way) -> Result<Vec<String>, attach::Error> {
    // The kernel takes long to let go of a kprobe: these stand for all, and have the kernel's own copies.
    let operations = if way == Way::Kprobe { &["semtimedop", "sigprocmask"] } else { OPERATIONS };
    let mut probes = Probes::attach(&Request { entries: attach::entries_of(operations), ..request(way) })?;
    probes.links.detach();
    Ok(probes
        .missing
        .iter()
        .filter(|m| m.feature.contains('_')) // hooks, not the missing BTF
        .map(|m| m.remedy.trim_start_matches("without it ").to_owned())
        .collect())
}

fn request(way: Way) -> Request {
    Request { way: Some(way), ring_bytes: 65536, filter: Filter::Pids, ..Request::default() }
}

/// A feature, and why it is missing.
type Feature = (&'static str, Option<Missing>);

/// What is asked for by options, in the way that a recording would take.
fn of_probes(way: Option<Way>) -> Vec<Feature> {
    let Some(way) = way else { return vec![] };
    let entries = || attach::entries_of(&["semtimedop"]);
    let try_with = |remedy: &str, request: Request| {
        let failed =
            |error: attach::Error| Missing { feature: String::new(), reason: error.to_string(), remedy: remedy.into() };
        Probes::attach(&Request { entries: entries(), ..request }).map_err(failed)
    };
    let stacks = try_with("record without --stacks", Request { stacks: true, ..request(way) });
    let libraries = try_with("record without --libc", request(way)).and_then(|mut probes| {
        probes.attach_libraries(&libraries::find(&[Choice::Found], &[]));
        probes.missing.into_iter().find(|m| m.feature == attach::LIBRARY_CALLS).map_or(Ok(()), Err)
    });
    let cgroups = match follow::cgroup_id("/") {
        Some(id) => try_with("record without --cgroup", Request { cgroups: vec![id], ..request(way) }).map(drop),
        None => Err(Missing {
            feature: String::new(),
            reason: "cgroup v2 is not mounted on /sys/fs/cgroup".into(),
            remedy: "mount it, or record without --cgroup".into(),
        }),
    };
    vec![("--stacks", stacks.err()), ("--libc sigset", libraries.err()), ("--cgroup", cgroups.err())]
}

/// What a scan and a snapshot tell to be withheld from them.
fn of_helper() -> Vec<Feature> {
    let look = || {
        let (mut helper, _) = Helper::start()?;
        let follow = Follow { operations: OPERATIONS.to_vec(), ..Follow::default() };
        let scanned = helper.scan(&follow, false, drop)?;
        let mut missing = helper.take()?.missing;
        missing.extend(scanned);
        Ok::<_, std::io::Error>(missing)
    };
    match look() {
        Ok(missing) => {
            let of = |feature: &&'static str| (*feature, missing.iter().find(|m| m.feature == **feature).cloned());
            snapshot::FEATURES.iter().chain([&scan::FEATURE]).map(of).collect()
        }
        Err(error) => vec![("snapshots", Some(no_snapshots(&error)))],
    }
}
