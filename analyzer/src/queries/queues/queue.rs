//! What is known of one queue.

use super::calls::{Call, End, Room};
use super::depth::{Depth, Span};
use super::full::{Full, Stretch};
use super::known::{Counted, Known};
use super::times::Times;
use super::waiting::Waiting;
use crate::finding::EVIDENCE_MAX;
use hashbrown::HashMap;

/// A snapshot takes some time after its begin: it counts where the queue rested for as long as this.
pub const SNAPSHOT_NS: i64 = 50_000_000;
/// Processes that are told apart at a queue.
const USERS_MAX: usize = 64;
/// Senders whose waits are shorter than this on average are not held up by a full queue, they are just faster.
const WAIT_NS_MIN: i64 = 1_000_000;

/// What to look for, and when.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The time that is looked at.
    pub span: Span,
    /// How long a queue is full before that is a finding, nanoseconds.
    pub full_ns: i64,
    /// How long a message waits before that is one, nanoseconds.
    pub starving_ns: i64,
    /// Changes of the depth of one queue that are kept at most.
    pub changes_max: usize,
}

impl Settings {
    /// Whether senders were held up.
    fn is_back_pressure(&self, stretch: &Stretch) -> bool {
        let mean_ns = stretch.blocked_ns / i64::try_from(stretch.blocked).unwrap_or(i64::MAX).max(1);
        stretch.length_ns() >= self.full_ns && stretch.blocked_ns >= self.full_ns && mean_ns >= WAIT_NS_MIN
    }
}

/// One side of a queue: who sends, or who receives.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Messages moved.
    pub moved: u64,
    /// Their bytes.
    pub bytes: i128,
    /// Calls that were turned away.
    pub refused: u64,
    /// How long the calls slept that did and ended.
    pub slept: Times,
    /// Calls that still sleep.
    pub open: u64,
    /// How long the first of them has slept at least, nanoseconds.
    pub open_ns: i64,
}

/// What a process did.
#[derive(Clone, Copy, Debug, Default)]
pub struct User {
    /// Messages that it sent.
    pub sends: u64,
    /// Messages that it received.
    pub receives: u64,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// How many messages it held.
    pub depth: Depth,
    /// When it was full.
    pub full: Full,
    /// The messages in it.
    pub waiting: Waiting,
    /// Who sends.
    pub sends: Side,
    /// Who receives.
    pub receives: Side,
    /// How long messages stayed.
    pub stays: Times,
    /// By process.
    pub users: HashMap<i64, User>,
    /// The sends that slept for longest: how long, from when, which call.
    pub held_up: Vec<(i64, i64, i64)>,
    /// Messages that it takes; POSIX queues.
    pub max_messages: Option<i64>,
    /// Bytes that it takes; System V.
    pub max_bytes: Option<i64>,
    /// By how many messages what somebody counted differed from what the calls add up to.
    pub unexplained: u64,
    /// Whether the kernel told the depth.
    pub is_kernels: bool,
    /// Whether the depth was known once.
    pub is_anchored: bool,
    removed_ns: Option<i64>,
    counted: std::vec::IntoIter<Counted>,
    is_counted_anyway: bool,
    last_end_ns: Option<i64>,
    last_bytes: i64,
}

impl Queue {
    /// One of which nothing was seen yet.
    pub fn new(known: Option<&Known>, settings: &Settings) -> Queue {
        let is_known = known.is_some();
        let known = known.cloned().unwrap_or_default();
        let mut depth = Depth::new(settings.span, if is_known { settings.changes_max } else { 0 });
        if let Some(created_ns) = known.created_ns {
            depth.advance(created_ns);
            depth.set(0, 0);
        }
        Queue {
            depth,
            full: Full::default(),
            waiting: Waiting::default(),
            sends: Side::default(),
            receives: Side::default(),
            stays: Times::default(),
            users: HashMap::new(),
            held_up: Vec::new(),
            max_messages: None,
            max_bytes: known.max_bytes,
            unexplained: 0,
            is_kernels: false,
            is_anchored: known.created_ns.is_some(),
            removed_ns: known.removed_ns,
            // The first snapshot is all that is known of what was there before the trace: it counts anyway.
            is_counted_anyway: known.created_ns.is_none(),
            counted: known.counted.into_iter(),
            last_end_ns: None,
            last_bytes: 0,
        }
    }

