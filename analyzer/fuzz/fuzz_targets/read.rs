//! Any file as a part of any table, or as `trace.json`.
//!
//! With the compiler of the repository, which has no sanitizers: `cargo install cargo-fuzz`, then in `analyzer/`
//! `cargo fuzz run --sanitizer none read -- -timeout=10 -rss_limit_mb=1024 -max_len=65536`.

#![no_main]

#[path = "../read_anything.rs"]
mod read_anything;

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

/// In memory where the system has a place for it.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("ipc-analyzer-fuzz-{}", std::process::id()))
});

fuzz_target!(
    init: ipc_analyzer::part::silence_guarded_panics(),
    |input: &[u8]| {
        // An error is an answer too; a panic, a hang or a gigabyte is none.
        let _ = read_anything::read(&DIRECTORY, input);
    }
);
