//! Loads the eBPF programs and attaches them by the plan.

use crate::btf;
use crate::libraries::Library;
use crate::plan::{FUNCTION, HOOKS, Hook, LIBRARY_PROGRAM, SYSTEM_CALLS, WAKINGS, Way};
use crate::privilege;
use crate::shared::Shared;
use crate::wrappers::{self, Wrappers};
use aya::maps::{ArrayOfMaps, HashMap, Map, MapData, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{BtfTracePoint, KProbe, ProgramError, RawTracePoint, TracePoint, UProbe};
use aya::{Btf, Ebpf, EbpfLoader};
use ipc_schema::catalogue::{Abi, CATALOGUE, EntryPoint, Family};
use ipc_schema::manifest::{Attached, Missing};
use ipc_schema::wire::{CpuCounters, GATE_SIZE, Offsets, filter, gate, option};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

/// The eBPF programs, built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes.o"));

/// The toolchain that built them.
pub const TOOLCHAIN: &str = env!("PROBES_TOOLCHAIN");

/// The environment variable that counts how often the process began again, one letter each.
pub const BEGUN_AGAIN: &str = "IPC_RECORDER_BEGUN_AGAIN";

/// The feature that [`Probes::attach_libraries`] adds.
pub const LIBRARY_CALLS: &str = "library calls";

/// The most CPUs whose rings the probes can tell apart.
const MOST_CPUS: u32 = 4096;

/// What to attach.
#[derive(Default)]
pub struct Request {
    /// Only this way, or the lightest that works.
    pub way: Option<Way>,
    /// How the ends of calls are seen, if otherwise.
    pub exit: Option<Way>,
    /// Bytes of each CPU's ring: a power of two, at least a page.
    pub ring_bytes: u32,
    /// The entry points to trace.
    pub entries: Vec<&'static EntryPoint>,
    /// Whether only the processes given to [`Probes::follow`] are traced.
    pub filter: Filter,
    /// Only threads with these names, if any.
    pub comms: Vec<[u8; 16]>,
    /// Only threads in or below these cgroups, if any.
    pub cgroups: Vec<u64>,
    /// Whether every signal is recorded, not only those that end waits.
    pub signals: bool,
    /// The process that takes snapshots; 0 if there is none.
    pub snapshot_helper: u32,
    /// Whether wakings are left out.
    pub without_wakers: bool,
    /// Whether user stacks are recorded.
    pub stacks: bool,
}

impl Request {
    /// Bits of [`option`].
    fn options(&self) -> u32 {
        let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
        bit(!self.comms.is_empty(), option::COMM)
            | bit(!self.cgroups.is_empty(), option::CGROUP)
            | bit(self.signals, option::SIGNALS)
            | bit(self.stacks, option::STACKS)
    }
}

/// Which processes are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Filter {
    /// Every process.
    #[default]
    None = filter::NONE,
    /// Those given.
    Pids = filter::PIDS,
    /// Those given and their descendants.
    Tree = filter::TREE,
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel is older than 5.8.
    #[error("kernel {0} is too old: ipc-recorder needs Linux 5.8 or newer (BPF ring buffers and the boot clock)")]
    KernelTooOld(String),
    /// The kernel has no BPF.
    #[error(
        "this kernel has no bpf(2): it was built without CONFIG_BPF_SYSCALL, so nothing can be recorded on this host"
    )]
    NoBpf,
    /// Privilege is lacking.
    #[error("loading eBPF programs is not permitted: run as root, or with CAP_BPF and CAP_PERFMON ({0})")]
    NoPrivilege(String),
    /// A hook that recording cannot do without could not be attached.
    #[error("cannot attach to {hook}: {reasons}; `ipc-recorder doctor` tells what this kernel offers")]
    Hook {
        /// The hook.
        hook: &'static str,
        /// Each way tried and why it failed.
        reasons: String,
    },
    /// Anything else.
    #[error("loading the eBPF programs failed: {0}")]
    Load(String),
}

