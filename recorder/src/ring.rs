//! Drains the rings and merges their records by time.
//!
//! Records of one CPU arrive nearly in order; between CPUs only their times tell. A record is released when every ring
//! has been drained past it and it is older than the reorder window, so an idle CPU does not block the merge. What
//! arrives later is released at once and counted.

use aya::maps::{MapData, RingBuf};
use bytemuck::pod_read_unaligned;
use ipc_schema::wire::Header;
use rustix::event::epoll;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long a record waits for older ones of other CPUs.
pub const REORDER_WINDOW_NS: u64 = 5_000_000;

/// How many records one round takes from one ring before it turns to the next.
const ROUND_RECORDS: usize = 65_536;

/// CLOCK_BOOTTIME, nanoseconds.
pub fn boot_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Boottime))
}

/// CLOCK_REALTIME, nanoseconds since the epoch.
pub fn epoch_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Realtime))
}

fn to_ns(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Where a record stands in [`Reader::bytes`].
#[derive(Clone, Copy)]
struct Place {
    time_ns: u64,
    cpu: u16,
    seq: u32,
    from: usize,
    length: usize,
}

/// What one CPU has delivered.
#[derive(Clone, Copy, Default)]
pub struct Delivered {
    /// Records received.
    pub records: u64,
    /// The time of the newest record; 0: none yet.
    pub newest_ns: u64,
    /// The newest value of [`Header::lost`].
    lost: u32,
}

/// Calls that a CPU lost, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The CPU.
    pub cpu: u16,
    /// The last record before, CLOCK_BOOTTIME nanoseconds; 0: the beginning.
    pub from_ns: u64,
    /// The first record after.
    pub to_ns: u64,
    /// How many calls.
    pub calls: u32,
}

/// Drains and merges.
pub struct Reader {
    rings: Vec<RingBuf<MapData>>,
    epoll: OwnedFd,
    bytes: Vec<u8>,
    /// Where the records that stay are moved to; kept, so that its memory is.
    spare: Vec<u8>,
    places: Vec<Place>,
    /// What each CPU has delivered.
    pub delivered: Vec<Delivered>,
    /// Gaps found since they were last taken.
    pub gaps: Vec<Gap>,
    /// Records that were older than one already released.
    pub late: u64,
    previous_round_ns: u64,
    released_ns: u64,
    has_more: bool,
}

