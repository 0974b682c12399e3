//! The calls that read System V objects and POSIX queues, with typed answers; all `unsafe` code of the snapshots.
//!
//! Objects are found by their index: the `*_STAT_ANY` commands need no permission, and the files of `/proc/sysvipc` do
//! more (`shm` walks the pages of each segment, `sem` takes the global lock of each set).

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{from_mut, null_mut};

// Not in the crate libc; include/uapi/linux/msg.h and shm.h.
const MSG_STAT_ANY: c_int = 13;
const SHM_INFO: c_int = 14;
const SHM_STAT_ANY: c_int = 15;

/// `struct shm_info` of include/uapi/linux/shm.h.
#[repr(C)]
#[derive(Default)]
struct SegmentInfo {
    used_ids: c_int,
    total_pages: c_ulong,
    resident_pages: c_ulong,
    swapped_pages: c_ulong,
    swap_attempts: c_ulong,
    swap_successes: c_ulong,
}

/// How much of a kind there is in the namespace.
pub struct Usage {
    /// The highest index in use; 0 also when none is.
    pub highest_index: i32,
    /// Sets, segments or queues.
    pub objects: i64,
    /// Semaphores, pages or messages.
    pub contents: i64,
}

/// One message.
pub struct Message {
    pub msg_type: i64,
    pub size_bytes: i64,
}

fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Sets and semaphores.
pub fn semaphore_usage() -> io::Result<Usage> {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut info: libc::seminfo = unsafe { zeroed() };
    // SAFETY: SEM_INFO ignores id and number and writes one seminfo.
    let highest_index = checked(unsafe { libc::semctl(0, 0, libc::SEM_INFO, from_mut(&mut info)) })?;
    Ok(Usage { highest_index, objects: info.semusz.into(), contents: info.semaem.into() })
}

/// Segments and their pages.
pub fn segment_usage() -> io::Result<Usage> {
    let mut info = SegmentInfo::default();
    // SAFETY: SHM_INFO ignores the id and writes one shm_info, whatever the declared type of the pointer.
    let highest_index = checked(unsafe { libc::shmctl(0, SHM_INFO, from_mut(&mut info).cast()) })?;
    Ok(Usage { highest_index, objects: info.used_ids.into(), contents: info.total_pages as i64 })
}

/// Queues and messages.
pub fn queue_usage() -> io::Result<Usage> {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut info: libc::msginfo = unsafe { zeroed() };
    // SAFETY: MSG_INFO ignores the id and writes one msginfo, whatever the declared type of the pointer.
    let highest_index = checked(unsafe { libc::msgctl(0, libc::MSG_INFO, from_mut(&mut info).cast()) })?;
    Ok(Usage { highest_index, objects: info.msgpool.into(), contents: info.msgmap.into() })
}

/// The id and state of the set with this index; EINVAL: there is none.
pub fn semaphore_set(index: i32) -> io::Result<(i32, libc::semid_ds)> {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut state: libc::semid_ds = unsafe { zeroed() };
    // SAFETY: SEM_STAT_ANY writes one semid_ds.
    let id = checked(unsafe { libc::semctl(index, 0, libc::SEM_STAT_ANY, from_mut(&mut state)) })?;
    Ok((id, state))
}

/// The id and state of the segment with this index; EINVAL: there is none.
pub fn segment(index: i32) -> io::Result<(i32, libc::shmid_ds)> {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut state: libc::shmid_ds = unsafe { zeroed() };
    // SAFETY: SHM_STAT_ANY writes one shmid_ds.
    let id = checked(unsafe { libc::shmctl(index, SHM_STAT_ANY, from_mut(&mut state)) })?;
    Ok((id, state))
}

/// The id and state of the queue with this index; EINVAL: there is none.
pub fn queue(index: i32) -> io::Result<(i32, libc::msqid_ds)> {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut state: libc::msqid_ds = unsafe { zeroed() };
    // SAFETY: MSG_STAT_ANY writes one msqid_ds.
    let id = checked(unsafe { libc::msgctl(index, MSG_STAT_ANY, from_mut(&mut state)) })?;
    Ok((id, state))
}

/// What is asked of one semaphore.
#[derive(Clone, Copy)]
pub enum Question {
    WaitersForMore = libc::GETNCNT as isize,
    WaitersForZero = libc::GETZCNT as isize,
    LastPid = libc::GETPID as isize,
}

/// The answer of one semaphore.
pub fn semaphore(id: i32, number: i32, question: Question) -> io::Result<i32> {
    // SAFETY: these commands take no fourth argument and write no memory.
    checked(unsafe { libc::semctl(id, number, question as c_int) })
}

/// The values of all semaphores of a set of `count`.
pub fn semaphore_values(id: i32, count: usize) -> io::Result<Vec<i32>> {
    let memory = Guarded::new(count * size_of::<u16>())?;
    // SAFETY: GETALL writes as many u16 as the set has. If that is not `count` (the set was replaced under the same id,
    // which its owner can force), the kernel meets the guard page and answers EFAULT.
    checked(unsafe { libc::semctl(id, 0, libc::GETALL, memory.address) })?;
    // SAFETY: the memory holds `count` u16, zeroed when it was mapped, and is aligned to a page.
    let values = unsafe { std::slice::from_raw_parts(memory.address.cast::<u16>(), count) };
    Ok(values.iter().map(|value| i32::from(*value)).collect())
}

/// Zeroed memory that ends in a page that nothing can write.
struct Guarded {
    address: *mut c_void,
    bytes: usize,
}

impl Guarded {
    fn new(bytes: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let usable = bytes.next_multiple_of(page).max(page);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe { mmap_anonymous(null_mut(), usable + page, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let memory = Guarded { address, bytes: usable + page };
        // SAFETY: the first pages of the mapping just made; nothing refers to them yet.
        unsafe { mprotect(address, usable, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        Ok(memory)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nothing else refers to. It cannot fail for a whole mapping.
        let _ = unsafe { munmap(self.address, self.bytes) };
    }
}

/// Memory for one message: its type, then its body.
pub struct MessageBuffer(Vec<c_long>);

impl MessageBuffer {
    /// For bodies of up to `body_bytes`.
    pub fn new(body_bytes: usize) -> Self {
        MessageBuffer(vec![0; 1 + body_bytes.div_ceil(size_of::<c_long>())])
    }

    /// Copies the message at this place of a queue, which stays as it is. E2BIG: longer than the buffer; EINVAL: longer
    /// than MSGMAX is now, or no such queue; ENOMSG: no such message; ENOSYS: the kernel cannot.
    pub fn peek(&mut self, id: i32, position: i32) -> io::Result<Message> {
        let room = (self.0.len() - 1) * size_of::<c_long>();
        let flags = libc::IPC_NOWAIT | libc::MSG_COPY;
        // SAFETY: the kernel writes one long and at most `room` bytes, which is what the vector holds.
        let size = unsafe { libc::msgrcv(id, self.0.as_mut_ptr().cast(), room, position.into(), flags) };
        if size < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Message { msg_type: self.0[0], size_bytes: size as i64 })
    }
}

/// The attributes of an open POSIX queue.
pub fn queue_attributes(queue: &OwnedFd) -> io::Result<libc::mq_attr> {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut attributes: libc::mq_attr = unsafe { zeroed() };
    // SAFETY: writes one mq_attr.
    checked(unsafe { libc::mq_getattr(queue.as_raw_fd(), &mut attributes) })?;
    Ok(attributes)
}

/// Ignores the signals with which a terminal or a service manager ends a whole group of processes.
pub fn ignore_group_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
