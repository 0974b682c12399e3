//! The objects and their lifetimes: which object a call worked on, who made it, who removed it.
//!
//! An id is one object for one lifetime only: ids recur, and every IPC namespace has its own. A call is joined to the
//! lifetime that its id meant when it began.

use crate::call::{Call, Outcome, QueueIdentity};
use ipc_schema::catalogue::{Family, Meaning};
use ipc_schema::flags;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Which object: IPC namespace (0: unknown), kind, id or inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Inode of the IPC namespace; 0: unknown.
    pub ipc_ns: u32,
    /// What it is.
    pub family: Family,
    /// semid, shmid, msqid; inode of a POSIX queue.
    pub id: i64,
}

/// One lifetime of an object. Times are CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug)]
pub struct Lifetime {
    /// Unique in the trace.
    pub object_ref: i64,
    /// Which object.
    pub identity: Identity,
    /// System V key.
    pub key: Option<i32>,
    /// Name of a POSIX queue.
    pub name: Option<Arc<str>>,
    /// Who made it.
    pub created: Option<Deed>,
    /// Who removed it.
    pub removed: Option<Deed>,
    /// How it is known.
    pub how_known: HowKnown,
    first_seen_ns: u64,
}

/// What a call did to an object.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    /// The end of the call.
    pub time_ns: u64,
    /// Joins processes.
    pub process_id: i64,
    /// Joins calls.
    pub call_id: i64,
}

impl Deed {
    fn of(call: &Call) -> Deed {
        let time_ns = call.end_ns.unwrap_or(call.start_ns);
        Deed { time_ns, process_id: call.process_id, call_id: call.call_id }
    }
}

/// How a lifetime is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HowKnown {
    /// Its making was seen.
    Seen,
    /// A snapshot listed it.
    Snapshot,
    /// A call used it.
    Inferred,
}

impl HowKnown {
    /// The value of the column `how_known`.
    pub fn name(self) -> &'static str {
        match self {
            HowKnown::Seen => "seen",
            HowKnown::Snapshot => "snapshot",
            HowKnown::Inferred => "inferred",
        }
    }
}

/// How many queues without a name are remembered: their descriptors may outlive them.
const MOST_UNLINKED: usize = 65_536;

/// Every object that lives, as far as the trace knows.
#[derive(Default)]
pub struct Objects {
    living: FxHashMap<Identity, Lifetime>,
    /// Queues by namespace and name.
    names: FxHashMap<(u32, Arc<str>), Identity>,
    /// Queues whose names are gone but which may still be open.
    unlinked: FxHashMap<Identity, Lifetime>,
    last_ref: i64,
    /// Those that are not as they were told last.
    untold: FxHashSet<Identity>,
    /// Namespaces of which a snapshot told every object that was there at the start.
    visited: FxHashSet<u32>,
    /// Whether it told those of every namespace.
    visited_all: bool,
    /// Lifetimes that ended since they were last taken.
    pub ended: Vec<Lifetime>,
}

impl Objects {
    /// A call begins: the lifetime that its id means now.
    pub fn begin(&mut self, call: &mut Call) {
        if let Some(identity) = identity_of(call) {
            let lifetime = self.living.get(&identity).or_else(|| self.unlinked.get(&identity));
            call.object_ref = lifetime.map(|l| l.object_ref);
            name_queue(call, lifetime);
        }
    }

    /// A call has ended, or is still open at the end of the recording.
    pub fn end(&mut self, call: &mut Call) {
        if call.argument(Meaning::Key).is_some() || is_opening(call) {
            self.end_get(call);
        } else if call.operation() == "mq_unlink" {
            self.end_unlink(call);
        } else {
            let is_new = call.object_ref.is_none() && proves_existence(call);
            let is_removal = call.command() == Some("IPC_RMID") && call.success().is_some();
            let Some(identity) = (if is_new || is_removal { identity_of(call) } else { None }) else { return };
            if is_new {
                let lifetime = self.lifetime(identity, HowKnown::Inferred, call.start_ns);
                call.object_ref = Some(lifetime.object_ref);
                let lifetime = lifetime.clone();
                name_queue(call, Some(&lifetime));
            }
            if is_removal {
                self.remove(identity, Deed::of(call));
            }
        }
    }

