//! The version of the trace format, and what changed with each.

/// The version of the format of a trace. A reader reads its own version and every older one, and refuses a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion(pub u32);

impl FormatVersion {
    /// What this build writes.
    ///
    /// # Changelog
    /// - 1 (2026-11): the first: complete Parquet parts, one folder per table, `trace.json` with a checksum per part.
    /// - 2 (2026-11): calls.sem_value and .sig_after, processes.cmdline, objects.sem_count, session.dropped; every table
    ///   but `stacks` has rows, and NULL in a column of `calls` says that the call has no such thing. Later: checksums of
    ///   the blocks of each part, which a reader may ignore; a log of what no part
    ///   holds; session.trigger.
    pub const CURRENT: FormatVersion = FormatVersion(2);

    /// Whether this build can read a trace of version `self`.
    pub const fn is_readable(self) -> bool {
        self.0 >= 1 && self.0 <= Self::CURRENT.0
    }
}

impl core::fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}
