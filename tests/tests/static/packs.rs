//! A packed trace answers as its directory does; with pseudonyms it answers the same up to the names, and holds none of them.

use ipc_tests::environment;
use ipc_tests::packs::{Hidden, pack, packed, unpacked};
use ipc_tests::programs;
use ipc_tests::trace::Trace;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/traces").canonicalize().unwrap();
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 7, "{found:?}");
    found
}

/// All but what counts the bytes of a trace.
fn questions() -> Vec<String> {
    programs::answering_commands().into_iter().filter(|name| name != "verify").collect()
}

fn analyzer(arguments: &[&str], traces: &[&Path]) -> Output {
    Command::new(programs::path("ipc-analyzer")).args(arguments).args(traces).output().unwrap()
}

/// The answer of a command, with the paths of the traces as TRACE.
fn answer(command: &str, traces: &[&Path], format: &str) -> String {
    let output = analyzer(&[command, "--limit", "0", "--format", format], traces);
    assert!(output.status.success(), "{command} {traces:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    traces.iter().fold(text, |text, trace| text.replace(trace.to_str().unwrap(), "TRACE"))
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines
}

fn secret(folder: &Path) -> String {
    let path = folder.join("secret");
    fs::write(&path, "a secret of the test").unwrap();
    path.to_str().unwrap().to_owned()
}

fn verified(tar: &Path) {
    let output = analyzer(&["verify", "--strict"], &[tar]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Two traces for `diff`.
fn pairs(samples: &[PathBuf]) -> impl Iterator<Item = (&Path, &Path)> {
    samples.iter().zip(samples.iter().cycle().skip(1)).map(|(a, b)| (a.as_path(), b.as_path()))
}

#[test]
fn a_tar_answers_as_its_directory() {
    let folder = TempDir::new().unwrap();
    let samples = samples();
    let tar_of = |sample: &Path| folder.path().join(sample.file_name().unwrap()).with_extension("tar");
    for sample in &samples {
        packed(sample, &tar_of(sample), &[]);
        verified(&tar_of(sample));
        let out = unpacked(&tar_of(sample), &folder.path().join(sample.file_name().unwrap()));
        for part in Trace::open(sample).manifest.parts {
            assert_eq!(fs::read(sample.join(&part.file)).unwrap(), fs::read(out.join(&part.file)).unwrap());
        }
        assert_eq!(fs::read(sample.join("trace.json")).unwrap(), fs::read(out.join("trace.json")).unwrap());
    }
    let mut answers = 0;
    for command in questions() {
        for (sample, other) in pairs(&samples) {
            let (tar, mixed) = (tar_of(sample), [sample, &tar_of(other)]);
            let (open, packed) =
                if command == "diff" { (vec![sample, other], mixed.to_vec()) } else { (vec![sample], vec![&*tar]) };
            for format in ["json", "csv"] {
                assert_eq!(answer(&command, &open, format), answer(&command, &packed, format), "{command} {sample:?}");
                answers += 1;
            }
        }
    }
    println!("{answers} answers");
}

#[test]
fn with_pseudonyms_the_answers_are_the_same_up_to_the_names() {
    let folder = TempDir::new().unwrap();
    let (samples, secret) = (samples(), secret(folder.path()));
    let tar_of = |sample: &Path| folder.path().join(sample.file_name().unwrap()).with_extension("tar");
    let mut of_all = Vec::new();
    for sample in &samples {
        packed(sample, &tar_of(sample), &["--redact", "--redact-key", &secret]);
        verified(&tar_of(sample));
        let out = unpacked(&tar_of(sample), &folder.path().join(sample.file_name().unwrap()));
        let hidden = Hidden::between(&Trace::open(sample), &Trace::open(&out));
        println!("{}: {:?} names and keys", sample.display(), hidden.count());
        assert!(hidden.count().0 >= 5, "{hidden:?}");
        of_all.push(hidden);
    }
    let mut changed = 0;
    for command in questions() {
        for (i, (sample, other)) in pairs(&samples).enumerate() {
            let (tar, tar_of_other) = (tar_of(sample), tar_of(other));
            let (open, packed) = match command.as_str() {
                "diff" => (vec![sample, other], vec![&*tar, &*tar_of_other]),
                _ => (vec![sample], vec![&*tar]),
            };
            let (open, packed) = (answer(&command, &open, "json"), answer(&command, &packed, "json"));
            changed += usize::from(open != packed);
            // Names of both: under one secret they have the same pseudonyms.
            let named = of_all[(i + 1) % samples.len()].names_in(&of_all[i].names_in(&packed));
            // What is equal otherwise stands in the order of its names.
            assert_eq!(sorted(&open), sorted(&named), "{command} {}", sample.display());
        }
    }
    assert!(changed > 50, "only {changed} answers have names in them");
}

#[test]
fn without_a_secret_pseudonyms_are_new_each_time() {
    let folder = TempDir::new().unwrap();
    let sample = samples().pop().unwrap();
    let secret = secret(folder.path());
    let texts = [
        &["--redact"][..],
        &["--redact"],
        &["--redact", "--redact-key", &secret],
        &["--redact", "--redact-key", &secret],
    ];
    let names = texts.iter().enumerate().map(|(i, arguments)| {
        let tar = folder.path().join(format!("{i}.tar"));
        packed(&sample, &tar, arguments);
        let out = unpacked(&tar, &folder.path().join(i.to_string()));
        Trace::open(&out).manifest.session.host
    });
    let names: Vec<String> = names.collect();
    assert!(names[0] != names[1] && names[1] != names[2] && names[2] == names[3], "{names:?}");
}

fn refuses(output: &Output, code: i32, text: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text) && !said.contains("panicked"), "expected {text:?} in {said:?}");
}

#[test]
fn what_cannot_be_packed_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let sample = samples().pop().unwrap();
    let trace = folder.path().join("trace");
    let copy = Command::new("cp").arg("-r").arg(&sample).arg(&trace).status().unwrap();
    assert!(copy.success());
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let tar = out.join("x.tar");
    refuses(&pack(&folder.path().join("none"), &tar, &[]), 1, "is not a trace: No such file");
    refuses(&pack(&out, &tar, &[]), 1, "its trace.json cannot be read");
    refuses(&pack(&trace, &folder.path().join("nowhere/x.tar"), &[]), 1, "No such file");
    let short = folder.path().join("short");
    fs::write(&short, "password").unwrap();
    refuses(
        &pack(&trace, &tar, &["--redact", "--redact-key", short.to_str().unwrap()]),
        1,
        "can be guessed; make one with",
    );
    refuses(&pack(&trace, &tar, &["--redact-key", short.to_str().unwrap()]), 2, "--redact");
    // A damaged part gets no new checksum, a link is not followed.
    let part = trace.join("calls/part-00000.parquet");
    let whole = fs::read(&part).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&part, &damaged).unwrap();
    refuses(&pack(&trace, &tar, &["--redact"]), 1, "calls/part-00000.parquet: its checksum differs");
    fs::remove_file(&part).unwrap();
    refuses(&pack(&trace, &tar, &[]), 1, "calls/part-00000.parquet: No such file");
    std::os::unix::fs::symlink("/etc/passwd", &part).unwrap();
    refuses(&pack(&trace, &tar, &[]), 1, "a symbolic link: refused");
    fs::remove_file(&part).unwrap();
    fs::rename(trace.join("calls"), trace.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", trace.join("calls")).unwrap();
    fs::write(trace.join("elsewhere/part-00000.parquet"), &whole).unwrap();
    refuses(&pack(&trace, &tar, &[]), 1, "a symbolic link: refused");
    fs::remove_file(trace.join("calls")).unwrap();
    fs::rename(trace.join("elsewhere"), trace.join("calls")).unwrap();
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was left");
    packed(&trace, &tar, &[]);
    let before = fs::read(&tar).unwrap();
    refuses(&pack(&trace, &tar, &[]), 1, "exists, and nothing is ever overwritten");
    assert_eq!(fs::read(&tar).unwrap(), before);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

/// Under sudo it belongs to who called.
#[test]
fn a_tar_belongs_to_the_caller() {
    if !environment::is_root() {
        return environment::skip("only root can give a file away");
    }
    let folder = TempDir::new().unwrap();
    let tar = folder.path().join("x.tar");
    let mut command = Command::new(programs::path("ipc-recorder"));
    command.arg("pack").arg(&samples()[0]).arg("-o").arg(&tar).env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    assert!(command.output().unwrap().status.success());
    let found = fs::metadata(&tar).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (65534, 65534, 0o600));
}

#[test]
fn a_name_is_found_for_it() {
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    assert!(Command::new("cp").arg("-r").arg(&samples()[0]).arg(&trace).status().unwrap().success());
    let run = |directory: &str, arguments: &[&str]| {
        let mut command = Command::new(programs::path("ipc-recorder"));
        command.arg("pack").arg(directory).args(arguments).current_dir(folder.path()).output().unwrap()
    };
    assert!(run("trace/", &[]).status.success());
    assert!(folder.path().join("trace.tar").is_file());
    assert!(run("trace", &["--redact"]).status.success());
    let id = &Trace::open(&trace).manifest.trace_id[..12];
    assert!(folder.path().join(format!("ipctrace-{id}-redacted.tar")).is_file());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}