/// Attached programs and their maps.
pub struct Probes {
    ebpf: Ebpf,
    /// What is attached.
    pub links: Links,
    /// How each hook was attached.
    pub attached: Vec<Attached>,
    /// What could not be attached or read.
    pub missing: Vec<Missing>,
    /// One ring per CPU, in order.
    pub rings: Vec<RingBuf<MapData>>,
    /// What each CPU counts.
    pub counters: Counters,
    /// The thread slots.
    pub slots: Slots,
}

/// What is attached, in the order of the plan.
#[derive(Default)]
pub struct Links(Vec<Link>);

impl Links {
    /// Detaches every program, the last of the plan first: no call that has begun loses its end. After it returns no
    /// record is begun.
    pub fn detach(&mut self) {
        while let Some(link) = self.0.pop() {
            drop(link);
        }
    }
}

/// The thread slots, to ask who is inside a call.
#[derive(Clone)]
pub struct Slots(std::sync::Arc<Shared<u64>>);

impl Slots {
    /// The slot of a thread id; 0 if it has none.
    pub fn of(&self, tid: u32) -> u64 {
        self.0.get(tid as usize).unwrap_or(0)
    }
}

/// What each CPU counts.
#[derive(Clone)]
pub struct Counters(std::sync::Arc<Shared<CpuCounters>>);

impl Counters {
    /// The counters of every CPU, now.
    pub fn read(&self) -> Vec<CpuCounters> {
        (0..self.0.count).filter_map(|cpu| self.0.get(cpu)).collect()
    }

    /// Has the probes shed calls, or not.
    pub fn pause(&self, pause: bool) {
        // SAFETY: a place inside of the element.
        self.0.set(|counters| unsafe { &raw mut (*counters).pause }, pause.into());
    }
}

