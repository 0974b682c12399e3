//! Processes and threads: who is who, under pid reuse too.

use crate::call::{Call, Identity};
use crate::finished::Calls;
use crate::lookups::Lookups;
use crate::scan::Scanned;
use crate::waits::Waker;
use bytemuck::Zeroable;
use ipc_schema::text;
use ipc_schema::wire::{Context, Exec, Fork, Header, TaskExit, flag};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// A process that the trace saw. Times are CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Unique in the trace.
    pub process_id: i64,
    /// Process id.
    pub pid: u32,
    /// Process id in its own pid namespace.
    pub ns_pid: Option<i32>,
    /// Its start.
    pub start: Start,
    /// Its parent, if the trace saw it.
    pub parent_process_id: Option<i64>,
    /// Name of its leader.
    pub comm: Option<[u8; 16]>,
    /// Its parent in /proc, until the trace knows it.
    pub parent_pid: Option<u32>,
    /// Path of its program.
    pub exe: Option<String>,
    /// Its arguments, if they were asked for.
    pub cmdline: Option<String>,
    /// User id.
    pub uid: Option<u32>,
    /// cgroup path.
    pub cgroup: Option<String>,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<u32>,
    /// Its end.
    pub exit_ns: Option<u64>,
    /// As wait(2) reports it.
    pub exit_code: Option<i32>,
}

impl Process {
    /// Program, arguments and cgroup of a child that it creates now: most are gone before anybody can ask for theirs.
    fn inherited(&self, clone_flags: u64) -> (Option<String>, Option<String>, Option<String>) {
        /// `include/uapi/linux/sched.h`: the child begins in another cgroup.
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        let cgroup = self.cgroup.clone().filter(|_| clone_flags & CLONE_INTO_CGROUP == 0);
        (self.exe.clone(), self.cmdline.clone(), cgroup)
    }
}

/// A thread that the trace saw.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Unique in the trace.
    pub thread_id: i64,
    /// Its process.
    pub process_id: i64,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Its start.
    pub start: Start,
    /// Its end.
    pub exit_ns: Option<u64>,
    /// Who created it.
    pub parent_thread_id: Option<i64>,
    /// Who it is now.
    pub identity: Identity,
    /// Flags of clone(2).
    pub clone_flags: Option<u64>,
    /// Its signals when the trace first saw it.
    pub signals: Signals,
    /// Thread id in its own pid namespace.
    pub ns_tid: Option<i32>,
    /// Whether the trace saw it enter a call.
    pub has_entered: bool,
    /// The call it is in.
    pub open: Option<Box<Call>>,
    /// The call that the kernel may restart.
    pub restarting: Option<Box<Call>>,
    /// The call it was in when a fatal signal reached it.
    pub dying: Option<Box<Call>>,
    /// The open call of it that was told last; 0: none.
    pub told_call: i64,
}

/// Signal sets of a thread, bit n-1 = signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Blocked.
    pub blocked: Option<u64>,
    /// Pending, for the thread or its process.
    pub pending: Option<u64>,
    /// Ignored.
    pub ignored: Option<u64>,
}

/// One execve.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The process.
    pub process_id: i64,
    /// When.
    pub exec_ns: u64,
    /// The new name.
    pub comm: [u8; 16],
    /// The new program.
    pub exe: Option<String>,
}

/// How many threads that ended are remembered.
const MOST_GHOSTS: usize = 65_536;

/// A thread that has ended.
#[derive(Clone, Copy)]
struct Ghost {
    pid: u32,
    process_id: i64,
    thread_id: i64,
    comm: [u8; 16],
}

/// Every process and thread that lives, and the rows of those that ended.
#[derive(Default)]
pub struct Tasks {
    roster: Roster,
    threads: FxHashMap<u32, Thread>,
    /// Processes that ended since they were last taken.
    pub ended_processes: Vec<Process>,
    /// Threads that ended since they were last taken.
    pub ended_threads: Vec<Thread>,
    /// Executions since they were last taken.
    pub executions: Vec<Execution>,
    /// Threads that ended, by thread id: one that is exiting still wakes others and signals its parent.
    ghosts: FxHashMap<u32, Ghost>,
    with_cmdlines: bool,
    /// Tells what processes are.
    pub lookups: Lookups,
    /// Calls of threads that died in them while the record of their end was lost, since they were last taken.
    pub died_in: Calls,
}

