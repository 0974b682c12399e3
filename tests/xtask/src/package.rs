//! The Debian package: laid out in `target/package`, made by cargo-deb (`recorder/Cargo.toml` says of what), tried in a
//! copy of this machine's file system.

use crate::build::Profile;
use crate::command::{cargo, command, output, run};
use crate::dist::{NOTICES, SHIPPED, copy};
use crate::{Result, licences, place, sandbox};
use std::fs;
use std::path::{Path, PathBuf};

/// What must be in it, beside the programs.
const CONTENTS: &[&str] = &[
    "/etc/default/ipc-recorder",
    "/usr/lib/systemd/system/ipc-recorder.service",
    "/usr/share/man/man1/ipc-recorder-record.1.gz",
    "/usr/share/man/man1/ipc-analyzer-deadlocks.1.gz",
    "/usr/share/bash-completion/completions/ipc-recorder",
    "/usr/share/zsh/vendor-completions/_ipc-analyzer",
    "/usr/share/fish/vendor_completions.d/ipc-analyzer.fish",
    "/usr/share/doc/ipctrace/copyright",
    "/usr/share/doc/ipctrace/THIRD-PARTY-NOTICES",
    "/usr/share/doc/ipctrace/README.md",
];

/// The unit, as `systemd-analyze` wants it.
const UNIT: &str = "ipc-recorder.service";

/// The most exposure, in tenths, that `systemd-analyze security` may find: the capabilities that recording takes are the
/// most of it.
const MOST_EXPOSURE: &str = "30";

/// Makes the package of programs that are built, and of nothing else, in `folder`.
pub fn make(profile: Profile, folder: &Path) -> Result<PathBuf> {
    lay_out(profile)?;
    let mut deb = cargo();
    deb.args(["deb", "--quiet", "--locked", "--no-build", "--no-strip", "--package", "ipc-recorder", "--output"]);
    deb.arg(folder);
    if profile == Profile::Ci {
        deb.arg("--fast"); // fifteen seconds for a fifth of the size
    }
    let said = output(&mut deb)?;
    let path = said.lines().last().map(PathBuf::from).filter(|path| path.is_file());
    path.ok_or_else(|| format!("cargo deb names no package: {said}"))
}

fn lay_out(profile: Profile) -> Result {
    let folder = place::target("package");
    place::empty(&folder)?;
    let (programs, pages) = (folder.join("bin"), folder.join("pages"));
    for folder in [&programs, &pages] {
        place::empty(folder)?;
    }
    for program in SHIPPED {
        copy(&profile.folder().join(program), &programs.join(program))?;
        run(command(&programs.join(program).to_string_lossy()).arg("pages").arg(&pages))?;
    }
    for entry in fs::read_dir(&pages).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = folder.join(place_of(&name)?);
        fs::create_dir_all(place.parent().unwrap_or(&folder))
            .map_err(|error| format!("{}: {error}", place.display()))?;
        copy(&entry.path(), &place)?;
    }
    write(&folder.join(NOTICES), &licences::notices()?)?;
    write(&folder.join("copyright"), &copyright()?)
}

/// Where a page goes: bash looks for completions under the bare name.
fn place_of(page: &str) -> Result<String> {
    match page.rsplit_once('.') {
        Some((_, "1")) => Ok(format!("man/{page}")),
        Some((program, "bash")) => Ok(format!("completions/bash/{program}")),
        Some((_, "fish")) => Ok(format!("completions/fish/{page}")),
        None if page.starts_with('_') => Ok(format!("completions/zsh/{page}")),
        _ => Err(format!("nobody knows where the page {page} belongs")),
    }
}

fn copyright() -> Result<String> {
    let read = |name: &str| fs::read_to_string(place::root().join(name)).map_err(|error| format!("{name}: {error}"));
    let (mit, apache) = (read("LICENSE-MIT")?, read("LICENSE-APACHE")?);
    Ok(format!(
        "ipctrace is under either of the two licences below, at your option. What its static programs contain of others\n\
         stands in {NOTICES} beside this file.\n\n{mit}\n\n{apache}"
    ))
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The package in `target/package` is made, has what it must have, and is installed, run and removed where that does no
/// harm.
pub fn prove(profile: Profile) -> Result {
    let package = make(profile, &place::target("package"))?;
    let contents = output(command("dpkg-deb").arg("--contents").arg(&package))?;
    let programs = SHIPPED.map(|program| format!("/usr/bin/{program}"));
    for path in programs.iter().map(String::as_str).chain(CONTENTS.iter().copied()) {
        let line = contents.lines().find(|line| line.ends_with(&format!(" .{path}")));
        let line = line.ok_or_else(|| format!("{path} is not in the package:\n{contents}"))?;
        if !line.contains(" 0/0 ") {
            return Err(format!("{path} does not belong to root: {line}"));
        }
    }
    if !sandbox::is_possible() {
        eprintln!("not root, or in a container: the package is not installed anywhere");
        return Ok(());
    }
    run(&mut sandbox::inside("package-inside", &[&package.to_string_lossy()])?)
}

/// The same, in the copy of this machine.
pub fn prove_inside(arguments: &[String]) -> Result {
    let [package] = arguments else { return Err("it takes the package".to_owned()) };
    sandbox::enter()?;
    run(command("dpkg").args(["--install", package]))?;
    let said = output(command("/usr/bin/ipc-analyzer").args(["summary", "samples/traces/contended"]))?;
    if !said.contains("semtimedop") {
        return Err(format!("the installed ipc-analyzer says only: {said}"));
    }
    run(command("/usr/bin/ipc-recorder").arg("--version"))?;
    // A warning is no failure to systemd-analyze, but is to us.
    let mut verify = command("systemd-analyze");
    let verified = verify.args(["verify", UNIT]).output().map_err(|error| format!("systemd-analyze: {error}"))?;
    let said = String::from_utf8_lossy(&verified.stderr);
    if !verified.status.success() || said.contains(UNIT) {
        return Err(format!("systemd-analyze verify {UNIT}: {said}"));
    }
    let security = ["security", "--no-pager", "--offline=yes", "--threshold", MOST_EXPOSURE, UNIT];
    let exposure = output(command("systemd-analyze").args(security))?;
    eprintln!("{}", exposure.lines().last().unwrap_or_default().trim());
    run(command("dpkg").args(["--purge", "ipctrace"]))?;
    let left: Vec<&str> = CONTENTS.iter().copied().filter(|path| Path::new(path).exists()).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("removing the package leaves {}", left.join(" "))) }
}
