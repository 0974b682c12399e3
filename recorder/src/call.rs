//! A captured call, and what its registers mean.

use crate::copies::{self, Copies};
use crate::waits::Wait;
use ipc_schema::catalogue::{Abi, CATALOGUE, EntryPoint, Family, Meaning, Origin, ipc_operation};
use ipc_schema::flags::{self, IPC_64};
use ipc_schema::shape::{self, Shape};
use ipc_schema::text;
use ipc_schema::wire::Sembuf;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned, with success.
    Ok,
    /// It returned an error.
    Error,
    /// It had not ended when the recording did.
    Open,
    /// A signal killed its thread inside it.
    Killed,
}

impl Outcome {
    /// The value of the column `outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Open => "open",
            Outcome::Killed => "killed",
        }
    }
}

/// Who made a call, at the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Thread name, NUL-padded.
    pub comm: [u8; 16],
    /// User id.
    pub uid: Option<u32>,
    /// cgroup v2 id.
    pub cgroup_id: Option<u64>,
    /// Inode of the IPC namespace.
    pub ipc_ns: Option<u32>,
}

/// One call. Times are CLOCK_BOOTTIME nanoseconds.
#[derive(Clone, Debug)]
pub struct Call {
    /// Unique in the trace.
    pub call_id: i64,
    /// Whether it began before the probes were live; the start is then a bound.
    pub began_before: bool,
    /// Entry.
    pub start_ns: u64,
    /// Exit, or death.
    pub end_ns: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The kernel entry.
    pub entry: &'static EntryPoint,
    /// The entry point whose arguments it has: of `ipc(2)` that of the operation.
    pub layout: &'static EntryPoint,
    /// What was copied of it.
    pub shape: Shape,
    /// How it came in.
    pub abi: Abi,
    /// CPU at entry.
    pub cpu: u16,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Joins processes.
    pub process_id: i64,
    /// Joins threads.
    pub thread_id: i64,
    /// Who made it.
    pub identity: Identity,
    /// The argument registers.
    pub registers: [u64; 6],
    /// The arguments, in the order of the layout.
    pub arguments: [u64; 6],
    /// The kernel's return value; `None` if it did not return.
    pub ret: Option<i64>,
    /// The first semaphore operation.
    pub first_sop: Option<Sembuf>,
    /// All of them, if there are more.
    pub sops: Box<[Sembuf]>,
    /// What was copied of its user memory, if anything but semaphore operations.
    pub copies: Option<Box<Copies>>,
    /// Whether its user memory differed between entry and exit; `None`: nothing was compared.
    pub args_changed: Option<bool>,
    /// How often the kernel restarted it.
    pub restarts: i32,
    /// Its wakings; `None`: there were none.
    pub wait: Option<Box<Wait>>,
    /// Whether all of its wakings are known.
    pub wait_known: bool,
    /// [`ipc_schema::wire::Header::switches`] at entry.
    pub switches: u8,
    /// The lifetime of its object.
    pub object_ref: Option<i64>,
    /// Whether this get or open made its object.
    pub created: Option<bool>,
    /// Its user stack.
    pub stack_id: Option<i64>,
    /// The inode or the name of its queue, where only the history of the queues tells.
    pub queue_identity: Option<Box<QueueIdentity>>,
}

/// What a call on a queue does not say itself: a descriptor has no name, an unlink no inode.
#[derive(Clone, Debug, Default)]
pub struct QueueIdentity {
    /// Inode of the queue.
    pub inode: Option<u64>,
    /// Name, with its slash.
    pub name: Option<std::sync::Arc<str>>,
}

/// The arguments of a call in the order of the entry point that does the same.
pub fn layout_of(entry: &'static EntryPoint, registers: [u64; 6]) -> (&'static EntryPoint, [u64; 6]) {
    let operation = if entry.family == Family::Ipc { ipc_operation(registers[0]) } else { None };
    let Some(operation) = operation else { return (entry, registers) };
    let mut arguments = [0; 6];
    for (to, from) in arguments.iter_mut().zip(operation.arguments) {
        *to = registers[*from];
    }
    (operation.twin(), arguments)
}

