//! Live: against objects made in fresh IPC namespaces. Without the right to make those, each test says so and ends;
//! with IPC_REQUIRE_LIVE=1 it fails.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::sysv::{DETAILED_SEMAPHORES, MESSAGES_PER_QUEUE};
use super::*;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::ffi::c_int;
use std::fs::{File, read_to_string, write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};
use std::thread;
use std::time::{Duration, Instant};

/// A user that owns nothing else on this machine.
const UID: u32 = 54_321;

/// An IPC namespace, kept by a process that sleeps in it.
struct Fresh {
    sleeper: Child,
    ipc_ns: u32,
}

impl Fresh {
    /// `None`: not allowed here.
    fn new() -> Option<Self> {
        let made = thread::spawn(|| {
            // SAFETY: no descriptor or memory belongs to an IPC namespace here.
            unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }?;
            Command::new("sleep").arg("600").spawn()
        });
        match made.join().unwrap() {
            Ok(sleeper) => {
                let link = std::fs::metadata(format!("/proc/{}/ns/ipc", sleeper.id())).unwrap();
                Some(Fresh { sleeper, ipc_ns: link.ino() as u32 })
            }
            Err(error) => {
                assert!(std::env::var_os("IPC_REQUIRE_LIVE").is_none(), "no IPC namespace: {error}");
                println!("skipped: no IPC namespace can be made here: {error}");
                None
            }
        }
    }

    /// Runs `work` in a thread inside the namespace.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let link = File::open(format!("/proc/{}/ns/ipc", self.sleeper.id())).unwrap();
        let enter = move || {
            move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::InterProcessCommunication)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// What a snapshot taken from outside tells of it.
    fn look(&self) -> Namespace {
        let here = || std::fs::metadata("/proc/thread-self/ns/ipc").unwrap().ino();
        let home = here();
        let snapshot = take();
        assert_eq!(here(), home);
        snapshot.namespaces.into_iter().find(|n| n.ipc_ns == self.ipc_ns).unwrap()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.sleeper.kill().unwrap();
        self.sleeper.wait().unwrap();
    }
}

fn checked(answer: c_int) -> c_int {
    assert!(answer >= 0, "{}", std::io::Error::last_os_error());
    answer
}

fn make_set(key: i32, count: i32, mode: i32) -> i32 {
    // SAFETY: takes no pointer.
    checked(unsafe { libc::semget(key, count, libc::IPC_CREAT | libc::IPC_EXCL | mode) })
}

fn set_value(id: i32, number: i32, value: i32) {
    // SAFETY: SETVAL takes an int and no pointer.
    checked(unsafe { libc::semctl(id, number, libc::SETVAL, value) });
}

fn semop(id: i32, number: u16, operation: i16) {
    let mut operation = libc::sembuf { sem_num: number, sem_op: operation, sem_flg: 0 };
    // SAFETY: one operation, which the kernel only reads.
    checked(unsafe { libc::semop(id, &mut operation, 1) });
}

fn make_segment(key: i32, bytes: usize, mode: i32) -> i32 {
    // SAFETY: takes no pointer.
    checked(unsafe { libc::shmget(key, bytes, libc::IPC_CREAT | libc::IPC_EXCL | mode) })
}

fn make_queue(key: i32, mode: i32) -> i32 {
    // SAFETY: takes no pointer.
    checked(unsafe { libc::msgget(key, libc::IPC_CREAT | libc::IPC_EXCL | mode) })
}

fn send(id: i32, msg_type: i64, bytes: usize) {
    let message = vec![msg_type; 1 + bytes.div_ceil(8)];
    // SAFETY: the message holds a long and at least `bytes` bytes.
    checked(unsafe { libc::msgsnd(id, message.as_ptr().cast(), bytes, libc::IPC_NOWAIT) });
}

/// Makes a POSIX queue; the answer of mq_open. Allocates nothing, so that it can run between fork and exec.
fn open_queue(name: &std::ffi::CStr, max_messages: i64, max_message_bytes: i64) -> c_int {
    // SAFETY: a structure of integers, for which zeroes are values.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    (attributes.mq_maxmsg, attributes.mq_msgsize) = (max_messages, max_message_bytes);
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    // SAFETY: name and attributes are only read.
    unsafe { libc::mq_open(name.as_ptr(), flags, 0o640, &mut attributes) }
}

/// What `ipcs` prints where it runs: key, id, owner, permissions and two more columns; a line per object, sorted.
fn ipcs(kind: &str) -> Vec<String> {
    let output = Command::new("ipcs").arg(kind).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with("0x")).map(words).collect();
    lines.sort();
    lines
}

