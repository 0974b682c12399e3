//! The clocks, read through the vDSO.

/// Nanoseconds of `clock`.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call fills; both clocks exist on every kernel this runs on.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// CLOCK_BOOTTIME, nanoseconds: the clock of the probes.
#[inline]
pub(crate) fn boot_ns() -> i64 {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME, nanoseconds since the epoch.
#[inline]
pub(crate) fn epoch_ns() -> i64 {
    read(libc::CLOCK_REALTIME)
}
