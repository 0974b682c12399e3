-- command: leaks
-- section: object
-- key: object_ref
WITH last_snapshot AS (
    SELECT * FROM objects WHERE phase = 'end' QUALIFY row_number() OVER (PARTITION BY object_ref ORDER BY snapshot_ns DESC) = 1
), uses AS (
    SELECT c.object_ref, count(DISTINCT c.process_id) AS users,
           max(coalesce(c.end_ns, (SELECT end_ns FROM session))) AS last_ns
    FROM calls c JOIN lifetimes l USING (object_ref)
    WHERE c.error IS NULL AND c.call_id IS DISTINCT FROM l.created_call_id
    GROUP BY c.object_ref
)
SELECT l.object_ref, l.object_kind, l."key", l.ipc_ns, l.created_ns, l.created_by_process_id,
       p.pid AS created_by_pid, p.comm AS created_by_comm,
       CASE WHEN p.process_id IS NOT NULL THEN p.exit_ns IS NULL END AS creator_alive,
       coalesce(u.users, 0) AS users, greatest(u.last_ns, s.use_ns) AS last_use_ns,
       coalesce(s.size_bytes, s.queued_bytes) AS size_bytes, s.attach_count, s.mode
FROM lifetimes l JOIN last_snapshot s USING (object_ref) LEFT JOIN uses u USING (object_ref)
     LEFT JOIN processes p ON p.process_id = l.created_by_process_id
WHERE l.removed_ns IS NULL AND NOT coalesce(s.removed_pending, false);

-- command: leaks
-- section: creator
-- key: comm
WITH left_over AS (
    SELECT object_ref, coalesce(size_bytes, queued_bytes, 0) AS bytes
    FROM objects WHERE phase = 'end' AND NOT coalesce(removed_pending, false)
)
SELECT p.comm, count(*) AS made, count(l.removed_ns) AS removed,
       count(o.object_ref) FILTER (l.removed_ns IS NULL) AS "left",
       coalesce(sum(o.bytes) FILTER (l.removed_ns IS NULL), 0)::BIGINT AS bytes
FROM lifetimes l LEFT JOIN processes p ON p.process_id = l.created_by_process_id LEFT JOIN left_over o USING (object_ref)
WHERE l.created_ns IS NOT NULL GROUP BY p.comm;

-- command: leaks
-- section: balance
-- key: object_ref, sem_num, process_id
-- Balances since the last SETVAL or SETALL without SEM_UNDO: of semaphores that some process takes and gives, of
-- processes that took more than they gave.
WITH resets AS (
    SELECT object_ref, CASE WHEN command = 'SETVAL' THEN sem_num END AS sem_num, max(end_ns) AS reset_ns
    FROM calls WHERE command IN ('SETVAL', 'SETALL') AND outcome = 'ok' AND object_ref IS NOT NULL GROUP BY ALL
), operations AS (
    SELECT c.object_ref, c.process_id, c.end_ns, o.sem_num, o.sem_op, o.sem_flags
    FROM calls c JOIN sem_ops o USING (call_id) WHERE c.outcome = 'ok' AND c.sem_ops_total > 1
    UNION ALL
    SELECT object_ref, process_id, end_ns, sem_num, sem_op, sem_flags
    FROM calls WHERE outcome = 'ok' AND sem_ops_total = 1 AND sem_op IS NOT NULL
), counted AS (
    SELECT * FROM operations o
    WHERE object_ref IS NOT NULL AND sem_op <> 0 AND sem_flags & 4096 = 0 AND NOT EXISTS (
        SELECT 1 FROM resets r WHERE r.object_ref = o.object_ref AND (r.sem_num IS NULL OR r.sem_num = o.sem_num)
                                 AND r.reset_ns >= o.end_ns)
), balances AS (
    SELECT object_ref, sem_num, process_id, coalesce(-sum(sem_op) FILTER (sem_op < 0), 0)::BIGINT AS taken,
           coalesce(sum(sem_op) FILTER (sem_op > 0), 0)::BIGINT AS given
    FROM counted GROUP BY ALL
)
SELECT object_ref, sem_num, process_id, taken, given FROM balances b
WHERE taken > given AND EXISTS (
    SELECT 1 FROM balances l WHERE l.object_ref = b.object_ref AND l.sem_num = b.sem_num AND l.taken > 0 AND l.given > 0);
