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
    /// What the trace lacks without it; `None`: nothing can be recorded without it.
    pub without: Option<&'static str>,
}

/// Every hook.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "sched_process_exit",
        category: "sched",
        programs: &[(Way::BtfTracepoint, "sched_process_exit_btf"), (Way::RawTracepoint, "sched_process_exit_raw")],
        without: None,
    },
    Hook {
        name: "sched_process_exec",
        category: "sched",
        programs: &[(Way::BtfTracepoint, "sched_process_exec_btf"), (Way::RawTracepoint, "sched_process_exec_raw")],
        without: None,
    },
    Hook {
        name: "sched_process_fork",
        category: "sched",
        programs: &[
            (Way::BtfTracepoint, "sched_process_fork_btf"),
            (Way::RawTracepoint, "sched_process_fork_raw"),
            (Way::Tracepoint, "sched_process_fork_tracepoint"),
        ],
        without: Some("descendants cannot be followed, and parents are not known"),
    },
    // The exits first: an entry without an exit would stay open, an exit without an entry is told apart.
    Hook {
        name: "sys_exit",
        category: "raw_syscalls",
        programs: &[(Way::BtfTracepoint, "sys_exit_btf"), (Way::RawTracepoint, "sys_exit_raw")],
        without: None,
    },
    Hook {
        name: "sys_enter",
        category: "raw_syscalls",
        programs: &[(Way::BtfTracepoint, "sys_enter_btf"), (Way::RawTracepoint, "sys_enter_raw")],
        without: None,
    },
];
