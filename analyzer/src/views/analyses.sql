-- The analyses as SQL, for DuckDB and Spark: what differs between the two is written `@name(arguments)` and stands in
-- dialect.rs. `-- fragment NAME` is text that other statements repeat as `@NAME`, `-- macro NAME(ARGUMENT TYPE)` a view with
-- arguments. Every view keeps traces apart, for an id
-- means something in one trace only, except where it says that it adds them up.

-- view calls_so_far: every call; of an open one how long it has lasted, until the end of its recording
SELECT c.*, s.end_ns AS recording_end_ns, CASE WHEN c.end_ns IS NULL THEN s.end_ns - c.start_ns END AS open_for_ns
FROM calls c JOIN session s ON s.trace_id = c.trace_id;

-- view summary_syscalls: calls, outcomes and times by system call; adds up the traces
SELECT syscall, count(*) AS calls, count(*) FILTER (WHERE outcome = 'ok') AS ok,
    count(*) FILTER (WHERE outcome = 'error') AS errors, count(*) FILTER (WHERE outcome = 'killed') AS killed,
    count(*) FILTER (WHERE outcome = 'open') AS open, CAST(coalesce(sum(duration_ns), 0) AS BIGINT) AS total_ns,
    @percentile(duration_ns, 0.5) AS p50_ns, @percentile(duration_ns, 0.99) AS p99_ns, max(duration_ns) AS max_ns,
    max(open_for_ns) AS open_at_least_ns
FROM calls_so_far GROUP BY syscall;

-- view summary_errors: calls that failed by system call and errno; adds up the traces
SELECT syscall, error, count(*) AS calls FROM calls WHERE error IS NOT NULL GROUP BY syscall, error;

-- view summary_processes: calls, failures and time by process
SELECT trace_id, process_id, any_value(pid) AS pid, count(*) AS calls,
    count(*) FILTER (WHERE outcome = 'error') AS errors, CAST(coalesce(sum(duration_ns), 0) AS BIGINT) AS total_ns
FROM calls GROUP BY trace_id, process_id;

-- fragment latency
count(duration_ns) AS count, CAST(coalesce(sum(duration_ns), 0) AS BIGINT) AS total_ns,
    @rounded(sum(duration_ns), count(duration_ns)) AS mean_ns, @percentile(duration_ns, 0.5) AS p50_ns,
    @percentile(duration_ns, 0.9) AS p90_ns, @percentile(duration_ns, 0.99) AS p99_ns,
    @percentile(duration_ns, 0.999) AS p999_ns, max(duration_ns) AS max_ns,
    count(*) FILTER (WHERE end_ns IS NULL) AS open, max(open_for_ns) AS open_at_least_ns
FROM calls_so_far

-- view latency_by_syscall: how long calls took; adds up the traces
SELECT syscall, @latency GROUP BY syscall;

-- view latency_by_comm: how long calls took, by thread name and system call; adds up the traces
SELECT comm, syscall, @latency GROUP BY comm, syscall;

-- view latency_by_error: how long calls took, by system call and errno; adds up the traces
SELECT syscall, error, @latency GROUP BY syscall, error;

-- view latency_by_pid: how long calls took, by process
SELECT trace_id, pid, @latency GROUP BY trace_id, pid;

-- view latency_by_object: how long calls took, by object
SELECT trace_id, object_kind, object_ref, object_id, object_name,
    CASE WHEN object_kind IS NOT NULL THEN ipc_ns END AS ipc_ns, @latency
GROUP BY trace_id, object_kind, object_ref, object_id, object_name, CASE WHEN object_kind IS NOT NULL THEN ipc_ns END;

-- view failures: calls that failed by system call, errno, object and process; without a known object by what was asked for
WITH failed AS (
    SELECT trace_id, syscall, error, process_id, object_ref, end_ns, call_id,
        CASE WHEN object_ref IS NULL THEN object_kind END AS named_kind,
        CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN object_id END AS named_id,
        CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN object_name END AS named_name,
        CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN key END AS named_key,
        CASE WHEN object_ref IS NULL AND object_kind IS NOT NULL THEN ipc_ns END AS named_ns
    FROM calls WHERE error IS NOT NULL
),
grouped AS (
    SELECT trace_id, syscall, error, process_id, object_ref, named_kind, named_id, named_name, named_key, named_ns,
        count(*) AS count, min(end_ns) AS first_ns, max(end_ns) AS last_ns, @of_least(call_id, end_ns) AS call_id
    FROM failed
    GROUP BY trace_id, syscall, error, process_id, object_ref, named_kind, named_id, named_name, named_key, named_ns
)
SELECT g.trace_id, g.syscall, g.error, g.object_ref, coalesce(l.object_kind, g.named_kind) AS object_kind,
    coalesce(l.object_id, g.named_id) AS object_id, coalesce(l.name, g.named_name) AS object_name,
    coalesce(l.key, g.named_key) AS key, coalesce(l.ipc_ns, g.named_ns) AS ipc_ns, g.process_id, p.pid, p.comm, g.count,
    g.first_ns, g.last_ns, g.call_id,
    g.error IN ('EAGAIN', 'ENOMSG', 'EEXIST', 'ENOENT', 'EINTR', 'ETIMEDOUT') AS ordinary
