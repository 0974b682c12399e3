//! POSIX message queues.

use super::{End, wait_and_end};
use crate::Result;
use crate::call::{Attributes, BAD_ADDRESS, Caller, QueueName, deadline, fail, id, succeed};
use crate::context::Context;
use libc::{EACCES, EAGAIN, EBADF, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, EMSGSIZE, ENAMETOOLONG, ENOENT, ETIMEDOUT};
use libc::{O_CLOEXEC, O_CREAT, O_EXCL, O_NONBLOCK, O_RDWR, SYS_mq_timedreceive};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::time::Duration;

const MAKE: i32 = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC;

pub(super) fn round(context: &mut Context, caller: &mut Caller) -> Result<()> {
    let name = QueueName::own("failures");
    let room = Attributes::room(1, 16);
    fail("mq_open of an unknown name", caller.mq_open(&name, O_RDWR, None), ENOENT)?;
    fail("mq_open without room", caller.mq_open(&name, MAKE, Some(&Attributes::room(0, 16))), EINVAL)?;
    fail("mq_open with a slash", caller.mq_open(&QueueName::literal("a/b"), O_RDWR, None), EACCES)?;
    let long = QueueName::literal(&"n".repeat(256));
    fail("mq_open of a long name", caller.mq_open(&long, O_RDWR, None), ENAMETOOLONG)?;
    fail("mq_open at a bad address", caller.mq_open_at(BAD_ADDRESS, O_RDWR, None), EFAULT)?;
    fail("mq_unlink of an unknown name", caller.mq_unlink(&name), ENOENT)?;
    context.guard.add_queue(name.as_str())?;
    let blocking = id("mq_open", caller.mq_open(&name, MAKE, Some(&room)))?;
    // SAFETY: the descriptor is fresh and owned by nobody else; closing it closes the queue.
    let _close = unsafe { File::from_raw_fd(blocking) };
    fail("mq_open with O_EXCL", caller.mq_open(&name, MAKE, Some(&room)), EEXIST)?;
    let worked = bad_descriptors(caller)
        .and_then(|()| wait_for_message(context, blocking))
        .and_then(|()| messages(caller, &name, blocking));
    succeed("mq_unlink", caller.mq_unlink(&name))?;
    worked
}

fn wait_for_message(context: &mut Context, queue: i32) -> Result<()> {
    let receive = |caller: &mut Caller| caller.mq_receive(queue, &mut [0; 16], None, None);
    wait_and_end(context, SYS_mq_timedreceive, receive, End::Signal, EINTR)
}

fn bad_descriptors(caller: &mut Caller) -> Result<()> {
    fail("mq_timedsend to nothing", caller.mq_send(-1, b"", 0, None), EBADF)?;
    fail("mq_timedreceive from nothing", caller.mq_receive(-1, &mut [0; 16], None, None), EBADF)?;
    fail("mq_notify of nothing", caller.mq_notify(-1, false), EBADF)?;
    fail("mq_getsetattr of nothing", caller.mq_getsetattr(-1, None, &mut Attributes::default()), EBADF)
}

fn messages(caller: &mut Caller, name: &QueueName, blocking: i32) -> Result<()> {
    let queue = id("mq_open", caller.mq_open(name, O_RDWR | O_NONBLOCK | O_CLOEXEC, None))?;
    // SAFETY: the descriptor is fresh and owned by nobody else.
    let _close = unsafe { File::from_raw_fd(queue) };
    let past = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    let wrong = libc::timespec { tv_sec: 1, tv_nsec: 1_000_000_000 };
    let mut body = [0; 16];
    fail("mq_timedreceive from empty", caller.mq_receive(queue, &mut body, None, None), EAGAIN)?;
    fail("mq_timedreceive too late", caller.mq_receive(blocking, &mut body, None, Some(&past)), ETIMEDOUT)?;
    fail("mq_timedreceive with a wrong time", caller.mq_receive(blocking, &mut body, None, Some(&wrong)), EINVAL)?;
    fail("mq_timedreceive into too little", caller.mq_receive(queue, &mut body[..15], None, None), EMSGSIZE)?;
    fail("mq_timedsend of too much", caller.mq_send(queue, &[0; 17], 0, None), EMSGSIZE)?;
    fail("mq_timedsend with a bad priority", caller.mq_send(queue, b"", 32_768, None), EINVAL)?;
    succeed("mq_timedsend", caller.mq_send(queue, b"one", 1, None))?;
    fail("mq_timedsend to full", caller.mq_send(queue, b"two", 1, None), EAGAIN)?;
    let soon = deadline(Duration::from_millis(1));
    fail("mq_timedsend too late", caller.mq_send(blocking, b"two", 1, Some(&soon)), ETIMEDOUT)?;
    succeed("mq_notify", caller.mq_notify(queue, true))?;
    fail("mq_notify again", caller.mq_notify(queue, true), EBUSY)
}
