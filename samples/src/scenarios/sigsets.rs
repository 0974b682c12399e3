//! The library functions that change a signal set and make no system call.
//!
//! Exact counts: COUNT each of sigemptyset, sigaddset, sigfillset and sigdelset, in this order. They are no operations,
//! so `performed` is empty.

use crate::context::Context;
use crate::{Failure, Result};
use libc::{SIGUSR1, SIGUSR2};
use std::mem::MaybeUninit;

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("sigsets");
    for _ in 0..count {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that the others change.
        let failed = unsafe {
            libc::sigemptyset(set.as_mut_ptr())
                | libc::sigaddset(set.as_mut_ptr(), SIGUSR1)
                | libc::sigfillset(set.as_mut_ptr())
                | libc::sigdelset(set.as_mut_ptr(), SIGUSR2)
        };
        if failed != 0 {
            return Err(Failure::last("a signal set"));
        }
    }
    Ok(())
}
