//! `cargo xtask dist`: the two programs that users install, static, their Debian package, and checksums.

use crate::build::{self, Profile};
use crate::command::{command, output};
use crate::setup::{self, Consent, Need};
use crate::{Result, package, place};
use std::fs;
use std::path::Path;

/// What is shipped.
pub const SHIPPED: [&str; 2] = ["ipc-recorder", "ipc-analyzer"];
/// What the static programs contain of others.
pub const NOTICES: &str = "THIRD-PARTY-NOTICES";
const CHECKSUMS: &str = "SHA256SUMS";

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build, Need::Package], Consent::from_options(options)?)?;
    build::build(Profile::Release, &SHIPPED)?;
    let folder = place::target("dist");
    place::empty(&folder)?;
    for program in SHIPPED {
        copy(&Profile::Release.folder().join(program), &folder.join(program))?;
    }
    let package = package::make(Profile::Release, &folder)?;
    copy(&place::target("package").join(NOTICES), &folder.join(NOTICES))?;
    let package = package.file_name().unwrap_or_default();
    let mut checksums = command("sha256sum");
    let checksums = output(checksums.args(SHIPPED).arg(NOTICES).arg(package).current_dir(&folder))?;
    fs::write(folder.join(CHECKSUMS), &checksums).map_err(|error| format!("{CHECKSUMS}: {error}"))?;
    prove(&folder)?;
    print!("{checksums}");
    println!("static programs and their package in {}", place::short(&folder));
    Ok(())
}

/// Runs the programs of a folder where nothing else exists: no libc, no loader, no /proc.
pub fn prove(folder: &Path) -> Result {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: the programs are not tried in an empty root directory");
        return Ok(());
    }
    let empty = place::target("dist-empty-root");
    for program in SHIPPED {
        place::empty(&empty)?;
        copy(&folder.join(program), &empty.join(program))?;
        for option in ["--version", "--help"] {
            let said = output(command("chroot").arg(&empty).arg(format!("/{program}")).arg(option))?;
            if !said.contains(program) {
                return Err(format!("{program} {option} in an empty root directory says only: {said}"));
            }
        }
    }
    place::remove(&empty)
}

/// Copies a file, over one that may be running.
pub fn copy(from: &Path, to: &Path) -> Result {
    // A running program cannot be overwritten, only replaced.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}
