//! Options in a file and in the environment: the command line is above the environment, that above the file.

use crate::fixture::{self, Parameters};
use crate::{refuses, stderr, stdout};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

struct Scene {
    directory: TempDir,
    trace: PathBuf,
}

impl Scene {
    fn new(settings: &str) -> Scene {
        let directory = TempDir::new().unwrap();
        let trace = fixture::write(&directory.path().join("t"), &Parameters { calls: 100, ..Parameters::default() });
        let folder = directory.path().join("config/ipctrace");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ipc-analyzer.toml"), settings).unwrap();
        Scene { directory, trace }
    }

    fn ask(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipc-analyzer"));
        command.arg("latency").arg(&self.trace).args(arguments).envs(environment.iter().copied());
        command.env("XDG_CONFIG_HOME", self.directory.path().join("config")).output().unwrap()
    }

    /// The first column's heading in CSV: what was grouped by.
    fn by(&self, environment: &[(&str, &str)], arguments: &[&str]) -> String {
        let output = self.ask(environment, arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).split(',').next().unwrap().to_owned()
    }
}

#[test]
fn the_command_line_is_above_the_environment_and_that_above_the_file() {
    let scene = Scene::new("format = \"csv\"\nby = [\"pid\"]\n\n[latency]\nby = [\"comm\", \"syscall\"]\n");
    let environment = [("IPC_ANALYZER_BY", "error,pid")];
    assert_eq!(scene.by(&[], &[]), "comm");
    assert_eq!(scene.by(&environment, &[]), "error");
    assert_eq!(scene.by(&environment, &["--by", "syscall"]), "syscall");
    assert!(stdout(&scene.ask(&[("IPC_ANALYZER_FORMAT", "json")], &[])).starts_with("{\"command\""));
    let named = scene.directory.path().join("other.toml");
    fs::write(&named, "format = \"csv\"\n[latency]\nby = [\"error\"]\n").unwrap();
    assert_eq!(scene.by(&[("IPC_ANALYZER_CONFIG", named.to_str().unwrap())], &[]), "error");
}

#[test]
fn what_makes_no_sense_there_is_told_with_its_place() {
    for (settings, told) in [
        ("[latency]\nbuy = [\"comm\"]\n", "[latency] buy is no option that can be set; those are by, "),
        ("[lattency]\n", "[lattency] is no command"),
        ("format = csv\n", "TOML parse error at line 1"),
        ("[latency]\nby = [1.5]\n", "by: neither a text, a number"),
    ] {
        let scene = Scene::new(settings);
        refuses(&scene.ask(&[], &[]), 2, told);
        assert!(stderr(&scene.ask(&[], &[])).contains("config/ipctrace/ipc-analyzer.toml: "));
    }
    let scene = Scene::new("");
    let refused = scene.ask(&[("IPC_ANALYZER_CONFIG", "/nowhere/x.toml")], &[]);
    refuses(&refused, 2, "/nowhere/x.toml");
}
