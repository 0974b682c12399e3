//! How a file is encoded changes no answer. Columns with a dictionary have a reader of their own, which picks rows out of
//! packed bits; all others go through Parquet's reader. Both must say the same.

use crate::rewritten::rewrite;
use crate::text::{commands, samples};
use crate::{on, stderr};
use ipc_schema::tables;
use std::path::Path;
use tempfile::TempDir;

#[test]
fn every_answer_is_the_same_with_and_without_dictionaries() {
    let mut compared = 0;
    for sample in samples() {
        let directory = TempDir::new().unwrap();
        let [coded, plain] = ["coded", "plain"].map(|name| directory.path().join(name));
        rewrite(&sample, &coded, &tables::CALLS, true, |batch| batch);
        rewrite(&sample, &plain, &tables::CALLS, false, |batch| batch);
        // `diff` needs two traces, and these are one.
        for command in commands().into_iter().filter(|command| command != "diff") {
            let answer = |trace: &Path| {
                let output = on(&command, trace, &["--format", "jsonl"]);
                assert!(output.status.success(), "{command} {}: {}", trace.display(), stderr(&output));
                // A remedy names the trace.
                String::from_utf8(output.stdout).unwrap().replace(trace.to_str().unwrap(), "TRACE")
            };
            let expected = answer(&sample);
            for trace in [&coded, &plain] {
                if command == "verify" {
                    answer(trace);
                } else {
                    assert_eq!(answer(trace), expected, "{command} {}", sample.display());
                }
                compared += expected.lines().count();
            }
        }
    }
    println!("{compared} rows compared");
    assert!(compared > 1_000, "{compared}");
}