/// Index of each meaning among the arguments, per code: 0xff for none.
static POSITIONS: [[u8; MEANINGS]; CATALOGUE.len()] = positions();
const MEANINGS: usize = Meaning::Unused as usize + 1;

const fn positions() -> [[u8; MEANINGS]; CATALOGUE.len()] {
    let mut table = [[0xff; MEANINGS]; CATALOGUE.len()];
    let mut line = 0;
    while line < CATALOGUE.len() {
        let arguments = CATALOGUE[line].arguments;
        let mut i = arguments.len();
        while i > 0 {
            i -= 1;
            table[line][arguments[i].meaning as usize] = i as u8;
        }
        line += 1;
    }
    table
}

/// The place of an argument of this entry point, if it has one with this meaning.
fn place_of(entry: &EntryPoint, meaning: Meaning) -> Option<usize> {
    let place = POSITIONS[entry.code as usize - 1][meaning as usize];
    (place != 0xff).then_some(place as usize)
}

impl Call {
    /// A call that has just begun, of which only the registers are known.
    pub fn begun(call_id: i64, start_ns: u64, entry: &'static EntryPoint, abi: Abi, registers: [u64; 6]) -> Call {
        let (layout, arguments) = layout_of(entry, registers);
        Call {
            call_id,
            began_before: false,
            start_ns,
            end_ns: None,
            outcome: Outcome::Open,
            entry,
            layout,
            shape: shape::of(entry.code, abi, registers[0]),
            abi,
            cpu: 0,
            pid: 0,
            tid: 0,
            process_id: 0,
            thread_id: 0,
            identity: Identity::default(),
            registers,
            arguments,
            ret: None,
            first_sop: None,
            sops: Box::default(),
            copies: None,
            args_changed: None,
            restarts: 0,
            wait: None,
            wait_known: false,
            switches: 0,
            object_ref: None,
            created: None,
            stack_id: None,
            queue_identity: None,
        }
    }

    /// Gives back what it holds beside its box, which is kept.
    pub fn forget_memory(&mut self) {
        (self.sops, self.copies, self.wait, self.queue_identity) = (Box::default(), None, None, None);
    }

    /// The register with this meaning; sign-extended where the ABI is narrower. Pointers to user memory have no value
    /// here.
    pub fn argument(&self, meaning: Meaning) -> Option<i64> {
        let place = place_of(self.layout, meaning)?;
        if self.layout.arguments.get(place)?.origin != Origin::Register {
            return None;
        }
        let raw = self.arguments[place];
        let is_size = meaning == Meaning::Size && self.layout.family != Family::Msg;
        let is_unsigned = is_size || matches!(meaning, Meaning::Address | Meaning::Disposition);
        Some(match self.abi {
            Abi::I386 if is_unsigned => i64::from(raw as u32),
            Abi::I386 => i64::from(raw as i32),
            Abi::X86_64 => raw as i64,
        })
    }

    /// The same as a C `int`.
    pub fn int(&self, meaning: Meaning) -> Option<i32> {
        self.argument(meaning).map(|v| v as i32)
    }

    /// Whether it has an argument with this meaning, and not NULL.
    fn has(&self, meaning: Meaning) -> bool {
        place_of(self.layout, meaning).is_some_and(|place| self.arguments[place] != 0)
    }

