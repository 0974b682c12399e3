//! The ways into the kernel: the same operation by `syscall` and by `int 0x80`.

use std::arch::asm;

/// By what numbers and with what layouts the calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// x86-64.
    Native,
    /// i386 as old programs do: `ipc`, times of 32 bits, signal sets of 32 bits.
    Old,
    /// i386 as new programs do: System V calls of their own, times of 64 bits, `rt_` signal calls.
    New,
}

impl Way {
    /// The value of the column `abi`.
    pub(super) fn abi(self) -> &'static str {
        match self {
            Way::Native => "x86_64",
            Way::Old | Way::New => "i386",
        }
    }

    /// As a word in the names of cases.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Native => "native",
            Way::Old => "i386 old",
            Way::New => "i386 new",
        }
    }
}

/// A kernel entry point: its number and its name.
pub(super) type Entry = (u16, &'static str);

/// The entry points of one operation.
pub(super) struct Door {
    name: &'static str,
    native: Entry,
    old: Entry,
    new: Entry,
    /// The operation of `ipc(2)` in the old way; 0 for none.
    ipc: u16,
}

const IPC: Entry = (117, "ipc");

const fn system_v(name: &'static str, native: u16, ipc: u16, new: u16) -> Door {
    Door { name, native: (native, name), old: IPC, new: (new, name), ipc }
}

const fn plain(name: &'static str, native: u16, i386: u16) -> Door {
    Door { name, native: (native, name), old: (i386, name), new: (i386, name), ipc: 0 }
}

const fn other(name: &'static str, native: Entry, old: Entry, new: u16) -> Door {
    Door { name, native, old, new: (new, native.1), ipc: 0 }
}

/// `arch/x86/entry/syscalls/syscall_{64,32}.tbl`, `include/uapi/linux/ipc.h`. A direct i386 semop does not exist.
const DOORS: &[Door] = &[
    system_v("semget", 64, 2, 393),
    Door { name: "semop", native: (65, "semop"), old: IPC, new: (420, "semtimedop"), ipc: 1 },
    system_v("semtimedop", 220, 4, 420),
    system_v("semctl", 66, 3, 394),
    system_v("shmget", 29, 23, 395),
    system_v("shmat", 30, 21, 397),
    system_v("shmdt", 67, 22, 398),
    system_v("shmctl", 31, 24, 396),
    system_v("msgget", 68, 13, 399),
    system_v("msgsnd", 69, 11, 400),
    system_v("msgrcv", 70, 12, 401),
    system_v("msgctl", 71, 14, 402),
    plain("mq_open", 240, 277),
    plain("mq_unlink", 241, 278),
    other("mq_timedsend", (242, "mq_timedsend"), (279, "mq_timedsend_time32"), 418),
    other("mq_timedreceive", (243, "mq_timedreceive"), (280, "mq_timedreceive_time32"), 419),
    plain("mq_notify", 244, 281),
    plain("mq_getsetattr", 245, 282),
    other("sigprocmask", (14, "rt_sigprocmask"), (126, "sigprocmask"), 175),
    other("sigsuspend", (130, "rt_sigsuspend"), (72, "sigsuspend"), 179),
    other("sigaction", (13, "rt_sigaction"), (67, "sigaction"), 174),
    other("sigpending", (127, "rt_sigpending"), (73, "sigpending"), 176),
    other("sigtimedwait", (128, "rt_sigtimedwait"), (177, "rt_sigtimedwait_time32"), 421),
    plain("signalfd", 282, 321),
    plain("signalfd4", 289, 327),
];

/// The entry points of an operation.
pub(super) fn door(name: &str) -> &'static Door {
    DOORS.iter().find(|door| door.name == name).unwrap_or_else(|| panic!("there is no operation {name}"))
}

impl Door {
    /// The entry point in a way.
    pub(super) fn entry(&self, way: Way) -> Entry {
        match way {
            Way::Native => self.native,
            Way::Old => self.old,
            Way::New => self.new,
        }
    }

    /// The operation of `ipc(2)` that a way goes through.
    pub(super) fn ipc(&self, way: Way) -> Option<u16> {
        (way == Way::Old && self.ipc != 0).then_some(self.ipc)
    }
}

/// The bit of a command that asks for the structures of today.
const IPC_64: u64 = 0x100;

/// The arguments of `ipc(2)` for an operation with the arguments `args` of its twin: the call, first, second, third, ptr
/// and fifth. `keep` puts words into memory and returns their address.
pub(super) fn multiplex(operation: u16, args: [u64; 6], keep: impl FnOnce(&[u64]) -> u64) -> [u64; 6] {
    let [a, b, c, d, e, _] = args;
    let call = u64::from(operation);
    match operation {
        1 => [call, a, c, 0, b, 0],
        3 => [call, a, b, c | IPC_64, keep(&[d]), 0],
        4 => [call, a, c, 0, b, d],
        11 => [call, a, c, d, b, 0],
        // Version 0: where the message goes and which type is asked for are in memory.
        12 => [call, a, c, e, keep(&[b, d]), 0],
        14 | 24 => [call, a, b | IPC_64, 0, c, 0],
        21 => [call, a, c, keep(&[0]), b, 0],
        22 => [call, 0, 0, 0, a, 0],
        _ => [call, a, b, c, 0, 0],
    }
}

/// Makes a call; the value, or the errno.
///
/// # Safety
/// What the kernel takes as a pointer to write to must be NULL, unmapped, or memory with room for what the call writes;
/// for i386 it lies below 4 GiB.
pub(super) unsafe fn enter(way: Way, number: u16, args: [u64; 6]) -> Result<i64, i32> {
    let value = match way {
        // SAFETY: promised by the caller.
        Way::Native => unsafe { by_syscall(number, args) },
        // SAFETY: promised by the caller.
        Way::Old | Way::New => unsafe { by_int80(number, args.map(|arg| arg as u32)) },
    };
    match value {
        -4095..0 => Err(-value as i32),
        _ => Ok(value),
    }
}

unsafe fn by_syscall(number: u16, args: [u64; 6]) -> i64 {
    let value: i64;
    // SAFETY: promised by the caller of `enter`; the kernel changes only rax, rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") i64::from(number) => value,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    value
}

/// An address above 2 GiB stays positive; only an errno is negative.
unsafe fn by_int80(number: u16, args: [u32; 6]) -> i64 {
    let value: u64;
    // SAFETY: promised by the caller of `enter`. rbx and rbp, which the compiler reserves, are kept on the stack; older
    // kernels clear r8 to r11.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov ebx, [r12]",
            "mov ecx, [r12 + 4]",
            "mov edx, [r12 + 8]",
            "mov esi, [r12 + 12]",
            "mov edi, [r12 + 16]",
            "mov ebp, [r12 + 20]",
            "int 0x80",
            "pop rbp",
            "pop rbx",
            inlateout("rax") u64::from(number) => value,
            in("r12") args.as_ptr(),
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _, lateout("rdi") _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    match value as i32 {
        errno @ -4095..0 => i64::from(errno),
        _ => i64::from(value as u32),
    }
}
