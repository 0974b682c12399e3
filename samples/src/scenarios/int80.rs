//! i386 calls that share a number with an IPC call of x86-64, and are none: getppid is 64 for `int 0x80`, and so is
//! semget for `syscall`.
//!
//! Exact counts: no call of the catalogue at all. The result's `getppid` says how many were made: COUNT, or 0 with
//! `"i386": false` on a kernel without IA32 emulation.

use crate::context::Context;
use crate::{Failure, Result, process};

/// getppid by `int 0x80`.
fn getppid_i386() -> i32 {
    let result: u64;
    // SAFETY: the call takes no argument and touches no memory; older kernels clear r8 to r11 on this way in.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") 64_u64 => result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            options(nostack),
        );
    }
    result as i32
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("int80");
    // In a process of its own: without IA32 emulation the instruction is a SIGSEGV.
    let parent = process::own_pid();
    let pid = process::fork(context, |_| {
        if (0..count).all(|_| getppid_i386() == parent) {
            return Ok(());
        }
        Err(Failure::new("int 0x80 did not return the parent's process id"))
    })?;
    let status = process::wait(pid)?;
    match status & 0x7f {
        0 if status == 0 => {}
        libc::SIGSEGV => {}
        _ => return Err(Failure::new(format!("the process that used int 0x80 ended with wait status {status:#x}"))),
    }
    context.put("i386", status == 0);
    context.put("getppid", if status == 0 { count } else { 0 });
    Ok(())
}
