-- command: races
-- section: creation
-- key: object_ref
-- traces: families failures waiters deadlock
WITH initialised AS (
    SELECT object_ref, min(end_ns) AS initialised_ns, arg_min(process_id, end_ns) AS initialised_by_process_id
    FROM calls WHERE object_kind = 'sem' AND command IN ('SETVAL', 'SETALL') AND outcome = 'ok' GROUP BY object_ref
), used AS (
    SELECT object_ref, min(end_ns) AS first_use_ns, arg_min(process_id, end_ns) AS first_use_by_process_id
    FROM calls WHERE syscall IN ('semop', 'semtimedop') AND outcome = 'ok' GROUP BY object_ref
)
SELECT l.object_ref, l.created_ns, l.created_by_process_id, initialised_ns - created_ns AS window_ns, initialised_ns,
       initialised_by_process_id, first_use_ns, first_use_by_process_id, 'sem:' || object_id AS object
FROM lifetimes l LEFT JOIN initialised USING (object_ref) LEFT JOIN used USING (object_ref)
WHERE object_kind = 'sem' AND created_ns IS NOT NULL
  AND object_ref IN (SELECT object_ref FROM initialised UNION SELECT object_ref FROM used
                     UNION SELECT object_ref FROM calls WHERE slept AND sem_ops_total IS NOT NULL);
