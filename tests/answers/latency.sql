-- command: latency --by syscall,error
-- key: syscall, error
SELECT syscall, error, count(duration_ns) AS count, coalesce(sum(duration_ns), 0)::BIGINT AS total_ns,
       max(duration_ns) AS max_ns, count(*) FILTER (outcome = 'open') AS open,
       max((SELECT end_ns FROM session) - start_ns) FILTER (outcome = 'open') AS open_at_least_ns
FROM calls GROUP BY ALL;

-- command: latency --by pid
-- key: pid
-- tolerance: 0.001
SELECT pid, round(avg(duration_ns)) AS mean_ns, round(quantile_cont(duration_ns::DOUBLE, 0.5)) AS p50_ns,
       round(quantile_cont(duration_ns::DOUBLE, 0.9)) AS p90_ns, round(quantile_cont(duration_ns::DOUBLE, 0.99)) AS p99_ns,
       round(quantile_cont(duration_ns::DOUBLE, 0.999)) AS p999_ns
FROM calls GROUP BY ALL;