/// The same lines from a snapshot.
fn lines(namespace: &Namespace, kind: ObjectKind, rest: impl Fn(&Object) -> String) -> Vec<String> {
    let line = |o: &Object| {
        assert_eq!((o.owner_uid, o.creator_uid), (Some(0), Some(0)));
        format!("0x{:08x} {} root {:o} {}", o.key.unwrap(), o.object_id, o.mode.unwrap(), rest(o))
    };
    let mut lines: Vec<_> = namespace.objects.iter().filter(|o| o.object_kind == kind).map(line).collect();
    lines.sort();
    lines
}

fn of_kind(namespace: &Namespace, kind: ObjectKind) -> &Object {
    namespace.objects.iter().find(|o| o.object_kind == kind).unwrap()
}

fn value(limits: &[Limit], name: &str) -> (i64, Option<i64>) {
    let limit = limits.iter().find(|l| l.name == name).unwrap();
    (limit.value, limit.in_use)
}

#[test]
fn two_namespaces_with_the_same_keys_and_ids_hold_what_ipcs_lists_in_each() {
    let (Some(one), Some(two)) = (Fresh::new(), Fresh::new()) else { return };
    one.run(|| {
        assert_eq!((make_set(0x77, 3, 0o600), make_segment(0x77, 5000, 0o640), make_queue(0x77, 0o622)), (0, 0, 0));
        make_set(0x78, 4, 0o666);
        send(0, 1, 10);
    });
    two.run(|| {
        assert_eq!((make_set(0x77, 9, 0o644), make_segment(0x77, 9000, 0o600), make_queue(0x77, 0o600)), (0, 0, 0));
        // A hole among the indexes.
        let gone = make_queue(0x79, 0o600);
        make_queue(0x80, 0o600);
        // SAFETY: IPC_RMID takes no pointer.
        checked(unsafe { libc::msgctl(gone, libc::IPC_RMID, null_mut()) });
    });
    let counts = [(&one, [2, 1, 1]), (&two, [1, 1, 2])];
    for (fresh, [sets, segments, queues]) in counts {
        let seen = fresh.look();
        let sems = lines(&seen, ObjectKind::Sem, |o| o.sem_count.unwrap().to_string());
        let shms = lines(&seen, ObjectKind::Shm, |o| {
            assert_eq!(o.creator_pid, Some(std::process::id() as i32));
            format!("{} {}", o.size_bytes.unwrap(), o.attach_count.unwrap())
        });
        let msgs = lines(&seen, ObjectKind::Msg, |o| {
            assert_eq!(o.max_bytes, Some(value(&seen.limits, "MSGMNB").0));
            format!("{} {}", o.queued_bytes.unwrap(), o.messages.unwrap())
        });
        assert_eq!((sems.len(), shms.len(), msgs.len()), (sets, segments, queues));
        fresh.run(|| {
            assert_eq!(sems, ipcs("-s"));
            assert_eq!(shms, ipcs("-m"));
            assert_eq!(msgs, ipcs("-q"));
        });
    }
}

#[test]
fn semaphores_have_values_waiters_and_last_pids() {
    let Some(fresh) = Fresh::new() else { return };
    let id = fresh.run(|| make_set(0x77, 3, 0o600));
    assert_eq!(of_kind(&fresh.look(), ObjectKind::Sem).use_ns, None);
    fresh.run(|| semop(id, 1, 2));
    thread::scope(|scope| {
        let waiter = |number, operation| fresh.run(|| semop(id, number, operation));
        scope.spawn(move || waiter(0, -1));
        scope.spawn(move || waiter(0, -1));
        scope.spawn(move || waiter(1, 0));
        let end = Instant::now() + Duration::from_secs(10);
        let set = loop {
            let set = of_kind(&fresh.look(), ObjectKind::Sem).clone();
            let waiters: i32 = set.sem_waiters.as_ref().unwrap().iter().sum();
            if waiters == 3 || Instant::now() > end {
                break set;
            }
        };
        fresh.run(|| {
            semop(id, 0, 2);
            semop(id, 1, -2);
        });
        assert_eq!(set.sem_values, Some(vec![0, 2, 0]));
        assert_eq!(set.sem_waiters, Some(vec![2, 1, 0]));
        assert_eq!(set.sem_last_pids, Some(vec![0, std::process::id() as i32, 0]));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
        assert!((now - set.use_ns.unwrap()).abs() < 60_000_000_000);
    });
}

