//! What only i386 has: the forms of `ipc(2)` that the table before does not use, and the signal calls without a twin.

use super::super::abi::Way::{New, Old};
use super::super::bench::Action::{Default, Handler, Ignore};
use super::super::bench::setup::set_value;
use super::super::row::Row;
use super::{Case, only};
use libc::{EFAULT, EINVAL, ENOSYS, GETVAL, IPC_STAT};

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    only(Old, "ipc msgrcv version 1", |b| { let queue = b.queue_with(&[4, 2])?; b.ipc_msgrcv_1(queue, 40, 2).receives(10, 2) }),
    only(Old, "ipc msgrcv EINVAL version 0 of nothing", |b| { let queue = b.queue()?; b.ipc([12, queue as u64, 8, 0, 0, 0], Row::of("msgrcv").set("object_id", queue).set("size_bytes", 8)).null(&["msg_type"]).without(&["msg_type_requested"]).fails(EINVAL) }),
    only(Old, "ipc shmat EINVAL version 1", |b| { let segment = b.segment(1)?; let room = b.words(&[0]); b.ipc([21 | 1 << 16, segment as u64, 0, room, 0, 0], Row::of("shmat").set("object_id", segment)).fails(EINVAL) }),
    only(Old, "ipc semctl EINVAL of nothing", |b| { let set = b.set(1)?; b.ipc([3, set as u64, 0, GETVAL as u64, 0, 0], Row::of("semctl").set("object_id", set).set("command", "GETVAL")).null(&["sem_value"]).fails(EINVAL) }),
    only(Old, "ipc semctl EFAULT", |b| { let set = b.set(1)?; b.ipc([3, set as u64, 0, GETVAL as u64, 8, 0], Row::of("semctl").set("object_id", set).set("command", "GETVAL")).null(&["sem_value"]).fails(EFAULT) }),
    only(Old, "ipc semctl GETVAL without IPC_64", |b| { let set = b.set(2)?; set_value(set, 1, 66)?; let room = b.words(&[0]); b.ipc([3, set as u64, 1, GETVAL as u64, room, 0], Row::of("semctl").set("object_id", set).set("command", "GETVAL").set("sem_num", 1)).with("sem_value", 66).is(66) }),
    only(Old, "ipc semctl IPC_STAT without IPC_64", |b| { let set = b.set(2)?; let buffer = b.words(&[0; 64]); let room = b.words(&[buffer]); b.ipc([3, set as u64, 0, IPC_STAT as u64, room, 0], Row::of("semctl").set("object_id", set).set("command", "IPC_STAT")).null(&["sem_value"]).is(0) }),
    only(Old, "ipc shmctl IPC_STAT without IPC_64", |b| { let segment = b.segment(1)?; let room = b.words(&[0; 64]); b.ipc([24, segment as u64, IPC_STAT as u64, 0, room, 0], Row::of("shmctl").set("object_id", segment).set("command", "IPC_STAT")).is(0) }),
    only(Old, "ipc msgctl IPC_STAT without IPC_64", |b| { let queue = b.queue()?; let room = b.words(&[0; 64]); b.ipc([14, queue as u64, IPC_STAT as u64, 0, room, 0], Row::of("msgctl").set("object_id", queue).set("command", "IPC_STAT")).is(0) }),
    only(Old, "ipc ENOSYS 5", |b| b.ipc([5, 0, 0, 0, 0, 0], Row::unknown()).fails(ENOSYS)),
    only(Old, "ipc ENOSYS 25", |b| b.ipc([25, 0, 0, 0, 0, 0], Row::unknown()).fails(ENOSYS)),
    only(Old, "sgetmask", |b| { b.block("SIGINT|SIGTERM|SIGRT_3")?; b.sgetmask().leaves("SIGINT|SIGTERM|SIGRT_3").is(0x4002) }),
    only(Old, "ssetmask", |b| { b.block("SIGINT")?; b.ssetmask("SIGHUP|SIGUSR2").leaves("SIGHUP|SIGUSR2").is(0x2) }),
    only(Old, "signal ignore", |b| b.signal(libc::SIGUSR1, Ignore).is(0)),
    only(Old, "signal handler and default", |b| { b.signal(libc::SIGUSR2, Handler).is(0)?; b.signal(libc::SIGUSR2, Default).is(0x1000) }),
    only(Old, "signal EINVAL", |b| b.signal(libc::SIGKILL, Ignore).fails(EINVAL)),
    // In the direct calls a command has no IPC_64 to strip: with one it is unknown.
    only(New, "semctl EINVAL with IPC_64", |b| { let set = b.set(1)?; b.bracketed((394, "semctl"), [set as u64, 0, 0x100 | GETVAL as u64, 0, 0, 0], Row::of("semctl").set("object_id", set)).fails(EINVAL) }),
];
