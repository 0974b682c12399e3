//! What runs all the time, and says of each operation when it ended and how long it took.

use super::super::watch::own_cpu_ns;
use super::background::Background;
use super::beside::Process;
use super::postgresql::Server;
use crate::{Result, place};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A service.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// `pgbench --select-only`.
    Select,
    /// pgbench's own transactions.
    Write,
    /// A thread that appends 4 KiB to a file and syncs it, again and again.
    Neighbour,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operation {
    /// Since the epoch.
    ended_ns: u64,
    took_ns: u64,
    /// Clients count their operations, those that are in no log among them.
    client: usize,
    number: u64,
}

/// All operations of a service that are in its log, in the order of their ends.
pub struct Operations(Vec<Operation>);

/// A service that runs; dropped, it ends.
pub enum Running {
    Pgbench {
        process: Process,
        /// With its logs.
        folder: PathBuf,
        server: Option<u32>,
    },
    Neighbour(Background<Operation>),
}

/// How long a log may stay in a buffer of its program: four kilobytes of it.
const BUFFERED: Duration = Duration::from_secs(1);

const NEIGHBOUR_BYTES: usize = 4096;

impl Service {
    /// Starts it.
    pub fn start(self, server: &Server) -> Result<Running> {
        // A log of 130,000 lines a second would be a load of its own.
        let options: &[&str] = match self {
            Service::Neighbour => return start_neighbour().map(Running::Neighbour),
            Service::Select => &["--select-only", "--sampling-rate", "0.1"],
            Service::Write => &[],
        };
        let folder = place::target("bench").join("pgbench");
        place::empty(&folder)?;
        let mut pgbench = server.command("pgbench");
        pgbench.args(["--protocol", "prepared", "--client", "2", "--jobs", "2", "--time", "100000"]).args(options);
        pgbench.arg("--log").arg("--log-prefix").arg(folder.join("log"));
        let output = File::create(folder.join("output")).map_err(|error| format!("{}: {error}", folder.display()))?;
        let twin = output.try_clone().map_err(|error| error.to_string())?;
        let pgbench = pgbench.stdout(output).stderr(twin).spawn().map_err(|error| format!("pgbench: {error}"))?;
        Ok(Running::Pgbench { process: Process(pgbench), folder, server: server.pid() })
    }
}

impl Running {
    /// The processor time of all its processes, nanoseconds, if it has any.
    pub fn cpu_ns(&self) -> Result<Option<u64>> {
        let Running::Pgbench { process, server: Some(server), .. } = self else { return Ok(None) };
        let path = format!("/proc/{server}/task/{server}/children");
        let children = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.chain([process.0.id(), *server]).map(own_cpu_ns).sum::<Result<u64>>().map(Some)
    }

    /// Ends it; what it did.
    pub fn stop(self) -> Result<Operations> {
        let mut all = match self {
            Running::Neighbour(neighbour) => neighbour.stop()?,
            Running::Pgbench { process, folder, .. } => {
                std::thread::sleep(BUFFERED);
                end_pgbench(process, &folder)?;
                read_logs(&folder)?
            }
        };
        all.sort_unstable_by_key(|operation| operation.ended_ns);
        Ok(Operations(all))
    }
}

impl Operations {
    /// Of a window: how many there were per second, and the 99th percentile of their durations. None if there were
    /// too few for one.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> Option<(f64, f64)> {
        let place = |time_ns| self.0.partition_point(|operation| operation.ended_ns < time_ns);
        let inside = &self.0[place(from_ns)..place(to_ns)];
        let mut durations: Vec<u64> = inside.iter().map(|operation| operation.took_ns).collect();
        if durations.len() < 200 {
            return None;
        }
        let rank = durations.len() * 99 / 100;
        let (_, p99_ns, _) = durations.select_nth_unstable(rank);
        Some((per_s(inside), *p99_ns as f64))
    }
}

/// Of all clients together: each counted what it did between the first and the last that is in the log.
fn per_s(inside: &[Operation]) -> f64 {
    let clients = inside.iter().map(|operation| operation.client).max().map_or(0, |last| last + 1);
    let of = |client: usize| {
        let mut own = inside.iter().filter(|operation| operation.client == client);
        let (first, last) = (own.next()?, own.next_back()?);
        Some((last.number - first.number) as f64 / (last.ended_ns - first.ended_ns) as f64 * 1e9)
    };
    (0..clients).filter_map(of).sum()
}

/// pgbench has no way to end early but a signal.
fn end_pgbench(mut process: Process, folder: &Path) -> Result {
    if let Ok(None) = process.0.try_wait() {
        return Ok(());
    }
    let said = fs::read_to_string(folder.join("output")).unwrap_or_default();
    Err(format!("pgbench ended by itself:\n{said}"))
}

/// pgbench writes a log for each of its threads.
fn read_logs(folder: &Path) -> Result<Vec<Operation>> {
    let failed = |error| format!("{}: {error}", folder.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("log") {
            let text = fs::read_to_string(entry.path()).map_err(failed)?;
            all.extend(text.lines().filter_map(read_line));
        }
    }
    place::remove(folder)?;
    Ok(all)
}

/// `client_id transaction_no time script_no time_epoch time_us`; the last line may be half of one.
fn read_line(line: &str) -> Option<Operation> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [client, number, took_us, _, epoch_s, epoch_us] = fields[..] else { return None };
    let number_of = |text: &str| text.parse::<u64>().ok();
    Some(Operation {
        ended_ns: number_of(epoch_s)? * 1_000_000_000 + number_of(epoch_us)? * 1000,
        took_ns: number_of(took_us)? * 1000,
        client: client.parse().ok()?,
        number: number_of(number)?,
    })
}

fn start_neighbour() -> Result<Background<Operation>> {
    let path = place::target("bench").join("neighbour");
    let mut file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut number = 0;
    Ok(Background::start(move || {
        let began = Instant::now();
        file.write_all(&[0xa5; NEIGHBOUR_BYTES]).and_then(|()| file.sync_data()).map_err(|e| e.to_string())?;
        number += 1;
        Ok(Operation { ended_ns: epoch_ns(), took_ns: began.elapsed().as_nanos() as u64, client: 0, number })
    }))
}

/// Now, since the epoch.
pub fn epoch_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_pgbench_is_read_and_half_of_one_is_not() {
        let operation = Operation { ended_ns: 1_795_434_321_364_010_000, took_ns: 2_808_000, client: 1, number: 7 };
        assert_eq!(read_line("1 7 2808 0 1795434321 364010"), Some(operation));
        assert_eq!(read_line("1 7 2808 0 17954"), None);
    }

    #[test]
    fn a_window_counts_what_is_in_no_log_and_nothing_beside_it() {
        // Two clients of 1,000 operations a second each, one of ten logged, of which the last takes long.
        let logged = |client| {
            (0..500).map(move |place| Operation {
                ended_ns: place * 10_000_000,
                took_ns: if place % 50 == 49 { 9_000 } else { 1_000 },
                client,
                number: place * 10,
            })
        };
        let mut all: Vec<Operation> = logged(0).chain(logged(1)).collect();
        all.sort_unstable_by_key(|operation| operation.ended_ns);
        let operations = Operations(all);
        assert_eq!(operations.between(1_000_000_000, 3_000_000_000), Some((2000.0, 9_000.0)));
        assert_eq!(operations.between(0, 490_000_000), None, "98 are too few");
    }
}
