//! Waits that end by their timeout, beside busy bystanders on every CPU: nobody wakes them.
//!
//! Exact counts for W waiters and COUNT waits each, without the bystanders: 1 semget, 1 semctl (IPC_RMID), 1 mq_open,
//! 1 mq_unlink, and in turn semtimedop (EAGAIN), mq_timedreceive (ETIMEDOUT), sigtimedwait (EAGAIN). The bystanders are
//! in `bystanders`, the waiters in `waiters`; `switched` has for each waiter in how many waits the
//! kernel counted a voluntary context switch, which is a sleep. Each wait is given 1 ms: a relative timeout is never shorter, a deadline may be.

use super::crowd::Crowd;
use super::{make_set, remove_set};
use crate::call::{Attributes, Caller, QueueName, bit, deadline, fail, id, sop, succeed};
use crate::context::Context;
use crate::{Result, board, process};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(1);

fn wait_once(caller: &mut Caller, kind: u64, set: i32, queue: i32) -> Result<()> {
    match kind {
        0 => fail("semtimedop", caller.semtimedop(set, &[sop(0, -1, 0)], TIMEOUT), libc::EAGAIN),
        1 => {
            let until = deadline(TIMEOUT);
            fail("mq_timedreceive", caller.mq_receive(queue, &mut [0; 64], None, Some(&until)), libc::ETIMEDOUT)
        }
        _ => fail("sigtimedwait", caller.sigtimedwait(bit(libc::SIGUSR2), TIMEOUT, 8), libc::EAGAIN),
    }
}

fn work(context: &Context, set: i32, queue: i32, count: u64, switched: &AtomicI64) -> Result<()> {
    let mut caller = context.caller(count);
    for turn in 0..count {
        let before = process::voluntary_switches();
        wait_once(&mut caller, turn % 3, set, queue)?;
        switched.fetch_add(i64::from(process::voluntary_switches() > before), Ordering::Relaxed);
    }
    caller.finish()
}

/// `waiters` processes; they wait for a semaphore that nobody raises, and an empty queue.
fn wait(context: &mut Context, caller: &mut Caller, count: u64, waiters: u16) -> Result<()> {
    let set = make_set(context, caller, 1)?;
    let name = QueueName::own("timeouts");
    context.guard.add_queue(name.as_str())?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let queue = id("mq_open", caller.mq_open(&name, flags, Some(&Attributes::room(1, 64))))?;
    let switched = board::new(waiters.into())?;
    let mut pids = Vec::new();
    for own in switched {
        pids.push(process::fork(context, |context| work(context, set, queue, count, own))?);
    }
    let worked = process::wait_all(&pids);
    remove_set(caller, set)?;
    succeed("mq_unlink", caller.mq_unlink(&name))?;
    context.put("waiters", pids);
    context.put("switched", switched.iter().map(board::read).collect::<Vec<_>>());
    worked
}

pub(crate) fn run(context: &mut Context, count: u64, waiters: u16) -> Result<()> {
    context.name("timeouts");
    let mut caller = context.caller(4);
    let crowd = Crowd::start(context)?;
    context.put("bystanders", crowd.pids());
    let waited = wait(context, &mut caller, count, waiters);
    crowd.dismiss()?;
    waited?;
    caller.finish()
}
