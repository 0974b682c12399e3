//! Damaged files: never a panic, never a wrong row in silence.

use crate::fixture::{self, Parameters, Random, TraceWriter};
use crate::{on, stderr, stdout};
use ipc_schema::tables;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const FILE: &str = "calls/part-00000.parquet";

/// `IPC_SEED`, or the day's.
fn seed() -> u64 {
    let seed = std::env::var("IPC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    println!("seed {seed}");
    seed
}

/// Changes a file in one of the ways in which files are damaged.
fn damage(content: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(content.len() as u64) as usize;
    match random.below(4) {
        0 => content[at] ^= 1 << random.below(8),
        1 => content.truncate(at),
        2 => content[at..].iter_mut().take(16).for_each(|byte| *byte = random.next() as u8),
        _ => {
            // The footer is where the most harm is done.
            let from = content.len().saturating_sub(2_000);
            let at = from + random.below((content.len() - from) as u64) as usize;
            content[at] = random.next() as u8;
        }
    }
}

/// Writes a damaged copy of the file; whether it differs.
fn put(trace: &Path, whole: &[u8], random: &mut Random) -> bool {
    let mut content = whole.to_vec();
    damage(&mut content, random);
    fs::write(trace.join(FILE), &content).unwrap();
    content != whole
}

#[test]
fn a_damaged_file_is_always_refused() {
    let directory = TempDir::new().unwrap();
    let trace =
        fixture::write(&directory.path().join("t"), &Parameters { calls: 2_000, parts: 1, ..Parameters::default() });
    let whole = fs::read(trace.join(FILE)).unwrap();
    let mut random = Random(seed());
    for _ in 0..150 {
        if !put(&trace, &whole, &mut random) {
            continue;
        }
        let output = on("latency", &trace, &[]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(FILE), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

/// An attacker can make the manifest agree with any file: then decoding itself must hold.
#[test]
fn a_damaged_file_with_a_right_checksum_never_panics() {
    let directory = TempDir::new().unwrap();
    let trace =
        fixture::write(&directory.path().join("t"), &Parameters { calls: 2_000, parts: 1, ..Parameters::default() });
    let whole = fs::read(trace.join(FILE)).unwrap();
    let writer = TraceWriter { directory: trace.clone(), trace_id: "trace-a".to_owned() };
    let original = fixture::read_manifest(&trace);
    let mut random = Random(seed() ^ 1);
    for _ in 0..150 {
        put(&trace, &whole, &mut random);
        let mut manifest = original.clone();
        manifest.parts.retain(|part| part.file != FILE);
        manifest.parts.push(writer.listed(&tables::CALLS, FILE, 2_000));
        fixture::write_manifest(&trace, &manifest);
        for command in ["latency", "verify"] {
            let output = on(command, &trace, &[]);
            assert!(matches!(output.status.code(), Some(0 | 3)), "{command}: {:?}", output.status);
            assert!(!stderr(&output).contains("panicked"), "{command}: {}", stderr(&output));
        }
    }
}
