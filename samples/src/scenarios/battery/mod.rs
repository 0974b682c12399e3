//! Every system call with its interesting arguments, and every limit of the kernel that a call can hit: one case each.
//!
//! A case runs in a process of its own and writes, for every call that it makes, what the row of `calls` must hold to
//! `DIR/PID-TID.expect.jsonl`. The program checks the kernel's answers against the table of cases before anybody
//! compares a trace with it: a case whose call ends otherwise is named, and the program fails.
//!
//! All happens in a fresh IPC namespace; limits are lowered in a namespace of the case's own. One limit belongs to the
//! whole system, that of open files: it is lowered for the time of one call, in which only the privileged can open.

mod abi;
mod arena;
mod bench;
mod cases;
mod partner;
mod row;
mod words;

use crate::context::Context;
use crate::{Failure, Result, process};
use abi::Way;
use bench::Bench;
use bench::setup::FileTable;
use cases::Case;
use std::path::{Path, PathBuf};

/// By which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Abi {
    /// 64-bit, by `syscall`
    #[value(name = "x86_64")]
    X86_64,
    /// 32-bit, by `int 0x80`: as old programs do, and by the calls added since
    I386,
}

impl Abi {
    fn ways(self) -> &'static [Way] {
        match self {
            Abi::X86_64 => &[Way::Native],
            Abi::I386 => &[Way::Old, Way::New],
        }
    }
}

pub(crate) fn run(context: &mut Context, abi: Abi, only: &str) -> Result<()> {
    context.name("battery");
    let folder = context.log.clone().ok_or_else(|| Failure::new("battery needs --log DIR"))?;
    if abi == Abi::I386 && !has_i386(context)? {
        context.put("i386", false);
        context.put("cases", 0);
        return Ok(());
    }
    process::leave_ipc_namespace()?;
    let _found = FileTable::keep()?;
    let (mut cases, mut calls, mut failed) = (0, 0, 0);
    for way in abi.ways() {
        for case in cases::all().filter(|case| case.is_of(*way) && case.name.starts_with(only)) {
            cases += 1;
            match run_case(context, *way, case, &folder) {
                Ok(lines) => calls += lines,
                Err(_) => failed += 1,
            }
        }
    }
    context.put("cases", cases);
    context.put("calls", calls);
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} of {cases} cases failed"))) }
}

/// Runs a case in a process of its own, which says itself what went wrong; how many calls it made.
fn run_case(context: &mut Context, way: Way, case: &Case, folder: &Path) -> Result<usize> {
    let pid = process::fork(context, |_| {
        let mut bench = Bench::new(way, case.name, folder)?;
        bench.block("0")?;
        let result = (case.calls)(&mut bench);
        let named = |failure| Failure::new(format!("{} [{}]: {failure}", case.name, way.name()));
        bench.finish().and(result).map_err(named)
    })?;
    process::wait_all(&[pid])?;
    let path: PathBuf = folder.join(format!("{pid}-{pid}.expect.jsonl"));
    let text =
        std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
    Ok(text.lines().count())
}

/// Whether the kernel takes `int 0x80`: without IA32 emulation it is a SIGSEGV.
fn has_i386(context: &mut Context) -> Result<bool> {
    const GETPID: u16 = 20;
    let pid = process::fork(context, |_| {
        // SAFETY: getpid takes no argument.
        let got = unsafe { abi::enter(Way::New, GETPID, [0; 6]) };
        if got == Ok(process::own_pid().into()) {
            Ok(())
        } else {
            Err(Failure::new("int 0x80 gave another process id"))
        }
    })?;
    Ok(process::wait(pid)? == 0)
}
