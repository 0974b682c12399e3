//! The IPC namespaces that processes live in, and the way into them.

use super::Withheld;
use rustix::fs::{Mode, OFlags, fstat, open, stat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// What may be withheld.
pub const FEATURE: &str = "snapshots of other IPC namespaces";

const REMEDY: &str = "run as root: it takes CAP_SYS_PTRACE to see namespaces and CAP_SYS_ADMIN to enter them";

/// Calls `look` with the inode of each namespace while the calling thread is in it. One that cannot be entered is noted
/// and left out.
pub fn visit(withheld: &mut Withheld, mut look: impl FnMut(u32, &mut Withheld)) {
    let home = match Link::open("/proc/thread-self/ns/ipc") {
        Ok(home) => home,
        Err(error) => return withheld.note("snapshots", format!("/proc/thread-self/ns/ipc: {error}"), "mount /proc"),
    };
    let home_inode = home.inode;
    let mut here = home_inode;
    let mut links = BTreeMap::from([(home.inode, home.descriptor)]);
    find(&mut links, withheld);
    for (inode, descriptor) in &links {
        if here != *inode {
            if let Err(error) = enter(descriptor) {
                withheld.note(FEATURE, format!("setns: {error}"), REMEDY);
                continue;
            }
            here = *inode;
        }
        look(*inode, withheld);
    }
    if here != home_inode
        && let Err(error) = enter(&links[&home_inode])
    {
        withheld.note("the way back from a snapshot", format!("setns: {error}"), REMEDY);
    }
}

fn enter(descriptor: impl AsFd) -> rustix::io::Result<()> {
    move_into_link_name_space(descriptor.as_fd(), Some(LinkNameSpaceType::InterProcessCommunication))
}

/// An open link to a namespace: as long as it is open, no other namespace gets the same inode.
struct Link {
    inode: u32,
    descriptor: OwnedFd,
}

impl Link {
    fn open(path: &str) -> rustix::io::Result<Self> {
        let descriptor = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let inode = fstat(&descriptor)?.st_ino as u32;
        Ok(Link { inode, descriptor })
    }
}

/// Adds a link to every namespace that a process lives in. A process that ends meanwhile is skipped.
fn find(links: &mut BTreeMap<u32, OwnedFd>, withheld: &mut Withheld) {
    for pid in numbers("/proc") {
        let found = match add(links, &format!("/proc/{pid}/ns/ipc")) {
            // A leader that ended before its threads lives in no namespace; they do.
            Err(Errno::NOENT) => numbers(&format!("/proc/{pid}/task"))
                .find_map(|tid| add(links, &format!("/proc/{pid}/task/{tid}/ns/ipc")).ok())
                .ok_or(Errno::NOENT),
            found => found,
        };
        if let Err(error) = found
            && !matches!(error, Errno::NOENT | Errno::SRCH)
        {
            withheld.note(FEATURE, format!("/proc/{pid}/ns/ipc: {error}"), REMEDY);
        }
    }
}

fn add(links: &mut BTreeMap<u32, OwnedFd>, path: &str) -> rustix::io::Result<()> {
    if !links.contains_key(&(stat(path)?.st_ino as u32)) {
        let link = Link::open(path)?;
        links.insert(link.inode, link.descriptor);
    }
    Ok(())
}

/// The entries of a folder of `/proc` that are numbers: processes, threads.
pub fn numbers(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
