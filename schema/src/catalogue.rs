//! The catalogue: every system call that ipctrace captures, one line each.
//!
//! A line is a *kernel entry point*: what the processor jumped to. Several entry points can carry one *operation*: glibc's
//! `semop()` arrives as the entry point `semtimedop`, and i386 programs reach all of System V IPC through `ipc`. The
//! number of a line (its code) is ABI-free, goes over the ring, and never changes its meaning. The last lines are
//! functions of the C library: they have no number, and are no [`OPERATIONS`].
//!
//! Sources: `arch/x86/entry/syscalls/syscall_{64,32}.tbl`, `include/linux/syscalls.h`, `ipc/syscall.c`.

/// What the entry point belongs to; `--syscall %sem` selects by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// System V semaphores.
    Sem,
    /// System V shared memory.
    Shm,
    /// System V message queues.
    Msg,
    /// POSIX message queues.
    Mq,
    /// Signal masks, dispositions and synchronous waits.
    Sig,
    /// `ipc(2)`: semaphores, shared memory or message queues, by its first argument.
    Ipc,
    /// Functions of the C library that make no system call; `--libc` selects them.
    Libc,
}

impl Family {
    /// The families and the names by which `--syscall %NAME` selects them.
    pub const NAMES: [(&'static str, Family); 5] =
        [("sem", Family::Sem), ("shm", Family::Shm), ("msg", Family::Msg), ("mq", Family::Mq), ("sig", Family::Sig)];

    /// The families of operations: by which `ipc(2)` a call came in is another matter.
    pub const OF_CALLS: [Family; 5] = [Family::Sem, Family::Shm, Family::Msg, Family::Mq, Family::Sig];

    /// The name as `--syscall %NAME` takes it; `ipc` and `libc` cannot be selected so.
    pub fn name(self) -> &'static str {
        match self {
            Family::Sem => "sem",
            Family::Shm => "shm",
            Family::Msg => "msg",
            Family::Mq => "mq",
            Family::Sig => "sig",
            Family::Ipc => "ipc",
            Family::Libc => "libc",
        }
    }

    /// The `object_kind` of the calls of this family, if they have an object.
    pub fn object_kind(self) -> Option<&'static str> {
        match self {
            Family::Sem | Family::Shm | Family::Msg | Family::Mq => Some(self.name()),
            Family::Sig | Family::Ipc | Family::Libc => None,
        }
    }
}

/// The application binary interface of one call (not of the process: a 64-bit process may execute `int 0x80`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Abi {
    /// 64-bit, by `syscall`.
    X86_64 = 0,
    /// 32-bit compat, by `int 0x80` or `sysenter`.
    I386 = 1,
}

impl Abi {
    /// The value of the column `abi`.
    pub fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => "x86_64",
            Abi::I386 => "i386",
        }
    }

    /// The ABI of a wire value.
    pub fn from_wire(value: u8) -> Option<Abi> {
        match value {
            0 => Some(Abi::X86_64),
            1 => Some(Abi::I386),
            _ => None,
        }
    }
}

/// Where the value of an argument comes from, and so whether it can change under the kernel's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A register scalar: it cannot change.
    Register,
    /// A pointer to user memory that the kernel reads: another thread can change it during the call.
    User,
    /// The same, and NULL is allowed.
    OptionalUser,
    /// A pointer to user memory that the kernel writes (NULL allowed where the call allows it).
    Kernel,
}

/// What an argument means: which column it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A System V key.
    Key,
    /// semid, shmid or msqid.
    ObjectId,
    /// nsems of semget.
    SemCount,
    /// The number of the semaphore in its set (semctl).
    SemNum,
    /// The array of `struct sembuf`.
    SemOps,
    /// How many `struct sembuf` there are.
    SemOpCount,
    /// Flags, decoded by the operation.
    Flags,
    /// A command of a `*ctl` call.
    Command,
    /// What the command works on.
    CommandArgument,
    /// A relative timeout, `struct __kernel_timespec`.
    Timeout,
    /// The same with 32-bit fields.
    Timeout32,
    /// An absolute CLOCK_REALTIME deadline, `struct __kernel_timespec`.
    Deadline,
    /// The same with 32-bit fields.
    Deadline32,
    /// A size in bytes.
    Size,
    /// An attach address.
    Address,
    /// A message body: never recorded.
    Body,
    /// `struct msgbuf`: the type is recorded, the body never.
    Message,
    /// The message type that msgrcv asks for.
    MessageType,
    /// A queue name.
    Name,
    /// `struct mq_attr`.
    Attributes,
    /// A queue descriptor.
    Descriptor,
    /// A message priority.
    Priority,
    /// Permission bits.
    Mode,
    /// `struct sigevent`.
    Notification,
    /// How a mask changes.
    How,
    /// A signal set that the call reads.
    SigSet,
    /// The same, with 32 signals.
    SigSet32,
    /// The mask before, which the call returns.
    OldSigSet,
    /// The pending signals, which the call returns.
    PendingSet,
    /// The same, with 32 signals.
    PendingSet32,
    /// The size of a signal set in bytes.
    SigSetSize,
    /// A signal number.
    Signal,
    /// A new disposition: `struct sigaction`, or the handler's address for `signal`.
    Disposition,
    /// `struct old_sigaction`: a new disposition with a mask of 32 signals.
    Disposition32,
    /// The disposition before.
    OldDisposition,
    /// `siginfo_t` of the signal consumed.
    SignalInfo,
    /// A signalfd descriptor, or -1.
    SignalDescriptor,
    /// The operation of `ipc(2)`: `call & 0xffff`, version `call >> 16`.
    IpcCall,
    /// An argument of `ipc(2)`: its meaning depends on the operation.
    IpcArgument,
    /// Padding in the call's register list.
    Unused,
}

