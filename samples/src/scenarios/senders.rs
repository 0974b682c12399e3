//! Senders that a full System V queue wakes together though it has room for one of them: the others block again.
//!
//! Exact counts for COUNT rounds: 1 msgget, 3 msgctl (IPC_STAT, IPC_SET, IPC_RMID), 9 × COUNT msgsnd, 9 × COUNT msgrcv.
//! Nothing fails.
//!
//! A round: the queue is filled with 4 messages of 250 bytes, all it may hold; 5 processes send messages of 250, 240, 230,
//! 220 and 210 bytes and block. One process receives 5 times: each time every sender that still waits fits, and is woken,
//! but only one gets in, and the next message is not taken before the others sleep again. So the sender that gets in at
//! the k-th receive was woken k times, the last time by it. The result's `rounds` has for each round the processes in
//! that order, and its `receiver` is who received; its msgrcv with
//! `msg_type_requested` 1 are those that wake.

use crate::call::{Caller, Message, id, succeed};
use crate::context::Context;
use crate::guard::Kind;
use crate::{Failure, Result, board, process};
use serde_json::Value;
use std::sync::atomic::{AtomicI64, Ordering};

const SENDERS: usize = 5;
const FILL: u64 = 4;
const ROOM: u64 = FILL * 250;

/// What the processes agree on.
struct Turns {
    /// The round that may begin, from 1.
    round: &'static AtomicI64,
    /// Senders that got in, over all rounds.
    sent: &'static AtomicI64,
    /// For each sender how many got in before it, and itself, in this round.
    places: &'static [AtomicI64],
}

impl Turns {
    fn new() -> Result<Turns> {
        let [round, sent, places @ ..] = board::new(2 + SENDERS)? else { return Err(Failure::new("no board")) };
        Ok(Turns { round, sent, places })
    }
}

fn send(context: &Context, turns: &Turns, queue: i32, own: usize, count: u64) -> Result<()> {
    let mut caller = context.caller(count);
    let message = Message::new(1);
    for round in 0..count as i64 {
        board::wait_for(turns.round, round + 1)?;
        succeed("msgsnd", caller.msgsnd(queue, &message, 250 - 10 * own as u64, 0))?;
        let place = turns.sent.fetch_add(1, Ordering::AcqRel) + 1 - round * SENDERS as i64;
        board::write(&turns.places[own], place);
    }
    caller.finish()
}

/// Receives the oldest message; all have type 1, and are asked for by 1 where senders wait, else by 0.
fn receive(caller: &mut Caller, queue: i32, asked_for: i64) -> Result<()> {
    succeed("msgrcv", caller.msgrcv(queue, &mut Message::new(0), 256, asked_for, 0)).map(drop)
}

/// One round; returns the senders in the order in which they got in.
fn round(caller: &mut Caller, turns: &Turns, queue: i32, senders: &[i32], number: i64) -> Result<Vec<i32>> {
    for _ in 0..FILL {
        succeed("msgsnd", caller.msgsnd(queue, &Message::new(1), 250, 0))?;
    }
    turns.places.iter().for_each(|place| board::write(place, 0));
    board::write(turns.round, number + 1);
    for received in 0..SENDERS as i64 {
        for (sender, place) in senders.iter().zip(turns.places) {
            if board::read(place) == 0 {
                process::wait_until_inside(*sender, libc::SYS_msgsnd)?;
            }
        }
        receive(caller, queue, 1)?;
        board::wait_for(turns.sent, number * SENDERS as i64 + received + 1)?;
        let is_in = || turns.places.iter().filter(|place| board::read(place) > 0).count() as i64;
        while is_in() <= received {
            std::thread::yield_now();
        }
    }
    for _ in 0..FILL {
        receive(caller, queue, 0)?;
    }
    let mut order: Vec<_> = senders.iter().zip(turns.places).map(|(pid, place)| (board::read(place), *pid)).collect();
    order.sort_unstable();
    Ok(order.into_iter().map(|(_, pid)| pid).collect())
}

/// A queue that holds [`ROOM`] bytes: 1 msgget, 2 msgctl.
fn make_queue(context: &Context, caller: &mut Caller) -> Result<i32> {
    let queue = id("msgget", caller.msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600))?;
    context.guard.add(Kind::Msg, queue)?;
    resize(caller, queue, ROOM)?;
    Ok(queue)
}

/// Sets how many bytes a queue may hold: 2 msgctl.
pub(super) fn resize(caller: &mut Caller, queue: i32, bytes: u64) -> Result<()> {
    // SAFETY: zero is a valid msqid_ds.
    let mut state: libc::msqid_ds = unsafe { std::mem::zeroed() };
    succeed("msgctl IPC_STAT", caller.msgctl(queue, libc::IPC_STAT, Some(&mut state)))?;
    state.msg_qbytes = bytes;
    succeed("msgctl IPC_SET", caller.msgctl(queue, libc::IPC_SET, Some(&mut state))).map(drop)
}

pub(crate) fn run(context: &mut Context, count: u64) -> Result<()> {
    context.name("senders");
    let mut caller = context.caller(3 + 13 * count);
    let queue = make_queue(context, &mut caller)?;
    let turns = Turns::new()?;
    let mut senders = Vec::new();
    for own in 0..SENDERS {
        senders.push(process::fork(context, |context| send(context, &turns, queue, own, count))?);
    }
    let rounds: Result<Vec<Value>> =
        (0..count as i64).map(|number| round(&mut caller, &turns, queue, &senders, number).map(Value::from)).collect();
    if rounds.is_ok() {
        process::wait_all(&senders)?;
    }
    succeed("msgctl IPC_RMID", caller.msg_remove(queue))?;
    context.put("rounds", rounds?);
    context.put("receiver", process::own_pid());
    caller.finish()
}
