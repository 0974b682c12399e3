-- command: signals --limit 0
-- section: pending
-- key: target_process_id, target_thread_id, signal, since_ns
-- traces: sigterm-blocked
WITH exits AS (
    SELECT process_id, CASE WHEN count(*) = count(exit_ns) THEN max(exit_ns) END AS exit_ns FROM threads GROUP BY ALL
),
sent AS (
    SELECT target_process_id, target_thread_id, signal, sender_process_id, time_ns AS since_ns, least(
        (SELECT min(time_ns) FROM signals d WHERE d.time_ns >= s.time_ns AND d.event = 'deliver' AND d.signal = s.signal
            AND d.target_process_id = s.target_process_id AND coalesce(s.target_thread_id = d.target_thread_id, true)),
        (SELECT min(time_ns) FROM signals g WHERE g.time_ns > s.time_ns AND g.result = 'delivered' AND g.signal = s.signal
            AND g.target_process_id = s.target_process_id AND g.target_thread_id IS NOT DISTINCT FROM s.target_thread_id),
        (SELECT min(end_ns) FROM calls w WHERE w.end_ns >= s.time_ns AND w.syscall = 'sigtimedwait' AND w.signal = s.signal
            AND w.process_id = s.target_process_id AND coalesce(s.target_thread_id = w.thread_id, true)),
        (SELECT exit_ns FROM exits WHERE process_id = target_process_id),
        (SELECT end_ns FROM session)
    ) AS until_ns
    FROM signals s WHERE event = 'generate' AND result = 'delivered' AND signal < 32
),
masks AS (
    SELECT thread_id, start_ns AS at_ns, mask_at_start AS mask FROM threads
    UNION ALL
    SELECT thread_id, end_ns, sig_after FROM calls WHERE syscall = 'sigprocmask' AND outcome = 'ok' AND sig_after IS NOT NULL
),
candidates AS (
    SELECT sent.*, thread_id, (SELECT arg_max(mask, at_ns) FROM masks m WHERE m.thread_id = t.thread_id AND at_ns < since_ns) AS mask
    FROM sent JOIN threads t ON t.process_id = target_process_id AND coalesce(target_thread_id = thread_id, true)
        AND coalesce(start_ns <= since_ns, true) AND coalesce(exit_ns >= since_ns, true)
    WHERE until_ns - since_ns >= 10000000
)
SELECT target_process_id, target_thread_id, signal, sender_process_id, since_ns, until_ns, until_ns - since_ns AS pending_ns
FROM candidates GROUP BY ALL HAVING bool_and(get_bit(mask::BIT, (64 - signal)::INTEGER) = 1);
