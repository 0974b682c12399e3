"""views.py ANALYZER ENGINE TRACE|LAKE TRACE...: the views of `ipc-analyzer views` say what ipc-analyzer answers.

ENGINE is duckdb or spark, a LAKE holds the traces that follow it; a single trace stands for itself. Each row of VIEWS is an
analysis, each of MACROS one with arguments: counts, sums and largest values must be equal, percentiles within 0.1 %. Every
other view is a step towards one of these, and must run. Exits with 1 and a line per difference.
"""

import datetime
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
# The same of macros, between two instants of the first trace.
MACROS = [
    ("SELECT * FROM latency_between('{since}', '{until}')", "latency --since {since} --until {until}", "*", "syscall"),
    ("SELECT * FROM contention_pairs_between('{since}', '{until}')",
     "contention --only pairs --pairs comm --since {since} --until {until}", "pair",
     "comm, syscall, waker_comm, waker_syscall, wake_reason"),
    ("SELECT trace_id, call_id, start_ns, outcome FROM calls_between('{since}', '{until}')",
     "show --limit 0 --since {since} --until {until}", "*", "call_id"),
    ("SELECT trace_id, call_id, start_ns, outcome FROM calls_at('{since}')", "show --limit 0 --since {since} --until {after}",
     "*", "call_id"),
    # Each call starts in one step.
    ("SELECT syscall, CAST(sum(count) AS BIGINT) AS count, CAST(sum(total_ns) AS BIGINT) AS total_ns, max(max_ns) AS max_ns "
     "FROM latency_over_time(1000000) GROUP BY syscall", "latency", "*", "syscall"),
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
    """Functions that return the columns and the rows of a query, and how many rows there are."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for statement in statements:
        connection.execute(statement)

    def read(query):
        result = connection.execute(query)
        return [column[0] for column in result.description], result.fetchall()

    def count(query):
        # Every column is computed, but no instant becomes one of Python's, which takes one more library.
        return connection.execute(f"SELECT count(*), count(COLUMNS(*)) FROM ({query})").fetchone()[0]

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

    def read(query):
        frame = session.sql(query)
        return frame.columns, [tuple(row) for row in frame.collect()]

    return f"Spark {pyspark.__version__}, {master}", read, lambda query: len(read(query)[1])


def instants():
    """Of the first trace: a quarter after its first call, as long before its last, and the end of that first instant."""
    calls = ask("show --limit 0", TRACES[:1])
    first, last = min(call["start_ns"] for call in calls), max(call.get("end_ns") or call["start_ns"] for call in calls)
    # SQL has microseconds.
    since, until = ((first + (last - first) * part // 4) // 1000 for part in (1, 3))
    of_ns = lambda ns: f"{datetime.datetime.fromtimestamp(ns // 10**9, datetime.UTC):%FT%T}.{ns % 10**9:09}Z"
    return {"since": of_ns(1000 * since), "until": of_ns(1000 * until), "after": of_ns(1000 * since + 1)}


sql = subprocess.run([ANALYZER, "views", "--dialect", ENGINE, SOURCE], capture_output=True, text=True)
if sql.returncode != 0:
    sys.exit(sql.stderr)
name, read, count = {"duckdb": duckdb_engine, "spark": spark_engine}[ENGINE]([s for s in sql.stdout.split(";\n") if s.strip()])
compared, failed = 0, False
questions = [(f"SELECT * FROM {view}", view, *question) for view, *question in VIEWS]
at = instants()
for query, words, *question in MACROS:
    macro = re.search(r"FROM (\w+)\(", query)[1]
    questions.append((query.format(**at), macro, words.format(**at), *question))
for query, view, *question in questions:
    names, found = read(query)
    rows, values, differences = compare(view, *question, names, found)
    compared += values
    failed = failed or bool(differences)
    print(f"{view}: {rows} rows")
    for difference in differences[:SHOWN]:
        print(f"{view}: {difference}")
steps = set(re.findall(r"(?:VIEW|MACRO|FUNCTION) (\w+)", sql.stdout)) - {view for _, view, *_ in questions}
for view in sorted(steps):
    print(f"{view}: {count(f'SELECT * FROM {view}')} rows")
print(f"{name}: {compared} values of {len(questions)} views and macros are those of ipc-analyzer, {len(steps)} other views run")
sys.exit(1 if failed else 0)
