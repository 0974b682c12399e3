//! `cargo xtask`: everything a developer types.
//!
//! It knows the other crates only by the names of their binaries, so that it compiles in seconds on a bare machine and
//! can install what the others need. The same program is `/init` of the virtual machine that [`vm`] boots.

mod bench;
mod build;
mod command;
mod cpio;
mod demo;
mod dist;
mod init;
mod licences;
mod macos;
mod package;
mod place;
mod sandbox;
mod service;
mod setup;
mod soak;
mod steps;
mod test;
mod vm;

use std::process::ExitCode;

/// The error of every command: one line that says what was wrong and what to do next.
type Result<T = ()> = std::result::Result<T, String>;

/// What [`sandbox::inside`] runs in a copy of this machine, as the first process or under it.
const INSIDE: &[(&str, Run)] =
    &[("package-inside", package::prove_inside), ("service-boot", service::boot), ("service-inside", service::inside)];

/// A command, given what follows its name.
type Run = fn(&[String]) -> Result;

/// One command of `cargo xtask`.
struct Task {
    name: &'static str,
    options: &'static str,
    doc: &'static str,
    run: Run,
}

const TASKS: &[Task] = &[
    Task {
        name: "setup",
        options: "[--yes]",
        doc: "install what is missing, after asking",
        run: |options| setup::ensure(&setup::Need::ALL, setup::Consent::from_options(options)?),
    },
    Task {
        name: "demo",
        options: "[--yes]",
        doc: "build, record a contended workload on this kernel, print the report",
        run: demo::run,
    },
    Task { name: "test", options: "[--yes]", doc: "format, lints, every test, the kernel matrix", run: test::run },
    Task {
        name: "vm",
        options: "[--yes]",
        doc: "the counting tests on other kernels, under qemu",
        run: |options| vm::run(options),
    },
    Task {
        name: "soak",
        options: "[--yes] [WORD…]",
        doc: "the live tests at full counts, or those with a WORD in their names; hours",
        run: soak::run,
    },
    Task {
        name: "service",
        options: "[--yes]",
        doc: "the package and its service, from installation to removal, under a systemd of its own",
        run: service::run,
    },
    Task {
        name: "bench",
        options: "[analyzer] [host] [--yes] [--quick]",
        doc: "what recording costs, answers beside their peers, or a host pays; writes docs/performance*.md",
        run: bench::run,
    },
    Task {
        name: "dist",
        options: "[--yes]",
        doc: "static programs, their package and checksums in target/dist",
        run: dist::run,
    },
    Task {
        name: "licences",
        options: "",
        doc: "that no dependency is under a licence that asks for more than a notice",
        run: |_| licences::check(),
    },
    Task {
        name: "check-macos",
        options: "[--yes]",
        doc: "type-check the analyzer for macOS",
        run: |options| macos::run(options),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let inside = INSIDE.iter().find(|(name, _)| arguments.first().is_some_and(|first| first == name));
    if let Some((name, run)) = inside {
        return exit(name, run(&arguments[1..]));
    }
    if std::process::id() == 1 {
        init::run();
    }
    let Some((name, options)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::from(2);
    };
    if ["help", "-h", "--help"].contains(&name.as_str()) {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("cargo xtask: there is no command {name:?}\n{}", usage());
        return ExitCode::from(2);
    };
    let takes = |option: &String| {
        task.options.contains(&format!("[{option}]")) || !option.starts_with('-') && task.options.contains("[WORD…]")
    };
    if let Some(unknown) = options.iter().find(|option| !takes(option)) {
        eprint!("cargo xtask {name}: unknown option {unknown:?}\n{}", usage());
        return ExitCode::from(2);
    }
    exit(name, (task.run)(options))
}

fn exit(name: &str, result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND\n");
    for task in TASKS {
        text += &format!("  {:<24} {}\n", format!("{} {}", task.name, task.options), task.doc);
    }
    text
}
