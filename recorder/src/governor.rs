//! `--max-cpu`: has the probes shed calls, whole ones and counted, while the recorder has taken more of the processors than
//! it may.

use crate::attach::Counters;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(10);

/// What was not taken may be taken later, but no more than in this time.
const SAVED: Duration = Duration::from_millis(200);

/// A share of one processor: 1 is all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

/// Watches until `stop` is set.
///
/// # Errors
/// There is no thread for it.
pub fn start(share: Share, counters: Counters, stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let watch = move || {
        let mut budget = Budget { share, left: 0.0 };
        let (mut seen, mut taken) = (Instant::now(), processor_time());
        while !stop.load(Ordering::Acquire) {
            std::thread::sleep(EVERY);
            let (now, used) = (Instant::now(), processor_time());
            counters.pause(budget.is_overdrawn(now - seen, used.saturating_sub(taken)));
            (seen, taken) = (now, used);
        }
        counters.pause(false);
    };
    std::thread::Builder::new().name("governor".into()).spawn(watch)?;
    Ok(())
}

/// What this process has taken of the processors.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time that may be taken.
struct Budget {
    share: Share,
    /// Seconds; below 0: taken ahead.
    left: f64,
}

impl Budget {
    /// Whether more was taken than may be, after `passed`, in which `used` was.
    fn is_overdrawn(&mut self, passed: Duration, used: Duration) -> bool {
        let Share(share) = self.share;
        let most = share * SAVED.as_secs_f64();
        self.left = (self.left + share * passed.as_secs_f64() - used.as_secs_f64()).min(most);
        self.left < 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_ahead_is_waited_for() {
        let ms = Duration::from_millis;
        let mut budget = Budget { share: Share(0.5), left: 0.0 };
        assert!(!budget.is_overdrawn(ms(10), ms(5)));
        assert!(budget.is_overdrawn(ms(10), ms(25)), "20 ms ahead");
        assert!(budget.is_overdrawn(ms(39), ms(0)));
        assert!(!budget.is_overdrawn(ms(2), ms(0)));
        assert!(!budget.is_overdrawn(ms(100_000), ms(0)), "not all that was not taken is saved");
        assert!(budget.is_overdrawn(ms(10), ms(106)));
    }
}
