//! System V shared memory.

use super::super::abi::Way;
use super::super::bench::setup::remove_segment;
use super::{Case, every, only};
use libc::{EACCES, EEXIST, EFAULT, EINVAL, ENFILE, ENOENT, ENOMEM, ENOSPC, EPERM, RLIMIT_AS, RLIMIT_MEMLOCK};

/// An address below 4 GiB where nothing is.
const FREE: u64 = 0x6500_0000;

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // shmget
    every("shmget private", |b| b.shmget(0, 12_345, "IPC_CREAT|0600").makes().map(drop)),
    every("shmget new exclusive", |b| { let key = b.key(); b.shmget(key, 1, "IPC_CREAT|IPC_EXCL|0600").makes().map(drop) }),
    every("shmget SHM_NORESERVE", |b| { let key = b.key(); b.shmget(key, 1 << 31, "IPC_CREAT|SHM_NORESERVE|0400").makes().map(drop) }),
    every("shmget existing", |b| { let key = b.key(); let segment = b.segment_with_key(key, 8_192, 0o600)?; b.shmget(key, 4_096, "0").finds(segment) }),
    every("shmget existing with IPC_CREAT", |b| { let key = b.key(); let segment = b.segment_with_key(key, 8_192, 0o600)?; b.shmget(key, 8_192, "IPC_CREAT|0600").finds(segment) }),
    every("shmget ENOENT", |b| { let key = b.key(); b.shmget(key, 4_096, "0600").fails(ENOENT) }),
    every("shmget EEXIST", |b| { let key = b.key(); b.segment_with_key(key, 1, 0o600)?; b.shmget(key, 1, "IPC_CREAT|IPC_EXCL|0600").fails(EEXIST) }),
    every("shmget EACCES", |b| { let key = b.key(); b.segment_with_key(key, 1, 0o600)?; b.unprivileged(|b| b.shmget(key, 1, "0600").fails(EACCES)) }),
    every("limit SHMMIN", |b| b.shmget(0, 0, "IPC_CREAT|0600").fails(EINVAL)),
    every("limit SHMMAX", |b| { b.limits(&[("kernel/shmmax", "65536")])?; b.shmget(0, 65_537, "IPC_CREAT|0600").fails(EINVAL) }),
    every("shmget EINVAL larger than the segment", |b| { let key = b.key(); b.segment_with_key(key, 4_096, 0o600)?; b.shmget(key, 4_097, "0600").fails(EINVAL) }),
    every("limit SHMMNI", |b| { b.limits(&[("kernel/shmmni", "2")])?; b.segment(1)?; b.segment(1)?; b.shmget(0, 1, "IPC_CREAT|0600").fails(ENOSPC) }),
    every("limit SHMALL", |b| { b.limits(&[("kernel/shmall", "3")])?; b.segment(8_192)?; b.shmget(0, 8_192, "IPC_CREAT|0600").fails(ENOSPC) }),
    every("limit of the file table, shmget", |b| b.without_files(|b| b.unprivileged(|b| b.shmget(0, 4_096, "IPC_CREAT|0600").fails(ENFILE)))),
    every("shmget EPERM huge pages", |b| { b.rlimit(RLIMIT_MEMLOCK, 0)?; b.unprivileged(|b| b.shmget(0, 2 << 20, "IPC_CREAT|SHM_HUGETLB|0600").fails(EPERM)) }),
    only(Way::Native, "shmget ENOMEM", |b| b.shmget(0, 1 << 52, "IPC_CREAT|0600").fails(ENOMEM)),
    // shmat, shmdt
    every("shmat and shmdt", |b| { let segment = b.segment(8_192)?; let at = b.shmat(segment, 0, "0").attaches()?; b.shmdt(at).is(0) }),
    every("shmat SHM_RDONLY", |b| { let segment = b.segment(1)?; b.shmat(segment, 0, "SHM_RDONLY").attaches().map(drop) }),
    every("shmat SHM_EXEC", |b| { let segment = b.segment(1)?; b.shmat(segment, 0, "SHM_RDONLY|SHM_EXEC").attaches().map(drop) }),
    every("shmat at an address", |b| { let segment = b.segment(4_096)?; b.shmat(segment, FREE, "0").attaches().map(drop) }),
    every("shmat SHM_RND", |b| { let segment = b.segment(4_096)?; b.shmat(segment, FREE + 5, "SHM_RND").attaches().map(drop) }),
    every("shmat SHM_REMAP", |b| { let segment = b.segment(4_096)?; b.shmat(segment, FREE, "SHM_REMAP").attaches().map(drop) }),
    every("shmat twice", |b| { let segment = b.segment(4_096)?; b.shmat(segment, 0, "0").attaches()?; b.shmat(segment, 0, "0").attaches().map(drop) }),
    every("shmat EINVAL no such segment", |b| b.shmat(0x7fff_ff00, 0, "0").fails(EINVAL)),
    every("shmat EINVAL unaligned", |b| { let segment = b.segment(4_096)?; b.shmat(segment, FREE + 5, "0").fails(EINVAL) }),
    every("shmat EINVAL SHM_REMAP nowhere", |b| { let segment = b.segment(4_096)?; b.shmat(segment, 0, "SHM_REMAP").fails(EINVAL) }),
    every("shmat EINVAL removed", |b| { let segment = b.segment(4_096)?; remove_segment(segment)?; b.shmat(segment, 0, "0").fails(EINVAL) }),
    every("shmat EACCES", |b| { let segment = b.segment(1)?; b.unprivileged(|b| b.shmat(segment, 0, "0").fails(EACCES)) }),
    every("shmat ENOMEM", |b| { let segment = b.segment(256 << 20)?; b.rlimit(RLIMIT_AS, 128 << 20)?; b.shmat(segment, 0, "0").fails(ENOMEM) }),
    every("shmdt EINVAL nothing there", |b| b.shmdt(FREE).fails(EINVAL)),
    every("shmdt EINVAL unaligned", |b| b.shmdt(FREE + 1).fails(EINVAL)),
    // shmctl
    every("shmctl IPC_STAT", |b| { let segment = b.segment(1)?; b.shmctl(segment, "IPC_STAT").is(0) }),
    every("shmctl IPC_STAT EFAULT", |b| { let segment = b.segment(1)?; b.unreadable().shmctl(segment, "IPC_STAT").fails(EFAULT) }),
    every("shmctl IPC_STAT EACCES", |b| { let segment = b.segment(1)?; b.unprivileged(|b| b.shmctl(segment, "IPC_STAT").fails(EACCES)) }),
    every("shmctl IPC_SET", |b| { let segment = b.segment(1)?; b.shmctl_set(segment).is(0) }),
    every("shmctl IPC_INFO", |b| b.shmctl(0, "IPC_INFO").null(&["object_id"]).succeeds().map(drop)),
    every("shmctl SHM_INFO", |b| b.shmctl(0, "SHM_INFO").null(&["object_id"]).succeeds().map(drop)),
    every("shmctl SHM_STAT", |b| { let segment = b.segment(1)?; b.shmctl(segment & 0x7fff, "SHM_STAT").finds_by_index(segment) }),
    every("shmctl SHM_STAT_ANY", |b| { let segment = b.segment(1)?; b.shmctl(segment & 0x7fff, "SHM_STAT_ANY").finds_by_index(segment) }),
    every("shmctl SHM_LOCK and SHM_UNLOCK", |b| { let segment = b.segment(4_096)?; b.shmctl(segment, "SHM_LOCK").is(0)?; b.shmctl(segment, "SHM_UNLOCK").is(0) }),
    every("limit MEMLOCK", |b| { b.rlimit(RLIMIT_MEMLOCK, 4_096)?; b.unprivileged(|b| { let segment = b.segment(8_192)?; b.shmctl(segment, "SHM_LOCK").fails(ENOMEM) }) }),
    every("limit MEMLOCK of nothing", |b| { b.rlimit(RLIMIT_MEMLOCK, 0)?; b.unprivileged(|b| { let segment = b.segment(8_192)?; b.shmctl(segment, "SHM_LOCK").fails(EPERM) }) }),
    every("shmctl SHM_LOCK EPERM not the owner", |b| { let segment = b.segment(1)?; b.unprivileged(|b| b.shmctl(segment, "SHM_LOCK").fails(EPERM)) }),
    every("shmctl IPC_RMID", |b| { let segment = b.segment(1)?; b.shmctl(segment, "IPC_RMID").is(0) }),
    every("shmctl IPC_RMID EPERM", |b| { let segment = b.segment(1)?; b.unprivileged(|b| b.shmctl(segment, "IPC_RMID").fails(EPERM)) }),
    every("shmctl EINVAL no such segment", |b| b.shmctl(0x7fff_ff00, "IPC_STAT").fails(EINVAL)),
    only(Way::Native, "shmctl EINVAL unknown command", |b| { let segment = b.segment(1)?; b.shmctl(segment, "77").without(&["command"]).fails(EINVAL) }),
];
