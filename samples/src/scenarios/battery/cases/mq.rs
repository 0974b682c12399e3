//! POSIX message queues. A send or receive says what the queue held at its entry.

use super::super::bench::{Notify, Queue};
use super::super::partner::Waiting;
use super::{Case, every};
use libc::{
    EACCES, EAGAIN, EBADF, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, EMFILE, EMSGSIZE, ENAMETOOLONG, ENFILE, ENOENT,
    ENOSPC, ETIMEDOUT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, RLIMIT_MSGQUEUE, RLIMIT_NOFILE, SA_RESTART,
};
use std::ffi::CString;

/// Five milliseconds.
const SOON: Option<i64> = Some(5_000_000);
/// Longer than any partner takes.
const LATE: Option<i64> = Some(20_123_456_789);

fn name(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // mq_open
    every("mq_open new", |b| { let name = b.mq_name(); b.mq_open(&name, "O_RDWR|O_CREAT|O_EXCL|0600", Some((3, 100))).opens(&name, true).map(drop) }),
    every("mq_open new without attributes", |b| { let name = b.mq_name(); b.mq_open(&name, "O_RDWR|O_CREAT|0640", None).opens(&name, true).map(drop) }),
    every("mq_open new for reading only", |b| { let name = b.mq_name(); b.mq_open(&name, "O_RDONLY|O_CREAT|0600", Some((2, 16))).opens(&name, true).map(drop) }),
    every("mq_open all flags", |b| { let name = b.mq_name(); b.mq_open(&name, "O_WRONLY|O_CREAT|O_EXCL|O_NONBLOCK|O_CLOEXEC|0622", Some((1, 1))).opens(&name, true).map(drop) }),
    every("mq_open existing", |b| { let queue = b.mq(O_RDWR, 4, 32)?; let name = queue.kernel_name(); b.mq_open(&name, "O_RDWR", None).opens(&name, false).map(drop) }),
    every("mq_open existing with O_CREAT", |b| { let queue = b.mq(O_RDWR, 4, 32)?; let name = queue.kernel_name(); b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((5, 64))).opens(&name, false).map(drop) }),
    every("mq_open existing O_NONBLOCK", |b| { let queue = b.mq(O_RDWR, 4, 32)?; let name = queue.kernel_name(); b.mq_open(&name, "O_RDONLY|O_NONBLOCK", None).opens(&name, false).map(drop) }),
    every("mq_open ENOENT", |b| { let name = b.mq_name(); b.mq_open(&name, "O_RDWR", None).fails(ENOENT) }),
    every("mq_open EEXIST", |b| { let queue = b.mq(O_RDWR, 4, 32)?; b.mq_open(&queue.kernel_name(), "O_RDWR|O_CREAT|O_EXCL|0600", Some((4, 32))).fails(EEXIST) }),
    every("mq_open EACCES not the owner", |b| { let queue = b.mq(O_RDWR, 4, 32)?; b.unprivileged(|b| b.mq_open(&queue.kernel_name(), "O_RDWR", None).fails(EACCES)) }),
    every("mq_open EACCES a slash", |b| b.mq_open(&name("a/b"), "O_RDWR|O_CREAT|0600", None).fails(EACCES)),
    every("mq_open ENAMETOOLONG", |b| b.mq_open(&name(&"n".repeat(256)), "O_RDWR", None).without(&["object_name"]).fails(ENAMETOOLONG)),
    every("mq_open name of 255", |b| b.mq_open(&name(&"n".repeat(255)), "O_RDWR", None).fails(ENOENT)),
    every("mq_open EFAULT", |b| { let name = b.mq_name(); b.unreadable().mq_open(&name, "O_RDWR", None).null(&["object_name"]).fails(EFAULT) }),
    every("mq_open EINVAL no messages", |b| { let name = b.mq_name(); b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((0, 10))).fails(EINVAL) }),
    every("limit msg_max", |b| { b.limits(&[("fs/mqueue/msg_max", "5")])?; let name = b.mq_name(); b.unprivileged(|b| b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((6, 10))).fails(EINVAL)) }),
    every("limit msgsize_max", |b| { b.limits(&[("fs/mqueue/msgsize_max", "128")])?; let name = b.mq_name(); b.unprivileged(|b| b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((5, 129))).fails(EINVAL)) }),
    every("limit msg_max of root", |b| { let name = b.mq_name(); b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((65_537, 1))).fails(EINVAL) }),
    every("limit msg_default", |b| { b.limits(&[("fs/mqueue/msg_default", "3"), ("fs/mqueue/msgsize_default", "256")])?; let name = b.mq_name(); b.mq_open(&name, "O_RDWR|O_CREAT|0600", None).opens(&name, true).map(drop) }),
    every("limit queues_max", |b| { b.limits(&[("fs/mqueue/queues_max", "1")])?; b.mq(O_RDWR, 1, 1)?; let name = b.mq_name(); b.unprivileged(|b| b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((1, 1))).fails(ENOSPC)) }),
    every("limit queues_max and who may exceed it", |b| { b.limits(&[("fs/mqueue/queues_max", "1")])?; b.mq(O_RDWR, 1, 1)?; let name = b.mq_name(); let exempt = b.may_exceed_limits()?; let open = b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((1, 1))); if exempt { open.opens(&name, true).map(drop) } else { open.fails(ENOSPC) } }),
    every("limit RLIMIT_MSGQUEUE", |b| { b.rlimit(RLIMIT_MSGQUEUE, 100)?; let name = b.mq_name(); b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((10, 100))).fails(EMFILE) }),
    every("limit RLIMIT_NOFILE", |b| { let name = b.mq_name(); b.rlimit(RLIMIT_NOFILE, 3)?; b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((1, 1))).fails(EMFILE) }),
    every("limit of the file table, mq_open", |b| { let name = b.mq_name(); b.without_files(|b| b.unprivileged(|b| b.mq_open(&name, "O_RDWR|O_CREAT|0600", Some((1, 1))).fails(ENFILE))) }),
    // mq_unlink
    every("mq_unlink", |b| { let queue = b.mq(O_RDWR, 1, 1)?; b.mq_unlink(&queue.kernel_name()).is(0) }),
    every("mq_unlink ENOENT", |b| { let name = b.mq_name(); b.mq_unlink(&name).null(&["object_id"]).fails(ENOENT) }),
    every("mq_unlink EFAULT", |b| { let name = b.mq_name(); b.unreadable().mq_unlink(&name).null(&["object_id", "object_name"]).fails(EFAULT) }),
    // mq_timedsend
    every("mq_timedsend priority 0", |b| { let queue = b.mq(O_RDWR, 4, 32)?; b.mq_send(&queue, 32, 0, None).is(0) }),
    every("mq_timedsend priority 32767", |b| { let queue = b.mq(O_WRONLY, 4, 32)?; queue.send(7, 1)?; b.mq_send(&queue, 0, 32_767, None).is(0) }),
    every("mq_timedsend in time at once", |b| { let queue = b.mq(O_RDWR, 4, 32)?; b.mq_send(&queue, 3, 5, LATE).is(0) }),
    every("mq_timedsend waits for room", |b| { let queue = b.mq(O_RDWR, 1, 32)?; queue.send(5, 1)?; let other = queue.clone(); b.meanwhile(move |_| other.take()).mq_send(&queue, 9, 8, LATE).is(0) }),
    every("mq_timedsend EINVAL priority", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_send(&queue, 1, 32_768, None).fails(EINVAL) }),
    every("mq_timedsend EMSGSIZE", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_send(&queue, 33, 1, None).fails(EMSGSIZE) }),
    every("mq_timedsend EAGAIN", |b| { let queue = b.mq(O_RDWR | O_NONBLOCK, 2, 32)?; queue.send(5, 1)?; queue.send(6, 1)?; b.mq_send(&queue, 1, 1, None).fails(EAGAIN) }),
    every("mq_timedsend ETIMEDOUT", |b| { let queue = b.mq(O_RDWR, 1, 32)?; queue.send(5, 1)?; b.mq_send(&queue, 1, 2, SOON).fails(ETIMEDOUT) }),
    every("mq_timedsend EINTR", |b| { let queue = b.mq(O_RDWR, 1, 32)?; queue.send(5, 1)?; b.handle(libc::SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).mq_send(&queue, 1, 2, None).fails(EINTR) }),
    every("mq_timedsend restarted", |b| { let queue = b.mq(O_RDWR, 1, 32)?; queue.send(5, 1)?; b.handle(libc::SIGUSR1, SA_RESTART)?; let other = queue.clone(); b.meanwhile(move |waiting| { waiting.interrupt_once()?; other.take() }).mq_send(&queue, 2, 3, LATE).with("restarts", 1).is(0) }),
    every("mq_timedsend EBADF", |b| b.mq_send(&Queue::wrong(987), 1, 2, None).fails(EBADF)),
    every("mq_timedsend EBADF no queue", |b| b.mq_send(&Queue::wrong(2), 1, 2, None).fails(EBADF)),
    every("mq_timedsend EBADF for reading only", |b| { let queue = b.mq(O_RDONLY, 1, 32)?; b.mq_send(&queue, 1, 2, None).fails(EBADF) }),
    every("mq_timedsend EFAULT", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.unreadable().mq_send(&queue, 1, 2, None).fails(EFAULT) }),
    // mq_timedreceive
    every("mq_timedreceive the highest priority", |b| { let queue = b.mq(O_RDWR, 4, 32)?; queue.send(5, 1)?; queue.send(6, 31_000)?; b.mq_receive(&queue, 32, None).receives_priority(6, 31_000) }),
    every("mq_timedreceive priority 0", |b| { let queue = b.mq(O_RDWR, 4, 32)?; queue.send(0, 0)?; b.mq_receive(&queue, 40, LATE).receives_priority(0, 0) }),
    every("mq_timedreceive waits for a message", |b| { let queue = b.mq(O_RDWR, 1, 32)?; let other = queue.clone(); b.meanwhile(move |_| other.send(11, 12)).mq_receive(&queue, 32, None).receives_priority(11, 12) }),
    every("mq_timedreceive EMSGSIZE", |b| { let queue = b.mq(O_RDWR, 1, 32)?; queue.send(1, 1)?; b.mq_receive(&queue, 31, None).fails(EMSGSIZE) }),
    every("mq_timedreceive EAGAIN", |b| { let queue = b.mq(O_RDONLY | O_NONBLOCK, 1, 32)?; b.mq_receive(&queue, 32, None).fails(EAGAIN) }),
    every("mq_timedreceive ETIMEDOUT", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_receive(&queue, 32, SOON).fails(ETIMEDOUT) }),
    every("mq_timedreceive EINVAL no time", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_receive_with_wrong_time(&queue, 32).fails(EINVAL) }),
    every("mq_timedreceive EINTR", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.handle(libc::SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).mq_receive(&queue, 32, LATE).fails(EINTR) }),
    every("mq_timedreceive restarted", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.handle(libc::SIGUSR1, SA_RESTART)?; let other = queue.clone(); b.meanwhile(move |waiting| { waiting.interrupt_once()?; other.send(4, 6) }).mq_receive(&queue, 32, None).with("restarts", 1).receives_priority(4, 6) }),
    every("mq_timedreceive EBADF", |b| b.mq_receive(&Queue::wrong(-1), 1, None).fails(EBADF)),
    every("mq_timedreceive EBADF for writing only", |b| { let queue = b.mq(O_WRONLY, 1, 32)?; b.mq_receive(&queue, 32, None).fails(EBADF) }),
    // mq_notify
    every("mq_notify SIGEV_NONE", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_notify(&queue, Notify::Silent).is(0) }),
    every("mq_notify SIGEV_SIGNAL", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_notify(&queue, Notify::Signal(libc::SIGUSR2)).is(0)?; b.mq_notify(&queue, Notify::Nothing).is(0) }),
    every("mq_notify EBUSY", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_notify(&queue, Notify::Silent).is(0)?; b.mq_notify(&queue, Notify::Signal(40)).fails(EBUSY) }),
    every("mq_notify EINVAL signal", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_notify(&queue, Notify::Signal(77)).fails(EINVAL) }),
    every("mq_notify EINVAL method", |b| { let queue = b.mq(O_RDWR, 1, 32)?; b.mq_notify(&queue, Notify::Unknown).fails(EINVAL) }),
    every("mq_notify EBADF", |b| b.mq_notify(&Queue::wrong(987), Notify::Silent).fails(EBADF)),
    // mq_getsetattr
    every("mq_getsetattr asks", |b| { let queue = b.mq(O_RDWR, 6, 48)?; queue.send(9, 1)?; b.mq_getsetattr(&queue, None).is(0) }),
    every("mq_getsetattr sets and clears", |b| { let queue = b.mq(O_RDWR, 6, 48)?; b.mq_getsetattr(&queue, Some("O_NONBLOCK")).is(0)?; b.mq_getsetattr(&queue, Some("0")).is(0) }),
    every("mq_getsetattr EINVAL", |b| { let queue = b.mq(O_RDWR, 6, 48)?; b.mq_getsetattr(&queue, Some("O_CLOEXEC")).without(&["flags_text"]).fails(EINVAL) }),
    every("mq_getsetattr EBADF", |b| b.mq_getsetattr(&Queue::wrong(987), None).fails(EBADF)),
];