enum Link {
    Fd(#[expect(dead_code, reason = "dropping it detaches the program")] FdLink),
    Tracepoint(
        #[expect(dead_code, reason = "dropping it detaches the program")] aya::programs::trace_point::TracePointLink,
    ),
    Probe(#[expect(dead_code, reason = "dropping it detaches the program")] aya::programs::kprobe::KProbeLink),
    Uprobe(#[expect(dead_code, reason = "dropping it detaches the program")] UProbeLink),
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodOffsets(Offsets);
// SAFETY: Offsets is bytemuck::Pod.
unsafe impl aya::Pod for PodOffsets {}

/// The offsets of this kernel, and what could not be found.
pub fn offsets() -> (Offsets, Option<Missing>) {
    match btf::Btf::of_kernel().and_then(|b| offsets_of(&b)) {
        Ok(offsets) => (offsets, None),
        Err(error) => {
            // thread_info.status lies behind flags and, since 5.11, syscall_work; without BTF the version decides.
            let task_status = if kernel_version() >= (5, 11) { 16 } else { 8 };
            let newtask_pid = newtask_pid().unwrap_or(0);
            let missing = Missing {
                feature: "kernel types (BTF)".into(),
                reason: error.to_string(),
                remedy:
                    "a kernel with CONFIG_DEBUG_INFO_BTF=y; without it ipc_ns, start times, parents, queue inodes, \
                         masks and wakers are NULL, and a call that a signal killed shows as EINTR"
                        .into(),
            };
            (Offsets { task_status, newtask_pid, ..Offsets::UNKNOWN }, Some(missing))
        }
    }
}

fn offsets_of(btf: &btf::Btf) -> Result<Offsets, btf::Error> {
    let task = |path| btf.offset("task_struct", path);
    let offsets = Offsets {
        task_status: task("thread_info.status")?,
        task_pid: task("pid")?,
        task_tgid: task("tgid")?,
        task_group_leader: task("group_leader")?,
        // "real_start_time" until 5.5, which is older than this program runs on
        task_start_boottime: task("start_boottime")?,
        task_exit_code: task("exit_code")?,
        task_signal: task("signal")?,
        signal_live: btf.offset("signal_struct", "live.counter")?,
        task_pending: task("pending.signal.sig")?,
        task_blocked: task("blocked.sig")?,
        task_flags: task("flags")?,
        task_nsproxy: task("nsproxy")?,
        nsproxy_ipc_ns: btf.offset("nsproxy", "ipc_ns")?,
        ipc_ns_inum: btf.offset("ipc_namespace", "ns.inum")?,
        task_switches: task("nvcsw")?,
        bprm_filename: btf.offset("linux_binprm", "filename")?,
        ..Offsets::UNKNOWN
    };
    Ok(queue_offsets(btf, offsets).unwrap_or(offsets)) // a kernel without POSIX queues has none of them
}

fn queue_offsets(btf: &btf::Btf, others: Offsets) -> Result<Offsets, btf::Error> {
    let queue = |path| btf.offset("mqueue_inode_info", path);
    Ok(Offsets {
        task_files: btf.offset("task_struct", "files")?,
        files_fdt: btf.offset("files_struct", "fdt")?,
        fdt_fd: btf.offset("fdtable", "fd")?,
        fdt_max_fds: btf.offset("fdtable", "max_fds")?,
        file_inode: btf.offset("file", "f_inode")?,
        inode_ino: btf.offset("inode", "i_ino")?,
        inode_sb: btf.offset("inode", "i_sb")?,
        sb_magic: btf.offset("super_block", "s_magic")?,
        sb_fs_info: btf.offset("super_block", "s_fs_info")?,
        mqueue_inode: queue("vfs_inode")?,
        mqueue_max_messages: queue("attr.mq_maxmsg")?,
        mqueue_max_message_bytes: queue("attr.mq_msgsize")?,
        mqueue_messages: queue("attr.mq_curmsgs")?,
        mqueue_bytes: queue("qsize")?,
        ..others
    })
}

/// Where `pid` stands in the record of task/task_newtask, from its format file.
fn newtask_pid() -> Option<u32> {
    let format = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|t| std::fs::read_to_string(format!("{t}/events/task/task_newtask/format")).ok())?;
    let line = format.lines().find(|l| l.contains(" pid;"))?;
    line.split("offset:").nth(1)?.split(';').next()?.trim().parse().ok()
}

/// The version of the running kernel.
pub fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The gate: for each number, the catalogue's codes of the entries to trace.
fn gate_of(entries: &[&EntryPoint]) -> [u32; GATE_SIZE] {
    let mut cells = [0u32; GATE_SIZE];
    for entry in entries {
        let value = u32::from(entry.code);
        for (abi, shift) in [(Abi::X86_64, gate::X86_64_SHIFT), (Abi::I386, gate::I386_SHIFT)] {
            if let Some(number) = entry.number(abi) {
                cells[number as usize] |= value << shift;
            }
        }
    }
    let [x86_64, i386] = gate::UNSHARE_NUMBERS;
    cells[x86_64 as usize] |= u32::from(gate::UNSHARE) << gate::X86_64_SHIFT;
    cells[i386 as usize] |= u32::from(gate::UNSHARE) << gate::I386_SHIFT;
    cells
}

/// How often a CPU wakes the reader: each time about an eighth of its ring is full.
fn wake_mask(ring_bytes: u32) -> u32 {
    const RECORD_BYTES: u32 = 96;
    let records = (ring_bytes / 8 / RECORD_BYTES).max(1);
    (1 << records.ilog2()) - 1
}

impl Probes {
    /// Loads the programs, creates the rings and attaches every hook of the plan.
    ///
    /// # Errors
    /// The kernel or the privilege does not allow it; each hook falls back before that.
    pub fn attach(request: &Request) -> Result<Probes, Error> {
        if kernel_version() < (5, 8) {
            return Err(Error::KernelTooOld(rustix::system::uname().release().to_string_lossy().into_owned()));
        }
        let (offsets, without_btf) = offsets();
        let mut ebpf = load(request, &offsets)?;
        let rings = create_rings(&mut ebpf, request.ring_bytes)?;
        let counters = Counters(std::sync::Arc::new(share(&mut ebpf, "COUNTERS")?));
        let slots = Slots(std::sync::Arc::new(share(&mut ebpf, "SLOTS")?));
        let missing = without_btf.into_iter().collect();
        let mut probes = Probes { ebpf, links: Links::default(), attached: vec![], missing, rings, counters, slots };
        probes.fill_set("COMMS", &request.comms)?;
        probes.fill_set("CGROUPS", &request.cgroups)?;
        let means = Means { request, btf: Btf::from_sys_fs().ok(), offsets };
        for hook in HOOKS.iter().filter(|hook| hook.serves(&request.entries)) {
            if request.without_wakers && hook.name == WAKINGS {
                let reason = "left out by --no-wakers".into();
                let remedy = "record without --no-wakers; until then waits and wakers are NULL".into();
                probes.missing.push(Missing { feature: hook.name.into(), reason, remedy });
                continue;
            }
            probes.attach_hook(hook, &means)?;
        }
        Ok(probes)
    }

    fn attach_hook(&mut self, hook: &'static Hook, means: &Means) -> Result<(), Error> {
        let mut reasons: Vec<String> = Vec::new();
        for (way, program) in hook.candidates(means.way_of(hook)) {
            match self.attach_program(hook, way, program, means) {
                Ok(links) => {
                    self.links.0.extend(links);
                    let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
                    self.attached.push(Attached { hook: hook.name.into(), way: way.name().into(), reason });
                    return Ok(());
                }
                Err(reason) => reasons.push(format!("{}: {reason}", way.name())),
            }
        }
        if reasons.is_empty() {
            return Ok(()); // none of the ways that were asked for
        }
        let reasons = reasons.join("; ");
        match hook.without {
            Some(without) => {
                self.missing.push(Missing {
                    feature: hook.name.into(),
                    reason: reasons,
                    remedy: format!("without it {without}; {}", remedy(hook)),
                });
                Ok(())
            }
            // With CAP_BPF alone everything goes well up to here.
            None if !privilege::may_load() => Err(Error::NoPrivilege(reasons)),
            None => Err(Error::Hook { hook: hook.name, reasons }),
        }
    }

    fn attach_program(&mut self, hook: &Hook, way: Way, name: &str, means: &Means) -> Result<Vec<Link>, String> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
        let (needs_btf, offsets) = (hook.needs_btf, &means.offsets);
        let text = |e: ProgramError| program_reason(&e);
        match way {
            Way::BtfTracepoint => {
                let btf = means.btf.as_ref().ok_or("the kernel has no BTF")?;
                let program: &mut BtfTracePoint = program.try_into().map_err(text)?;
                retry(|| program.load(hook.name, btf)).map_err(text)?;
                let id = program.attach().map_err(text)?;
                program.take_link(id).map(|l| vec![Link::Fd(l.into())]).map_err(text)
            }
            Way::RawTracepoint if needs_btf && offsets.task_pid == 0 => {
                Err("the task cannot be read without BTF".into())
            }
            Way::RawTracepoint => {
                let program: &mut RawTracePoint = program.try_into().map_err(text)?;
                retry(|| program.load()).map_err(text)?;
                let id = program.attach(hook.name).map_err(text)?;
                program.take_link(id).map(|l| vec![Link::Fd(l.into())]).map_err(text)
            }
            Way::Tracepoint if offsets.newtask_pid == 0 => Err("tracefs is not mounted".into()),
            Way::Tracepoint => {
                let program: &mut TracePoint = program.try_into().map_err(text)?;
                retry(|| program.load()).map_err(text)?;
                let id = program.attach(hook.category, hook.name).map_err(text)?;
                program.take_link(id).map(|l| vec![Link::Tracepoint(l)]).map_err(text)
            }
            Way::Kprobe | Way::Kretprobe if !has_kprobes() => Err("the kernel has no kprobes".into()),
            Way::Kprobe | Way::Kretprobe => {
                let program: &mut KProbe = program.try_into().map_err(text)?;
                retry(|| program.load()).map_err(text)?;
                let (functions, mut missing) = means.functions(hook)?;
                let links = attach_functions(program, &functions, &mut missing)?;
                self.missing.append(&mut missing);
                Ok(links)
            }
        }
    }

    /// Attaches to the library functions of the catalogue in these files; what could not be attached is missing.
    pub fn attach_libraries(&mut self, libraries: &[Library]) {
        let mut reasons = Vec::new();
        if libraries.is_empty() {
            reasons.push("no C library was found".to_owned());
        }
        for library in libraries {
            let (mut attached, mut refused) = (0, Vec::new());
            for entry in CATALOGUE.iter().filter(|e| e.family == Family::Libc) {
                match self.attach_function(entry, library) {
                    Ok(link) => {
                        self.links.0.push(Link::Uprobe(link));
                        attached += 1;
                    }
                    Err(reason) => refused.push((entry.name, reason)),
                }
            }
            // Most often all are refused for the same reason.
            refused.dedup_by(|a, b| a.1 == b.1);
            reasons.extend(refused.iter().map(|(name, reason)| format!("{name} of {}: {reason}", library.path)));
            if attached > 0 {
                let hook = format!("{attached} functions of {}", library.path);
                self.attached.push(Attached { hook, way: "uprobe".into(), reason: None });
            }
        }
        if !reasons.is_empty() {
            self.missing.push(Missing {
                feature: LIBRARY_CALLS.into(),
                reason: reasons.join("; "),
                remedy: "run as root, for newer kernels want CAP_SYS_ADMIN; Linux 5.15 or newer; --libc sigset=PATH names a library \
                         or static program with symbols"
                    .into(),
            });
        }
    }

    fn attach_function(&mut self, entry: &EntryPoint, library: &Library) -> Result<UProbeLink, String> {
        let text = |e: ProgramError| program_reason(&e);
        let name = LIBRARY_PROGRAM;
        let program = self.ebpf.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
        let program: &mut UProbe = program.try_into().map_err(text)?;
        if program.fd().is_err() {
            retry(|| program.load()).map_err(text)?;
        }
        let location = UProbeAttachLocation::Symbol(entry.name);
        let point = UProbeAttachPoint { location, cookie: Some(entry.code.into()) };
        let id = program.attach(point, &library.openable, UProbeScope::AllProcesses).map_err(text)?;
        program.take_link(id).map_err(text)
    }

    /// Adds a process to those that are traced.
    ///
    /// # Errors
    /// The table is full.
    pub fn follow(&mut self, pid: u32) -> Result<(), Error> {
        self.fill_set("PIDS", &[pid])
    }

    fn fill_set<K: aya::Pod>(&mut self, name: &str, members: &[K]) -> Result<(), Error> {
        let failed = |e: &dyn std::fmt::Display| Error::Load(format!("cannot fill the table {name}: {e}"));
        let map = self.ebpf.map_mut(name).ok_or_else(|| failed(&"the object has none"))?;
        let mut set: HashMap<_, K, u32> = HashMap::try_from(map).map_err(|e| failed(&e))?;
        members.iter().try_for_each(|member| set.insert(member, 1, 0)).map_err(|e| failed(&e))
    }

    /// Whether a hook was attached.
    pub fn has(&self, hook: &str) -> bool {
        self.attached.iter().any(|a| a.hook == hook)
    }
}

/// What there is to attach with.
struct Means<'a> {
    request: &'a Request,
    btf: Option<Btf>,
    offsets: Offsets,
}

impl Means<'_> {
    /// The way that was asked for at a hook.
    fn way_of(&self, hook: &Hook) -> Option<Way> {
        let exit = self.request.exit.filter(|_| hook.name == "sys_exit");
        exit.or(self.request.way)
    }

