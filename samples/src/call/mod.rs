//! The calls of one thread: performed, counted and, on request, logged.
//!
//! Every call goes through `libc::syscall` with the number asked for, except `SemWay::Libc`: as programs do.

mod mq;
mod msg;
mod sem;
mod shm;
mod sig;

pub(crate) use mq::{Attributes, QueueName, deadline};
pub(crate) use msg::Message;
pub(crate) use sem::{SemArgument, SemWay, sop};
pub(crate) use sig::{bit, disposition};

use crate::log::{Entry, Log};
use crate::totals::{Counts, Totals, UNSEEN, errno_name};
use crate::{Failure, Result, clock, process};
use std::path::{Path, PathBuf};

/// What a call returned: a value, or an errno.
pub(crate) type Outcome = std::result::Result<i64, i32>;

/// An address that no process has mapped; the kernel answers EFAULT.
pub(crate) const BAD_ADDRESS: u64 = 8;

/// The calls of one thread.
pub(crate) struct Caller {
    totals: &'static Totals,
    counts: Counts,
    log: Option<(Log, PathBuf)>,
}

impl Caller {
    pub(crate) fn new(totals: &'static Totals, folder: Option<&Path>, expected_calls: u64) -> Caller {
        let log = folder.map(|folder| {
            let path = folder.join(format!("{}-{}.jsonl", process::own_pid(), process::own_tid()));
            (Log::new(usize::try_from(expected_calls).unwrap_or(0)), path)
        });
        Caller { totals, counts: Counts::new(), log }
    }

    /// Adds the counts to the totals and writes the log.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.counts.flush(self.totals);
        match self.log {
            Some((log, path)) => log.write(&path),
            None => Ok(()),
        }
    }

    /// Counts a call that the thread is about to make and whose end it may not see; it must be made by
    /// [`Caller::unseen`] then.
    pub(crate) fn announce(&mut self, number: i64) {
        self.counts.add(number, UNSEEN);
        self.counts.flush(self.totals);
    }

    /// Performs a call that [`Caller::announce`] counted: it enters no log.
    ///
    /// # Safety
    /// As for [`Caller::perform`].
    pub(crate) unsafe fn unseen(&mut self, number: i64, args: [u64; 6]) -> Outcome {
        // SAFETY: promised by the caller.
        let ret = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
        if ret == -1 { Err(errno()) } else { Ok(ret) }
    }

    /// Performs the system call `number`.
    ///
    /// # Safety
    /// Every argument that the kernel takes as a pointer to write to must be NULL, point to memory large enough for
    /// what the call writes, or lie where no process has memory. What the kernel only reads may be any address.
    #[inline]
    unsafe fn perform(&mut self, number: i64, args: [u64; 6], sops: &[libc::sembuf]) -> Outcome {
        // SAFETY: promised by the caller.
        self.timed(number, args, sops, || unsafe {
            libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5])
        })
    }

    /// Runs `call` between two clock readings when a log is kept, and counts it as the system call `number`.
    #[inline]
    fn timed(&mut self, number: i64, args: [u64; 6], sops: &[libc::sembuf], call: impl FnOnce() -> i64) -> Outcome {
        let (ret, errno) = if let Some((log, _)) = &mut self.log {
            let sops = log.keep(sops);
            let before_epoch_ns = clock::epoch_ns();
            let before_boot_ns = clock::boot_ns();
            let ret = call();
            let after_boot_ns = clock::boot_ns();
            let errno = if ret == -1 { errno() } else { 0 };
            log.push(Entry { number, args, sops, ret, errno, before_epoch_ns, before_boot_ns, after_boot_ns });
            (ret, errno)
        } else {
            let ret = call();
            (ret, if ret == -1 { errno() } else { 0 })
        };
        self.counts.add(number, errno as usize);
        if ret == -1 { Err(errno) } else { Ok(ret) }
    }
}

/// The errno of the running thread.
#[inline]
fn errno() -> i32 {
    // SAFETY: the C library returns a valid pointer to the thread's errno.
    unsafe { *libc::__errno_location() }
}

/// An argument register that holds a signed number.
pub(crate) const fn signed(value: i64) -> u64 {
    value as u64
}

/// The value of a call that must succeed.
pub(crate) fn succeed(what: &str, outcome: Outcome) -> Result<i64> {
    outcome.map_err(|errno| Failure::new(format!("{what} failed with {} ({errno})", errno_name(errno))))
}

/// The same, as the id of an object or a descriptor.
pub(crate) fn id(what: &str, outcome: Outcome) -> Result<i32> {
    succeed(what, outcome).map(|value| value as i32)
}

/// Checks a call that must fail with `wanted`.
pub(crate) fn fail(what: &str, outcome: Outcome, wanted: i32) -> Result<()> {
    let name = errno_name(wanted);
    match outcome {
        Err(errno) if errno == wanted => Ok(()),
        Err(errno) => Err(Failure::new(format!("{what} failed with {} instead of {name}", errno_name(errno)))),
        Ok(value) => Err(Failure::new(format!("{what} returned {value} instead of failing with {name}"))),
    }
}
