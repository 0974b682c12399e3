"""views.py ANALYZER ENGINE TRACE|LAKE TRACE...: the views of `ipc-analyzer views` say what ipc-analyzer answers.

ENGINE is duckdb or spark, a LAKE holds the traces that follow it; a single trace stands for itself. Each row of VIEWS is an
analysis: counts, sums and largest values must be equal, percentiles within 0.1 %. Every other view is a step towards one of
these, and must run. Exits with 1 and a line per difference.
"""

import json
import os
import re
import subprocess
import sys

ANALYZER, ENGINE, SOURCE, *TRACES = sys.argv[1:]
TRACES = TRACES or [SOURCE]
TOLERANCE = 0.001
SHOWN = 5

SEMAPHORE, QUEUE = "object_ref, sem_num, side", "object_ref"
FAILURE = "syscall, error, object_ref, object_kind, object_id, object_name, key, ipc_ns, process_id"
BY_OBJECT = "object_kind, object_ref, object_id, object_name, ipc_ns"

# The view; what it is compared with: the command line, the section of its rows (* of a command with one), what tells rows
# apart. A view without the column trace_id adds up traces, and so does a question to all of them.
VIEWS = [
    ("summary_syscalls", "summary", "syscall", "syscall"),
    ("summary_errors", "summary", "error", "syscall, error"),
    ("summary_processes", "summary", "process", "process_id"),
    ("latency_by_syscall", "latency --by syscall", "*", "syscall"),
    ("latency_by_comm", "latency --by comm,syscall", "*", "comm, syscall"),
    ("latency_by_error", "latency --by syscall,error", "*", "syscall, error"),
    ("latency_by_pid", "latency --by pid", "*", "pid"),
    ("latency_by_object", "latency --by object", "*", BY_OBJECT),
    ("failures", "failures", "failure", FAILURE),
    ("contention", "contention --only semaphores", "semaphore", SEMAPHORE),
    ("contention_waiters", "contention --only semaphores", "semaphore", SEMAPHORE),
    ("contention_holds", "contention --only semaphores", "semaphore", SEMAPHORE),
    ("contention_pairs", "contention --only pairs", "pair",
     "process_id, syscall, waker_process_id, waker_syscall, wake_reason"),
    ("contention_pairs_by_thread", "contention --only pairs --pairs thread", "pair",
     "thread_id, syscall, waker_thread_id, waker_syscall, wake_reason"),
    ("contention_pairs_by_comm", "contention --only pairs --pairs comm", "pair",
     "comm, syscall, waker_comm, waker_syscall, wake_reason"),
    ("queues", "queues --limit 0", "queue", QUEUE),
    ("queue_depth", "queues --limit 0", "queue", QUEUE),
    ("queue_depth_over_time", "queues --limit 0", "depth", "object_ref, bucket"),
    ("leaks", "leaks", "object", "object_ref"),
    ("leak_creators", "leaks", "creator", "comm"),
    ("leak_balances", "leaks", "balance", "object_ref, sem_num, process_id"),
    ("blocked_signals", "signals --limit 0", "blocked", "thread_id, sig_set"),
    ("deadlock_waiters", "deadlocks --limit 0", "waiter", "call_id"),
    ("deadlock_edges", "deadlocks --limit 0", "edge", "call_id, sem_num, holder_process_id"),
]
# Columns whose names the analyzer writes otherwise: LEFT is a word of SQL.
NAMES = {"left_behind": "left"}


def ask(words, traces):
    """The rows of an answer."""
    command = [ANALYZER, *words.split(), "--format", "json", *traces]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)["rows"]


ASKED = {}