    /// The functions behind a hook, and which of them this kernel lacks.
    fn functions(&self, hook: &Hook) -> Result<(Vec<String>, Vec<Missing>), String> {
        if hook.category != SYSTEM_CALLS {
            return Ok((vec![hook.name.into()], vec![]));
        }
        let wrappers = Wrappers::of_kernel().map_err(|e| format!("/proc/kallsyms: {e}"))?;
        Ok(wrappers.of(&self.request.entries))
    }
}

/// Whether the kernel was built with kprobes, and offers them as the loader attaches them.
fn has_kprobes() -> bool {
    std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// Attaches to each function; to none is an error, all others are `missing`.
fn attach_functions(
    program: &mut KProbe,
    functions: &[String],
    missing: &mut Vec<Missing>,
) -> Result<Vec<Link>, String> {
    let mut links = Vec::new();
    for function in functions {
        match program.attach(function, 0).and_then(|id| program.take_link(id)) {
            Ok(link) => links.push(Link::Probe(link)),
            Err(error) => missing.push(wrappers::unseen(function, &program_reason(&error))),
        }
    }
    if links.is_empty() { Err(missing.pop().map_or("no function".into(), |m| m.reason)) } else { Ok(links) }
}

/// What would make a hook available.
fn remedy(hook: &Hook) -> &'static str {
    match hook.category {
        FUNCTION => "a kernel with kprobes that has this function (Linux 5.16)",
        _ => "a kernel with BTF, or tracefs mounted on /sys/kernel/tracing",
    }
}

