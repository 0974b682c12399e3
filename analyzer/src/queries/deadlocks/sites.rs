//! Who could end the waits at a place, and how that is known.

use super::deeds::{Actor, Deeds};
use super::graph::ANY;
use super::known::Known;
use super::waits::Lack;
use super::{Place, QUEUE};

/// How it is known that somebody could end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It took the semaphore with SEM_UNDO and did not give it back.
    Undo,
    /// It took more than it gave.
    Balance,
    /// It last changed the semaphore, says a snapshot.
    LastPid,
    /// It gave more than it took.
    Giver,
    /// It set the semaphore anew while it was in use.
    Setter,
    /// It took from the semaphore: it could bring it to 0.
    Taker,
    /// It has sent to the queue.
    Sender,
    /// It has received from the queue.
    Receiver,
    /// It opened the queue, and has neither sent nor received.
    Opener,
    /// Processes that the trace does not name.
    Others,
}

impl How {
    /// The value of the column `how_known`.
    pub const fn name(self) -> &'static str {
        match self {
            How::Undo => "undo",
            How::Balance => "balance",
            How::LastPid => "last_pid",
            How::Giver => "giver",
            How::Setter => "setter",
            How::Taker => "taker",
            How::Sender => "sender",
            How::Receiver => "receiver",
            How::Opener => "opener",
            How::Others => "others",
        }
    }

    /// Whether it says who holds a semaphore.
    pub const fn is_hold(self) -> bool {
        matches!(self, How::Undo | How::Balance | How::LastPid)
    }
}

/// Somebody who could end waits at a site.
#[derive(Clone, Debug)]
pub struct Party {
    /// Who; `None` for [`How::Others`].
    pub process_id: Option<i64>,
    /// How that is known.
    pub how: How,
    /// How much it can give; [`ANY`]: no bound is known.
    pub gives: i64,
    /// When it last took what it holds.
    pub since_ns: Option<i64>,
    /// In which call.
    pub call_id: Option<i64>,
    /// Whether it has ended.
    pub is_gone: bool,
    /// The threads that took what it holds.
    pub takers: Vec<i64>,
}

/// A place at which calls wait for the same thing.
#[derive(Clone, Debug)]
pub struct Site {
    /// Which.
    pub place: Place,
    /// What they wait for.
    pub lack: Lack,
    /// Who could end the waits.
    pub parties: Vec<Party>,
    /// The semaphore's value, or how much is in the queue, by a snapshot that nothing came after.
    pub seen: Option<i64>,
    /// The semaphore's value as the calls leave it.
    pub left: Option<i64>,
    /// The value with all that is held given back.
    pub capacity: Option<i64>,
    /// Whether somebody waited for it when the snapshot was taken.
    pub had_waiters: Option<bool>,
    /// When that was.
    pub snapshot_ns: Option<i64>,
    /// Whether the object is older than the trace, and was not set anew since.
    pub is_late: bool,
    /// Processes that gave what they had not taken, or set it.
    pub outsiders: Vec<i64>,
    /// Processes that have the queue open and neither sent nor received.
    pub openers: Vec<i64>,
    /// Whether an operation may have been before or after the last reset.
    pub overlaps_reset: bool,
    /// Whether an operation is not known.
    pub is_incomplete: bool,
    /// The end of the last call on it that changed something.
    pub last_ns: Option<i64>,
}

impl Site {
    /// The snapshot's value and what the calls leave, if these differ.
    pub fn mismatch(&self) -> Option<(i64, i64)> {
        self.seen.zip(self.left).filter(|(seen, left)| seen != left)
    }

    /// Whether it is a semaphore that is taken and given back by the same process.
    pub fn is_lock(&self) -> bool {
        self.lack == Lack::Semaphore && self.parties.iter().all(|party| party.how.is_hold())
    }

