//! Arguments that change after the call has begun and before the kernel has read them; as root.
//!
//! The race is won for certain: the kernel reads an argument from a page that is not there (userfaultfd(2)), sleeps, and
//! meanwhile another thread rewrites the memory. COUNT calls semtimedop, whose timeout is such a page: the kernel reads it
//! first, and the operation that it then reads is the second one. COUNT calls sigprocmask(SIG_SETMASK), whose set and old
//! set are such pages: the set is rewritten when the kernel has read it. The result's `adds` and `sets` say what the
//! kernel took, call by call; `may_add` and `may_set` what there was to take. Exact counts: those of `performed`.

use super::{make_set, remove_set, set_value};
use crate::call::{Caller, SemArgument, bit, succeed};
use crate::context::Context;
use crate::{Failure, Result, board};
use libc::{GETVAL, SIG_SETMASK, SYS_rt_sigprocmask, SYS_semtimedop};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicI64;

/// No set of the C library is one of these.
const SETS: [i64; 2] = [bit(40) as i64, (bit(41) | bit(50)) as i64];

/// `{0, add, 0}` as one `struct sembuf`, in 6 of 8 bytes.
const ADDING: [i64; 2] = [1 << 16, 2 << 16];

const PAGE: usize = 4096;

/// What the pages that are not there are for, in their order.
#[derive(Clone, Copy)]
enum Page {
    Timeout = 0,
    Set = 1,
    OldSet = 2,
}

/// The numbers of `include/uapi/linux/userfaultfd.h`.
mod userfault {
    pub(super) const API_VERSION: u64 = 0xaa;
    pub(super) const MISSING: u64 = 1;
    pub(super) const PAGE_FAULT: u8 = 0x12;
    pub(super) const API: u64 = 0xc018_aa3f;
    pub(super) const REGISTER: u64 = 0xc020_aa00;
    pub(super) const COPY: u64 = 0xc028_aa03;
}

/// Pages that are there only when [`Pages::serve`] has put something into them.
struct Pages {
    faults: OwnedFd,
    base: u64,
}

impl Pages {
    fn new() -> Result<Pages> {
        // SAFETY: userfaultfd takes flags and returns a descriptor or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        if descriptor < 0 {
            return Err(Failure::last("userfaultfd"));
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let faults = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
        let memory = board::new(3 * PAGE / size_of::<AtomicI64>())?;
        let pages = Pages { faults, base: memory.as_ptr() as u64 };
        pages.ask(userfault::API, &mut [userfault::API_VERSION, 0, 0])?;
        pages.ask(userfault::REGISTER, &mut [pages.base, 3 * PAGE as u64, userfault::MISSING, 0])?;
        Ok(pages)
    }