def expected_rows(words, section, by_trace):
    """The rows of a section, of each trace with its trace_id, or of all traces together."""
    groups = [[trace] for trace in TRACES] if by_trace else [TRACES]
    rows = []
    for traces in groups:
        if (words, tuple(traces)) not in ASKED:
            ASKED[words, tuple(traces)] = ask(words, traces)
        own = [row for row in ASKED[words, tuple(traces)] if section in ("*", row.get("section"))]
        named = {"trace_id": json.load(open(os.path.join(traces[0], "trace.json")))["trace_id"]} if by_trace else {}
        rows.extend({**row, **named} for row in own)
    return rows


def same(name, found, expected):
    if None in (found, expected) or isinstance(expected, str):
        return found == expected
    if re.search(r"p\d+_ns$", name):
        return abs(found - expected) <= max(1, TOLERANCE * abs(expected))
    return found == expected


def compare(view, words, section, key, names, found):
    """How many rows and values were compared, and the differences."""
    by_trace = "trace_id" in names
    keys = [*(["trace_id"] if by_trace else []), *key.split(", ")]
    key_of = lambda row: tuple(json.dumps(row.get(name)) for name in keys)
    expected = {key_of(row): row for row in expected_rows(words, section, by_trace)}
    differences = []
    if len(expected) != len(found):
        differences.append(f"{len(found)} rows, the analyzer has {len(expected)}")
    for values in found:
        row = dict(zip(names, values))
        wanted = expected.get(key_of(row))
        if wanted is None:
            differences.append(f"{key_of(row)}: the analyzer has no such row")
            continue
        for name, value in row.items():
            of_analyzer = NAMES.get(name, name)
            if of_analyzer not in wanted:
                differences.append(f"the analyzer has no column {of_analyzer}")
            elif not same(name, value, wanted[of_analyzer]):
                differences.append(f"{key_of(row)}: {name} is {value!r}, the analyzer says {wanted[of_analyzer]!r}")
    return len(found), len(found) * len(names), differences


def duckdb_engine(statements):
    """Functions that return the columns and the rows of a view, and how many rows there are."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for statement in statements:
        connection.execute(statement)

    def read(view):
        result = connection.execute(f"SELECT * FROM {view}")
        return [column[0] for column in result.description], result.fetchall()

    def count(view):
        # Every column is computed, but no instant becomes one of Python's, which takes one more library.
        return connection.execute(f"SELECT count(*), count(COLUMNS(*)) FROM {view}").fetchone()[0]

    return f"DuckDB {duckdb.__version__}", read, count


def spark_engine(statements):
    """The same by Spark: a cluster of two workers of its own, unless IPC_SPARK_MASTER says otherwise."""
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_HOME", os.path.dirname(pyspark.__file__))
    master = os.environ.get("IPC_SPARK_MASTER", "local-cluster[2,1,1024]")
    builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "2").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    for statement in statements:
        session.sql(statement)

    def read(view):
        frame = session.table(view)
        return frame.columns, [tuple(row) for row in frame.collect()]

    return f"Spark {pyspark.__version__}, {master}", read, lambda view: len(read(view)[1])


sql = subprocess.run([ANALYZER, "views", "--dialect", ENGINE, SOURCE], capture_output=True, text=True)
if sql.returncode != 0:
    sys.exit(sql.stderr)
name, read, count = {"duckdb": duckdb_engine, "spark": spark_engine}[ENGINE]([s for s in sql.stdout.split(";\n") if s.strip()])
compared, failed = 0, False
for view, *question in VIEWS:
    names, found = read(view)
    rows, values, differences = compare(view, *question, names, found)
    compared += values
    failed = failed or bool(differences)
    print(f"{view}: {rows} rows")
    for difference in differences[:SHOWN]:
        print(f"{view}: {difference}")
steps = set(re.findall(r"(?:VIEW|FUNCTION) (\w+)", sql.stdout)) - {view for view, *_ in VIEWS}
for view in sorted(steps):
    print(f"{view}: {count(view)} rows")
print(f"{name}: {compared} values of {len(VIEWS)} views are those of ipc-analyzer, {len(steps)} other views run")
sys.exit(1 if failed else 0)