/// When a task started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// As the kernel keeps it.
    pub exact_ns: Option<u64>,
    /// As `/proc` tells it, in clock ticks.
    pub about_ns: Option<u64>,
}

impl Start {
    /// The best that is known.
    pub fn ns(self) -> Option<u64> {
        self.exact_ns.or(self.about_ns)
    }

    fn exactly(start_ns: u64) -> Start {
        Start { exact_ns: (start_ns != 0).then_some(start_ns), about_ns: None }
    }

    fn about(start_ns: Option<u64>) -> Start {
        Start { exact_ns: None, about_ns: start_ns }
    }

    /// Whether two starts are those of two tasks; an unknown start tells nothing.
    fn differs(self, other: Start) -> bool {
        /// Two ticks of the slowest clock.
        const TICKS_NS: u64 = 20_000_000;
        match (self.exact_ns, other.exact_ns, self.ns(), other.ns()) {
            (Some(a), Some(b), ..) => a != b,
            (.., Some(a), Some(b)) => a.abs_diff(b) > TICKS_NS,
            _ => false,
        }
    }

    fn or(self, other: Start) -> Start {
        Start { exact_ns: self.exact_ns.or(other.exact_ns), about_ns: self.about_ns.or(other.about_ns) }
    }
}

/// The processes that live, and the ids given so far.
#[derive(Default)]
struct Roster {
    processes: FxHashMap<u32, Process>,
    /// Creators of children that are known by thread id only (kernels without BTF).
    creators: FxHashMap<u32, (i64, i64)>,
    last_process_id: i64,
    last_thread_id: i64,
    /// Processes and threads that are not as they were told last.
    untold: (FxHashSet<u32>, FxHashSet<u32>),
}

impl Roster {
    fn new_thread(&mut self, tid: u32, pid: u32, start: Start, parent_thread_id: Option<i64>) -> Thread {
        let process_id = self.process(pid).process_id;
        self.last_thread_id += 1;
        self.untold.1.insert(tid);
        let parent_thread_id = parent_thread_id.or_else(|| self.creators.remove(&tid).map(|c| c.1));
        Thread {
            thread_id: self.last_thread_id,
            process_id,
            pid,
            tid,
            start,
            exit_ns: None,
            parent_thread_id,
            identity: Identity::default(),
            clone_flags: None,
            signals: Signals::default(),
            ns_tid: None,
            has_entered: false,
            open: None,
            restarting: None,
            dying: None,
            told_call: 0,
        }
    }

    /// A process, about which something is learnt.
    fn process(&mut self, pid: u32) -> &mut Process {
        self.untold.0.insert(pid);
        let next = self.last_process_id + 1;
        let parent_process_id = self.creators.get(&pid).map(|c| c.0);
        let process = self.processes.entry(pid).or_insert_with(|| Process {
            process_id: next,
            pid,
            parent_process_id,
            ..Process::default()
        });
        self.last_process_id = self.last_process_id.max(process.process_id);
        process
    }
}

impl Tasks {
    /// The thread of a record; seen for the first time, it gets an id.
    pub fn thread(&mut self, header: &Header) -> &mut Thread {
        let roster = &mut self.roster;
        self.threads
            .entry(header.tid)
            .or_insert_with(|| roster.new_thread(header.tid, header.pid, Start::default(), None))
    }

    /// The thread with this id, if the trace knows it.
    pub fn known(&mut self, tid: u32) -> Option<&mut Thread> {
        self.threads.get_mut(&tid)
    }

