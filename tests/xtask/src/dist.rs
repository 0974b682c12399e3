//! `cargo xtask dist`: the two programs that users install, static, with checksums.

use crate::build::{self, Profile};
use crate::command::{command, output};
use crate::setup::{self, Consent, Need};
use crate::{Result, place};
use std::fs;
use std::path::Path;

/// What is shipped.
const SHIPPED: [&str; 2] = ["ipc-recorder", "ipc-analyzer"];
const CHECKSUMS: &str = "SHA256SUMS";

/// The command.
pub fn run(options: &[String]) -> Result {
    setup::ensure(&[Need::Build], Consent::from_options(options)?)?;
    build::build(Profile::Release, &SHIPPED)?;
    let folder = place::target("dist");
    place::empty(&folder)?;
    for program in SHIPPED {
        copy(&Profile::Release.folder().join(program), &folder.join(program))?;
    }
    let checksums = output(command("sha256sum").args(SHIPPED).current_dir(&folder))?;
    fs::write(folder.join(CHECKSUMS), &checksums).map_err(|error| format!("{CHECKSUMS}: {error}"))?;
    prove(&folder)?;
    print!("{checksums}");
    println!("static binaries in {}", place::short(&folder));
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

fn copy(from: &Path, to: &Path) -> Result {
    // A running program cannot be overwritten, only replaced.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}
