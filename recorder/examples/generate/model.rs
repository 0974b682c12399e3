//! Threads that make calls side by side: each one call at a time, handed out in the order of their ends.
//!
//! Which thread uses which object, how long a call takes and how it fails is skewed as in practice: most calls are
//! short, some sleep, a few last for seconds and so begin long before those around them.

use crate::Shape;
use crate::call::{Call, Identity};
use crate::finished::{Calls, Finished};
use crate::objects::{Identity as ObjectIdentity, Objects};
use crate::operations::{self, MIX, Operation};
use crate::tasks::{Process, Signals, Start, Thread};
use crate::waits::Waker;
use ipc_schema::catalogue::Family;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The boot clock at the first call.
pub const START_NS: u64 = 1_000_000_000_000;
/// A thread makes so many calls on one object, on average, with this much between them.
const BURST_CALLS: u64 = 16;
const SHORT_PAUSE_NS: f64 = 400.0;
/// How long it rests between two bursts, on average; with so many threads: some 600,000 calls per second.
const LONG_PAUSE_NS: f64 = 5_600_000.0;
const LONG_PAUSE_THREADS: f64 = 256.0;
/// The inode of the first IPC namespace.
const IPC_NS: u32 = 4_026_531_839;
/// Of ten calls of a thread so many go to its own few objects.
const OWN_OF_TEN: u64 = 7;
const OWN_OBJECTS: u64 = 3;

