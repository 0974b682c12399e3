//! `deadlocks` on exact small cases, and on simulated lock orders.

mod scene;
mod simulated;

use crate::rows::{LASTED_NS, Rows};
use crate::{findings, on, rows, stdout};
use ipc_schema::tables::CALLS;
use scene::{Scene, UNDO, found};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECOND: i64 = 1_000_000_000;

const CERTAIN: [&str; 1] = ["deadlock certain sem:5"];
const LIKELY: [&str; 1] = ["deadlock likely sem:5"];
const SUSPECT: [&str; 1] = ["deadlock suspect sem:5"];
const NOTHING: [&str; 0] = [];

/// Processes 2, 3 and 4 hold semaphores 0, 1 and 2 and wait for the next one's.
fn ring() -> Scene {
    let mut scene = Scene::new(&[1, 1, 1]);
    (0..3).for_each(|i| scene.add(2 + i, i as i32, -1, UNDO));
    for i in 0..3 {
        scene.wait(2 + i, (i as i32 + 1) % 3, -1);
    }
    scene
}

/// The same of two, without SEM_UNDO.
fn pair_without_undo() -> Scene {
    let mut scene = Scene::new(&[1, 1]);
    scene.cross(0);
    scene
}

#[test]
fn a_ring_held_with_sem_undo_is_certain() {
    let scene = ring();
    assert_eq!(scene.found(), CERTAIN);
    let what = scene.said("what");
    let begins = "2 p2 waits for sem:5[1], held by 3 p3 (SEM_UNDO, since 12:00:00.000001550), which waits for sem:5[2], \
                  held by 4 p4 (SEM_UNDO, since ";
    assert!(what.starts_with(begins), "{what}");
    assert!(what.ends_with("which waits for sem:5[0], held by 2 p2 (SEM_UNDO, since 12:00:00.000001450)"), "{what}");
    assert_eq!(scene.said("evidence"), "[7,8,9,5,6,4]");
    assert_eq!(scene.said("doubts"), "[]");
    let since: i64 = scene.said("since_ns").parse().unwrap();
    assert_eq!(since, crate::fixture::START_NS + 1900);
    assert!(scene.said("remedy").starts_with("ending 3 p3 gives back sem:5[1] (SEM_UNDO)"));
}