/// One argument of an entry point, in kernel order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name in the man page.
    pub name: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// Where its value is.
    pub origin: Origin,
}

/// One line of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct EntryPoint {
    /// Stable, ABI-free, never reused; 0 is no entry point.
    pub code: u8,
    /// The kernel's name: the value of the column `entry_point`.
    pub name: &'static str,
    /// What it does: the value of the column `syscall`; empty for `ipc`, whose first argument decides.
    pub operation: &'static str,
    /// What it belongs to.
    pub family: Family,
    /// Its x86-64 number.
    pub x86_64: Option<u16>,
    /// Its i386 number.
    pub i386: Option<u16>,
    /// Its arguments, in kernel order.
    pub arguments: &'static [Argument],
}

impl EntryPoint {
    /// Its number in `abi`.
    pub const fn number(&self, abi: Abi) -> Option<u16> {
        match abi {
            Abi::X86_64 => self.x86_64,
            Abi::I386 => self.i386,
        }
    }

    /// The index of the argument with this meaning.
    pub fn position(&self, meaning: Meaning) -> Option<usize> {
        self.arguments.iter().position(|a| a.meaning == meaning)
    }
}

macro_rules! number {
    (-) => {
        None
    };
    ($n:literal) => {
        Some($n)
    };
}

macro_rules! catalogue {
    ($($code:literal $name:literal $operation:literal $family:ident $x86_64:tt $i386:tt
       [$($argument:ident: $meaning:ident $origin:ident),*];)*) => {
        /// Every entry point, in the order of the codes.
        pub const CATALOGUE: &[EntryPoint] = &[$(EntryPoint {
            code: $code,
            name: $name,
            operation: $operation,
            family: Family::$family,
            x86_64: number!($x86_64),
            i386: number!($i386),
            arguments: &[$(Argument {
                name: stringify!($argument),
                meaning: Meaning::$meaning,
                origin: Origin::$origin,
            }),*],
        }),*];
    };
}