/// Numbers from a seed (splitmix64).
pub struct Random(u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Exponentially distributed with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// An object, and who used it last.
pub struct Object {
    /// What it is.
    pub family: Family,
    /// semid, shmid, msqid, inode.
    pub id: i64,
    /// Its lifetime.
    pub object_ref: i64,
    /// Of a POSIX queue.
    pub name: Option<Arc<str>>,
    /// The last call that could wake another, and when it ended.
    pub last: Option<Waker>,
}

/// A thread.
pub struct Worker {
    /// Joins threads, from 1.
    pub thread_id: i64,
    /// Joins processes, from 1.
    pub process_id: i64,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Who it is.
    pub identity: Identity,
    /// The call it is in, and the index of its object.
    pending: Option<(Call, usize)>,
    /// Whether it holds what its next semop gives back.
    pub holds: bool,
    /// What it does again in this burst: the operation and the object.
    burst: Option<(Operation, usize)>,
}

/// All threads and objects.
pub struct Model {
    random: Random,
    workers: Vec<Worker>,
    objects: Vec<Object>,
    /// The objects of sem, msg, mq, shm: ranges of `objects`.
    kinds: [std::ops::Range<usize>; 4],
    lifetimes: Objects,
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    next_call_id: i64,
    now_ns: u64,
    pause_ns: f64,
    is_spread: bool,
}

impl Model {
    /// Threads in their first calls.
    pub fn new(shape: &Shape) -> Model {
        let mut lifetimes = Objects::default();
        let (objects, kinds) = make_objects(shape.objects.max(8), &mut lifetimes);
        let workers: Vec<Worker> = (0..shape.processes * shape.threads).map(|n| worker(n, shape.threads)).collect();
        let pause_ns = LONG_PAUSE_NS * workers.len() as f64 / LONG_PAUSE_THREADS;
        let mut model = Model {
            random: Random(shape.seed),
            objects,
            kinds,
            lifetimes,
            ends: BinaryHeap::new(),
            next_call_id: 1,
            now_ns: START_NS,
            pause_ns,
            is_spread: shape.spread,
            workers,
        };
        (0..model.workers.len()).for_each(|worker| model.begin(worker, START_NS));
        model
    }

    /// The boot clock at the end of the last call.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The call that ends next.
    pub fn next_call(&mut self) -> Call {
        loop {
            let Some(Reverse((end_ns, worker))) = self.ends.pop() else { unreachable!("every thread is in a call") };
            self.now_ns = end_ns;
            let Some((mut call, object)) = self.workers[worker].pending.take() else { continue };
            operations::end(&mut call, &mut self.objects[object], &mut self.random);
            self.begin(worker, end_ns);
            return call;
        }
    }

    /// What ends with the recording: `open` calls, processes, threads, lifetimes.
    pub fn finish(&mut self, open: usize) -> Finished {
        let mut calls: Calls =
            self.workers.iter_mut().filter_map(|w| w.pending.take()).map(|(c, _)| Box::new(c)).collect();
        calls.truncate(open);
        for call in &mut calls {
            call.start_ns = call.start_ns.min(self.now_ns);
            operations::leave_open(call);
        }
        self.lifetimes.finish();
        let lifetimes = std::mem::take(&mut self.lifetimes.ended);
        let processes = self.workers.iter().filter(|w| w.pid == w.tid).map(process_of).collect();
        let threads = self.workers.iter().map(thread_of).collect();
        Finished { calls, processes, threads, lifetimes, ..Finished::default() }
    }

    /// A thread begins its next call after `from_ns`.
    fn begin(&mut self, worker: usize, from_ns: u64) {
        let (operation, object, pause_ns) = self.next_step(worker);
        let start_ns = from_ns + 200 + self.random.exponential(pause_ns) as u64;
        let call_id = self.next_call_id;
        self.next_call_id += 1;
        let (call, duration_ns) = operations::begin(
            (call_id, start_ns),
            operation,
            &mut self.workers[worker],
            &self.objects[object],
            &mut self.random,
        );
        self.ends.push(Reverse((start_ns + duration_ns, worker)));
        self.workers[worker].pending = Some((Call { end_ns: Some(start_ns + duration_ns), ..call }, object));
    }

    /// What a thread does next, on which object, after which pause.
    fn next_step(&mut self, worker: usize) -> (Operation, usize, f64) {
        let burst = self.workers[worker].burst.filter(|_| !self.is_spread);
        if let Some((operation, object)) = burst {
            if self.random.once_in(BURST_CALLS) {
                self.workers[worker].burst = None;
            }
            return (operation, object, SHORT_PAUSE_NS);
        }
        let operation = MIX[self.random.below(MIX.len() as u64) as usize];
        let object = self.choose(worker, operation);
        self.workers[worker].burst = Some((operation, object));
        (operation, object, self.pause_ns)
    }

    /// Mostly one of the thread's own objects, else a popular one.
    fn choose(&mut self, worker: usize, operation: Operation) -> usize {
        let range = self.kinds[operation.kind()].clone();
        let count = range.len() as u64;
        let place = if self.is_spread {
            self.random.below(count)
        } else if self.random.below(10) < OWN_OF_TEN {
            (worker as u64 * 7 + self.random.below(OWN_OBJECTS) * 13) % count
        } else {
            let unit = self.random.unit();
            (count as f64 * unit * unit * unit) as u64
        };
        range.start + (place as usize).min(range.len() - 1)
    }
}

/// Of ten objects five are semaphore sets, two System V queues, two POSIX queues, one a segment.
fn make_objects(count: u32, lifetimes: &mut Objects) -> (Vec<Object>, [std::ops::Range<usize>; 4]) {
    let shares = [(Family::Sem, 5), (Family::Msg, 2), (Family::Mq, 2), (Family::Shm, 1)];
    let mut objects = Vec::new();
    let kinds = shares.map(|(family, tenths)| {
        let first = objects.len();
        for n in 0..(count as usize * tenths / 10).max(1) {
            let name: Option<Arc<str>> = (family == Family::Mq).then(|| format!("/queue-{n:04}").into());
            let id = if name.is_some() { 20_000 + n as i64 } else { 32_768 * (n as i64 % 3) + n as i64 };
            let key = name.is_none().then_some(0x5100_0000 + n as i32);
            let identity = ObjectIdentity { ipc_ns: IPC_NS, family, id };
            let object_ref = lifetimes.listed(identity, key, name.as_deref(), START_NS);
            objects.push(Object { family, id, object_ref, name, last: None });
        }
        first..objects.len()
    });
    (objects, kinds)
}

fn worker(number: u32, threads: u32) -> Worker {
    let (process, thread) = (number / threads, number % threads);
    let pid = 2_000 + process * threads.next_multiple_of(8);
    let name = match thread {
        0 => format!("service-{}", process % 16),
        _ => format!("worker/{}", thread % 8),
    };
    let mut comm = [0; 16];
    comm.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    Worker {
        thread_id: i64::from(number) + 1,
        process_id: i64::from(process) + 1,
        pid,
        tid: pid + thread,
        identity: Identity { comm, uid: Some(1_000 + process % 5), cgroup_id: Some(77), ipc_ns: Some(IPC_NS) },
        pending: None,
        holds: false,
        burst: None,
    }
}

fn process_of(worker: &Worker) -> Process {
    Process {
        process_id: worker.process_id,
        pid: worker.pid,
        comm: Some(worker.identity.comm),
        exe: Some("/usr/bin/service".into()),
        uid: worker.identity.uid,
        ipc_ns: worker.identity.ipc_ns,
        ..Process::default()
    }
}

fn thread_of(worker: &Worker) -> Thread {
    Thread {
        thread_id: worker.thread_id,
        process_id: worker.process_id,
        pid: worker.pid,
        tid: worker.tid,
        start: Start::default(),
        exit_ns: None,
        parent_thread_id: None,
        identity: worker.identity,
        clone_flags: None,
        signals: Signals::default(),
        ns_tid: None,
        has_entered: true,
        open: None,
        restarting: None,
        dying: None,
        told_call: 0,
    }
}
