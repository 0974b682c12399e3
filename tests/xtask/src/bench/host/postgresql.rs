//! A PostgreSQL server of its own, which ends with the measurement.

use super::super::watch::stop;
use super::beside::Process;
use crate::command::{command, line, output, run, succeeds};
use crate::{Result, place, setup};
use rustix::process::Signal;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A server and its data, 300 MB.
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
}

/// In the abstract namespace: a path below the repository may be too long for a socket.
const SOCKET: &str = "@ipctrace-bench";
/// It refuses to run as root.
const USER: &str = "postgres";
/// Everything in memory, and neither checkpoints nor vacuums in some windows and not in others.
const SETTINGS: &[&str] =
    &["listen_addresses=", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off"];
const SCALE: &str = "20";
const START_LIMIT: Duration = Duration::from_secs(30);

impl Server {
    /// Makes it, starts it, fills it.
    pub fn start(folder: &Path) -> Result<Server> {
        let programs = setup::postgresql().ok_or("PostgreSQL is not there; `cargo xtask setup` installs it")?;
        place::empty(folder)?;
        run(command("chown").arg(USER).arg(folder))?;
        let mut server = Server { programs, folder: folder.to_owned(), process: None };
        let data = folder.join("data");
        output(server.as_user("initdb").args(["--no-sync", "-A", "trust", "-D"]).arg(&data))?;
        let mut postgres = server.as_user("postgres");
        postgres.arg("-D").arg(&data).arg("-c").arg(format!("unix_socket_directories={SOCKET}"));
        postgres.args(SETTINGS.iter().flat_map(|setting| ["-c", *setting]));
        let log = File::create(folder.join("log")).map_err(|error| format!("{}: {error}", folder.display()))?;
        let twin = log.try_clone().map_err(|error| error.to_string())?;
        let started = postgres.stdout(log).stderr(twin).spawn();
        server.process = Some(Process(started.map_err(|error| format!("`{}`: {error}", line(&postgres)))?));
        server.wait()?;
        output(server.command("pgbench").args(["--initialize", "--quiet", "--scale", SCALE]))?;
        output(server.command("psql").args(["-c", "CHECKPOINT"]))?;
        Ok(server)
    }

    /// One of its clients.
    pub fn command(&self, program: &str) -> Command {
        let mut client = command(&self.programs.join(program).to_string_lossy());
        client.env("PGHOST", SOCKET).env("PGUSER", USER).env("PGDATABASE", "postgres");
        client
    }

    /// The process, whose children serve the clients.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.0.id())
    }

    /// A program as its user, who may go through folders that are closed to others: the repository may be root's. It
    /// gets SIGINT when this program dies.
    fn as_user(&self, program: &str) -> Command {
        let mut as_user = command("setpriv");
        as_user.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--pdeathsig", "INT"]);
        as_user.args(["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]);
        as_user.arg(self.programs.join(program));
        as_user
    }

    fn wait(&self) -> Result {
        let began = Instant::now();
        while !succeeds(self.command("psql").args(["-c", "SELECT 1"])) {
            if began.elapsed() > START_LIMIT {
                return Err(format!(
                    "PostgreSQL does not start; its log is {}",
                    place::short(&self.folder.join("log"))
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed, it would leave its shared memory behind.
        let _ = self.process.take().map(|mut process| stop(&mut process.0, Signal::INT));
        let _ = place::remove(&self.folder);
    }
}