    /// Adds the next call; `queues` share the room for stretches.
    pub fn add(&mut self, call: &Call, room: &mut Room, queues: usize, settings: &Settings) {
        self.max_messages = call.max_messages.or(self.max_messages);
        if let Some(most) = call.max_messages {
            self.depth.limit(most);
        }
        let kept = room.stretches / queues.max(1);
        let Some(end_ns) = call.end_ns else { return self.add_open(call, kept, settings) };
        self.take_counts(Some(end_ns), kept, settings);
        if let Some(depth) = call.depth {
            self.depth.max = self.depth.max.max(depth);
            self.is_kernels = true;
        }
        self.anchor(call, kept, settings);
        self.advance(end_ns, kept, settings);
        self.find_gone(call, room);
        self.count(call, kept, room, settings);
        if call.moved {
            self.moved(call, end_ns, room, settings);
        }
        self.last_end_ns = Some(end_ns.max(self.last_end_ns.unwrap_or(end_ns)));
    }

    /// What its entry tells of the depth, if no other call ended since: it may have moved a message before it returned.
    fn anchor(&mut self, call: &Call, kept: usize, settings: &Settings) {
        if self.last_end_ns.is_some_and(|last_ns| last_ns > call.start_ns) {
            return;
        }
        let bytes = self.depth.bytes().unwrap_or(0);
        let known = call.depth_at_entry().map(|depth| (depth, if depth == 0 { 0 } else { bytes }));
        // Of a queue of which nothing was ever told it is assumed that it was empty.
        let Some((depth, bytes)) = known.or(self.depth.messages().is_none().then_some((0, 0))) else { return };
        self.advance(call.start_ns, kept, settings);
        let difference = self.depth.messages().map_or(0, |counted| counted.abs_diff(depth));
        self.unexplained = self.unexplained.saturating_add(difference);
        self.depth.set(depth, bytes);
        self.is_anchored |= known.is_some();
    }

    /// Takes over what snapshots counted before the call that ends at `until_ns`; `None`: no call is to come.
    fn take_counts(&mut self, until_ns: Option<i64>, kept: usize, settings: &Settings) {
        while let Some(counted) = self.counted.as_slice().first().copied() {
            if until_ns.is_some_and(|until_ns| counted.at_ns > until_ns) {
                break;
            }
            self.counted.next();
            let rested = until_ns.is_none_or(|until_ns| until_ns > counted.at_ns.saturating_add(SNAPSHOT_NS));
            let is_first = std::mem::take(&mut self.is_counted_anyway);
            if rested || is_first {
                self.advance(counted.at_ns, kept, settings);
                let before = if self.is_anchored { self.depth.messages() } else { None };
                let difference = before.map_or(0, |before| before.abs_diff(counted.messages));
                self.unexplained = self.unexplained.saturating_add(difference);
                self.depth.set(counted.messages, counted.bytes);
                self.is_anchored = true;
            }
        }
    }

    /// Messages that ought to have been there when a receiver or the kernel saw that they were not.
    fn find_gone(&mut self, call: &Call, room: &mut Room) {
        if call.depth == Some(0) {
            self.waiting.found_nothing(|_| true, call.start_ns, room);
        } else if let (true, Some((asked, other))) = (call.found_nothing(), call.asks_for) {
            let is_asked = |class: i64| match asked {
                0 => true,
                1.. => (class == asked) != other,
                _ => class <= asked.saturating_neg(),
            };
            self.waiting.found_nothing(is_asked, call.start_ns, room);
        }
    }

    fn side(&mut self, end: End) -> &mut Side {
        match end {
            End::Send => &mut self.sends,
            End::Receive => &mut self.receives,
        }
    }

    /// Counts the call, whatever became of it.
    fn count(&mut self, call: &Call, kept: usize, room: &mut Room, settings: &Settings) {
        let side = self.side(call.end);
        side.refused += u64::from(call.refused);
        if let Some(slept_ns) = call.slept_ns {
            side.slept.add(slept_ns, room);
            if call.end == End::Send {
                self.hold_up(call, call.end_ns.unwrap_or(call.start_ns), slept_ns, kept, settings);
            }
        }
    }