catalogue! {
// code entry point            operation         family x86_64 i386  arguments
    1  "semget"                 "semget"          Sem  64  393 [key: Key Register, nsems: SemCount Register, semflg: Flags Register];
    2  "semop"                  "semop"           Sem  65  -   [semid: ObjectId Register, sops: SemOps User, nsops: SemOpCount Register];
    3  "semtimedop"             "semtimedop"      Sem  220 420 [semid: ObjectId Register, sops: SemOps User, nsops: SemOpCount Register, timeout: Timeout OptionalUser];
    4  "semctl"                 "semctl"          Sem  66  394 [semid: ObjectId Register, semnum: SemNum Register, cmd: Command Register, arg: CommandArgument Register];
    5  "shmget"                 "shmget"          Shm  29  395 [key: Key Register, size: Size Register, shmflg: Flags Register];
    6  "shmat"                  "shmat"           Shm  30  397 [shmid: ObjectId Register, shmaddr: Address Register, shmflg: Flags Register];
    7  "shmdt"                  "shmdt"           Shm  67  398 [shmaddr: Address Register];
    8  "shmctl"                 "shmctl"          Shm  31  396 [shmid: ObjectId Register, cmd: Command Register, buf: CommandArgument OptionalUser];
    9  "msgget"                 "msgget"          Msg  68  399 [key: Key Register, msgflg: Flags Register];
    10 "msgsnd"                 "msgsnd"          Msg  69  400 [msqid: ObjectId Register, msgp: Message User, msgsz: Size Register, msgflg: Flags Register];
    11 "msgrcv"                 "msgrcv"          Msg  70  401 [msqid: ObjectId Register, msgp: Message Kernel, msgsz: Size Register, msgtyp: MessageType Register, msgflg: Flags Register];
    12 "msgctl"                 "msgctl"          Msg  71  402 [msqid: ObjectId Register, cmd: Command Register, buf: CommandArgument OptionalUser];
    13 "ipc"                    ""                Ipc  -   117 [call: IpcCall Register, first: IpcArgument Register, second: IpcArgument Register, third: IpcArgument Register, ptr: IpcArgument User, fifth: IpcArgument Register];
    14 "mq_open"                "mq_open"         Mq   240 277 [name: Name User, oflag: Flags Register, mode: Mode Register, attr: Attributes OptionalUser];
    15 "mq_unlink"              "mq_unlink"       Mq   241 278 [name: Name User];
    16 "mq_timedsend"           "mq_timedsend"    Mq   242 418 [mqdes: Descriptor Register, msg_ptr: Body User, msg_len: Size Register, msg_prio: Priority Register, abs_timeout: Deadline OptionalUser];
    17 "mq_timedsend_time32"    "mq_timedsend"    Mq   -   279 [mqdes: Descriptor Register, msg_ptr: Body User, msg_len: Size Register, msg_prio: Priority Register, abs_timeout: Deadline32 OptionalUser];
    18 "mq_timedreceive"        "mq_timedreceive" Mq   243 419 [mqdes: Descriptor Register, msg_ptr: Body Kernel, msg_len: Size Register, msg_prio: Priority Kernel, abs_timeout: Deadline OptionalUser];
    19 "mq_timedreceive_time32" "mq_timedreceive" Mq   -   280 [mqdes: Descriptor Register, msg_ptr: Body Kernel, msg_len: Size Register, msg_prio: Priority Kernel, abs_timeout: Deadline32 OptionalUser];
    20 "mq_notify"              "mq_notify"       Mq   244 281 [mqdes: Descriptor Register, sevp: Notification OptionalUser];
    21 "mq_getsetattr"          "mq_getsetattr"   Mq   245 282 [mqdes: Descriptor Register, newattr: Attributes OptionalUser, oldattr: Attributes Kernel];
    22 "rt_sigprocmask"         "sigprocmask"     Sig  14  175 [how: How Register, set: SigSet OptionalUser, oldset: OldSigSet Kernel, sigsetsize: SigSetSize Register];
    23 "sigprocmask"            "sigprocmask"     Sig  -   126 [how: How Register, set: SigSet32 OptionalUser, oldset: OldSigSet Kernel];
    24 "sgetmask"               "sigprocmask"     Sig  -   68  [];
    25 "ssetmask"               "sigprocmask"     Sig  -   69  [newmask: SigSet32 Register];
    26 "rt_sigsuspend"          "sigsuspend"      Sig  130 179 [mask: SigSet User, sigsetsize: SigSetSize Register];
    27 "sigsuspend"             "sigsuspend"      Sig  -   72  [unused1: Unused Register, unused2: Unused Register, mask: SigSet32 Register];
    28 "rt_sigaction"           "sigaction"       Sig  13  174 [signum: Signal Register, act: Disposition OptionalUser, oldact: OldDisposition Kernel, sigsetsize: SigSetSize Register];
    29 "sigaction"              "sigaction"       Sig  -   67  [signum: Signal Register, act: Disposition32 OptionalUser, oldact: OldDisposition Kernel];
    30 "signal"                 "sigaction"       Sig  -   48  [signum: Signal Register, handler: Disposition Register];
    31 "rt_sigpending"          "sigpending"      Sig  127 176 [set: PendingSet Kernel, sigsetsize: SigSetSize Register];
    32 "sigpending"             "sigpending"      Sig  -   73  [set: PendingSet32 Kernel];
    33 "rt_sigtimedwait"        "sigtimedwait"    Sig  128 421 [set: SigSet User, info: SignalInfo Kernel, timeout: Timeout OptionalUser, sigsetsize: SigSetSize Register];
    34 "rt_sigtimedwait_time32" "sigtimedwait"    Sig  -   177 [set: SigSet User, info: SignalInfo Kernel, timeout: Timeout32 OptionalUser, sigsetsize: SigSetSize Register];
    35 "signalfd"               "signalfd"        Sig  282 321 [fd: SignalDescriptor Register, mask: SigSet User, sizemask: SigSetSize Register];
    36 "signalfd4"              "signalfd"        Sig  289 327 [fd: SignalDescriptor Register, mask: SigSet User, sizemask: SigSetSize Register, flags: Flags Register];
    37 "sigemptyset"            "sigemptyset"     Libc -   -   [set: SigSet Kernel];
    38 "sigfillset"             "sigfillset"      Libc -   -   [set: SigSet Kernel];
    39 "sigaddset"              "sigaddset"       Libc -   -   [set: SigSet User, signum: Signal Register];
    40 "sigdelset"              "sigdelset"       Libc -   -   [set: SigSet User, signum: Signal Register];
}