    fn end_get(&mut self, call: &mut Call) {
        if call.success().is_none() {
            return;
        }
        let Some(identity) = identity_of(call) else { return };
        // Who met it while this call was on its way met what this call, or one beside it, made.
        let was_there = |l: &Lifetime| l.created.is_some() || l.first_seen_ns < call.start_ns;
        let is_known = self.living.get(&identity).is_some_and(was_there);
        let is_complete = self.visited_all || self.visited.contains(&identity.ipc_ns);
        call.created = call.created_by_arguments().or(match (is_known, is_complete) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        });
        if call.created == Some(true) {
            self.create(identity, call);
        }
        let lifetime = self.lifetime(identity, HowKnown::Inferred, call.start_ns);
        lifetime.key = lifetime.key.or(call.int(Meaning::Key));
        lifetime.name = lifetime.name.take().or_else(|| call.object_name());
        call.object_ref = Some(lifetime.object_ref);
        if let Some(name) = lifetime.name.clone() {
            self.names.insert((call.identity.ipc_ns.unwrap_or(0), name), identity);
        }
    }

    /// Notes who made an object. Whoever used it before the making was seen to end used the same object.
    fn create(&mut self, identity: Identity, call: &Call) {
        let is_older = |l: &Lifetime| l.created.is_some() || l.first_seen_ns < call.start_ns;
        if self.living.get(&identity).is_some_and(is_older) {
            // Its removal was not seen.
            self.ended.extend(self.living.remove(&identity));
        }
        let lifetime = self.lifetime(identity, HowKnown::Seen, call.start_ns);
        lifetime.created = Some(Deed::of(call));
        lifetime.how_known = HowKnown::Seen;
    }

    fn end_unlink(&mut self, call: &mut Call) {
        let Some(name) = call.object_name() else { return };
        let Some(identity) = self.names.get(&(call.identity.ipc_ns.unwrap_or(0), name.clone())).copied() else {
            return;
        };
        let Some(lifetime) = self.living.get_mut(&identity) else { return };
        call.object_ref = Some(lifetime.object_ref);
        call.queue_identity = Some(Box::new(QueueIdentity { inode: Some(identity.id as u64), name: None }));
        if call.success().is_some() {
            self.names.remove(&(call.identity.ipc_ns.unwrap_or(0), name));
            lifetime.removed = Some(Deed::of(call));
            if self.unlinked.len() == MOST_UNLINKED {
                self.unlinked.clear();
            }
            // Those who have it open go on using it.
            self.unlinked.insert(identity, lifetime.clone());
            self.ended.extend(self.living.remove(&identity));
        }
    }

    fn remove(&mut self, identity: Identity, deed: Deed) {
        if let Some(mut lifetime) = self.living.remove(&identity) {
            lifetime.removed = Some(deed);
            self.ended.push(lifetime);
        }
    }

    /// The lifetime that lives under an identity; a new one if there is none.
    fn lifetime(&mut self, identity: Identity, how_known: HowKnown, seen_ns: u64) -> &mut Lifetime {
        self.untold.insert(identity);
        self.living.entry(identity).or_insert_with(|| {
            self.last_ref += 1;
            Lifetime {
                object_ref: self.last_ref,
                identity,
                key: None,
                name: None,
                created: None,
                removed: None,
                how_known,
                first_seen_ns: seen_ns,
            }
        })
    }

    /// A snapshot that ended at `end_ns` listed an object: it was there by then.
    pub fn listed(&mut self, identity: Identity, key: Option<i32>, name: Option<&str>, end_ns: u64) -> i64 {
        let lifetime = self.lifetime(identity, HowKnown::Snapshot, end_ns);
        lifetime.key = lifetime.key.or(key);
        lifetime.name = lifetime.name.take().or_else(|| name.map(Into::into));
        if lifetime.how_known == HowKnown::Inferred {
            lifetime.how_known = HowKnown::Snapshot;
        }
        let object_ref = lifetime.object_ref;
        if let Some(name) = lifetime.name.clone() {
            self.names.insert((identity.ipc_ns, name), identity);
        }
        object_ref
    }

    /// The first snapshot told every object of these namespaces: what is met now and was not in it is new.
    pub fn visited(&mut self, namespaces: impl Iterator<Item = u32>, all: bool) {
        self.visited.extend(namespaces);
        self.visited_all = all;
    }

    /// A namespace was made, and was empty: what its inode meant before is gone with the namespace that had it. A snapshot
    /// that was under way may already have met what is in it.
    pub fn new_namespace(&mut self, ipc_ns: u32, made_ns: u64) {
        let is_gone = |identity: &Identity, l: &mut Lifetime| identity.ipc_ns == ipc_ns && l.first_seen_ns < made_ns;
        let gone = self.living.extract_if(is_gone).map(|(_, lifetime)| lifetime);
        self.ended.extend(gone);
        self.names.retain(|_, identity| identity.ipc_ns != ipc_ns || self.living.contains_key(identity));
        self.unlinked.retain(|identity, _| identity.ipc_ns != ipc_ns);
        self.visited.insert(ipc_ns);
    }

    /// The lifetimes that go on: those that are not as they were told last, or all.
    pub fn living(&mut self, all: bool) -> Vec<Lifetime> {
        let mut identities = std::mem::take(&mut self.untold);
        if all {
            identities.extend(self.living.keys());
        }
        identities.iter().filter_map(|identity| self.living.get(identity)).cloned().collect()
    }

    /// The recording is over: every lifetime that goes on.
    pub fn finish(&mut self) {
        let mut living: Vec<Lifetime> = self.living.drain().map(|(_, l)| l).collect();
        living.sort_by_key(|l| l.object_ref);
        self.ended.append(&mut living);
    }
}

