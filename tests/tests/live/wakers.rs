//! Who ended each wait: the workload knows, because it leaves only one call that can.

use ipc_tests::differences::Differences;
use ipc_tests::environment::{self, Live};
use ipc_tests::recorded::Recorded;
use ipc_tests::trace::Trace;
use ipc_tests::waits::{self, Wait, Waker};
use serde_json::Value;
use std::collections::HashSet;

fn numbers(value: &Value) -> Vec<i32> {
    value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap() as i32).collect()
}

/// The calls of a process, of one operation, by their start.
fn of<'a>(waits: &'a [Wait], pid: i32, syscall: &str) -> Vec<&'a Wait> {
    waits.iter().filter(|wait| wait.pid == pid && wait.syscall == syscall).collect()
}

/// The call slept, was woken so often, and its time is its wait and the delay after it.
fn check_slept(differences: &mut Differences, what: &str, wait: &Wait, wakings: i64) {
    differences.compare(&format!("{what}: slept"), wait.slept, Some(1));
    differences.compare(&format!("{what}: wakings"), wait.wakings, Some(wakings));
    let sum = wait.wait_ns.zip(wait.wakeup_delay_ns).map(|(wait_ns, delay_ns)| wait_ns + delay_ns);
    differences.compare(&format!("{what}: wait_ns + wakeup_delay_ns"), sum, wait.duration_ns);
    let both = wait.wait_ns.is_some_and(|ns| ns > 0) && wait.wakeup_delay_ns.is_some_and(|ns| ns >= 0);
    differences.check(both, || format!("{what}: wait {:?}, delay {:?}", wait.wait_ns, wait.wakeup_delay_ns));
}

/// The call did not sleep: nobody woke it.
fn check_awake(differences: &mut Differences, what: &str, wait: &Wait) {
    differences.compare(&format!("{what}: slept, wait_ns"), (wait.slept, wait.wait_ns), (Some(0), Some(0)));
    differences.compare(&format!("{what}: reason"), wait.wake_reason.as_deref(), None);
    differences.compare(&format!("{what}: waker"), &wait.waker, &Waker::default());
}

/// The call slept until `waker`'s call, for this reason.
fn check_woken_by(differences: &mut Differences, what: &str, wait: &Wait, waker: &Wait, reason: &str) {
    differences.compare(&format!("{what}: reason"), wait.wake_reason.as_deref(), Some(reason));
    differences.compare(&format!("{what}: waker"), &wait.waker, &waker.as_waker());
    differences.check(wait.woken_ns().is_some_and(|woken_ns| waker.surrounds(woken_ns)), || {
        format!("{what}: woken at {:?}, outside [{}, {:?}]", wait.woken_ns(), waker.start_ns, waker.end_ns)
    });
}

/// No wait names a process that stands by, but in semget, where all of them wait for one lock of the kernel, and truly wake
/// each other; returns how many calls those made.
fn check_bystanders(differences: &mut Differences, waits: &[Wait], json: &Value) -> usize {
    let bystanders = numbers(&json["bystanders"]);
    let own: Vec<&Wait> = waits.iter().filter(|wait| bystanders.contains(&wait.pid)).collect();
    let ids: HashSet<Option<i64>> = own.iter().map(|wait| Some(wait.process_id)).collect();
    assert_eq!(ids.len(), bystanders.len(), "processes that stand by");
    for wait in waits.iter().filter(|wait| !bystanders.contains(&wait.pid) && wait.syscall != "semget") {
        let named = ids.contains(&wait.waker.process_id);
        differences.check(!named, || format!("{} {} names a bystander", wait.syscall, wait.call_id));
    }
    own.len()
}

/// The wait ended for this reason, by nobody.
fn check_nobody(differences: &mut Differences, what: &str, wait: &Wait, reason: &str) {
    differences.compare(&format!("{what}: reason"), wait.wake_reason.as_deref(), Some(reason));
    differences.compare(&format!("{what}: waker"), &wait.waker, &Waker::default());
}

