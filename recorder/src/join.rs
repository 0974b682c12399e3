//! Joins entries and exits into calls.

use crate::call::{Call, Outcome};
use crate::copies::{self, Copies, either};
use crate::decode::{self, Record, Tail};
use crate::finished::{Calls, Finished, Living, Loss};
use crate::lookups::Lookups;
use crate::objects::Objects;
use crate::scan::{self, Scanned};
use crate::signals::Signals;
use crate::stacks::Stacks;
use crate::tasks::{Tasks, Thread};
use crate::waits::{self, Candidate, Inside, Waker};
use ipc_schema::catalogue::{Abi, Meaning, by_code};
use ipc_schema::flags;
use ipc_schema::losses::{self, Source};
use ipc_schema::shape::{self, Shape};
use ipc_schema::text;
use ipc_schema::wire::{self, Header, Sembuf, Small, flag, slot, valid};
use rustc_hash::FxHashMap;

/// What the probes tell beyond calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hooks {
    /// Wakings.
    pub wakings: bool,
    /// Signals, as they are generated.
    pub signals: bool,
    /// Deliveries of signals.
    pub deliveries: bool,
    /// Every signal for or from a followed process, not only those that end waits.
    pub all_signals: bool,
}

/// Joins the records of one recording.
pub struct Join {
    tasks: Tasks,
    /// The objects.
    pub objects: Objects,
    signals: Signals,
    /// Whom each CPU woke last.
    woken: FxHashMap<u16, u32>,
    /// Calls that a signal ended whose record is still to come.
    awaiting: Calls,
    /// The user stacks.
    pub stacks: Stacks,
    /// The stack of each thread's next call.
    next_stacks: FxHashMap<u32, i64>,
    hooks: Hooks,
    start_ns: u64,
    min_duration_ns: u64,
    last_call_id: i64,
    calls: Calls,
    /// Boxes of calls that were written, or that nobody wants.
    spare: Calls,
    losses: Vec<Loss>,
    /// Records whose bytes were not what their kind says.
    pub malformed: u64,
    /// Calls that were shorter than asked for.
    pub too_short: u64,
    /// Calls whose user memory could be copied neither at entry nor at exit.
    pub copy_faults: u64,
}

impl Join {
    /// A join for a recording that began at `start_ns`; calls shorter than `min_duration_ns` are dropped.
    pub fn new(start_ns: u64, min_duration_ns: u64, hooks: Hooks) -> Join {
        Join {
            tasks: Tasks::default(),
            objects: Objects::default(),
            signals: Signals::default(),
            woken: FxHashMap::default(),
            awaiting: vec![],
            stacks: Stacks::default(),
            next_stacks: FxHashMap::default(),
            hooks,
            start_ns,
            min_duration_ns,
            last_call_id: 0,
            calls: vec![],
            spare: vec![],
            losses: vec![],
            malformed: 0,
            too_short: 0,
            copy_faults: 0,
        }
    }

    /// Keeps the command lines of processes.
    pub fn keep_cmdlines(&mut self) {
        self.tasks.keep_cmdlines();
    }

    /// Whom to ask what processes are.
    pub fn look_up_with(&mut self, lookups: Lookups) {
        self.stacks.look_up_with(lookups.clone());
        self.tasks.lookups = lookups;
    }

    /// The trace's id of a process.
    pub fn process_id(&mut self, pid: u32) -> i64 {
        self.tasks.process_id(pid)
    }

