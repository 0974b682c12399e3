-- Sends and receives; not with MSG_COPY, which looks and leaves.
CREATE VIEW queue_calls AS
SELECT *, syscall IN ('msgsnd', 'mq_timedsend') AS sends
FROM calls
WHERE object_ref IS NOT NULL AND syscall IN ('msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive')
    AND NOT (syscall = 'msgrcv' AND coalesce(flags, 0) & 16384 != 0);

-- Those that ended, in the order of their ends.
CREATE VIEW moves AS
SELECT object_ref, call_id, start_ns, end_ns, size_bytes AS size, outcome = 'ok' AS moved, object_kind = 'mq' AS is_mq,
    sends, slept AND sends AS held_up,
    coalesce(queue_depth, CASE WHEN syscall = 'msgrcv' AND msg_type_requested = 0 AND coalesce(flags, 0) & 8192 = 0
        AND (slept OR error IN ('EAGAIN', 'ENOMSG')) THEN 0 END) AS found, return_value, queue_depth,
    coalesce(lag(end_ns) OVER of_queue <= start_ns, true) AS rested, row_number() OVER of_queue = 1 AS is_first
FROM queue_calls
WHERE end_ns IS NOT NULL
WINDOW of_queue AS (PARTITION BY object_ref ORDER BY end_ns, call_id);

-- The depth of each queue between two changes of it, and whether it was full: made again from the calls and the counts of
-- snapshots.
CREATE VIEW depth_steps AS
WITH span AS (SELECT start_ns AS begin_ns, end_ns AS finish_ns FROM session),
lives AS (
    SELECT object_ref, created_ns, most, max_bytes,
        CASE WHEN removed_ns IS NULL THEN finish_ns ELSE least(finish_ns, greatest(removed_ns, last_ns)) END AS gone_ns
    FROM span, lifetimes
    JOIN (SELECT object_ref, max(end_ns) AS last_ns FROM moves GROUP BY ALL) USING (object_ref)
    LEFT JOIN (SELECT object_ref, max(queue_max_messages) AS most FROM calls GROUP BY ALL) USING (object_ref)
    LEFT JOIN (SELECT object_ref, arg_max(max_bytes, snapshot_ns) AS max_bytes FROM objects GROUP BY ALL) USING (object_ref)
),
counted AS (
    SELECT object_ref, snapshot_ns AS at_ns, messages, coalesce(queued_bytes, 0) AS bytes
    FROM objects JOIN lives USING (object_ref)
    WHERE object_kind = 'msg' AND messages IS NOT NULL
    QUALIFY (created_ns IS NULL AND row_number() OVER (PARTITION BY object_ref ORDER BY snapshot_ns) = 1)
        OR coalesce((SELECT min(end_ns) FROM moves m WHERE m.object_ref = objects.object_ref AND end_ns >= snapshot_ns)
            > snapshot_ns + 50000000, true)
),
points AS (
    SELECT object_ref, created_ns AS at_ns, 0 AS rank, 0 AS call, 0 AS set_to, 0 AS change, 0 AS set_bytes, 0 AS bytes, NULL AS sent
    FROM lives WHERE created_ns IS NOT NULL
    UNION ALL
    SELECT object_ref, at_ns, 1, 0, messages, 0, bytes, 0, NULL FROM counted
    UNION ALL
    SELECT object_ref, start_ns, 2, call_id,
        coalesce(found, 0), 0, CASE WHEN found = 0 OR found IS NULL THEN 0 END, 0, NULL
    FROM moves JOIN lives USING (object_ref)
    WHERE rested AND (found IS NOT NULL OR (is_first AND created_ns IS NULL
        AND NOT EXISTS (FROM counted c WHERE c.object_ref = moves.object_ref AND at_ns <= end_ns)))
    UNION ALL
    SELECT object_ref, end_ns, 3, call_id, NULL, CASE WHEN NOT moved THEN 0 WHEN sends THEN 1 ELSE -1 END, NULL,
        CASE WHEN NOT moved THEN 0 WHEN sends THEN size ELSE -return_value END, CASE WHEN moved AND sends THEN size END
    FROM moves
),
grouped AS (
    SELECT *, count(set_to) OVER so_far AS anchor, count(set_bytes) OVER so_far AS byte_anchor,
        coalesce(last_value(sent IGNORE NULLS) OVER so_far, 0) AS last_size
    FROM points WINDOW so_far AS (PARTITION BY object_ref ORDER BY at_ns, rank, call ROWS UNBOUNDED PRECEDING)
),
depths AS (
    SELECT object_ref, at_ns, rank, call, last_size,
        max(set_to) OVER (PARTITION BY object_ref, anchor) + sum(change) OVER (PARTITION BY object_ref, anchor
            ORDER BY at_ns, rank, call ROWS UNBOUNDED PRECEDING) AS raw,
        max(set_bytes) OVER (PARTITION BY object_ref, byte_anchor) + sum(bytes) OVER (PARTITION BY object_ref, byte_anchor
            ORDER BY at_ns, rank, call ROWS UNBOUNDED PRECEDING) AS held
    FROM grouped WHERE anchor > 0
),
steps AS (
    SELECT object_ref, greatest(0, least(raw, coalesce(most, raw))) AS depth, rank,
        least(greatest(at_ns, begin_ns), gone_ns) AS from_ns,
        least(greatest(coalesce(lead(at_ns) OVER (PARTITION BY object_ref ORDER BY at_ns, rank, call), gone_ns), begin_ns),
            gone_ns) AS to_ns,
        CASE WHEN most IS NOT NULL THEN depth >= most ELSE depth >= max_bytes OR held + last_size > max_bytes END AS is_full
    FROM span, depths JOIN lives USING (object_ref)
)
FROM steps;

