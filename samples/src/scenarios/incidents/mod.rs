//! Incidents planted on purpose: real processes that get it wrong in a known way, the numbers of it drawn from a seed; and
//! healthy programs that look much like them.
//!
//! The result has `incident`, `seed`, `parameters` (what was drawn), `expected` (the findings that an analyzer should
//! make of it, and no others), `clean` and `leaves` (the objects that stay behind: a leak is an incident, too). A finding
//! has `command`, `finding`, `objects` (it names one of them; null: whichever), `grades` (the right ones in a recording
//! of the whole system), `optional` (silence is right, too) and `says` (what its text holds).
//!
//! Where the recording must end before the incident does, the same is printed as a line of its own, with `"ends":
//! "recording"`, when all is in place; the program then ignores SIGINT and ends by SIGTERM or after a while. Exact counts:
//! those of `performed`.

mod congestion;
mod deadlocks;
mod healthy;
mod leaks;
mod limits;
mod object;
mod plan;
mod queue_deadlocks;
mod races;
mod ring;
mod signals;

use super::open::{listen, wait_to_be_told};
use crate::call::{Caller, Outcome, SemWay, sop};
use crate::context::Context;
use crate::{Failure, Result, process};
use clap::ValueEnum;
use libc::sembuf;
use plan::Plan;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// The recording is over by then, or there is none.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);

/// What goes wrong; the last ones do not.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Incident {
    /// A ring of processes, each holding a semaphore with SEM_UNDO and waiting for the next one's
    DeadlockSemaphores,
    /// The same ring, until processes of it are killed
    DeadlockKilled,
    /// The same ring, until its semaphores are removed
    DeadlockRemoved,
    /// The same ring, waiting in calls of two operations each
    DeadlockOperations,
    /// The same ring, but a process outside has posted to it before: it may again
    DeadlockOutsider,
    /// The same ring, until a process outside posts: no deadlock
    DeadlockBroken,
    /// Waiters for counting semaphores that look like a ring, but others hold units, too, and give them back
    DeadlockCounting,
    /// Two processes that each wait for the other at a queue
    DeadlockQueues,
    /// Three or more waiters at one semaphore for more than a second
    Convoy,
    /// A slow receiver: senders wait at a full queue
    BackPressure,
    /// A message that nobody takes while later ones go
    Starvation,
    /// Objects whose maker is killed before it removes them
    LeakCrash,
    /// A server that makes an object for each request, never removes one, and ends
    LeakDesign,
    /// A process that dies while it holds a semaphore taken without SEM_UNDO
    UndoLessDeath,
    /// Objects that everybody may use
    WorldAccessible,
    /// A set that a process uses before its maker has initialised it
    InitRace,
    /// A set that is initialised again while a process waits for it
    ReinitUnderWaiters,
    /// Calls on an id after its removal
    UseAfterRemoval,
    /// semget until SEMMNI is reached; as root
    Semmni,
    /// shmget beyond SHMMAX; as root
    Shmmax,
    /// mq_open until RLIMIT_MSGQUEUE is reached; as root
    RlimitMsgqueue,
    /// A user that may not open another's object; as root
    Eacces,
    /// SIGTERM sent to a program that inherited a mask which blocks it
    SigtermBlocked,
    /// Healthy: a daemon that blocks SIGTERM and takes it by sigtimedwait
    SigwaitDaemon,
    /// Healthy: a daemon that blocks SIGTERM and reads it from a signalfd
    SignalfdDaemon,
    /// Healthy: objects made by a process that ends, used and removed by others
    HandedOver,
    /// Healthy: items counted in a semaphore, which one process adds to and another takes from
    ProducerConsumer,
    /// Healthy: many waiters, and a full queue, each for a fraction of a second
    ShortWaits,
    /// Healthy: a set that is used when its maker's first operation shows that it is initialised
    InitInOrder,
}

impl Incident {
    fn cause(self) -> fn(&mut Context, &mut Plan) -> Result<()> {
        match self {
            Incident::DeadlockSemaphores => deadlocks::semaphores,
            Incident::DeadlockKilled => deadlocks::killed,
            Incident::DeadlockRemoved => deadlocks::removed,
            Incident::DeadlockOperations => deadlocks::operations,
            Incident::DeadlockOutsider => deadlocks::outsider,
            Incident::DeadlockBroken => deadlocks::broken,
            Incident::DeadlockCounting => deadlocks::counting,
            Incident::DeadlockQueues => queue_deadlocks::queues,
            Incident::Convoy => congestion::convoy,
            Incident::BackPressure => congestion::back_pressure,
            Incident::Starvation => congestion::starvation,
            Incident::LeakCrash => leaks::crash,
            Incident::LeakDesign => leaks::design,
            Incident::UndoLessDeath => leaks::undo_less_death,
            Incident::WorldAccessible => leaks::world_accessible,
            Incident::InitRace => races::init_race,
            Incident::ReinitUnderWaiters => races::reinit_under_waiters,
            Incident::UseAfterRemoval => races::use_after_removal,
            Incident::Semmni => limits::semmni,
            Incident::Shmmax => limits::shmmax,
            Incident::RlimitMsgqueue => limits::rlimit_msgqueue,
            Incident::Eacces => limits::eacces,
            Incident::SigtermBlocked => signals::sigterm_blocked,
            Incident::SigwaitDaemon => signals::sigwait_daemon,
            Incident::SignalfdDaemon => signals::signalfd_daemon,
            Incident::HandedOver => healthy::handed_over,
            Incident::ProducerConsumer => healthy::producer_consumer,
            Incident::ShortWaits => healthy::short_waits,
            Incident::InitInOrder => healthy::init_in_order,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

pub(crate) fn run(context: &mut Context, incident: Incident, seed: u64) -> Result<()> {
    context.name("incident");
    context.put("incident", incident.name());
    let mut plan = Plan::new(seed);
    incident.cause()(context, &mut plan)?;
    for (name, value) in plan.fields() {
        context.put(&name, value);
    }
    Ok(())
}

/// Says that all is in place, and lets it be until the recording is over.
fn outlast_recording(plan: &Plan) -> Result<()> {
    listen();
    // The recorder passes the first one on and ends by the second.
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let mut line = plan.fields();
    line.insert("ends".to_owned(), "recording".into());
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", Value::Object(line))
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::new(format!("cannot write to stdout: {e}")))?;
    wait_to_be_told(RECORDED_WITHIN);
    Ok(())
}

/// Adds to or takes from semaphore `number`: 1 semtimedop.
fn add(caller: &mut Caller, set: i32, number: u16, amount: i16, flags: i32) -> Result<()> {
    let outcome = caller.sem(SemWay::Libc, set, &[sop(number, amount, flags)]);
    crate::call::succeed("semop", outcome).map(drop)
}

/// A semaphore call whose end this process may not see; it is in the counts, and in no log.
fn perhaps_forever(caller: &mut Caller, entry: i64, set: i32, sops: &[sembuf]) -> Outcome {
    caller.announce(entry);
    // SAFETY: the kernel only reads `sops`; semop takes no fourth argument, and for semtimedop it is no timeout.
    unsafe { caller.unseen(entry, [set as u64, sops.as_ptr() as u64, sops.len() as u64, 0, 0, 0]) }
}

/// Kills processes, all of them before it waits for the first; some may have ended.
fn kill(pids: &[i32]) -> Result<()> {
    for pid in pids {
        // Not yet waited for, so the process id is still theirs.
        process::signal(*pid, libc::SIGKILL)?;
    }
    pids.iter().try_for_each(|pid| process::wait(*pid).map(drop))
}