/// The k-th take of each process in the ring is ended by the k-th give of the one before it. Returns how many slept.
fn check_ring(differences: &mut Differences, waits: &[Wait], ring: &[i32], switches: &[&str]) -> [usize; 2] {
    let [mut slept, mut uncounted] = [0; 2];
    let steps = |pid: i32, added: i64| {
        of(waits, pid, "semtimedop").into_iter().filter(|wait| wait.sem_op == Some(added)).collect::<Vec<_>>()
    };
    for (place, (pid, switches)) in ring.iter().zip(switches).enumerate() {
        let giver = ring[(place + ring.len() - 1) % ring.len()];
        let (takes, gives) = (steps(*pid, -1), steps(giver, 1));
        assert_eq!((takes.len(), gives.len()), (switches.len(), switches.len()), "takes of {pid}, gives of {giver}");
        for (turn, ((take, give), switched)) in takes.iter().zip(gives).zip(switches.chars()).enumerate() {
            let what = format!("take {turn} of process {pid}, call {}", take.call_id);
            // A waking that comes before the thread is off its CPU saves the switch, not the sleep.
            if switched == '1' || take.slept == Some(1) {
                check_slept(differences, &what, take, 1);
                check_woken_by(differences, &what, take, give, "peer");
                slept += 1;
                uncounted += usize::from(switched == '0');
            } else {
                check_awake(differences, &what, take);
            }
        }
    }
    [slept, uncounted]
}