    /// The process of a thread, and the thread; those that have just ended too. Seen for the first time, they get ids.
    pub fn ids(&mut self, pid: u32, tid: u32) -> (i64, i64) {
        if let Some(ghost) = self.ghost(pid, tid) {
            return (ghost.process_id, ghost.thread_id);
        }
        let thread = self.thread(&Header { pid, tid, ..Header::zeroed() });
        (thread.process_id, thread.thread_id)
    }

    /// The thread that had this id and has ended, unless another has it now.
    fn ghost(&self, pid: u32, tid: u32) -> Option<&Ghost> {
        self.ghosts.get(&tid).filter(|g| g.pid == pid && !self.threads.contains_key(&tid))
    }

    /// The process with this id, also one that has just ended.
    pub fn process_id(&mut self, pid: u32) -> i64 {
        self.ids(pid, pid).0
    }

    /// The task that made a record, as one that woke another. `comm` is used if the trace does not know its name.
    pub fn waker(&mut self, header: &Header, comm: [u8; 16]) -> Waker {
        let (process_id, thread_id) = self.ids(header.pid, header.tid);
        let living = self.threads.get(&header.tid).map(|t| t.identity.comm);
        let known = living.or_else(|| self.ghosts.get(&header.tid).map(|g| g.comm)).filter(|c| c[0] != 0);
        Waker { process_id, thread_id, call_id: None, comm: known.unwrap_or(comm), operation: None }
    }

    /// A thread that was there before the trace.
    pub fn scanned(&mut self, thread: &Scanned) {
        if self.ghost(thread.pid, thread.tid).is_some() {
            return; // it ended while it was looked at
        }
        let header = Header { tid: thread.tid, pid: thread.pid, ..Header::zeroed() };
        let process = self.roster.process(thread.pid);
        if process.uid.is_none() {
            process.uid = thread.uid;
            process.ns_pid = thread.ns_pid;
            process.start = process.start.or(Start::about(thread.process_start_ns));
            process.comm = process.comm.or(Some(thread.process_comm));
            process.exe = thread.exe.clone();
            process.cmdline = thread.cmdline.clone();
            process.cgroup = thread.cgroup.clone();
            process.ipc_ns = thread.ipc_ns;
            process.parent_pid = thread.parent_pid;
        }
        self.roster.untold.1.insert(thread.tid);
        let known = self.thread(&header);
        known.ns_tid = known.ns_tid.or(thread.ns_tid);
        known.start = known.start.or(Start::about(thread.start_ns));
        if known.signals == Signals::default() {
            known.signals = thread.signals;
        }
        if known.identity.comm[0] == 0 {
            let ipc_ns = thread.ipc_ns;
            known.identity = Identity { comm: thread.comm, uid: thread.uid, cgroup_id: thread.cgroup_id, ipc_ns };
        }
    }

    /// Another thread has this id from now on.
    fn put_thread(&mut self, thread: Thread) {
        if let Some(mut old) = self.threads.insert(thread.tid, thread) {
            // Its end was lost, but not what it died in.
            self.died_in.extend(old.dying.take().or(old.restarting.take()));
            self.ended_threads.push(old);
        }
    }

    /// A thread said who it is.
    pub fn context(&mut self, header: &Header, context: &Context) {
        let process_start = Start::exactly(context.process_start_ns);
        if self.roster.processes.get(&header.pid).is_some_and(|p| p.start.differs(process_start)) {
            self.end_process(header.pid, None, None);
        }
        self.describe_process(header, context, process_start);
        let start = Start::exactly(context.thread_start_ns);
        let is_other = |t: &Thread| t.start.differs(start) || t.pid != header.pid;
        if self.threads.get(&header.tid).is_none_or(is_other) {
            let thread = self.roster.new_thread(header.tid, header.pid, start, None);
            self.put_thread(thread);
        }
        self.roster.untold.1.insert(header.tid);
        let thread = self.thread(header);
        thread.start = thread.start.or(start);
        thread.identity = Identity {
            comm: context.comm,
            uid: Some(context.uid),
            cgroup_id: Some(context.cgroup_id),
            ipc_ns: (context.ipc_ns != 0).then_some(context.ipc_ns),
        };
    }

