//! What the calls are: registers, durations, results, waits.

use crate::call::{Call, Outcome};
use crate::copies::Copies;
use crate::model::{Object, Random, Worker};
use crate::waits::{Reason, Wait, Waker};
use bytemuck::Zeroable;
use ipc_schema::catalogue::{Abi, CATALOGUE, EntryPoint};
use ipc_schema::wire::{Queue, Sembuf, Small, valid};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// semop.
    SemOp,
    /// semtimedop.
    SemTimedOp,
    /// semctl GETVAL.
    GetValue,
    /// msgsnd.
    MsgSend,
    /// msgrcv.
    MsgReceive,
    /// mq_timedsend.
    MqSend,
    /// mq_timedreceive.
    MqReceive,
    /// shmat.
    Attach,
    /// rt_sigprocmask.
    Mask,
}

use Operation::{Attach, GetValue, Mask, MqReceive, MqSend, MsgReceive, MsgSend, SemOp, SemTimedOp};

/// How often each comes: 11 of 20 are semop.
pub const MIX: [Operation; 20] = [
    SemOp, SemOp, SemOp, SemOp, SemOp, SemOp, SemOp, SemOp, SemOp, SemOp, SemOp, SemTimedOp, GetValue, MsgSend,
    MsgReceive, MsgReceive, MqSend, MqReceive, Attach, Mask,
];

const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const EACCES: i64 = -13;
const EIDRM: i64 = -43;
const ENOMSG: i64 = -42;
const ETIMEDOUT: i64 = -110;
const IPC_NOWAIT: u64 = 0o4000;
const GETVAL: u64 = 12;
const SEM_UNDO: i16 = 0x1000;
/// Any address: it is recorded nowhere.
const POINTER: u64 = 0x7ffc_0000_1000;

impl Operation {
    /// Which kind of object: the index among sem, msg, mq, shm. A mask has none, and any will do.
    pub fn kind(self) -> usize {
        match self {
            SemOp | SemTimedOp | GetValue | Mask => 0,
            MsgSend | MsgReceive => 1,
            MqSend | MqReceive => 2,
            Attach => 3,
        }
    }

    fn entry(self) -> &'static EntryPoint {
        let name = match self {
            SemOp => "semop",
            SemTimedOp => "semtimedop",
            GetValue => "semctl",
            MsgSend => "msgsnd",
            MsgReceive => "msgrcv",
            MqSend => "mq_timedsend",
            MqReceive => "mq_timedreceive",
            Attach => "shmat",
            Mask => "rt_sigprocmask",
        };
        // There is one line per name; the first is another call, which a reader of the trace would see.
        CATALOGUE.iter().find(|entry| entry.name == name).unwrap_or(&CATALOGUE[0])
    }

    /// One of so many sleeps.
    fn sleeps_once_in(self) -> u64 {
        match self {
            SemOp | SemTimedOp => 5,
            MsgReceive | MqReceive => 3,
            MsgSend | MqSend => 40,
            GetValue | Attach | Mask => u64::MAX,
        }
    }

    /// One of so many fails, and how.
    fn fails(self, random: &mut Random) -> Option<i64> {
        let (once_in, errors): (u64, &[i64]) = match self {
            SemOp => (40, &[EAGAIN, EAGAIN, EAGAIN, EAGAIN, EINTR, EINTR, EACCES, EIDRM]),
            SemTimedOp => (20, &[EAGAIN]),
            MsgSend => (60, &[EAGAIN]),
            MsgReceive => (25, &[ENOMSG, ENOMSG, ENOMSG, EINTR]),
            MqSend | MqReceive => (40, &[EAGAIN, ETIMEDOUT]),
            GetValue | Attach => (500, &[EACCES]),
            Mask => return None,
        };
        random.once_in(once_in).then(|| errors[random.below(errors.len() as u64) as usize])
    }
}

/// A call at its start, and how long it will take.
pub fn begin(
    (call_id, start_ns): (i64, u64),
    operation: Operation,
    worker: &mut Worker,
    object: &Object,
    random: &mut Random,
) -> (Call, u64) {
    let registers = registers(operation, object, random);
    let mut call = Call::begun(call_id, start_ns, operation.entry(), Abi::X86_64, registers);
    call.cpu = (worker.tid % 8) as u16;
    (call.pid, call.tid) = (worker.pid, worker.tid);
    (call.process_id, call.thread_id) = (worker.process_id, worker.thread_id);
    call.identity = worker.identity;
    call.wait_known = true;
    if operation != Mask {
        call.object_ref = Some(object.object_ref);
    }
    copy(&mut call, operation, worker, object, random);
    let error = operation.fails(random);
    let gives = call.first_sop.is_some_and(|operation| operation.sem_op > 0);
    let sleeps = error.is_none_or(|error| error == EINTR || error == ETIMEDOUT)
        && !gives
        && random.once_in(operation.sleeps_once_in());
    call.outcome = if error.is_some() { Outcome::Error } else { Outcome::Ok };
    call.ret = Some(error.unwrap_or(if operation == Attach { 0x7f00_0000_0000 } else { 0 }));
    let mut duration_ns = 250 + random.exponential(350.0) as u64;
    if sleeps {
        // From 8 µs to 80 ms, short ones more often; one of 20,000 lasts for seconds.
        let unit = random.unit();
        duration_ns = (8_000.0 * 10f64.powf(4.0 * unit * unit)) as u64;
        if random.once_in(20_000) {
            duration_ns = 1_000_000_000 + random.below(9_000_000_000);
        }
        call.wait = Some(Box::default());
    }
    (call, duration_ns)
}

