//! Joins entries and exits into calls.

use crate::call::{Call, Outcome};
use crate::decode::{self, Record};
use crate::tasks::{Execution, Process, Tasks, Thread};
use ipc_schema::catalogue::{Abi, by_code};
use ipc_schema::flags;
use ipc_schema::losses::{self, Source};
use ipc_schema::wire::{Header, Sembuf, flag, slot};

/// Something that was lost, and when; CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Before it.
    pub from_ns: u64,
    /// After it.
    pub to_ns: u64,
    /// How.
    pub source: Source,
    /// Of which CPU.
    pub cpu: Option<u16>,
    /// How many; `None`: unknown.
    pub count: Option<i64>,
}

/// What the join has finished since it was last taken.
#[derive(Default)]
pub struct Finished {
    /// Calls, in the order of their ends.
    pub calls: Vec<Call>,
    /// Processes that ended.
    pub processes: Vec<Process>,
    /// Threads that ended.
    pub threads: Vec<Thread>,
    /// Executions.
    pub executions: Vec<Execution>,
    /// Losses.
    pub losses: Vec<Loss>,
}

/// Joins the records of one recording.
pub struct Join {
    tasks: Tasks,
    start_ns: u64,
    last_call_id: i64,
    calls: Vec<Call>,
    losses: Vec<Loss>,
    /// Records whose bytes were not what their kind says.
    pub malformed: u64,
}

impl Join {
    /// A join for a recording that began at `start_ns`.
    pub fn new(start_ns: u64) -> Join {
        Join { tasks: Tasks::default(), start_ns, last_call_id: 0, calls: vec![], losses: vec![], malformed: 0 }
    }

    /// Takes one record; records come in the order of their times.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some((header, record)) = decode::record(bytes) else {
            self.malformed += 1;
            return;
        };
        match record {
            Record::Enter { arguments, sops } => self.enter(&header, arguments, sops),
            Record::LateSops { sops } => {
                if let Some(call) = &mut self.tasks.thread(&header).open {
                    set_sops(call, sops);
                }
            }
            Record::Exit { ret } => self.exit(&header, ret),
            Record::Whole { arguments, ret } => self.whole(&header, arguments, ret),
            Record::Context(context) => self.tasks.context(&header, &context),
            Record::Fork(fork) => self.tasks.fork(&header, &fork),
            Record::Exec(exec) => self.tasks.exec(&header, &exec),
            Record::TaskExit(exit) => {
                if let Some(call) = self.tasks.exit(&header, &exit) {
                    self.calls.push(killed(*call, header.time_ns));
                }
            }
        }
    }

    fn enter(&mut self, header: &Header, arguments: [u64; 6], sops: &[u8]) {
        let Some(mut call) = self.new_call(header, arguments) else { return };
        set_sops(&mut call, sops);
        let thread = self.tasks.thread(header);
        thread.has_entered = true;
        // A call still open here lost its exit, which the probe has counted.
        thread.open = Some(Box::new(call));
    }

    fn new_call(&mut self, header: &Header, arguments: [u64; 6]) -> Option<Call> {
        let (Some(entry), Some(abi)) = (by_code(header.code), Abi::from_wire(header.abi)) else {
            self.malformed += 1;
            return None;
        };
        self.last_call_id += 1;
        let thread = self.tasks.thread(header);
        Some(Call {
            call_id: self.last_call_id,
            began_before: false,
            start_ns: header.time_ns,
            end_ns: None,
            outcome: Outcome::Open,
            entry,
            abi,
            cpu: header.cpu,
            pid: header.pid,
            tid: header.tid,
            process_id: thread.process_id,
            thread_id: thread.thread_id,
            identity: thread.identity,
            arguments,
            ret: None,
            first_sop: None,
            sops: Box::default(),
        })
    }

    fn exit(&mut self, header: &Header, ret: i64) {
        let thread = self.tasks.thread(header);
        let Some(mut call) = thread.open.take().filter(|c| c.entry.code == header.code) else {
            let (from_ns, to_ns) = (header.time_ns, header.time_ns);
            self.losses.push(Loss {
                from_ns,
                to_ns,
                source: losses::NO_PARTNER,
                cpu: Some(header.cpu),
                count: Some(1),
            });
            return;
        };
        call.ret = Some(ret);
        call.end_ns = Some(header.time_ns);
        if header.flags & flag::FATAL != 0 && is_interrupted(ret) {
            thread.dying = Some(call);
        } else {
            self.calls.push(returned(*call, ret));
        }
    }

    /// An exit without an entry: the call began before the probes, or seccomp denied it.
    fn whole(&mut self, header: &Header, arguments: [u64; 6], ret: i64) {
        if header.time_ns < self.start_ns {
            return;
        }
        let Some(mut call) = self.new_call(header, arguments) else { return };
        let start_ns = self.start_ns;
        let thread = self.tasks.thread(header);
        let is_older = thread.start_ns.is_none_or(|s| s < start_ns);
        call.began_before = is_older && !thread.has_entered;
        thread.has_entered = true;
        if call.began_before {
            call.start_ns = start_ns;
        }
        call.ret = Some(ret);
        call.end_ns = Some(header.time_ns);
        self.calls.push(returned(call, ret));
    }

    /// Adds a loss.
    pub fn lost(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    /// What was finished since the last time.
    pub fn finished(&mut self) -> Finished {
        for call in std::mem::take(&mut self.tasks.died_in) {
            self.calls.push(killed_at_exit(call));
        }
        Finished {
            calls: std::mem::take(&mut self.calls),
            processes: std::mem::take(&mut self.tasks.ended_processes),
            threads: std::mem::take(&mut self.tasks.ended_threads),
            executions: std::mem::take(&mut self.tasks.executions),
            losses: std::mem::take(&mut self.losses),
        }
    }

    /// The recording is over. `slot_of` tells whether a thread is inside a call: one that is not has lost its exit,
    /// which the probe has counted.
    pub fn finish(&mut self, slot_of: impl Fn(u32) -> u64) -> Finished {
        let mut open = Vec::new();
        for mut thread in self.tasks.finish() {
            if let Some(call) = thread.dying.take() {
                self.calls.push(killed_at_exit(*call));
            }
            if let Some(call) = thread.open.take()
                && slot_of(thread.tid) & slot::IN_CALL != 0
            {
                open.push(*call);
            }
            self.tasks.ended_threads.push(thread);
        }
        self.calls.sort_by_key(|c| c.end_ns);
        open.sort_by_key(|c| c.start_ns);
        self.calls.append(&mut open);
        self.tasks.ended_processes.sort_by_key(|p| p.process_id);
        self.tasks.ended_threads.sort_by_key(|t| t.thread_id);
        self.finished()
    }
}

