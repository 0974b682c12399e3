//! The fuzzer's corpus: each file is read as the fuzzer reads it, in every run of the tests. `UPDATE=1` writes anew those
//! that are made of the sample; what the fuzzer found beside them stays.

#[path = "../../fuzz/read_anything.rs"]
mod read_anything;

use crate::mutate::values;
use arrow::array::RecordBatch;
use ipc_schema::tables::TABLES;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a repository can carry.
const CORPUS_BYTES_MAX: u64 = 300 << 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A few rows of each table, uncompressed: a fuzzer cannot guess what makes sense to a decompressor.
fn write_seeds(folder: &Path) {
    let sample = root().join("../samples/traces/battery");
    for (number, table) in TABLES.iter().enumerate() {
        let content = fs::read(sample.join(table.name).join("part-00000.parquet")).unwrap();
        let batch: RecordBatch = values::read(&content);
        let some = batch.slice(batch.num_rows() / 2, batch.num_rows().div_ceil(2).min(3));
        fs::write(folder.join(table.name), [&[number as u8][..], &values::write_small(&some)].concat()).unwrap();
    }
    let manifest = fs::read(sample.join("trace.json")).unwrap();
    fs::write(folder.join("trace.json"), [b"\xff", &manifest[..]].concat()).unwrap();
}

#[test]
fn the_corpus_is_read_without_a_panic() {
    let folder = root().join("fuzz/corpus/read");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&folder).unwrap();
        write_seeds(&folder);
    }
    let directory = TempDir::new().unwrap();
    let (mut files, mut bytes, mut whole) = (0, 0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        let is_seed =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| TABLES.iter().any(|t| t.name == name));
        // A panic outside of the decoders' guard ends the test here.
        let result = read_anything::read(directory.path(), &input);
        assert!(!is_seed || result.is_ok(), "{}: {result:?}", path.display());
        whole += u32::from(result.is_ok());
        files += 1;
        bytes += input.len() as u64;
    }
    assert!(files > TABLES.len() && bytes < CORPUS_BYTES_MAX, "{files} files, {bytes} bytes");
    println!("{files} inputs of {bytes} bytes, {whole} of them whole");
}
