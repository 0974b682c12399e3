//! Lock orders that are simulated beside the calls they make: who is stuck is known.

use super::CERTAIN;
use super::scene::{Scene, UNDO};
use crate::fixture::Random;
use crate::rows;
use serde_json::{Value, json};

/// Processes that take locks in random orders, one step at a time, until all have what they want or nobody can go on.
struct Simulation {
    wanted: Vec<Vec<usize>>,
    held: Vec<usize>,
    owner: Vec<Option<usize>>,
}

impl Simulation {
    fn new(random: &mut Random) -> Simulation {
        let (processes, locks) = (2 + random.below(3) as usize, 2 + random.below(3) as usize);
        let shuffled = |random: &mut Random| {
            let mut order: Vec<usize> = (0..locks).collect();
            (1..locks).rev().for_each(|i| order.swap(i, random.below(i as u64 + 1) as usize));
            order.truncate(1 + random.below(locks as u64) as usize);
            order
        };
        let wanted = (0..processes).map(|_| shuffled(random)).collect();
        Simulation { wanted, held: vec![0; processes], owner: vec![None; locks] }
    }

    fn next(&self, process: usize) -> Option<usize> {
        self.wanted[process].get(self.held[process]).copied()
    }

    /// Those who can never go on: what they want is held by such a one.
    fn stuck(&self) -> Vec<usize> {
        let blocker = |process: usize| self.next(process).and_then(|lock| self.owner[lock]);
        let is_stuck = |process: usize| {
            let chain = std::iter::successors(Some(process), |process| blocker(*process));
            chain.take(self.wanted.len() + 2).count() > self.wanted.len()
        };
        (0..self.wanted.len()).filter(|process| is_stuck(*process)).collect()
    }

    /// Those among them that are waited for by themselves in the end.
    fn circles(&self) -> Vec<usize> {
        let blocker = |process: usize| self.next(process).and_then(|lock| self.owner[lock]);
        let returns = |process: usize| {
            let mut at = blocker(process);
            for _ in 0..self.wanted.len() {
                if at == Some(process) {
                    return true;
                }
                at = at.and_then(blocker);
            }
            false
        };
        (0..self.wanted.len()).filter(|process| returns(*process)).collect()
    }
}

#[test]
fn simulated_lock_orders_are_told_as_they_are() {
    let mut random = Random(20_261_122);
    let (mut closed, mut behind) = (0, 0);
    for _ in 0..60 {
        let mut simulation = Simulation::new(&mut random);
        let mut scene = Scene::new(&vec![1; simulation.owner.len()]);
        let mut waiting = vec![false; simulation.wanted.len()];
        for _ in 0..40 {
            let process = random.below(simulation.wanted.len() as u64) as usize;
            let id = process as i64 + 2;
            if waiting[process] {
                continue;
            }
            match simulation.next(process) {
                // It has all: it gives back and goes home, so that others go on; its place stays as it is.
                None => {
                    for lock in std::mem::take(&mut simulation.wanted[process]) {
                        scene.add(id, lock as i32, 1, UNDO);
                        simulation.owner[lock] = None;
                    }
                    simulation.held[process] = 0;
                }
                Some(lock) if simulation.owner[lock].is_none() => {
                    scene.add(id, lock as i32, -1, UNDO);
                    simulation.owner[lock] = Some(process);
                    simulation.held[process] += 1;
                }
                Some(lock) => {
                    scene.wait(id, lock as i32, -1);
                    waiting[process] = true;
                }
            }
            // Who waits for a lock that is free again takes it.
            for (process, is_waiting) in waiting.iter_mut().enumerate() {
                if *is_waiting
                    && let Some(lock) = simulation.next(process)
                    && simulation.owner[lock].is_none()
                {
                    let open =
                        |call: &&mut Value| call["process_id"] == process as i64 + 2 && call.get("end_ns").is_none();
                    scene.now += 100;
                    let now = scene.now;
                    scene.calls.iter_mut().find(open).unwrap()["end_ns"] = json!(now);
                    simulation.owner[lock] = Some(process);
                    simulation.held[process] += 1;
                    *is_waiting = false;
                }
            }
        }
        let is_waiting = |process: &usize| waiting[*process];
        let stuck: Vec<usize> = simulation.stuck().into_iter().filter(is_waiting).collect();
        let circles = simulation.circles();
        let told = circles.iter().all(is_waiting) && simulation.stuck().iter().all(is_waiting);
        if !told {
            // Somebody in it has not asked yet.
            continue;
        }
        let (_directory, trace) = scene.write();
        let mut inside = Vec::new();
        let mut outside = Vec::new();
        for row in rows("deadlocks", &trace, &[]).into_iter().filter(|row| row["section"] == "waiter") {
            let process = row["process_id"].as_i64().unwrap() as usize - 2;
            match row["circle"].as_str() {
                Some("in") => inside.push(process),
                Some("behind") => outside.push(process),
                _ => {}
            }
        }
        inside.sort_unstable();
        outside.extend(&inside);
        outside.sort_unstable();
        assert_eq!((&inside, &outside), (&circles, &stuck), "{:?}", simulation.wanted);
        let grades: Vec<String> = scene.found();
        assert!(grades.iter().all(|found| found == CERTAIN[0]), "{grades:?}");
        assert_eq!(grades.is_empty(), circles.is_empty());
        closed += usize::from(!circles.is_empty());
        behind += usize::from(stuck.len() > circles.len());
    }
    assert!(closed >= 5 && behind >= 2, "{closed} circles and {behind} with others behind: it tests too little");
}
