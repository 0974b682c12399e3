//! `events`: the catalogue.

use crate::Failure;
use ipc_schema::catalogue::{CATALOGUE, IPC_OPERATIONS, Origin};
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints the catalogue.
pub fn run() -> Result<u8, Failure> {
    let mut text =
        String::from("OPERATION        FAMILY  ENTRY POINT             X86_64  I386  ARGUMENTS (* in user memory)\n");
    let number = |n: Option<u16>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for entry in CATALOGUE {
        let arguments: Vec<String> = entry
            .arguments
            .iter()
            .map(|a| format!("{}{}", if a.origin == Origin::Register { "" } else { "*" }, a.name))
            .collect();
        let operation = if entry.operation.is_empty() { "(by call)" } else { entry.operation };
        let _ = writeln!(
            text,
            "{operation:<16} {:<7} {:<23} {:>6}  {:>4}  {}",
            entry.family.name(),
            entry.name,
            number(entry.x86_64),
            number(entry.i386),
            arguments.join(", ")
        ); // writing to a String cannot fail
    }
    let by_call: Vec<String> = IPC_OPERATIONS.iter().map(|o| format!("{} {}", o.number, o.twin().operation)).collect();
    let _ = writeln!(text, "\nipc(2), by its first argument: {}", by_call.join(", "));
    let _ = writeln!(text, "libc: functions that make no system call, recorded with --libc sigset");
    let _ = writeln!(text, "glibc's semop() arrives as semtimedop, mq_send() and mq_receive() as mq_timed…");
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(0),
    }
}
