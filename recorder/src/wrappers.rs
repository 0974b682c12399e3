//! The kernel's functions behind the entry points: where kprobes sit. Which there are differs by kernel.

use ipc_schema::catalogue::{Abi, EntryPoint};
use ipc_schema::manifest::Missing;
use std::collections::HashSet;

/// The wrappers of system calls that this kernel has, `arch/x86/include/asm/syscall_wrapper.h`.
pub struct Wrappers(HashSet<String>);

impl Wrappers {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// It does not tell.
    pub fn of_kernel() -> std::io::Result<Wrappers> {
        Ok(Wrappers::in_symbols(&std::fs::read_to_string("/proc/kallsyms")?))
    }

    /// Those among the lines of `/proc/kallsyms`: address, type, name.
    fn in_symbols(lines: &str) -> Wrappers {
        let names = lines.lines().filter_map(|line| line.split(' ').nth(2));
        Wrappers(names.filter(|n| n.starts_with("__x64_sys_") || n.starts_with("__ia32_")).map(str::to_owned).collect())
    }

    /// Those of these entry points, and which entry points have none.
    pub fn of(&self, entries: &[&EntryPoint]) -> (Vec<String>, Vec<Missing>) {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for entry in entries {
            let abis =
                [Abi::X86_64, Abi::I386].into_iter().filter(|abi| self.has(*abi) && entry.number(*abi).is_some());
            for abi in abis {
                let names = candidates(entry.name, abi);
                match names.iter().find(|name| self.0.contains(*name)) {
                    Some(name) => found.push(name.clone()),
                    None => missing.push(unseen(&names[0], "this kernel has no such function")),
                }
            }
        }
        (found, missing)
    }

    /// Whether the kernel takes calls of this ABI: where it has no i386, nothing is missing.
    fn has(&self, abi: Abi) -> bool {
        abi == Abi::X86_64 || self.0.iter().any(|name| name.starts_with("__ia32_compat_sys_"))
    }
}

/// The names that the wrapper of an entry point may have, the likeliest first. A compat wrapper is there where the call
/// differs by ABI; the other then exists too, and nobody calls it.
fn candidates(name: &str, abi: Abi) -> Vec<String> {
    match abi {
        Abi::X86_64 => vec![format!("__x64_sys_{name}")],
        Abi::I386 => {
            vec![
                format!("__ia32_compat_sys_{name}"),
                format!("__ia32_compat_sys_{name}_time64"),
                format!("__ia32_sys_{name}"),
            ]
        }
    }
}

/// A wrapper whose calls are seen at their end alone.
pub fn unseen(wrapper: &str, reason: &str) -> Missing {
    Missing {
        feature: wrapper.into(),
        reason: reason.into(),
        remedy: "without it such a call shows as begun when it ended; --attach raw-tracepoint sees it".into(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use ipc_schema::catalogue::CATALOGUE;

    const SYMBOLS: &str = "0 T __x64_sys_semctl\n0 T __ia32_sys_semctl\n0 T __ia32_compat_sys_semctl\n\
                           0 T __ia32_compat_sys_rt_sigtimedwait_time64\n";

    fn found(name: &str) -> (Vec<String>, Vec<Missing>) {
        Wrappers::in_symbols(SYMBOLS).of(&[CATALOGUE.iter().find(|e| e.name == name).unwrap()])
    }

    #[test]
    fn the_compat_wrapper_is_the_one_that_is_called() {
        assert_eq!(found("semctl").0, ["__x64_sys_semctl", "__ia32_compat_sys_semctl"]);
        assert_eq!(found("rt_sigtimedwait").0, ["__ia32_compat_sys_rt_sigtimedwait_time64"]);
    }

    #[test]
    fn an_entry_point_without_wrapper_is_named() {
        let (found, missing) = found("shmdt");
        let names: Vec<&str> = missing.iter().map(|m| m.feature.as_str()).collect();
        assert_eq!((found.len(), names), (0, vec!["__x64_sys_shmdt", "__ia32_compat_sys_shmdt"]));
    }

    #[test]
    fn a_kernel_without_i386_misses_no_i386_wrapper() {
        let entries: Vec<&EntryPoint> = CATALOGUE.iter().collect();
        let (found, missing) = Wrappers::in_symbols("0 T __x64_sys_semctl").of(&entries);
        assert_eq!(found.len(), 1);
        assert!(missing.iter().all(|m| m.feature.starts_with("__x64_")) && !missing.is_empty());
    }
}