#[test]
fn a_great_set_has_its_values_only() {
    let Some(fresh) = Fresh::new() else { return };
    let count = DETAILED_SEMAPHORES as i32 + 1;
    let (detailed, great) = fresh.run(|| {
        let (detailed, great) = (make_set(1, count - 1, 0o600), make_set(2, count, 0o600));
        set_value(detailed, count - 2, 32_767);
        set_value(great, count - 1, 7);
        (detailed, great)
    });
    let seen = fresh.look();
    let set = |id: i32| seen.objects.iter().find(|o| o.object_id == i64::from(id)).unwrap();
    assert_eq!(set(detailed).sem_values.as_ref().unwrap()[count as usize - 2], 32_767);
    assert_eq!(set(detailed).sem_last_pids.as_ref().unwrap()[count as usize - 2], std::process::id() as i32);
    let values = set(great).sem_values.as_ref().unwrap();
    assert_eq!((values.len(), values[count as usize - 1], values.iter().sum::<i32>()), (count as usize, 7, 7));
    assert_eq!((&set(great).sem_waiters, &set(great).sem_last_pids), (&None, &None));
}

#[test]
fn a_set_that_grew_behind_its_id_is_refused_not_overrun() {
    let Some(fresh) = Fresh::new() else { return };
    fresh.run(|| {
        // One page for ten values, which these overrun by less than another.
        let id = make_set(1, 3000, 0o600);
        set_value(id, 2999, 1);
        let error = control::semaphore_values(id, 10).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        assert_eq!(control::semaphore_values(id, 3000).unwrap()[2999], 1);
    });
}

#[test]
fn queued_messages_are_told_and_stay() {
    let Some(fresh) = Fresh::new() else { return };
    let id = fresh.run(|| {
        let id = make_queue(0x77, 0o600);
        send(id, 7, 5);
        send(id, 9, 0);
        send(id, 8, 3000);
        send(id, 1 << 40, 8);
        id
    });
    let message = |position, msg_type, size_bytes| Queued { object_id: id.into(), position, msg_type, size_bytes };
    let mut expected = vec![
        message(0, Some(7), Some(5)),
        message(1, Some(9), Some(0)),
        message(2, Some(8), Some(3000)),
        message(3, Some(1 << 40), Some(8)),
    ];
    for _ in 0..2 {
        let seen = fresh.look();
        assert_eq!(seen.queued, expected);
        let queue = of_kind(&seen, ObjectKind::Msg);
        assert_eq!((queue.messages, queue.queued_bytes), (Some(4), Some(3013)));
        assert_eq!((queue.last_send_pid, queue.last_receive_pid), (Some(std::process::id() as i32), None));
    }
    // A message that is longer than what may be sent now cannot be copied; the others can.
    fresh.run(|| write("/proc/sys/kernel/msgmax", "1000").unwrap());
    expected[2] = message(2, None, None);
    assert_eq!(fresh.look().queued, expected);
}

#[test]
fn a_long_queue_is_looked_at_up_to_the_bound() {
    let Some(fresh) = Fresh::new() else { return };
    let sent = MESSAGES_PER_QUEUE + 3;
    fresh.run(|| {
        write("/proc/sys/kernel/msgmnb", "1000000").unwrap();
        let id = make_queue(0x77, 0o600);
        (1..=sent).for_each(|n| send(id, n.into(), 1));
    });
    let seen = fresh.look();
    assert_eq!(of_kind(&seen, ObjectKind::Msg).messages, Some(sent.into()));
    let types: Vec<_> = seen.queued.iter().map(|q| q.msg_type.unwrap()).collect();
    assert_eq!(types, (1..=i64::from(MESSAGES_PER_QUEUE)).collect::<Vec<_>>());
}

#[test]
fn a_message_too_long_to_copy_hides_no_other() {
    let Some(fresh) = Fresh::new() else { return };
    let id = fresh.run(|| {
        write("/proc/sys/kernel/msgmax", "3000000").unwrap();
        write("/proc/sys/kernel/msgmnb", "6000000").unwrap();
        let id = make_queue(0x77, 0o600);
        send(id, 5, 2_000_000);
        send(id, 6, 1_000_000);
        id
    });
    let message = |position, msg_type, size_bytes| Queued { object_id: id.into(), position, msg_type, size_bytes };
    assert_eq!(fresh.look().queued, [message(0, None, None), message(1, Some(6), Some(1_000_000))]);
}

