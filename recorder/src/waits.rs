//! Who ended a wait.
//!
//! `sched_waking` names the task that ran when a thread was woken. That is the waker only when it was itself inside a
//! call on the same object, sending a signal, or exiting (SEM_UNDO): on a timeout an interrupt woke the thread and the
//! task that ran was an innocent bystander, which may be inside a call of its own. So the return value decides what
//! kind of waking it was, and only then the task is believed.

use crate::call::{Call, Outcome};
use ipc_schema::catalogue::Family;
use ipc_schema::flags;

/// The wakings of one call.
#[derive(Clone, Debug, Default)]
pub struct Wait {
    /// How many.
    pub wakings: i32,
    /// The last; CLOCK_BOOTTIME nanoseconds.
    pub last_ns: u64,
    /// What the task that ran at the last one was doing.
    pub candidate: Candidate,
    /// The CPU that the last waking happened on.
    pub cpu: u16,
    /// Who sent the signal that the last waking was for, if it was for one; `None` in it: no task did.
    pub sender: Option<Option<Waker>>,
    /// Who ended the wait, once the call has ended.
    pub ended_by: Option<(Reason, Option<Waker>)>,
}

/// A task that may have woken another.
#[derive(Clone, Debug, Default)]
pub enum Candidate {
    /// It did nothing that wakes: a bystander.
    #[default]
    Bystander,
    /// It was exiting.
    Exiting(Waker),
    /// It was inside this call.
    Inside(Box<Inside>),
}

/// A task inside a call.
#[derive(Clone, Debug)]
pub struct Inside {
    waker: Waker,
    family: Family,
    object: Option<(Option<u32>, i64)>,
    removes: bool,
}

/// Who ended a wait, and in which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waker {
    /// Joins processes.
    pub process_id: i64,
    /// Joins threads.
    pub thread_id: i64,
    /// Joins calls.
    pub call_id: Option<i64>,
    /// Name of the thread.
    pub comm: [u8; 16],
    /// Operation of the call.
    pub operation: Option<&'static str>,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A call of another thread on the same object.
    Peer,
    /// The object was removed.
    Removed,
    /// A process ended, and its SEM_UNDO was applied.
    Exit,
    /// A signal.
    Signal,
    /// The time was over.
    Timeout,
    /// Not known.
    Unknown,
}

impl Reason {
    /// The value of the column `wake_reason`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Peer => "peer",
            Reason::Removed => "removed",
            Reason::Exit => "exit",
            Reason::Signal => "signal",
            Reason::Timeout => "timeout",
            Reason::Unknown => "unknown",
        }
    }
}

impl Inside {
    /// The task is inside `call`.
    pub fn of(call: &Call) -> Inside {
        let waker = Waker {
            process_id: call.process_id,
            thread_id: call.thread_id,
            call_id: Some(call.call_id),
            comm: call.identity.comm,
            operation: Some(call.operation()),
        };
        let removes = call.command() == Some("IPC_RMID");
        Inside { waker, family: call.family(), object: object_of(call), removes }
    }
}

/// The object that a call works on, as far as it says itself.
fn object_of(call: &Call) -> Option<(Option<u32>, i64)> {
    match call.queue() {
        Some(queue) => Some((Some(queue.ipc_ns), queue.inode as i64)),
        None if call.int(ipc_schema::catalogue::Meaning::ObjectId).is_some() => {
            Some((call.identity.ipc_ns, call.object_id()?))
        }
        None => None,
    }
}

/// Whether a call that has ended was woken by a signal whose record is still to come: the woken thread can be faster than
/// the tracepoint behind its waking.
pub fn awaits_signal(call: &Call) -> bool {
    kind_of(call) == Reason::Signal && call.wait.as_ref().is_some_and(|w| w.sender.is_none())
}

/// Decides who ended the wait of a call that has ended, if it waited.
pub fn decide(call: &mut Call) {
    let Some(mut wait) = call.wait.take() else { return };
    let ended_by = match kind_of(call) {
        Reason::Timeout => (Reason::Timeout, None),
        Reason::Signal => (Reason::Signal, sender(&wait)),
        Reason::Removed => (Reason::Removed, inside(call, &wait).filter(|i| i.removes).map(|i| i.waker.clone())),
        Reason::Peer => ended_by_peer(call, &wait),
        reason => (reason, None),
    };
    wait.ended_by = Some(ended_by);
    call.wait = Some(wait);
}

/// What the return value says of the waking; `Peer` stands for success, whoever brought it about.
fn kind_of(call: &Call) -> Reason {
    let error = call.ret.and_then(flags::errno_name);
    match (call.outcome, error) {
        (Outcome::Killed, _) | (_, Some("EINTR")) => Reason::Signal,
        (_, Some("EAGAIN" | "ETIMEDOUT")) => Reason::Timeout,
        (_, Some("EIDRM")) => Reason::Removed,
        (_, Some(_)) => Reason::Unknown,
        (_, None) if call.operation() == "sigtimedwait" => Reason::Signal,
        (_, None) => Reason::Peer,
    }
}

