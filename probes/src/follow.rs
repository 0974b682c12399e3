//! Which tasks and calls are traced.

use crate::maps::{CGROUPS, COMMS, FILTER, OPTIONS, PIDS, RECORDER, SNAPSHOT_HELPER};
use crate::ring::{Cpu, fetch_add};
use crate::task::comm;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use ipc_schema::wire::{CGROUP_LEVELS, filter, option};

/// Whether this process is the recorder, or its helper: never traced, and never counted.
#[inline(always)]
fn is_own(pid: u32) -> bool {
    pid == RECORDER.load() || pid == SNAPSHOT_HELPER.load()
}

/// Whether this process was asked for.
#[inline(always)]
fn is_asked_for(pid: u32) -> bool {
    FILTER.load() == filter::NONE || PIDS.get_ptr(pid).is_some()
}

/// Whether the life of this process is traced.
#[inline(always)]
pub fn follows(pid: u32) -> bool {
    !is_own(pid) && is_asked_for(pid)
}

/// Whether a call of the current task is traced; counts why not.
#[inline(always)]
pub fn admits(cpu: Cpu) -> bool {
    if is_own(cpu.pid) {
        return false;
    }
    // SAFETY (all): the counters are those of this CPU, from a checked map lookup.
    if !is_asked_for(cpu.pid) {
        fetch_add(unsafe { &raw mut (*cpu.counters).dropped_pid }, 1);
        return false;
    }
    if OPTIONS.load() & option::COMM != 0 && COMMS.get_ptr(comm()).is_none() {
        fetch_add(unsafe { &raw mut (*cpu.counters).dropped_comm }, 1);
        return false;
    }
    if OPTIONS.load() & option::CGROUP != 0 && !is_in_cgroup() {
        fetch_add(unsafe { &raw mut (*cpu.counters).dropped_cgroup }, 1);
        return false;
    }
    if unsafe { (&raw const (*cpu.counters).pause).read_volatile() } != 0 {
        fetch_add(unsafe { &raw mut (*cpu.counters).shed }, 1);
        return false;
    }
    true
}

/// Whether the current task is in a cgroup of the filter, or below one.
#[inline(always)]
fn is_in_cgroup() -> bool {
    for level in 0..CGROUP_LEVELS {
        // SAFETY: the helper takes a level; 0 is returned where there is none.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if id == 0 {
            return false;
        }
        if CGROUPS.get_ptr(id).is_some() {
            return true;
        }
    }
    false
}
