//! Healthy programs that nobody here wrote.

use crate::environment;
use crate::trace::Trace;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program with nothing wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// stress-ng with semaphores, shared memory and both kinds of queues.
    StressNg,
    /// Apache httpd, whose processes accept in turn by a System V semaphore, under load.
    Apache,
    /// PostgreSQL: made, started, asked, stopped.
    PostgreSql,
}

/// Apache's own configuration: two ports, or its processes would not need the mutex. `FOLDER` and `MODULES` are put in.
const APACHE: &str = "
ServerRoot FOLDER
DefaultRuntimeDir FOLDER
PidFile FOLDER/pid
ErrorLog FOLDER/error.log
ServerName localhost
Listen 127.0.0.1:PORT
Listen 127.0.0.1:OTHER
LoadModule mpm_prefork_module MODULES/mod_mpm_prefork.so
LoadModule authz_core_module MODULES/mod_authz_core.so
Mutex sysvsem default
User nobody
Group nogroup
DocumentRoot FOLDER/www
";

/// The server stops by signalling its process group, so it must have its own; idle processes would wait for the mutex for long.
const APACHE_SCRIPT: &str = r#"
setsid /usr/sbin/apache2 -f "$1/apache.conf" -DFOREGROUND & server=$!
for try in $(seq 500); do
    (exec 3<>/dev/tcp/127.0.0.1/$2) 2>/dev/null && break
    sleep 0.02
done
ab -q -t "$3" -n 100000000 -c 10 "http://127.0.0.1:$2/index.html" > "$1/ab.txt"; load=$?
kill -TERM $server; wait $server
exit $load
"#;

/// It refuses to run as root.
const POSTGRESQL_SCRIPT: &str = r#"
set -e
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
as "$2/initdb" --no-sync -A trust -D "$1/data" > "$1/initdb.txt"
as "$2/pg_ctl" -D "$1/data" -w -l "$1/log.txt" -o "-k $1 -c listen_addresses='' -c fsync=off" start > /dev/null
as "$2/psql" -h "$1" -c 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n' postgres > /dev/null
as "$2/psql" -h "$1" -c 'SELECT sum(n) FROM t' postgres > /dev/null
as "$2/pg_ctl" -D "$1/data" -w -m fast stop > /dev/null
"#;

const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// Those that are installed; of the others a line says how to get them.
pub fn installed() -> Vec<Program> {
    [Program::StressNg, Program::Apache, Program::PostgreSql].into_iter().filter(Program::is_installed).collect()
}

/// Whether a program can be started.
fn starts(program: &str) -> bool {
    Command::new(program).arg("-V").output().is_ok()
}

/// Where PostgreSQL's programs are: Debian keeps them out of PATH.
fn postgresql() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    folders.retain(|folder| folder.join("initdb").exists() && folder.join("psql").exists());
    folders.sort();
    folders.pop()
}

impl Program {
    /// In a report.
    pub fn name(self) -> &'static str {
        match self {
            Program::StressNg => "stress-ng",
            Program::Apache => "apache",
            Program::PostgreSql => "postgresql",
        }
    }

    fn is_installed(&self) -> bool {
        let (is_there, packages) = match self {
            Program::StressNg => (starts("stress-ng"), "stress-ng"),
            Program::Apache => (starts("/usr/sbin/apache2") && starts("ab"), "apache2-bin apache2-utils"),
            Program::PostgreSql => (postgresql().is_some(), "postgresql"),
        };
        if !is_there {
            environment::skip(&format!("{} is not installed: apt-get install {packages}", self.name()));
        }
        is_there
    }

    /// What runs it in `folder`, to its end.
    pub fn command(self, folder: &Path) -> Command {
        match self {
            Program::StressNg => stress_ng(),
            Program::Apache => apache(folder),
            Program::PostgreSql => postgresql_in(folder),
        }
    }

    /// Whether the trace holds what makes it a proof: calls of the kinds it is here for.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(self, trace: &Trace) {
        let wanted: &[(&str, u64)] = match self {
            Program::StressNg => &[("semtimedop", 1000), ("msgsnd", 100), ("mq_timedsend", 100), ("shmat", 5)],
            Program::Apache => &[("semtimedop", 1000), ("semctl", 2)],
            Program::PostgreSql => &[("shmget", 1), ("shmat", 1), ("sigprocmask", 100), ("signalfd", 1)],
        };
        let calls = trace.calls_by_operation();
        for (operation, least) in wanted {
            let count = calls.get(*operation).copied().unwrap_or(0);
            assert!(count >= *least, "{}: {count} {operation} are too few: {calls:?}", self.name());
        }
    }
}

fn stress_ng() -> Command {
    let mut stress = Command::new("stress-ng");
    // So few that no call is lost, whatever else this machine does.
    for (stressor, normal) in [("sem-sysv", 2000), ("msg", 2000), ("mq", 2000), ("shm-sysv", 20)] {
        let operations = environment::count(normal, 2 * normal).max(1).to_string();
        stress.args([&format!("--{stressor}"), "2", &format!("--{stressor}-ops"), &operations]);
    }
    stress.args(["--timeout", "2", "--quiet"]);
    stress
}

fn apache(folder: &Path) -> Command {
    let root = folder.join("apache");
    std::fs::create_dir_all(root.join("www")).unwrap();
    std::fs::write(root.join("www/index.html"), "hello\n").unwrap();
    open_to_others(folder);
    let ports = [free_port(), free_port()];
    let mut text = APACHE.replace("FOLDER", root.to_str().unwrap()).replace("MODULES", APACHE_MODULES);
    text = text.replace("PORT", &ports[0].to_string()).replace("OTHER", &ports[1].to_string());
    std::fs::write(root.join("apache.conf"), text).unwrap();
    let seconds = environment::count(2, 20).max(1).to_string();
    script(APACHE_SCRIPT, &[root.to_str().unwrap(), &ports[0].to_string(), &seconds])
}

fn postgresql_in(folder: &Path) -> Command {
    let root = folder.join("postgresql");
    std::fs::create_dir_all(&root).unwrap();
    open_to_others(folder);
    let owned = Command::new("chown").args(["postgres:postgres"]).arg(&root).status().unwrap();
    assert!(owned.success(), "chown postgres {}", root.display());
    let programs = postgresql().unwrap();
    script(POSTGRESQL_SCRIPT, &[root.to_str().unwrap(), programs.to_str().unwrap()])
}

/// `bash -c SCRIPT bash ARGUMENTS`.
fn script(text: &str, arguments: &[&str]) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", text, "bash"]).args(arguments);
    bash
}

/// Servers drop their privilege: they must get through the folder.
fn open_to_others(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
