//! A trace in a tar: answers as the directory does; of hostile tars one clear line.

use crate::fixture::{self, Parameters};
use crate::{on, refuses, rows, stderr};
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// A tar in memory.
type Tar = Builder<Cursor<Vec<u8>>>;

/// A trace, its files with their names in a tar, and a place for one.
struct Scene {
    directory: TempDir,
    trace: PathBuf,
    files: Vec<(String, Vec<u8>)>,
}

impl Scene {
    fn new() -> Scene {
        let directory = TempDir::new().unwrap();
        let trace = fixture::write(&directory.path().join("t"), &Parameters { calls: 500, ..Parameters::default() });
        let mut files = vec![("t/trace.json".to_owned(), fs::read(trace.join("trace.json")).unwrap())];
        for part in fixture::read_manifest(&trace).parts {
            files.push((format!("t/{}", part.file), fs::read(trace.join(&part.file)).unwrap()));
        }
        Scene { directory, trace, files }
    }

    /// The tar, with what `more` adds at its beginning.
    fn tar(&self, more: impl FnOnce(&mut Tar)) -> Vec<u8> {
        let mut builder = Builder::new(Cursor::new(Vec::new()));
        more(&mut builder);
        for (name, content) in &self.files {
            builder.append_data(&mut header(EntryType::Regular, content.len() as u64), name, &content[..]).unwrap();
        }
        builder.into_inner().unwrap().into_inner()
    }

    fn written(&self, tar: &[u8]) -> PathBuf {
        let path = self.directory.path().join("x.tar");
        fs::write(&path, tar).unwrap();
        path
    }
}

fn header(kind: EntryType, bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_cksum();
    header
}

/// A header with a name as it is.
fn named(name: &[u8], kind: EntryType, bytes: u64) -> Header {
    let mut header = header(kind, bytes);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_cksum();
    header
}

#[test]
fn a_tar_answers_as_the_directory() {
    let scene = Scene::new();
    let plain = scene.tar(|_| {});
    // As others make them: with folders, `./`, times and owners in extended headers, no folder at all.
    let others = scene.tar(|tar| {
        tar.append(&named(b"./t/", EntryType::Directory, 0), &[][..]).unwrap();
        tar.append_pax_extensions([("mtime", &b"1795384382.123456789"[..]), ("uname", b"somebody")]).unwrap();
        tar.append(&named(b"./t/._trace.json", EntryType::Regular, 5), &b"apple"[..]).unwrap();
    });
    let bare =
        Scene { files: scene.files.iter().map(|(n, c)| (n[2..].to_owned(), c.clone())).collect(), ..Scene::new() };
    for tar in [plain, others, bare.tar(|_| {})] {
        let tar = scene.written(&tar);
        for command in ["summary", "latency", "show", "contention"] {
            assert_eq!(rows(command, &tar, &[]), rows(command, &scene.trace, &[]), "{command}");
        }
        assert!(on("verify", &tar, &[]).status.success());
        let twice = crate::run(&["summary", tar.to_str().unwrap(), scene.trace.to_str().unwrap()]);
        refuses(&twice, 2, "is given twice");
    }
    assert!(stderr(&on("repair", &scene.written(&scene.tar(|_| {})), &[])).contains("nothing to repair"));
}

#[test]
fn hostile_tars_are_refused() {
    let scene = Scene::new();
    let with = |more: &dyn Fn(&mut Tar)| scene.written(&scene.tar(more));
    let entry =
        |name: &'static [u8], kind: EntryType| move |tar: &mut Tar| tar.append(&named(name, kind, 0), &[][..]).unwrap();
    for name in [&b"../t/x"[..], b"/etc/passwd", b"t/../../x", b"t/calls/.."] {
        for kind in [EntryType::Regular, EntryType::Directory] {
            refuses(&on("summary", &with(&entry(name, kind)), &[]), 3, "lies outside: refused");
        }
    }
    use EntryType::{Block, Char, Continuous, Fifo, GNULongLink, GNULongName, GNUSparse, Link, Symlink};
    for kind in
        [Link, Symlink, Char, Block, Fifo, Continuous, GNUSparse, GNULongName, GNULongLink, EntryType::new(b'Z')]
    {
        let tar = with(&entry(b"t/calls/part-00009.parquet", kind));
        refuses(&on("summary", &tar, &[]), 3, "is a link, or no file: refused");
    }
    for (key, value) in [("path", "../x"), ("size", "1"), ("linkpath", "x"), ("GNU.sparse.major", "1")] {
        let tar = with(&|tar| tar.append_pax_extensions([(key, value.as_bytes())]).unwrap());
        refuses(&on("summary", &tar, &[]), 3, "in a way that no trace needs: refused");
    }
    let global = with(&|tar| tar.append(&named(b"x", EntryType::XGlobalHeader, 9), &b"9 path=x\n"[..]).unwrap());
    refuses(&on("summary", &global, &[]), 3, "in a way that no trace needs: refused");
    let twice = with(&|tar| tar.append(&named(b"./t//trace.json", EntryType::Regular, 0), &[][..]).unwrap());
    refuses(&on("summary", &twice, &[]), 3, "is in it twice: refused");
    let two = with(&|tar| tar.append(&named(b"u/trace.json", EntryType::Regular, 0), &[][..]).unwrap());
    refuses(&on("summary", &two, &[]), 3, "it holds 2 traces; pack each by itself");
    let hostile = with(&entry(b"t/\x1b]0;owned\x07\xff", EntryType::Symlink));
    let said = on("summary", &hostile, &[]);
    refuses(&said, 3, "is a link");
    assert!(crate::is_harmless(&stderr(&said)), "{said:?}");
}