#[test]
fn check_ends_with_one_and_a_chain_behind_is_no_circle_of_its_own() {
    let mut scene = ring();
    // 5 waits for the ring, and holds nothing.
    scene.wait(5, 0, -1);
    assert_eq!(scene.found(), CERTAIN);
    let (_directory, trace) = scene.write();
    assert_eq!(on("deadlocks", &trace, &["--check"]).status.code(), Some(1));
    let waiters: Vec<String> = rows("deadlocks", &trace, &[])
        .into_iter()
        .filter(|row| row["section"] == "waiter")
        .map(|row| format!("{} {}", row["pid"], row["circle"]))
        .collect();
    assert_eq!(waiters, [r#"2 "in""#, r#"3 "in""#, r#"4 "in""#, r#"5 "behind""#]);
    let text = stdout(&on("deadlocks", &trace, &[]));
    assert!(text.contains("1 call more cannot end before these do."), "{text}");
}

#[test]
fn edges_name_who_holds_what_and_how_that_is_known() {
    let (_directory, trace) = ring().write();
    let edges: Vec<Value> = rows("deadlocks", &trace, &[]).into_iter().filter(|r| r["section"] == "edge").collect();
    let told = |row: &Value| format!("{} {} {} {}", row["pid"], row["sem_num"], row["holder_pid"], row["how_known"]);
    assert_eq!(edges.iter().map(told).collect::<Vec<_>>(), [r#"2 1 3 "undo""#, r#"3 2 4 "undo""#, r#"4 0 2 "undo""#]);
    assert!(edges.iter().all(|row| row["gives"] == 1 && row["holder_waits"] == true));
}

#[test]
fn a_ring_that_is_open_is_nothing() {
    // The last one does not wait, or has been let through.
    for finish in [false, true] {
        let mut scene = ring();
        let last = scene.calls.pop().unwrap();
        if finish {
            let mut ended = last;
            ended["end_ns"] = json!(LASTED_NS - 1);
            scene.calls.push(ended);
        }
        assert_eq!(scene.found(), NOTHING);
    }
}

#[test]
fn what_was_given_back_is_not_held() {
    let mut scene = Scene::new(&[1, 1]);
    scene.add(2, 0, -1, UNDO);
    scene.add(3, 1, -1, UNDO);
    scene.add(2, 0, 1, UNDO);
    scene.wait(2, 1, -1);
    scene.wait(3, 0, -1);
    assert_eq!(scene.found(), NOTHING);
}

#[test]
fn a_reset_clears_what_was_held() {
    let mut scene = Scene::new(&[1, 1]);
    scene.add(2, 0, -1, UNDO);
    scene.add(3, 1, -1, UNDO);
    scene.set(1, 0, 0);
    scene.wait(2, 1, -1);
    scene.wait(3, 0, -1);
    // Nobody holds semaphore 0 any more: who sets it once can set it again.
    assert_eq!(scene.found(), NOTHING);
}

#[test]
fn an_operation_that_overlaps_the_reset_makes_it_likely() {
    let mut scene = ring();
    let first = scene.calls.iter().position(|call| call["process_id"] == 2).unwrap();
    let reset = scene.calls[0]["start_ns"].as_i64().unwrap();
    scene.calls[first]["start_ns"] = json!(reset + 10);
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("overlaps a SETVAL or SETALL"));
    // One that was woken by the reset came after it.
    let until = scene.calls[first]["end_ns"].as_i64().unwrap();
    scene.calls[first]["wait_ns"] = json!(until - reset - 20);
    assert_eq!(scene.found(), CERTAIN);
}

#[test]
fn without_sem_undo_it_is_likely() {
    let scene = pair_without_undo();
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("taken without SEM_UNDO: sem:5[0], sem:5[1]"));
    assert!(scene.said("remedy").starts_with("no death gives back"));
}

#[test]
fn an_outsider_that_added_before_makes_it_likely() {
    // The maker sets 0 and adds 1, as some programs initialise.
    let mut scene = Scene::new(&[0, 1]);
    scene.add(1, 0, 1, 0);
    scene.cross(UNDO);
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("1 p1, which does not wait here, has added to sem:5[0]"));
    // One that has ended cannot do it again.
    scene.processes[0]["exit_ns"] = json!(5000);
    assert_eq!(scene.found(), CERTAIN);
}

#[test]
fn several_operations_make_it_likely() {
    let mut scene = ring();
    let call = scene.calls.last_mut().unwrap();
    call["sem_ops_total"] = json!(2);
    let id = call["call_id"].clone();
    scene.sem_ops = vec![
        json!({ "call_id": id, "position": 0, "sem_num": 0, "sem_op": -1, "sem_flags": UNDO }),
        json!({ "call_id": id, "position": 1, "sem_num": 2, "sem_op": 1, "sem_flags": 0 }),
    ];
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("1 call with several operations at once"));
}

#[test]
fn a_timeout_makes_it_likely() {
    let mut scene = ring();
    scene.calls.last_mut().unwrap()["timeout_ns"] = json!(5 * SECOND);
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("4 p4 gives up after 5.00 s"));
}

#[test]
fn losses_and_filters_make_it_likely() {
    assert_eq!(found(&ring().rows().losing(3)), LIKELY);
    assert_eq!(found(&ring().rows().session(|session| session.filters.pids = vec![2])), LIKELY);
    let only = |session: &mut ipc_schema::manifest::Session| session.filters.syscalls = vec!["semop".to_owned()];
    assert_eq!(found(&ring().rows().session(only)), LIKELY);
    let (_directory, trace) = ring().write();
    let asked = findings("deadlocks", &trace, &["--object", "sem:5"]);
    assert_eq!(asked.into_iter().map(|finding| finding.join(" ")).collect::<Vec<_>>(), LIKELY);
    assert!(findings("deadlocks", &trace, &["--pid", "2,3"]).is_empty());
}

