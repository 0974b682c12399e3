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
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long a record waits for older ones of other CPUs.
pub const REORDER_WINDOW_NS: u64 = 5_000_000;

/// How many records one round takes from one ring before it turns to the next: what fits into a processor's cache.
const ROUND_RECORDS: usize = 8_192;

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

/// Where a record stands in the chunks of a [`Lane`].
#[derive(Clone, Copy)]
struct Place {
    time_ns: u64,
    seq: u32,
    /// The number of its chunk.
    chunk: u64,
    /// Its first word.
    from: u32,
    /// Its bytes.
    length: u32,
}

/// Words of a chunk; no record is larger.
const CHUNK_WORDS: usize = 32 << 10;

/// Some records, one behind the other, each at a whole word.
struct Chunk {
    words: Vec<u64>,
    /// Those that were not released yet.
    waiting: u32,
}

/// The records of one ring that wait for older ones of others, in the order of their times.
#[derive(Default)]
struct Lane {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk.
    first: u64,
    places: VecDeque<Place>,
    /// Room of a chunk that is not needed any more.
    spare: Option<Vec<u64>>,
}

impl Lane {
    fn push(&mut self, header: &Header, record: &[u8]) {
        let words = record.len().div_ceil(size_of::<u64>());
        if self.chunks.back().is_none_or(|chunk| chunk.words.len() + words > CHUNK_WORDS) {
            let words = self.spare.take().unwrap_or_else(|| Vec::with_capacity(CHUNK_WORDS));
            self.chunks.push_back(Chunk { words, waiting: 0 });
        }
        let number = self.first + self.chunks.len() as u64 - 1;
        let Some(chunk) = self.chunks.back_mut() else { return };
        let from = chunk.words.len();
        match bytemuck::try_cast_slice(record) {
            Ok(whole) => chunk.words.extend_from_slice(whole),
            Err(_) => {
                chunk.words.resize(from + words, 0);
                bytemuck::cast_slice_mut(&mut chunk.words[from..])[..record.len()].copy_from_slice(record);
            }
        }
        let (from, length) = (from as u32, record.len() as u32);
        chunk.waiting += 1;
        let place = Place { time_ns: header.time_ns, seq: header.seq, chunk: number, from, length };
        // Programs nest: a record may be a little older than the one before it.
        let is_older = |before: &Place| (before.time_ns, before.seq) <= (place.time_ns, place.seq);
        match self.places.iter().rposition(is_older).map_or(0, |before| before + 1) {
            at if at == self.places.len() => self.places.push_back(place),
            at => self.places.insert(at, place),
        }
    }

    /// The time of the oldest record.
    fn oldest_ns(&self) -> Option<u64> {
        self.places.front().map(|place| place.time_ns)
    }

    /// Hands on the oldest record, with its time.
    fn release(&mut self, mut each: impl FnMut(u64, &[u8])) {
        let Some(place) = self.places.pop_front() else { return };
        let chunk = &mut self.chunks[(place.chunk - self.first) as usize];
        chunk.waiting -= 1;
        each(place.time_ns, &bytemuck::cast_slice(&chunk.words[place.from as usize..])[..place.length as usize]);
    }

    /// Gives back the chunks of which everything was released.
    fn tidy(&mut self) {
        while let Some(Chunk { mut words, .. }) = self.chunks.pop_front_if(|chunk| chunk.waiting == 0) {
            self.first += 1;
            words.clear();
            self.spare = Some(words);
        }
    }
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
    lanes: Vec<Lane>,
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
            lanes: rings.iter().map(|_| Lane::default()).collect(),
            rings,
            epoll,
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
            self.lanes[ring].push(&header, &item);
            drop(item);
            note_delivery(&mut self.delivered[ring], &header, &mut self.gaps);
        }
        count
    }

    fn release(&mut self, until_ns: u64, mut each: impl FnMut(&[u8])) {
        let due = |lane: &Lane| lane.oldest_ns().filter(|time_ns| *time_ns <= until_ns);
        let lanes = self.lanes.iter().enumerate();
        let mut next: BinaryHeap<_> = lanes.filter_map(|(i, lane)| Some(Reverse((due(lane)?, i)))).collect();
        while let Some(Reverse((_, i))) = next.pop() {
            let lane = &mut self.lanes[i];
            // A CPU's records come in runs.
            while let Some(time_ns) = due(lane) {
                if next.peek().is_some_and(|Reverse(other)| *other < (time_ns, i)) {
                    next.push(Reverse((time_ns, i)));
                    break;
                }
                lane.release(|time_ns, record| {
                    self.late += u64::from(time_ns < self.released_ns);
                    self.released_ns = self.released_ns.max(time_ns);
                    each(record);
                });
            }
        }
        self.lanes.iter_mut().for_each(Lane::tidy);
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

    /// What is handed on of a lane that got records with these times, until then.
    fn released(lane: &mut Lane, times: &[u64], until_ns: u64) -> Vec<u64> {
        for time_ns in times {
            let header = Header { time_ns: *time_ns, ..Header::zeroed() };
            lane.push(&header, bytemuck::bytes_of(time_ns));
        }
        let mut handed = Vec::new();
        while lane.oldest_ns().is_some_and(|time_ns| time_ns <= until_ns) {
            lane.release(|time_ns, record| {
                assert_eq!(pod_read_unaligned::<u64>(record), time_ns, "the record of this time");
                handed.push(time_ns);
            });
        }
        lane.tidy();
        handed
    }

    #[test]
    fn records_that_nest_come_in_the_order_of_their_times() {
        let mut lane = Lane::default();
        assert_eq!(released(&mut lane, &[10, 30, 20, 25, 40, 5], 26), [5, 10, 20, 25]);
        assert_eq!(released(&mut lane, &[35, 50], 39), [30, 35]);
        assert_eq!(released(&mut lane, &[45, 60, 55], 99), [40, 45, 50, 55, 60]);
        assert!(lane.chunks.is_empty() && lane.places.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_chunk_goes_when_its_last_record_does() {
        let mut lane = Lane::default();
        let record = [0; CHUNK_WORDS * 8 / 4];
        for time_ns in [1, 2, 4, 5, 3, 6] {
            lane.push(&Header { time_ns, ..Header::zeroed() }, &record);
        }
        let mut chunks_after = Vec::new();
        while lane.oldest_ns().is_some() {
            lane.release(|_, bytes| assert_eq!(bytes.len(), record.len()));
            lane.tidy();
            chunks_after.push(lane.chunks.len());
        }
        assert_eq!(chunks_after, [2, 2, 2, 2, 1, 0], "record 3 stands in the second chunk, 4 and 5 in the first");
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
