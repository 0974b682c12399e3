//! Signal masks, dispositions and synchronous waits, with the kernel's sets of 8 bytes.

use super::{Caller, Outcome, signed};
use libc::{SYS_rt_sigaction, SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigsuspend, SYS_rt_sigtimedwait};
use std::time::Duration;

/// `struct sigaction` of the kernel, x86-64.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Disposition {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// SIG_DFL or SIG_IGN: nothing here installs a handler this way.
pub(crate) fn disposition(ignore: bool) -> Disposition {
    Disposition { handler: if ignore { libc::SIG_IGN } else { libc::SIG_DFL }, ..Disposition::default() }
}

/// The bit of a signal in a set.
pub(crate) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn address<T>(value: Option<&T>) -> u64 {
    value.map_or(0, |v| std::ptr::from_ref(v) as u64)
}

impl Caller {
    /// `size` is 8 in a right call.
    pub(crate) fn sigprocmask(&mut self, how: i32, set: Option<u64>, old: Option<&mut u64>, size: u64) -> Outcome {
        let old = old.map_or(0, |o| std::ptr::from_mut(o) as u64);
        let args = [signed(how.into()), address(set.as_ref()), old, size, 0, 0];
        // SAFETY: the set is only read; the old one is NULL or 8 valid bytes, and any other size is refused.
        unsafe { self.perform(SYS_rt_sigprocmask, args, &[]) }
    }

    pub(crate) fn sigaction(&mut self, signal: i32, new: Option<Disposition>, size: u64) -> Outcome {
        let mut old = Disposition::default();
        let old = std::ptr::from_mut(&mut old) as u64;
        let args = [signed(signal.into()), address(new.as_ref()), old, size, 0, 0];
        // SAFETY: the new disposition is only read; the old one lives until the call returns.
        unsafe { self.perform(SYS_rt_sigaction, args, &[]) }
    }

    /// `size` is 8 in a right call.
    pub(crate) fn sigpending(&mut self, size: u64) -> Outcome {
        let mut set = 0_u64;
        let set = std::ptr::from_mut(&mut set) as u64;
        // SAFETY: the kernel writes at most 8 bytes: it refuses a larger size.
        unsafe { self.perform(SYS_rt_sigpending, [set, size, 0, 0, 0, 0], &[]) }
    }

    pub(crate) fn sigtimedwait(&mut self, set: u64, timeout: Duration, size: u64) -> Outcome {
        let timeout = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let set = std::ptr::from_ref(&set) as u64;
        let args = [set, 0, std::ptr::from_ref(&timeout) as u64, size, 0, 0];
        // SAFETY: set and timeout are only read; no information is asked for.
        unsafe { self.perform(SYS_rt_sigtimedwait, args, &[]) }
    }

    pub(crate) fn sigsuspend(&mut self, mask: u64, size: u64) -> Outcome {
        // SAFETY: the mask is only read.
        unsafe { self.perform(SYS_rt_sigsuspend, [std::ptr::from_ref(&mask) as u64, size, 0, 0, 0, 0], &[]) }
    }

    /// The system call `signalfd`, without flags.
    pub(crate) fn signalfd(&mut self, fd: i32, mask: u64, size: u64) -> Outcome {
        let args = [signed(fd.into()), std::ptr::from_ref(&mask) as u64, size, 0, 0, 0];
        // SAFETY: the mask is only read.
        unsafe { self.perform(libc::SYS_signalfd, args, &[]) }
    }

    pub(crate) fn signalfd4(&mut self, fd: i32, mask: u64, size: u64, flags: i32) -> Outcome {
        let args = [signed(fd.into()), std::ptr::from_ref(&mask) as u64, size, signed(flags.into()), 0, 0];
        // SAFETY: the mask is only read.
        unsafe { self.perform(libc::SYS_signalfd4, args, &[]) }
    }
}