    fn describe_process(&mut self, header: &Header, context: &Context, start: Start) {
        let is_new = self.roster.processes.get(&header.pid).is_none_or(|p| p.uid.is_none());
        let found = is_new.then(|| self.lookups.process(header.pid, self.with_cmdlines));
        let parent = found.as_ref().and_then(|f| self.roster.processes.get(&f.parent_pid?)).map(|p| p.process_id);
        let process = self.roster.process(header.pid);
        process.start = process.start.or(start);
        process.uid = Some(context.uid);
        process.ipc_ns = (context.ipc_ns != 0).then_some(context.ipc_ns).or(process.ipc_ns);
        if header.tid == header.pid {
            process.comm = Some(context.comm);
        }
        if let Some(found) = found {
            process.parent_process_id = process.parent_process_id.or(parent);
            process.ns_pid = found.ns_pid;
            process.parent_pid = found.parent_pid;
            process.exe = found.exe.or(process.exe.take());
            process.cgroup = found.cgroup.or(process.cgroup.take());
            process.cmdline = found.cmdline.or(process.cmdline.take());
        }
    }

    /// A thread created another.
    pub fn fork(&mut self, header: &Header, fork: &Fork) {
        let parent = self.thread(header);
        let (process_id, thread_id) = (parent.process_id, parent.thread_id);
        if fork.child_pid == 0 {
            self.roster.creators.insert(fork.child_tid, (process_id, thread_id));
            return;
        }
        let start = Start::exactly(fork.child_start_ns);
        if fork.child_pid != header.pid {
            if self.roster.processes.get(&fork.child_pid).is_some_and(|p| p.start.differs(start)) {
                self.end_process(fork.child_pid, None, None);
            }
            let inherited = self.roster.processes.get(&header.pid).map(|parent| parent.inherited(fork.clone_flags));
            let process = self.roster.process(fork.child_pid);
            process.parent_process_id = Some(process_id);
            process.start = start;
            process.comm = Some(fork.comm);
            // Its exec may have been told before its fork.
            let (exe, cmdline, cgroup) = inherited.unwrap_or_default();
            process.exe = process.exe.take().or(exe);
            process.cmdline = process.cmdline.take().or(cmdline);
            process.cgroup = process.cgroup.take().or(cgroup);
        }
        let is_other = |t: &Thread| t.start.differs(start) || t.pid != fork.child_pid;
        if self.threads.get(&fork.child_tid).is_none_or(is_other) {
            let child = self.roster.new_thread(fork.child_tid, fork.child_pid, start, Some(thread_id));
            self.put_thread(child);
        }
        self.roster.untold.1.insert(fork.child_tid);
        if let Some(child) = self.threads.get_mut(&fork.child_tid) {
            (child.start, child.parent_thread_id) = (start, Some(thread_id));
            child.identity.comm = fork.comm;
            child.clone_flags = Some(fork.clone_flags);
            child.signals.blocked = Some(fork.blocked);
        }
    }

    /// A process replaced its program; the thread that did it is the leader now.
    pub fn exec(&mut self, header: &Header, exec: &Exec) {
        if exec.old_tid != header.tid
            && let Some(mut thread) = self.threads.remove(&exec.old_tid)
        {
            thread.tid = header.tid;
            self.put_thread(thread);
        }
        let found = self.lookups.process(header.pid, self.with_cmdlines);
        let exe = found.exe.or_else(|| path_text(&exec.path));
        let process = self.roster.process(header.pid);
        process.comm = Some(exec.comm);
        // What is not known of it is not what it ran before.
        (process.exe, process.cmdline) = (exe.clone(), found.cmdline);
        let process_id = process.process_id;
        self.roster.untold.1.insert(header.tid);
        self.thread(header).identity.comm = exec.comm;
        self.executions.push(Execution { process_id, exec_ns: header.time_ns, comm: exec.comm, exe });
    }

