//! The C libraries whose functions are recorded.

use crate::binaries::mapped_files;
use crate::procfs;
use ipc_schema::text;
use rustc_hash::FxHashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where distributions keep the C library: a command that has not begun has mapped none.
const DEFAULTS: &[&str] =
    &["/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib64/libc.so.6", "/lib64/libc.so.6", "/lib/ld-musl-x86_64.so.1"];

/// What `--libc` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Every C library that is found.
    Found,
    /// This file: a library, or a static program.
    File(PathBuf),
}

/// A file with functions to record.
pub struct Library {
    /// A path that opens it now.
    pub openable: PathBuf,
    /// Its path, as who has it mapped sees it.
    pub path: String,
}

impl Library {
    fn at(path: &Path) -> Library {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Library { openable: path.to_owned(), path: text::of_bytes(whole.as_os_str().as_encoded_bytes()).into_owned() }
    }
}

/// The files to attach to, each once. With `pids`, only what these processes have mapped counts as found.
pub fn find(choices: &[Choice], pids: &[u32]) -> Vec<Library> {
    let mut seen = FxHashSet::default();
    let found = choices.iter().flat_map(|choice| match choice {
        Choice::File(path) => vec![Library::at(path)],
        Choice::Found if pids.is_empty() => {
            let defaults = DEFAULTS.iter().map(|path| Library::at(Path::new(path)));
            defaults.chain(mapped_libraries(&procfs::pids())).collect()
        }
        Choice::Found => mapped_libraries(pids),
    });
    let mut is_new = |library: &Library| {
        let inode = std::fs::metadata(&library.openable).ok().map(|m| (m.dev(), m.ino()));
        inode.is_some_and(|inode| seen.insert(inode))
    };
    found.filter(|library| is_new(library) && is_64_bit(&library.openable)).collect()
}

fn mapped_libraries(pids: &[u32]) -> Vec<Library> {
    let of_process = |pid: &u32| {
        let pid = *pid;
        let libraries = mapped_files(pid).into_iter().filter(|file| is_libc(&file.path));
        libraries.map(move |file| Library { openable: file.openable(pid), path: file.path })
    };
    pids.iter().flat_map(of_process).collect()
}

/// glibc is `libc.so.6`, before 2.34 `libc-2.31.so`; musl's library is also its loader.
fn is_libc(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    ["libc.so.", "libc-2.", "libc.musl-", "ld-musl-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a file is ELF of the 64-bit class: the arguments of 32-bit functions are not in registers.
pub fn is_64_bit(path: &Path) -> bool {
    let mut start = [0; 5];
    File::open(path).is_ok_and(|mut f| f.read_exact(&mut start).is_ok()) && start == *b"\x7fELF\x02"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_libraries_are_known_by_their_names() {
        for path in ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/libc-2.31.so", "/lib/ld-musl-x86_64.so.1"] {
            assert!(is_libc(path), "{path}");
        }
        for path in ["/lib/libcap.so.2", "/lib/libc++.so.1", "/usr/bin/libc"] {
            assert!(!is_libc(path), "{path}");
        }
    }
}
