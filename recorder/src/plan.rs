//! The attach plan, as data: which programs serve which hook, the lightest way first.

use ipc_schema::catalogue::{EntryPoint, Meaning};

/// A way to attach to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Way {
    /// A tracepoint whose arguments the verifier knows by BTF: plain loads, the cheapest for bystanders.
    BtfTracepoint,
    /// A raw tracepoint: works without BTF.
    RawTracepoint,
    /// A tracepoint through tracefs: only where neither of the others can read what is needed.
    #[value(skip)]
    Tracepoint,
    /// Kprobes on the functions behind the system calls. Only where it is asked for: it costs more than the tracepoints
    /// and sees no call that they do not.
    Kprobe,
    /// Kretprobes on the same. Only for comparison: they miss the ends of calls that sleep.
    #[value(skip)]
    Kretprobe,
}

impl Way {
    /// The name, as `--attach` takes it and the trace keeps it.
    pub fn name(self) -> &'static str {
        match self {
            Way::BtfTracepoint => "btf-tracepoint",
            Way::RawTracepoint => "raw-tracepoint",
            Way::Tracepoint => "tracepoint",
            Way::Kprobe => "kprobe",
            Way::Kretprobe => "kretprobe",
        }
    }
}

/// One place in the kernel that the recorder listens at.
pub struct Hook {
    /// The tracepoint, or the kernel's function.
    pub name: &'static str,
    /// Its category under tracefs; [`FUNCTION`] for a function.
    pub category: &'static str,
    /// The ways and the program of each, in the order of preference.
    pub programs: &'static [(Way, &'static str)],
    /// Whether it reads tasks, which takes their types.
    pub needs_btf: bool,
    /// What the trace lacks without it; `None`: nothing can be recorded without it.
    pub without: Option<&'static str>,
    /// Only for entry points with such an argument.
    pub reads: Option<Meaning>,
}

/// The category of hooks that are functions of the kernel.
pub const FUNCTION: &str = "";

/// The category of the hooks that see every system call: of them kprobes sit on the wrappers.
pub const SYSTEM_CALLS: &str = "raw_syscalls";

impl Hook {
    /// The ways to try, and the program of each, where `only` was asked for or nothing. A way that the hook does not have
    /// leaves it the lightest one: kprobes see calls, not the lives of tasks.
    pub fn candidates(&self, only: Option<Way>) -> impl Iterator<Item = (Way, &'static str)> {
        let is_probe = |way: Way| matches!(way, Way::Kprobe | Way::Kretprobe);
        let has_it = self.programs.iter().any(|(way, _)| only == Some(*way));
        self.programs.iter().copied().filter(move |(way, _)| match only {
            // The last resort of its hook, whatever way was asked for.
            _ if *way == Way::Tracepoint => true,
            Some(asked) if has_it || !is_probe(asked) => *way == asked,
            _ => !is_probe(*way),
        })
    }

    /// Whether a recording of these entry points needs it.
    pub fn serves(&self, entries: &[&EntryPoint]) -> bool {
        self.reads.is_none_or(|meaning| entries.iter().any(|entry| entry.position(meaning).is_some()))
    }
}