fn load(request: &Request, offsets: &Offsets) -> Result<Ebpf, Error> {
    let cpus = cpus()?;
    let offsets = PodOffsets(*offsets);
    let cells = gate_of(&request.entries);
    let filter = request.filter as u32;
    let recorder = std::process::id();
    let (options, helper) = (request.options(), request.snapshot_helper);
    let wake = wake_mask(request.ring_bytes);
    EbpfLoader::new()
        .override_global("OFFSETS", &offsets, true)
        .override_global("GATE", &cells, true)
        .override_global("FILTER", &filter, true)
        .override_global("OPTIONS", &options, true)
        .override_global("RECORDER", &recorder, true)
        .override_global("SNAPSHOT_HELPER", &helper, true)
        .override_global("WAKE_MASK", &wake, true)
        .map_max_entries("RINGS", cpus)
        .map_max_entries("COUNTERS", cpus)
        .load(OBJECT)
        .map_err(|e| load_error(&e))
}

/// aya finds out once per process what the kernel can do, by loading small programs; one that a signal interrupts counts
/// as a feature that is not there. Every kernel since 5.8 has these two, so without them the process begins again, a few
/// times: they are also missing without privilege or under lockdown, which the loading itself then reports.
pub fn begin_again_if_misdetected() {
    const ATTEMPTS: usize = 5;
    let features = aya::features();
    if features.bpf_global_data() && features.bpf_probe_read_kernel() {
        return;
    }
    let before = std::env::var(BEGUN_AGAIN).unwrap_or_default();
    if before.len() < ATTEMPTS
        && let Ok(program) = std::env::current_exe()
    {
        let mut again = std::process::Command::new(program);
        again.args(std::env::args_os().skip(1)).env(BEGUN_AGAIN, before + "x");
        let _ = again.exec(); // where it cannot, what follows tells why
    }
}