-- What was sent and received, and how long what was sent stayed. The queues were made in the trace: the k-th receive of a
-- type takes its k-th message.
CREATE VIEW stays AS
WITH numbered AS (
    SELECT object_ref, msg_type, msg_priority, end_ns, sends,
        row_number() OVER (PARTITION BY object_ref, msg_type, msg_priority, sends ORDER BY end_ns, call_id) AS number
    FROM queue_calls
    WHERE outcome = 'ok'
)
SELECT m.object_ref, m.msg_type, m.msg_priority, m.sends,
    CASE WHEN r.end_ns IS NOT NULL THEN greatest(r.end_ns - m.end_ns, 0) END AS stay_ns
FROM numbered m LEFT JOIN (FROM numbered WHERE NOT sends) r
    ON m.sends AND m.object_ref = r.object_ref AND m.msg_type IS NOT DISTINCT FROM r.msg_type
    AND m.msg_priority IS NOT DISTINCT FROM r.msg_priority AND m.number = r.number;

-- command: queues --limit 0
-- section: queue
-- key: object_ref
SELECT object_ref,
    count(*) FILTER (outcome = 'ok' AND sends) AS sends,
    count(*) FILTER (outcome = 'ok' AND NOT sends) AS receives,
    coalesce(sum(size_bytes) FILTER (outcome = 'ok' AND sends), 0) AS bytes_sent,
    coalesce(sum(return_value) FILTER (outcome = 'ok' AND NOT sends), 0) AS bytes_received,
    count(*) FILTER (error IN ('EAGAIN', 'ENOMSG', 'ETIMEDOUT') AND sends) AS sends_refused,
    count(*) FILTER (error IN ('EAGAIN', 'ENOMSG', 'ETIMEDOUT') AND NOT sends) AS receives_refused,
    max(queue_max_messages) AS max_messages,
    count(*) FILTER (slept AND sends AND end_ns IS NOT NULL) AS sends_blocked,
    coalesce(sum(coalesce(wait_ns, duration_ns)) FILTER (slept AND sends AND end_ns IS NOT NULL), 0) AS sends_blocked_ns,
    max(coalesce(wait_ns, duration_ns)) FILTER (slept AND sends AND end_ns IS NOT NULL) AS sends_blocked_max_ns,
    count(*) FILTER (slept AND NOT sends AND end_ns IS NOT NULL) AS receives_blocked,
    coalesce(sum(coalesce(wait_ns, duration_ns)) FILTER (slept AND NOT sends AND end_ns IS NOT NULL), 0)
        AS receives_blocked_ns,
    max(coalesce(wait_ns, duration_ns)) FILTER (slept AND NOT sends AND end_ns IS NOT NULL) AS receives_blocked_max_ns,
    count(*) FILTER (end_ns IS NULL AND slept IS DISTINCT FROM false AND sends) AS sends_open,
    count(*) FILTER (end_ns IS NULL AND slept IS DISTINCT FROM false AND NOT sends) AS receives_open
FROM queue_calls
GROUP BY object_ref;

