//! `cargo xtask licences`: that nobody who installs the programs owes more than a notice, and the notices.

use crate::command::{cargo, command, output};
use crate::{Result, build};
use spdx::{Expression, ParseMode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the programs may be made of.
const ALLOWED: &[&str] = &["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unicode-3.0", "Zlib"];

/// Licences of single packages, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // In a procedural macro, and so in no program.
    ("tiny-keccak", "CC0-1.0"),
];

/// The workspaces, by their manifests.
const WORKSPACES: &[&str] = &["Cargo.toml", "probes/Cargo.toml"];

/// What of each workspace is in the programs that are shipped.
const SHIPPED: &[(&str, &[&str])] =
    &[("Cargo.toml", &["--package", "ipc-recorder", "--package", "ipc-analyzer"]), ("probes/Cargo.toml", &[])];

/// How the files begin that hold a licence.
const FILES: &[&str] = &["LICENSE", "LICENCE", "UNLICENSE", "NOTICE", "COPYRIGHT"];

/// What is linked besides packages of cargo.
const LINKED: &str = "\
Linked into the programs, too:
- the standard library of Rust: MIT OR Apache-2.0, the texts of which stand below, Copyright The Rust Project Developers;
- the unwinder of GCC (libgcc_eh): GPL-3.0-or-later WITH GCC-exception-3.1, which asks for nothing of a program that is
  linked to it;
- the GNU C Library: LGPL-2.1-or-later, the text of which stands at the end. Its source is Debian's package glibc
  (https://sources.debian.org/src/glibc/). The source of these programs is complete: `cargo xtask dist` links them with
  another version of the library.
";

/// A package of cargo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
    is_ours: bool,
}

/// The command: every package of every workspace, built for whatever machine, for tests and for building too.
pub fn check() -> Result {
    let mut packages = BTreeSet::new();
    for manifest in WORKSPACES {
        let found = packages_of(manifest, &["--workspace", "--edges", "normal,build,dev", "--target", "all"])?;
        if found.iter().all(|package| package.is_ours) {
            return Err(format!("{manifest}: cargo tree names no dependency"));
        }
        packages.extend(found);
    }
    let refused: Vec<String> =
        packages.iter().filter_map(|package| Some(format!("\n  {}", refusal(package)?))).collect();
    eprintln!("{} packages, licences allowed: {}", packages.len(), ALLOWED.join(" "));
    if refused.is_empty() {
        return Ok(());
    }
    Err(format!("these packages may not be used (see tests/xtask/src/licences.rs):{}", refused.concat()))
}

/// Why a package may not be used.
fn refusal(package: &Package) -> Option<String> {
    let Package { name, version, licence, .. } = package;
    if licence.is_empty() {
        return Some(format!("{name} {version} names no licence"));
    }
    if EXCEPTIONS.contains(&(name, licence)) {
        return None;
    }
    match is_satisfied(licence, ALLOWED) {
        Some(true) => None,
        Some(false) => Some(format!("{name} {version}: {licence}")),
        None => Some(format!("{name} {version}: {licence:?} is no expression of SPDX")),
    }
}

/// Whether what is under this licence may be used by who accepts these; `None`: it is no expression of SPDX.
fn is_satisfied(licence: &str, accepted: &[&str]) -> Option<bool> {
    let expression = Expression::parse_mode(licence, ParseMode::LAX).ok()?;
    Some(expression.evaluate(|required| {
        let id = required.license.id();
        required.addition.is_none() && id.is_some_and(|id| accepted.contains(&id.name))
    }))
}

fn packages_of(manifest: &str, options: &[&str]) -> Result<BTreeSet<Package>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--manifest-path", manifest, "--prefix", "none", "--format", "{p}|{l}"]);
    let lines = output(tree.args(options))?;
    lines.lines().filter(|line| !line.is_empty()).map(package).collect()
}

/// A line as `name v1.2.3 (proc-macro)|MIT (*)`, the path of a package of ours in place of the first parenthesis.
fn package(line: &str) -> Result<Package> {
    let unreadable = || format!("cargo tree prints a line that is not understood: {line:?}");
    let (package, licence) = line.split_once('|').ok_or_else(unreadable)?;
    let mut words = package.split(' ');
    let (Some(name), Some(version)) = (words.next(), words.next().and_then(|v| v.strip_prefix('v'))) else {
        return Err(unreadable());
    };
    let licence = licence.strip_suffix("(*)").unwrap_or(licence).trim().to_owned();
    Ok(Package { name: name.to_owned(), version: version.to_owned(), licence, is_ours: package.contains("(/") })
}

