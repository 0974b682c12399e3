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
