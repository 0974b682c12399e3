-- command: summary
-- section: syscall
-- key: syscall
SELECT syscall, count(*) AS calls, count(*) FILTER (outcome = 'ok') AS ok, count(*) FILTER (outcome = 'error') AS errors,
       count(*) FILTER (outcome = 'killed') AS killed, count(*) FILTER (outcome = 'open') AS open,
       coalesce(sum(duration_ns), 0)::BIGINT AS total_ns, max(duration_ns) AS max_ns,
       max((SELECT end_ns FROM session) - start_ns) FILTER (outcome = 'open') AS open_at_least_ns
FROM calls GROUP BY syscall;

-- command: summary
-- section: syscall
-- key: syscall
-- tolerance: 0.001
SELECT syscall, round(quantile_cont(duration_ns::DOUBLE, 0.5)) AS p50_ns, round(quantile_cont(duration_ns::DOUBLE, 0.99)) AS p99_ns
FROM calls GROUP BY syscall;

-- command: summary
-- section: error
-- key: syscall, error
SELECT syscall, error, count(*) AS calls FROM calls WHERE error IS NOT NULL GROUP BY ALL;

-- command: summary
-- section: process
-- key: process_id
SELECT process_id, any_value(pid) AS pid, count(*) AS calls, count(*) FILTER (outcome = 'error') AS errors,
       coalesce(sum(duration_ns), 0)::BIGINT AS total_ns
FROM calls GROUP BY process_id;
