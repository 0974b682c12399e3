//! The times in a trace, beside the clock readings of the workload itself.

use ipc_tests::calls::{self, is_signal};
use ipc_tests::environment::Live;
use ipc_tests::logs;
use ipc_tests::running::Recording;

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn every_call_lies_inside_its_bracket() {
    let Some(_live) = Live::ready() else { return };
    // The same under soak, and a large ring: a thread that does nothing else fills the usual one faster than two
    // processors can empty it, and this test is about times.
    let count = 100_000_u64;
    let recording = Recording::new();
    let log = recording.text("log");
    recording.record(
        &["--syscall", "%sem", "--ring-size", "64MiB"],
        &["bracketed", "--count", &count.to_string(), "--log", &log],
    );
    let trace = recording.trace();
    let offset_ns = trace.manifest.session.clock_offset_ns;
    let (tid, logged) = logs::read(recording.path("log").as_path()).pop_first().unwrap();
    let calls = calls::by_thread(calls::read(&trace)).remove(&tid).expect("the workload's thread is in the trace");
    assert_eq!((calls.len(), trace.lost_calls()), (count as usize + 2, 0), "calls and losses");
    let (mut before, mut after, mut clocks) = (Vec::new(), Vec::new(), Vec::new());
    for (call, logged) in calls.iter().zip(&logged) {
        let (from_ns, to_ns) = (logged.before_boot_ns + offset_ns, logged.after_boot_ns + offset_ns);
        let end_ns = call.end_ns.expect("the call returned");
        assert_eq!(call.told.entry_point, logged.told.entry_point, "call {}", call.call_id);
        assert!(
            from_ns <= call.start_ns && call.start_ns <= end_ns && end_ns <= to_ns,
            "call {}: [{}, {end_ns}] is not inside [{from_ns}, {to_ns}]",
            call.call_id,
            call.start_ns
        );
        assert_eq!(call.duration_ns, Some(end_ns - call.start_ns));
        assert_eq!(call.start_time_us, call.start_ns.div_euclid(1000), "start_time is start_ns in microseconds");
        before.push(call.start_ns - from_ns);
        after.push(to_ns - end_ns);
        clocks.push((call.start_time_us * 1000 - logged.before_epoch_ns).abs());
    }
    println!("{count} calls inside; median slack {} ns before, {} ns after", median(before), median(after));
    // A thread may lose the CPU between its clock reading and its call, which is nobody's error; few do.
    let far = clocks.iter().filter(|distance| **distance > 1_000_000).count();
    println!("start_time to the wall clock before the call: median {} ns, {far} beyond 1 ms", median(clocks.clone()));
    assert!(far <= clocks.len() / 1000, "{far} of {} calls start over 1 ms from the wall clock", clocks.len());
}

#[test]
fn rows_rise_and_the_session_surrounds_them() {
    let Some(_live) = Live::ready() else { return };
    let recording = Recording::new();
    recording.record(&[], &["waiters", "--threads", "8", "--count", "50", "--hold", "50us"]);
    let trace = recording.trace();
    let session = &trace.manifest.session;
    let calls = calls::read(&trace);
    assert!(calls.iter().any(|call| !is_signal(&call.told.entry_point)), "there are IPC calls");
    let ends: Vec<i64> = calls.iter().filter_map(|call| call.end_ns).collect();
    assert!(ends.is_sorted(), "rows rise in end_ns");
    for call in &calls {
        assert!(call.start_ns >= session.start_ns, "call {} began before the session", call.call_id);
        assert!(call.end_ns.is_none_or(|end| end <= session.end_ns), "call {} ended after the session", call.call_id);
    }
    let mut ids: Vec<i64> = calls.iter().map(|call| call.call_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), calls.len(), "call_id is unique");
}