FROM grouped g
    LEFT JOIN lifetimes l ON l.trace_id = g.trace_id AND l.object_ref = g.object_ref
    LEFT JOIN processes p ON p.trace_id = g.trace_id AND p.process_id = g.process_id;

-- view lines: calls by what they wait in: a semaphore, or a side of a queue; a call with several semaphore operations waits in
-- the line of the whole set (sem_num NULL)
SELECT trace_id, call_id, thread_id, object_ref,
    CASE WHEN syscall IN ('semop', 'semtimedop') AND coalesce(sem_ops_total, 1) <= 1 THEN sem_num END AS line_sem_num,
    CASE WHEN syscall IN ('msgsnd', 'mq_timedsend') THEN 'send'
        WHEN syscall IN ('msgrcv', 'mq_timedreceive') THEN 'receive' END AS side,
    start_ns, end_ns, recording_end_ns, open_for_ns, outcome, sem_op, wake_reason,
    CASE WHEN end_ns IS NOT NULL AND wait_ns > 0 THEN wait_ns END AS waited_ns,
    CASE WHEN end_ns IS NOT NULL AND wait_ns > 0 THEN wakings END AS waited_wakings,
    CASE WHEN end_ns IS NOT NULL AND wait_ns > 0 THEN wakeup_delay_ns END AS waited_delay_ns
FROM calls_so_far
WHERE object_ref IS NOT NULL
    AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive');

-- view contention: waits, hand-offs and wake-ups of each line
SELECT trace_id, object_ref, line_sem_num AS sem_num, side, count(*) AS operations, count(waited_ns) AS contended,
    @rounded(1000 * count(waited_ns), count(*)) AS contended_permille,
    CAST(coalesce(sum(waited_ns), 0) AS BIGINT) AS wait_total_ns,
    @rounded(sum(waited_ns), count(waited_ns)) AS wait_mean_ns, @percentile(waited_ns, 0.5) AS wait_p50_ns,
    @percentile(waited_ns, 0.9) AS wait_p90_ns, @percentile(waited_ns, 0.99) AS wait_p99_ns, max(waited_ns) AS wait_max_ns,
    count(open_for_ns) AS open, max(open_for_ns) AS open_at_least_ns,
    count(*) FILTER (WHERE waited_ns IS NOT NULL AND wake_reason = 'peer') AS handoffs,
    count(*) FILTER (WHERE waited_ns IS NOT NULL AND wake_reason = 'timeout') AS timeouts,
    CAST(coalesce(sum(waited_wakings), 0) AS BIGINT) AS wakings,
    count(*) FILTER (WHERE waited_wakings > 1) AS woken_again,
    @percentile(waited_delay_ns, 0.5) AS wakeup_delay_p50_ns, @percentile(waited_delay_ns, 0.99) AS wakeup_delay_p99_ns,
    max(waited_delay_ns) AS wakeup_delay_max_ns
FROM lines GROUP BY trace_id, object_ref, line_sem_num, side;

-- view contention_waiters: how many waited at once, at most: one more at each begin, one less at each end, added up in the
-- order of time; what begins and ends at the same moment counts together
WITH spans AS (
    SELECT trace_id, object_ref, line_sem_num, side, start_ns,
        CASE WHEN end_ns IS NULL THEN recording_end_ns WHEN waited_ns > 0 THEN start_ns + waited_ns ELSE start_ns END AS until_ns
    FROM lines
),
changes AS (
    SELECT trace_id, object_ref, line_sem_num, side, at_ns, sum(change) AS change
    FROM (
        SELECT trace_id, object_ref, line_sem_num, side, start_ns AS at_ns, 1 AS change FROM spans WHERE until_ns > start_ns
        UNION ALL
        SELECT trace_id, object_ref, line_sem_num, side, until_ns, -1 FROM spans WHERE until_ns > start_ns
    ) steps
    GROUP BY trace_id, object_ref, line_sem_num, side, at_ns
),
waiting AS (
    SELECT trace_id, object_ref, line_sem_num, side,
        sum(change) OVER (PARTITION BY trace_id, object_ref, line_sem_num, side ORDER BY at_ns) AS waiters
    FROM changes
),
known AS (
    SELECT trace_id, object_ref, line_sem_num, side, waiters FROM waiting
    UNION ALL
    SELECT trace_id, object_ref, line_sem_num, side, 0 FROM spans
)
SELECT trace_id, object_ref, line_sem_num AS sem_num, side, CAST(max(waiters) AS BIGINT) AS waiters_max
FROM known GROUP BY trace_id, object_ref, line_sem_num, side;