    /// Takes one record; records come in the order of their times.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some((header, record)) = decode::record(bytes) else {
            self.malformed += 1;
            return;
        };
        if !matches!(record, Record::Waking(_) | Record::Generate(_)) {
            self.release(header.cpu, None);
        }
        match record {
            Record::Enter { arguments, tail } => self.enter(header, arguments, &tail),
            Record::Exit { ret, tail } => self.exit(header, ret, &tail),
            Record::KernelCopy(tail) => self.kernel_copy(header, &tail),
            Record::Context(context) => self.tasks.context(header, context),
            Record::Fork(fork) => {
                if fork.clone_flags & wire::CLONE_NEWIPC != 0 {
                    self.objects.new_namespace(fork.ipc_ns, header.time_ns);
                }
                self.tasks.fork(header, fork);
            }
            Record::Namespace(namespace) => self.objects.new_namespace(namespace.ipc_ns, header.time_ns),
            Record::Exec(exec) => self.tasks.exec(header, exec),
            Record::TaskExit(exit) => {
                if let Some(call) = self.tasks.exit(header, exit) {
                    self.end(killed(call, header.time_ns));
                }
            }
            Record::Waking(waking) => self.waking(header, waking),
            Record::Generate(signal) => self.generate(header, signal),
            Record::Deliver(signal) => self.deliver(header, signal),
            Record::Stack(bytes) => self.stack(header, bytes),
            Record::Library { arguments, tail } => self.library(header, arguments, &tail),
        }
    }

    fn enter(&mut self, header: &Header, registers: [u64; 6], tail: &Tail) {
        let is_late = header.flags & flag::LATE != 0;
        let thread = self.tasks.thread(header);
        if is_late && thread.open.as_ref().is_some_and(|c| c.began_before) {
            return; // the scan found it
        }
        if let Some(call) = thread.restarting.take() {
            if call.entry.code == header.code && call.registers == registers && !is_late {
                thread.open = Some(restarted(call));
                return;
            }
            self.end(returned(call));
        }
        let Some(mut call) = self.new_call(header, registers, tail) else { return };
        let start_ns = self.start_ns;
        self.objects.begin(&mut call);
        let thread = self.tasks.thread(header);
        if is_late {
            let is_older = thread.start.ns().is_none_or(|s| s < start_ns);
            call.began_before = is_older && !thread.has_entered;
            call.wait_known = false;
            if call.began_before {
                call.start_ns = start_ns;
            }
        }
        // What ended before the trace is not in it.
        thread.has_entered |= header.time_ns >= start_ns;
        // A call still open here lost its exit, which the probe has counted.
        thread.open = Some(call);
    }

    /// A call of a library function: it is over as soon as it is known.
    fn library(&mut self, header: &Header, registers: [u64; 6], tail: &Tail) {
        let Some(mut call) = self.new_call(header, registers, tail) else { return };
        (call.end_ns, call.outcome, call.wait_known) = (Some(header.time_ns), Outcome::Ok, false);
        self.end(call);
    }

    fn stack(&mut self, header: &Header, bytes: &[u8]) {
        let frames = bytes.chunks_exact(size_of::<wire::Frame>()).map(bytemuck::pod_read_unaligned);
        match self.stacks.id(header.pid, frames) {
            Some(id) => self.next_stacks.insert(header.tid, id),
            None => self.next_stacks.remove(&header.tid),
        };
    }

    fn new_call(&mut self, header: &Header, registers: [u64; 6], tail: &Tail) -> Option<Box<Call>> {
        let (Some(entry), Some(abi)) = (by_code(header.code), Abi::from_wire(header.abi)) else {
            self.malformed += 1;
            return None;
        };
        self.last_call_id += 1;
        let thread = self.tasks.thread(header);
        let begun = Call::begun(self.last_call_id, header.time_ns, entry, abi, registers);
        let mut call = match self.spare.pop() {
            Some(mut room) => {
                *room = begun;
                room
            }
            None => Box::new(begun),
        };
        (call.cpu, call.pid, call.tid) = (header.cpu, header.pid, header.tid);
        (call.process_id, call.thread_id, call.identity) = (thread.process_id, thread.thread_id, thread.identity);
        call.wait_known = self.hooks.wakings;
        call.switches = header.switches;
        // Without the flag it is that of a call whose record was lost.
        call.stack_id = self.next_stacks.remove(&header.tid).filter(|_| header.flags & flag::STACK != 0);
        set_sops(&mut call, decode::sembufs(tail.sops));
        let is_plain = call.shape.has(Shape::SOPS) && tail.small.is_some_and(|s| s.valid & valid::B == 0);
        if let (Some(small), false) = (tail.small, is_plain) {
            let name = tail.name.map(|n| text::of_bytes(n).into());
            call.copies =
                Some(Box::new(Copies { before: Some(*small), after: None, queue: tail.queue.copied(), name }));
            set_indirect_arguments(&mut call, small);
        }
        Some(call)
    }

    fn exit(&mut self, header: &Header, ret: i64, tail: &Tail) {
        let thread = self.tasks.thread(header);
        let Some(mut call) = thread.open.take().filter(|c| c.entry.code == header.code) else {
            self.lose_one(header, losses::NO_PARTNER);
            return;
        };
        call.ret = Some(ret);
        call.end_ns = Some(header.time_ns);
        // A sleep without a waking: the kernel's tracepoint is silent now and then after the machine stood still.
        let is_unexplained = call.wait.is_none() && call.switches != header.switches;
        call.wait_known &= header.flags & flag::WAKING_LOST == 0 && !is_unexplained;
        let has_fault = set_exit(&mut call, ret, tail);
        if header.flags & flag::FATAL != 0 && is_interrupted(ret) {
            thread.dying = Some(call);
        } else if flags::is_restart(ret) && self.hooks.deliveries {
            thread.restarting = Some(call);
        } else if !(call.began_before && header.time_ns < self.start_ns) {
            self.end(returned(call));
        }
        self.copy_faults += u64::from(has_fault);
    }

    /// The kernel's own copy decides: it takes the place of that of user memory.
    fn kernel_copy(&mut self, header: &Header, tail: &Tail) {
        let Some(call) = self.tasks.known(header.tid).and_then(|t| t.open.as_deref_mut()) else { return };
        let in_memory = tail.small.and_then(|small| copies::replace(call, small));
        let in_sops = if call.shape.has(Shape::SOPS) { replace_sops(call, tail.sops) } else { None };
        call.args_changed = either([call.args_changed, in_memory, in_sops]);
    }

    /// A call has ended, one way or another.
    fn end(&mut self, call: Box<Call>) {
        if self.hooks.signals && waits::awaits_signal(&call) {
            self.awaiting.push(call);
        } else {
            self.complete(call);
        }
    }

    /// What a CPU did after its last waking is known: if that was to send a signal, `signal` tells for whom and by whom.
    fn release(&mut self, cpu: u16, signal: Option<(u32, Option<Waker>)>) {
        if self.awaiting.is_empty() {
            return;
        }
        let is_of_cpu = |call: &mut Box<Call>| call.wait.as_ref().is_none_or(|w| w.cpu == cpu);
        let calls: Calls = self.awaiting.extract_if(.., is_of_cpu).collect();
        for mut call in calls {
            let sender = signal.clone().filter(|(pid, _)| *pid == call.pid).and_then(|(_, sender)| sender);
            if let Some(wait) = call.wait.as_mut() {
                wait.sender = Some(sender);
            }
            self.complete(call);
        }
    }

    /// Every record before `until_ns` was taken: a signal whose record is not among them had none.
    pub fn settle(&mut self, until_ns: u64) {
        /// The longest that a CPU may stand still between a waking and the tracepoint behind it.
        const PATIENCE_NS: u64 = 10_000_000;
        let is_old = |call: &mut Box<Call>| call.end_ns.is_none_or(|end| end + PATIENCE_NS < until_ns);
        let calls: Calls = self.awaiting.extract_if(.., is_old).collect();
        calls.into_iter().for_each(|call| self.complete(call));
    }

    /// Everything about a call is known.
    fn complete(&mut self, mut call: Box<Call>) {
        let duration_ns = call.end_ns.map(|end| end - call.start_ns.min(end));
        self.objects.end(&mut call);
        if duration_ns.is_some_and(|d| d < self.min_duration_ns) {
            self.too_short += 1;
            self.spare.push(call);
            return;
        }
        waits::decide(&mut call);
        self.calls.push(call);
    }

    fn lose_one(&mut self, header: &Header, source: Source) {
        let (from_ns, to_ns) = (header.time_ns, header.time_ns);
        self.losses.push(Loss { from_ns, to_ns, source, cpu: Some(header.cpu), count: Some(1) });
    }

    fn waking(&mut self, header: &Header, waking: &wire::Waking) {
        let candidate = self.candidate(header, waking);
        let Some(call) = self.tasks.known(waking.wakee_tid).and_then(|t| t.open.as_mut()) else { return };
        let wait = call.wait.get_or_insert_default();
        wait.wakings += 1;
        (wait.last_ns, wait.cpu) = (header.time_ns, header.cpu);
        wait.candidate = candidate;
        wait.sender = None;
        self.woken.insert(header.cpu, waking.wakee_tid);
    }

    /// What the task that ran at a waking was doing.
    fn candidate(&mut self, header: &Header, waking: &wire::Waking) -> Candidate {
        if header.flags & flag::EXITING != 0 {
            return Candidate::Exiting(self.tasks.waker(header, waking.comm));
        }
        match self.tasks.known(header.tid).and_then(|t| t.open.as_deref()) {
            Some(call) if header.flags & flag::IN_CALL != 0 => Candidate::Inside(Box::new(Inside::of(call))),
            _ => Candidate::Bystander,
        }
    }

    fn generate(&mut self, header: &Header, signal: &wire::Signal) {
        let woken = self.woken.remove(&header.cpu);
        let is_target = |thread: &&mut Thread| thread.pid == signal.target_pid && thread.open.is_some();
        let wakee = woken.filter(|tid| self.tasks.known(*tid).as_ref().is_some_and(is_target));
        let is_awaited = self.awaiting.iter().any(|c| c.pid == signal.target_pid);
        // Of those not asked for the probes send some too many: they cannot tell whom the waking before was for.
        if wakee.is_none() && !is_awaited && !self.hooks.all_signals {
            return self.release(header.cpu, None);
        }
        let sender = self.signals.generated(&mut self.tasks, header, signal);
        let thread = wakee.and_then(|tid| self.tasks.known(tid));
        if let Some(wait) = thread.and_then(|t| t.open.as_mut()?.wait.as_mut()) {
            wait.sender = Some(sender.clone());
        }
        self.release(header.cpu, Some((signal.target_pid, sender)));
    }

    fn deliver(&mut self, header: &Header, signal: &wire::Signal) {
        if self.hooks.all_signals {
            self.signals.delivered(&mut self.tasks, header, signal);
        }
        let thread = self.tasks.thread(header);
        let is_over = |call: &Call| !restarts_after(call.ret.unwrap_or(0), signal);
        if thread.restarting.as_deref().is_some_and(is_over)
            && let Some(mut call) = thread.restarting.take()
        {
            call.end_ns = Some(header.time_ns);
            self.end(returned(call));
        }
    }

    /// A thread that was there before the trace, and the call it is inside of.
    pub fn scanned(&mut self, scanned: Scanned) {
        self.tasks.scanned(&scanned);
        let Some(inside) = &scanned.call else { return };
        let Some(thread) = self.tasks.known(scanned.tid).filter(|t| !t.has_entered && t.open.is_none()) else { return };
        let (process_id, thread_id, identity) = (thread.process_id, thread.thread_id, thread.identity);
        self.last_call_id += 1;
        let mut call = found(self.last_call_id, inside);
        (call.pid, call.tid) = (scanned.pid, scanned.tid);
        (call.process_id, call.thread_id, call.identity) = (process_id, thread_id, identity);
        self.objects.begin(&mut call);
        if let Some(thread) = self.tasks.known(scanned.tid) {
            thread.has_entered = true;
            thread.open = Some(Box::new(call));
        }
    }

    /// Adds a loss.
    pub fn lost(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    /// Takes boxes of calls that were written, to be filled again; not more than are of use.
    pub fn fill_again(&mut self, mut boxes: Calls) {
        const ENOUGH: usize = 16_384;
        if self.spare.len() < ENOUGH {
            self.spare.append(&mut boxes);
        }
    }

    /// What was finished since the last time.
    pub fn finished(&mut self) -> Finished {
        for call in std::mem::take(&mut self.tasks.died_in) {
            self.end(killed_at_exit(call));
        }
        Finished {
            calls: std::mem::take(&mut self.calls),
            processes: std::mem::take(&mut self.tasks.ended_processes),
            threads: std::mem::take(&mut self.tasks.ended_threads),
            executions: std::mem::take(&mut self.tasks.executions),
            lifetimes: std::mem::take(&mut self.objects.ended),
            signals: std::mem::take(&mut self.signals.rows),
            losses: std::mem::take(&mut self.losses),
            ..Finished::default()
        }
    }

    /// What lives at `now_ns`: what has changed since it was last told, or all. Of calls those that are open for long.
    pub fn living(&mut self, now_ns: u64, all: bool) -> Living {
        /// Most calls end before it is worth while to tell that they began.
        const LONG_NS: u64 = 500_000_000;
        let mut calls = Vec::new();
        for thread in self.tasks.threads() {
            let Some(open) = thread.open.as_deref_mut().or(thread.restarting.as_deref_mut()) else { continue };
            if !all && (open.start_ns + LONG_NS > now_ns || open.call_id == thread.told_call) {
                continue;
            }
            thread.told_call = open.call_id;
            let mut call = reopened(Box::new(open.clone()));
            self.objects.end(&mut call);
            open.object_ref = call.object_ref;
            waits::decide(&mut call);
            calls.push(call);
        }
        calls.sort_by_key(|call| call.start_ns);
        let (processes, threads) = self.tasks.living(all);
        let (lifetimes, stacks) = (self.objects.living(all), self.stacks.met(all));
        Living { calls, processes, threads, lifetimes, stacks, is_all: all }
    }

    /// Calls that have not ended.
    pub fn open_calls(&mut self) -> impl Iterator<Item = &Call> {
        self.tasks.threads().filter_map(|thread| thread.open.as_deref().or(thread.restarting.as_deref()))
    }

    /// The recording is over. `slot_of` tells whether a thread is inside a call: one that is not has lost its exit,
    /// which the probe has counted.
    pub fn finish(&mut self, slot_of: impl Fn(u32) -> u64) -> Finished {
        let mut open = Vec::new();
        for mut thread in self.tasks.finish() {
            if let Some(call) = thread.dying.take() {
                self.end(killed_at_exit(call));
            }
            if let Some(call) = thread.restarting.take() {
                match slot_of(call.tid) {
                    0 => self.end(killed_at_exit(call)), // the record of its death is missing
                    slot if slot & slot::RESTARTING == 0 => self.end(returned(call)),
                    _ => open.push(reopened(call)), // stopped: the kernel restarts it when it goes on
                }
            }
            if let Some(call) = thread.open.take()
                && self.is_still_open(&call, &slot_of)
            {
                open.push(call);
            }
            self.tasks.ended_threads.push(thread);
        }
        for call in std::mem::take(&mut self.awaiting) {
            self.complete(call);
        }
        self.calls.sort_by_key(|c| c.end_ns);
        open.sort_by_key(|c| c.start_ns);
        for call in open {
            self.end(call);
        }
        self.objects.finish();
        self.tasks.ended_processes.sort_by_key(|p| p.process_id);
        self.tasks.ended_threads.sort_by_key(|t| t.thread_id);
        Finished { stacks: Some(std::mem::take(&mut self.stacks)), ..self.finished() }
    }

    /// Whether a call without an end has none: its thread is inside it, or has lost the exit, which the probe has counted.
    fn is_still_open(&self, call: &Call, slot_of: &impl Fn(u32) -> u64) -> bool {
        if call.began_before {
            let is_inside = self.tasks.lookups.is_inside(call.pid, call.tid, call.entry, &call.registers);
            return is_inside.unwrap_or(true); // it was, and nobody saw it return
        }
        slot_of(call.tid) & slot::IN_CALL != 0
    }
}

