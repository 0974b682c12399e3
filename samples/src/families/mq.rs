//! One round of POSIX queues: 1 mq_open, 2 mq_timedsend, 2 mq_notify, 1 mq_getsetattr, 2 mq_timedreceive, 1 mq_unlink.
//! Nothing fails.

use crate::Result;
use crate::call::{Attributes, Caller, QueueName, deadline, id, succeed};
use crate::context::Context;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::time::Duration;

pub(crate) fn round(context: &Context, caller: &mut Caller) -> Result<()> {
    let name = QueueName::own("families");
    context.guard.add_queue(name.as_str())?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
    let queue = id("mq_open", caller.mq_open(&name, flags, Some(&Attributes::room(4, 128))))?;
    // SAFETY: the descriptor is fresh and owned by nobody else; closing it closes the queue.
    let _close = unsafe { File::from_raw_fd(queue) };
    let worked = work(caller, queue);
    succeed("mq_unlink", caller.mq_unlink(&name))?;
    worked
}

fn work(caller: &mut Caller, queue: i32) -> Result<()> {
    let until = deadline(Duration::from_secs(5));
    succeed("mq_notify", caller.mq_notify(queue, true))?;
    succeed("mq_notify", caller.mq_notify(queue, false))?;
    succeed("mq_timedsend", caller.mq_send(queue, b"first", 3, None))?;
    succeed("mq_timedsend", caller.mq_send(queue, b"second one", 9, Some(&until)))?;
    succeed("mq_getsetattr", caller.mq_getsetattr(queue, None, &mut Attributes::default()))?;
    let (mut body, mut priority) = ([0; 128], 0);
    succeed("mq_timedreceive", caller.mq_receive(queue, &mut body, Some(&mut priority), Some(&until)))?;
    succeed("mq_timedreceive", caller.mq_receive(queue, &mut body, None, None))?;
    Ok(())
}