#[test]
fn a_late_start_makes_it_likely() {
    let mut scene = Scene::older();
    scene.cross(UNDO);
    scene.snapshot(&[0, 0], &[1, 1], &[2, 3]);
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("older than the recording: sem:5[0], sem:5[1]"));
    // Set anew in the trace: then all is known.
    let mut scene = ring();
    scene.lifetimes[0].as_object_mut().unwrap().remove("created_ns");
    assert_eq!(scene.found(), CERTAIN);
}

#[test]
fn who_held_it_when_the_recording_began_holds_it_again() {
    let mut scene = Scene::older();
    // 2 took it before the recording.
    scene.add(2, 0, 1, UNDO);
    scene.cross(UNDO);
    scene.snapshot(&[0, 0], &[1, 1], &[2, 3]);
    assert_eq!(scene.found(), LIKELY);
}

/// Only a snapshot knows anything: the deadlock is older than the recording.
fn old_ring() -> Scene {
    let mut scene = Scene::older();
    scene.wait(2, 1, -1)["began"] = json!("before_trace");
    scene.wait(3, 0, -1)["began"] = json!("before_trace");
    scene.snapshot(&[0, 0], &[1, 1], &[2, 3]);
    scene
}

#[test]
fn an_old_deadlock_is_likely_by_who_changed_the_semaphores_last() {
    let scene = old_ring();
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("known only from who changed it last"));
    assert!(scene.said("what").contains("last changed by"));
}

#[test]
fn a_snapshot_that_contradicts_it_ends_it() {
    let mut there = old_ring();
    there.objects[0]["sem_values"] = json!([0, 1]);
    assert_eq!(there.found(), NOTHING, "what 2 waits for is there");
    let mut nobody = old_ring();
    nobody.objects[0]["sem_waiters"] = json!([1, 0]);
    assert_eq!(nobody.found(), NOTHING, "the kernel knows of nobody who waits for semaphore 1");
    let mut other = old_ring();
    other.objects[0]["sem_last_pids"] = json!([2, 4]);
    assert_eq!(other.found(), NOTHING, "4 has it, and does not wait");
    let mut own = old_ring();
    own.objects[0]["sem_last_pids"] = json!([3, 2]);
    assert_eq!(own.found(), NOTHING, "each changed last what it waits for: it used it up");
}

#[test]
fn values_that_do_not_add_up_make_it_likely() {
    let mut scene = ring();
    scene.snapshot(&[0, 0, 0], &[1, 1, 1], &[2, 3, 4]);
    assert_eq!(scene.found(), CERTAIN);
    // By the calls semaphore 0 has 1 to give: somebody unseen took it.
    let mut scene = Scene::new(&[2, 1]);
    scene.cross(UNDO);
    scene.snapshot(&[0, 0], &[1, 1], &[2, 3]);
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("sem:5[0] is 0, the recorded calls leave 1"));
}

#[test]
fn a_counting_semaphore_needs_all_its_holders_to_wait() {
    let mut scene = Scene::new(&[2, 1]);
    scene.add(2, 0, -1, UNDO);
    scene.add(4, 0, -1, UNDO);
    scene.add(3, 1, -1, UNDO);
    scene.wait(2, 1, -1);
    scene.wait(3, 0, -1);
    assert_eq!(scene.found(), NOTHING, "4 holds a unit and works");
    scene.wait(4, 1, -1);
    assert_eq!(scene.found(), LIKELY);
}