/// A call that the scan found.
fn found(call_id: i64, inside: &scan::Inside) -> Call {
    let mut call = Call::begun(call_id, inside.found_ns, inside.entry, inside.abi, inside.registers);
    call.began_before = true;
    set_sops(&mut call, inside.sops.iter().copied());
    let name = inside.name.as_deref().map(Into::into);
    let queue = inside.inode.map(|inode| wire::Queue { inode, ..bytemuck::Zeroable::zeroed() });
    call.copies = Some(Box::new(Copies { before: Some(inside.small), after: None, queue, name }));
    set_indirect_arguments(&mut call, &inside.small);
    call
}

/// Arguments of `ipc(2)` that stand in user memory: semctl's `union semun`, and msgrcv's address and type (version 0).
fn set_indirect_arguments(call: &mut Call, small: &Small) {
    if call.entry.code != shape::IPC_CODE || small.valid & valid::A == 0 {
        return;
    }
    let word = |place: usize| copies::unsigned(&small.a, place * 4, 4).unwrap_or(0);
    if call.shape.has(Shape::INDIRECT) {
        set_argument(call, Meaning::Message, word(0));
        set_argument(call, Meaning::MessageType, word(1));
    } else if call.operation() == "semctl" {
        set_argument(call, Meaning::CommandArgument, word(0));
    }
}