    /// Builds the site of a place.
    pub fn new(known: &Known, place: Place, lack: Lack) -> Site {
        let nothing = Deeds::default();
        let deeds = known.deeds.get(&place).unwrap_or(&nothing);
        let is_old = known.lifetimes.get(place.0, place.1).is_none_or(|lifetime| lifetime.created_ns.is_none());
        let snapshot = known.snapshots.get(&place).filter(|s| deeds.all.last_ns.is_none_or(|ns| ns <= s.ns));
        let mut site = Site {
            place,
            lack,
            parties: Vec::new(),
            seen: snapshot.and_then(|s| s.value),
            left: None,
            capacity: None,
            had_waiters: snapshot.and_then(|s| s.waiters).map(|waiters| waiters > 0),
            snapshot_ns: snapshot.map(|s| s.ns),
            is_late: is_old && !known.resets.contains_key(&place),
            outsiders: Vec::new(),
            openers: Vec::new(),
            overlaps_reset: deeds.all.overlaps_reset,
            is_incomplete: deeds.all.is_incomplete,
            last_ns: deeds.all.last_ns,
        };
        if place.2 == QUEUE {
            site.find_queue_parties(known, deeds);
        } else {
            site.find_value(known, deeds);
            match lack {
                Lack::Zero => site.find_takers(known, deeds),
                _ => site.find_holders(known, deeds),
            }
        }
        if deeds.has_more {
            site.add_others();
        }
        site
    }

    fn find_value(&mut self, known: &Known, deeds: &Deeds) {
        let base = match known.resets.get(&self.place) {
            Some(reset) => reset.value,
            None => (!self.is_late).then_some(0),
        };
        // What SEM_UNDO gave back at the end of a process.
        let undone = deeds.actors.iter().filter(|actor| known.is_gone(self.place.0, actor.process_id));
        let undone = undone.fold(0i64, |sum, actor| sum.saturating_add(actor.sums.undo));
        self.left = base
            .filter(|_| !deeds.has_more)
            .map(|base| base.saturating_add(deeds.all.given).saturating_sub(deeds.all.taken).saturating_add(undone))
            // No semaphore is below 0: something was not recorded.
            .filter(|left| *left >= 0);
    }

    fn add_others(&mut self) {
        let others = Party {
            process_id: None,
            how: How::Others,
            gives: ANY,
            since_ns: None,
            call_id: None,
            is_gone: false,
            takers: Vec::new(),
        };
        self.parties.push(others);
    }

    fn find_takers(&mut self, known: &Known, deeds: &Deeds) {
        let takers = deeds.actors.iter().filter(|actor| actor.sums.taken > 0);
        self.parties = takers.map(|actor| party(known, self.place, actor, How::Taker, ANY)).collect();
    }

    fn find_queue_parties(&mut self, known: &Known, deeds: &Deeds) {
        let (how, opposite) = match self.lack {
            Lack::Room => (How::Receiver, Lack::Message),
            _ => (How::Sender, Lack::Room),
        };
        // Whoever waits at the other end would act there, too.
        let mut trying: Vec<i64> = known.waiting_at(self.place, opposite).to_vec();
        for actor in &deeds.actors {
            let acted = if how == How::Receiver { actor.sums.taken } else { actor.sums.given };
            let is_idle = actor.sums.taken == 0 && actor.sums.given == 0;
            let is_trying = trying.binary_search(&actor.process_id).is_ok();
            if acted > 0 || is_trying {
                self.parties.push(party(known, self.place, actor, how, ANY));
            } else if is_idle && !known.is_gone(self.place.0, actor.process_id) {
                self.openers.push(actor.process_id);
            }
        }
        trying.retain(|process_id| deeds.actor(*process_id).is_none());
        self.parties.extend(trying.into_iter().map(|process_id| named(known, self.place, process_id, how)));
        if self.parties.is_empty() {
            let openers = self.openers.iter().map(|process_id| named(known, self.place, *process_id, How::Opener));
            self.parties = openers.collect();
        }
    }