const fn pair(btf: &'static str, raw: &'static str) -> [(Way, &'static str); 2] {
    [(Way::BtfTracepoint, btf), (Way::RawTracepoint, raw)]
}

/// The hook that tells who ends a wait.
pub const WAKINGS: &str = "sched_waking";

/// The program at the library functions of the catalogue.
pub const LIBRARY_PROGRAM: &str = "library";

/// Every hook.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "sched_process_exit",
        category: "sched",
        programs: &pair("sched_process_exit_btf", "sched_process_exit_raw"),
        needs_btf: false,
        without: None,
        reads: None,
    },
    Hook {
        name: "sched_process_exec",
        category: "sched",
        programs: &pair("sched_process_exec_btf", "sched_process_exec_raw"),
        needs_btf: false,
        without: None,
        reads: None,
    },
    Hook {
        name: "task_newtask",
        category: "task",
        programs: &[
            (Way::BtfTracepoint, "task_newtask_btf"),
            (Way::RawTracepoint, "task_newtask_raw"),
            (Way::Tracepoint, "task_newtask_tracepoint"),
        ],
        needs_btf: true,
        without: Some("descendants cannot be followed, and parents are not known"),
        reads: None,
    },
    Hook {
        name: "signal_deliver",
        category: "signal",
        programs: &pair("signal_deliver_btf", "signal_deliver_raw"),
        needs_btf: false,
        without: Some("a call that the kernel restarts shows as several that ended in EINTR"),
        reads: None,
    },
    Hook {
        name: "signal_generate",
        category: "signal",
        programs: &pair("signal_generate_btf", "signal_generate_raw"),
        needs_btf: true,
        without: Some("senders of signals are not known"),
        reads: None,
    },
    Hook {
        name: WAKINGS,
        category: "sched",
        programs: &pair("sched_waking_btf", "sched_waking_raw"),
        needs_btf: true,
        without: Some("waits and wakers are NULL"),
        reads: None,
    },
    // The kernel's own copies, which nothing but kprobes sees.
    Hook {
        name: "__do_semtimedop",
        category: FUNCTION,
        programs: &[(Way::Kprobe, "do_semtimedop_kprobe")],
        needs_btf: false,
        without: Some("semaphore operations are those that user memory held at entry"),
        reads: Some(Meaning::SemOps),
    },
    Hook {
        name: "sigprocmask",
        category: FUNCTION,
        programs: &[(Way::Kprobe, "sigprocmask_kprobe")],
        needs_btf: false,
        without: Some("the sets of sigprocmask are those that user memory held at entry"),
        reads: Some(Meaning::How),
    },
    // The exits first: an entry without an exit would stay open, an exit without an entry is told apart.
    Hook {
        name: "sys_exit",
        category: SYSTEM_CALLS,
        programs: &[
            (Way::BtfTracepoint, "sys_exit_btf"),
            (Way::RawTracepoint, "sys_exit_raw"),
            (Way::Kretprobe, "sys_exit_kretprobe"),
        ],
        needs_btf: false,
        without: None,
        reads: None,
    },
    Hook {
        name: "sys_enter",
        category: SYSTEM_CALLS,
        programs: &[
            (Way::BtfTracepoint, "sys_enter_btf"),
            (Way::RawTracepoint, "sys_enter_raw"),
            (Way::Kprobe, "sys_enter_kprobe"),
        ],
        needs_btf: false,
        without: None,
        reads: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_schema::catalogue::CATALOGUE;

    /// The ways of every hook, where this one was asked for.
    fn ways(only: Option<Way>) -> Vec<(&'static str, Vec<Way>)> {
        HOOKS.iter().map(|hook| (hook.name, hook.candidates(only).map(|(way, _)| way).collect())).collect()
    }

    #[test]
    fn kprobes_are_taken_only_where_they_are_asked_for() {
        for only in [None, Some(Way::BtfTracepoint), Some(Way::RawTracepoint)] {
            for (hook, ways) in ways(only) {
                assert!(!ways.iter().any(|way| matches!(way, Way::Kprobe | Way::Kretprobe)), "{hook}, {only:?}");
            }
        }
    }

    #[test]
    fn kprobes_see_the_entries_and_the_lightest_way_all_else() {
        for (hook, ways) in ways(Some(Way::Kprobe)) {
            match hook {
                "sys_enter" | "__do_semtimedop" | "sigprocmask" => assert_eq!(ways, [Way::Kprobe], "{hook}"),
                _ => assert_eq!(ways[..2], [Way::BtfTracepoint, Way::RawTracepoint], "{hook}"),
            }
        }
    }

    #[test]
    fn a_function_is_probed_only_for_the_calls_that_run_it() {
        let semget: Vec<&EntryPoint> = CATALOGUE.iter().filter(|e| e.name == "semget").collect();
        let semop: Vec<&EntryPoint> = CATALOGUE.iter().filter(|e| e.name == "semop").collect();
        let functions = |entries: &[&EntryPoint]| -> Vec<&str> {
            let hooks = HOOKS.iter().filter(|h| h.category == FUNCTION && h.serves(entries));
            hooks.map(|h| h.name).collect()
        };
        assert_eq!(functions(&semget), [""; 0]);
        assert_eq!(functions(&semop), ["__do_semtimedop"]);
    }
}
