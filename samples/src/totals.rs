//! The counts of all processes of a run, in memory that they share.

use crate::{Failure, Result};
use ipc_schema::catalogue::{CATALOGUE, OPERATIONS};
use ipc_schema::flags;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Outcomes of a call: 0 a success, else the errno; one more for a call whose end its process never saw.
const OUTCOMES: usize = 135;
/// The outcome of a call that was begun and whose end its process did not see.
pub(crate) const UNSEEN: usize = OUTCOMES - 1;
const CELLS: usize = OPERATIONS.len() * OUTCOMES;

/// Calls by operation and outcome, added up over all processes.
pub(crate) struct Totals {
    cells: [AtomicU64; CELLS],
    longest_loop_ns: AtomicU64,
}

/// The calls of one thread by operation and outcome.
pub(crate) struct Counts {
    cells: Vec<u64>,
    /// The operation of each x86-64 system call number, by its place in `OPERATIONS`.
    operations: [u8; 512],
}

impl Counts {
    pub(crate) fn new() -> Counts {
        let mut operations = [u8::MAX; 512];
        for entry in CATALOGUE {
            let place = OPERATIONS.iter().position(|name| *name == entry.operation);
            if let (Some(number), Some(place)) = (entry.x86_64, place) {
                operations[usize::from(number)] = place as u8;
            }
        }
        Counts { cells: vec![0; CELLS], operations }
    }

    /// Counts one call of the system call `number`.
    #[inline]
    pub(crate) fn add(&mut self, number: i64, outcome: usize) {
        let operation = usize::from(self.operations[number as usize]);
        self.cells[operation * OUTCOMES + outcome.min(OUTCOMES - 2 + usize::from(outcome == UNSEEN))] += 1;
    }

    /// Adds the counts to the totals and starts from zero.
    pub(crate) fn flush(&mut self, totals: &Totals) {
        for (count, total) in self.cells.iter_mut().zip(&totals.cells) {
            if *count > 0 {
                total.fetch_add(*count, Ordering::Relaxed);
                *count = 0;
            }
        }
    }
}

impl Totals {
    /// Totals in memory shared with every process forked later; never freed.
    pub(crate) fn shared() -> Result<&'static Totals> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice; the result is checked.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Totals>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(Failure::last("cannot map memory for the counts"));
        }
        // SAFETY: the mapping is zeroed, page-aligned, large enough, never unmapped; zero is a valid AtomicU64.
        Ok(unsafe { &*memory.cast::<Totals>() })
    }

    /// Notes how long a process took for its loop.
    pub(crate) fn add_loop(&self, elapsed: Duration) {
        self.longest_loop_ns.fetch_max(elapsed.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The longest loop, nanoseconds.
    pub(crate) fn longest_loop_ns(&self) -> u64 {
        self.longest_loop_ns.load(Ordering::Relaxed)
    }

    /// `{"semtimedop": 4000, …}`: the calls performed.
    pub(crate) fn performed(&self) -> Value {
        self.by_operation(|cells| {
            let sum: u64 = cells.iter().sum();
            (sum > 0).then(|| Value::from(sum))
        })
    }

    /// `{"semget": {"ENOENT": 1}, …}`: the calls that failed.
    pub(crate) fn errors(&self) -> Value {
        self.by_operation(|cells| {
            let errors: Map<String, Value> = (1..UNSEEN)
                .filter(|errno| cells[*errno] > 0)
                .map(|errno| (errno_name(errno as i32).to_owned(), Value::from(cells[errno])))
                .collect();
            (!errors.is_empty()).then_some(Value::Object(errors))
        })
    }

    fn by_operation(&self, value: impl Fn(&[u64]) -> Option<Value>) -> Value {
        let cells: Vec<u64> = self.cells.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let named = OPERATIONS.iter().zip(cells.chunks(OUTCOMES));
        named.filter_map(|(name, cells)| Some(((*name).to_owned(), value(cells)?))).collect::<Map<_, _>>().into()
    }
}

/// The name of an errno.
pub(crate) fn errno_name(errno: i32) -> &'static str {
    flags::errno_name(-i64::from(errno)).unwrap_or("unknown")
}
