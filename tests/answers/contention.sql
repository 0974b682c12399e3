-- command: contention --only semaphores
-- section: semaphore
-- key: object_ref, sem_num, side
WITH line AS (
  SELECT *,
    CASE WHEN syscall IN ('msgsnd', 'mq_timedsend') THEN 'send'
         WHEN syscall IN ('msgrcv', 'mq_timedreceive') THEN 'receive' END AS side,
    CASE WHEN syscall IN ('semop', 'semtimedop') AND coalesce(sem_ops_total, 1) <= 1 THEN sem_num END AS semaphore,
    end_ns IS NOT NULL AND coalesce(wait_ns, 0) > 0 AS waited
  FROM calls
  WHERE object_ref IS NOT NULL
    AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive')
)
SELECT object_ref, semaphore AS sem_num, side,
  count(*) AS operations,
  count(*) FILTER (waited) AS contended,
  (2000 * count(*) FILTER (waited) + count(*)) // (2 * count(*)) AS contended_permille,
  coalesce(sum(wait_ns) FILTER (waited), 0)::BIGINT AS wait_total_ns,
  ((2 * sum(wait_ns) FILTER (waited) + count(*) FILTER (waited)) // (2 * count(*) FILTER (waited)))::BIGINT AS wait_mean_ns,
  max(wait_ns) FILTER (waited) AS wait_max_ns,
  count(*) FILTER (end_ns IS NULL) AS open,
  max((SELECT s.end_ns FROM session s) - start_ns) FILTER (end_ns IS NULL) AS open_at_least_ns,
  count(*) FILTER (waited AND wake_reason = 'peer') AS handoffs,
  count(*) FILTER (waited AND wake_reason = 'timeout') AS timeouts,
  coalesce(sum(wakings) FILTER (waited), 0)::BIGINT AS wakings,
  count(*) FILTER (waited AND wakings > 1) AS woken_again,
  max(wakeup_delay_ns) FILTER (waited) AS wakeup_delay_max_ns
FROM line GROUP BY ALL;

-- command: contention --only semaphores
-- section: semaphore
-- key: object_ref, sem_num, side
-- tolerance: 0.001
WITH line AS (
  SELECT *,
    CASE WHEN syscall IN ('msgsnd', 'mq_timedsend') THEN 'send'
         WHEN syscall IN ('msgrcv', 'mq_timedreceive') THEN 'receive' END AS side,
    CASE WHEN syscall IN ('semop', 'semtimedop') AND coalesce(sem_ops_total, 1) <= 1 THEN sem_num END AS semaphore,
    CASE WHEN end_ns IS NOT NULL AND wait_ns > 0 THEN wait_ns END AS waited_ns
  FROM calls
  WHERE object_ref IS NOT NULL
    AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive')
)
SELECT object_ref, semaphore AS sem_num, side,
  quantile_cont(waited_ns::DOUBLE, 0.5) AS wait_p50_ns,
  quantile_cont(waited_ns::DOUBLE, 0.9) AS wait_p90_ns,
  quantile_cont(waited_ns::DOUBLE, 0.99) AS wait_p99_ns,
  quantile_cont(wakeup_delay_ns::DOUBLE, 0.5) FILTER (waited_ns IS NOT NULL) AS wakeup_delay_p50_ns,
  quantile_cont(wakeup_delay_ns::DOUBLE, 0.99) FILTER (waited_ns IS NOT NULL) AS wakeup_delay_p99_ns
FROM line GROUP BY ALL;

-- command: contention --only semaphores
-- section: semaphore
-- key: object_ref, sem_num, side
-- How many waited at once: one more at each begin, one less at each end, added up in the order of time. Begins and ends
-- of the same moment count together.
WITH line AS (
  SELECT *,
    CASE WHEN syscall IN ('msgsnd', 'mq_timedsend') THEN 'send'
         WHEN syscall IN ('msgrcv', 'mq_timedreceive') THEN 'receive' END AS side,
    CASE WHEN syscall IN ('semop', 'semtimedop') AND coalesce(sem_ops_total, 1) <= 1 THEN sem_num END AS semaphore,
    CASE WHEN end_ns IS NULL THEN (SELECT s.end_ns FROM session s)
         WHEN wait_ns > 0 THEN start_ns + wait_ns ELSE start_ns END AS until_ns
  FROM calls
  WHERE object_ref IS NOT NULL
    AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive')
),
changes AS (
  SELECT object_ref, semaphore, side, at_ns, sum(change) AS change
  FROM (SELECT *, start_ns AS at_ns, 1 AS change FROM line WHERE until_ns > start_ns
        UNION ALL SELECT *, until_ns, -1 FROM line WHERE until_ns > start_ns)
  GROUP BY ALL
),
waiting AS (
  SELECT object_ref, semaphore, side,
    sum(change) OVER (PARTITION BY object_ref, semaphore, side ORDER BY at_ns) AS waiters
  FROM changes
),
most AS (SELECT object_ref, semaphore, side, max(waiters)::BIGINT AS waiters FROM waiting GROUP BY ALL)
SELECT DISTINCT l.object_ref, l.semaphore AS sem_num, l.side, coalesce(m.waiters, 0) AS waiters_max
FROM line l LEFT JOIN most m
  ON l.object_ref = m.object_ref AND l.semaphore IS NOT DISTINCT FROM m.semaphore AND l.side IS NOT DISTINCT FROM m.side;

-- command: contention --only semaphores
-- section: semaphore
-- key: object_ref, sem_num, side
-- tolerance: 0.001
-- Holds: a take (a successful call with one operation -n) whose thread next gave (+n) the same semaphore.
WITH line AS (
  SELECT *,
    CASE WHEN syscall IN ('msgsnd', 'mq_timedsend') THEN 'send'
         WHEN syscall IN ('msgrcv', 'mq_timedreceive') THEN 'receive' END AS side,
    CASE WHEN syscall IN ('semop', 'semtimedop') AND coalesce(sem_ops_total, 1) <= 1 THEN sem_num END AS semaphore
  FROM calls
  WHERE object_ref IS NOT NULL
    AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive')
),
steps AS (
  SELECT object_ref, semaphore, sem_op, end_ns,
    lead(sem_op) OVER next_of_thread AS next_op, lead(start_ns) OVER next_of_thread AS next_start_ns
  FROM line WHERE semaphore IS NOT NULL AND outcome = 'ok' AND sem_op <> 0
  WINDOW next_of_thread AS (PARTITION BY object_ref, semaphore, thread_id ORDER BY end_ns, call_id)
),
holds AS (
  SELECT object_ref, semaphore, count(*) AS holds, max(next_start_ns - end_ns) AS hold_max_ns,
    quantile_cont((next_start_ns - end_ns)::DOUBLE, 0.5) AS hold_p50_ns,
    quantile_cont((next_start_ns - end_ns)::DOUBLE, 0.99) AS hold_p99_ns
  FROM steps WHERE sem_op < 0 AND next_op > 0 GROUP BY ALL
)
SELECT DISTINCT l.object_ref, l.semaphore AS sem_num, l.side,
  coalesce(h.holds, 0) AS holds, h.hold_p50_ns, h.hold_p99_ns, h.hold_max_ns
FROM line l LEFT JOIN holds h ON l.object_ref = h.object_ref AND l.semaphore = h.semaphore;

-- command: contention --only pairs
-- section: pair
-- key: process_id, syscall, waker_process_id, waker_syscall, wake_reason
SELECT process_id, syscall, waker_process_id, waker_syscall, wake_reason,
  count(*) AS waits, sum(wait_ns)::BIGINT AS wait_total_ns, max(wait_ns) AS wait_max_ns
FROM calls WHERE wait_ns > 0 GROUP BY ALL;

-- command: contention --only pairs --pairs comm
-- section: pair
-- key: comm, syscall, waker_comm, waker_syscall, wake_reason
SELECT comm, syscall, waker_comm, waker_syscall, wake_reason,
  count(*) AS waits, sum(wait_ns)::BIGINT AS wait_total_ns, max(wait_ns) AS wait_max_ns
FROM calls
WHERE wait_ns > 0 GROUP BY ALL;

-- command: contention --only pairs --pairs thread
-- section: pair
-- key: thread_id, syscall, waker_thread_id, waker_syscall, wake_reason
SELECT thread_id, syscall, waker_thread_id, waker_syscall, wake_reason,
  count(*) AS waits, sum(wait_ns)::BIGINT AS wait_total_ns, max(wait_ns) AS wait_max_ns
FROM calls WHERE wait_ns > 0 GROUP BY ALL;
