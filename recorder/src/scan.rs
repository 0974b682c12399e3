//! What was there before the probes: every thread, and the calls that threads are inside of.
//!
//! A thread that waits since before the trace began makes no record until it returns, and the hang that is already there
//! is what people look for. `/proc/PID/task/TID/syscall` tells the registers of a thread that sleeps inside a call.
//!
//! The helper does it ([`crate::snapshot`]): it takes the right to look at the processes of others.

use crate::follow::Follow;
use crate::procfs::{self, Status};
use crate::ring::boot_ns;
use crate::tasks::Signals;
use bytemuck::Zeroable;
use ipc_schema::catalogue::{Abi, CATALOGUE, EntryPoint, Family, Meaning};
use ipc_schema::manifest::Missing;
use ipc_schema::shape::{self, Shape};
use ipc_schema::text;
use ipc_schema::wire::{NAME_BYTES, SOPS_ROOM, Sembuf, Small, valid};
use serde::{Deserialize, Serialize};
use std::io;

/// What may be withheld.
pub const FEATURE: &str = "processes of others";

/// A thread that was there, and the call it is inside of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scanned {
    /// When it was looked at; CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub pid: u32,
    /// Process id in its own namespace.
    pub ns_pid: Option<i32>,
    /// Thread id in its own namespace.
    pub ns_tid: Option<i32>,
    /// Process id of the parent.
    pub parent_pid: Option<u32>,
    /// About when the process started.
    pub process_start_ns: Option<u64>,
    /// About when the thread started.
    pub start_ns: Option<u64>,
    /// Name of the process's leader.
    pub process_comm: [u8; 16],
    /// Name of the thread.
    pub comm: [u8; 16],
    /// User id.
    pub uid: Option<u32>,
    /// Path of the program.
    pub exe: Option<String>,
    /// Arguments, if they were asked for.
    pub cmdline: Option<String>,
    /// cgroup path.
    pub cgroup: Option<String>,
    /// cgroup v2 id.
    pub cgroup_id: Option<u64>,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<u32>,
    /// Signal sets.
    pub signals: Signals,
    /// The call it is inside of.
    pub call: Option<Inside>,
}

/// A call that a thread is inside of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inside {
    /// When it was found: a bound of its start. CLOCK_BOOTTIME nanoseconds.
    pub found_ns: u64,
    /// The kernel entry.
    #[serde(with = "message::entry")]
    pub entry: &'static EntryPoint,
    /// How it came in.
    #[serde(with = "message::abi")]
    pub abi: Abi,
    /// The argument registers.
    pub registers: [u64; 6],
    /// Copies of its user memory.
    #[serde(with = "message::small")]
    pub small: Small,
    /// Its semaphore operations.
    #[serde(with = "message::sops")]
    pub sops: Vec<Sembuf>,
    /// The name of a queue, without the slash.
    pub name: Option<String>,
    /// The inode of the queue behind its descriptor.
    pub inode: Option<u64>,
}

/// Looks at every thread that is followed; what of them was withheld.
///
/// # Errors
/// Those of `each`.
pub fn threads(
    follow: &Follow,
    with_cmdlines: bool,
    mut each: impl FnMut(Scanned) -> io::Result<()>,
) -> io::Result<Option<Missing>> {
    let mut missing = None;
    for pid in procfs::pids() {
        if !follow.follows(pid) {
            continue;
        }
        missing = missing.or_else(|| withheld(pid));
        let process = Process::of(pid, with_cmdlines);
        for tid in procfs::tids(pid) {
            process.thread(tid, follow).map_or(Ok(()), &mut each)?;
        }
    }
    Ok(missing)
}

/// What is not told of a process to who may not look at it.
fn withheld(pid: u32) -> Option<Missing> {
    let path = format!("/proc/{pid}/exe");
    let error = std::fs::read_link(&path).err().filter(|e| e.kind() == io::ErrorKind::PermissionDenied)?;
    Some(Missing {
        feature: FEATURE.into(),
        reason: format!("{path}: {error}"),
        remedy: "run as root: without CAP_SYS_PTRACE and CAP_DAC_OVERRIDE their programs, the names in their stacks and the \
                 calls that they were inside of before the recording are unknown"
            .into(),
    })
}

/// What the threads of a process share.
struct Process {
    pid: u32,
    status: Status,
    start_ns: Option<u64>,
    comm: [u8; 16],
    exe: Option<String>,
    cmdline: Option<String>,
    cgroup: Option<String>,
    cgroup_id: Option<u64>,
    ipc_ns: Option<u32>,
}