fn set_argument(call: &mut Call, meaning: Meaning, value: u64) {
    if let Some(place) = call.layout.position(meaning) {
        call.arguments[place] = value;
    }
}

/// Takes what the exit tells; whether user memory that the kernel has read could be copied at neither time.
fn set_exit(call: &mut Call, ret: i64, tail: &Tail) -> bool {
    /// EFAULT, and the errors that the kernel returns before it reads the operations.
    const UNREAD: [i64; 3] = [-14, -22, -7];
    if let (Some(copies), Some(small)) = (call.copies.as_deref_mut(), tail.small) {
        copies.after = Some(*small);
        if let (Some(queue), true) = (tail.queue, call.shape.has(Shape::QUEUE_RETURNED)) {
            copies.queue = Some(*queue);
        }
    }
    call.args_changed = either([call.args_changed, copies::changed(call, sops_of(call), tail)]);
    if let (Some(copies), Some(name)) = (call.copies.as_deref_mut(), tail.name)
        && copies.name.is_none()
    {
        copies.name = Some(text::of_bytes(name).into());
    }
    if call.first_sop.is_none() {
        set_sops(call, decode::sembufs(tail.sops)); // the copy at entry faulted
    }
    let expects_sops = call.shape.has(Shape::SOPS) && call.sem_ops_total().is_some_and(|n| n > 0);
    expects_sops && call.first_sop.is_none() && !UNREAD.contains(&ret)
}