#[test]
fn more_units_need_more_holders() {
    let mut scene = Scene::new(&[2, 1]);
    scene.add(2, 0, -1, UNDO);
    scene.add(4, 0, -1, UNDO);
    scene.add(3, 1, -1, UNDO);
    scene.wait(2, 1, -1);
    // It needs both units: that 4 gives back one does not help.
    scene.wait(3, 0, -2);
    assert_eq!(scene.found(), LIKELY);
}

#[test]
fn a_holder_with_another_thread_is_not_certain() {
    let mut scene = ring();
    scene.thread(3, 33);
    assert_eq!(scene.found(), LIKELY);
    assert!(scene.said("doubts").contains("threads that do not wait"));
    scene.threads.last_mut().unwrap()["exit_ns"] = json!(5000);
    assert_eq!(scene.found(), CERTAIN, "it has ended");
    // Without SEM_UNDO both are guesses.
    let mut scene = pair_without_undo();
    scene.thread(3, 33);
    assert_eq!(scene.found(), SUSPECT);
}

#[test]
fn a_process_that_takes_its_own_lock_twice() {
    let mut scene = Scene::new(&[1]);
    scene.add(2, 0, -1, UNDO);
    scene.wait(2, 0, -1);
    assert_eq!(scene.found(), CERTAIN);
    assert!(scene.said("what").ends_with(": itself"));
    // By the balance it may as well have used up what others add.
    let mut scene = Scene::new(&[1]);
    scene.add(2, 0, -1, 0);
    scene.wait(2, 0, -1);
    assert_eq!(scene.found(), NOTHING);
}

#[test]
fn a_dead_holder_is_no_circle() {
    let mut scene = Scene::new(&[1, 1]);
    scene.add(4, 0, -1, 0);
    scene.die(4);
    scene.wait(2, 0, -1);
    assert_eq!(scene.found(), NOTHING);
    // With SEM_UNDO it gave back what it held: 3 alone holds something.
    let mut scene = Scene::new(&[1, 1]);
    scene.add(4, 0, -1, UNDO);
    scene.die(4);
    scene.cross(UNDO);
    assert_eq!(scene.found(), CERTAIN);
}

#[test]
fn consumers_that_wait_for_a_producer_are_healthy() {
    let mut scene = Scene::new(&[0]);
    for _ in 0..5 {
        scene.add(1, 0, 1, 0);
        scene.add(2, 0, -1, 0);
        scene.add(1, 0, 1, 0);
        scene.add(3, 0, -1, 0);
    }
    scene.wait(2, 0, -1);
    scene.wait(3, 0, -1);
    assert_eq!(scene.found(), NOTHING);
    // Units that were there from the start and are used up.
    let mut scene = Scene::new(&[2]);
    scene.add(2, 0, -1, 0);
    scene.add(3, 0, -1, 0);
    scene.wait(2, 0, -1);
    scene.wait(3, 0, -1);
    assert_eq!(scene.found(), NOTHING);
}

/// 2 and 3 hand a token to each other.
fn ping_pong(rounds: usize) -> Scene {
    let mut scene = Scene::new(&[1, 0]);
    for _ in 0..rounds {
        scene.add(2, 0, -1, 0);
        scene.add(2, 1, 1, 0);
        scene.add(3, 1, -1, 0);
        scene.add(3, 0, 1, 0);
    }
    scene
}

#[test]
fn a_token_on_its_way_is_no_deadlock_a_lost_one_is() {
    let mut lost = ping_pong(3);
    // 2 takes the token and hands nothing on.
    lost.add(2, 0, -1, 0);
    lost.wait(2, 0, -1);
    lost.wait(3, 1, -1);
    assert_eq!(lost.found(), LIKELY);
    let mut under_way = ping_pong(3);
    under_way.now = LASTED_NS - 50_000_000;
    under_way.add(2, 0, -1, 0);
    under_way.wait(2, 0, -1);
    under_way.wait(3, 1, -1);
    assert_eq!(under_way.found(), NOTHING, "50 ms before the end");
}

