-- command: objects
-- section: object
-- key: object_ref
SELECT l.object_ref, l.object_kind, l.key, l.created_ns, l.created_by_process_id, l.created_call_id, l.removed_ns,
       l.removed_by_process_id, l.removed_call_id, l.how_known, count(c.call_id) AS calls, count(c.error) AS errors,
       count(DISTINCT c.process_id) AS processes, coalesce(sum(c.duration_ns), 0)::BIGINT AS total_ns,
       coalesce(sum(c.wait_ns), 0)::BIGINT AS wait_ns, min(c.start_ns) AS first_ns,
       max(coalesce(c.end_ns, c.start_ns)) AS last_ns,
       CASE WHEN l.removed_ns IS NOT NULL THEN false
            WHEN l.object_ref IN (SELECT object_ref FROM objects WHERE phase = 'end') THEN true END AS there_at_end
FROM lifetimes l LEFT JOIN calls c USING (object_ref) GROUP BY ALL;

-- command: objects
-- section: use
-- key: object_ref, process_id
SELECT object_ref, process_id, any_value(p.pid) AS pid, any_value(p.comm) AS comm, count(*) AS calls,
       count(error) AS errors, coalesce(sum(duration_ns), 0)::BIGINT AS total_ns,
       coalesce(sum(wait_ns), 0)::BIGINT AS wait_ns, min(c.start_ns) AS first_ns,
       max(coalesce(end_ns, c.start_ns)) AS last_ns
FROM calls c LEFT JOIN processes p USING (process_id) WHERE object_ref IS NOT NULL GROUP BY object_ref, process_id;