#[test]
fn a_removed_segment_lives_while_it_is_attached() {
    let Some(fresh) = Fresh::new() else { return };
    let address = fresh.run(|| {
        let id = make_segment(0x77, 4097, 0o600);
        // SAFETY: attached where the kernel chooses.
        let address = unsafe { libc::shmat(id, null(), 0) };
        // SAFETY: IPC_RMID takes no pointer.
        checked(unsafe { libc::shmctl(id, libc::IPC_RMID, null_mut()) });
        address as usize
    });
    let seen = fresh.look();
    let segment = of_kind(&seen, ObjectKind::Shm);
    assert_eq!((segment.removed_pending, segment.attach_count, segment.mode), (Some(true), Some(1), Some(0o600)));
    assert_eq!(value(&seen.limits, "SHMALL").1, Some(2));
    // SAFETY: attached above, and never used.
    checked(unsafe { libc::shmdt(address as *const _) });
    assert_eq!(fresh.look().objects, []);
}

#[test]
fn posix_queues_have_their_attributes_and_nothing_is_mounted() {
    let Some(fresh) = Fresh::new() else { return };
    let inode = fresh.run(|| {
        let queue = checked(open_queue(c"/of-test", 4, 100));
        // SAFETY: three bytes are read.
        checked(unsafe { libc::mq_send(queue, c"abc".as_ptr(), 3, 5) });
        let inode = std::fs::metadata(format!("/proc/self/fd/{queue}")).unwrap().ino();
        // SAFETY: opened above.
        checked(unsafe { libc::mq_close(queue) });
        inode
    });
    let mounts = read_to_string("/proc/self/mountinfo").unwrap();
    let used = of_kind(&fresh.look(), ObjectKind::Mq).use_ns;
    // The file's times are in seconds; a look moves one of them, which must not show in the next look.
    thread::sleep(Duration::from_millis(1100));
    fresh.look();
    let seen = fresh.look();
    assert_eq!(read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    let expected = Object {
        name: Some("/of-test".into()),
        owner_uid: Some(0),
        mode: Some(0o640),
        use_ns: used,
        messages: Some(1),
        queued_bytes: Some(3),
        max_messages: Some(4),
        max_message_bytes: Some(100),
        ..Object::new(ObjectKind::Mq, inode as i64)
    };
    assert_eq!(seen.objects, [expected]);
    assert_eq!(value(&seen.limits, "queues_max").1, Some(1));
}

#[test]
fn limits_lowered_in_one_namespace_show_only_there() {
    let (Some(one), Some(two)) = (Fresh::new(), Fresh::new()) else { return };
    let lowered = [
        ("kernel/sem", "10 20 5 7", vec![("SEMMSL", 10), ("SEMMNS", 20), ("SEMOPM", 5), ("SEMMNI", 7)]),
        ("kernel/shmmax", "123456", vec![("SHMMAX", 123_456)]),
        ("kernel/shmall", "77", vec![("SHMALL", 77)]),
        ("kernel/shmmni", "6", vec![("SHMMNI", 6)]),
        ("kernel/msgmni", "3", vec![("MSGMNI", 3)]),
        ("kernel/msgmnb", "2222", vec![("MSGMNB", 2222)]),
        ("kernel/msgmax", "1111", vec![("MSGMAX", 1111)]),
        ("fs/mqueue/queues_max", "5", vec![("queues_max", 5)]),
        ("fs/mqueue/msg_max", "4", vec![("msg_max", 4)]),
        ("fs/mqueue/msgsize_max", "333", vec![("msgsize_max", 333)]),
        ("fs/mqueue/msg_default", "2", vec![("msg_default", 2)]),
        ("fs/mqueue/msgsize_default", "200", vec![("msgsize_default", 200)]),
    ];
    let before = two.look().limits;
    one.run(|| {
        for (file, text, _) in &lowered {
            write(format!("/proc/sys/{file}"), text).unwrap();
        }
        make_set(1, 4, 0o600);
        make_set(2, 5, 0o600);
    });
    let seen = one.look().limits;
    let names: Vec<_> = lowered.iter().flat_map(|(_, _, names)| names).collect();
    assert_eq!(names.len(), seen.len());
    for (name, lowered) in names {
        assert_eq!(value(&seen, name).0, *lowered, "{name}");
        assert_ne!(value(&before, name).0, *lowered, "{name}");
    }
    assert_eq!((value(&seen, "SEMMNI").1, value(&seen, "SEMMNS").1), (Some(2), Some(9)));
    assert_eq!(two.look().limits, before);
}

/// The usage that is inferred is the kernel's: a queue fits into what it leaves to the byte, and no tighter.
#[test]
fn the_inferred_usage_of_rlimit_msgqueue_is_the_kernels() {
    let (Some(one), Some(two)) = (Fresh::new(), Fresh::new()) else { return };
    let make_as_user = |limit: i64, name: &'static std::ffi::CStr, count, size| {
        let mut command = Command::new("true");
        // SAFETY: system calls only.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit as u64, rlim_max: limit as u64 };
                let done = libc::setrlimit(libc::RLIMIT_MSGQUEUE, &limit) == 0
                    && libc::setuid(UID) == 0
                    && open_queue(name, count, size) >= 0;
                if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            })
        };
        command.status().map(|_| ()).map_err(|error| error.raw_os_error())
    };
    let cost = limits::accounted_bytes(3, 50);
    assert_eq!(one.run(|| make_as_user(cost - 1, c"/first", 3, 50)), Err(Some(libc::EMFILE)));
    assert_eq!(one.run(|| make_as_user(cost, c"/first", 3, 50)), Ok(()));
    let both = cost + limits::accounted_bytes(10, 1000);
    assert_eq!(two.run(|| make_as_user(both - 1, c"/second", 10, 1000)), Err(Some(libc::EMFILE)));
    assert_eq!(two.run(|| make_as_user(both, c"/second", 10, 1000)), Ok(()));

    let of_user = || take().limits.into_iter().find(|l| l.uid == Some(UID.into()));
    assert_eq!(of_user(), None, "a user without processes");
    let mut process = Command::new("sleep").arg("600").uid(UID).spawn().unwrap();
    let found = of_user();
    process.kill().unwrap();
    process.wait().unwrap();
    let soft = rustix::process::getrlimit(rustix::process::Resource::Msgqueue).current.unwrap() as i64;
    let expected = Limit {
        uid: Some(UID.into()),
        name: "RLIMIT_MSGQUEUE".into(),
        value: soft,
        in_use: Some(both),
        how_known: HowKnown::Inferred,
    };
    assert_eq!(found, Some(expected));
}

