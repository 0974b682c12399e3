//! An object of any kind, made, used and removed.

use super::plan::Plan;
use crate::Result;
use crate::call::{Attributes, Caller, Message, Outcome, QueueName, id, sop, succeed};
use crate::context::Context;
use crate::guard::Kind;
use libc::{IPC_CREAT, IPC_EXCL, O_CREAT, O_EXCL, O_RDWR};

/// How long a message of a POSIX queue may be, bytes.
pub(super) const POSIX_BYTES: usize = 64;

/// An object as `--object` of the analyzer takes it, and as its calls do.
pub(super) struct Object {
    pub(super) kind: Kind,
    /// For a POSIX queue the descriptor.
    pub(super) id: i32,
    pub(super) name: Option<QueueName>,
}

/// System V alone.
pub(super) const SYSTEM_V: [(&str, Kind); 3] = [("sem", Kind::Sem), ("shm", Kind::Shm), ("msg", Kind::Msg)];

/// Every kind.
pub(super) const KINDS: [(&str, Kind); 4] =
    [("sem", Kind::Sem), ("shm", Kind::Shm), ("msg", Kind::Msg), ("mq", Kind::Mq)];

/// Both kinds of queues.
pub(super) const QUEUES: [(&str, Kind); 2] = [("msg", Kind::Msg), ("mq", Kind::Mq)];

/// A set as `--object` takes it.
pub(super) fn set_text(set: i32) -> String {
    format!("sem:{set}")
}

/// Draws a key that no other run of the seed's has.
pub(super) fn draw_key(plan: &mut Plan) -> i32 {
    let drawn = plan.number("key", 0x1000..=0x7fff) as i32;
    // The process is in it: several runs of one seed may go on at a time.
    drawn << 16 | (crate::process::own_pid() & 0xffff)
}

impl Object {
    /// Makes one that nobody else knows: 1 call.
    pub(super) fn private(context: &Context, caller: &mut Caller, kind: Kind, label: &str) -> Result<Object> {
        Object::make(context, caller, kind, libc::IPC_PRIVATE, 0o600, label)
    }

    /// Makes one by a key or, a POSIX queue, by a name of its own: 1 call. The guard knows of it.
    pub(super) fn make(
        context: &Context,
        caller: &mut Caller,
        kind: Kind,
        key: i32,
        mode: i32,
        label: &str,
    ) -> Result<Object> {
        let flags = IPC_CREAT | IPC_EXCL | mode;
        let made = match kind {
            Kind::Sem => id("semget", caller.semget(key, 1, flags))?,
            Kind::Shm => id("shmget", caller.shmget(key, 4096, flags))?,
            Kind::Msg => id("msgget", caller.msgget(key, flags))?,
            Kind::Mq => return Object::make_posix(context, caller, label, 8),
        };
        context.guard.add(kind, made)?;
        Ok(Object { kind, id: made, name: None })
    }

    /// Makes a POSIX queue for so many messages: 1 mq_open.
    pub(super) fn make_posix(context: &Context, caller: &mut Caller, label: &str, room: i64) -> Result<Object> {
        let name = QueueName::own(label);
        context.guard.add_queue(name.as_str())?;
        let attributes = Attributes::room(room, POSIX_BYTES as i64);
        let id = id("mq_open", caller.mq_open(&name, O_CREAT | O_EXCL | O_RDWR, Some(&attributes)))?;
        Ok(Object { kind: Kind::Mq, id, name: Some(name) })
    }

    /// As `--object` takes it.
    pub(super) fn text(&self) -> String {
        match (self.kind, &self.name) {
            (Kind::Sem, _) => set_text(self.id),
            (Kind::Shm, _) => format!("shm:{}", self.id),
            (Kind::Msg, _) => format!("msg:{}", self.id),
            (Kind::Mq, name) => format!("mq:/{}", name.as_ref().map_or("", QueueName::as_str)),
        }
    }

    /// Uses it and leaves it as it was: 2 calls.
    pub(super) fn work(&self, caller: &mut Caller) -> Result<()> {
        match self.kind {
            Kind::Sem => {
                succeed("semop", caller.semop(self.id, &[sop(0, 1, 0)]))?;
                succeed("semop", caller.semop(self.id, &[sop(0, -1, 0)]))?;
            }
            Kind::Shm => {
                let address = succeed("shmat", caller.shmat(self.id, 0, 0))?;
                succeed("shmdt", caller.shmdt(address as u64))?;
            }
            Kind::Msg | Kind::Mq => {
                succeed("sending", self.send(caller, 1))?;
                succeed("receiving", self.receive(caller, 0))?;
            }
        }
        Ok(())
    }

    /// Sends 16 bytes of a type or, to a POSIX queue, of a priority: 1 call; waits where there is no room.
    pub(super) fn send(&self, caller: &mut Caller, kind: u32) -> Outcome {
        match self.kind {
            Kind::Mq => caller.mq_send(self.id, &[b'x'; 16], kind, None),
            _ => caller.msgsnd(self.id, &Message::new(kind.into()), 16, 0),
        }
    }

    /// Receives a message, of a System V queue one of this type (0: any): 1 call; waits where there is none.
    pub(super) fn receive(&self, caller: &mut Caller, kind: i64) -> Outcome {
        match self.kind {
            Kind::Mq => caller.mq_receive(self.id, &mut [0; POSIX_BYTES], None, None),
            _ => caller.msgrcv(self.id, &mut Message::new(0), 256, kind, 0),
        }
    }

    /// The same queue by a descriptor of this process' own: 1 mq_open; of System V nothing.
    pub(super) fn open(&self, caller: &mut Caller) -> Result<Object> {
        let Some(name) = &self.name else { return Ok(Object { kind: self.kind, id: self.id, name: None }) };
        let id = id("mq_open", caller.mq_open(name, O_RDWR, None))?;
        Ok(Object { kind: self.kind, id, name: Some(QueueName::literal(name.as_str())) })
    }

    /// Closes the descriptor of a POSIX queue: no call that a trace would hold.
    pub(super) fn close(&self) {
        if self.kind == Kind::Mq {
            // SAFETY: the descriptor is this object's own.
            unsafe { libc::close(self.id) };
        }
    }

    /// Removes it: 1 call.
    pub(super) fn remove(&self, caller: &mut Caller) -> Result<()> {
        let removed = match (self.kind, &self.name) {
            (Kind::Sem, _) => caller.sem_remove(self.id),
            (Kind::Shm, _) => caller.shm_remove(self.id),
            (Kind::Msg, _) => caller.msg_remove(self.id),
            (Kind::Mq, Some(name)) => caller.mq_unlink(name),
            (Kind::Mq, None) => Err(libc::ENOENT),
        };
        succeed("removing", removed).map(drop)
    }
}
