//! `ipc-analyzer`: see the library.

fn main() -> std::process::ExitCode {
    ipc_analyzer::main()
}
