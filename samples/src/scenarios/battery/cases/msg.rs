//! System V message queues.

use super::super::abi::Way;
use super::super::bench::setup::{remove_queue, send, take};
use super::super::partner::Waiting;
use super::{Case, every, only};
use libc::{E2BIG, EACCES, EAGAIN, EEXIST, EFAULT, EIDRM, EINTR, EINVAL, ENOENT, ENOMSG, ENOSPC, EPERM};

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // msgget
    every("msgget private", |b| b.msgget(0, "IPC_CREAT|0600").makes().map(drop)),
    every("msgget new exclusive", |b| { let key = b.key(); b.msgget(key, "IPC_CREAT|IPC_EXCL|0644").makes().map(drop) }),
    every("msgget existing", |b| { let key = b.key(); let queue = b.queue_with_key(key, 0o600)?; b.msgget(key, "0").finds(queue) }),
    every("msgget existing with IPC_CREAT", |b| { let key = b.key(); let queue = b.queue_with_key(key, 0o600)?; b.msgget(key, "IPC_CREAT|0600").finds(queue) }),
    every("msgget ENOENT", |b| { let key = b.key(); b.msgget(key, "0600").fails(ENOENT) }),
    every("msgget EEXIST", |b| { let key = b.key(); b.queue_with_key(key, 0o600)?; b.msgget(key, "IPC_CREAT|IPC_EXCL|0600").fails(EEXIST) }),
    every("msgget EACCES", |b| { let key = b.key(); b.queue_with_key(key, 0o600)?; b.unprivileged(|b| b.msgget(key, "0600").fails(EACCES)) }),
    every("limit MSGMNI", |b| { b.limits(&[("kernel/msgmni", "2")])?; b.queue()?; b.queue()?; b.msgget(0, "IPC_CREAT|0600").fails(ENOSPC) }),
    // msgsnd
    every("msgsnd", |b| { let queue = b.queue()?; b.msgsnd(queue, 3, 100, "0").is(0) }),
    every("msgsnd IPC_NOWAIT", |b| { let queue = b.queue()?; b.msgsnd(queue, 0x7fff_ffff, 17, "IPC_NOWAIT").is(0) }),
    every("msgsnd of nothing", |b| { let queue = b.queue()?; b.msgsnd(queue, 5, 0, "0").is(0) }),
    every("msgsnd waits for room", |b| { let queue = b.full_queue()?; b.meanwhile(move |_| take(queue)).msgsnd(queue, 6, 600, "0").is(0) }),
    every("msgsnd EAGAIN full", |b| { let queue = b.full_queue()?; b.msgsnd(queue, 7, 500, "IPC_NOWAIT").without(&["msg_type"]).fails(EAGAIN) }),
    every("limit MSGMNB", |b| { b.limits(&[("kernel/msgmnb", "30")])?; let queue = b.queue()?; b.msgsnd(queue, 1, 20, "0").is(0)?; b.msgsnd(queue, 2, 11, "IPC_NOWAIT").without(&["msg_type"]).fails(EAGAIN) }),
    every("limit MSGMAX", |b| { b.limits(&[("kernel/msgmax", "50")])?; let queue = b.queue()?; b.msgsnd(queue, 1, 50, "0").is(0)?; b.msgsnd(queue, 2, 51, "0").without(&["msg_type"]).fails(EINVAL) }),
    every("msgsnd EINVAL type 0", |b| { let queue = b.queue()?; b.msgsnd(queue, 0, 1, "0").without(&["msg_type"]).fails(EINVAL) }),
    every("msgsnd EINVAL negative type", |b| { let queue = b.queue()?; b.msgsnd(queue, -3, 1, "0").without(&["msg_type"]).fails(EINVAL) }),
    every("msgsnd EINVAL no such queue", |b| b.msgsnd(0x7fff_ff00, 1, 1, "0").without(&["msg_type"]).fails(EINVAL)),
    every("msgsnd EFAULT", |b| { let queue = b.queue()?; b.unreadable().msgsnd(queue, 1, 1, "0").null(&["msg_type"]).fails(EFAULT) }),
    every("msgsnd EACCES", |b| { let queue = b.queue()?; b.unprivileged(|b| b.msgsnd(queue, 1, 1, "0").without(&["msg_type"]).fails(EACCES)) }),
    every("msgsnd EINTR", |b| { let queue = b.full_queue()?; b.handle(libc::SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).msgsnd(queue, 1, 500, "0").without(&["msg_type"]).fails(EINTR) }),
    every("msgsnd EIDRM", |b| { let queue = b.full_queue()?; b.meanwhile(move |_| remove_queue(queue)).msgsnd(queue, 1, 500, "0").without(&["msg_type"]).fails(EIDRM) }),
    only(Way::Native, "msgsnd and msgrcv of a type above 32 bits", |b| { let queue = b.queue()?; b.msgsnd(queue, 0x12_3456_789a, 4, "0").is(0)?; b.msgrcv(queue, 9, 0x12_3456_789a, "0").receives(4, 0x12_3456_789a) }),
    // msgrcv
    every("msgrcv the oldest", |b| { let queue = b.queue_with(&[4, 2])?; b.msgrcv(queue, 64, 0, "0").receives(10, 4) }),
    every("msgrcv of a type", |b| { let queue = b.queue_with(&[4, 2])?; b.msgrcv(queue, 10, 2, "IPC_NOWAIT").receives(10, 2) }),
    every("msgrcv the lowest type", |b| { let queue = b.queue_with(&[9, 3, 2, 8])?; b.msgrcv(queue, 64, -3, "0").receives(10, 2) }),
    every("msgrcv MSG_EXCEPT", |b| { let queue = b.queue_with(&[4, 7])?; b.msgrcv(queue, 64, 4, "MSG_EXCEPT").receives(10, 7) }),
    every("msgrcv MSG_NOERROR", |b| { let queue = b.queue_with(&[4])?; b.msgrcv(queue, 3, 0, "MSG_NOERROR").receives(3, 4) }),
    every("msgrcv MSG_COPY", |b| { let queue = b.queue_with(&[4, 5, 6])?; b.msgrcv(queue, 64, 1, "IPC_NOWAIT|MSG_COPY").receives(10, 5) }),
    every("msgrcv MSG_COPY ENOMSG", |b| { let queue = b.queue_with(&[4])?; b.msgrcv(queue, 64, 1, "IPC_NOWAIT|MSG_COPY").fails(ENOMSG) }),
    every("msgrcv MSG_COPY EINVAL", |b| { let queue = b.queue_with(&[4])?; b.msgrcv(queue, 64, 0, "MSG_COPY").fails(EINVAL) }),
    every("msgrcv waits for a message", |b| { let queue = b.queue()?; b.meanwhile(move |_| send(queue, 33, 44)).msgrcv(queue, 64, 33, "0").receives(44, 33) }),
    every("msgrcv E2BIG", |b| { let queue = b.queue_with(&[4])?; b.msgrcv(queue, 9, 0, "0").fails(E2BIG) }),
    every("msgrcv ENOMSG", |b| { let queue = b.queue_with(&[4])?; b.msgrcv(queue, 9, 5, "IPC_NOWAIT").fails(ENOMSG) }),
    every("msgrcv EINVAL no such queue", |b| b.msgrcv(0x7fff_ff00, 1, 0, "0").fails(EINVAL)),
    every("msgrcv EACCES", |b| { let queue = b.queue()?; b.unprivileged(|b| b.msgrcv(queue, 1, 0, "0").fails(EACCES)) }),
    every("msgrcv EINTR", |b| { let queue = b.queue()?; b.handle(libc::SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).msgrcv(queue, 8, -9, "0").fails(EINTR) }),
    every("msgrcv EIDRM", |b| { let queue = b.queue()?; b.meanwhile(move |_| remove_queue(queue)).msgrcv(queue, 8, 1, "MSG_NOERROR").fails(EIDRM) }),
    // msgctl
    every("msgctl IPC_STAT", |b| { let queue = b.queue()?; b.msgctl(queue, "IPC_STAT").is(0) }),
    every("msgctl IPC_STAT EFAULT", |b| { let queue = b.queue()?; b.unreadable().msgctl(queue, "IPC_STAT").fails(EFAULT) }),
    every("msgctl IPC_STAT EACCES", |b| { let queue = b.queue()?; b.unprivileged(|b| b.msgctl(queue, "IPC_STAT").fails(EACCES)) }),
    every("msgctl IPC_SET", |b| { let queue = b.queue()?; b.msgctl_set(queue).is(0) }),
    every("msgctl IPC_INFO", |b| b.msgctl(0, "IPC_INFO").null(&["object_id"]).succeeds().map(drop)),
    every("msgctl MSG_INFO", |b| b.msgctl(0, "MSG_INFO").null(&["object_id"]).succeeds().map(drop)),
    every("msgctl MSG_STAT", |b| { let queue = b.queue()?; b.msgctl(queue & 0x7fff, "MSG_STAT").finds_by_index(queue) }),
    every("msgctl MSG_STAT_ANY", |b| { let queue = b.queue()?; b.msgctl(queue & 0x7fff, "MSG_STAT_ANY").finds_by_index(queue) }),
    every("msgctl IPC_RMID", |b| { let queue = b.queue()?; b.msgctl(queue, "IPC_RMID").is(0) }),
    every("msgctl IPC_RMID EPERM", |b| { let queue = b.queue()?; b.unprivileged(|b| b.msgctl(queue, "IPC_RMID").fails(EPERM)) }),
    every("msgctl EINVAL removed", |b| { let queue = b.queue()?; remove_queue(queue)?; b.msgctl(queue, "IPC_STAT").fails(EINVAL) }),
    only(Way::Native, "msgctl EINVAL unknown command", |b| { let queue = b.queue()?; b.msgctl(queue, "77").without(&["command"]).fails(EINVAL) }),
];
