//! `cargo xtask service`: the package is installed, its service started, watched, killed and removed, by a systemd that is
//! the first process of a [`sandbox`].

use crate::build::{self, Profile};
use crate::command::{command, output, run as run_to_end, succeeds};
use crate::setup::{self, Consent, Need};
use crate::{Result, package, place, sandbox};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SERVICE: &str = "ipc-recorder.service";
const STATE: &str = "/var/lib/ipc-recorder";
/// For everything, and for one step.
const LIMITS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(30));
/// A shorter watchdog than the service's own, so that the test is short.
const WATCHDOG: &str = "[Service]\nWatchdogSec=4s\n";

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build, Need::Package], Consent::from_options(options)?)?;
    build::build(Profile::Ci, &build::PROGRAMS)?;
    boot_all()
}

/// Boots the sandbox; the programs are built.
pub fn boot_all() -> Result {
    if !sandbox::is_possible() {
        return Err("it takes root, outside of a container, to start a systemd of its own".to_owned());
    }
    let folder = place::target("service");
    place::empty(&folder)?;
    let package = package::make(Profile::Ci, &folder)?;
    let log = folder.join("log");
    let mut booted = sandbox::inside("service-boot", &[&package.to_string_lossy(), &log.to_string_lossy()])?;
    let console = fs::File::create(folder.join("console")).map_err(|error| format!("console: {error}"))?;
    let twin = console.try_clone().map_err(|error| format!("console: {error}"))?;
    let mut booted = booted.stdout(console).stderr(twin).spawn().map_err(|error| format!("unshare: {error}"))?;
    let deadline = Instant::now() + LIMITS.0;
    let status = loop {
        match booted.try_wait().map_err(|error| format!("unshare: {error}"))? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    if status.is_none() {
        // Both fail only when it is gone already.
        let _ = booted.kill();
        let _ = booted.wait();
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    eprint!("{said}");
    match status {
        Some(status) if status.success() => Ok(()),
        _ => Err(format!("the service did not do what it must (consoles in {})", place::short(&folder))),
    }
}

/// Hidden: becomes the systemd of a sandbox, which runs [`inside`] and ends with it.
pub fn boot(arguments: &[String]) -> Result {
    let [package, log] = arguments else { return Err("it takes the package and a log".to_owned()) };
    sandbox::enter()?;
    // Machines that only build forbid packages to stop what runs.
    let _ = fs::remove_file("/usr/sbin/policy-rc.d");
    for target in ["sysinit", "local-fs"] {
        for folder in ["/lib", "/etc"].map(|place| format!("{place}/systemd/system/{target}.target.wants")) {
            if Path::new(&folder).exists() {
                // What this machine does when it starts is not to be done again: cleaning /tmp, for one.
                sandbox::hide(&folder)?;
            }
        }
    }
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let unit = format!(
        "[Unit]\nWants=systemd-journald.service\nAfter=systemd-journald.service\nSuccessAction=exit-force\nFailureAction=exit-force\nFailureActionExitStatus=1\n\
         [Service]\nType=oneshot\nStandardOutput=file:{log}\nStandardError=inherit\n\
         ExecStart={} service-inside {package}\n",
        program.display()
    );
    write(Path::new("/run/systemd/system/lifecycle.service"), &unit)?;
    let mut systemd = command("/lib/systemd/systemd");
    // With this in its environment systemd leaves to this machine what is this machine's.
    systemd.env_clear().env("container", "sandbox").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    systemd.args(["--system", "--unit=lifecycle.service", "--log-target=journal", "--show-status=no"]);
    Err(format!("cannot start systemd: {}", systemd.exec()))
}

/// Hidden: what happens to the service, step by step.
pub fn inside(arguments: &[String]) -> Result {
    let [package] = arguments else { return Err("it takes the package".to_owned()) };
    let result = installed(package).and_then(|()| killed()).and_then(|()| hung()).and_then(|()| removed());
    if result.is_err() {
        for why in [&["systemctl", "--no-pager", "status", SERVICE][..], &["journalctl", "--no-pager", "--lines=60"]] {
            let _ = run_to_end(command(why[0]).args(&why[1..])); // an inactive service is an error to systemctl
        }
    }
    result
}

fn installed(package: &str) -> Result {
    run_to_end(command("dpkg").args(["--install", package]))?;
    expect("it is not started by itself", || property("ActiveState").is_ok_and(|state| state == "inactive"))?;
    expect("nor enabled", || property("UnitFileState").is_ok_and(|state| state == "disabled"))?;
    run_to_end(command("systemctl").args(["start", SERVICE]))?;
    expect("it is ready", || property("ActiveState").is_ok_and(|state| state == "active"))?;
    let [trace] = &traces()?[..] else { return Err(format!("not one trace: {:?}", traces()?)) };
    expect("its trace is there", || trace.join("trace.json").exists())?;
    let mode = fs::metadata(STATE).map_err(|error| format!("{STATE}: {error}"))?.mode() & 0o7777;
    expect(&format!("{STATE} is root's alone ({mode:o})"), || mode == 0o700)?;
    work()?;
    expect("it says what it does", || property("StatusText").is_ok_and(|text| text.starts_with("recording ")))
}

fn killed() -> Result {
    let before = property("MainPID")?;
    let [trace] = &traces()?[..] else { return Err(format!("not one trace: {:?}", traces()?)) };
    std::thread::sleep(Duration::from_secs(2)); // the last second is what a death may cost
    run_to_end(command("kill").args(["-KILL", &before]))?;
    expect("it is started again after SIGKILL", || property("NRestarts").is_ok_and(|restarts| restarts == "1"))?;
    expect("and ready", || property("ActiveState").is_ok_and(|state| state == "active"))?;
    expect("in another directory", || traces().is_ok_and(|traces| traces.len() == 2))?;
    let said = output(command("/usr/bin/ipc-analyzer").arg("summary").arg(trace))?;
    expect("what was killed can be read", || said.contains("semtimedop"))
}

fn hung() -> Result {
    write(&Path::new("/run/systemd/system").join(format!("{SERVICE}.d/watchdog.conf")), WATCHDOG)?;
    run_to_end(command("systemctl").arg("daemon-reload"))?;
    run_to_end(command("systemctl").args(["restart", SERVICE]))?;
    let before = property("MainPID")?;
    std::thread::sleep(Duration::from_secs(10));
    expect("it outlives two and a half watchdogs", || property("MainPID").is_ok_and(|pid| pid == before))?;
    let mut stop = command("python3");
    stop.args(["tests/interop/stop_thread.py", &before, "writer"]).stdin(std::process::Stdio::piped());
    let mut stopped = stop.spawn().map_err(|error| format!("python3: {error}"))?;
    let fired = expect("the watchdog sees a writer that hangs", || {
        let journal = output(command("journalctl").args(["--no-pager", "--unit", SERVICE]));
        journal.is_ok_and(|journal| journal.contains("Watchdog timeout"))
    });
    // Both fail only when it is gone already. A thread that is traced does not die of the watchdog's signal.
    let _ = stopped.kill();
    let _ = stopped.wait();
    fired?;
    expect("and it is started again", || {
        property("MainPID").is_ok_and(|pid| pid != before && pid != "0")
            && property("ActiveState").is_ok_and(|state| state == "active")
    })
}

fn removed() -> Result {
    let newest = traces()?.pop().ok_or("there is no trace")?;
    work()?;
    run_to_end(command("systemctl").args(["stop", SERVICE]))?;
    expect("it stops cleanly", || property("Result").is_ok_and(|result| result == "success"))?;
    run_to_end(command("/usr/bin/ipc-analyzer").arg("verify").arg(&newest))?;
    expect("and its trace is complete", || {
        fs::read_to_string(newest.join("trace.json"))
            .is_ok_and(|text| text.replace(' ', "").contains("\"complete\":true"))
    })?;
    let alone = Path::new("/tmp/alone");
    run_to_end(command("/usr/bin/ipc-recorder").args(["record", "--duration", "1s", "-o"]).arg(alone))?;
    let (service_lacks, root_lacks) = (lacks(&newest)?, lacks(alone)?);
    expect(&format!("it lacks what root lacks, and no more:{root_lacks}]"), || service_lacks == root_lacks)?;
    run_to_end(command("systemctl").args(["start", SERVICE]))?;
    let process = Path::new("/proc").join(property("MainPID")?).join("comm");
    expect("it runs", || fs::read_to_string(&process).is_ok_and(|name| name.trim() == "ipc-recorder"))?;
    run_to_end(command("dpkg").args(["--remove", "ipctrace"]))?;
    expect("removing it stops it", || !process.exists())?;
    run_to_end(command("dpkg").args(["--purge", "ipctrace"]))?;
    expect("and leaves no unit", || !succeeds(command("systemctl").args(["cat", SERVICE])))?;
    expect("but the traces", || traces().is_ok_and(|traces| traces.contains(&newest)))
}

/// Says what is expected and waits for it.
fn expect(what: &str, mut holds: impl FnMut() -> bool) -> Result {
    let deadline = Instant::now() + LIMITS.1;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("after {} s still not so: {what}", LIMITS.1.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("  {what}");
    Ok(())
}

/// Calls to record.
fn work() -> Result {
    let workload = Profile::Ci.folder().join("ipc-workload");
    output(command(&workload.to_string_lossy()).args(["storm", "--count", "10000"])).map(drop)
}

fn property(name: &str) -> Result<String> {
    let shown = output(command("systemctl").args(["show", "--value", "--property", name, SERVICE]))?;
    Ok(shown.trim().to_owned())
}

/// The traces of the service, the newest last.
fn traces() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(STATE).map_err(|error| format!("{STATE}: {error}"))?;
    let mut traces: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    traces.sort();
    Ok(traces)
}

/// What a complete trace says was withheld.
fn lacks(trace: &Path) -> Result<String> {
    let manifest = fs::read_to_string(trace.join("trace.json")).map_err(|error| format!("trace.json: {error}"))?;
    let missing = manifest.split_once("\"missing\"").and_then(|(_, rest)| rest.split_once(']'));
    missing.map(|(missing, _)| missing.to_owned()).ok_or_else(|| "trace.json does not say what is missing".to_owned())
}

fn write(path: &Path, text: &str) -> Result {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
