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