/// The call that the task was in, if it was on the same object.
fn inside<'a>(call: &Call, wait: &'a Wait) -> Option<&'a Inside> {
    match &wait.candidate {
        Candidate::Inside(inside) if inside.family == call.family() && inside.object == object_of(call) => Some(inside),
        _ => None,
    }
}

/// Who sent the signal, and in which call, if it was one (a message that mq_notify asked to hear of).
fn sender(wait: &Wait) -> Option<Waker> {
    let sender = wait.sender.as_ref()?.as_ref()?;
    Some(match &wait.candidate {
        Candidate::Inside(inside) if inside.waker.thread_id == sender.thread_id => inside.waker.clone(),
        _ => sender.clone(),
    })
}

fn ended_by_peer(call: &Call, wait: &Wait) -> (Reason, Option<Waker>) {
    match (&wait.candidate, inside(call, wait)) {
        (_, Some(inside)) => (Reason::Peer, Some(inside.waker.clone())),
        (Candidate::Exiting(waker), _) if call.family() == Family::Sem => (Reason::Exit, Some(waker.clone())),
        _ => (Reason::Unknown, None),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use ipc_schema::catalogue::{Abi, CATALOGUE};

    fn call(name: &str, set: u64, ret: i64) -> Call {
        let entry = CATALOGUE.iter().find(|e| e.name == name).unwrap();
        let mut call = Call::begun(7, 1_000, entry, Abi::X86_64, [set, 0, 1, 0, 0, 0]);
        call.ret = Some(ret);
        call.outcome = if ret < 0 { Outcome::Error } else { Outcome::Ok };
        call
    }

    fn waker(thread_id: i64) -> Waker {
        Waker { process_id: 1, thread_id, call_id: None, comm: *b"sender\0\0\0\0\0\0\0\0\0\0", operation: None }
    }

    /// A call that waited while `candidate` ran, ended.
    fn ended(mut call: Call, candidate: Candidate, sender: Option<Waker>) -> (Reason, Option<Waker>) {
        call.wait = Some(Box::new(Wait {
            wakings: 1,
            last_ns: 2_000,
            candidate,
            cpu: 0,
            sender: Some(sender),
            ended_by: None,
        }));
        decide(&mut call);
        call.wait.unwrap().ended_by.unwrap()
    }

    fn inside(name: &str, set: u64) -> Candidate {
        Candidate::Inside(Box::new(Inside::of(&call(name, set, 0))))
    }

    #[test]
    fn a_peer_is_inside_a_call_on_the_same_object() {
        let (reason, waker) = ended(call("semop", 5, 0), inside("semop", 5), None);
        assert_eq!((reason, waker.unwrap().call_id), (Reason::Peer, Some(7)));
        let strangers = [inside("semop", 6), inside("msgsnd", 5), Candidate::Bystander];
        for stranger in strangers {
            assert_eq!(ended(call("semop", 5, 0), stranger, None), (Reason::Unknown, None));
        }
    }

    #[test]
    fn a_bystander_of_a_timeout_is_not_believed_even_on_the_same_object() {
        let eagain = call("semtimedop", 5, -11);
        assert_eq!(ended(eagain, inside("semctl", 5), None), (Reason::Timeout, None));
        let timed_out = call("mq_timedsend", 5, -110);
        assert_eq!(ended(timed_out, Candidate::Exiting(waker(3)), None), (Reason::Timeout, None));
    }

    #[test]
    fn only_a_removal_removes() {
        let mut removal = call("semctl", 5, 0);
        removal.arguments[2] = 0; // IPC_RMID
        let removal = Candidate::Inside(Box::new(Inside::of(&removal)));
        assert!(ended(call("semop", 5, -43), removal, None).1.is_some());
        assert_eq!(ended(call("semop", 5, -43), inside("semop", 5), None), (Reason::Removed, None));
    }

    #[test]
    fn a_signal_has_its_sender_or_none() {
        let interrupted = || call("semop", 5, -4);
        assert_eq!(ended(interrupted(), inside("semop", 5), None), (Reason::Signal, None), "a timer's");
        let (reason, sender) = ended(interrupted(), Candidate::Bystander, Some(waker(9)));
        assert_eq!((reason, sender.unwrap().thread_id), (Reason::Signal, 9));
        assert_eq!(ended(call("msgsnd", 5, -514), Candidate::Bystander, None).0, Reason::Signal);
    }

    #[test]
    fn an_exit_undoes_semaphores_only() {
        let exiting = || Candidate::Exiting(waker(3));
        assert_eq!(ended(call("semop", 5, 0), exiting(), None).0, Reason::Exit);
        assert_eq!(ended(call("msgrcv", 5, 0), exiting(), None), (Reason::Unknown, None));
    }
}
