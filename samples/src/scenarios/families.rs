//! A little of every family, in one thread: what one round makes of each stands in `families/*.rs`.
//!
//! Exact counts for COUNT rounds, each times COUNT: semget 1, semctl 7, semtimedop 14, semop 2, shmget 1, shmat 2,
//! shmdt 2, shmctl 2, msgget 1, msgsnd 3, msgrcv 3, msgctl 2, mq_open 1, mq_timedsend 2, mq_notify 2, mq_getsetattr 1,
//! mq_timedreceive 2, mq_unlink 1, sigprocmask 4, sigaction 3, sigpending 1, sigtimedwait 2, signalfd 2, sigsuspend 1:
//! 62 calls. Three of them fail: semtimedop and sigtimedwait with EAGAIN, sigsuspend with EINTR.

use crate::Result;
use crate::context::Context;
use crate::families::{mq, msg, sem, shm, sig};

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("families");
    sig::prepare();
    let mut caller = context.caller(62 * count);
    for _ in 0..count {
        sem::round(context, &mut caller)?;
        shm::round(context, &mut caller)?;
        msg::round(context, &mut caller)?;
        mq::round(context, &mut caller)?;
        sig::round(&mut caller)?;
    }
    caller.finish()
}
