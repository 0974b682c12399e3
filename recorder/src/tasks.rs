//! Processes and threads: who is who, under pid reuse too.

use crate::call::{Call, Identity};
use ipc_schema::wire::{Context, Exec, Fork, Header, TaskExit, flag};
use rustc_hash::FxHashMap;

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
    pub start_ns: Option<u64>,
    /// Its parent, if the trace saw it.
    pub parent_process_id: Option<i64>,
    /// Name of its leader.
    pub comm: Option<[u8; 16]>,
    /// Path of its program.
    pub exe: Option<String>,
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
    pub start_ns: Option<u64>,
    /// Its end.
    pub exit_ns: Option<u64>,
    /// Who created it.
    pub parent_thread_id: Option<i64>,
    /// Who it is now.
    pub identity: Identity,
    /// Whether the trace saw it enter a call.
    pub has_entered: bool,
    /// The call it is in.
    pub open: Option<Box<Call>>,
    /// The call it was in when a fatal signal reached it.
    pub dying: Option<Box<Call>>,
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
    /// Calls of threads that died in them while the record of their end was lost, since they were last taken.
    pub died_in: Vec<Call>,
}

fn known(start_ns: u64) -> Option<u64> {
    (start_ns != 0).then_some(start_ns)
}

/// Whether two starts are those of two tasks; an unknown start tells nothing.
fn differ(a: Option<u64>, b: Option<u64>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

/// The processes that live, and the ids given so far.
#[derive(Default)]
struct Roster {
    processes: FxHashMap<u32, Process>,
    /// Creators of children that are known by thread id only (kernels without BTF).
    creators: FxHashMap<u32, (i64, i64)>,
    last_process_id: i64,
    last_thread_id: i64,
}

impl Roster {
    fn new_thread(&mut self, tid: u32, pid: u32, start_ns: Option<u64>, parent_thread_id: Option<i64>) -> Thread {
        let process_id = self.process(pid).process_id;
        self.last_thread_id += 1;
        let parent_thread_id = parent_thread_id.or_else(|| self.creators.remove(&tid).map(|c| c.1));
        Thread {
            thread_id: self.last_thread_id,
            process_id,
            pid,
            tid,
            start_ns,
            exit_ns: None,
            parent_thread_id,
            identity: Identity::default(),
            has_entered: false,
            open: None,
            dying: None,
        }
    }

    fn process(&mut self, pid: u32) -> &mut Process {
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
        self.threads.entry(header.tid).or_insert_with(|| roster.new_thread(header.tid, header.pid, None, None))
    }

    /// Another thread has this id from now on.
    fn put_thread(&mut self, thread: Thread) {
        if let Some(mut old) = self.threads.insert(thread.tid, thread) {
            // Its end was lost, but not what it died in.
            self.died_in.extend(old.dying.take().map(|call| *call));
            self.ended_threads.push(old);
        }
    }

    /// A thread said who it is.
    pub fn context(&mut self, header: &Header, context: &Context) {
        let process_start = known(context.process_start_ns);
        if self.roster.processes.get(&header.pid).is_some_and(|p| differ(p.start_ns, process_start)) {
            self.end_process(header.pid, None, None);
        }
        self.describe_process(header, context, process_start);
        let start = known(context.thread_start_ns);
        let is_other = |t: &Thread| differ(t.start_ns, start) || t.pid != header.pid;
        if self.threads.get(&header.tid).is_none_or(is_other) {
            let thread = self.roster.new_thread(header.tid, header.pid, start, None);
            self.put_thread(thread);
        }
        let thread = self.thread(header);
        thread.start_ns = thread.start_ns.or(start);
        thread.identity = Identity {
            comm: context.comm,
            uid: Some(context.uid),
            cgroup_id: Some(context.cgroup_id),
            ipc_ns: (context.ipc_ns != 0).then_some(context.ipc_ns),
        };
    }

    fn describe_process(&mut self, header: &Header, context: &Context, start: Option<u64>) {
        let is_new = self.roster.processes.get(&header.pid).is_none_or(|p| p.uid.is_none());
        let status = is_new.then(|| procfs::Status::of(header.pid));
        let parent = status.as_ref().and_then(|s| self.roster.processes.get(&s.parent_pid?)).map(|p| p.process_id);
        let process = self.roster.process(header.pid);
        process.start_ns = process.start_ns.or(start);
        process.uid = Some(context.uid);
        process.ipc_ns = (context.ipc_ns != 0).then_some(context.ipc_ns).or(process.ipc_ns);
        if header.tid == header.pid {
            process.comm = Some(context.comm);
        }
        if let Some(status) = status {
            process.parent_process_id = process.parent_process_id.or(parent);
            process.ns_pid = status.ns_pid;
            process.exe = process.exe.take().or_else(|| procfs::exe(header.pid));
            process.cgroup = procfs::cgroup(header.pid);
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
        if fork.child_pid != header.pid {
            self.end_process(fork.child_pid, None, None);
            let process = self.roster.process(fork.child_pid);
            process.parent_process_id = Some(process_id);
            process.start_ns = known(fork.child_start_ns);
            process.comm = Some(fork.comm);
        }
        let start_ns = known(fork.child_start_ns);
        let mut child = self.roster.new_thread(fork.child_tid, fork.child_pid, start_ns, Some(thread_id));
        child.identity.comm = fork.comm;
        self.put_thread(child);
    }

    /// A process replaced its program; the thread that did it is the leader now.
    pub fn exec(&mut self, header: &Header, exec: &Exec) {
        if exec.old_tid != header.tid
            && let Some(mut thread) = self.threads.remove(&exec.old_tid)
        {
            thread.tid = header.tid;
            self.put_thread(thread);
        }
        let exe = procfs::exe(header.pid);
        let process = self.roster.process(header.pid);
        process.comm = Some(exec.comm);
        process.exe = exe.clone().or(process.exe.take());
        let process_id = process.process_id;
        self.thread(header).identity.comm = exec.comm;
        self.executions.push(Execution { process_id, exec_ns: header.time_ns, comm: exec.comm, exe });
    }

    /// A thread ended. Returns the call that it died in.
    pub fn exit(&mut self, header: &Header, exit: &TaskExit) -> Option<Box<Call>> {
        self.roster.creators.remove(&header.tid);
        let mut thread = self.threads.remove(&header.tid);
        let died_in = thread.as_mut().and_then(|t| t.dying.take());
        if let Some(mut thread) = thread {
            thread.exit_ns = Some(header.time_ns);
            self.ended_threads.push(thread);
        }
        if header.flags & flag::LAST_THREAD != 0 {
            let code = (exit.exit_code >= 0).then_some(exit.exit_code);
            self.end_process(header.pid, Some(header.time_ns), code);
        }
        died_in
    }

    fn end_process(&mut self, pid: u32, exit_ns: Option<u64>, exit_code: Option<i32>) {
        if let Some(mut process) = self.roster.processes.remove(&pid) {
            process.exit_ns = exit_ns;
            process.exit_code = exit_code;
            self.ended_processes.push(process);
        }
    }

    /// The recording is over: every thread that lives, for its open call; then all are ended.
    pub fn finish(&mut self) -> Vec<Thread> {
        self.ended_processes.extend(self.roster.processes.drain().map(|(_, p)| p));
        self.threads.drain().map(|(_, t)| t).collect()
    }
}

/// What `/proc` says of a process; all of it may be gone by the time it is asked.
mod procfs {
    pub struct Status {
        pub parent_pid: Option<u32>,
        pub ns_pid: Option<i32>,
    }

    impl Status {
        pub fn of(pid: u32) -> Status {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
            Status {
                parent_pid: field("PPid:").and_then(|v| v.trim().parse().ok()),
                ns_pid: field("NSpid:").and_then(|v| v.split_whitespace().last()?.parse().ok()),
            }
        }
    }

    pub fn exe(pid: u32) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(path.to_string_lossy().into_owned())
    }

    pub fn cgroup(pid: u32) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("0::")).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use bytemuck::Zeroable;

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
    fn the_last_thread_ends_the_process_with_its_code() {
        let mut tasks = Tasks::default();
        tasks.context(&header(PID, PID, 10), &context(1));
        let last = Header { flags: flag::LAST_THREAD, ..header(PID, PID, 30) };
        tasks.exit(&last, &TaskExit { exit_code: 9, ..TaskExit::zeroed() });
        let ended = tasks.ended_processes.pop().unwrap();
        assert_eq!((ended.exit_ns, ended.exit_code), (Some(30), Some(9)));
    }
}