impl Process {
    fn of(pid: u32, with_cmdlines: bool) -> Process {
        let cgroup = procfs::cgroup(pid);
        Process {
            pid,
            status: Status::of(pid),
            start_ns: procfs::start_ns(pid, pid),
            comm: procfs::comm(pid, pid).unwrap_or_default(),
            exe: procfs::exe(pid),
            cmdline: if with_cmdlines { procfs::cmdline(pid) } else { None },
            cgroup_id: cgroup.as_deref().and_then(crate::follow::cgroup_id),
            cgroup,
            ipc_ns: procfs::ipc_ns(pid),
        }
    }

    fn thread(&self, tid: u32, follow: &Follow) -> Option<Scanned> {
        let time_ns = boot_ns();
        let status = Status::of_thread(self.pid, tid)?;
        let pending = [status.signals("SigPnd"), status.signals("ShdPnd")].into_iter().flatten().reduce(|a, b| a | b);
        let blocked = status.signals("SigBlk");
        Some(Scanned {
            time_ns,
            tid,
            pid: self.pid,
            ns_pid: self.status.ns_pid(),
            ns_tid: status.ns_tid(),
            parent_pid: self.status.parent_pid(),
            process_start_ns: self.start_ns,
            start_ns: procfs::start_ns(self.pid, tid),
            process_comm: self.comm,
            comm: procfs::comm(self.pid, tid)?,
            uid: status.uid(),
            exe: self.exe.clone(),
            cmdline: self.cmdline.clone(),
            cgroup: self.cgroup.clone(),
            cgroup_id: self.cgroup_id,
            ipc_ns: self.ipc_ns,
            signals: Signals { blocked, pending, ignored: status.signals("SigIgn") },
            call: inside(self.pid, tid, blocked, follow),
        })
    }
}

/// The traced call that a thread is inside of.
fn inside(pid: u32, tid: u32, blocked: Option<u64>, follow: &Follow) -> Option<Inside> {
    let found_ns = boot_ns();
    let (entry, abi, registers) = syscall_of(pid, tid)?;
    if !follow.wants(entry, registers[0]) {
        return None;
    }
    let shape = shape::of(entry.code, abi, registers[0]);
    let mut inside =
        Inside { found_ns, entry, abi, registers, small: Small::zeroed(), sops: vec![], name: None, inode: None };
    copy(pid, shape, &mut inside);
    if let (Some(blocked), true) = (blocked, shape.has(Shape::MASK)) {
        inside.small.blocked = blocked;
        inside.small.valid |= valid::MASK;
    }
    Some(inside)
}

/// The call that a thread sleeps in, if it is one of the catalogue; `None` also for a thread that runs.
fn syscall_of(pid: u32, tid: u32) -> Option<(&'static EntryPoint, Abi, [u64; 6])> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let number: u16 = words.next()?.parse().ok()?;
    let mut hexadecimal = words.map(|w| u64::from_str_radix(w.strip_prefix("0x")?, 16).ok());
    let mut registers = [0; 6];
    for register in &mut registers {
        *register = hexadecimal.next()??;
    }
    let (_stack, instruction) = (hexadecimal.next()??, hexadecimal.next()??);
    let has_number = |abi| CATALOGUE.iter().find(|e| e.number(abi) == Some(number));
    // Only a number of the catalogue is worth asking how it came in.
    let (native, compat) = (has_number(Abi::X86_64), has_number(Abi::I386));
    if native.is_none() && compat.is_none() {
        return None;
    }
    match abi_of(pid, instruction) {
        Abi::X86_64 => Some((native?, Abi::X86_64, registers)),
        Abi::I386 => Some((compat?, Abi::I386, registers.map(|r| r & 0xffff_ffff))),
    }
}

/// How the call before this instruction came in: `syscall` is 0f 05; anything else is `int 0x80` or the vDSO's
/// `sysenter`.
fn abi_of(pid: u32, instruction: u64) -> Abi {
    let mut bytes = [0; 2];
    match read_memory(pid, instruction.wrapping_sub(2), &mut bytes) {
        Some(2) if bytes == [0x0f, 0x05] => Abi::X86_64,
        Some(2) => Abi::I386,
        _ => Abi::X86_64,
    }
}

