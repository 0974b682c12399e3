//! The messages in a queue: per type or priority the oldest is received first, so each receive is told which send it ends.

use super::calls::{Call, Room};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

/// Receives that are remembered for a send that returns later: no more threads can be inside.
const EARLY_MAX: usize = 64;

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct Message {
    /// When its send returned.
    sent_ns: i64,
    /// In which call.
    call_id: i64,
}

/// A message that waited long while later ones of other classes went.
#[derive(Clone, Copy, Debug)]
pub struct Starved {
    /// When its send returned, nanoseconds since the epoch.
    pub since_ns: i64,
    /// How long it stayed.
    pub stay_ns: i64,
    /// The call that sent it.
    pub call_id: i64,
    /// Whether it still waits.
    pub is_waiting: bool,
}

/// The messages of one type or priority.
#[derive(Clone, Debug, Default)]
pub struct Class {
    /// Sent.
    pub sends: u64,
    /// Received.
    pub receives: u64,
    /// How long the longest stayed that was received, nanoseconds.
    pub longest_ns: Option<i64>,
    /// How many starved.
    pub starved: u64,
    /// The one that did for longest.
    pub worst: Option<Starved>,
    waiting: VecDeque<Message>,
    /// Ends of receives whose send has not returned yet, or was before the trace.
    early: VecDeque<i64>,
}

impl Class {
    /// Messages of it that nobody has received.
    pub fn queued(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// How long the oldest of them waits at `end_ns`, nanoseconds.
    pub fn oldest_waits_ns(&self, end_ns: i64) -> Option<i64> {
        self.waiting.front().map(|message| end_ns.saturating_sub(message.sent_ns).max(0))
    }

    /// Whether a receiver has returned with the message of a send that began at `start_ns`.
    fn is_received(&mut self, start_ns: i64) -> bool {
        while let Some(received_ns) = self.early.pop_front() {
            // What was received before the send began was another message, from before the trace.
            if received_ns >= start_ns {
                self.longest_ns = Some(self.longest_ns.unwrap_or(0));
                return true;
            }
        }
        false
    }

    fn starve(&mut self, starved: Starved) {
        self.starved += 1;
        if self.worst.is_none_or(|worst| worst.stay_ns < starved.stay_ns) {
            self.worst = Some(starved);
        }
    }
}

/// The messages of one queue.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// By type or priority; `None` holds those beyond the bound.
    pub classes: BTreeMap<Option<i64>, Class>,
    /// Of two classes the latest send that was received: the class, and when it was sent.
    latest: [Option<(Option<i64>, i64)>; 2],
    /// Messages that could not be remembered.
    pub forgotten: u64,
    /// Messages that were gone though no call of the trace received them.
    pub vanished: u64,
    /// Pairs whose receiver returned first.
    pub disorder: u64,
}

impl Waiting {
    /// A message was sent; returns how long it stayed if its receiver returned before.
    pub fn sent(&mut self, call: &Call, end_ns: i64, room: &mut Room) -> Option<i64> {
        let key = self.make_class(call.class, room);
        let class = self.classes.entry(key).or_default();
        class.sends += 1;
        if class.is_received(call.start_ns) || self.unknown_is_received(call, key) {
            self.disorder += 1;
            return Some(0);
        }
        let class = self.classes.entry(key).or_default();
        if room.messages == 0 {
            self.forgotten += 1;
            return None;
        }
        room.messages -= 1;
        class.waiting.push_back(Message { sent_ns: end_ns, call_id: call.call_id });
        None
    }

    /// A message was received; returns how long it had stayed. `starving_ns`: from when on that is too long.
    pub fn received(&mut self, call: &Call, end_ns: i64, starving_ns: i64, room: &mut Room) -> Option<i64> {
        let key = self.make_class(self.class_received(call), room);
        let (classes, latest) = (&mut self.classes, &self.latest);
        let class = classes.entry(key).or_default();
        class.receives += 1;
        let Some(message) = class.waiting.pop_front() else {
            class.early.push_back(end_ns);
            if class.early.len() > EARLY_MAX {
                class.early.pop_front();
            }
            return None;
        };
        room.messages += 1;
        let stay_ns = end_ns.saturating_sub(message.sent_ns).max(0);
        class.longest_ns = class.longest_ns.max(Some(stay_ns));
        if stay_ns >= starving_ns && overtaken(latest, key, message.sent_ns) {
            let (since_ns, call_id) = (message.sent_ns, message.call_id);
            class.starve(Starved { since_ns, stay_ns, call_id, is_waiting: false });
        }
        self.went(key, message.sent_ns);
        Some(stay_ns)
    }