/// The notices that go with the programs: every text once, above it whose it is.
pub fn notices() -> Result<String> {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (manifest, options) in SHIPPED {
        let folders = folders_of(manifest)?;
        let target = build::triple();
        let target = if *manifest == "Cargo.toml" { target.as_str() } else { "all" };
        let options = [*options, &["--edges", "normal", "--target", target]].concat();
        for package in packages_of(manifest, &options)?.iter().filter(|package| !package.is_ours) {
            for text in texts(package, &folders)? {
                let owner = format!("{} {} ({})", package.name, package.version, package.licence);
                let owners = owners.entry(text).or_default();
                if !owners.contains(&owner) {
                    owners.push(owner);
                }
            }
        }
    }
    let libc = output(command("ldd").arg("--version"))?;
    let libc = libc.lines().next().unwrap_or_default();
    let mut notices = format!("What ipc-recorder and ipc-analyzer are made of.\n\n{LINKED}  Here: {libc}\n");
    let rule = "-".repeat(80);
    for (text, owners) in &owners {
        notices += &format!("\n{rule}\n{}\n{rule}\n\n{text}\n", owners.join("\n"));
    }
    notices += &format!("\n{rule}\nThe GNU C Library\n{rule}\n\n{}\n", standard_text("LGPL-2.1-or-later")?);
    Ok(notices)
}

/// The folders with the sources of a workspace's packages.
fn folders_of(manifest: &str) -> Result<Vec<PathBuf>> {
    let mut metadata = cargo();
    let metadata =
        output(metadata.args(["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]))?;
    let manifests = metadata.split(r#""manifest_path":""#).skip(1).filter_map(|rest| rest.split('"').next());
    Ok(manifests.filter_map(|path| Path::new(path).parent()).map(Path::to_owned).collect())
}

/// The licence texts of a package, of what it brings along in a folder of its own too. One that has none is taken under
/// the licence whose text names nobody.
fn texts(package: &Package, folders: &[PathBuf]) -> Result<Vec<String>> {
    let name = format!("{}-{}", package.name, package.version);
    let folder = folders.iter().find(|folder| folder.file_name().is_some_and(|file| file.to_string_lossy() == name));
    let folder = folder.ok_or_else(|| format!("cargo metadata tells no folder of {name}"))?;
    let mut files = licence_files(folder);
    for inner in entries(folder).filter(|path| path.is_dir()) {
        files.extend(licence_files(&inner));
    }
    files.sort();
    let read = |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let texts: Result<Vec<Vec<u8>>> = files.iter().map(read).collect();
    let texts: Vec<String> = texts?.iter().map(|text| String::from_utf8_lossy(text).trim().replace('\r', "")).collect();
    if !texts.is_empty() {
        return Ok(texts);
    }
    if is_satisfied(&package.licence, &["Apache-2.0"]) == Some(true) {
        return Ok(vec![standard_text("Apache-2.0")?.to_owned()]);
    }
    Err(format!("{name} has no file with its licence, {}: look for it, or do without the package", package.licence))
}

fn licence_files(folder: &Path) -> Vec<PathBuf> {
    let is_licence = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        FILES.iter().any(|start| name.starts_with(start)) && path.is_file()
    };
    entries(folder).filter(is_licence).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn standard_text(licence: &str) -> Result<&'static str> {
    let known = spdx::text::LICENSE_TEXTS.iter().find(|(name, _)| *name == licence);
    known.map(|(_, text)| text.trim()).ok_or_else(|| format!("the text of {licence} is not known"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn is_refused(licence: &str) -> bool {
        refusal(&package(&format!("name v1.0.0|{licence}")).unwrap()).is_some()
    }

    #[test]
    fn copyleft_and_silence_are_refused() {
        for licence in
            ["", "GPL-3.0-only", "MIT AND LGPL-2.1-only", "MPL-2.0", "CC0-1.0", "Mine", "MIT WITH GCC-exception-3.1"]
        {
            assert!(is_refused(licence), "{licence}");
        }
        for licence in ["MIT", "MIT/Apache-2.0", "MIT OR GPL-2.0-only", "(MIT OR BSL-1.0) AND Unicode-3.0", "Zlib (*)"]
        {
            assert!(!is_refused(licence), "{licence}");
        }
    }

    #[test]
    fn lines_of_cargo_tree_are_understood() {
        let line = "tiny-keccak v2.0.2 (proc-macro)|CC0-1.0 (*)";
        let keccak = package(line).unwrap();
        assert_eq!((keccak.name.as_str(), keccak.version.as_str(), keccak.is_ours), ("tiny-keccak", "2.0.2", false));
        assert_eq!(refusal(&keccak), None);
        assert!(package("ipc-schema v0.1.0 (/somewhere/schema)|MIT").unwrap().is_ours);
        assert!(package("name|MIT").is_err() && package("name v1.0.0").is_err());
    }
}