/// Puts the kernel's own operations in the place of those of the entry; whether they differ.
fn replace_sops(call: &mut Call, own: &[u8]) -> Option<bool> {
    if own.is_empty() {
        return None;
    }
    let before = sops_of(call);
    let differ = (!before.is_empty()).then(|| decode::sembufs(own).ne(before.iter().copied()));
    set_sops(call, decode::sembufs(own));
    differ
}

/// The operations of a call, as far as they were copied.
fn sops_of(call: &Call) -> &[Sembuf] {
    if call.sops.is_empty() { call.first_sop.as_slice() } else { &call.sops }
}

/// The kernel begins a call again that was interrupted: the pieces are one call.
fn restarted(mut call: Box<Call>) -> Box<Call> {
    call.restarts += 1;
    (call.ret, call.end_ns) = (None, None);
    call
}

fn reopened(mut call: Box<Call>) -> Box<Call> {
    (call.ret, call.end_ns, call.outcome) = (None, None, Outcome::Open);
    call
}

/// Whether the kernel restarts a call after this signal: `arch/x86/kernel/signal.c`, handle_signal.
fn restarts_after(ret: i64, signal: &wire::Signal) -> bool {
    const ERESTARTSYS: i64 = -512;
    const ERESTARTNOINTR: i64 = -513;
    const SA_RESTART: u64 = 0x1000_0000;
    let has_handler = signal.handler > 1;
    match ret {
        _ if !has_handler => true,
        ERESTARTNOINTR => true,
        ERESTARTSYS => signal.sa_flags & SA_RESTART != 0,
        _ => false,
    }
}