    /// Who holds the semaphore, or, if it is no lock, who gives.
    fn find_holders(&mut self, known: &Known, deeds: &Deeds) {
        let balances: Vec<Balance<'_>> = deeds.actors.iter().map(|a| Balance::new(known, self, a, deeds)).collect();
        self.outsiders = balances.iter().filter(|b| b.gave || b.net > 0).map(|b| b.actor.process_id).collect();
        let setter = known.resets.get(&self.place).filter(|_| deeds.all.before_reset).map(|reset| reset.process_id);
        self.outsiders.extend(setter);
        let holders: Vec<&Balance<'_>> = balances.iter().filter(|balance| balance.holds > 0).collect();
        let held = holders.iter().fold(0i64, |sum, balance| sum.saturating_add(balance.holds));
        self.capacity = self.seen.or(self.left).map(|value| value.saturating_add(held));
        let is_mutex = matches!(holders[..], [one] if one.is_undo && self.capacity.unwrap_or(held) == 1);
        let is_signal = setter.is_some() || balances.iter().any(|balance| balance.net > 0);
        let is_kept = |balance: &Balance<'_>| is_mutex || !is_signal || balance.is_undo;
        self.parties = holders.iter().filter(|b| is_kept(b)).map(|b| b.party(known, self.place)).collect();
        if is_signal && !is_mutex {
            let givers = balances.iter().filter(|balance| balance.net > 0);
            self.parties.extend(givers.map(|b| party(known, self.place, b.actor, How::Giver, ANY)));
            self.parties.extend(setter.map(|process_id| named(known, self.place, process_id, How::Setter)));
        } else if self.counts_tokens(deeds, held) {
            // Units that were never given back are no locks: who knows who adds more.
            self.add_others();
        } else if self.parties.is_empty() && self.is_late {
            let last = known.last_changers.get(&self.place).filter(|_| self.snapshot_ns.is_some());
            self.parties.extend(last.map(|process_id| named(known, self.place, *process_id, How::LastPid)));
        }
    }

    fn counts_tokens(&self, deeds: &Deeds, held: i64) -> bool {
        let is_estimate = self.parties.iter().any(|party| party.how == How::Balance);
        is_estimate && deeds.all.given == 0 && self.capacity.unwrap_or(held) > 1
    }
}

fn party(known: &Known, place: Place, actor: &Actor, how: How, gives: i64) -> Party {
    Party {
        process_id: Some(actor.process_id),
        how,
        gives,
        since_ns: actor.sums.last_take.map(|(ns, _)| ns).filter(|_| how.is_hold()),
        call_id: actor.sums.last_take.map(|(_, call_id)| call_id).filter(|_| how.is_hold()),
        is_gone: known.is_gone(place.0, actor.process_id),
        takers: actor.takers.clone(),
    }
}

fn named(known: &Known, place: Place, process_id: i64, how: How) -> Party {
    let is_gone = known.is_gone(place.0, process_id);
    Party { process_id: Some(process_id), how, gives: ANY, since_ns: None, call_id: None, is_gone, takers: Vec::new() }
}

/// What a process took and gave, without what it gave as the initial value or took before the trace.
struct Balance<'a> {
    actor: &'a Actor,
    /// Given less taken.
    net: i64,
    /// How much it holds.
    holds: i64,
    /// Whether all of that comes back by SEM_UNDO.
    is_undo: bool,
    /// Whether it gave what it had not taken.
    gave: bool,
}

impl<'a> Balance<'a> {
    fn new(known: &Known, site: &Site, actor: &'a Actor, deeds: &Deeds) -> Balance<'a> {
        let sums = &actor.sums;
        let (mut net, mut undo) = (sums.given.saturating_sub(sums.taken), sums.undo);
        let before = |ns: Option<i64>, first: Option<i64>| ns.is_some_and(|ns| first.is_none_or(|first| ns <= first));
        let given_ns = sums.first_given.map(|given| given.end_ns);
        // The first that was ever given, before anything was taken, is the initial value.
        let is_initial = !site.is_late && before(given_ns, deeds.all.first_take_ns);
        // Who first gives, and was there before the trace, took it then.
        let was_held = site.is_late
            && before(given_ns, sums.first_take_ns)
            && (sums.taken > 0 || sums.first_given.is_some_and(|given| given.undo));
        if let Some(given) = sums.first_given.filter(|_| is_initial || was_held) {
            net = net.saturating_sub(given.amount);
            undo = undo.saturating_add(if given.undo { given.amount } else { 0 });
        }
        let mut holds = net.saturating_neg().max(0);
        if known.is_gone(site.place.0, actor.process_id) {
            holds = holds.saturating_sub(undo.max(0)).max(0);
        }
        let gave = is_initial || sums.later > 0 || (!was_held && before(given_ns, sums.first_take_ns));
        Balance { actor, net, holds, is_undo: undo >= holds && holds > 0, gave }
    }

    fn party(&self, known: &Known, place: Place) -> Party {
        party(known, place, self.actor, if self.is_undo { How::Undo } else { How::Balance }, self.holds)
    }
}