/// One operation of `ipc(2)`, from `include/uapi/linux/ipc.h` and `ipc/syscall.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpcOperation {
    /// `call & 0xffff`.
    pub number: u16,
    /// The code of the entry point that does the same.
    pub twin: u8,
    /// Where the arguments of the twin stand among those of `ipc`, in the order of the twin's.
    pub arguments: &'static [usize],
}

impl IpcOperation {
    /// The entry point that does the same.
    pub const fn twin(&self) -> &'static EntryPoint {
        &CATALOGUE[self.twin as usize - 1]
    }
}

/// The places of the arguments of `ipc(2)`.
pub mod ipc {
    /// semid, shmid, msqid, or the key.
    pub const FIRST: usize = 1;
    /// A count, a size, a number or flags.
    pub const SECOND: usize = 2;
    /// Flags or a command; of shmat the place where the address is stored.
    pub const THIRD: usize = 3;
    /// A pointer to user memory.
    pub const PTR: usize = 4;
    /// The timeout or the message type.
    pub const FIFTH: usize = 5;
}

macro_rules! ipc_operations {
    ($($number:literal $twin:literal [$($argument:ident)*];)*) => {
        /// The operations of `ipc(2)`; any other number is ENOSYS.
        pub const IPC_OPERATIONS: &[IpcOperation] =
            &[$(IpcOperation { number: $number, twin: $twin, arguments: &[$(ipc::$argument),*] }),*];
    };
}

ipc_operations! {
// number twin                 its arguments
    1   2  /* semop */      [FIRST PTR SECOND];
    2   1  /* semget */     [FIRST SECOND THIRD];
    3   4  /* semctl */     [FIRST SECOND THIRD PTR];
    4   3  /* semtimedop */ [FIRST PTR SECOND FIFTH];
    11  10 /* msgsnd */     [FIRST PTR SECOND THIRD];
    12  11 /* msgrcv */     [FIRST PTR SECOND FIFTH THIRD];
    13  9  /* msgget */     [FIRST SECOND];
    14  12 /* msgctl */     [FIRST SECOND PTR];
    21  6  /* shmat */      [FIRST PTR SECOND];
    22  7  /* shmdt */      [PTR];
    23  5  /* shmget */     [FIRST SECOND THIRD];
    24  8  /* shmctl */     [FIRST SECOND PTR];
}

/// The operation of `ipc(2)` with this first argument.
pub fn ipc_operation(call: u64) -> Option<&'static IpcOperation> {
    IPC_OPERATIONS.iter().find(|o| u64::from(o.number) == call & 0xffff)
}

/// The operations: the values of the column `syscall`, as `--syscall` takes them.
pub const OPERATIONS: &[&str] = &[
    "semget",
    "semop",
    "semtimedop",
    "semctl",
    "shmget",
    "shmat",
    "shmdt",
    "shmctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "mq_timedsend",
    "mq_timedreceive",
    "mq_notify",
    "mq_getsetattr",
    "sigprocmask",
    "sigsuspend",
    "sigaction",
    "sigpending",
    "sigtimedwait",
    "signalfd",
];

/// The line of a code, `None` for a code that no line has.
pub const fn by_code(code: u8) -> Option<&'static EntryPoint> {
    if code == 0 || code as usize > CATALOGUE.len() { None } else { Some(&CATALOGUE[code as usize - 1]) }
}

const fn check(catalogue: &[EntryPoint]) {
    let mut i = 0;
    while i < catalogue.len() {
        // `by_code` indexes by it.
        assert!(catalogue[i].code as usize == i + 1, "the codes rise by one from 1");
        let mut j = 0;
        while j < i {
            if let (Some(a), Some(b)) = (catalogue[i].x86_64, catalogue[j].x86_64) {
                assert!(a != b, "two entry points share an x86_64 number");
            }
            if let (Some(a), Some(b)) = (catalogue[i].i386, catalogue[j].i386) {
                assert!(a != b, "two entry points share an i386 number");
            }
            j += 1;
        }
        assert!(catalogue[i].arguments.len() <= 6, "a system call has six registers");
        i += 1;
    }
}
const _: () = check(CATALOGUE);
