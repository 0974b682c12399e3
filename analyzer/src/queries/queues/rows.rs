//! The tables: queues, their types and priorities, their depth over time.

use super::Answered;
use super::depth::{self, Bucket};
use super::queue::Side;
use super::times::Times;
use super::waiting::Class;
use crate::report::{Column, Rows, Table, Unit, Value, column};

/// One row per queue, the fullest first.
pub fn queues<'a>(answered: &[Answered]) -> Table<'a> {
    let mut order: Vec<&Answered> = answered.iter().collect();
    order.sort_by_key(|of| {
        let queue = &of.queue;
        let trouble = (of.full_ns, queue.sends.slept.total_ns, queue.sends.moved + queue.receives.moved);
        (std::cmp::Reverse(trouble), of.trace, of.object_ref)
    });
    let rows: Vec<Vec<Value>> = order.into_iter().map(queue_row).collect();
    Table {
        section: Some("queue"),
        title: "Queues, those that were full for longest first".to_owned(),
        columns: QUEUE_COLUMNS.to_vec(),
        rows: boxed(rows),
        sparse: false,
        text_limit: 20,
    }
}

fn boxed<'a>(rows: Vec<Vec<Value>>) -> Rows<'a> {
    Box::new(rows.into_iter().map(Ok))
}