-- command: queues --limit 0
-- section: queue
-- key: object_ref
-- tolerance: 0.001
SELECT object_ref,
    quantile_cont(coalesce(wait_ns, duration_ns)::DOUBLE, 0.5) FILTER (blocked AND sends) AS sends_blocked_p50_ns,
    quantile_cont(coalesce(wait_ns, duration_ns)::DOUBLE, 0.99) FILTER (blocked AND sends) AS sends_blocked_p99_ns,
    quantile_cont(coalesce(wait_ns, duration_ns)::DOUBLE, 0.5) FILTER (blocked AND NOT sends) AS receives_blocked_p50_ns,
    quantile_cont(coalesce(wait_ns, duration_ns)::DOUBLE, 0.99) FILTER (blocked AND NOT sends) AS receives_blocked_p99_ns
FROM (SELECT *, slept AND end_ns IS NOT NULL AS blocked FROM queue_calls)
GROUP BY object_ref;

-- command: queues --limit 0
-- section: queue
-- key: object_ref
WITH span AS (SELECT start_ns AS begin_ns, end_ns AS finish_ns FROM session),
full_times AS (
    SELECT object_ref, from_ns, to_ns FROM depth_steps WHERE is_full AND to_ns > from_ns
    UNION ALL
    SELECT object_ref, greatest(start_ns, begin_ns), least(coalesce(end_ns, finish_ns), finish_ns) FROM calls, span
    WHERE object_ref IS NOT NULL AND syscall IN ('msgsnd', 'mq_timedsend')
        AND (slept OR (end_ns IS NULL AND slept IS DISTINCT FROM false))
),
joined AS (
    SELECT object_ref, from_ns, to_ns, max(to_ns) OVER (PARTITION BY object_ref ORDER BY from_ns, to_ns
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_ns
    FROM full_times
),
full_total AS (
    SELECT object_ref, sum(greatest(0, to_ns - greatest(from_ns, coalesce(before_ns, from_ns)))) AS full_ns FROM joined GROUP BY ALL
)
SELECT object_ref,
    greatest(max(depth), coalesce((SELECT max(queue_depth) FROM moves m WHERE m.object_ref = depth_steps.object_ref), 0)) AS max_depth,
    sum(to_ns - from_ns) AS known_ns,
    coalesce(sum(to_ns - from_ns) FILTER (depth = 0), 0) AS empty_ns,
    coalesce(any_value(full_ns), 0) AS full_ns,
    (sum(depth::HUGEINT * (to_ns - from_ns)) * 2 + known_ns) // (2 * known_ns) AS mean_depth
FROM depth_steps LEFT JOIN full_total USING (object_ref)
GROUP BY object_ref;

-- command: queues --limit 0
-- section: depth
-- key: object_ref, bucket
WITH span AS (SELECT start_ns AS begin_ns, end_ns AS finish_ns FROM session),
buckets AS (
    SELECT i AS bucket, begin_ns + i * width AS begin_ns, least(finish_ns, begin_ns + (i + 1) * width) AS finish_ns
    FROM (SELECT *, greatest(1, ceil((finish_ns - begin_ns)::HUGEINT / 60)::BIGINT) AS width FROM span), range(60) r(i)
),
parts AS (
    SELECT object_ref, bucket, begin_ns, finish_ns, depth, least(to_ns, finish_ns) - greatest(from_ns, begin_ns) AS length
    FROM depth_steps JOIN buckets ON from_ns < finish_ns AND to_ns > begin_ns AND to_ns > from_ns
)
SELECT object_ref, bucket, any_value(begin_ns) AS from_ns, any_value(finish_ns) AS to_ns, min(depth) AS min_depth,
    max(depth) AS max_depth, sum(length) AS known_ns, (sum(depth::HUGEINT * length) * 2 + sum(length)) // (2 * sum(length)) AS mean_depth
FROM parts GROUP BY object_ref, bucket;

-- command: queues --limit 0
-- section: class
-- key: object_ref, msg_type, msg_priority
-- traces: senders signals
SELECT object_ref, msg_type, msg_priority, count(*) FILTER (sends) AS sends, count(*) FILTER (NOT sends) AS receives,
    count(*) FILTER (sends AND stay_ns IS NULL) AS queued, max(stay_ns) AS longest_stay_ns
FROM stays GROUP BY ALL;

-- command: queues --limit 0
-- section: queue
-- key: object_ref
-- tolerance: 0.001
-- traces: senders signals
SELECT object_ref, quantile_cont(stay_ns::DOUBLE, 0.5) AS stay_p50_ns, quantile_cont(stay_ns::DOUBLE, 0.99) AS stay_p99_ns,
    max(stay_ns) AS stay_max_ns
FROM stays WHERE sends GROUP BY object_ref;