-- view contention_holds: how long a semaphore was held: from the end of a take (a successful call with one operation -n) to
-- the thread's next successful one-operation call on it, if that gives (+n)
WITH moves AS (
    SELECT *, coalesce(line_sem_num IS NOT NULL AND outcome = 'ok' AND sem_op <> 0, false) AS moves FROM lines
),
steps AS (
    SELECT trace_id, object_ref, line_sem_num, side,
        CASE WHEN moves AND sem_op < 0 AND (lead(sem_op) OVER of_thread) > 0
            THEN (lead(start_ns) OVER of_thread) - end_ns END AS hold_ns
    FROM moves
    WINDOW of_thread AS (PARTITION BY trace_id, object_ref, line_sem_num, side, thread_id, moves ORDER BY end_ns, call_id)
)
SELECT trace_id, object_ref, line_sem_num AS sem_num, side, count(hold_ns) AS holds, @percentile(hold_ns, 0.5) AS hold_p50_ns,
    @percentile(hold_ns, 0.99) AS hold_p99_ns, max(hold_ns) AS hold_max_ns
FROM steps GROUP BY trace_id, object_ref, line_sem_num, side;

-- fragment waits
wake_reason, count(*) AS waits, CAST(sum(wait_ns) AS BIGINT) AS wait_total_ns,
    @rounded(sum(wait_ns), count(*)) AS wait_mean_ns, max(wait_ns) AS wait_max_ns
FROM calls WHERE wait_ns > 0

-- view contention_pairs: waits by the processes that waited and those that ended the wait
SELECT trace_id, process_id, syscall, waker_process_id, waker_syscall, @waits
GROUP BY trace_id, process_id, syscall, waker_process_id, waker_syscall, wake_reason;

-- view contention_pairs_by_thread: waits by the threads that waited and those that ended the wait
SELECT trace_id, thread_id, syscall, waker_thread_id, waker_syscall, @waits
GROUP BY trace_id, thread_id, syscall, waker_thread_id, waker_syscall, wake_reason;

-- view contention_pairs_by_comm: waits by the names of the threads that waited and of those that ended the wait
SELECT trace_id, comm, syscall, waker_comm, waker_syscall, @waits
GROUP BY trace_id, comm, syscall, waker_comm, waker_syscall, wake_reason;

-- view queue_calls: sends and receives; not with MSG_COPY (16384), which looks and leaves
SELECT c.*, syscall IN ('msgsnd', 'mq_timedsend') AS sends, slept AND end_ns IS NOT NULL AS blocked,
    CASE WHEN slept AND end_ns IS NOT NULL THEN coalesce(wait_ns, duration_ns) END AS blocked_ns
FROM calls_so_far c
WHERE object_ref IS NOT NULL AND syscall IN ('msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive')
    AND NOT (syscall = 'msgrcv' AND (coalesce(flags, 0) & 16384) <> 0);

-- view queues: what was sent, received, refused and blocked, by queue
SELECT trace_id, object_ref,
    count(*) FILTER (WHERE outcome = 'ok' AND sends) AS sends,
    count(*) FILTER (WHERE outcome = 'ok' AND NOT sends) AS receives,
    CAST(coalesce(sum(size_bytes) FILTER (WHERE outcome = 'ok' AND sends), 0) AS BIGINT) AS bytes_sent,
    CAST(coalesce(sum(return_value) FILTER (WHERE outcome = 'ok' AND NOT sends), 0) AS BIGINT) AS bytes_received,
    count(*) FILTER (WHERE error IN ('EAGAIN', 'ENOMSG', 'ETIMEDOUT') AND sends) AS sends_refused,
    count(*) FILTER (WHERE error IN ('EAGAIN', 'ENOMSG', 'ETIMEDOUT') AND NOT sends) AS receives_refused,
    max(queue_max_messages) AS max_messages,
    count(*) FILTER (WHERE blocked AND sends) AS sends_blocked,
    CAST(coalesce(sum(blocked_ns) FILTER (WHERE sends), 0) AS BIGINT) AS sends_blocked_ns,
    @percentile(CASE WHEN sends THEN blocked_ns END, 0.5) AS sends_blocked_p50_ns,
    @percentile(CASE WHEN sends THEN blocked_ns END, 0.99) AS sends_blocked_p99_ns,
    max(blocked_ns) FILTER (WHERE sends) AS sends_blocked_max_ns,
    count(*) FILTER (WHERE blocked AND NOT sends) AS receives_blocked,
    CAST(coalesce(sum(blocked_ns) FILTER (WHERE NOT sends), 0) AS BIGINT) AS receives_blocked_ns,
    @percentile(CASE WHEN NOT sends THEN blocked_ns END, 0.5) AS receives_blocked_p50_ns,
    @percentile(CASE WHEN NOT sends THEN blocked_ns END, 0.99) AS receives_blocked_p99_ns,
    max(blocked_ns) FILTER (WHERE NOT sends) AS receives_blocked_max_ns,
    count(*) FILTER (WHERE end_ns IS NULL AND coalesce(slept, true) AND sends) AS sends_open,
    count(*) FILTER (WHERE end_ns IS NULL AND coalesce(slept, true) AND NOT sends) AS receives_open
