//! Where a trace may be written: nobody can plant what the recorder then writes to, or replace what it wrote.

use ipc_tests::environment::Live;
use ipc_tests::programs;
use ipc_tests::running::{Recording, run};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// Who plants.
const OTHER: u32 = 54_321;

fn folder(path: &Path, mode: u32, owner: u32) {
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

fn link(target: &Path, path: &Path, owner: u32) {
    symlink(target, path).unwrap();
    lchown(path, Some(owner), Some(owner)).unwrap();
}

/// A case: the folder that it is made in, which has `victim`, a folder of root; what is then asked for.
type Case = (&'static str, fn(&Path), &'static str);

/// Each is refused; the words are what the message has to say.
const REFUSED: &[(Case, &str)] = &[
    (("a link where the trace is to be", |at| link(&at.join("victim"), &at.join("trace"), 0), "trace"), "directory"),
    (("the same, with a slash", |at| link(&at.join("victim"), &at.join("trace"), 0), "trace/"), "directory"),
    (("a link to nowhere", |at| link(&at.join("nothing"), &at.join("trace"), OTHER), "trace"), "directory"),
    (
        (
            "a planted link on the way",
            |at| {
                folder(&at.join("open"), 0o1777, 0);
                link(&at.join("victim"), &at.join("open/way"), OTHER);
            },
            "open/way/trace",
        ),
        "link",
    ),
    (
        (
            "a planted link behind a link of root",
            |at| {
                folder(&at.join("open"), 0o1777, 0);
                link(&at.join("victim"), &at.join("open/way"), OTHER);
                link(Path::new("open/way"), &at.join("short"), 0);
            },
            "short/trace",
        ),
        "link",
    ),
    (("a folder that everyone can write to", |at| folder(&at.join("trace"), 0o777, 0), "trace"), "another user"),
    (("the same, sticky", |at| folder(&at.join("trace"), 0o1777, 0), "trace"), "another user"),
    (("a folder that a group can write to", |at| folder(&at.join("trace"), 0o770, 0), "trace"), "another user"),
    (("a folder of another user", |at| folder(&at.join("trace"), 0o700, OTHER), "trace"), "another user"),
    (
        (
            "a link in a folder of root",
            |at| {
                folder(&at.join("trace"), 0o700, 0);
                link(&at.join("victim/trace.json"), &at.join("trace/trace.json"), OTHER);
            },
            "trace",
        ),
        "empty",
    ),
    (("a place where everyone can replace it", |at| folder(&at.join("open"), 0o777, 0), "open/trace"), "replace"),
    (("a file", |at| std::fs::write(at.join("trace"), "mine").unwrap(), "trace"), "directory"),
    (("a folder that is not there", |_| {}, "nowhere/trace"), "parent directory"),
];

/// The same without what makes it dangerous: each works.
const ACCEPTED: &[Case] = &[
    ("a new folder", |_| {}, "trace"),
    ("a roundabout way", |at| folder(&at.join("there"), 0o755, 0), "./there/../there//trace/"),
    ("an empty folder of one's own", |at| folder(&at.join("trace"), 0o755, 0), "trace"),
    ("a sticky place", |at| folder(&at.join("open"), 0o1777, 0), "open/trace"),
    (
        "a link of root in it",
        |at| {
            folder(&at.join("open"), 0o1777, 0);
            link(&at.join("there"), &at.join("open/way"), 0);
            folder(&at.join("there"), 0o755, 0);
        },
        "open/way/trace",
    ),
    (
        "another user's home and link",
        |at| {
            folder(&at.join("home"), 0o755, OTHER);
            folder(&at.join("home/there"), 0o755, OTHER);
            link(Path::new("there"), &at.join("home/way"), OTHER);
        },
        "home/way/trace",
    ),
];

fn asked(recording: &Recording, arguments: &[&str], (what, plant, path): &Case) -> (String, i32) {
    let at = recording.folder();
    folder(&at.join("victim"), 0o700, 0);
    plant(at);
    let mut command = Command::new(programs::path("ipc-recorder"));
    command.args(&arguments[..1]).arg("-o").arg(path).args(&arguments[1..]).current_dir(at);
    let ended = run(command, at, "recorder");
    println!("{what}: {}", ended.stderr.trim_end());
    assert_eq!(std::fs::read_dir(at.join("victim")).unwrap().count(), 0, "{what}: nothing is written elsewhere");
    (ended.stderr.trim_end().to_owned(), ended.code())
}

#[test]
fn what_others_could_plant_is_refused() {
    let Some(_live) = Live::as_root("only root can plant in another user's name") else { return };
    for arguments in [&["snapshot"][..], &["record", "--", "true"]] {
        for (case, word) in REFUSED {
            let (said, code) = asked(&Recording::new(), arguments, case);
            assert_eq!((code, said.lines().count()), (1, 1), "{}: {said}", case.0);
            assert!(said.contains(word) && said.contains(case.2.trim_end_matches('/')), "{}: {said}", case.0);
        }
    }
}

#[test]
fn what_nobody_else_could_plant_works() {
    let Some(_live) = Live::as_root("only root can plant in another user's name") else { return };
    for case in ACCEPTED {
        let recording = Recording::new();
        let (said, code) = asked(&recording, &["snapshot"], case);
        assert_eq!(code, 0, "{}: {said}", case.0);
        let trace = recording.folder().join(case.2);
        let manifest = std::fs::metadata(trace.join(ipc_schema::manifest::FILE_NAME)).unwrap();
        assert_eq!((manifest.uid(), manifest.mode() & 0o7777), (0, 0o600), "{}", case.0);
        let calls = std::fs::metadata(trace.join("calls")).unwrap();
        assert_eq!((calls.uid(), calls.mode() & 0o7777), (0, 0o700), "{}", case.0);
    }
}