#[test]
fn limits_of_a_process_and_of_the_host() {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: system calls only.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 77, rlim_max: 99 };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::setrlimit(libc::RLIMIT_MSGQUEUE, &limit);
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        })
    };
    let mut process = command.spawn().unwrap();
    // Its dynamic linker opens a library or two first.
    let end = Instant::now() + Duration::from_secs(10);
    let mut found = limits::of_process(process.id());
    while value(&found, "RLIMIT_NOFILE").1 != Some(3) && Instant::now() < end {
        found = limits::of_process(process.id());
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(value(&found, "RLIMIT_NOFILE"), (77, Some(3)));
    assert_eq!(value(&found, "RLIMIT_MSGQUEUE"), (77, None));
    assert_eq!(limits::of_process(process.id()), []);
    let _open: Vec<_> = (0..600).map(|_| File::open("/proc/self/limits").unwrap()).collect();
    let host = limits::of_host();
    let maximum: u64 = read_to_string("/proc/sys/fs/file-max").unwrap().trim().parse().unwrap();
    assert_eq!(value(&host, "FILE_MAX").0, i64::try_from(maximum).unwrap_or(i64::MAX));
    assert!(value(&host, "FILE_MAX").1.unwrap() > 300, "{host:?}");
}

#[test]
fn without_privileges_it_tells_what_it_may_and_names_the_rest() {
    let Some(fresh) = Fresh::new() else { return };
    let seen = fresh.run(|| {
        make_set(1, 2, 0o600);
        set_value(make_set(2, 2, 0o644), 1, 6);
        send(make_queue(1, 0o600), 1, 1);
        // SAFETY: takes no pointer; the raw call changes this thread only, which ends here.
        checked(unsafe { libc::syscall(libc::SYS_setresuid, UID, UID, UID) } as c_int);
        take()
    });
    let [own] = &seen.namespaces[..] else { panic!("{:?}", seen.namespaces) };
    assert_eq!(own.ipc_ns, fresh.ipc_ns);
    let sets: Vec<_> = own.objects.iter().filter(|o| o.object_kind == ObjectKind::Sem).collect();
    assert_eq!((sets[0].sem_count, &sets[0].sem_values), (Some(2), &None));
    assert_eq!((sets[1].sem_count, &sets[1].sem_values), (Some(2), &Some(vec![0, 6])));
    assert_eq!((of_kind(own, ObjectKind::Msg).messages, own.queued.len()), (Some(1), 0));
    let missing: Vec<_> = seen.missing.iter().map(|m| m.feature.as_str()).collect();
    let expected = [
        "snapshots of other IPC namespaces",
        "semaphore values in snapshots",
        "queued messages in snapshots",
        "POSIX queues in snapshots",
    ];
    assert_eq!(missing, expected);
}
