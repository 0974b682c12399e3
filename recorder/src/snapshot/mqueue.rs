//! The POSIX queues of the namespace that the calling thread is in.
//!
//! They are files of a file system that each IPC namespace has one of. It is mounted detached: on no path, in no mount
//! table, gone when its descriptor is closed.

use super::control::queue_attributes;
use super::{Object, ObjectKind, Withheld};
use ipc_schema::text;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::ffi::CStr;
use std::io;

/// What may be withheld.
pub const FEATURE: &str = "POSIX queues in snapshots";
/// What may be withheld where others are not.
pub const SOME: &str = "some POSIX queues in snapshots";

/// All queues that have a name; `None`: withheld.
pub fn read(withheld: &mut Withheld) -> Option<Vec<Object>> {
    match mount().and_then(|mount| queues(&mount, withheld)) {
        Ok(queues) => Some(queues),
        Err(error) => {
            let remedy = "run as root, on a kernel with CONFIG_POSIX_MQUEUE: it takes CAP_SYS_ADMIN to mount mqueue";
            withheld.note(FEATURE, error, remedy);
            None
        }
    }
}

fn mount() -> io::Result<OwnedFd> {
    let file_system = fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&file_system)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&file_system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn queues(mount: &OwnedFd, withheld: &mut Withheld) -> io::Result<Vec<Object>> {
    let folder = openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut queues = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if entry.file_type() == FileType::Directory {
            continue;
        }
        match queue(&folder, entry.file_name()) {
            Ok(queue) => queues.push(queue),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {} // unlinked meanwhile
            Err(error) => {
                let remedy = "run as root: it takes CAP_DAC_OVERRIDE to open the queues of others";
                withheld.note(SOME, error, remedy);
            }
        }
    }
    Ok(queues)
}

fn queue(folder: &OwnedFd, name: &CStr) -> io::Result<Object> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty())?;
    let state = fstat(&file)?;
    let attributes = queue_attributes(&file)?;
    let mut text = [0; 128];
    let length = rustix::io::read(&file, &mut text)?;
    Ok(Object {
        name: Some(format!("/{}", text::of_bytes(name.to_bytes()))),
        owner_uid: Some(state.st_uid.into()),
        mode: Some((state.st_mode & 0o777) as i32),
        use_ns: Some(state.st_mtime * 1_000_000_000 + state.st_mtime_nsec as i64),
        messages: Some(attributes.mq_curmsgs),
        queued_bytes: queued_bytes(&text[..length]),
        max_messages: Some(attributes.mq_maxmsg),
        max_message_bytes: Some(attributes.mq_msgsize),
        ..Object::new(ObjectKind::Mq, state.st_ino as i64)
    })
}

/// The number of `QSIZE:129     NOTIFY:2    SIGNO:0    NOTIFY_PID:8260`, see mq_overview(7).
fn queued_bytes(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.strip_prefix("QSIZE:")?.split_whitespace().next()?.parse().ok()
}