/// Whether a return value says that a signal ended the wait.
fn is_interrupted(ret: i64) -> bool {
    const EINTR: i64 = 4;
    ret == -EINTR || flags::is_restart(ret)
}

fn returned(mut call: Box<Call>) -> Box<Call> {
    // shmat returns addresses: only the last page of the address space is errors.
    let is_error = call.ret.is_some_and(|ret| (-4095..0).contains(&ret));
    call.outcome = if is_error { Outcome::Error } else { Outcome::Ok };
    call
}

fn killed(mut call: Box<Call>, end_ns: u64) -> Box<Call> {
    call.outcome = Outcome::Killed;
    call.end_ns = Some(end_ns);
    call.ret = None;
    call
}

/// The record of the death is missing: its exit from the call, at once before, stands for it.
fn killed_at_exit(call: Box<Call>) -> Box<Call> {
    let end_ns = call.end_ns.unwrap_or(call.start_ns);
    killed(call, end_ns)
}

fn set_sops(call: &mut Call, mut sops: impl ExactSizeIterator<Item = Sembuf>) {
    if sops.len() > 1 {
        call.sops = sops.collect();
        call.first_sop = call.sops.first().copied();
    } else {
        call.first_sop = sops.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::{Pod, Zeroable, bytes_of};
    use ipc_schema::wire::{Context, Enter, Exit, TaskExit, kind, tail};

    const PID: u32 = 5_000_000;

    fn header(kind: u8, time_ns: u64) -> Header {
        Header { kind, time_ns, pid: PID, tid: PID, code: 1, ..Header::zeroed() }
    }

    fn enter(time: u64) -> Enter {
        Enter { header: header(kind::ENTER, time), ..Enter::zeroed() }
    }

    fn exit(time: u64, ret: i64) -> Exit {
        Exit { header: header(kind::EXIT, time), ret }
    }

    fn feed(join: &mut Join, record: &impl Pod) {
        join.take(bytes_of(record));
    }

    #[test]
    fn entry_and_exit_make_a_call() {
        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &enter(10));
        feed(&mut join, &exit(25, -11));
        let calls = join.finished().calls;
        assert_eq!((calls[0].start_ns, calls[0].end_ns, calls[0].outcome), (10, Some(25), Outcome::Error));
        assert_eq!(calls[0].error().as_deref(), Some("EAGAIN"));
    }

    #[test]
    fn an_interrupted_call_of_a_dying_thread_is_killed_at_its_death() {
        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &enter(10));
        let mut last = exit(25, -4);
        last.header.flags = flag::FATAL;
        feed(&mut join, &last);
        assert!(join.finished().calls.is_empty());
        feed(&mut join, &TaskExit { header: header(kind::TASK_EXIT, 30), exit_code: 9, padding: 0 });
        let calls = join.finished().calls;
        assert_eq!((calls[0].outcome, calls[0].end_ns, calls[0].return_value()), (Outcome::Killed, Some(30), None));
    }

    #[test]
    fn a_killed_call_survives_the_loss_of_its_death_and_the_reuse_of_its_thread_id() {
        let mut join = Join::new(0, 0, Hooks::default());
        let mut context = Context { header: header(kind::CONTEXT, 5), thread_start_ns: 1, ..Context::zeroed() };
        feed(&mut join, &context);
        feed(&mut join, &enter(10));
        let mut last = exit(25, -4);
        last.header.flags = flag::FATAL;
        feed(&mut join, &last);
        (context.header.time_ns, context.thread_start_ns) = (50, 40);
        feed(&mut join, &context);
        let calls = join.finished().calls;
        assert_eq!((calls.len(), calls[0].outcome, calls[0].end_ns), (1, Outcome::Killed, Some(25)));
    }

    #[test]
    fn an_interrupted_call_of_a_living_thread_is_eintr() {
        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &enter(10));
        feed(&mut join, &exit(25, -514));
        assert_eq!(join.finished().calls[0].error().as_deref(), Some("EINTR"));
    }

    #[test]
    fn a_lost_exit_drops_the_call_and_the_slot_tells_open_from_lost() {
        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &enter(10));
        feed(&mut join, &enter(20));
        assert!(join.finished().calls.is_empty());
        let open = join.finish(|_| slot::IN_CALL).calls;
        assert_eq!((open.len(), open[0].start_ns, open[0].end_ns), (1, 20, None));

        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &enter(10));
        assert!(join.finish(|_| 0).calls.is_empty());
    }

    #[test]
    fn an_exit_without_entry_began_before_once_and_is_denied_after() {
        let mut join = Join::new(100, 0, Hooks::default());
        let mut whole = |time, ret| {
            let mut late = enter(time);
            late.header.flags = flag::LATE;
            feed(&mut join, &late);
            feed(&mut join, &exit(time, ret));
        };
        whole(50, 0);
        whole(150, 0);
        whole(160, -1);
        let calls = join.finished().calls;
        assert_eq!(calls.len(), 2, "what ended before the trace is not in it");
        assert!(calls[0].began_before && calls[0].start_ns == 100);
        assert!(!calls[1].began_before && calls[1].start_ns == 160);
    }

    /// A semtimedop of one operation that adds this; a mask call with this set.
    fn of_memory<T: Pod>(kind: u8, code: u8, fixed: &T, small: &Small) -> Vec<u8> {
        let mut bytes = bytes_of(fixed).to_vec();
        let header = Header { kind, code, time_ns: 10, pid: PID, tid: PID, tail: tail::SMALL, ..Header::zeroed() };
        bytes[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        bytes.extend_from_slice(bytes_of(small));
        bytes
    }

    fn adding(add: i16) -> Small {
        let mut small = Small { valid: valid::A | 1 << valid::SOPS_SHIFT, ..Small::zeroed() };
        small.a[..6].copy_from_slice(bytes_of(&Sembuf { sem_num: 0, sem_op: add, sem_flg: 0 }));
        small
    }

    fn masking(set: u64) -> Small {
        let mut small = Small { valid: valid::A, ..Small::zeroed() };
        small.a[..8].copy_from_slice(&set.to_le_bytes());
        small
    }

    /// A call of the code with these copies: at entry, the kernel's own, at exit.
    fn call_with(code: u8, [before, own, after]: [Small; 3]) -> Call {
        let mut join = Join::new(0, 0, Hooks::default());
        let args = [0, 0x1000, 1, 0, 0, 0];
        join.take(&of_memory(kind::ENTER, code, &Enter { args, ..Enter::zeroed() }, &before));
        join.take(&of_memory(kind::KERNEL_COPY, 0, &Header::zeroed(), &own));
        join.take(&of_memory(kind::EXIT, code, &Exit::zeroed(), &after));
        assert_eq!(join.malformed, 0);
        *join.finished().calls.remove(0)
    }

    #[test]
    fn the_kernels_own_operations_decide() {
        let semop = |adds: [i16; 3]| {
            let call = call_with(2, adds.map(adding));
            (call.first_sop.map(|s| s.sem_op), call.args_changed)
        };
        assert_eq!(semop([1, 1, 1]), (Some(1), Some(false)));
        assert_eq!(semop([1, 2, 2]), (Some(2), Some(true)), "rewritten before the kernel read them");
        assert_eq!(semop([1, 1, 2]), (Some(1), Some(true)), "rewritten after it");
        assert_eq!(semop([1, 2, 1]), (Some(2), Some(true)), "and restored");
    }

    #[test]
    fn the_kernels_own_set_decides_but_for_what_is_never_blocked() {
        const RT_SIGPROCMASK: u8 = 22;
        const SIGKILL: u64 = 1 << 8;
        let mask = |sets: [u64; 3]| {
            let call = call_with(RT_SIGPROCMASK, sets.map(masking));
            (call.sig_set(), call.args_changed)
        };
        assert_eq!(mask([SIGKILL | 2, 2, SIGKILL | 2]), (Some(SIGKILL | 2), Some(false)));
        assert_eq!(mask([2, 4, 2]), (Some(4), Some(true)));
        assert_eq!(mask([2, 2, 4]), (Some(2), Some(true)));
    }

    #[test]
    fn a_stack_belongs_to_the_call_that_says_so() {
        let mut join = Join::new(0, 0, Hooks::default());
        let stack = |join: &mut Join, time| {
            let frame = wire::Frame { status: wire::Frame::VALID, build_id: [1; 20], offset: 64 };
            let stack = wire::Stack { header: header(kind::STACK, time), bytes: size_of_val(&frame) as i64 };
            join.take(&[bytes_of(&stack), bytes_of(&frame)].concat());
        };
        let mut with_stack = enter(20);
        with_stack.header.flags = flag::STACK;
        stack(&mut join, 10); // the record of its call was lost
        feed(&mut join, &enter(15));
        feed(&mut join, &exit(16, 0));
        stack(&mut join, 19);
        feed(&mut join, &with_stack);
        feed(&mut join, &exit(25, 0));
        feed(&mut join, &with_stack); // the record of its stack was lost
        feed(&mut join, &exit(27, 0));
        let ids: Vec<_> = join.finished().calls.iter().map(|c| c.stack_id).collect();
        assert_eq!(ids, [None, Some(1), None]);
    }

    #[test]
    fn a_library_call_is_over_at_once_and_ends_no_other() {
        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &enter(10));
        let mut library = enter(20);
        (library.header.kind, library.header.code) = (kind::LIBRARY, 39);
        library.args[1] = 15;
        feed(&mut join, &library);
        feed(&mut join, &exit(25, 0));
        let calls = join.finished().calls;
        let told: Vec<_> = calls.iter().map(|c| (c.operation(), c.start_ns, c.end_ns, c.signal())).collect();
        assert_eq!(told, [("sigaddset", 20, Some(20), Some(15)), ("semget", 10, Some(25), None)]);
        assert_eq!((calls[0].outcome, calls[0].return_value()), (Outcome::Ok, None));
    }

    #[test]
    fn an_exit_without_partner_is_a_loss() {
        let mut join = Join::new(0, 0, Hooks::default());
        feed(&mut join, &exit(25, 0));
        assert_eq!(join.finished().losses[0].source, losses::NO_PARTNER);
    }
}
