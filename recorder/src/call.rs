//! A captured call, and what its registers mean.

use ipc_schema::catalogue::{Abi, CATALOGUE, EntryPoint, Family, IPC_OPERATIONS, Meaning, Origin};
use ipc_schema::flags::{self, IPC_64};
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
    pub arguments: [u64; 6],
    /// The kernel's return value; `None` if it did not return.
    pub ret: Option<i64>,
    /// The first semaphore operation.
    pub first_sop: Option<Sembuf>,
    /// All of them, if there are more.
    pub sops: Box<[Sembuf]>,
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

impl Call {
    /// The register with this meaning; sign-extended where the ABI is narrower. Pointers to user memory have no value
    /// here.
    pub fn argument(&self, meaning: Meaning) -> Option<i64> {
        let position = POSITIONS[self.entry.code as usize - 1][meaning as usize] as usize;
        if self.entry.arguments.get(position)?.origin != Origin::Register {
            return None;
        }
        let raw = self.arguments[position];
        Some(if self.abi == Abi::I386 { i64::from(raw as i32) } else { raw as i64 })
    }

    /// The same as a C `int`.
    pub fn int(&self, meaning: Meaning) -> Option<i32> {
        self.argument(meaning).map(|v| v as i32)
    }

    /// The operation: of `ipc(2)` by its first argument.
    pub fn operation(&self) -> &'static str {
        match self.ipc_operation() {
            Some(operation) => operation.operation,
            None if self.entry.operation.is_empty() => self.entry.name,
            None => self.entry.operation,
        }
    }

    fn ipc_operation(&self) -> Option<&'static ipc_schema::catalogue::IpcOperation> {
        if self.entry.family != Family::Ipc {
            return None;
        }
        let number = self.arguments[0] as u16;
        IPC_OPERATIONS.iter().find(|o| o.number == number)
    }

    /// What the call belongs to.
    pub fn family(&self) -> Family {
        self.ipc_operation().map_or(self.entry.family, |o| o.family)
    }

    /// The return value of a call that succeeded.
    pub fn success(&self) -> Option<i64> {
        self.ret.filter(|_| self.outcome == Outcome::Ok)
    }

    /// What user space saw: -1 for an error.
    pub fn return_value(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Ok => self.ret,
            Outcome::Error => Some(-1),
            Outcome::Open | Outcome::Killed => None,
        }
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
    pub fn object_id(&self) -> Option<i64> {
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

    /// The command of a `*ctl` call.
    pub fn command(&self) -> Option<&'static str> {
        let raw = i64::from(self.int(Meaning::Command)?);
        flags::name(flags::commands_of(self.operation())?, raw & !IPC_64)
    }

    /// Whether this get made its object; `None` where the arguments do not tell.
    pub fn created(&self) -> Option<bool> {
        const IPC_CREAT: i32 = 0o1000;
        const IPC_EXCL: i32 = 0o2000;
        const IPC_PRIVATE: i32 = 0;
        let (key, flags) = (self.int(Meaning::Key)?, self.int(Meaning::Flags)?);
        self.success()?;
        match (key == IPC_PRIVATE, flags & IPC_CREAT != 0, flags & IPC_EXCL != 0) {
            (true, _, _) | (_, true, true) => Some(true),
            (_, false, _) => Some(false),
            (_, true, false) => None,
        }
    }

    /// The flags, spelt.
    pub fn flags_text(&self) -> Option<String> {
        let value = self.int(Meaning::Flags)?;
        let operation = self.operation();
        let list = flags::flags_of(operation)?;
        let has_mode = matches!(operation, "semget" | "msgget" | "shmget");
        let mut text = String::new();
        flags::write_flags(&mut text, list, value, has_mode).ok()?;
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
        if self.operation() == "shmat" { self.success() } else { self.argument(Meaning::Address) }
    }

    /// SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK. NULL for a call that only asks: its `how` is not looked at.
    pub fn sig_how(&self) -> Option<&'static str> {
        let how = flags::name(flags::SIG_HOW, i64::from(self.int(Meaning::How)?))?;
        let set = POSITIONS[self.entry.code as usize - 1][Meaning::SigSet as usize] as usize;
        (self.arguments.get(set) != Some(&0)).then_some(how)
    }
}

/// The name of a thread as text.
pub fn comm_text(comm: &[u8; 16]) -> std::borrow::Cow<'_, str> {
    let length = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..length])
}
