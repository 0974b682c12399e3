-- command: failures
-- section: failure
-- key: syscall, error, object_ref, object_kind, object_id, object_name, key, ipc_ns, process_id
WITH failed AS (
    SELECT syscall, error, process_id, end_ns, call_id, object_ref,
           CASE WHEN object_ref IS NULL THEN object_kind END AS named_kind,
           CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN object_id END AS named_id,
           CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN object_name END AS named_name,
           CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN "key" END AS named_key,
           CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN ipc_ns END AS named_ns
    FROM calls WHERE error IS NOT NULL
), grouped AS (
    SELECT syscall, error, process_id, object_ref, named_kind, named_id, named_name, named_key, named_ns,
           count(*) AS count, min(end_ns) AS first_ns, max(end_ns) AS last_ns,
           arg_min(call_id, (end_ns, call_id)) AS call_id
    FROM failed GROUP BY ALL
)
SELECT syscall, error, g.object_ref, coalesce(l.object_kind, named_kind) AS object_kind,
       coalesce(l.object_id, named_id) AS object_id, coalesce(l.name, named_name) AS object_name,
       coalesce(l."key", named_key) AS "key", coalesce(l.ipc_ns, named_ns) AS ipc_ns,
       process_id, p.pid, p.comm, count, first_ns, last_ns, call_id,
       error IN ('EAGAIN', 'ENOMSG', 'EEXIST', 'ENOENT', 'EINTR', 'ETIMEDOUT') AS ordinary
FROM grouped g LEFT JOIN lifetimes l USING (object_ref) LEFT JOIN processes p USING (process_id);