    fn add_open(&mut self, call: &Call, kept: usize, settings: &Settings) {
        if call.slept_ns.is_none() {
            return;
        }
        let so_far_ns = settings.span.to_ns.saturating_sub(call.start_ns).max(0);
        let side = self.side(call.end);
        side.open += 1;
        side.open_ns = side.open_ns.max(so_far_ns);
        if call.end == End::Send {
            self.hold_up(call, settings.span.to_ns, so_far_ns, kept, settings);
        }
    }

    /// A sender slept: for as long as it was inside, the queue was full.
    fn hold_up(&mut self, call: &Call, to_ns: i64, slept_ns: i64, kept: usize, settings: &Settings) {
        let from_ns = call.start_ns.max(settings.span.from_ns);
        let to_ns = to_ns.min(settings.span.to_ns).max(from_ns);
        let stretch = Stretch { from_ns, to_ns, blocked_ns: slept_ns, blocked: 1 };
        self.full.add(stretch, kept, &|stretch| settings.is_back_pressure(stretch));
        self.held_up.push((slept_ns, call.start_ns, call.call_id));
        if self.held_up.len() > 2 * EVIDENCE_MAX {
            self.held_up.sort_unstable_by(|a, b| b.cmp(a));
            self.held_up.truncate(EVIDENCE_MAX);
        }
    }

    /// A message went in or out.
    fn moved(&mut self, call: &Call, end_ns: i64, room: &mut Room, settings: &Settings) {
        let side = self.side(call.end);
        side.moved += 1;
        side.bytes += i128::from(call.bytes);
        let stay_ns = match call.end {
            End::Send => {
                self.last_bytes = call.bytes;
                self.depth.change(1, call.bytes);
                self.waiting.sent(call, end_ns, room)
            }
            End::Receive => {
                self.depth.change(-1, call.bytes.saturating_neg());
                self.waiting.received(call, end_ns, settings.starving_ns, room)
            }
        };
        if let Some(stay_ns) = stay_ns {
            self.stays.add(stay_ns, room);
        }
        if self.users.len() < USERS_MAX || self.users.contains_key(&call.process_id) {
            let user = self.users.entry(call.process_id).or_default();
            user.sends += u64::from(call.end == End::Send);
            user.receives += u64::from(call.end == End::Receive);
        }
    }

    /// Whether it would not take another message like the last one.
    fn is_full(&self) -> bool {
        let (Some(messages), Some(bytes)) = (self.depth.messages(), self.depth.bytes()) else { return false };
        match (self.max_messages, self.max_bytes) {
            (Some(max_messages), _) => messages >= max_messages,
            (None, Some(max_bytes)) => messages >= max_bytes || bytes.saturating_add(self.last_bytes) > max_bytes,
            (None, None) => false,
        }
    }

    fn advance(&mut self, to_ns: i64, kept: usize, settings: &Settings) {
        let is_full = self.is_full();
        if let (Some(from_ns), true) = (self.depth.advance(to_ns), is_full) {
            let stretch = Stretch { from_ns, to_ns: self.depth.at_ns(), blocked_ns: 0, blocked: 0 };
            self.full.add(stretch, kept, &|stretch| settings.is_back_pressure(stretch));
        }
    }

    /// Accounts for the time after the last call; returns how long it was full, nanoseconds.
    pub fn finish(&mut self, settings: &Settings) -> i64 {
        let end_ns = self.end_ns(settings);
        self.take_counts(None, 0, settings);
        self.advance(end_ns, 0, settings);
        self.waiting.finish(end_ns, settings.starving_ns);
        self.held_up.sort_unstable_by(|a, b| b.cmp(a));
        self.held_up.truncate(EVIDENCE_MAX);
        self.full.finish(&|stretch| settings.is_back_pressure(stretch))
    }

    /// How the depth is known.
    pub fn how_known(&self) -> &'static str {
        match (self.is_kernels, self.is_anchored) {
            (true, _) => "kernel",
            (false, true) => "reconstructed",
            (false, false) => "reconstructed without anchor",
        }
    }

    /// When it ended, nanoseconds since the epoch: it was removed, or the recording was over. A POSIX queue lives on
    /// without its name for as long as somebody has it open.
    pub fn end_ns(&self, settings: &Settings) -> i64 {
        let removed_ns = self.removed_ns.map(|removed_ns| removed_ns.max(self.last_end_ns.unwrap_or(removed_ns)));
        removed_ns.unwrap_or(i64::MAX).min(settings.span.to_ns)
    }
}