    /// A thread ended. Returns the call that it died in.
    pub fn exit(&mut self, header: &Header, exit: &TaskExit) -> Option<Box<Call>> {
        self.roster.creators.remove(&header.tid);
        let mut thread = self.threads.remove(&header.tid);
        let died_in = thread.as_mut().and_then(|t| t.dying.take().or(t.restarting.take()));
        if let Some(mut thread) = thread {
            thread.exit_ns = Some(header.time_ns);
            if self.ghosts.len() == MOST_GHOSTS {
                self.ghosts.clear();
            }
            let Thread { pid, process_id, thread_id, identity, .. } = thread;
            self.ghosts.insert(header.tid, Ghost { pid, process_id, thread_id, comm: identity.comm });
            self.ended_threads.push(thread);
        }
        if header.flags & flag::LAST_THREAD != 0 {
            let code = (exit.exit_code >= 0).then_some(exit.exit_code);
            self.end_process(header.pid, Some(header.time_ns), code);
        }
        died_in
    }

    /// Whether command lines are kept.
    pub fn keep_cmdlines(&mut self) {
        self.with_cmdlines = true;
    }

    fn end_process(&mut self, pid: u32, exit_ns: Option<u64>, exit_code: Option<i32>) {
        if let Some(mut process) = self.roster.processes.remove(&pid) {
            process.exit_ns = exit_ns;
            process.exit_code = exit_code;
            self.ended_processes.push(process);
        }
    }

    /// The processes and threads that live, without their calls: those that are not as they were told last, or all.
    pub fn living(&mut self, all: bool) -> (Vec<Process>, Vec<Thread>) {
        let (mut pids, mut tids) = std::mem::take(&mut self.roster.untold);
        if all {
            pids.extend(self.roster.processes.keys());
            tids.extend(self.threads.keys());
        }
        let processes = pids.iter().filter_map(|pid| self.roster.processes.get(pid)).cloned().collect();
        let row = |thread: &Thread| Thread { open: None, restarting: None, dying: None, ..thread.clone() };
        let threads = tids.iter().filter_map(|tid| self.threads.get(tid)).map(row).collect();
        (processes, threads)
    }

    /// Every thread that lives.
    pub fn threads(&mut self) -> impl Iterator<Item = &mut Thread> {
        self.threads.values_mut()
    }

    /// The recording is over: every thread that lives, for its open call; then all are ended.
    pub fn finish(&mut self) -> Vec<Thread> {
        let parents: Vec<(u32, i64)> = self
            .roster
            .processes
            .values()
            .filter(|p| p.parent_process_id.is_none())
            .filter_map(|p| Some((p.pid, self.roster.processes.get(&p.parent_pid?)?.process_id)))
            .collect();
        for (pid, parent) in parents {
            self.roster.process(pid).parent_process_id = Some(parent);
        }
        self.ended_processes.extend(self.roster.processes.drain().map(|(_, p)| p));
        self.threads.drain().map(|(_, t)| t).collect()
    }
}

