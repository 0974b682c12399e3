//! The attach plan, as data: which programs serve which hook, the lightest way first.

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
}

impl Way {
    /// The name, as `--attach` takes it and the trace keeps it.
    pub fn name(self) -> &'static str {
        match self {
            Way::BtfTracepoint => "btf-tracepoint",
            Way::RawTracepoint => "raw-tracepoint",
            Way::Tracepoint => "tracepoint",
        }
    }
}

/// One place in the kernel that the recorder listens at.
pub struct Hook {
    /// The tracepoint.
    pub name: &'static str,
    /// Its category under tracefs.
    pub category: &'static str,
    /// The ways and the program of each, in the order of preference.
    pub programs: &'static [(Way, &'static str)],
    /// Whether it reads tasks, which takes their types.
    pub needs_btf: bool,
    /// What the trace lacks without it; `None`: nothing can be recorded without it.
    pub without: Option<&'static str>,
}

const fn pair(btf: &'static str, raw: &'static str) -> [(Way, &'static str); 2] {
    [(Way::BtfTracepoint, btf), (Way::RawTracepoint, raw)]
}

/// The hook that tells who ends a wait.
pub const WAKINGS: &str = "sched_waking";

/// Every hook.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "sched_process_exit",
        category: "sched",
        programs: &pair("sched_process_exit_btf", "sched_process_exit_raw"),
        needs_btf: false,
        without: None,
    },
    Hook {
        name: "sched_process_exec",
        category: "sched",
        programs: &pair("sched_process_exec_btf", "sched_process_exec_raw"),
        needs_btf: false,
        without: None,
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
    },
    Hook {
        name: "signal_deliver",
        category: "signal",
        programs: &pair("signal_deliver_btf", "signal_deliver_raw"),
        needs_btf: false,
        without: Some("a call that the kernel restarts shows as several that ended in EINTR"),
    },
    Hook {
        name: "signal_generate",
        category: "signal",
        programs: &pair("signal_generate_btf", "signal_generate_raw"),
        needs_btf: true,
        without: Some("senders of signals are not known"),
    },
    Hook {
        name: WAKINGS,
        category: "sched",
        programs: &pair("sched_waking_btf", "sched_waking_raw"),
        needs_btf: true,
        without: Some("waits and wakers are NULL"),
    },
    // The exits first: an entry without an exit would stay open, an exit without an entry is told apart.
    Hook {
        name: "sys_exit",
        category: "raw_syscalls",
        programs: &pair("sys_exit_btf", "sys_exit_raw"),
        needs_btf: false,
        without: None,
    },
    Hook {
        name: "sys_enter",
        category: "raw_syscalls",
        programs: &pair("sys_enter_btf", "sys_enter_raw"),
        needs_btf: false,
        without: None,
    },
];
