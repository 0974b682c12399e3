//! What each process may do from when it has what it needs.
//!
//! The capture is left with nothing: the probes are attached, their counters and slots mapped, and whatever takes a right
//! afterwards (the threads that are there, programs, binaries, objects) is asked of the helper. Capabilities belong to a
//! thread and are inherited by those it starts: both processes give theirs up while they have one thread.

use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use std::io;

/// The user who called sudo: what is written is to belong to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: Uid,
    /// The user's group.
    pub group: Gid,
}

impl Caller {
    /// `None`: there is no sudo, or it was root who called it.
    pub fn of_sudo() -> Option<Caller> {
        let id = |name| std::env::var(name).ok()?.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        let (user, group) = (id("SUDO_UID")?, id("SUDO_GID")?);
        let caller = Caller { user: Uid::from_raw(user), group: Gid::from_raw(group) };
        (geteuid().is_root() && !caller.user.is_root()).then_some(caller)
    }
}

/// The calling thread, which must be the only one, gives everything up, for ever; under sudo it goes on as the user who
/// called it, so that the files of the trace belong to them from the beginning.
///
/// # Errors
/// The kernel does not let it go.
pub fn give_up_all() -> io::Result<()> {
    bound(CapabilitySet::empty())?;
    if let Some(Caller { user, group }) = Caller::of_sudo() {
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
    }
    keep(CapabilitySet::empty())
}

/// The calling thread, which must be the only one, keeps what it has of `wanted`, and nothing else, for ever.
///
/// # Errors
/// The kernel does not let it go.
pub fn keep_only(wanted: CapabilitySet) -> io::Result<()> {
    bound(wanted)?;
    keep(wanted)
}

/// Whether the kernel lets the calling thread load programs that trace; CAP_SYS_ADMIN stands for both.
pub fn may_load() -> bool {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    held.contains(CapabilitySet::SYS_ADMIN) || held.contains(CapabilitySet::BPF | CapabilitySet::PERFMON)
}

fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let kept = capabilities(None)?.permitted & wanted;
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {} // before Linux 4.3 there are none
        Err(error) => return Err(error.into()),
    }
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    Ok(set_no_new_privs(true)?)
}

/// Takes everything else out of what a program that it executed could ever have: who may not (CAP_SETPCAP) executes none
/// that could.
fn bound(wanted: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !wanted.contains(one) => match remove_capability_from_bounding_set(one) {
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            },
            Ok(_) => {}
            Err(_) => break, // the kernel has no more
        }
    }
    Ok(())
}
