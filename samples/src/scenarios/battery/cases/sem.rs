//! System V semaphores.

use super::super::abi::Way;
use super::super::bench::Argument::{None as Nothing, Room, Value, Values};
use super::super::bench::setup::{add, remove_set, set_value};
use super::super::partner::Waiting;
use super::{Case, every, only};
use libc::{E2BIG, EACCES, EAGAIN, EEXIST, EFAULT, EFBIG, EIDRM, EINTR, EINVAL, ENOENT, ENOSPC, EPERM, ERANGE};

/// Five milliseconds.
const SOON: Option<i64> = Some(5_000_000);
/// Longer than any partner takes.
const LATE: Option<i64> = Some(20_123_456_789);

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // semget
    every("semget private", |b| b.semget(0, 4, "IPC_CREAT|0640").makes().map(drop)),
    every("semget new exclusive", |b| { let key = b.key(); b.semget(key, 3, "IPC_CREAT|IPC_EXCL|0600").makes().map(drop) }),
    every("semget new", |b| { let key = b.key(); b.semget(key, 7, "IPC_CREAT|0666").makes().map(drop) }),
    every("semget negative key", |b| { let key = i32::MIN | b.key(); b.semget(key, 1, "IPC_CREAT|0600").makes().map(drop) }),
    every("semget existing", |b| { let key = b.key(); let set = b.set_with_key(key, 3, 0o600)?; b.semget(key, 0, "0").finds(set) }),
    every("semget existing with IPC_CREAT", |b| { let key = b.key(); let set = b.set_with_key(key, 3, 0o600)?; b.semget(key, 2, "IPC_CREAT|0600").finds(set) }),
    every("semget ENOENT", |b| { let key = b.key(); b.semget(key, 1, "0600").fails(ENOENT) }),
    every("semget EEXIST", |b| { let key = b.key(); b.set_with_key(key, 1, 0o600)?; b.semget(key, 1, "IPC_CREAT|IPC_EXCL|0600").fails(EEXIST) }),
    every("semget EINVAL no semaphores", |b| b.semget(0, 0, "IPC_CREAT|0600").fails(EINVAL)),
    every("semget EINVAL negative count", |b| b.semget(0, -1, "IPC_CREAT|0600").fails(EINVAL)),
    every("semget EINVAL more than the set has", |b| { let key = b.key(); b.set_with_key(key, 2, 0o600)?; b.semget(key, 3, "0600").fails(EINVAL) }),
    every("semget EACCES", |b| { let key = b.key(); b.set_with_key(key, 1, 0o600)?; b.unprivileged(|b| b.semget(key, 1, "0600").fails(EACCES)) }),
    every("limit SEMMSL", |b| { b.limits(&[("kernel/sem", "4 100 10 10")])?; b.semget(0, 5, "IPC_CREAT|0600").fails(EINVAL) }),
    every("limit SEMMNI", |b| { b.limits(&[("kernel/sem", "4 100 10 2")])?; b.set(1)?; b.set(1)?; b.semget(0, 1, "IPC_CREAT|0600").fails(ENOSPC) }),
    every("limit SEMMNS", |b| { b.limits(&[("kernel/sem", "4 6 10 10")])?; b.set(4)?; b.semget(0, 3, "IPC_CREAT|0600").fails(ENOSPC) }),
    // semop
    every("semop add", |b| { let set = b.set(3)?; b.semop(set, &[(2, 5, "0")]).is(0) }),
    every("semop take", |b| { let set = b.set(2)?; set_value(set, 1, 9)?; b.semop(set, &[(1, -9, "0")]).is(0) }),
    every("semop is zero", |b| { let set = b.set(2)?; b.semop(set, &[(1, 0, "0")]).is(0) }),
    every("semop undo", |b| { let set = b.set(2)?; b.semop(set, &[(1, 3, "SEM_UNDO")]).is(0) }),
    every("semop 2 operations", |b| { let set = b.set(4)?; b.semop(set, &[(3, 0, "IPC_NOWAIT"), (3, 7, "IPC_NOWAIT|SEM_UNDO")]).is(0) }),
    every("semop 5 operations", |b| { let set = b.set(5)?; b.semop(set, &[(0, 1, "0"), (1, 2, "0"), (1, -1, "SEM_UNDO"), (3, 0, "0"), (4, 32_767, "0")]).is(0) }),
    every("semop 64 operations", |b| { let set = b.set(64)?; let ops: Vec<_> = (0..64).map(|n| (n, n as i16, "0")).collect(); b.semop(set, &ops).is(0) }),
    every("semop 500 operations", |b| { let set = b.set(250)?; let ops: Vec<_> = (0..500).map(|n| (n / 2, if n % 2 == 0 { 40 } else { -3 }, "0")).collect(); b.semop(set, &ops).is(0) }),
    every("semop waits and is served", |b| { let set = b.set(2)?; b.meanwhile(move |_| add(set, 1, 2)).semop(set, &[(1, -2, "0")]).is(0) }),
    every("semop waits for zero", |b| { let set = b.set(2)?; add(set, 0, 1)?; b.meanwhile(move |_| set_value(set, 0, 0)).semop(set, &[(0, 0, "0")]).is(0) }),
    every("semop EINVAL no operations", |b| { let set = b.set(1)?; b.semop(set, &[]).fails(EINVAL) }),
    every("semop EINVAL no such set", |b| b.semop(0x7fff_ff00, &[(0, 1, "0")]).fails(EINVAL)),
    every("semop EINVAL negative id", |b| b.semop(-1, &[(0, 1, "0")]).fails(EINVAL)),
    every("semop EINVAL removed", |b| { let set = b.set(1)?; remove_set(set)?; b.semop(set, &[(0, 1, "0")]).fails(EINVAL) }),
    every("semop EFAULT", |b| { let set = b.set(1)?; b.unreadable().semop(set, &[(0, 1, "0")]).null(&["sem_num", "sem_op", "sem_flags", "sem_ops"]).fails(EFAULT) }),
    every("semop EAGAIN", |b| { let set = b.set(2)?; b.semop(set, &[(1, -1, "IPC_NOWAIT")]).fails(EAGAIN) }),
    every("semop EAGAIN not zero", |b| { let set = b.set(2)?; add(set, 1, 1)?; b.semop(set, &[(1, 0, "IPC_NOWAIT")]).fails(EAGAIN) }),
    every("semop EFBIG", |b| { let set = b.set(2)?; b.semop(set, &[(2, 1, "0")]).fails(EFBIG) }),
    every("semop EACCES", |b| { let set = b.set(1)?; b.unprivileged(|b| b.semop(set, &[(0, 1, "0")]).fails(EACCES)) }),
    every("semop EINTR", |b| { let set = b.set(1)?; b.handle(libc::SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).semop(set, &[(0, -1, "0")]).fails(EINTR) }),
    every("semop EINTR in spite of SA_RESTART", |b| { let set = b.set(1)?; b.handle(libc::SIGUSR1, libc::SA_RESTART)?; b.meanwhile(Waiting::interrupt).semop(set, &[(0, -4, "SEM_UNDO")]).fails(EINTR) }),
    every("semop EIDRM", |b| { let set = b.set(1)?; b.meanwhile(move |_| remove_set(set)).semop(set, &[(0, -1, "0")]).fails(EIDRM) }),
    every("limit SEMOPM", |b| { b.limits(&[("kernel/sem", "4 100 3 10")])?; let set = b.set(4)?; b.semop(set, &[(0, 1, "0"), (1, 1, "0"), (2, 1, "0")]).is(0)?; b.semop(set, &[(0, 1, "0"), (1, 1, "0"), (2, 1, "0"), (3, 1, "0")]).without(&["sem_num", "sem_op", "sem_flags", "sem_ops"]).fails(E2BIG) }),
    every("limit SEMVMX", |b| { let set = b.set(1)?; set_value(set, 0, 32_767)?; b.semop(set, &[(0, 1, "0")]).fails(ERANGE) }),
    every("limit of semadj", |b| { let set = b.set(1)?; b.semop(set, &[(0, 32_767, "SEM_UNDO")]).is(0)?; b.semop(set, &[(0, -32_767, "0")]).is(0)?; b.semop(set, &[(0, 2, "SEM_UNDO")]).fails(ERANGE) }),
    // semtimedop
    every("semtimedop without a timeout", |b| { let set = b.set(2)?; b.semtimedop(set, &[(1, 1, "0"), (0, 2, "0")], None).is(0) }),
    every("semtimedop in time at once", |b| { let set = b.set(2)?; b.semtimedop(set, &[(1, 1, "SEM_UNDO")], LATE).is(0) }),
    every("semtimedop in time", |b| { let set = b.set(2)?; b.meanwhile(move |_| add(set, 0, 1)).semtimedop(set, &[(0, -1, "0")], LATE).is(0) }),
    every("semtimedop EAGAIN timeout", |b| { let set = b.set(2)?; b.semtimedop(set, &[(0, 0, "0"), (1, -1, "0")], SOON).fails(EAGAIN) }),
    every("semtimedop EAGAIN no time at all", |b| { let set = b.set(2)?; b.semtimedop(set, &[(1, -1, "0")], Some(0)).fails(EAGAIN) }),
    every("semtimedop EINVAL no time", |b| { let set = b.set(1)?; b.semtimedop_with_wrong_time(set, &[(0, 1, "0")]).fails(EINVAL) }),
    every("semtimedop EINTR", |b| { let set = b.set(1)?; b.handle(libc::SIGUSR1, 0)?; b.meanwhile(Waiting::interrupt).semtimedop(set, &[(0, -1, "0")], LATE).fails(EINTR) }),
    every("semtimedop EIDRM", |b| { let set = b.set(1)?; b.meanwhile(move |_| remove_set(set)).semtimedop(set, &[(0, -1, "0")], LATE).fails(EIDRM) }),
    // semctl
    every("semctl SETVAL", |b| { let set = b.set(3)?; b.semctl(set, 2, "SETVAL", Value(77)).is(0) }),
    every("semctl SETVAL ERANGE above", |b| { let set = b.set(3)?; b.semctl(set, 2, "SETVAL", Value(32_768)).fails(ERANGE) }),
    every("semctl SETVAL ERANGE below", |b| { let set = b.set(3)?; b.semctl(set, 1, "SETVAL", Value(-1)).fails(ERANGE) }),
    every("semctl SETVAL EINVAL", |b| { let set = b.set(3)?; b.semctl(set, 3, "SETVAL", Value(1)).fails(EINVAL) }),
    every("semctl GETVAL", |b| { let set = b.set(3)?; set_value(set, 1, 4_711)?; b.semctl(set, 1, "GETVAL", Nothing).with("sem_value", 4_711).is(4_711) }),
    every("semctl GETVAL EINVAL", |b| { let set = b.set(3)?; b.semctl(set, -1, "GETVAL", Nothing).null(&["sem_value"]).fails(EINVAL) }),
    every("semctl GETVAL EACCES", |b| { let set = b.set(1)?; b.unprivileged(|b| b.semctl(set, 0, "GETVAL", Nothing).null(&["sem_value"]).fails(EACCES)) }),
    every("semctl GETVAL EINVAL removed", |b| { let set = b.set(1)?; remove_set(set)?; b.semctl(set, 0, "GETVAL", Nothing).null(&["sem_value"]).fails(EINVAL) }),
    every("semctl GETPID", |b| { let set = b.set(1)?; add(set, 0, 1)?; b.semctl(set, 0, "GETPID", Nothing).is(crate::process::own_pid().into()) }),
    every("semctl GETNCNT", |b| { let set = b.set(1)?; b.semctl(set, 0, "GETNCNT", Nothing).is(0) }),
    every("semctl GETZCNT", |b| { let set = b.set(2)?; b.semctl(set, 1, "GETZCNT", Nothing).is(0) }),
    every("semctl SETALL", |b| { let set = b.set(3)?; b.semctl(set, 0, "SETALL", Values(&[1, 2, 3])).is(0) }),
    every("semctl SETALL ERANGE", |b| { let set = b.set(2)?; b.semctl(set, 0, "SETALL", Values(&[1, 40_000])).fails(ERANGE) }),
    every("semctl GETALL", |b| { let set = b.set(3)?; b.semctl(set, 0, "GETALL", Room).is(0) }),
    every("semctl GETALL EFAULT", |b| { let set = b.set(3)?; b.unreadable().semctl(set, 0, "GETALL", Room).fails(EFAULT) }),
    every("semctl IPC_STAT", |b| { let set = b.set(1)?; b.semctl(set, 0, "IPC_STAT", Room).is(0) }),
    every("semctl IPC_STAT EFAULT", |b| { let set = b.set(1)?; b.unreadable().semctl(set, 0, "IPC_STAT", Room).fails(EFAULT) }),
    every("semctl IPC_SET", |b| { let set = b.set(1)?; b.semctl_set(set).is(0) }),
    every("semctl IPC_INFO", |b| b.semctl(0, 0, "IPC_INFO", Room).null(&["object_id"]).succeeds().map(drop)),
    every("semctl SEM_INFO", |b| b.semctl(0, 0, "SEM_INFO", Room).null(&["object_id"]).succeeds().map(drop)),
    every("semctl SEM_STAT", |b| { let set = b.set(1)?; b.semctl(set & 0x7fff, 0, "SEM_STAT", Room).finds_by_index(set) }),
    every("semctl SEM_STAT_ANY", |b| { let set = b.set(1)?; b.semctl(set & 0x7fff, 0, "SEM_STAT_ANY", Room).finds_by_index(set) }),
    every("semctl IPC_RMID", |b| { let set = b.set(1)?; b.semctl(set, 0, "IPC_RMID", Nothing).is(0) }),
    every("semctl IPC_RMID EPERM", |b| { let set = b.set(1)?; b.unprivileged(|b| b.semctl(set, 0, "IPC_RMID", Nothing).fails(EPERM)) }),
    only(Way::Native, "semctl EINVAL unknown command", |b| { let set = b.set(1)?; b.semctl(set, 0, "77", Nothing).without(&["command"]).fails(EINVAL) }),
];
