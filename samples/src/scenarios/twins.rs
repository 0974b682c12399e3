//! Two processes in an IPC namespace each, whose objects share keys, names and ids, and nothing else.
//!
//! Exact counts: of each of semget, shmget, msgget, mq_open 2; and for COUNT rounds of twin 0 and 2 COUNT of twin 1 per
//! round 1 semtimedop, 1 msgsnd, 1 msgrcv, 1 mq_timedsend, 1 mq_timedreceive. Then 2 semtimedop, 2 msgsnd and
//! 2 mq_timedsend that leave something behind, and, after the gate `twin-0` or `twin-1`, of each of semctl, shmctl,
//! msgctl (IPC_RMID) and mq_unlink 2. Nothing fails. Twin N has a set of 3 + N semaphores and works on semaphore N, to
//! which it adds N + 1 each time; a segment of (N + 1) × 4096 bytes; messages of type N + 1 and of priority N + 1.

use crate::call::{Attributes, Caller, Message, QueueName, id, sop, succeed};
use crate::context::Context;
use crate::{Failure, Result, process};
use libc::{IPC_CREAT, IPC_EXCL};

const KEY: i32 = 0x5457_494e;

/// What a twin has; the first object of a fresh namespace has the id 0.
struct Objects {
    set: i32,
    segment: i32,
    queue: i32,
    descriptor: i32,
}

fn make(caller: &mut Caller, twin: u16, name: &QueueName) -> Result<Objects> {
    let flags = IPC_CREAT | IPC_EXCL | 0o600;
    let pages = u64::from(twin) + 1;
    let objects = Objects {
        set: id("semget", caller.semget(KEY, 3 + i32::from(twin), flags))?,
        segment: id("shmget", caller.shmget(KEY, pages * 4096, flags))?,
        queue: id("msgget", caller.msgget(KEY, flags))?,
        descriptor: id("mq_open", {
            caller.mq_open(name, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, Some(&Attributes::room(4, 64)))
        })?,
    };
    if (objects.set, objects.segment, objects.queue) != (0, 0, 0) {
        return Err(Failure::new("the first objects of an IPC namespace do not have the id 0"));
    }
    Ok(objects)
}

fn work(caller: &mut Caller, twin: u16, objects: &Objects, count: u64) -> Result<()> {
    let (kind, mut body) = (i64::from(twin) + 1, [0; 64]);
    let mut message = Message::new(kind);
    let add = sop(twin, kind as i16, 0);
    let send = |caller: &mut Caller, message: &Message| -> Result<()> {
        succeed("msgsnd", caller.msgsnd(objects.queue, message, 10 * kind as u64, 0))?;
        succeed("mq_timedsend", caller.mq_send(objects.descriptor, b"twin", kind as u32, None)).map(drop)
    };
    for round in 0..count {
        // There and back, for a semaphore holds no more than 32767.
        let amount = if round % 2 == 0 { add.sem_op } else { -add.sem_op };
        succeed("semop", caller.semop(objects.set, &[libc::sembuf { sem_op: amount, ..add }]))?;
        send(caller, &message)?;
        succeed("msgrcv", caller.msgrcv(objects.queue, &mut message, 256, kind, 0))?;
        succeed("mq_timedreceive", caller.mq_receive(objects.descriptor, &mut body, None, None))?;
    }
    succeed("semop", caller.semop(objects.set, &[add]))?;
    send(caller, &message)
}

fn remove(caller: &mut Caller, objects: &Objects, name: &QueueName) -> Result<()> {
    succeed("semctl IPC_RMID", caller.sem_remove(objects.set))?;
    succeed("shmctl IPC_RMID", caller.shm_remove(objects.segment))?;
    succeed("msgctl IPC_RMID", caller.msg_remove(objects.queue))?;
    succeed("mq_unlink", caller.mq_unlink(name)).map(drop)
}

fn live(context: &Context, twin: u16, count: u64) -> Result<()> {
    process::leave_ipc_namespace()?;
    let rounds = count * (u64::from(twin) + 1);
    let mut caller = context.caller(5 * rounds + 11);
    let name = QueueName::literal("ipc-workload-twins");
    let objects = make(&mut caller, twin, &name)?;
    work(&mut caller, twin, &objects, rounds)?;
    context.wait_at_gate(&format!("twin-{twin}"))?;
    remove(&mut caller, &objects, &name)?;
    caller.finish()
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("twins");
    let mut twins = Vec::new();
    for twin in [0, 1] {
        twins.push(process::fork(context, |context| live(context, twin, count))?);
    }
    process::wait_all(&twins)?;
    context.put("twins", twins);
    context.put("key", KEY);
    Ok(())
}