FROM queue_calls GROUP BY trace_id, object_ref;

-- view queue_moves: sends and receives that ended, in the order of their ends, with what they found in the queue
SELECT trace_id, object_ref, call_id, start_ns, end_ns, size_bytes AS size, outcome = 'ok' AS moved, sends, return_value,
    queue_depth,
    coalesce(queue_depth, CASE WHEN syscall = 'msgrcv' AND msg_type_requested = 0 AND (coalesce(flags, 0) & 8192) = 0
        AND (slept OR error IN ('EAGAIN', 'ENOMSG')) THEN 0 END) AS found,
    coalesce(lag(end_ns) OVER of_queue <= start_ns, true) AS rested, row_number() OVER of_queue = 1 AS is_first
FROM queue_calls
WHERE end_ns IS NOT NULL
WINDOW of_queue AS (PARTITION BY trace_id, object_ref ORDER BY end_ns, call_id);

-- view queue_depth_steps: the depth of each queue between two changes of it, and whether it was full; made again from the calls
-- and from what snapshots counted
WITH moved AS (SELECT trace_id, object_ref, max(end_ns) AS last_ns FROM queue_calls GROUP BY trace_id, object_ref),
room AS (SELECT trace_id, object_ref, max(queue_max_messages) AS most FROM calls GROUP BY trace_id, object_ref),
bytes AS (
    SELECT trace_id, object_ref, @of_greatest(max_bytes, snapshot_ns) AS max_bytes FROM objects GROUP BY trace_id, object_ref
),
lives AS (
    SELECT l.trace_id, l.object_ref, l.created_ns, r.most, b.max_bytes, s.start_ns AS begin_ns,
        CASE WHEN l.removed_ns IS NULL THEN s.end_ns ELSE least(s.end_ns, greatest(l.removed_ns, m.last_ns)) END AS gone_ns
    FROM lifetimes l
        JOIN session s ON s.trace_id = l.trace_id
        JOIN moved m ON m.trace_id = l.trace_id AND m.object_ref = l.object_ref
        LEFT JOIN room r ON r.trace_id = l.trace_id AND r.object_ref = l.object_ref
        LEFT JOIN bytes b ON b.trace_id = l.trace_id AND b.object_ref = l.object_ref
),
snapshots AS (
    SELECT o.trace_id, o.object_ref, o.snapshot_ns AS at_ns, o.messages, coalesce(o.queued_bytes, 0) AS bytes,
        min(m.end_ns) AS moved_ns,
        l.created_ns IS NULL
            AND row_number() OVER (PARTITION BY o.trace_id, o.object_ref ORDER BY o.snapshot_ns) = 1 AS is_first
    FROM objects o
        JOIN lives l ON l.trace_id = o.trace_id AND l.object_ref = o.object_ref
        LEFT JOIN queue_moves m ON m.trace_id = o.trace_id AND m.object_ref = o.object_ref
            AND m.end_ns >= o.snapshot_ns AND m.end_ns <= o.snapshot_ns + 50000000
    WHERE o.object_kind = 'msg' AND o.messages IS NOT NULL
    GROUP BY o.trace_id, o.object_ref, o.snapshot_ns, o.messages, o.queued_bytes, l.created_ns
),
counted AS (SELECT trace_id, object_ref, at_ns, messages, bytes FROM snapshots WHERE is_first OR moved_ns IS NULL),
first_counted AS (SELECT trace_id, object_ref, min(at_ns) AS at_ns FROM counted GROUP BY trace_id, object_ref),
points AS (
    SELECT trace_id, object_ref, created_ns AS at_ns, 0 AS rank, CAST(0 AS BIGINT) AS call, CAST(0 AS BIGINT) AS set_to,
        CAST(0 AS BIGINT) AS change, CAST(0 AS BIGINT) AS set_bytes, CAST(0 AS BIGINT) AS bytes, CAST(NULL AS BIGINT) AS sent
    FROM lives WHERE created_ns IS NOT NULL
    UNION ALL
    SELECT trace_id, object_ref, at_ns, 1, 0, messages, 0, bytes, 0, NULL FROM counted
    UNION ALL
    SELECT m.trace_id, m.object_ref, m.start_ns, 2, m.call_id, coalesce(m.found, 0), 0,
        CASE WHEN coalesce(m.found, 0) = 0 THEN 0 END, 0, NULL
    FROM queue_moves m
        JOIN lives l ON l.trace_id = m.trace_id AND l.object_ref = m.object_ref
        LEFT JOIN first_counted f ON f.trace_id = m.trace_id AND f.object_ref = m.object_ref
    WHERE m.rested AND (m.found IS NOT NULL
        OR (m.is_first AND l.created_ns IS NULL AND (f.at_ns IS NULL OR f.at_ns > m.end_ns)))
    UNION ALL
    SELECT trace_id, object_ref, end_ns, 3, call_id, NULL, CASE WHEN NOT moved THEN 0 WHEN sends THEN 1 ELSE -1 END, NULL,
        CASE WHEN NOT moved THEN 0 WHEN sends THEN size ELSE -return_value END, CASE WHEN moved AND sends THEN size END
    FROM queue_moves
),
anchored AS (
    SELECT trace_id, object_ref, at_ns, rank, call, set_to, change, set_bytes, bytes, count(set_to) OVER so_far AS anchor,
        count(set_bytes) OVER so_far AS byte_anchor, coalesce(@last_filled(sent, so_far), 0) AS last_size
    FROM points
    WINDOW so_far AS (PARTITION BY trace_id, object_ref ORDER BY at_ns, rank, call
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
),
depths AS (
    SELECT trace_id, object_ref, at_ns, rank, call, last_size,
        CAST(max(set_to) OVER (PARTITION BY trace_id, object_ref, anchor)
            + sum(change) OVER (PARTITION BY trace_id, object_ref, anchor ORDER BY at_ns, rank, call
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS BIGINT) AS raw,
        CAST(max(set_bytes) OVER (PARTITION BY trace_id, object_ref, byte_anchor)
            + sum(bytes) OVER (PARTITION BY trace_id, object_ref, byte_anchor ORDER BY at_ns, rank, call
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS BIGINT) AS held
    FROM anchored WHERE anchor > 0
),
steps AS (
    SELECT d.trace_id, d.object_ref, d.last_size, d.held, l.most, l.max_bytes,
        greatest(0, least(d.raw, coalesce(l.most, d.raw))) AS depth,
        least(greatest(d.at_ns, l.begin_ns), l.gone_ns) AS from_ns,
        least(greatest(coalesce(lead(d.at_ns) OVER (PARTITION BY d.trace_id, d.object_ref
            ORDER BY d.at_ns, d.rank, d.call), l.gone_ns), l.begin_ns), l.gone_ns) AS to_ns
    FROM depths d JOIN lives l ON l.trace_id = d.trace_id AND l.object_ref = d.object_ref
)
SELECT trace_id, object_ref, from_ns, to_ns, depth,
    CASE WHEN most IS NOT NULL THEN depth >= most ELSE depth >= max_bytes OR held + last_size > max_bytes END AS is_full
FROM steps;

-- view queue_depth: how deep each queue was over the known time, how long it was empty, and how long full: by its depth, or
-- because a send slept
WITH full_times AS (
    SELECT trace_id, object_ref, from_ns, to_ns FROM queue_depth_steps WHERE is_full AND to_ns > from_ns
    UNION ALL
    SELECT c.trace_id, c.object_ref, greatest(c.start_ns, s.start_ns), least(coalesce(c.end_ns, s.end_ns), s.end_ns)
    FROM queue_calls c JOIN session s ON s.trace_id = c.trace_id
    WHERE c.sends AND (c.slept OR (c.end_ns IS NULL AND coalesce(c.slept, true)))
),
joined AS (
    SELECT trace_id, object_ref, from_ns, to_ns, max(to_ns) OVER (PARTITION BY trace_id, object_ref
        ORDER BY from_ns, to_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_ns
    FROM full_times
),
full_total AS (
    SELECT trace_id, object_ref, sum(greatest(0, to_ns - greatest(from_ns, coalesce(before_ns, from_ns)))) AS full_ns
    FROM joined GROUP BY trace_id, object_ref
),
told AS (
    SELECT trace_id, object_ref, max(queue_depth) AS deepest FROM queue_moves GROUP BY trace_id, object_ref
),
measured AS (
    SELECT trace_id, object_ref, max(depth) AS max_depth, sum(to_ns - from_ns) AS known_ns,
        sum(CASE WHEN depth = 0 THEN to_ns - from_ns ELSE 0 END) AS empty_ns,
        @rounded(sum(@huge(depth) * (to_ns - from_ns)), sum(to_ns - from_ns)) AS mean_depth
    FROM queue_depth_steps GROUP BY trace_id, object_ref
)
SELECT q.trace_id, q.object_ref, greatest(coalesce(m.max_depth, 0), coalesce(t.deepest, 0)) AS max_depth, m.mean_depth,
    CAST(coalesce(m.known_ns, 0) AS BIGINT) AS known_ns, CAST(coalesce(m.empty_ns, 0) AS BIGINT) AS empty_ns,
    CAST(coalesce(f.full_ns, 0) AS BIGINT) AS full_ns
FROM (SELECT DISTINCT trace_id, object_ref FROM queue_calls) q
    LEFT JOIN measured m ON m.trace_id = q.trace_id AND m.object_ref = q.object_ref
    LEFT JOIN full_total f ON f.trace_id = q.trace_id AND f.object_ref = q.object_ref
    LEFT JOIN told t ON t.trace_id = q.trace_id AND t.object_ref = q.object_ref;

-- view queue_depth_over_time: the depth of each queue in sixty parts of the recording
WITH widths AS (
    SELECT trace_id, start_ns, end_ns, greatest(1, @quotient(end_ns - start_ns + 59, 60)) AS width FROM session
),
buckets AS (
    SELECT trace_id, bucket, start_ns + bucket * width AS begin_ns, least(end_ns, start_ns + (bucket + 1) * width) AS finish_ns
    FROM widths CROSS JOIN range(0, 60) AS numbers(bucket)
),
cut AS (
    SELECT d.trace_id, d.object_ref, b.bucket, b.begin_ns, b.finish_ns, d.depth,
        least(d.to_ns, b.finish_ns) - greatest(d.from_ns, b.begin_ns) AS length
    FROM queue_depth_steps d
        JOIN buckets b ON b.trace_id = d.trace_id AND d.from_ns < b.finish_ns AND d.to_ns > b.begin_ns
    WHERE d.to_ns > d.from_ns
)
SELECT trace_id, object_ref, bucket, any_value(begin_ns) AS from_ns, any_value(finish_ns) AS to_ns, min(depth) AS min_depth,
    max(depth) AS max_depth, CAST(sum(length) AS BIGINT) AS known_ns,
    @rounded(sum(@huge(depth) * length), sum(length)) AS mean_depth
FROM cut GROUP BY trace_id, object_ref, bucket;

-- view leaks: objects that the snapshot at the end found
WITH ranked AS (
    SELECT o.*, row_number() OVER (PARTITION BY trace_id, object_ref ORDER BY snapshot_ns DESC) AS place
    FROM objects o WHERE phase = 'end'
),
uses AS (
    SELECT c.trace_id, c.object_ref, count(DISTINCT c.process_id) AS users,
        max(coalesce(c.end_ns, c.recording_end_ns)) AS last_ns
    FROM calls_so_far c JOIN lifetimes l ON l.trace_id = c.trace_id AND l.object_ref = c.object_ref
    WHERE c.error IS NULL AND (l.created_call_id IS NULL OR c.call_id <> l.created_call_id)
    GROUP BY c.trace_id, c.object_ref
)
SELECT l.trace_id, l.object_ref, concat(l.object_kind, ':', coalesce(l.name, CAST(l.object_id AS STRING))) AS object,
    l.object_kind, l.key, l.ipc_ns, l.created_ns, l.created_by_process_id, p.pid AS created_by_pid, p.comm AS created_by_comm,
    CASE WHEN p.process_id IS NOT NULL THEN p.exit_ns IS NULL END AS creator_alive, coalesce(u.users, 0) AS users,
    greatest(u.last_ns, r.use_ns) AS last_use_ns, coalesce(r.size_bytes, r.queued_bytes) AS size_bytes, r.attach_count, r.mode
FROM lifetimes l
    JOIN ranked r ON r.trace_id = l.trace_id AND r.object_ref = l.object_ref AND r.place = 1
    LEFT JOIN uses u ON u.trace_id = l.trace_id AND u.object_ref = l.object_ref
    LEFT JOIN processes p ON p.trace_id = l.trace_id AND p.process_id = l.created_by_process_id
WHERE l.removed_ns IS NULL AND NOT coalesce(r.removed_pending, false);

-- view leak_creators: what programs made, removed and left behind
WITH left_over AS (
    SELECT trace_id, object_ref, coalesce(size_bytes, queued_bytes, 0) AS bytes
    FROM objects WHERE phase = 'end' AND NOT coalesce(removed_pending, false)
)
SELECT l.trace_id, p.comm, count(*) AS made, count(l.removed_ns) AS removed,
    count(o.object_ref) FILTER (WHERE l.removed_ns IS NULL) AS left_behind,
    CAST(coalesce(sum(o.bytes) FILTER (WHERE l.removed_ns IS NULL), 0) AS BIGINT) AS bytes
FROM lifetimes l
    LEFT JOIN processes p ON p.trace_id = l.trace_id AND p.process_id = l.created_by_process_id
    LEFT JOIN left_over o ON o.trace_id = l.trace_id AND o.object_ref = l.object_ref
WHERE l.created_ns IS NOT NULL GROUP BY l.trace_id, p.comm;

-- view sem_operations: every operation on a semaphore; undo: with SEM_UNDO (4096)
SELECT c.trace_id, c.call_id, c.process_id, c.object_ref, c.start_ns, c.end_ns, c.outcome,
    coalesce(o.sem_num, c.sem_num) AS sem_num, coalesce(o.sem_op, c.sem_op) AS sem_op,
    (coalesce(o.sem_flags, c.sem_flags) & 4096) <> 0 AS undo
FROM calls c LEFT JOIN sem_ops o ON o.trace_id = c.trace_id AND o.call_id = c.call_id
WHERE c.object_ref IS NOT NULL AND c.syscall IN ('semop', 'semtimedop');

-- view leak_balances: processes that took more from a semaphore than they gave, without SEM_UNDO, since it was last set; of
-- semaphores that some process takes and gives
WITH resets AS (
    SELECT trace_id, object_ref, CASE WHEN command = 'SETVAL' THEN sem_num END AS sem_num, max(end_ns) AS reset_ns
    FROM calls WHERE command IN ('SETVAL', 'SETALL') AND outcome = 'ok' AND object_ref IS NOT NULL
    GROUP BY trace_id, object_ref, CASE WHEN command = 'SETVAL' THEN sem_num END
),
counted AS (
    SELECT o.trace_id, o.object_ref, o.sem_num, o.process_id, o.sem_op
    FROM sem_operations o LEFT JOIN resets r ON r.trace_id = o.trace_id AND r.object_ref = o.object_ref
        AND (r.sem_num IS NULL OR r.sem_num = o.sem_num) AND r.reset_ns >= o.end_ns
    WHERE r.trace_id IS NULL AND o.outcome = 'ok' AND o.sem_op <> 0 AND NOT o.undo
),
balances AS (
    SELECT trace_id, object_ref, sem_num, process_id,
        CAST(sum(CASE WHEN sem_op < 0 THEN -sem_op ELSE 0 END) AS BIGINT) AS taken,
        CAST(sum(CASE WHEN sem_op > 0 THEN sem_op ELSE 0 END) AS BIGINT) AS given
    FROM counted GROUP BY trace_id, object_ref, sem_num, process_id
),
locks AS (
    SELECT DISTINCT trace_id, object_ref, sem_num FROM balances WHERE taken > 0 AND given > 0
)
SELECT b.trace_id, b.object_ref, b.sem_num, b.process_id, b.taken, b.given
FROM balances b JOIN locks l ON l.trace_id = b.trace_id AND l.object_ref = b.object_ref AND l.sem_num = b.sem_num
WHERE b.taken > b.given;

-- view blocked_signals: how long each thread blocked which signals; signals with equal figures share a row, in sig_set (bit n - 1
-- is signal n)
WITH mask_calls AS (
    SELECT trace_id, thread_id, coalesce(end_ns, 9223372036854775807) AS call_end, start_ns, end_ns, syscall, sig_set, sig_old,
        sig_after
    FROM calls
    WHERE (syscall = 'sigprocmask' AND outcome = 'ok' AND sig_old IS NOT NULL AND sig_after IS NOT NULL)
        OR (syscall = 'sigsuspend' AND sig_old IS NOT NULL AND sig_set IS NOT NULL)
),
points AS (
    SELECT trace_id, thread_id, CAST(0 AS BIGINT) AS call_end, 0 AS step, start_ns AS at_ns, mask_at_start AS mask FROM threads
    UNION ALL
    SELECT trace_id, thread_id, call_end, 1, start_ns, sig_old FROM mask_calls
    UNION ALL
    SELECT trace_id, thread_id, call_end, 2, end_ns, sig_after FROM mask_calls WHERE syscall = 'sigprocmask'
    UNION ALL  -- SIGKILL and SIGSTOP (262400) are never blocked
    SELECT trace_id, thread_id, call_end, 2, start_ns, sig_set - (sig_set & 262400) FROM mask_calls WHERE syscall = 'sigsuspend'
    UNION ALL
    SELECT trace_id, thread_id, call_end, 3, end_ns, sig_old FROM mask_calls WHERE syscall = 'sigsuspend'
),
lives AS (
    SELECT t.trace_id, t.thread_id, s.start_ns AS begin_ns, coalesce(t.exit_ns, s.end_ns) AS gone_ns, t.exit_ns IS NULL AS lives
    FROM threads t JOIN session s ON s.trace_id = t.trace_id
),
bits AS (
    SELECT p.trace_id, p.thread_id, r.signal, p.call_end, p.step,
        greatest(coalesce(p.at_ns, l.begin_ns), l.begin_ns) AS at_ns, @has_signal(p.mask, r.signal) AS blocked
    FROM points p
        JOIN lives l ON l.trace_id = p.trace_id AND l.thread_id = p.thread_id
        CROSS JOIN range(1, 65) AS r(signal)
    WHERE p.mask IS NOT NULL AND (p.at_ns IS NOT NULL OR p.step = 0)
),
turns AS (
    SELECT b.*, blocked <> coalesce(lag(blocked) OVER (PARTITION BY trace_id, thread_id, signal ORDER BY call_end, step), false)
        AS turns
    FROM bits b
),
intervals AS (
    SELECT trace_id, thread_id, signal, blocked, at_ns,
        lead(at_ns) OVER (PARTITION BY trace_id, thread_id, signal ORDER BY call_end, step) AS ended_ns
    FROM turns WHERE turns
),
totals AS (
    SELECT i.trace_id, i.thread_id, i.signal, count(*) AS intervals,
        sum(greatest(0, coalesce(i.ended_ns, l.gone_ns) - i.at_ns)) AS blocked_ns,
        max(greatest(0, coalesce(i.ended_ns, l.gone_ns) - i.at_ns)) AS longest_ns,
        bool_or(i.ended_ns IS NULL AND l.lives) AS still_blocked,
        max(CASE WHEN i.ended_ns IS NULL AND l.lives THEN i.at_ns END) AS since_ns
    FROM intervals i JOIN lives l ON l.trace_id = i.trace_id AND l.thread_id = i.thread_id
    WHERE i.blocked GROUP BY i.trace_id, i.thread_id, i.signal
)
SELECT trace_id, thread_id, CAST(sum(@signal_bit(signal)) AS BIGINT) AS sig_set, intervals,
    CAST(blocked_ns AS BIGINT) AS blocked_ns, longest_ns, still_blocked, since_ns
FROM totals GROUP BY trace_id, thread_id, intervals, blocked_ns, longest_ns, still_blocked, since_ns;

-- view deadlock_waiters: calls that have not ended
SELECT trace_id, call_id, process_id, thread_id, pid, tid, comm, syscall, object_ref, began, start_ns, timeout_ns,
    deadline_ns, open_for_ns AS waits_ns
FROM calls_so_far
WHERE end_ns IS NULL AND syscall IN ('semop', 'semtimedop', 'msgsnd', 'msgrcv', 'mq_timedsend', 'mq_timedreceive');

-- view deadlock_edges: who waits for a semaphore that lacks what is asked, and which processes took more of it than they gave
-- since it was last set; a sum, which knows no order: a first value that was given before anybody took counts as given back
WITH set_calls AS (
    SELECT trace_id, object_ref, CASE WHEN command = 'SETVAL' THEN sem_num END AS sem_num, max(end_ns) AS reset_ns
    FROM calls WHERE command IN ('SETVAL', 'SETALL') AND outcome = 'ok' AND object_ref IS NOT NULL
    GROUP BY trace_id, object_ref, CASE WHEN command = 'SETVAL' THEN sem_num END
),
held AS (
    SELECT o.trace_id, o.object_ref, o.sem_num, o.process_id, CAST(-sum(o.sem_op) AS BIGINT) AS gives,
        max(o.end_ns) FILTER (WHERE o.sem_op < 0) AS since_ns, bool_and(o.undo) AS undo
    FROM sem_operations o LEFT JOIN set_calls r ON r.trace_id = o.trace_id AND r.object_ref = o.object_ref
        AND (r.sem_num IS NULL OR r.sem_num = o.sem_num) AND o.start_ns < r.reset_ns
    WHERE r.trace_id IS NULL AND o.outcome = 'ok' AND o.sem_op <> 0
    GROUP BY o.trace_id, o.object_ref, o.sem_num, o.process_id HAVING sum(o.sem_op) < 0
),
latest AS (
    SELECT trace_id, object_ref, @of_greatest(sem_values, snapshot_ns) AS sem_values FROM objects GROUP BY trace_id, object_ref
)
SELECT w.trace_id, w.call_id, w.process_id, w.object_ref, w.sem_num, 'semaphore' AS lacks,
    h.process_id AS holder_process_id, p.pid AS holder_pid, CASE WHEN h.undo THEN 'undo' ELSE 'balance' END AS how_known,
    h.gives, h.since_ns
FROM sem_operations w
    JOIN held h ON h.trace_id = w.trace_id AND h.object_ref = w.object_ref AND h.sem_num = w.sem_num
    JOIN latest v ON v.trace_id = w.trace_id AND v.object_ref = w.object_ref
    JOIN processes p ON p.trace_id = h.trace_id AND p.process_id = h.process_id
WHERE (p.exit_ns IS NULL OR NOT h.undo) AND w.end_ns IS NULL AND w.sem_op < 0 AND @element(v.sem_values, w.sem_num) < -w.sem_op;

-- fragment between
start_ns < @nanoseconds(until_time) AND (end_ns IS NULL OR end_ns >= @nanoseconds(since_time))

-- macro calls_between(since_time TIMESTAMP, until_time TIMESTAMP): calls in progress then, as with --since and --until
SELECT * FROM calls_so_far WHERE @between;

-- macro calls_at(moment TIMESTAMP): who was inside a call at a moment, for how long already, and for how long still (NULL: until
-- the recording ended, at least)
SELECT c.*, @nanoseconds(moment) - start_ns AS inside_for_ns, end_ns - @nanoseconds(moment) AS ends_in_ns
FROM calls_so_far c
WHERE start_ns <= @nanoseconds(moment) AND (end_ns IS NULL OR end_ns >= @nanoseconds(moment));

-- macro latency_between(since_time TIMESTAMP, until_time TIMESTAMP): how long calls took, by system call; adds up the traces
SELECT syscall, @latency WHERE @between GROUP BY syscall;

-- macro latency_over_time(step_ns BIGINT): how long calls took, by system call and the step in which they started
SELECT trace_id, @time(@quotient(start_ns, step_ns) * step_ns) AS since_time, syscall, @latency
GROUP BY trace_id, @quotient(start_ns, step_ns), syscall;

-- macro contention_pairs_between(since_time TIMESTAMP, until_time TIMESTAMP): waits by the names of the threads that waited and of
-- those that ended the wait
SELECT trace_id, comm, syscall, waker_comm, waker_syscall, @waits AND @between
GROUP BY trace_id, comm, syscall, waker_comm, waker_syscall, wake_reason;