#[test]
fn two_queues_are_likely() {
    let mut scene = Scene::new(&[]);
    scene.queue(1);
    scene.queue(2);
    for _ in 0..3 {
        scene.message(2, "msgsnd", 1, false);
        scene.message(3, "msgrcv", 1, false);
        scene.message(3, "msgsnd", 2, false);
        scene.message(2, "msgrcv", 2, false);
    }
    scene.message(2, "msgrcv", 2, true);
    scene.message(3, "msgrcv", 1, true);
    assert_eq!(scene.found(), ["deadlock likely msg:2"]);
    assert!(scene.said("what").contains("2 p2 waits for a message in msg:2, sent to by 3 p3"));
    let mut third = Scene { calls: scene.calls.clone(), ..scene };
    // 4 sends there, too, and does not wait.
    third.message(4, "msgsnd", 1, false)["start_ns"] = json!(10);
    third.calls.last_mut().unwrap()["end_ns"] = json!(20);
    assert_eq!(third.found(), NOTHING);
}

#[test]
fn a_full_queue_whose_receiver_waits_for_the_sender() {
    let mut scene = Scene::new(&[1]);
    scene.queue(1);
    scene.add(2, 0, -1, UNDO);
    scene.message(2, "msgsnd", 1, false);
    scene.message(3, "msgrcv", 1, false);
    // 2 sends while it holds the semaphore that the receiver wants.
    scene.message(2, "msgsnd", 1, true);
    scene.wait(3, 0, -1);
    assert_eq!(scene.found(), ["deadlock likely msg:1"]);
    let what = scene.said("what");
    assert!(
        what.contains("waits for room in msg:1, received from by 3 p3, which waits for sem:5[0], held by 2"),
        "{what}"
    );
}

#[test]
fn a_server_that_waits_for_clients_is_healthy() {
    let mut scene = Scene::new(&[]);
    scene.queue(1);
    scene.queue(2);
    scene.message(2, "msgsnd", 1, false);
    scene.message(3, "msgrcv", 1, false);
    scene.message(3, "msgsnd", 2, false);
    scene.message(2, "msgrcv", 2, false);
    scene.message(3, "msgrcv", 1, true);
    assert_eq!(scene.found(), NOTHING, "the client lives and does not wait");
    scene.die(2);
    assert_eq!(scene.found(), NOTHING, "clients came and went");
}

#[test]
fn nobody_knows_who_sends_to_a_queue_that_nobody_sent_to() {
    let mut scene = Scene::new(&[]);
    scene.queue(1);
    scene.queue(2);
    scene.message(2, "msgrcv", 2, true);
    scene.message(3, "msgrcv", 1, true);
    assert_eq!(scene.found(), NOTHING);
    // Each opened what the other waits for: a suspicion.
    scene.message(2, "msgget", 1, false);
    scene.message(3, "msgget", 2, false);
    for call in &mut scene.calls[2..] {
        call["start_ns"] = json!(10);
        call["end_ns"] = json!(20);
    }
    assert_eq!(scene.found(), ["deadlock suspect msg:2"]);
}

#[test]
fn a_wait_for_zero_needs_all_takers_to_wait() {
    let mut scene = Scene::new(&[1, 2]);
    scene.add(2, 0, -1, UNDO);
    scene.add(3, 1, -1, 0);
    scene.wait(2, 1, 0);
    scene.wait(3, 0, -1);
    assert_eq!(scene.found(), LIKELY);
    let mut other = Scene { calls: scene.calls.clone(), ..scene };
    other.add(4, 1, -1, 0);
    other.calls.last_mut().unwrap()["start_ns"] = json!(1300);
    other.calls.last_mut().unwrap()["end_ns"] = json!(1310);
    other.set(1, 1, 3);
    other.calls.last_mut().unwrap()["start_ns"] = json!(1290);
    other.calls.last_mut().unwrap()["end_ns"] = json!(1295);
    assert_eq!(other.found(), NOTHING);
}

