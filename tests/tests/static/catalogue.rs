//! Every number of the catalogue is that of the machine's headers, and nothing of the families is missing.
//!
//! The headers come from Debian's linux-libc-dev.

use ipc_schema::catalogue::{Abi, CATALOGUE, IPC_OPERATIONS};
use ipc_schema::flags::{ERRNOS, SIGNALS};
use ipc_tests::environment;
use std::collections::BTreeMap;

/// Calls of these names in the headers that belong to no family: they send signals, return from handlers, or change the
/// stack of handlers.
const OTHERS: [&str; 5] = ["rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "sigreturn", "sigaltstack"];

/// The `#define PREFIX… NUMBER` of a header, by name without the prefix.
fn read(paths: &[&str], prefix: &str) -> Option<BTreeMap<String, u16>> {
    let text = paths.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let Some(text) = text else {
        environment::skip(&format!("{} is not there: apt-get install linux-libc-dev", paths[0]));
        return None;
    };
    let define = |line: &str| {
        let mut words = line.strip_prefix("#define")?.split_whitespace();
        let name = words.next()?.strip_prefix(prefix)?.to_owned();
        Some((name, words.next()?.parse().ok()?))
    };
    Some(text.lines().filter_map(define).collect())
}

fn system_calls(abi: Abi) -> Option<BTreeMap<String, u16>> {
    let name = match abi {
        Abi::X86_64 => "unistd_64.h",
        Abi::I386 => "unistd_32.h",
    };
    let paths = [format!("/usr/include/x86_64-linux-gnu/asm/{name}"), format!("/usr/include/asm/{name}")];
    read(&paths.each_ref().map(String::as_str), "__NR_")
}

/// The header's name of an entry point. On i386 the header's plain names are the calls with 32-bit times where a
/// `_time64` exists; the catalogue names the 32-bit ones.
fn header_name(entry: &str, abi: Abi, header: &BTreeMap<String, u16>) -> String {
    if abi == Abi::X86_64 {
        return entry.to_owned();
    }
    if let Some(plain) = entry.strip_suffix("_time32") {
        return plain.to_owned();
    }
    let with_64 = format!("{entry}_time64");
    if header.contains_key(&with_64) { with_64 } else { entry.to_owned() }
}

#[test]
fn every_number_is_the_headers() {
    for abi in [Abi::X86_64, Abi::I386] {
        let Some(header) = system_calls(abi) else { return };
        for entry in CATALOGUE {
            let name = header_name(entry.name, abi, &header);
            let expected = header.get(&name).copied();
            assert_eq!(entry.number(abi), expected, "{} of {} is {name} in the header", entry.name, abi.name());
        }
    }
}

#[test]
fn nothing_of_the_families_is_missing() {
    for abi in [Abi::X86_64, Abi::I386] {
        let Some(header) = system_calls(abi) else { return };
        let known: Vec<u16> = CATALOGUE.iter().filter_map(|entry| entry.number(abi)).collect();
        let prefixes = ["sem", "shm", "msg", "mq_", "rt_sig", "sig"];
        for (name, number) in &header {
            let belongs = prefixes.iter().any(|prefix| name.starts_with(prefix))
                || ["ipc", "sgetmask", "ssetmask"].contains(&name.as_str());
            if belongs && !OTHERS.contains(&name.as_str()) {
                assert!(known.contains(number), "{name} ({number}) of {} is not in the catalogue", abi.name());
            }
        }
    }
}

#[test]
fn the_operations_of_ipc_are_the_headers() {
    let Some(header) = read(&["/usr/include/linux/ipc.h"], "") else { return };
    for operation in IPC_OPERATIONS {
        let name = operation.twin().operation.to_uppercase();
        assert_eq!(header.get(&name), Some(&operation.number), "{name}");
    }
    let kinds = ["SEM", "SHM", "MSG"];
    let defined = header.iter().filter(|(name, _)| kinds.iter().any(|kind| name.starts_with(kind)));
    assert_eq!(defined.count(), IPC_OPERATIONS.len(), "operations in the header");
}

#[test]
fn errnos_and_signals_are_the_headers() {
    let Some(mut errnos) = read(&["/usr/include/asm-generic/errno-base.h"], "") else { return };
    errnos.extend(read(&["/usr/include/asm-generic/errno.h"], "").unwrap_or_default());
    for (number, name) in ERRNOS {
        assert_eq!(errnos.get(*name).map(|n| i64::from(*n)), Some(*number), "{name}");
    }
    let paths = ["/usr/include/x86_64-linux-gnu/asm/signal.h", "/usr/include/asm/signal.h"];
    let Some(signals) = read(&paths, "") else { return };
    for (number, name) in SIGNALS {
        assert_eq!(signals.get(*name).map(|n| i64::from(*n)), Some(*number), "{name}");
    }
}