    /// The operation: of `ipc(2)` by its first argument.
    pub fn operation(&self) -> &'static str {
        if self.layout.operation.is_empty() { self.entry.name } else { self.layout.operation }
    }

    /// What the call belongs to.
    pub fn family(&self) -> Family {
        self.layout.family
    }

    /// Bytes of the first piece.
    fn a(&self) -> Option<&[u8]> {
        self.copies.as_deref()?.a()
    }

    /// The return value of a call that succeeded.
    pub fn success(&self) -> Option<i64> {
        self.ret.filter(|_| self.outcome == Outcome::Ok)
    }

    /// What user space saw: -1 for an error.
    pub fn return_value(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Ok if self.abi == Abi::I386 && self.operation() == "shmat" => self.ret.map(|r| r & 0xffff_ffff),
            Outcome::Ok if self.abi == Abi::I386 => self.ret.map(|r| i64::from(r as i32)),
            Outcome::Ok => self.ret,
            Outcome::Error => Some(-1),
            Outcome::Open | Outcome::Killed => None,
        }
    }

    /// How long it waited; `None`: nobody knows. 0: it did not sleep.
    pub fn wait_ns(&self) -> Option<u64> {
        let is_known = self.wait_known && self.end_ns.is_some();
        is_known.then(|| self.wait.as_deref().map_or(0, |wait| wait.last_ns.saturating_sub(self.start_ns)))
    }

    /// The name of the error; a number without a name is spelt `errno 123`.
    pub fn error(&self) -> Option<std::borrow::Cow<'static, str>> {
        if self.outcome != Outcome::Error {
            return None;
        }
        let ret = self.ret?;
        Some(flags::errno_name(ret).map_or_else(|| format!("errno {}", -ret).into(), Into::into))
    }

    /// semid, shmid or msqid: the argument, or what a get returned. The `*_STAT` commands take an index and return the id.
    /// Of a queue the inode.
    pub fn object_id(&self) -> Option<i64> {
        if self.family() == Family::Mq {
            return self.queue_inode().map(|i| i as i64);
        }
        if self.argument(Meaning::Key).is_some() {
            return self.success();
        }
        let id = i64::from(self.int(Meaning::ObjectId)?);
        match self.command() {
            Some("SEM_STAT" | "SEM_STAT_ANY" | "SHM_STAT" | "SHM_STAT_ANY" | "MSG_STAT" | "MSG_STAT_ANY") => {
                self.success()
            }
            Some("IPC_INFO" | "SEM_INFO" | "SHM_INFO" | "MSG_INFO") => None,
            _ => Some(id),
        }
    }

    fn queue_inode(&self) -> Option<u64> {
        let seen = self.queue().map(|q| q.inode);
        seen.or_else(|| self.queue_identity.as_deref()?.inode)
    }

    /// What is behind the queue descriptor.
    pub fn queue(&self) -> Option<&ipc_schema::wire::Queue> {
        self.copies.as_deref()?.queue.as_ref().filter(|q| q.inode != 0)
    }

    /// The same at the entry of the call: not of mq_open, which has none yet.
    pub fn queue_at_entry(&self) -> Option<&ipc_schema::wire::Queue> {
        self.queue().filter(|_| self.shape.has(Shape::QUEUE))
    }

    /// How many messages the queue takes; of an mq_open that failed, how many it was to take.
    pub fn queue_max_messages(&self) -> Option<i64> {
        self.queue().map(|q| q.max_messages as i64).filter(|n| *n > 0).or_else(|| self.asked_attribute(1))
    }

    /// How long its messages may be; of an mq_open that failed, how long they were to be.
    pub fn queue_max_message_bytes(&self) -> Option<i64> {
        self.queue().map(|q| q.max_message_bytes as i64).filter(|n| *n > 0).or_else(|| self.asked_attribute(2))
    }

    /// A field of the `struct mq_attr` given to mq_open.
    fn asked_attribute(&self, place: usize) -> Option<i64> {
        let long = self.shape.a().bytes / 4;
        self.opening_flags()?;
        copies::signed(self.a()?, place * long, long)
    }

    /// The name of a queue, with its slash.
    pub fn object_name(&self) -> Option<std::sync::Arc<str>> {
        let own = self.copies.as_deref().and_then(|c| c.name.as_deref());
        let known = || self.queue_identity.as_deref()?.name.clone();
        own.map(|name| format!("/{name}").into()).or_else(known)
    }

    /// The command of a `*ctl` call.
    pub fn command(&self) -> Option<&'static str> {
        let raw = i64::from(self.int(Meaning::Command)?);
        flags::name(flags::commands_of(self.operation())?, raw & !IPC_64)
    }

    /// Whether this get or open made its object, as far as the arguments tell.
    pub fn created_by_arguments(&self) -> Option<bool> {
        const IPC_CREAT: i32 = 0o1000;
        const IPC_EXCL: i32 = 0o2000;
        const O_CREAT: i32 = 0o100;
        const O_EXCL: i32 = 0o200;
        const IPC_PRIVATE: i32 = 0;
        self.success()?;
        let (creates, is_exclusive) = match self.family() {
            Family::Mq => (self.opening_flags()? & O_CREAT != 0, self.opening_flags()? & O_EXCL != 0),
            _ if self.int(Meaning::Key)? == IPC_PRIVATE => (true, true),
            _ => (self.int(Meaning::Flags)? & IPC_CREAT != 0, self.int(Meaning::Flags)? & IPC_EXCL != 0),
        };
        match (creates, is_exclusive) {
            (true, true) => Some(true),
            (false, _) => Some(false),
            (true, false) => None,
        }
    }

    fn opening_flags(&self) -> Option<i32> {
        if self.shape.has(Shape::QUEUE_RETURNED) { self.int(Meaning::Flags) } else { None }
    }

    /// The flags: the argument; of sigaction `sa_flags`, of mq_getsetattr the new `mq_flags`.
    pub fn flags(&self) -> Option<i32> {
        self.int(Meaning::Flags).or_else(|| match self.operation() {
            "sigaction" => self.sigaction().map(|s| s.flags as i32),
            "mq_getsetattr" if self.has(Meaning::Attributes) => {
                copies::signed(self.a()?, 0, self.shape.a().bytes / 4).map(|f| f as i32)
            }
            _ => None,
        })
    }

    /// The flags, spelt.
    pub fn flags_text(&self) -> Option<String> {
        let value = self.flags()?;
        let operation = self.operation();
        let list = flags::flags_of(operation)?;
        let has_mode = matches!(operation, "semget" | "msgget" | "shmget");
        let mut text = String::new();
        if operation == "mq_open" {
            flags::write_open_flags(&mut text, list, value, self.int(Meaning::Mode)?).ok()?;
        } else {
            flags::write_flags(&mut text, list, value, has_mode).ok()?;
        }
        Some(text)
    }

    /// The semaphore of a semctl, or of the first operation.
    pub fn sem_num(&self) -> Option<i32> {
        self.first_sop.map(|s| i32::from(s.sem_num)).or_else(|| self.int(Meaning::SemNum))
    }

    /// How many semaphore operations the call had, as it said.
    pub fn sem_ops_total(&self) -> Option<i32> {
        self.argument(Meaning::SemOpCount).map(|n| i32::try_from(n).unwrap_or(i32::MAX))
    }

    /// Where a segment is attached: what shmat returned, or shmdt's argument.
    pub fn address(&self) -> Option<i64> {
        if self.operation() != "shmat" {
            return self.argument(Meaning::Address);
        }
        let returned = self.success()?;
        match self.shape.returned().bytes {
            0 => Some(returned),
            bytes => copies::unsigned(self.copies.as_deref()?.returned(self.shape)?, 0, bytes).map(|a| a as i64),
        }
    }

    /// semctl: the value that SETVAL set or GETVAL returned.
    pub fn sem_value(&self) -> Option<i32> {
        match self.command()? {
            "SETVAL" => self.int(Meaning::CommandArgument),
            "GETVAL" => self.success().map(|v| v as i32),
            _ => None,
        }
    }

    /// The type of the message moved.
    pub fn msg_type(&self) -> Option<i64> {
        match self.operation() {
            "msgsnd" => copies::signed(self.a()?, 0, self.shape.a().bytes),
            "msgrcv" => {
                self.success()?;
                copies::signed(self.copies.as_deref()?.returned(self.shape)?, 0, self.shape.returned().bytes)
            }
            _ => None,
        }
    }

    /// The priority of the message moved.
    pub fn msg_priority(&self) -> Option<i64> {
        if let Some(priority) = self.argument(Meaning::Priority) {
            return Some(priority & 0xffff_ffff);
        }
        if !self.has(Meaning::Priority) {
            return None;
        }
        self.success()?;
        copies::unsigned(self.copies.as_deref()?.returned(self.shape)?, 0, 4).map(|p| p as i64)
    }

    /// The relative timeout.
    pub fn timeout_ns(&self) -> Option<i64> {
        (self.has(Meaning::Timeout) || self.has(Meaning::Timeout32)).then(|| self.timespec_ns())?
    }

    /// The absolute deadline, nanoseconds since the epoch.
    pub fn deadline_ns(&self) -> Option<i64> {
        (self.has(Meaning::Deadline) || self.has(Meaning::Deadline32)).then(|| self.timespec_ns())?
    }

    fn timespec_ns(&self) -> Option<i64> {
        copies::timespec_ns(self.copies.as_deref()?.b()?, self.shape.b().bytes, self.abi)
    }

    /// SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK. NULL for a call that only asks: its `how` is not looked at.
    pub fn sig_how(&self) -> Option<&'static str> {
        let how = flags::name(flags::SIG_HOW, i64::from(self.int(Meaning::How)?))?;
        (self.has(Meaning::SigSet) || self.has(Meaning::SigSet32)).then_some(how)
    }

    /// The set that the call reads or changes, or that sigpending returns; bit n-1 = signal n.
    pub fn sig_set(&self) -> Option<u64> {
        match self.operation() {
            "sigaction" => self.sigaction()?.mask,
            "sigpending" => {
                self.success()?;
                copies::unsigned(self.copies.as_deref()?.returned(self.shape)?, 0, self.shape.returned().bytes)
            }
            _ if !matches!(self.family(), Family::Sig | Family::Libc) => None,
            _ => match self.shape.a().bytes {
                0 => self.argument(Meaning::SigSet32).map(|s| s as u64 & 0xffff_ffff),
                bytes => copies::unsigned(self.a()?, 0, bytes),
            },
        }
    }

    /// The mask before, of the calls that change it.
    pub fn sig_old(&self) -> Option<u64> {
        self.changes_mask().then(|| self.copies.as_deref()?.mask_before())?
    }

    /// The mask after, of sigprocmask.
    pub fn sig_after(&self) -> Option<u64> {
        (self.operation() == "sigprocmask").then(|| self.copies.as_deref()?.mask_after())?
    }

    fn changes_mask(&self) -> bool {
        matches!(self.operation(), "sigprocmask" | "sigsuspend")
    }

    /// The signal: the argument, what sigtimedwait consumed, or what mq_notify asks for.
    pub fn signal(&self) -> Option<i32> {
        const SIGEV_SIGNAL: i64 = 0;
        match self.operation() {
            "sigtimedwait" => self.success().map(|s| s as i32),
            "mq_notify" => {
                let value = self.shape.a().bytes - 8;
                let (signal, notify) = (copies::signed(self.a()?, value, 4)?, copies::signed(self.a()?, value + 4, 4)?);
                (notify == SIGEV_SIGNAL).then_some(signal as i32)
            }
            _ => self.int(Meaning::Signal),
        }
    }

    /// What sigaction sets; `None` for one that only asks.
    pub fn disposition(&self) -> Option<&'static str> {
        let handler = match self.argument(Meaning::Disposition) {
            Some(handler) => handler as u64,
            None => self.sigaction()?.handler,
        };
        Some(match handler {
            0 => "default",
            1 => "ignore",
            _ => "handler",
        })
    }

    fn sigaction(&self) -> Option<Sigaction> {
        if self.operation() != "sigaction" {
            return None;
        }
        let (a, bytes) = (self.a()?, self.shape.a().bytes);
        // handler, flags, restorer, mask; struct old_sigaction: handler, mask, flags, restorer
        let (flags, mask, mask_bytes, word) = match bytes {
            32 => (8, 24, 8, 8),
            20 => (4, 12, 8, 4),
            16 => (8, 4, 4, 4),
            _ => return None,
        };
        let (handler, flags) = (copies::unsigned(a, 0, word)?, copies::unsigned(a, flags, word)?);
        Some(Sigaction { handler, flags, mask: copies::unsigned(a, mask, mask_bytes) })
    }
}

/// `struct sigaction`.
struct Sigaction {
    handler: u64,
    flags: u64,
    mask: Option<u64>,
}

/// The name of a thread as text.
pub fn comm_text(comm: &[u8; 16]) -> std::borrow::Cow<'_, str> {
    let length = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    text::of_bytes(&comm[..length])
}
