//! Where things lie. Everything that is installed, built or written stands below `target/`.

use crate::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    // cargo sets the variable for what it runs; the constant serves the program when it is run by itself.
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let crate_folder = PathBuf::from(crate_folder);
    crate_folder.ancestors().nth(2).map(Path::to_path_buf).unwrap_or(crate_folder)
}

/// `target/NAME`.
pub fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// The Python interpreter with the libraries that read traces.
pub fn python() -> PathBuf {
    target("python").join("bin/python")
}

/// The folders in which programs are looked up: PATH, then what setup and cargo install, then what only root's PATH
/// holds on some systems.
pub fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(target("tools").join("bin"));
    folders.extend(cargo_home().map(|home| home.join("bin")));
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
}

/// The program with this name.
pub fn program(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// A path relative to the repository, for messages.
pub fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Makes a folder, empty whatever was there.
pub fn empty(folder: &Path) -> Result {
    remove(folder)?;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Removes a folder, if it is there.
pub fn remove(folder: &Path) -> Result {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{}: {error}", folder.display())),
        _ => Ok(()),
    }
}
