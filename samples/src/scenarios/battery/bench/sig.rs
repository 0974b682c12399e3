//! Signal masks, dispositions and synchronous waits.

use super::super::abi::Way;
use super::super::row::Row;
use super::super::words;
use super::{Bench, Done, word};

/// The size of the kernel's signal set.
const SET: u64 = 8;

/// A place for a handler that is never called.
const HANDLER: u64 = 0x1000;
/// `include/uapi/asm/signal.h`: where the restorer is; every disposition of x86-64 needs one.
const RESTORER: u64 = 0x1000;

/// A new disposition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Action {
    Default,
    Ignore,
    Handler,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        match self {
            Action::Default => "default",
            Action::Ignore => "ignore",
            Action::Handler => "handler",
        }
    }

    pub(super) fn address(self) -> u64 {
        match self {
            Action::Default => libc::SIG_DFL as u64,
            Action::Ignore => libc::SIG_IGN as u64,
            Action::Handler => HANDLER,
        }
    }
}

impl Bench {
    /// The address of a set: 4 bytes for the calls of the old way that have no `rt_`, else 8.
    fn signals(&mut self, text: &str, legacy: bool) -> u64 {
        let set = words::set(text);
        if legacy { self.user(&(set as u32).to_ne_bytes()) } else { self.user(&set.to_ne_bytes()) }
    }