fn registers(operation: Operation, object: &Object, random: &mut Random) -> [u64; 6] {
    let id = object.id as u64;
    let size = 64 << random.below(5);
    match operation {
        SemOp | SemTimedOp => [id, POINTER, if random.once_in(25) { 2 } else { 1 }, POINTER, 0, 0],
        GetValue => [id, random.below(4), GETVAL, 0, 0, 0],
        MsgSend => [id, POINTER, size, if random.once_in(4) { IPC_NOWAIT } else { 0 }, 0, 0],
        MsgReceive => [id, POINTER, 1_024, random.below(3), 0, 0],
        MqSend => [5, POINTER, size, random.below(4), 0, 0],
        MqReceive => [5, POINTER, 1_024, POINTER, 0, 0],
        Attach => [id, 0, 0, 0, 0, 0],
        Mask => [0, POINTER, 0, 8, 0, 0],
    }
}

/// What the probes would have copied.
fn copy(call: &mut Call, operation: Operation, worker: &mut Worker, object: &Object, random: &mut Random) {
    let mut small = Small::zeroed();
    match operation {
        SemOp | SemTimedOp => {
            let sem_op = if worker.holds { 1 } else { -1 };
            worker.holds = !worker.holds;
            let first = Sembuf { sem_num: random.below(4) as u16, sem_op, sem_flg: SEM_UNDO };
            call.first_sop = Some(first);
            if call.registers[2] > 1 {
                call.sops = [first, Sembuf { sem_num: first.sem_num + 1, ..first }].into();
            }
            if operation == SemTimedOp {
                small.valid = valid::B;
                small.b[0] = 1 + random.below(5) as u8;
                call.copies = Some(Box::new(Copies { before: Some(small), ..Copies::default() }));
            }
        }
        MsgSend | MsgReceive => {
            small.valid = valid::A;
            small.a[0] = 1 + random.below(3) as u8;
            let (before, after) = if operation == MsgSend { (Some(small), None) } else { (None, Some(small)) };
            call.copies = Some(Box::new(Copies { before, after, ..Copies::default() }));
        }
        MqSend | MqReceive => {
            let messages = random.below(9);
            let bytes = messages * 128;
            let inode = object.id as u64;
            let ipc_ns = worker.identity.ipc_ns.unwrap_or(0);
            let queue =
                Queue { inode, messages, bytes, max_messages: 10, max_message_bytes: 1_024, ipc_ns, ..Queue::zeroed() };
            let name = object.name.clone();
            call.queue_identity = Some(Box::new(crate::call::QueueIdentity { inode: Some(inode), name }));
            call.copies = Some(Box::new(Copies { queue: Some(queue), ..Copies::default() }));
        }
        Mask => {
            small.valid = valid::A | valid::MASK;
            small.a[1] = 1 << random.below(8);
            call.copies = Some(Box::new(Copies { before: Some(small), after: Some(small), ..Copies::default() }));
        }
        GetValue | Attach => {}
    }
}

/// The call returns: what ended its wait is known now, and it may be what ends the next one.
pub fn end(call: &mut Call, object: &mut Object, random: &mut Random) {
    let (start_ns, end_ns) = (call.start_ns, call.end_ns.unwrap_or(call.start_ns));
    if let Some(wait) = &mut call.wait {
        let delay_ns = 1_000 + random.exponential(3_000.0) as u64;
        let last_ns = end_ns.saturating_sub(delay_ns).max(start_ns);
        let peer = object.last.clone().filter(|waker| waker.thread_id != call.thread_id);
        let ended_by = match call.ret {
            Some(EINTR) => (Reason::Signal, None),
            Some(ETIMEDOUT) => (Reason::Timeout, None),
            _ if peer.is_none() => (Reason::Unknown, None),
            _ => (Reason::Peer, peer),
        };
        **wait = Wait { wakings: 1, last_ns, cpu: call.cpu, ended_by: Some(ended_by), ..Wait::default() };
    }
    let is_taking = call.first_sop.is_some_and(|operation| operation.sem_op < 0);
    if call.outcome == Outcome::Ok && call.object_ref.is_some() && !is_taking {
        object.last = Some(Waker {
            process_id: call.process_id,
            thread_id: call.thread_id,
            call_id: Some(call.call_id),
            comm: call.identity.comm,
            operation: Some(call.operation()),
        });
    }
}

/// The recording ends before the call does.
pub fn leave_open(call: &mut Call) {
    call.end_ns = None;
    call.outcome = Outcome::Open;
    call.ret = None;
    call.wait = None;
}