/// The path that execve got, for a process that is gone already.
fn path_text(path: &[u8]) -> Option<String> {
    let path = path.split(|b| *b == 0).next().filter(|p| !p.is_empty())?;
    Some(text::of_bytes(path).into_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn header(pid: u32, tid: u32, time_ns: u64) -> Header {
        Header { pid, tid, time_ns, ..Header::zeroed() }
    }

    fn context(start: u64) -> Context {
        Context { process_start_ns: start, thread_start_ns: start, ..Context::zeroed() }
    }

    // Process ids above every pid_max, so that /proc never knows them.
    const PID: u32 = 5_000_000;

    #[test]
    fn a_reused_pid_is_another_process_even_when_the_exit_was_lost() {
        let mut tasks = Tasks::default();
        tasks.context(&header(PID, PID, 10), &context(1));
        let first = tasks.thread(&header(PID, PID, 11)).clone();
        tasks.context(&header(PID, PID, 20), &context(15));
        let second = tasks.thread(&header(PID, PID, 21)).clone();
        assert_ne!(first.process_id, second.process_id);
        assert_ne!(first.thread_id, second.thread_id);
        assert_eq!(tasks.ended_processes[0].process_id, first.process_id);
    }

    #[test]
    fn exec_from_another_thread_keeps_the_process_and_the_calling_thread() {
        let mut tasks = Tasks::default();
        tasks.context(&header(PID, PID, 10), &context(1));
        let fork = Fork { child_tid: PID + 1, child_pid: PID, child_start_ns: 11, ..Fork::zeroed() };
        tasks.fork(&header(PID, PID, 11), &fork);
        let caller = tasks.thread(&header(PID, PID + 1, 12)).clone();
        tasks.exit(&header(PID, PID, 13), &TaskExit::zeroed());
        tasks.exec(&header(PID, PID, 14), &Exec { old_tid: PID + 1, ..Exec::zeroed() });
        let after = tasks.thread(&header(PID, PID, 15)).clone();
        assert_eq!((after.thread_id, after.process_id), (caller.thread_id, caller.process_id));
        assert!(tasks.ended_processes.is_empty());
    }

    #[test]
    fn a_forked_process_runs_what_its_parent_ran() {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        let mut tasks = Tasks::default();
        tasks.context(&header(PID, PID, 10), &context(1));
        let parent = tasks.roster.process(PID);
        (parent.exe, parent.cgroup) = (Some("/bin/parent".into()), Some("/group".into()));
        for (child_pid, clone_flags) in [(PID + 1, 0), (PID + 2, CLONE_INTO_CGROUP)] {
            let fork = Fork { child_tid: child_pid, child_pid, child_start_ns: 11, clone_flags, ..Fork::zeroed() };
            tasks.fork(&header(PID, PID, 11), &fork);
            tasks.context(&header(child_pid, child_pid, 12), &context(11));
            let child = tasks.roster.process(child_pid);
            assert_eq!(child.exe.as_deref(), Some("/bin/parent"));
            assert_eq!(child.cgroup.as_deref(), (clone_flags == 0).then_some("/group"));
        }
    }

    #[test]
    fn a_program_that_was_replaced_tells_nothing_of_the_one_that_runs() {
        let mut tasks = Tasks::default();
        let parent = tasks.roster.process(PID);
        let (exe, cmdline, cgroup) = (Some("/bin/sh".into()), Some("sh x.sh".into()), Some("/group".into()));
        (parent.exe, parent.cmdline, parent.cgroup) = (exe, cmdline, cgroup);
        let mut path = [0; _];
        path[..7].copy_from_slice(b"/bin/ls");
        let exec = Exec { old_tid: PID + 1, path, ..Exec::zeroed() };
        let fork = Fork { child_tid: PID + 1, child_pid: PID + 1, child_start_ns: 11, ..Fork::zeroed() };
        let told = |tasks: &mut Tasks| {
            let child = tasks.roster.process(PID + 1);
            [child.exe.clone(), child.cmdline.clone(), child.cgroup.clone()]
        };
        tasks.fork(&header(PID, PID, 11), &fork);
        tasks.exec(&header(PID + 1, PID + 1, 12), &exec);
        assert_eq!(told(&mut tasks), [Some("/bin/ls".into()), None, Some("/group".into())]);
        // Another CPU's record of the fork may come behind that of the exec.
        tasks.fork(&header(PID, PID, 11), &fork);
        assert_eq!(told(&mut tasks)[0].as_deref(), Some("/bin/ls"));
    }

    #[test]
    fn the_last_thread_ends_the_process_with_its_code() {
        let mut tasks = Tasks::default();
        tasks.context(&header(PID, PID, 10), &context(1));
        let last = Header { flags: flag::LAST_THREAD, ..header(PID, PID, 30) };
        tasks.exit(&last, &TaskExit { exit_code: 9, ..TaskExit::zeroed() });
        let ended = tasks.ended_processes.pop().unwrap();
        assert_eq!((ended.exit_ns, ended.exit_code), (Some(30), Some(9)));
    }
}