#[test]
fn sizes_that_are_not_there() {
    let scene = Scene::new();
    for bytes in [1 << 20, 8 << 30, u64::MAX - 511, u64::MAX] {
        for kind in [EntryType::Regular, EntryType::Directory] {
            let mut tar = scene.tar(|_| {});
            tar.splice(0..0, named(b"t/big", kind, bytes).as_bytes().iter().copied());
            refuses(&on("summary", &scene.written(&tar), &[]), 3, "truncated");
        }
    }
    let long = scene.tar(|tar| {
        tar.append(&named(b"x", EntryType::XHeader, 1 << 20), &vec![b'a'; 1 << 20][..]).unwrap();
    });
    refuses(&on("summary", &scene.written(&long), &[]), 3, "a header of 1048576 bytes");
    let none = scene.tar(|tar| tar.append(&named(b"x", EntryType::XHeader, 4), &b"path"[..]).unwrap());
    refuses(&on("summary", &scene.written(&none), &[]), 3, "an extended header is none");
}

#[test]
fn a_tar_that_is_cut_anywhere_is_no_trace() {
    let scene = Scene::new();
    let whole = scene.tar(|_| {});
    // The end of a tar is two blocks of nothing, of which one is enough.
    let end = whole.len() - 1024;
    let lengths = (0..end + 512).step_by(512).chain((0..end).step_by(997));
    let mut cut = 0;
    for length in lengths {
        let output = on("summary", &scene.written(&whole[..length]), &[]);
        refuses(&output, 3, "");
        cut += 1;
    }
    assert!(on("summary", &scene.written(&whole[..end + 512]), &[]).status.success());
    println!("{cut} places");
}

#[test]
fn a_byte_that_changed_changes_no_answer() {
    let scene = Scene::new();
    let whole = scene.tar(|_| {});
    let before = rows("summary", &scene.trace, &[]);
    let mut random = fixture::Random(7);
    let (mut refused, mut same) = (0, 0);
    for i in 0..400 {
        let mut damaged = whole.clone();
        // Every second one in a header.
        let place = random.below(whole.len() as u64) as usize;
        let place = if i % 2 == 0 { place / 512 * 512 + place % 160 } else { place };
        damaged[place] ^= 1 << (i % 8);
        let tar = scene.written(&damaged);
        let output = on("summary", &tar, &["--format", "json"]);
        if output.status.success() {
            assert_eq!(rows("summary", &tar, &[]), before, "byte {place}");
            same += 1;
        } else {
            refuses(&output, 3, "");
            refused += 1;
        }
    }
    println!("{refused} refused, {same} of no consequence");
    assert!(refused > 100, "{refused}");
}

#[test]
fn what_is_no_tar() {
    let scene = Scene::new();
    for content in [&b""[..], b"hello", &[0; 4096], &[0x1f; 2048], &[0xff; 10240]] {
        let output = on("summary", &scene.written(content), &[]);
        refuses(&output, 3, "is not a trace: it");
    }
    let path = scene.directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    refuses(&on("summary", &path, &[]), 3, "neither a directory nor a file");
    let file: &Path = &scene.written(b"x");
    fs::File::options().append(true).open(file).unwrap().write_all(&[0; 600]).unwrap();
    refuses(&on("summary", file, &[]), 3, "no tar");
}