/// The object of a call, as far as its arguments or its result tell.
fn identity_of(call: &Call) -> Option<Identity> {
    let family = call.family();
    family.object_kind()?;
    let ipc_ns = call.queue().map(|q| q.ipc_ns).filter(|ns| *ns != 0).or(call.identity.ipc_ns).unwrap_or(0);
    Some(Identity { ipc_ns, family, id: call.object_id()? })
}

fn is_opening(call: &Call) -> bool {
    call.operation() == "mq_open"
}

/// Whether the way a call ended, or did not, tells that its object was there.
fn proves_existence(call: &Call) -> bool {
    let error = call.ret.and_then(flags::errno_name);
    match call.outcome {
        Outcome::Ok | Outcome::Open | Outcome::Killed => true,
        Outcome::Error => {
            !matches!(error, Some("EINVAL" | "EFAULT" | "ENOSYS" | "EBADF" | "EPERM" | "E2BIG" | "ENOMEM"))
        }
    }
}

fn name_queue(call: &mut Call, lifetime: Option<&Lifetime>) {
    if call.family() == Family::Mq
        && let Some(name) = lifetime.and_then(|l| l.name.clone())
    {
        call.queue_identity = Some(Box::new(QueueIdentity { inode: None, name: Some(name) }));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use ipc_schema::catalogue::{Abi, CATALOGUE};

    const CREATE: u64 = 0o1000;
    const EXCLUSIVE: u64 = 0o3000;

    fn call(name: &str, start_ns: u64, arguments: [u64; 6], ret: i64) -> Call {
        let entry = CATALOGUE.iter().find(|e| e.name == name).unwrap();
        let mut call = Call::begun(start_ns as i64, start_ns, entry, Abi::X86_64, arguments);
        call.identity.ipc_ns = Some(1);
        call.end_ns = Some(start_ns + 5);
        call.ret = Some(ret);
        call.outcome = if ret < 0 { Outcome::Error } else { Outcome::Ok };
        call
    }

    fn done(objects: &mut Objects, mut call: Call) -> Call {
        objects.begin(&mut call);
        objects.end(&mut call);
        call
    }

    fn get(objects: &mut Objects, start_ns: u64, flags: u64, id: i64) -> Call {
        done(objects, call("semget", start_ns, [77, 1, flags, 0, 0, 0], id))
    }

    fn remove(objects: &mut Objects, start_ns: u64, id: u64) {
        done(objects, call("semctl", start_ns, [id, 0, 0, 0, 0, 0], 0));
    }

    #[test]
    fn an_id_that_recurs_is_another_lifetime() {
        let mut objects = Objects::default();
        let first = get(&mut objects, 10, EXCLUSIVE, 3);
        remove(&mut objects, 20, 3);
        let second = get(&mut objects, 30, EXCLUSIVE, 3);
        assert_ne!(first.object_ref, second.object_ref);
        let ended = objects.ended.pop().unwrap();
        assert_eq!((ended.created.unwrap().call_id, ended.removed.unwrap().call_id), (10, 20));
    }

    #[test]
    fn a_removal_that_nobody_saw_ends_with_the_next_making() {
        let mut objects = Objects::default();
        let first = get(&mut objects, 10, EXCLUSIVE, 3);
        let second = get(&mut objects, 30, EXCLUSIVE, 3);
        assert_ne!(first.object_ref, second.object_ref);
        assert!(objects.ended[0].removed.is_none());
    }

    #[test]
    fn a_wait_belongs_to_the_object_it_began_on() {
        let mut objects = Objects::default();
        let made = get(&mut objects, 10, EXCLUSIVE, 3);
        let mut waiting = call("semop", 12, [3, 0, 1, 0, 0, 0], -43);
        objects.begin(&mut waiting);
        remove(&mut objects, 20, 3);
        get(&mut objects, 30, EXCLUSIVE, 3);
        objects.end(&mut waiting);
        assert_eq!(waiting.object_ref, made.object_ref);
    }

    #[test]
    fn who_made_it_is_told_by_what_was_there() {
        let mut objects = Objects::default();
        assert_eq!(get(&mut objects, 10, CREATE, 3).created, None, "it may be older than the trace");
        let mut objects = Objects::default();
        objects.visited([1].into_iter(), false);
        assert_eq!(get(&mut objects, 10, CREATE, 3).created, Some(true));
        assert_eq!(get(&mut objects, 20, CREATE, 3).created, Some(false));
        // A snapshot that ended after the call began may have met what the call made.
        let identity = Identity { ipc_ns: 1, family: Family::Sem, id: 4 };
        objects.listed(identity, Some(77), None, 35);
        assert_eq!(get(&mut objects, 30, CREATE, 4).created, Some(true));
    }

    #[test]
    fn a_failed_call_proves_nothing_unless_its_errno_does() {
        let mut objects = Objects::default();
        let invalid = done(&mut objects, call("semop", 10, [9, 0, 1, 0, 0, 0], -22));
        assert_eq!(invalid.object_ref, None);
        let denied = done(&mut objects, call("semop", 10, [9, 0, 1, 0, 0, 0], -13));
        assert!(denied.object_ref.is_some());
    }

    #[test]
    fn a_new_namespace_with_an_old_inode_is_empty() {
        let mut objects = Objects::default();
        let old = get(&mut objects, 10, CREATE, 0);
        objects.new_namespace(1, 15);
        let new = get(&mut objects, 20, CREATE, 0);
        assert_ne!(old.object_ref, new.object_ref);
        assert_eq!(new.created, Some(true));
    }

    #[test]
    fn a_snapshot_that_was_under_way_met_the_new_namespace() {
        let mut objects = Objects::default();
        let identity = Identity { ipc_ns: 1, family: Family::Sem, id: 0 };
        let listed = objects.listed(identity, Some(77), None, 35);
        objects.new_namespace(1, 20);
        let made = get(&mut objects, 30, CREATE, 0);
        assert_eq!((made.object_ref, made.created), (Some(listed), Some(true)));
    }
}
