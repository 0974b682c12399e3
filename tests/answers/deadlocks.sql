-- command: deadlocks --limit 0
-- section: waiter
-- key: call_id
SELECT call_id, process_id, thread_id, pid, tid, comm, syscall, object_ref, began, start_ns, timeout_ns, deadline_ns,
       (SELECT end_ns FROM session) - start_ns AS waits_ns
FROM calls
WHERE end_ns IS NULL AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive');

-- command: deadlocks --limit 0
-- section: edge
-- key: call_id, sem_num, holder_process_id
-- traces: deadlock
WITH operations AS (
  SELECT c.call_id, process_id, object_ref, start_ns, end_ns, outcome, coalesce(s.sem_num, c.sem_num) AS sem_num,
         coalesce(s.sem_op, c.sem_op) AS sem_op, coalesce(s.sem_flags, c.sem_flags) & 4096 <> 0 AS undo
  FROM calls c LEFT JOIN sem_ops s ON s.call_id = c.call_id WHERE syscall IN ('semop', 'semtimedop')
), resets AS (
  SELECT o.object_ref, o.sem_num, max(r.end_ns) AS reset_ns
  FROM (SELECT DISTINCT object_ref, sem_num FROM operations) o LEFT JOIN calls r
    ON r.object_ref = o.object_ref AND r.outcome = 'ok'
   AND (r.command = 'SETALL' OR (r.command = 'SETVAL' AND r.sem_num = o.sem_num))
  GROUP BY ALL
), held AS (
  SELECT object_ref, sem_num, process_id, -sum(sem_op)::BIGINT AS gives, max(end_ns) FILTER (sem_op < 0) AS since_ns,
         bool_and(undo) AS undo
  FROM operations JOIN resets USING (object_ref, sem_num)
  WHERE outcome = 'ok' AND sem_op <> 0 AND (reset_ns IS NULL OR start_ns >= reset_ns)
  GROUP BY ALL HAVING sum(sem_op) < 0
), last AS (
  SELECT object_ref, arg_max(sem_values, snapshot_ns) AS sem_values FROM objects GROUP BY object_ref
)
SELECT w.call_id, w.process_id, w.object_ref, w.sem_num, 'semaphore' AS lacks, h.process_id AS holder_process_id,
       p.pid AS holder_pid, CASE WHEN h.undo THEN 'undo' ELSE 'balance' END AS how_known, h.gives, h.since_ns
FROM operations w JOIN held h USING (object_ref, sem_num) JOIN last USING (object_ref)
  JOIN processes p ON p.process_id = h.process_id
WHERE w.end_ns IS NULL AND w.sem_op < 0 AND sem_values[w.sem_num + 1] < -w.sem_op;

-- command: deadlocks
-- section: finding
-- key: finding, object_ref
-- traces: deadlock
WITH RECURSIVE operations AS (
  SELECT c.call_id, process_id, object_ref, object_id, start_ns, outcome, coalesce(s.sem_num, c.sem_num) AS sem_num,
         coalesce(s.sem_op, c.sem_op) AS sem_op
  FROM calls c LEFT JOIN sem_ops s ON s.call_id = c.call_id WHERE syscall IN ('semop', 'semtimedop')
), edges AS (
  SELECT w.process_id AS waits, h.process_id AS holds, w.object_ref, w.object_id, w.start_ns
  FROM operations w JOIN operations h USING (object_ref, sem_num)
  WHERE w.outcome = 'open' AND h.outcome = 'ok' AND w.sem_op < 0 AND h.sem_op < 0
), paths AS (
  SELECT waits AS first, holds AS last, object_ref, object_id, start_ns AS first_ns, start_ns AS least_ns,
         start_ns AS since_ns, 1 AS length
  FROM edges
  UNION ALL
  SELECT first, holds, p.object_ref, p.object_id, first_ns, least(least_ns, e.start_ns), greatest(since_ns, e.start_ns),
         length + 1
  FROM paths p JOIN edges e ON e.waits = p.last WHERE p.last <> p.first AND length < 10
)
SELECT DISTINCT 'deadlock' AS finding, object_ref, 'sem:' || object_id AS object, since_ns
FROM paths WHERE first = last AND first_ns = least_ns;