    fn ask<const N: usize>(&self, request: u64, argument: &mut [u64; N]) -> Result<()> {
        // SAFETY: each request reads and writes a structure of as many numbers as its caller passes.
        match unsafe { libc::ioctl(self.faults.as_raw_fd(), request, argument.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(Failure::last("ioctl of userfaultfd")),
        }
    }

    fn address(&self, page: Page) -> u64 {
        self.base + page as u64 * PAGE as u64
    }

    /// The first number on a page that is there.
    fn first(&self, page: Page) -> &AtomicI64 {
        // SAFETY: the pages are never unmapped and page-aligned.
        unsafe { &*(self.address(page) as *const AtomicI64) }
    }

    /// Waits until the kernel sleeps on this page.
    fn wait_for(&self, page: Page) -> Result<()> {
        let mut message = [0_u64; 4];
        // SAFETY: a message has 32 bytes.
        let read = unsafe { libc::read(self.faults.as_raw_fd(), message.as_mut_ptr().cast(), 32) };
        let is_fault = read == 32 && message[0] as u8 == userfault::PAGE_FAULT;
        if is_fault && message[2] & !(PAGE as u64 - 1) == self.address(page) {
            return Ok(());
        }
        Err(Failure::new(format!("page {}: {read} bytes, {message:x?}", page as u64)))
    }

    /// Puts a page there that begins with this number.
    fn serve(&self, page: Page, number: i64) -> Result<()> {
        #[repr(align(4096))]
        struct Content([i64; PAGE / 8]);
        let mut content = Content([0; PAGE / 8]);
        content.0[0] = number;
        self.ask(userfault::COPY, &mut [self.address(page), content.0.as_ptr() as u64, PAGE as u64, 0, 0])
    }

    /// Takes the pages away again.
    fn drop_all(&self) -> Result<()> {
        // SAFETY: the range is the mapping, which no reference outside of a turn looks at.
        match unsafe { libc::madvise(self.base as *mut libc::c_void, 3 * PAGE, libc::MADV_REMOVE) } {
            0 => Ok(()),
            _ => Err(Failure::last("madvise")),
        }
    }
}

/// Serves the pages of one turn, and rewrites.
fn rewrite(pages: &Pages, operation: &AtomicI64) -> Result<()> {
    pages.wait_for(Page::Timeout)?;
    board::write(operation, ADDING[1]);
    pages.serve(Page::Timeout, 200)?;
    pages.wait_for(Page::Set)?;
    pages.serve(Page::Set, SETS[0])?;
    pages.wait_for(Page::OldSet)?;
    board::write(pages.first(Page::Set), SETS[1]);
    pages.serve(Page::OldSet, 0)
}

/// 1 semtimedop, 2 semctl (GETVAL, SETVAL); what the first of them added.
fn add(caller: &mut Caller, pages: &Pages, operation: &AtomicI64, set: i32) -> Result<i64> {
    board::write(operation, ADDING[0]);
    let address = operation.as_ptr() as u64;
    caller.announce(SYS_semtimedop);
    // SAFETY: the kernel only reads, an operation and a timeout.
    let outcome =
        unsafe { caller.unseen(SYS_semtimedop, [set as u64, address, 1, pages.address(Page::Timeout), 0, 0]) };
    succeed("semtimedop", outcome)?;
    let value = succeed("semctl GETVAL", caller.semctl(set, 0, GETVAL, SemArgument::None))?;
    set_value(caller, set, 0, 0)?;
    Ok(value)
}

/// 2 sigprocmask; the mask that the first of them made, and the second takes back: threads would inherit it.
fn set_mask(caller: &mut Caller, pages: &Pages) -> Result<i64> {
    caller.announce(SYS_rt_sigprocmask);
    let [set, old] = [Page::Set, Page::OldSet].map(|page| pages.address(page));
    // SAFETY: the kernel reads 8 bytes of the set and writes 8 of the old one, each on a page of its own.
    let outcome = unsafe { caller.unseen(SYS_rt_sigprocmask, [SIG_SETMASK as u64, set, old, 8, 0, 0]) };
    succeed("sigprocmask", outcome)?;
    let mut mask = 0;
    succeed("sigprocmask", caller.sigprocmask(SIG_SETMASK, Some(0), Some(&mut mask), 8))?;
    Ok(mask as i64)
}

/// Makes the calls; returns what the kernel took.
fn call(context: &Context, pages: &Pages, set: i32, count: u64) -> Result<(Vec<i64>, Vec<i64>)> {
    let mut caller = context.caller(5 * count);
    let operation = &board::new(1)?[0];
    let (mut adds, mut sets) = (Vec::new(), Vec::new());
    for _ in 0..count {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| rewrite(pages, operation));
            adds.push(add(&mut caller, pages, operation, set)?);
            sets.push(set_mask(&mut caller, pages)?);
            other.join().map_err(|_| Failure::new("the rewriting thread panicked"))?
        })?;
        pages.drop_all()?;
    }
    caller.finish()?;
    Ok((adds, sets))
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("racer");
    let mut caller = context.caller(2);
    let set = make_set(context, &mut caller, 1)?;
    let (adds, sets) = call(context, &Pages::new()?, set, count)?;
    remove_set(&mut caller, set)?;
    context.put("adds", adds);
    context.put("sets", sets);
    context.put("may_add", vec![1, 2]);
    context.put("may_set", SETS.to_vec());
    caller.finish()
}
