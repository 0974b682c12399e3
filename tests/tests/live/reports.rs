//! The page of a machine on which everything goes wrong at once, in a real browser.

use ipc_tests::environment::{self, Live};
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use std::path::Path;
use std::process::Command;

/// One incident for each section.
const INCIDENTS: [&str; 5] = ["deadlock-semaphores", "convoy", "back-pressure", "semmni", "sigterm-blocked"];
/// A name that would be a script, were it not escaped.
const HOSTILE: &str = "<script>x()";

/// All incidents at once, and one program with a hostile name; in an IPC namespace of its own. Incidents last half a minute: they
/// are killed while they do.
fn record(recording: &Recording) {
    let workload = programs::path("ipc-workload");
    std::fs::copy(&workload, recording.path(HOSTILE)).unwrap();
    let mut script = String::new();
    for incident in INCIDENTS {
        script += &format!("'{}' incident {incident} --seed 7 & ", workload.display());
    }
    script += &format!(
        "'{}/{HOSTILE}' waiters --threads 3 --count 20 --hold 1ms; sleep 2; kill -KILL 0",
        recording.folder().display()
    );
    let mut unshare = Command::new("unshare");
    let record = recording.command(&["--duration", "2s"]);
    unshare.arg("--ipc").arg(record.get_program()).args(record.get_args());
    // A group of its own, which `kill 0` ends.
    unshare.args(["--", "setsid", "--wait", "sh", "-c", &script]);
    run(unshare, recording.folder(), "record");
}

/// What Chromium says of a page that it loads, and the page as it then is.
fn load(page: &Path, folder: &Path) -> Option<(String, String, Vec<String>)> {
    let log = folder.join("network.json");
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]);
    chromium.args([
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--enable-logging=stderr",
    ]);
    chromium.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    chromium.arg(format!("--log-net-log={}", log.display()));
    chromium.arg("--dump-dom").arg(format!("file://{}", page.display()));
    let output = match chromium.output() {
        Ok(output) => output,
        Err(error) => {
            environment::skip(&format!("there is no chromium: {error}"));
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let console: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    let network = std::fs::read_to_string(&log).unwrap_or_default();
    let urls = network.split("\"url\":\"").skip(1).filter_map(|rest| rest.split(['"', '?']).next());
    let urls = urls.filter(|url| !url.starts_with("file:")).map(str::to_owned).collect();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), console.join("\n"), urls))
}

#[test]
fn the_report_of_everything_at_once_is_whole_and_quiet() {
    let Some(_live) = Live::as_root("only root makes IPC namespaces") else { return };
    let recording = Recording::new();
    record(&recording);
    let page = recording.path("report.html");
    let mut report = programs::analyzer(&["report", "--output"], &page);
    report.arg(recording.trace_path());
    run(report, recording.folder(), "report").with_code(0);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("id=\"findings\"") && !text.contains("class=\"nothing\""), "a section is empty");
    for figure in ["class=\"k", "class=\"s", "class=\"curve\"", "class=\"arrow\"", "class=\"bar"] {
        assert!(text.contains(figure), "a figure is missing: {figure}");
    }
    assert!(!text.contains("<script") && text.contains("script&#62;x()"), "the hostile name is there, as a text");
    let Some((dom, console, urls)) = load(&page, recording.folder()) else { return };
    assert_eq!(console, "", "the browser complains");
    // What the browser asks for by itself.
    let empty = recording.path("empty.html");
    std::fs::write(&empty, "<!DOCTYPE html><title>x</title>").unwrap();
    let (_, _, own) = load(&empty, recording.folder()).unwrap();
    let asked: Vec<&String> = urls.iter().filter(|url| !own.contains(url)).collect();
    assert!(asked.is_empty(), "the page asks for something: {asked:?}");
    assert!(dom.contains("id=\"signals\"") && dom.matches("<section").count() == 8, "the browser shows every section");
    println!("{} bytes, {} figures", text.len(), text.matches("<figure").count());
}
