//! The sources of losses: the values of the column `losses.source`.

/// One way in which something can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The value of the column.
    pub name: &'static str,
    /// Whether `count` counts calls that are missing from `calls`; else it counts details of calls that are there.
    pub counts_calls: bool,
    /// What happened.
    pub doc: &'static str,
}

macro_rules! sources {
    ($($constant:ident $name:literal $counts_calls:literal $doc:literal;)*) => {
        $(#[doc = $doc] pub const $constant: Source = Source { name: $name, counts_calls: $counts_calls, doc: $doc };)*

        /// Every source.
        pub const SOURCES: &[Source] = &[$($constant),*];
    };
}

sources! {
//  constant     name           calls  what happened
    RING_FULL    "ring_full"    true   "a CPU's ring had no room: the recorder could not keep up";
    X32          "x32"          true   "calls of the x32 ABI are not captured";
    NO_SLOT      "no_slot"      true   "the thread id was beyond the largest that has a slot";
    NO_PARTNER   "no_partner"   true   "an exit arrived without its entry";
    UNEXPLAINED  "unexplained"  true   "record numbers are missing that no counter explains";
    MALFORMED    "malformed"    true   "a record was not what its kind says";
    TAIL         "tail"         true   "the recording did not end, or goes on: what came behind the last block of its log";
    SHED         "shed"         true   "the recorder had taken as much of the processors as --max-cpu allows";
    QUEUE_FULL   "queue_full"   true   "the disk hung for longer than memory could hold";
    DISK_FULL    "disk_full"    true   "the disk was full, or had only its reserve left, for longer than memory could hold";
    WRITE_FAILED "write_failed" true   "the disk refused to write, or lost what was written";
    ROTATED_OUT  "rotated_out"  true   "parts were deleted, the oldest first, to keep the trace as small as asked for";
    LOG_DAMAGED  "log_damaged"  true   "a part of the log could not be read";
    RECORDS      "records"      false  "context, fork, exec, exit or stack records found no room: names, lives and stacks are incomplete";
    STACKS       "stacks"       false  "more distinct stacks than are kept: `stack_id` is NULL";
    COPY_FAULT   "copy_fault"   false  "user memory that the kernel had read could not be copied: details are NULL";
    NOT_FOLLOWED "not_followed" false  "processes could not be followed, and their calls were not counted";
}

/// The source with this name.
pub fn by_name(name: &str) -> Option<&'static Source> {
    SOURCES.iter().find(|s| s.name == name)
}