#[test]
fn a_removed_set_and_a_dead_waiter_are_over() {
    let mut removed = ring();
    removed.lifetimes[0]["removed_ns"] = json!(50_000);
    assert_eq!(removed.found(), NOTHING);
    let mut dead = ring();
    dead.die(3);
    assert_eq!(dead.found(), NOTHING);
}

#[test]
fn a_deadlock_that_is_over_is_told_only_of_then() {
    let mut scene = ring();
    for call in scene.calls.iter_mut().filter(|call| call.get("end_ns").is_none()) {
        call["end_ns"] = json!(10 * SECOND);
    }
    assert_eq!(scene.found(), NOTHING);
    let (_directory, trace) = scene.write();
    let at = |time: &str| findings("deadlocks", &trace, &["--at", time]).len();
    assert_eq!((at("+5s"), at("+10s"), at("+11s"), at("+1us")), (1, 0, 0, 0));
}

#[test]
fn a_deadlock_that_ended_by_force_is_told() {
    let ended = |outcome: &str, error: Option<&str>| {
        let mut scene = ring();
        for (i, call) in scene.calls.iter_mut().filter(|call| call.get("end_ns").is_none()).enumerate() {
            call["end_ns"] = json!(10 * SECOND + i as i64);
            call["outcome"] = json!(outcome);
            call["error"] = json!(error);
        }
        scene
    };
    let mut killed = ended("killed", None);
    assert_eq!(killed.found(), CERTAIN);
    assert!(
        killed.said("what").ends_with("; that ended after 10.0 s, when 2 p2 was killed"),
        "{}",
        killed.said("what")
    );
    // A report draws it as it was, and says which command does.
    let (_directory, trace) = killed.write();
    let page = stdout(&on("report", &trace, &[]));
    assert_eq!(page.matches("class=\"arrow\"").count(), 3);
    assert!(page.contains("ipc-analyzer deadlocks --at 20") && !page.contains("No deadlock"), "{page}");
    let mut removed = ended("error", Some("EIDRM"));
    assert_eq!(removed.found(), CERTAIN);
    // The removal itself ends before the first of them returns.
    removed.lifetimes[0]["removed_ns"] = json!(10 * SECOND - 1000);
    assert_eq!(removed.found(), CERTAIN);
    assert!(removed.said("what").ends_with("when sem:5 was removed"));
    // Another one, which still stands, is told once.
    killed.wait(5, 0, -1);
    assert_eq!(killed.found(), CERTAIN);
    let still = ring();
    let mut calls = still.calls.clone();
    calls.push(json!({ "process_id": 5, "start_ns": 10, "end_ns": 20 * SECOND, "outcome": "killed", "call_id": 99 }));
    assert_eq!(Scene { calls, ..still }.found(), CERTAIN);
    // What others let go on was no deadlock.
    assert_eq!(ended("ok", None).found(), NOTHING);
}

#[test]
fn two_traces_do_not_mix() {
    let directory = TempDir::new().unwrap();
    let mut half = ring();
    half.calls.pop();
    let first = half.rows().write(directory.path(), "a");
    let second = ring().rows().write(directory.path(), "b");
    let found = findings("deadlocks", &first, &[second.to_str().unwrap()]);
    assert_eq!(found.len(), 1);
}

#[test]
fn empty_traces_and_calls_without_anything_are_no_deadlock() {
    assert_eq!(found(&Rows::new()), NOTHING);
    let bare = json!([{ "start_ns": 1 }, { "start_ns": 2, "syscall": "msgrcv", "process_id": 2 }]);
    assert_eq!(found(&Rows::new().with(&CALLS, bare)), NOTHING);
    let mut wild = ring();
    wild.wait(5, -7, i32::MIN);
    wild.add(5, i32::MAX, i32::MIN, -1);
    wild.call(5, true, json!({ "sem_ops_total": 900 }));
    assert_eq!(wild.found(), CERTAIN);
}