const QUEUE_COLUMNS: [Column; 44] = [
    column("object", "queue", Unit::Text),
    column("trace_id", "", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("how_known", "", Unit::Text),
    column("sends", "sent", Unit::Count),
    column("receives", "received", Unit::Count).yields(1),
    column("bytes_sent", "", Unit::Count),
    column("bytes_received", "", Unit::Count),
    column("sends_refused", "", Unit::Count),
    column("receives_refused", "", Unit::Count),
    column("depth", "", Unit::Count),
    column("max_depth", "max", Unit::Count),
    column("mean_depth", "", Unit::Count),
    column("max_messages", "", Unit::Count),
    column("max_bytes", "", Unit::Count),
    column("known_ns", "", Unit::Duration),
    column("full_ns", "", Unit::Duration),
    column("empty_ns", "", Unit::Duration),
    column("full_percent", "full%", Unit::Count),
    column("empty_percent", "empty%", Unit::Count).yields(2),
    column("sends_blocked", "blocked", Unit::Count),
    column("sends_blocked_ns", "", Unit::Duration),
    column("sends_blocked_p50_ns", "", Unit::Duration),
    column("sends_blocked_p99_ns", "p99", Unit::Duration).yields(3),
    column("sends_blocked_max_ns", "", Unit::Duration),
    column("sends_open", "", Unit::Count),
    column("sends_open_at_least_ns", "", Unit::Duration),
    column("receives_blocked", "", Unit::Count),
    column("receives_blocked_ns", "", Unit::Duration),
    column("receives_blocked_p50_ns", "", Unit::Duration),
    column("receives_blocked_p99_ns", "", Unit::Duration),
    column("receives_blocked_max_ns", "", Unit::Duration),
    column("receives_open", "", Unit::Count),
    column("receives_open_at_least_ns", "", Unit::Duration),
    column("stay_p50_ns", "", Unit::Duration),
    column("stay_p99_ns", "stay p99", Unit::Duration),
    column("stay_max_ns", "", Unit::Duration),
    column("disorder", "", Unit::Count),
    column("early_receives", "", Unit::Count),
    column("unexplained", "", Unit::Count),
    column("vanished", "", Unit::Count),
    column("forgotten", "", Unit::Count),
    column("full_cut_off", "", Unit::Count),
    column("depth_over_time", "depth", Unit::Text).yields(4),
];

fn queue_row(of: &Answered) -> Vec<Value> {
    let (queue, depth) = (&of.queue, &of.queue.depth);
    let count = |number: u64| Value::Int(number.into());
    let mut row = vec![
        Value::Text(of.object.clone()),
        Value::Text(of.trace_id.clone()),
        Value::Int(of.object_ref.into()),
        Value::Text(queue.how_known().to_owned()),
        count(queue.sends.moved),
        count(queue.receives.moved),
        Value::Int(queue.sends.bytes),
        Value::Int(queue.receives.bytes),
        count(queue.sends.refused),
        count(queue.receives.refused),
        Value::int(depth.messages()),
        Value::Int(depth.max.into()),
        Value::int(mean(depth.area, depth.known_ns)),
        Value::int(queue.max_messages),
        Value::int(queue.max_bytes),
        Value::Int(depth.known_ns.into()),
        Value::Int(of.full_ns.into()),
        Value::Int(depth.empty_ns.into()),
        Value::int(percent(of.full_ns, depth.known_ns)),
        Value::int(percent(depth.empty_ns, depth.known_ns)),
    ];
    for side in [&queue.sends, &queue.receives] {
        row.extend(blocked(side));
    }
    row.extend(times(&queue.stays));
    let waiting = &queue.waiting;
    row.extend([depth.disorder, waiting.disorder, queue.unexplained, waiting.vanished].map(count));
    row.extend([waiting.forgotten, queue.full.cut_off].map(count));
    row.push(Value::Text(depth::sparkline(&depth.series, depth.max)));
    row
}

fn blocked(side: &Side) -> Vec<Value> {
    let mut values = vec![Value::Int(side.slept.count.into()), Value::Int(side.slept.total_ns)];
    values.extend(times(&side.slept));
    values.push(Value::Int(side.open.into()));
    values.push(Value::int((side.open > 0).then_some(side.open_ns)));
    values
}

fn times(times: &Times) -> [Value; 3] {
    let [p50, p99] = times.percentiles();
    [Value::int(p50), Value::int(p99), Value::int(times.longest_ns())]
}

/// Rounded half up; `None` of no time.
fn mean(area: i128, known_ns: i64) -> Option<i128> {
    let known = i128::from(known_ns);
    (known > 0).then(|| area.saturating_mul(2).saturating_add(known) / (2 * known))
}

/// Rounded half up; `None` of no time.
fn percent(part_ns: i64, known_ns: i64) -> Option<i128> {
    mean(i128::from(part_ns) * 100, known_ns)
}

/// One row per queue and type or priority, the longest wait first.
pub fn classes<'a>(answered: &[Answered]) -> Table<'a> {
    let mut found: Vec<(&Answered, Option<i64>, &Class)> = Vec::new();
    for of in answered {
        let used = of.queue.waiting.classes.iter().filter(|(_, class)| class.sends + class.receives > 0);
        found.extend(used.map(|(class, of_class)| (of, *class, of_class)));
    }
    let longest = |of: &Answered, class: &Class| class.longest_ns.max(class.oldest_waits_ns(of.end_ns));
    found.sort_by_key(|(of, class, of_class)| {
        (std::cmp::Reverse(longest(of, of_class)), of.trace, of.object_ref, *class)
    });
    let row = |(of, class, of_class): (&Answered, Option<i64>, &Class)| {
        let of_kind = |kind: &str| if of.kind == kind { Value::int(class) } else { Value::Null };
        vec![
            Value::Text(of.object.clone()),
            Value::Text(of.trace_id.clone()),
            Value::Int(of.object_ref.into()),
            of_kind("msg"),
            of_kind("mq"),
            Value::Int(of_class.sends.into()),
            Value::Int(of_class.receives.into()),
            Value::Int(of_class.queued().into()),
            Value::int(of_class.longest_ns),
            Value::int(of_class.oldest_waits_ns(of.end_ns)),
            Value::Int(of_class.starved.into()),
        ]
    };
    Table {
        section: Some("class"),
        title: "Types and priorities, the longest wait first".to_owned(),
        columns: CLASS_COLUMNS.to_vec(),
        rows: boxed(found.into_iter().map(row).collect()),
        sparse: false,
        text_limit: 10,
    }
}

const CLASS_COLUMNS: [Column; 11] = [
    column("object", "queue", Unit::Text),
    column("trace_id", "", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("msg_type", "type", Unit::Id),
    column("msg_priority", "priority", Unit::Id),
    column("sends", "sent", Unit::Count),
    column("receives", "received", Unit::Count).yields(1),
    column("queued", "queued", Unit::Count),
    column("longest_stay_ns", "longest stay", Unit::Duration),
    column("oldest_waits_ns", "waits", Unit::Duration),
    column("starved", "starved", Unit::Count),
];

/// The depth of each queue in equal parts of the time: for machines.
pub fn series<'a>(answered: &[Answered]) -> Table<'a> {
    let mut rows = Vec::new();
    for of in answered {
        rows.extend(of.queue.depth.series.iter().map(|bucket| series_row(of, bucket)));
    }
    Table {
        section: Some("depth"),
        title: String::new(),
        columns: SERIES_COLUMNS.to_vec(),
        rows: boxed(rows),
        sparse: false,
        text_limit: 0,
    }
}

const SERIES_COLUMNS: [Column; 10] = [
    column("object", "", Unit::Text),
    column("trace_id", "", Unit::Text),
    column("object_ref", "", Unit::Id),
    column("bucket", "", Unit::Count),
    column("from_ns", "", Unit::Instant),
    column("to_ns", "", Unit::Instant),
    column("min_depth", "", Unit::Count),
    column("max_depth", "", Unit::Count),
    column("mean_depth", "", Unit::Count),
    column("known_ns", "", Unit::Duration),
];

fn series_row(of: &Answered, bucket: &Bucket) -> Vec<Value> {
    let (from_ns, to_ns) = of.span.bucket(bucket.number);
    vec![
        Value::Text(of.object.clone()),
        Value::Text(of.trace_id.clone()),
        Value::Int(of.object_ref.into()),
        Value::Int(bucket.number.into()),
        Value::Int(from_ns.into()),
        Value::Int(to_ns.into()),
        Value::Int(bucket.min.into()),
        Value::Int(bucket.max.into()),
        Value::int(mean(bucket.area, bucket.known_ns)),
        Value::Int(bucket.known_ns.into()),
    ]
}