/// One recording of 8 processes; returns how many hand-offs there were, slept, and slept without a switch.
fn record_ring(tokens: &str, way: &str) -> [usize; 3] {
    // All records fit into the rings: nothing is lost, however little of the machine the recorder gets.
    let arguments = ["handoffs", "--count", "1250", "--processes", "8", "--tokens", tokens];
    let Recorded { trace, json, .. } = &Recorded::run(&["--syscall", "%sem", "--attach", way], &arguments);
    let waits = waits::read(trace);
    let switches: Vec<&str> = json["switches"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    let mut differences = Differences::default();
    let [slept, uncounted] = check_ring(&mut differences, &waits, &numbers(&json["ring"]), &switches);
    differences.none();
    [8 * 1250, slept, uncounted]
}

#[test]
fn every_hand_off_names_the_call_that_gave() {
    let Some(_live) = Live::ready() else { return };
    for (tokens, way) in [("1", "auto"), ("3", "auto"), ("3", "raw-tracepoint")] {
        let mut sums = [0; 3];
        for _ in 0..environment::count(5, 50).max(1) {
            record_ring(tokens, way).iter().zip(&mut sums).for_each(|(value, sum)| *sum += value);
        }
        let [performed, slept, uncounted] = sums;
        println!("{performed} hand-offs, {tokens} token(s), {way}: {slept} slept, {uncounted} without a switch");
        // With one token 7 of 8 processes wait at any time; some hand-offs are to a process that did not sleep yet.
        assert!(tokens != "1" || slept * 10 >= performed * 9, "{slept} of {performed} slept");
        assert!(uncounted * 100 <= performed, "{uncounted} slept by the trace, and not by the kernel's count");
    }
}

/// The wait of a case, and its waker as the workload tells it.
fn check_special(differences: &mut Differences, trace: &Trace, waits: &[Wait], case: &Value) {
    let text = |name: &str| case[name].as_str();
    let integer = |name: &str| case[name].as_i64().unwrap();
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let what = text("case").unwrap();
    let mut slept = of(waits, integer("waiter") as i32, text("syscall").unwrap());
    slept.retain(|wait| wait.slept == Some(1));
    let [wait] = slept[..] else {
        return differences.check(false, || format!("{what}: sleeping calls of the waiter: {slept:?}"));
    };
    check_slept(differences, what, wait, 1);
    differences.compare(&format!("{what}: error"), wait.error.as_deref(), text("error"));
    let acted = offset_ns + integer("from_ns")..=offset_ns + integer("to_ns");
    differences.check(wait.woken_ns().is_some_and(|woken_ns| acted.contains(&woken_ns)), || {
        format!("{what}: woken at {:?}, not in {acted:?}", wait.woken_ns())
    });
    let reason = text("reason").unwrap();
    let (waker, waker_tid) = (integer("waker") as i32, integer("waker_tid") as i32);
    let Some(syscall) = text("waker_syscall") else {
        let waker = Waker {
            process_id: Some(waits::process_id(trace, waker)),
            thread_id: Some(waits::thread_id(trace, waker_tid)),
            comm: Some("ipc-workload".to_owned()),
            ..Waker::default()
        };
        differences.compare(&format!("{what}: waker"), &wait.waker, &waker);
        return differences.compare(&format!("{what}: reason"), wait.wake_reason.as_deref(), Some(reason));
    };
    let from_ns = *acted.start();
    let calls = of(waits, waker, syscall);
    let mut calls = calls.into_iter().filter(|call| call.tid == waker_tid && call.start_ns >= from_ns);
    // resize asks by IPC_STAT first: the one that wakes is the last.
    let call = if syscall == "msgctl" { calls.next_back() } else { calls.next() };
    let Some(call) = call else {
        return differences.check(false, || format!("{what}: no {syscall} of thread {waker_tid} after {from_ns}"));
    };
    check_woken_by(differences, what, wait, call, reason);
}

#[test]
fn every_special_waker_is_named() {
    let Some(_live) = Live::ready() else { return };
    for way in ["auto", "raw-tracepoint"] {
        let Recorded { trace, json, .. } = &Recorded::run(&["--attach", way], &["special-wakers"]);
        let waits = waits::read(trace);
        let cases = json["wakings"].as_array().unwrap();
        let mut differences = Differences::default();
        for case in cases {
            check_special(&mut differences, trace, &waits, case);
        }
        println!("{way}: {} cases, {} values", cases.len(), differences.compared());
        differences.none();
        assert!(cases.len() >= 21, "{} cases", cases.len());
    }
}

/// The call slept and no waking of it was traced: nothing is claimed about its wait. Says whether it is such a call.
fn is_unexplained(differences: &mut Differences, what: &str, wait: &Wait) -> bool {
    if wait.slept.is_some() {
        return false;
    }
    let claimed = (wait.wait_ns, wait.wake_reason.as_deref());
    differences.compare(&format!("{what}: wait_ns, wake_reason"), claimed, (None, None));
    differences.compare(&format!("{what}: waker"), &wait.waker, &Waker::default());
    true
}

/// The calls of a waiter that timed out: nobody woke them. Returns how many slept, for how many it was too late, and how
/// many slept without a waking that the kernel told of.
fn check_timeouts(differences: &mut Differences, waits: &[Wait], waiter: i32) -> [usize; 3] {
    let [mut slept, mut late, mut unexplained] = [0; 3];
    for wait in waits.iter().filter(|wait| wait.pid == waiter) {
        let Some(error) = wait.error.as_deref().filter(|error| ["EAGAIN", "ETIMEDOUT"].contains(error)) else {
            continue;
        };
        let what = format!("{} {} of {waiter}", wait.syscall, wait.call_id);
        // A thread that lost its CPU inside the call may find its time over before it could sleep.
        if wait.slept == Some(0) {
            check_awake(differences, &what, wait);
            late += 1;
            continue;
        }
        if is_unexplained(differences, &what, wait) {
            unexplained += 1;
            continue;
        }
        slept += 1;
        check_slept(differences, &what, wait, 1);
        check_nobody(differences, &what, wait, "timeout");
        // A relative timeout is never shorter than asked for.
        let long = error == "ETIMEDOUT" || wait.wait_ns.is_some_and(|wait_ns| wait_ns >= 1_000_000);
        differences.check(long, || format!("{what}: a wait of {:?} ns for a timeout of 1 ms", wait.wait_ns));
    }
    [slept, late, unexplained]
}

#[test]
fn a_timeout_names_no_bystander() {
    let Some(_live) = Live::ready() else { return };
    let count = environment::count(1_251, 12_510);
    let arguments = ["timeouts", "--count", &count.to_string()];
    let Recorded { trace, json, .. } = &Recorded::run(&["--syscall", "%sem,%mq,sigtimedwait"], &arguments);
    let waits = waits::read(trace);
    let mut differences = Differences::default();
    let mut sums = [0; 3];
    for (waiter, switched) in numbers(&json["waiters"]).into_iter().zip(numbers(&json["switched"])) {
        let [slept, late, unexplained] = check_timeouts(&mut differences, &waits, waiter);
        differences.compare(&format!("timeouts of {waiter}"), (slept + late + unexplained) as u64, count);
        let enough = slept + unexplained >= switched as usize;
        differences.check(enough, || format!("{waiter} slept {slept} times, by the kernel's count {switched}"));
        sums = [sums[0] + slept, sums[1] + late, sums[2] + unexplained];
    }
    let busy = check_bystanders(&mut differences, &waits, json);
    let [slept, late, unexplained] = sums;
    println!(
        "{slept} timeouts, {late} before they slept, {unexplained} without a waking, beside {busy} calls of bystanders"
    );
    differences.none();
    // The tracepoint is silent now and then after the machine stood still: perf misses the same ones.
    assert!(unexplained * 100 <= slept, "{unexplained} of {slept} slept without a waking");
    assert!(busy >= sums[0], "the bystanders made {busy} calls: they were not busy");
}

/// The interrupted calls of one process; a signal that comes before the sleep leaves nothing to wake.
fn check_interrupted(differences: &mut Differences, waits: &[Wait], pid: i32, waker: &Waker) -> [usize; 2] {
    let [mut slept, mut awake] = [0; 2];
    for wait in of(waits, pid, "semtimedop") {
        let what = format!("call {} of {pid}", wait.call_id);
        differences.compare(&format!("{what}: error"), wait.error.as_deref(), Some("EINTR"));
        if wait.slept == Some(0) {
            check_awake(differences, &what, wait);
            awake += 1;
            continue;
        }
        // The kernel counts the switch of a thread that a pending signal kept from sleeping.
        if is_unexplained(differences, &what, wait) {
            awake += 1;
            continue;
        }
        slept += 1;
        check_slept(differences, &what, wait, 1);
        differences.compare(&format!("{what}: reason"), wait.wake_reason.as_deref(), Some("signal"));
        differences.compare(&format!("{what}: waker"), &wait.waker, waker);
    }
    [slept, awake]
}

#[test]
fn a_signal_names_its_sender_and_no_bystander() {
    let Some(_live) = Live::ready() else { return };
    let count = environment::count(1_250, 1_250);
    let Recorded { trace, json, .. } =
        &Recorded::run(&["--syscall", "%sem"], &["interrupted", "--count", &count.to_string()]);
    let waits = waits::read(trace);
    let [killed, senders, timed] = ["killed", "senders", "timed"].map(|name| numbers(&json[name]));
    let mut differences = Differences::default();
    for (pid, sender) in killed.iter().zip(senders) {
        let waker = Waker {
            process_id: Some(waits::process_id(trace, sender)),
            thread_id: Some(waits::thread_id(trace, sender)),
            comm: Some("ipc-workload".to_owned()),
            ..Waker::default()
        };
        let [slept, awake] = check_interrupted(&mut differences, &waits, *pid, &waker);
        // Each signal was sent to a process that was known to sleep.
        assert_eq!((slept as u64, awake), (count, 0), "interrupted calls of {pid}");
    }
    let (mut fired, mut early) = (0, 0);
    for pid in timed {
        let [slept, awake] = check_interrupted(&mut differences, &waits, pid, &Waker::default());
        assert_eq!((slept + awake) as u64, count, "interrupted calls of {pid}");
        (fired, early) = (fired + slept, early + awake);
    }
    let busy = check_bystanders(&mut differences, &waits, json);
    println!("{} killed, {fired} by a timer, {early} before they slept, beside {busy} calls", 4 * count);
    differences.none();
    assert!(busy >= fired, "the bystanders made {busy} calls: they were not busy");
    // The kernel's count of switches does not help: it counts one that a pending signal kept from being a sleep.
    assert!(early * 20 <= fired, "{early} of {fired} calls did not sleep before their timer fired");
}

#[test]
fn a_sender_that_blocks_again_waits_until_its_last_waking() {
    let Some(_live) = Live::ready() else { return };
    let count = environment::count(250, 2_500);
    let Recorded { trace, json, .. } =
        &Recorded::run(&["--syscall", "%msg"], &["senders", "--count", &count.to_string()]);
    let waits = waits::read(trace);
    let rounds = json["rounds"].as_array().unwrap();
    let mut receives = of(&waits, json["receiver"].as_i64().unwrap() as i32, "msgrcv");
    receives.retain(|wait| wait.msg_type_requested == Some(1));
    assert_eq!((rounds.len() as u64, receives.len()), (count, 5 * rounds.len()), "rounds, receives that wake");
    let mut differences = Differences::default();
    let mut again = 0;
    for (number, (round, receives)) in rounds.iter().zip(receives.chunks(5)).enumerate() {
        for (place, (sender, receive)) in (1..).zip(numbers(round).into_iter().zip(receives)) {
            let what = format!("round {number}, sender {sender}, in at receive {place}");
            let send = of(&waits, sender, "msgsnd")[number];
            check_slept(&mut differences, &what, send, place);
            check_woken_by(&mut differences, &what, send, receive, "peer");
            again += usize::from(place > 1);
        }
    }
    println!("{again} senders blocked again");
    differences.none();
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn a_wait_is_as_long_as_the_hold() {
    let Some(_live) = Live::ready() else { return };
    for (hold, count) in [("1ms", 400), ("10ms", 100), ("100ms", 20)] {
        let arguments = ["holds", "--hold", hold, "--count", &count.to_string()];
        let Recorded { trace, json, .. } = &Recorded::run(&["--syscall", "%sem"], &arguments);
        let waits = waits::read(trace);
        let offset_ns = trace.manifest.session.clock_offset_ns;
        let waiter = json["waiter"].as_i64().unwrap() as i32;
        let mut takes = of(&waits, waiter, "semtimedop");
        takes.retain(|wait| wait.sem_op == Some(-1));
        let holds = json["holds"].as_array().unwrap();
        assert_eq!((takes.len(), holds.len()), (count, count), "takes of the waiter, holds");
        let mut differences = Differences::default();
        let (mut waited, mut measured) = (Vec::new(), Vec::new());
        for (take, hold) in takes.iter().zip(holds) {
            let at = |name: &str| hold[name].as_i64().unwrap();
            check_slept(&mut differences, &format!("take {}", take.call_id), take, 1);
            let given = offset_ns + at("given_from_ns")..=offset_ns + at("given_to_ns");
            let woken_ns = take.woken_ns();
            differences.check(woken_ns.is_some_and(|woken_ns| given.contains(&woken_ns)), || {
                format!("take {}: woken at {woken_ns:?}, not in {given:?}", take.call_id)
            });
            waited.extend(take.wait_ns);
            measured.push(at("given_from_ns") - at("asked_ns"));
        }
        differences.none();
        let (waited, measured) = (median(waited), median(measured));
        println!("holds of {hold}: wait_ns p50 {waited}, by the workload's clock {measured}");
        assert!((waited - measured).abs() * 100 <= measured, "{hold}: {waited} is not within 1 % of {measured}");
    }
}