/// Copies what the probes would have copied at entry.
fn copy(pid: u32, shape: Shape, inside: &mut Inside) {
    let registers = inside.registers;
    if shape.has(Shape::SOPS) {
        let count = (registers[shape.count()] as u32 as usize).min(SOPS_ROOM[2]);
        let mut bytes = vec![0; count * size_of::<Sembuf>()];
        if read_memory(pid, registers[shape.a().argument], &mut bytes) == Some(bytes.len()) {
            inside.sops = crate::decode::sembufs(&bytes).collect();
        }
    } else if read_piece(pid, registers[shape.a().argument], &mut inside.small.a, shape.a().bytes) {
        inside.small.valid |= valid::A;
    }
    if read_piece(pid, registers[shape.b().argument], &mut inside.small.b, shape.b().bytes) {
        inside.small.valid |= valid::B;
    }
    if shape.has(Shape::NAME) {
        let mut bytes = [0; NAME_BYTES];
        let read = read_memory(pid, registers[0], &mut bytes).unwrap_or(0);
        let name = bytes[..read].split(|b| *b == 0).next().unwrap_or_default();
        inside.name = Some(text::of_bytes(name).into_owned());
    }
    if let Some((inode, name)) = queue_of(pid, inside.entry, &registers) {
        (inside.inode, inside.name) = (Some(inode), Some(name));
    }
}

fn read_piece(pid: u32, address: u64, to: &mut [u8], bytes: usize) -> bool {
    bytes > 0 && address != 0 && read_memory(pid, address, &mut to[..bytes]) == Some(bytes)
}

/// How many bytes were read, as far as the memory is there.
fn read_memory(pid: u32, address: u64, to: &mut [u8]) -> Option<usize> {
    use std::os::unix::fs::FileExt;
    // Not process_vm_readv: this file reads the same memory with the same right, and needs no unsafe code.
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    memory.read_at(to, address).ok()
}

/// Whether a thread is still inside the same call.
pub fn is_still_inside(pid: u32, tid: u32, code: u8, registers: &[u64; 6]) -> bool {
    syscall_of(pid, tid).is_some_and(|(e, _, r)| e.code == code && r == *registers)
}

/// Whether the operations selected include this call.
pub fn is_selected(operations: &[&'static str], entry: &'static EntryPoint, call: u64) -> bool {
    let operation = match entry.family {
        Family::Ipc => ipc_schema::catalogue::ipc_operation(call).map(|o| o.twin().operation),
        _ => Some(entry.operation),
    };
    operation.is_some_and(|o| operations.contains(&o))
}

/// The queue behind a descriptor of another process: its inode, and its name without the slash.
fn queue_of(pid: u32, entry: &EntryPoint, registers: &[u64; 6]) -> Option<(u64, String)> {
    use std::os::unix::fs::MetadataExt;
    let descriptor = registers[entry.position(Meaning::Descriptor)?] as i32;
    let path = format!("/proc/{pid}/fd/{descriptor}");
    let name = std::fs::read_link(&path).ok()?;
    Some((
        std::fs::metadata(&path).ok()?.ino(),
        text::of_bytes(name.as_os_str().as_encoded_bytes()).trim_start_matches('/').to_owned(),
    ))
}

/// How what is no text or number of its own travels from the helper.
mod message {
    use ipc_schema::catalogue::{Abi, EntryPoint, by_code};
    use ipc_schema::wire::{Sembuf, Small};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub mod entry {
        use super::*;

        pub fn serialize<S: Serializer>(entry: &&EntryPoint, to: S) -> Result<S::Ok, S::Error> {
            entry.code.serialize(to)
        }

        pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<&'static EntryPoint, D::Error> {
            by_code(u8::deserialize(from)?).ok_or_else(|| D::Error::custom("no entry point has this code"))
        }
    }

    pub mod abi {
        use super::*;

        pub fn serialize<S: Serializer>(abi: &Abi, to: S) -> Result<S::Ok, S::Error> {
            (*abi == Abi::I386).serialize(to)
        }

        pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Abi, D::Error> {
            Ok(if bool::deserialize(from)? { Abi::I386 } else { Abi::X86_64 })
        }
    }

    pub mod small {
        use super::*;

        pub fn serialize<S: Serializer>(small: &Small, to: S) -> Result<S::Ok, S::Error> {
            bytemuck::bytes_of(small).serialize(to)
        }

        pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Small, D::Error> {
            bytemuck::try_pod_read_unaligned(&Vec::<u8>::deserialize(from)?).map_err(D::Error::custom)
        }
    }

    pub mod sops {
        use super::*;

        pub fn serialize<S: Serializer>(sops: &[Sembuf], to: S) -> Result<S::Ok, S::Error> {
            bytemuck::cast_slice::<Sembuf, u8>(sops).serialize(to)
        }

        pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<Sembuf>, D::Error> {
            Ok(crate::decode::sembufs(&Vec::<u8>::deserialize(from)?).collect())
        }
    }
}
