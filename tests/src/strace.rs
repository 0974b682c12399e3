//! strace's report of a run, call by call, and its comparison with a trace.

mod arguments;
mod compare;
mod line;

pub use arguments::SOPS_KEPT;
pub use compare::{compare, untold};

use crate::calls::Told;
use crate::cells::Cell;
use ipc_schema::catalogue::CATALOGUE;
use line::Line;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A call as strace saw it.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// What it was and what it returned.
    pub told: Told,
    /// Whether its thread died before it returned: what it returned is then unknown.
    pub is_unseen: bool,
    /// How often the kernel restarted it.
    pub restarts: i64,
    /// What each column must hold, one of several values; no value: strace does not know. A column that is not here
    /// holds nothing.
    pub columns: BTreeMap<&'static str, Vec<Cell>>,
    /// strace's own words.
    pub line: String,
}

/// A thread as strace saw it.
#[derive(Default)]
pub struct Thread {
    /// Its calls, in order.
    pub calls: Vec<Witnessed>,
    /// Whether a signal ended it: then strace is wrong about its last call, or does not know of it.
    pub is_killed: bool,
}

/// `strace -f -o FILE PROGRAM`: the calls of the catalogue with names and numbers, text as hexadecimal digits.
pub fn command(file: &Path, program: impl AsRef<OsStr>) -> Command {
    let names = CATALOGUE.iter().filter(|entry| entry.x86_64.is_some()).map(|entry| entry.name);
    // The end of a signal handler tells whether the call that it interrupted is restarted.
    let names: Vec<&str> = names.chain(["rt_sigreturn"]).collect();
    let mut command = Command::new("strace");
    command.args(["-f", "-q", "-v", "-y", "-xx", "-X", "verbose", "-s", "256", "-a", "1", "-e", "signal=none"]);
    command.arg("-e").arg(format!("trace={}", names.join(","))).arg("-o").arg(file).arg(program);
    command
}

/// The threads in a file that [`command`] wrote.
pub fn read(text: &str) -> BTreeMap<i32, Thread> {
    let mut threads: BTreeMap<i32, Reader> = BTreeMap::new();
    for line in text.lines() {
        let (tid, rest) = line.split_once(' ').unwrap();
        threads.entry(tid.parse().unwrap()).or_default().add(rest.trim_start());
    }
    threads.into_iter().map(|(tid, thread)| (tid, thread.finish())).collect()
}

/// A thread while it is read.
#[derive(Default)]
struct Reader {
    thread: Thread,
    /// strace does not always tell of a thread that was killed, but of every other.
    has_exited: bool,
    /// The beginning of a line whose end comes later.
    unfinished: Option<String>,
    /// Calls that a signal interrupted and that may be restarted, by their places; the innermost last.
    interrupted: Vec<usize>,
}

impl Reader {
    fn add(&mut self, text: &str) {
        if text.starts_with("+++ exited with") {
            self.has_exited = true;
        } else if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            self.unfinished = Some(begun.to_owned());
        } else if let Some(resumed) = text.strip_prefix("<... ") {
            let begun = self.unfinished.take().expect("a call is begun before it is resumed");
            self.add_whole(&format!("{begun}{}", resumed.split_once(" resumed>").unwrap().1));
        } else {
            self.add_whole(text);
        }
    }

    fn add_whole(&mut self, text: &str) {
        let Some(line) = Line::parse(text) else { return };
        if line.name == "rt_sigreturn" {
            return self.end_handler(&line);
        }
        if !CATALOGUE.iter().any(|entry| entry.name == line.name && entry.x86_64.is_some()) {
            return;
        }
        let mut call = arguments::witnessed(&line, text);
        let place = match self.interrupted.last() {
            Some(place) if self.thread.calls[*place].told.entry_point == line.name => {
                call.restarts = self.thread.calls[*place].restarts + 1;
                self.interrupted.pop().unwrap()
            }
            _ => self.thread.calls.len(),
        };
        if line.is_interrupted() {
            self.interrupted.push(place);
        }
        if place < self.thread.calls.len() {
            self.thread.calls[place] = call;
        } else {
            self.thread.calls.push(call);
        }
    }

    /// EINTR as what a handler returns to: the call that it interrupted is over. Else its number: it is restarted.
    fn end_handler(&mut self, line: &Line) {
        if !line.result.starts_with("-1 EINTR") {
            return;
        }
        if let Some(place) = self.interrupted.pop() {
            let call = &mut self.thread.calls[place];
            (call.told.return_value, call.told.error) = (Some(-1), Some("EINTR".to_owned()));
            call.is_unseen = false;
        }
    }

    fn finish(mut self) -> Thread {
        if let Some(line) = self.unfinished.take() {
            self.add_whole(&format!("{line}) = ?"));
        }
        self.thread.is_killed = !self.has_exited;
        if let Some(last) = self.thread.calls.last_mut() {
            last.is_unseen |= self.thread.is_killed;
        }
        self.thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calls of thread 7.
    fn calls(lines: &[&str]) -> Vec<Witnessed> {
        let text: String = lines.iter().map(|line| format!("7  {line}\n")).collect();
        read(&text).remove(&7).unwrap().calls
    }

    const INTERRUPTED: &str =
        "mq_timedreceive(3<\\x2f\\x61>, 0x7ffe, 64, NULL, NULL) = ? ERESTARTSYS (To be restarted)";

    #[test]
    fn restarts_are_stitched_past_the_calls_of_the_handler() {
        let calls = calls(&[
            INTERRUPTED,
            "rt_sigpending([], 8) = 0",
            "rt_sigreturn({mask=[]}) = 243",
            INTERRUPTED,
            "rt_sigreturn({mask=[]}) = 243",
            "mq_timedreceive(3<\\x2f\\x61>,  <unfinished ...>",
            "<... mq_timedreceive resumed>\"\\x62\", 64, [5], NULL) = 1",
            "+++ exited with 0 +++",
        ]);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls[0].restarts, calls[0].told.return_value, calls[0].is_unseen), (2, Some(1), false));
        assert_eq!(calls[0].columns["msg_priority"], [Cell::Integer(5)]);
        assert_eq!((calls[1].told.entry_point.as_str(), calls[1].restarts), ("rt_sigpending", 0));
    }

    #[test]
    fn a_call_that_is_not_restarted_returns_eintr() {
        let lines = [INTERRUPTED, "rt_sigreturn({mask=[]}) = -1 EINTR (Interrupted system call)", INTERRUPTED];
        let calls = calls(&lines);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls[0].told.error.as_deref(), calls[0].is_unseen), (Some("EINTR"), false));
        assert!(calls[1].is_unseen, "it died in the second");
    }

    #[test]
    fn what_a_killed_thread_did_last_is_uncertain() {
        let killed = read("7  semop(1, [], 0) = 66\n7  +++ killed by SIGKILL +++\n").remove(&7).unwrap();
        assert!(killed.is_killed && killed.calls[0].is_unseen);
        let begun = read("7  semop(1, [{sem_num=0, sem_op=1, sem_flg=0}], 1 <unfinished ...>\n").remove(&7).unwrap();
        assert_eq!((begun.calls[0].is_unseen, begun.calls[0].told.sops.len()), (true, 1));
    }
}