/// Whether a return value says that a signal ended the wait.
fn is_interrupted(ret: i64) -> bool {
    const EINTR: i64 = 4;
    ret == -EINTR || flags::is_restart(ret)
}

fn returned(mut call: Call, ret: i64) -> Call {
    // shmat returns addresses: only the last page of the address space is errors.
    call.outcome = if (-4095..0).contains(&ret) { Outcome::Error } else { Outcome::Ok };
    call
}

fn killed(mut call: Call, end_ns: u64) -> Call {
    call.outcome = Outcome::Killed;
    call.end_ns = Some(end_ns);
    call.ret = None;
    call
}

/// The record of the death is missing: its exit from the call, at once before, stands for it.
fn killed_at_exit(call: Call) -> Call {
    let end_ns = call.end_ns.unwrap_or(call.start_ns);
    killed(call, end_ns)
}

fn set_sops(call: &mut Call, bytes: &[u8]) {
    let sops: &mut dyn ExactSizeIterator<Item = Sembuf> = &mut decode::sembufs(bytes);
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
    use ipc_schema::wire::{Context, Enter, Exit, TaskExit, Whole, kind};

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
        let mut join = Join::new(0);
        feed(&mut join, &enter(10));
        feed(&mut join, &exit(25, -11));
        let calls = join.finished().calls;
        assert_eq!((calls[0].start_ns, calls[0].end_ns, calls[0].outcome), (10, Some(25), Outcome::Error));
        assert_eq!(calls[0].error().as_deref(), Some("EAGAIN"));
    }

    #[test]
    fn an_interrupted_call_of_a_dying_thread_is_killed_at_its_death() {
        let mut join = Join::new(0);
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
        let mut join = Join::new(0);
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
        let mut join = Join::new(0);
        feed(&mut join, &enter(10));
        feed(&mut join, &exit(25, -514));
        assert_eq!(join.finished().calls[0].error().as_deref(), Some("EINTR"));
    }

    #[test]
    fn a_lost_exit_drops_the_call_and_the_slot_tells_open_from_lost() {
        let mut join = Join::new(0);
        feed(&mut join, &enter(10));
        feed(&mut join, &enter(20));
        assert!(join.finished().calls.is_empty());
        let open = join.finish(|_| slot::IN_CALL).calls;
        assert_eq!((open.len(), open[0].start_ns, open[0].end_ns), (1, 20, None));

        let mut join = Join::new(0);
        feed(&mut join, &enter(10));
        assert!(join.finish(|_| 0).calls.is_empty());
    }

    #[test]
    fn an_exit_without_entry_began_before_once_and_is_denied_after() {
        let mut join = Join::new(100);
        let whole = |time, ret| Whole { header: header(kind::WHOLE, time), args: [0; 6], ret };
        feed(&mut join, &whole(50, 0));
        feed(&mut join, &whole(150, 0));
        feed(&mut join, &whole(160, -1));
        let calls = join.finished().calls;
        assert_eq!(calls.len(), 2, "what ended before the trace is not in it");
        assert!(calls[0].began_before && calls[0].start_ns == 100);
        assert!(!calls[1].began_before && calls[1].start_ns == 160);
    }

    #[test]
    fn an_exit_without_partner_is_a_loss() {
        let mut join = Join::new(0);
        feed(&mut join, &exit(25, 0));
        assert_eq!(join.finished().losses[0].source, losses::NO_PARTNER);
    }
}