impl Reader {
    /// A reader of these rings, one per CPU in order.
    ///
    /// # Errors
    /// epoll is refused.
    pub fn new(rings: Vec<RingBuf<MapData>>) -> std::io::Result<Reader> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for ring in &rings {
            // Edge-triggered: woken when a CPU says so, not whenever there is anything at all.
            epoll::add(
                &epoll,
                ring.as_fd(),
                epoll::EventData::new_u64(0),
                epoll::EventFlags::IN | epoll::EventFlags::ET,
            )?;
        }
        let delivered = vec![Delivered::default(); rings.len()];
        Ok(Reader {
            rings,
            epoll,
            bytes: Vec::new(),
            spare: Vec::new(),
            places: Vec::new(),
            delivered,
            gaps: Vec::new(),
            late: 0,
            previous_round_ns: 0,
            released_ns: 0,
            has_more: false,
        })
    }

    /// Waits until a CPU has filled a part of its ring, or for `timeout`; not at all while a ring is known to hold more.
    pub fn wait(&self, timeout: Duration) {
        if self.has_more {
            return;
        }
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mut events = Vec::with_capacity(16);
        // An interrupted wait is a short one.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
    }

    /// Takes what the rings hold and hands `each` the records that are due, in the order of their times. Returns until
    /// when that is: what comes later is younger.
    pub fn round(&mut self, each: impl FnMut(&[u8])) -> u64 {
        let now_ns = boot_ns();
        let (_, drained_to) = self.drain();
        self.has_more = drained_to != u64::MAX;
        let window = now_ns.saturating_sub(REORDER_WINDOW_NS).min(self.previous_round_ns);
        self.previous_round_ns = now_ns;
        let until_ns = window.min(drained_to);
        self.release(until_ns, each);
        until_ns
    }

    /// Takes everything and hands it all to `each`: no more records are made.
    pub fn finish(&mut self, each: impl FnMut(&[u8])) {
        // A record that was being written at the first drain hides those behind it.
        while self.drain().0 > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.release(u64::MAX, each);
    }

    /// How many records were taken, and until when every ring is known to be drained.
    fn drain(&mut self) -> (usize, u64) {
        let (mut taken, mut drained_to) = (0, u64::MAX);
        for cpu in 0..self.rings.len() {
            let count = self.drain_ring(cpu);
            taken += count;
            if count == ROUND_RECORDS {
                drained_to = drained_to.min(self.delivered[cpu].newest_ns);
            }
        }
        (taken, drained_to)
    }

    fn drain_ring(&mut self, ring: usize) -> usize {
        let mut count = 0;
        while count < ROUND_RECORDS {
            let Some(item) = self.rings[ring].next() else { break };
            count += 1;
            let Some(header) = item.get(..size_of::<Header>()).map(pod_read_unaligned::<Header>) else { continue };
            let from = self.bytes.len();
            self.bytes.extend_from_slice(&item);
            self.places.push(Place {
                time_ns: header.time_ns,
                cpu: header.cpu,
                seq: header.seq,
                from,
                length: item.len(),
            });
            drop(item);
            note_delivery(&mut self.delivered[ring], &header, &mut self.gaps);
        }
        count
    }

    fn release(&mut self, until_ns: u64, mut each: impl FnMut(&[u8])) {
        // Mostly runs that rise already, which this sort finds.
        self.places.sort_by_key(|p| (p.time_ns, p.cpu, p.seq));
        let due = self.places.partition_point(|p| p.time_ns <= until_ns);
        for place in &self.places[..due] {
            if place.time_ns < self.released_ns {
                self.late += 1;
            } else {
                self.released_ns = place.time_ns;
            }
            each(&self.bytes[place.from..place.from + place.length]);
        }
        self.keep(due);
    }

    /// Drops the first `due` records and moves the rest to the front.
    fn keep(&mut self, due: usize) {
        if due == 0 {
            return;
        }
        self.places.drain(..due);
        for place in &mut self.places {
            let from = self.spare.len();
            self.spare.extend_from_slice(&self.bytes[place.from..place.from + place.length]);
            place.from = from;
        }
        std::mem::swap(&mut self.bytes, &mut self.spare);
        self.spare.clear();
    }
}

fn note_delivery(delivered: &mut Delivered, header: &Header, gaps: &mut Vec<Gap>) {
    // Two programs on one CPU may nest: a record can carry an older count than the one before it.
    let calls = header.lost.wrapping_sub(delivered.lost);
    if calls != 0 && calls < 1 << 31 {
        gaps.push(Gap { cpu: header.cpu, from_ns: delivered.newest_ns, to_ns: header.time_ns, calls });
        delivered.lost = header.lost;
    }
    delivered.newest_ns = delivered.newest_ns.max(header.time_ns);
    delivered.records += 1;
}

impl Delivered {
    /// The gap at the end, given the CPU's counter when all was drained.
    pub fn last_gap(&self, cpu: u16, lost_calls: u64, to_ns: u64) -> Option<Gap> {
        let calls = (lost_calls as u32).wrapping_sub(self.lost);
        (calls != 0).then_some(Gap { cpu, from_ns: self.newest_ns, to_ns, calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn header(time_ns: u64, lost: u32) -> Header {
        Header { time_ns, lost, cpu: 3, ..Header::zeroed() }
    }

    #[test]
    fn a_gap_lies_between_the_records_around_it() {
        let (mut delivered, mut gaps) = (Delivered::default(), Vec::new());
        for (time, lost) in [(10, 0), (20, 0), (30, 7), (40, 7)] {
            note_delivery(&mut delivered, &header(time, lost), &mut gaps);
        }
        assert_eq!(gaps, [Gap { cpu: 3, from_ns: 20, to_ns: 30, calls: 7 }]);
        assert_eq!(delivered.last_gap(3, 9, 99), Some(Gap { cpu: 3, from_ns: 40, to_ns: 99, calls: 2 }));
        assert_eq!(delivered.last_gap(3, 7, 99), None);
    }

    #[test]
    fn the_count_may_wrap_and_may_arrive_out_of_order() {
        let (mut delivered, mut gaps) = (Delivered { lost: u32::MAX - 1, ..Delivered::default() }, Vec::new());
        for lost in [u32::MAX - 1, 1, 0] {
            note_delivery(&mut delivered, &header(5, lost), &mut gaps);
        }
        assert_eq!(gaps.iter().map(|g| g.calls).collect::<Vec<_>>(), [3]);
    }
}