    /// Changes the mask; the old one is asked for.
    pub(in super::super) fn sigprocmask(&mut self, how: &str, set: &str) -> Done<'_> {
        let new = self.signals(set, self.way == Way::Old);
        let old = self.arena.room(8);
        let row = Row::of("sigprocmask").set("sig_how", how).signals(set);
        self.perform("sigprocmask", [word(words::flags(how)), new, old, SET, 0, 0], row).masks()
    }

    /// Writes the old mask over the new one.
    pub(in super::super) fn sigprocmask_in_place(&mut self, how: &str, set: &str) -> Done<'_> {
        let new = self.signals(set, self.way == Way::Old);
        let row = Row::of("sigprocmask").set("sig_how", how).signals(set);
        self.perform("sigprocmask", [word(words::flags(how)), new, new, SET, 0, 0], row).masks()
    }

    /// Asks for the mask.
    pub(in super::super) fn sigprocmask_query(&mut self) -> Done<'_> {
        let old = self.arena.room(8);
        let row = Row::of("sigprocmask").set("sig_set", None::<i64>).set("sig_set_text", None::<i64>);
        self.perform("sigprocmask", [0, 0, old, SET, 0, 0], row).masks()
    }

    /// With a way to change the mask, or a size of the set, that does not exist; always by `rt_sigprocmask`.
    pub(in super::super) fn sigprocmask_wrong(&mut self, how: i32, size: u64) -> Done<'_> {
        let new = self.signals("SIGINT", false);
        let number = if self.way == Way::Native { 14 } else { 175 };
        self.bracketed((number, "rt_sigprocmask"), [word(how), new, 0, size, 0, 0], Row::of("sigprocmask")).masks()
    }

    pub(in super::super) fn sigsuspend(&mut self, mask: &str) -> Done<'_> {
        let old = self.way == Way::Old;
        let args = match old {
            true => [0, 0, words::set(mask), 0, 0, 0],
            false => [self.signals(mask, false), SET, 0, 0, 0, 0],
        };
        let row = Row::of("sigsuspend").signals(mask);
        // The old mask is back when the call has ended.
        self.perform("sigsuspend", args, row).masks().without(&["sig_after"])
    }

    pub(in super::super) fn sigpending(&mut self, pending: &str) -> Done<'_> {
        let room = self.arena.room(8);
        self.perform("sigpending", [room, SET, 0, 0, 0, 0], Row::of("sigpending").signals(pending))
    }

    /// A new disposition with flags and the signals that its handler blocks.
    pub(in super::super) fn sigaction(&mut self, signal: &str, action: Action, flags: &str, mask: &str) -> Done<'_> {
        let (number, value, set) = (words::signal(signal), words::flags(flags), words::set(mask));
        let (handler, mask_value) = (action.address(), set);
        let act: Vec<u8> = match self.way {
            Way::Native => [handler, value as u32 as u64, RESTORER, mask_value].map(u64::to_ne_bytes).concat(),
            Way::Old => {
                [handler as u32, mask_value as u32, value as u32, RESTORER as u32].map(u32::to_ne_bytes).concat()
            }
            Way::New => {
                let words = [handler as u32, value as u32, RESTORER as u32].map(u32::to_ne_bytes).concat();
                [words, mask_value.to_ne_bytes().to_vec()].concat()
            }
        };
        let act = self.user(&act);
        let old = self.arena.room(32);
        let row = Row::of("sigaction").set("signal", number).set("disposition", action.name());
        self.perform("sigaction", [word(number), act, old, SET, 0, 0], row.flags(value, flags).signals(mask))
    }

    /// Asks for the disposition.
    pub(in super::super) fn sigaction_query(&mut self, signal: i32, size: u64) -> Done<'_> {
        let old = self.arena.room(32);
        let mut row = Row::of("sigaction").set("signal", signal);
        for column in ["disposition", "flags", "flags_text", "sig_set", "sig_set_text"] {
            row.put(column, None::<i64>);
        }
        self.perform("sigaction", [word(signal), 0, old, size, 0, 0], row)
    }

    /// Waits for a signal of the set.
    pub(in super::super) fn sigtimedwait(&mut self, set: &str, timeout_ns: Option<i64>) -> Done<'_> {
        let signals = self.signals(set, false);
        let timeout = timeout_ns.map_or(0, |ns| self.time(ns / 1_000_000_000, ns % 1_000_000_000));
        let info = self.arena.room(128);
        let row = Row::of("sigtimedwait").signals(set).set("timeout_ns", timeout_ns);
        self.perform("sigtimedwait", [signals, info, timeout, SET, 0, 0], row)
    }

    pub(in super::super) fn signalfd(&mut self, fd: i32, set: &str) -> Done<'_> {
        let signals = self.signals(set, false);
        let row = Row::of("signalfd").signals(set).set("flags", None::<i64>).set("flags_text", None::<i64>);
        self.perform("signalfd", [word(fd), signals, SET, 0, 0, 0], row)
    }

    pub(in super::super) fn signalfd4(&mut self, fd: i32, set: &str, flags: &str) -> Done<'_> {
        let (signals, value) = (self.signals(set, false), words::flags(flags));
        let row = Row::of("signalfd").signals(set).flags(value, flags);
        self.perform("signalfd4", [word(fd), signals, SET, word(value), 0, 0], row)
    }

    /// A `rt_` call or signalfd4 with a set of 4 bytes, which no kernel takes: its name, the arguments before the size
    /// being a readable set and what follows it being nothing.
    pub(in super::super) fn with_short_set(&mut self, operation: &'static str) -> Done<'_> {
        let set = self.signals("SIGINT", false);
        let (entry, args): ((u16, &str), _) = match operation {
            "sigsuspend" => ((130, "rt_sigsuspend"), [set, 4, 0, 0, 0, 0]),
            "sigpending" => ((127, "rt_sigpending"), [set, 16, 0, 0, 0, 0]),
            "sigtimedwait" => ((128, "rt_sigtimedwait"), [set, 0, 0, 4, 0, 0]),
            "sigaction" => ((13, "rt_sigaction"), [word(libc::SIGUSR1), 0, 0, 4, 0, 0]),
            _ => ((289, "signalfd4"), [word(-1), set, 4, 0, 0, 0]),
        };
        let i386 = [(130, 179), (127, 176), (128, 421), (13, 174), (289, 327)];
        let number = match self.way {
            Way::Native => entry.0,
            _ => i386.iter().find(|(native, _)| *native == entry.0).map_or(entry.0, |(_, number)| *number),
        };
        let row = Row::of(operation);
        let known = if operation == "sigaction" { row.set("signal", libc::SIGUSR1) } else { row };
        self.bracketed((number, entry.1), args, known)
    }
}
