//! The words of the table: flags, commands and signal sets as the header files spell them, and their numbers.
//!
//! A case writes `IPC_CREAT|IPC_EXCL|0600`, once: the number goes into the call, the text into the expected row.

/// Flags and commands, from the C library's headers.
const WORDS: &[(&str, i32)] = &[
    ("IPC_CREAT", libc::IPC_CREAT),
    ("IPC_EXCL", libc::IPC_EXCL),
    ("IPC_NOWAIT", libc::IPC_NOWAIT),
    ("SEM_UNDO", libc::SEM_UNDO),
    ("IPC_RMID", libc::IPC_RMID),
    ("IPC_SET", libc::IPC_SET),
    ("IPC_STAT", libc::IPC_STAT),
    ("IPC_INFO", libc::IPC_INFO),
    ("GETPID", libc::GETPID),
    ("GETVAL", libc::GETVAL),
    ("GETALL", libc::GETALL),
    ("GETNCNT", libc::GETNCNT),
    ("GETZCNT", libc::GETZCNT),
    ("SETVAL", libc::SETVAL),
    ("SETALL", libc::SETALL),
    ("SEM_STAT", 18),
    ("SEM_INFO", 19),
    ("SEM_STAT_ANY", 20),
    ("SHM_LOCK", libc::SHM_LOCK),
    ("SHM_UNLOCK", libc::SHM_UNLOCK),
    ("SHM_STAT", 13),
    ("SHM_INFO", 14),
    ("SHM_STAT_ANY", 15),
    ("SHM_HUGETLB", libc::SHM_HUGETLB),
    ("SHM_NORESERVE", libc::SHM_NORESERVE),
    ("SHM_RDONLY", libc::SHM_RDONLY),
    ("SHM_RND", libc::SHM_RND),
    ("SHM_REMAP", libc::SHM_REMAP),
    ("SHM_EXEC", libc::SHM_EXEC),
    ("MSG_STAT", 11),
    ("MSG_INFO", 12),
    ("MSG_STAT_ANY", 13),
    ("MSG_NOERROR", libc::MSG_NOERROR),
    ("MSG_EXCEPT", libc::MSG_EXCEPT),
    ("MSG_COPY", libc::MSG_COPY),
    ("O_RDONLY", libc::O_RDONLY),
    ("O_WRONLY", libc::O_WRONLY),
    ("O_RDWR", libc::O_RDWR),
    ("O_CREAT", libc::O_CREAT),
    ("O_EXCL", libc::O_EXCL),
    ("O_NONBLOCK", libc::O_NONBLOCK),
    ("O_CLOEXEC", libc::O_CLOEXEC),
    ("SFD_NONBLOCK", libc::SFD_NONBLOCK),
    ("SFD_CLOEXEC", libc::SFD_CLOEXEC),
    ("SIG_BLOCK", libc::SIG_BLOCK),
    ("SIG_UNBLOCK", libc::SIG_UNBLOCK),
    ("SIG_SETMASK", libc::SIG_SETMASK),
    ("SA_NOCLDSTOP", libc::SA_NOCLDSTOP),
    ("SA_NOCLDWAIT", libc::SA_NOCLDWAIT),
    ("SA_SIGINFO", libc::SA_SIGINFO),
    ("SA_ONSTACK", libc::SA_ONSTACK),
    ("SA_RESTART", libc::SA_RESTART),
    ("SA_NODEFER", libc::SA_NODEFER),
    ("SA_RESETHAND", libc::SA_RESETHAND),
];

/// The standard signals that the cases use.
const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", libc::SIGHUP),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGKILL", libc::SIGKILL),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGTERM", libc::SIGTERM),
    ("SIGCHLD", libc::SIGCHLD),
    ("SIGSTOP", libc::SIGSTOP),
    ("SIGIO", libc::SIGIO),
    ("SIGSYS", libc::SIGSYS),
];

/// The number of a word; a misspelt one is an error of the table, and ends the case.
fn look_up(list: &[(&str, i32)], word: &str) -> i32 {
    let found = list.iter().find(|(name, _)| *name == word);
    found.unwrap_or_else(|| panic!("the table of cases has an unknown word: {word}")).1
}

/// The number of one word or of an octal number.
fn number(word: &str) -> i32 {
    i32::from_str_radix(word, 8).unwrap_or_else(|_| look_up(WORDS, word))
}

/// The value of flags, permission bits included.
pub(super) fn flags(text: &str) -> i32 {
    text.split('|').fold(0, |value, word| value | number(word))
}

/// The flags alone and the permission bits alone, for mq_open.
pub(super) fn flags_and_mode(text: &str) -> (i32, i32) {
    let (modes, words): (Vec<&str>, Vec<&str>) = text.split('|').partition(|word| word.starts_with('0'));
    (words.into_iter().fold(0, |value, word| value | number(word)), modes.into_iter().fold(0, |v, w| v | number(w)))
}

/// The signal set of `SIGINT|SIGTERM|SIGRT_2`; `0` is the empty one, `ALL` the full one. Bit n-1 is signal n.
pub(super) fn set(text: &str) -> u64 {
    if text == "ALL" {
        return u64::MAX;
    }
    let names = text.split('|').filter(|word| *word != "0");
    names.fold(0, |set, word| set | 1 << (signal(word) - 1))
}

/// The number of a signal; `SIGRT_n` is the real-time signal 32 + n.
pub(super) fn signal(word: &str) -> i32 {
    match word.strip_prefix("SIGRT_").and_then(|n| n.parse::<i32>().ok()) {
        Some(n) => 32 + n,
        None => look_up(SIGNALS, word),
    }
}