    /// The class of what was received: a receiver of a POSIX queue need not ask for the priority, but it is the highest.
    fn class_received(&self, call: &Call) -> Option<i64> {
        if call.class.is_some() || !call.is_posix {
            return call.class;
        }
        let held = self.classes.iter().rev().find(|(_, class)| !class.waiting.is_empty());
        held.and_then(|(class, _)| *class)
    }

    /// Whether a receiver of a POSIX queue that did not ask for the priority has the message of this send: then it was
    /// one of the class `key`.
    fn unknown_is_received(&mut self, call: &Call, key: Option<i64>) -> bool {
        let unknown = self.classes.get_mut(&None).filter(|_| call.is_posix);
        if !unknown.is_some_and(|class| class.is_received(call.start_ns)) {
            return false;
        }
        let none = self.classes.entry(None).or_default();
        none.receives = none.receives.saturating_sub(1);
        let class = self.classes.entry(key).or_default();
        class.receives += 1;
        class.longest_ns = Some(class.longest_ns.unwrap_or(0));
        true
    }

    /// At `start_ns` there was nothing of what a receiver asked for: what should have been there is gone.
    pub fn found_nothing(&mut self, asked: impl Fn(i64) -> bool, start_ns: i64, room: &mut Room) {
        for (class, of_class) in &mut self.classes {
            if !class.is_some_and(&asked) {
                continue;
            }
            while of_class.waiting.front().is_some_and(|message| message.sent_ns <= start_ns) {
                of_class.waiting.pop_front();
                room.messages += 1;
                self.vanished += 1;
            }
        }
    }

    /// Looks for those that starve at `end_ns`.
    pub fn finish(&mut self, end_ns: i64, starving_ns: i64) {
        for (key, class) in &mut self.classes {
            let latest = self.latest;
            let starve = |message: &&Message| {
                end_ns.saturating_sub(message.sent_ns) >= starving_ns && overtaken(&latest, *key, message.sent_ns)
            };
            let starved: Vec<Message> = class.waiting.iter().take_while(starve).copied().collect();
            for message in starved {
                let stay_ns = end_ns.saturating_sub(message.sent_ns);
                let (since_ns, call_id) = (message.sent_ns, message.call_id);
                class.starve(Starved { since_ns, stay_ns, call_id, is_waiting: true });
            }
        }
    }

    /// A message of `class` that was sent at `sent_ns` was received.
    fn went(&mut self, class: Option<i64>, sent_ns: i64) {
        let known = self.latest.iter().position(|latest| latest.is_some_and(|(of, _)| of == class));
        let place = known.unwrap_or_else(|| {
            // The older of the two makes room.
            let sent = |place: usize| self.latest[place].map(|(_, sent_ns)| sent_ns);
            if sent(0) <= sent(1) { 0 } else { 1 }
        });
        if self.latest[place].is_none_or(|(_, last_ns)| last_ns < sent_ns) {
            self.latest[place] = Some((class, sent_ns));
        }
    }

    /// The class under which messages of `class` are counted.
    fn make_class(&mut self, class: Option<i64>, room: &mut Room) -> Option<i64> {
        if let Entry::Vacant(entry) = self.classes.entry(class) {
            if room.classes == 0 {
                return None;
            }
            room.classes -= 1;
            entry.insert(Class::default());
        }
        class
    }
}

/// Whether a message of another class that was sent later was received.
fn overtaken(latest: &[Option<(Option<i64>, i64)>; 2], class: Option<i64>, sent_ns: i64) -> bool {
    latest.iter().flatten().any(|(of, latest_ns)| *of != class && *latest_ns > sent_ns)
}
