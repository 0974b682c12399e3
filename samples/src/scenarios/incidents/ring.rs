//! Processes that each hold a semaphore with SEM_UNDO and wait for the next one's.

use super::object::set_text;
use super::plan::Plan;
use super::{add, perhaps_forever};
use crate::call::{Caller, SemArgument, sop, succeed};
use crate::context::Context;
use crate::scenarios::{make_set, remove_set, set_value};
use crate::{Failure, Result, board, process};
use libc::{SEM_UNDO, SYS_semop, SYS_semtimedop};
use std::sync::atomic::{AtomicI64, Ordering};

/// The ring: who waits, and where its semaphores are.
pub(super) struct Ring {
    /// The waiting processes.
    pub(super) pids: Vec<i32>,
    sets: Vec<i32>,
    shape: Shape,
}

/// What the processes know when they start.
#[derive(Clone, Copy)]
struct Shape {
    processes: u16,
    /// Each semaphore is in a set of its own.
    apart: bool,
    /// Critical sections before it goes wrong.
    rounds: u64,
    /// The system call of the waits.
    entry: i64,
    /// How many operations each wait has.
    operations: usize,
}

impl Ring {
    /// Sets of semaphores, each 1 or, in the end, as `initial` has it; nobody works yet.
    pub(super) fn make(
        context: &Context,
        caller: &mut Caller,
        plan: &mut Plan,
        operations: usize,
        initial: i32,
    ) -> Result<Ring> {
        let shape = Shape {
            processes: plan.number("processes", 2..=5) as u16,
            apart: plan.flip("sets_apart"),
            rounds: plan.number("rounds", 0..=20),
            entry: plan.choice("entry", &[("semop", SYS_semop), ("semtimedop", SYS_semtimedop)]),
            operations,
        };
        let sets = if shape.apart { shape.processes } else { 1 };
        // Behind the ring's semaphores one for each process that nobody else touches.
        let count = if shape.apart { 2 } else { 2 * shape.processes };
        let sets = (0..sets).map(|_| make_set(context, caller, count)).collect::<Result<Vec<i32>>>()?;
        let ring = Ring { pids: Vec::new(), sets, shape };
        ring.initialise(caller, plan, initial)?;
        Ok(ring)
    }

    fn initialise(&self, caller: &mut Caller, plan: &mut Plan, initial: i32) -> Result<()> {
        if !self.shape.apart && plan.flip("by_setall") {
            let mut values = [0; 512];
            values[..self.shape.processes.into()].fill(initial as u16);
            let set = self.sets[0];
            succeed("semctl SETALL", caller.semctl(set, 0, libc::SETALL, SemArgument::Values(&mut values)))?;
            return Ok(());
        }
        (0..self.shape.processes).try_for_each(|own| {
            let (set, number) = self.place(own);
            set_value(caller, set, number, initial)
        })
    }

    /// The set and the number of a process's semaphore.
    pub(super) fn place(&self, own: u16) -> (i32, u16) {
        let own = own % self.shape.processes;
        if self.shape.apart { (self.sets[usize::from(own)], 0) } else { (self.sets[0], own) }
    }

    /// How many processes.
    pub(super) fn processes(&self) -> u16 {
        self.shape.processes
    }

    /// Starts the processes and returns when all sleep in their second step.
    pub(super) fn close(&mut self, context: &mut Context) -> Result<()> {
        let holders = &board::new(1)?[0];
        for own in 0..self.shape.processes {
            let pid = process::fork(context, |context| self.take_part(context, own, holders))?;
            self.pids.push(pid);
        }
        self.pids.iter().try_for_each(|pid| process::wait_until_inside(*pid, self.shape.entry).map(drop))
    }

    fn take_part(&self, context: &Context, own: u16, holders: &AtomicI64) -> Result<()> {
        let mut caller = context.caller(2 * self.shape.rounds + 4);
        let (set, number) = self.place(own);
        for _ in 0..self.shape.rounds {
            add(&mut caller, set, number, -1, SEM_UNDO)?;
            add(&mut caller, set, number, 1, SEM_UNDO)?;
        }
        add(&mut caller, set, number, -1, SEM_UNDO)?;
        holders.fetch_add(1, Ordering::AcqRel);
        board::wait_for(holders, self.shape.processes.into())?;
        let (next, next_number) = self.place(own + 1);
        let spare = if self.shape.apart { 1 } else { self.shape.processes + (own + 1) % self.shape.processes };
        let sops = [sop(next_number, -1, SEM_UNDO), sop(spare, 1, 0)];
        match perhaps_forever(&mut caller, self.shape.entry, next, &sops[..self.shape.operations]) {
            // Somebody let it go: it gives back what it has.
            Ok(_) => {
                give_back(&mut caller, next, next_number)?;
                give_back(&mut caller, set, number)?;
            }
            Err(libc::EIDRM | libc::EINVAL) => {}
            Err(errno) => return Err(Failure::new(format!("semop in a ring ended with errno {errno}"))),
        }
        caller.finish()
    }

    /// The sets as `--object` takes them.
    pub(super) fn objects(&self) -> Vec<String> {
        self.sets.iter().copied().map(set_text).collect()
    }

    /// Removes the sets.
    pub(super) fn remove(&self, caller: &mut Caller) -> Result<()> {
        self.sets.iter().try_for_each(|set| remove_set(caller, *set))
    }
}

/// Gives back a semaphore whose set may be gone by now.
fn give_back(caller: &mut Caller, set: i32, number: u16) -> Result<()> {
    match caller.semop(set, &[sop(number, 1, SEM_UNDO)]) {
        Err(libc::EIDRM | libc::EINVAL) => Ok(()),
        other => succeed("semop", other).map(drop),
    }
}
