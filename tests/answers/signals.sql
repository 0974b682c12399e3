-- command: signals --limit 0
-- section: blocked
-- key: thread_id, sig_set
WITH points AS (
    SELECT thread_id, 0 AS call_end, 0 AS step, start_ns AS at_ns, mask_at_start AS mask FROM threads
    UNION ALL
    SELECT thread_id, coalesce(end_ns, 9223372036854775807), unnest([1, 2]), unnest([start_ns, end_ns]), unnest([sig_old, sig_after])
    FROM calls WHERE syscall = 'sigprocmask' AND outcome = 'ok' AND sig_old IS NOT NULL AND sig_after IS NOT NULL
    UNION ALL  -- SIGKILL and SIGSTOP are never blocked
    SELECT thread_id, coalesce(end_ns, 9223372036854775807), unnest([1, 2, 3]), unnest([start_ns, start_ns, end_ns]),
        unnest([sig_old, sig_set & ~262400, sig_old])
    FROM calls WHERE syscall = 'sigsuspend' AND sig_old IS NOT NULL AND sig_set IS NOT NULL
),
lives AS (
    SELECT thread_id, s.start_ns AS begin_ns, coalesce(t.exit_ns, s.end_ns) AS gone_ns, t.exit_ns IS NULL AS lives
    FROM threads t, session s
),
bits AS (
    SELECT thread_id, signal, call_end, step, greatest(coalesce(at_ns, begin_ns), begin_ns) AS at_ns,
        get_bit(mask::BIT, (64 - signal)::INTEGER) = 1 AS blocked
    FROM points JOIN lives USING (thread_id), range(1, 65) r(signal)
    WHERE mask IS NOT NULL AND (at_ns IS NOT NULL OR step = 0)
),
changes AS (
    SELECT * FROM bits
    QUALIFY blocked != coalesce(lag(blocked) OVER (PARTITION BY thread_id, signal ORDER BY call_end, step), false)
),
intervals AS (
    SELECT thread_id, signal, blocked, at_ns, lead(at_ns) OVER (PARTITION BY thread_id, signal ORDER BY call_end, step) AS ended_ns
    FROM changes
),
totals AS (
    SELECT thread_id, signal, count(*) AS intervals, sum(greatest(0, coalesce(ended_ns, gone_ns) - at_ns)) AS blocked_ns,
        max(greatest(0, coalesce(ended_ns, gone_ns) - at_ns)) AS longest_ns,
        bool_or(ended_ns IS NULL) AND any_value(lives) AS still_blocked,
        CASE WHEN any_value(lives) THEN max(at_ns) FILTER (ended_ns IS NULL) END AS since_ns
    FROM intervals JOIN lives USING (thread_id) WHERE blocked GROUP BY ALL
)
SELECT thread_id, intervals, blocked_ns, longest_ns, still_blocked, since_ns,
    sum(CASE WHEN signal = 64 THEN -9223372036854775808::HUGEINT ELSE 1::HUGEINT << (signal - 1)::INTEGER END) AS sig_set
FROM totals GROUP BY thread_id, intervals, blocked_ns, longest_ns, still_blocked, since_ns;

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
