//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the programs: `IPC_BIN_DIR`, else the build folder that the test program lies in.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("IPC_BIN_DIR") {
        return folder.into();
    }
    // target/PROFILE/deps/NAME-HASH
    let test = std::env::current_exe().unwrap_or_default();
    test.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default()
}

/// The path of a program.
///
/// # Errors
/// Where it is looked for and how to get it, when it is not there.
pub fn find(name: &str) -> Result<PathBuf, String> {
    let path = folder().join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not there: build it (cargo build --workspace) or set IPC_BIN_DIR", path.display()))
}

/// The path of a program.
///
/// # Panics
/// When it is not there.
pub fn path(name: &str) -> PathBuf {
    find(name).unwrap()
}

/// `ipc-workload ARGUMENTS`.
pub fn workload(arguments: &[&str]) -> Command {
    let mut command = Command::new(path("ipc-workload"));
    command.args(arguments);
    command
}

/// `ipc-analyzer ARGUMENTS TRACE`.
pub fn analyzer(arguments: &[&str], trace: &Path) -> Command {
    let mut command = Command::new(path("ipc-analyzer"));
    command.args(arguments).arg(trace);
    command
}

/// What `PROGRAM WORDS --help` prints.
///
/// # Panics
/// When it does not tell.
pub fn help(program: &str, words: &[&str]) -> String {
    let output = Command::new(path(program)).args(words).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The commands of a program, as its `--help` lists them: a new one is put to the tests by itself.
///
/// # Panics
/// When it does not tell.
pub fn commands(program: &str) -> Vec<String> {
    let all = help(program, &[]);
    let listed = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let lines = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The commands of `ipc-analyzer` that answer, and have `--format`.
///
/// # Panics
/// When it does not tell.
pub fn answering_commands() -> Vec<String> {
    let has_format = |name: &String| help("ipc-analyzer", &[name]).contains("--format ");
    commands("ipc-analyzer").into_iter().filter(has_format).collect()
}

/// Compiles `tests/c/NAME.c` into `folder`; `None`, after a line that says why, where there is no C compiler.
///
/// # Panics
/// When the compiler fails.
pub fn compile(name: &str, options: &[&str], folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(name).with_extension("c");
    let program = folder.join(name);
    match Command::new("cc").args(options).arg("-o").arg(&program).arg(source).output() {
        Ok(output) => {
            assert!(output.status.success(), "cc {name}.c:\n{}", String::from_utf8_lossy(&output.stderr));
            Some(program)
        }
        Err(error) => {
            crate::environment::skip(&format!("there is no C compiler: cc: {error}"));
            None
        }
    }
}

/// A script of `tests/interop` under the Python of the oracles.
pub fn script(mut python: Command, name: &str) -> Command {
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name));
    python
}