/// How many CPUs this machine can ever have.
fn cpus() -> Result<u32, Error> {
    let cpus = aya::util::nr_cpus().map_err(|(file, e)| Error::Load(format!("{file}: {e}")))? as u32;
    if cpus > MOST_CPUS {
        return Err(Error::Load(format!("{cpus} CPUs are more than the {MOST_CPUS} that ipc-recorder has rings for")));
    }
    Ok(cpus)
}

fn create_rings(ebpf: &mut Ebpf, bytes: u32) -> Result<Vec<RingBuf<MapData>>, Error> {
    /// BPF_MAP_TYPE_RINGBUF of `include/uapi/linux/bpf.h`.
    const RINGBUF: u32 = 27;
    let failed = |e: &dyn std::fmt::Display| Error::Load(format!("cannot create a ring of {bytes} bytes: {e}"));
    let map = ebpf.map_mut("RINGS").ok_or_else(|| Error::Load("the object has no map RINGS".into()))?;
    let mut outer: ArrayOfMaps<_, RingBuf<MapData>> = ArrayOfMaps::try_from(map).map_err(|e| failed(&e))?;
    (0..outer.len())
        .map(|cpu| {
            let definition = aya_obj::Map::new_from_params(RINGBUF, 0, 0, bytes, 0);
            let data = MapData::create(definition, "ipc_ring", None).map_err(|e| failed(&e))?;
            let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|e| failed(&e))?;
            outer.set(cpu, &ring, 0).map_err(|e| failed(&e))?;
            Ok(ring)
        })
        .collect()
}

fn share<V: bytemuck::Pod>(ebpf: &mut Ebpf, name: &str) -> Result<Shared<V>, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::Load(format!("cannot map the table {name}: {e}"));
    let Some(Map::Array(map)) = ebpf.map(name) else { return Err(failed(&"the object has none")) };
    let count = map.info().map_err(|e| failed(&e))?.max_entries() as usize;
    Shared::of(map.fd().as_fd(), count).map_err(|e| failed(&e))
}

/// The cause at the bottom of an error, in one line: the verifier's log says more than a user can use.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}

fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        cause = e.source();
    }
    None
}

/// Loads a program; again when the verifier gave up because a signal (a stop, a child's end) came in between: it then
/// says EAGAIN, `kernel/bpf/verifier.c`.
fn retry(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const ATTEMPTS: u32 = 50;
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if os_error(&error) == Some(libc::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
            result => return result,
        }
    }
    load()
}

fn load_error(error: &aya::EbpfError) -> Error {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => Error::NoPrivilege(root_cause(error)),
        Some(libc::ENOSYS) => Error::NoBpf,
        _ => Error::Load(format!("{error}").lines().next().unwrap_or_default().to_owned()),
    }
}

/// Why a program did not load or attach, in one line; with `IPC_RECORDER_VERIFIER_LOG` set, the verifier's whole log.
fn program_reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        if std::env::var_os("IPC_RECORDER_VERIFIER_LOG").is_some() {
            eprintln!("{verifier_log}");
        }
        let log = verifier_log.to_string();
        let is_statistics =
            |l: &&str| ["processed", "stack depth", "verification time"].iter().any(|s| l.starts_with(s));
        let said = log.lines().rev().find(|l| !is_statistics(l) && !l.trim().is_empty()).unwrap_or_default();
        return if said.is_empty() { io_error.to_string() } else { format!("{io_error} ({})", said.trim()) };
    }
    root_cause(error)
}

/// An empty pair of programs on sys_enter and sys_exit: the floor that the benchmark measures against.
pub struct EmptyPair(#[expect(dead_code, reason = "dropping it detaches the programs")] Ebpf);

impl EmptyPair {
    /// Attaches it.
    ///
    /// # Errors
    /// The kernel or the privilege does not allow it.
    pub fn attach() -> Result<EmptyPair, Error> {
        let request = Request { ring_bytes: 65536, ..Request::default() };
        let mut ebpf = load(&request, &Offsets::UNKNOWN)?;
        let btf = Btf::from_sys_fs().map_err(|e| Error::Load(e.to_string()))?;
        for (name, hook) in [("empty_enter", "sys_enter"), ("empty_exit", "sys_exit")] {
            let failed = |e: ProgramError| Error::Load(program_reason(&e));
            let program = ebpf.program_mut(name).ok_or_else(|| Error::Load(format!("no program {name}")))?;
            let program: &mut BtfTracePoint = program.try_into().map_err(failed)?;
            program.load(hook, &btf).map_err(failed)?;
            program.attach().map_err(failed)?;
        }
        Ok(EmptyPair(ebpf))
    }
}

/// The entry points whose operation is one of `operations`; all of `ipc(2)` if one of them can come in that way.
pub fn entries_of(operations: &[&str]) -> Vec<&'static EntryPoint> {
    use ipc_schema::catalogue::IPC_OPERATIONS;
    let through_ipc = IPC_OPERATIONS.iter().any(|o| operations.contains(&o.twin().operation));
    CATALOGUE.iter().filter(|e| operations.contains(&e.operation) || (e.operation.is_empty() && through_ipc)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn every_program_of_the_plan_is_in_the_object() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        for (way, program) in HOOKS.iter().flat_map(|h| h.programs) {
            assert!(object.programs.contains_key(*program), "{program} ({}) is not in the object", way.name());
        }
        assert!(object.programs.contains_key(LIBRARY_PROGRAM));
    }

    #[test]
    fn the_gate_tells_the_abis_apart() {
        let cells = gate_of(&entries_of(&["semget", "shmdt", "sigaction"]));
        let code = |name: &str| u32::from(CATALOGUE.iter().find(|e| e.name == name).unwrap().code);
        assert_eq!(cells[64], code("semget"), "x86_64 semget, i386 getppid");
        assert_eq!(cells[67], code("shmdt") | code("sigaction") << 16, "both ABIs use 67");
        assert_eq!(cells[393], code("semget") << 16);
        assert_eq!(cells[117], code("ipc") << 16);
    }

    #[test]
    fn the_reader_is_woken_before_the_ring_is_full() {
        assert_eq!(wake_mask(8 << 20), (1 << 13) - 1);
        assert!(wake_mask(4096) < 8);
    }
}
