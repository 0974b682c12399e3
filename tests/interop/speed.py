"""What the analyzer's answers cost beside DuckDB and Polars on the same files: `cargo xtask bench analyzer` runs it.

Every question is asked by a whole process, the programs of a round one after the other; each peer's query is also timed
inside its process, without the start of Python. The answers are compared before a figure is believed.
"""

import argparse
import bisect
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time

FRACTIONS = [0.5, 0.9, 0.99, 0.999]
PERCENTILES = ["p50_ns", "p90_ns", "p99_ns", "p999_ns"]
# The analyzer's percentiles of more than 1,024 values are those of buckets so narrow.
TOLERANCE = 0.0005
THREADS = len(os.sched_getaffinity(0))

MEASURES = (
    "count(duration_ns), coalesce(sum(duration_ns), 0), max(duration_ns), "
    f"quantile_cont(duration_ns, {FRACTIONS}), count(*) - count(duration_ns)"
)
OBJECT = "object_kind, object_ref, object_id, object_name, ipc_ns"
OBJECT_KEY = ["object_kind", "object_ref", "object_id", "object_name", "ipc_ns"]
# Counts per bucket of the analyzer's own width: the same exactness in SQL, should that be faster than exact quantiles.
BUCKETS = (
    "SELECT {key}, duration_ns >> shift AS mantissa, shift, count(*), sum(duration_ns), max(duration_ns), "
    "count(*) - count(duration_ns) FROM (SELECT {key}, duration_ns, CASE WHEN duration_ns < 2048 THEN 0 "
    "ELSE floor(log2(duration_ns))::INT - 10 END AS shift FROM calls) GROUP BY ALL"
)


class Question:
    """One question, in the forms in which each program can be asked."""

    def __init__(self, title, target, arguments, key, forms, section=None, polars=None, values=None):
        self.title, self.target, self.arguments, self.key = title, target, arguments, key
        self.forms, self.section, self.polars = forms, section, polars
        # Columns beside the key that must be equal; None: those of a latency.
        self.values = values


def latency(by, key, forms, target):
    return Question(f"latency by {by}", target, ["latency", "--by", by], key, forms, polars="latency")


def object_forms(more):
    columns = "".join(f", {name}" for name in more)
    return {
        "exact, by every column": f"SELECT {OBJECT}{columns}, {MEASURES} FROM calls GROUP BY ALL",
        "exact, by lifetime, joined": (
            f"SELECT l.object_kind, c.object_ref, l.object_id, l.name, l.ipc_ns{columns}, c.* EXCLUDE (object_ref{columns}) "
            f"FROM (SELECT object_ref{columns}, {MEASURES} FROM calls GROUP BY ALL) c "
            "LEFT JOIN lifetimes l USING (object_ref)"
        ),
    }


QUESTIONS = [
    latency(
        "syscall",
        ["syscall"],
        {
            "exact": f"SELECT syscall, {MEASURES} FROM calls GROUP BY syscall",
            "four quantiles": "SELECT syscall, count(duration_ns), coalesce(sum(duration_ns), 0), max(duration_ns), ["
            + ", ".join(f"quantile_cont(duration_ns, {f})" for f in FRACTIONS)
            + "], count(*) - count(duration_ns) FROM calls GROUP BY syscall",
            "buckets": BUCKETS.format(key="syscall"),
        },
        4,
    ),
    latency("object", OBJECT_KEY, object_forms([]), 8),
    Question(
        "failures",
        3,
        ["failures"],
        ["syscall", "error", "object_ref", "process_id"],
        {
            "group by": "SELECT syscall, error, object_ref, process_id, count(*), min(end_ns), max(end_ns), "
            "arg_min(call_id, end_ns) FROM calls WHERE error IS NOT NULL GROUP BY ALL"
        },
        section="failure",
        polars="failures",
        values=["count", "first_ns", "last_ns", "call_id"],
    ),
    Question(
        "waiter → waker pairs",
        3,
        ["contention", "--only", "pairs"],
        ["process_id", "syscall", "waker_process_id", "waker_syscall", "wake_reason"],
        {
            "group by": "SELECT process_id, syscall, waker_process_id, waker_syscall, wake_reason, count(*), sum(wait_ns), "
            "max(wait_ns) FROM calls WHERE wait_ns > 0 GROUP BY ALL"
        },
        section="pair",
        polars="pairs",
        values=["waits", "wait_total_ns", "wait_max_ns"],
    ),
]
MANY_GROUPS = latency("object,pid", OBJECT_KEY + ["pid"], object_forms(["pid"]), None)


def rows_of_buckets(rows):
    """Counts per bucket as the rows of a latency; the key is one column."""
    groups = {}
    for key, mantissa, shift, count, total, most, open_calls in rows:
        group = groups.setdefault(key, [[], 0, None, 0])
        if mantissa is None:
            group[3] += open_calls
            continue
        group[0].append(((mantissa << shift) + ((1 << shift) - 1) // 2, count))
        group[1] += total
        group[2] = most if group[2] is None else max(group[2], most)
    return [[key, *measures_of_buckets(*group)] for key, group in groups.items()]


def measures_of_buckets(buckets, total, most, open_calls):
    buckets.sort()
    ends = list(itertools.accumulate(n for _, n in buckets))
    count = ends[-1] if ends else 0

    def ranked(rank):
        return most if rank + 1 >= count else min(buckets[bisect.bisect_right(ends, rank)][0], most)

    percentiles = []
    for position in [(count - 1) * fraction for fraction in FRACTIONS if count > 0]:
        low, high = ranked(math.floor(position)), ranked(math.ceil(position))
        percentiles.append(low + (high - low) * (position % 1))
    return [count, total, most, percentiles, open_calls]


def ask_duckdb(question, form, trace):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    for table in ["calls", "lifetimes"]:
        connection.execute(f"CREATE VIEW {table} AS FROM read_parquet('{trace}/{table}/*.parquet')")
    connection.execute("FROM duckdb_settings()").fetchone()
    begun = time.perf_counter()
    rows = connection.execute(question.forms[form]).fetchall()
    if form == "buckets":
        rows = rows_of_buckets(rows)
    return time.perf_counter() - begun, rows


def ask_polars(question, trace):
    import polars as pl

    column = pl.col("duration_ns")
    calls = pl.scan_parquet(f"{trace}/calls/*.parquet")
    if question.polars == "latency":
        plan = calls.group_by(question.key).agg(
            column.count().alias("n"),
            column.sum().alias("total"),
            column.max().alias("most"),
            *[column.quantile(f, interpolation="linear").alias(f"p{f}") for f in FRACTIONS],
            column.is_null().sum().alias("open"),
        )
    elif question.polars == "failures":
        end = pl.col("end_ns")
        failed = calls.filter(pl.col("error").is_not_null())
        first_call = pl.col("call_id").min_by("end_ns").alias("call")
        plan = failed.group_by(question.key).agg(
            pl.len(), end.min().alias("first"), end.max().alias("last"), first_call
        )
    else:
        wait = pl.col("wait_ns")
        slept = calls.filter(wait > 0)
        plan = slept.group_by(question.key).agg(pl.len(), wait.sum().alias("total"), wait.max().alias("most"))
    begun = time.perf_counter()
    rows = plan.collect(engine="streaming").rows()
    seconds = time.perf_counter() - begun
    if question.polars == "latency":
        keys = len(question.key)
        rows = [[*row[: keys + 3], list(row[keys + 3 : keys + 7]), row[keys + 7]] for row in rows]
    return seconds, rows


def child(arguments):
    """One peer's process: its seconds, and its rows where they are wanted."""
    question = ([*QUESTIONS, MANY_GROUPS])[arguments.question]
    if arguments.child == "polars":
        seconds, rows = ask_polars(question, arguments.trace)
    else:
        seconds, rows = ask_duckdb(question, arguments.form, arguments.trace)
    result = {"seconds": seconds, "count": len(rows)}
    if arguments.rows:
        result["rows"] = rows
    json.dump(result, sys.stdout)


class Run:
    """One process: its output, wall time, processor time and peak memory."""

    def __init__(self, command, output=subprocess.PIPE):
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output)
        self.stdout = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
        self.cpu, self.bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        # Of a peer: of its query alone.
        self.query = self.seconds


class Bench:
    """The programs side by side on one trace."""

    def __init__(self, analyzer, trace, rounds):
        self.analyzer, self.trace, self.rounds = analyzer, trace, rounds

    def ask_analyzer(self, question, output=subprocess.DEVNULL):
        command = [self.analyzer, *question.arguments, self.trace, "--format", "json", "--limit", "0"]
        return Run(command, output)

    def ask_peer(self, number, peer, form="", rows=False):
        command = [sys.executable, __file__, "--child", peer, "--question", str(number), "--form", form]
        run = Run([*command, "--trace", self.trace, *(["--rows"] if rows else [])])
        run.answer = json.loads(run.stdout)
        run.query = run.answer["seconds"]
        return run

    def fastest_form(self, number, question):
        times = {}
        for form in question.forms:
            times[form] = min(self.ask_peer(number, "duckdb", form).query for _ in range(2))
            print(f"{question.title}: DuckDB, {form}: {times[form]:.3f} s", file=sys.stderr)
        return min(times, key=times.get)

    def compare(self, number, question, peers):
        """Ends the program if an answer differs."""
        answer = json.loads(self.ask_analyzer(question, subprocess.PIPE).stdout)["rows"]
        if question.section:
            answer = [row for row in answer if row.get("section") == question.section]
        ours = {tuple(row[name] for name in question.key): row for row in answer}
        for peer, form in peers:
            theirs = self.ask_peer(number, peer, form, rows=True).answer["rows"]
            keys = len(question.key)
            if len(theirs) != len(ours) or len(answer) != len(ours):
                raise SystemExit(f"{question.title}: {len(answer)} rows, {peer} has {len(theirs)}")
            for row in theirs:
                key = list(row[:keys])
                if question.key[:keys][0] == "object_kind" and key[0] is None:
                    key[4] = None  # a call without object is one of no namespace
                found = ours.get(tuple(key))
                if found is None or not same(question, found, row[keys:]):
                    raise SystemExit(f"{question.title}: {peer} ({form}) has {row}, the analyzer {found}")
        return len(ours)

    def measure(self, number, question, is_large):
        """The rows of the page for one question."""
        form = self.fastest_form(number, question)
        # Of 200 million rows Polars takes 50 GB for quantiles by object.
        peers = [("duckdb", form)] + ([] if is_large else [("polars", "")])
        groups = in_child(lambda: self.compare(number, question, peers))
        text = ""
        for is_cold in [False] if is_large else [False, True]:
            ours, theirs = [], {peer: [] for peer, _ in peers}
            for _ in range(self.rounds):
                forget(self.trace, is_cold)
                ours.append(self.ask_analyzer(question))
                for peer, form in peers:
                    forget(self.trace, is_cold)
                    theirs[peer].append(self.ask_peer(number, peer, form))
            state = "cold" if is_cold else "warm"
            name = f"{question.title}, {groups:,} groups" if not is_cold else question.title
            text += line(name, state, "ipc-analyzer", ours, ours, question.target)
            for peer, form in peers:
                label = f"DuckDB, {form}" if peer == "duckdb" else "Polars, streaming"
                text += line("", state, label, theirs[peer], ours, question.target)
        return text


def in_child(compute):
    """A number from a child process: what a process takes at most counts for the programs that it starts later, too."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, str(compute()).encode())
            status = 0
        except SystemExit as error:
            print(error, file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the answers could not be compared")
    return int(text)


def same(question, ours, theirs):
    if question.values is not None:
        return [ours[name] for name in question.values] == list(theirs)
    count, total, most, percentiles, open_calls = theirs
    if [ours["count"], ours["total_ns"], ours["max_ns"], ours["open"]] != [count, total, most, open_calls]:
        return False
    pairs = zip([ours[name] for name in PERCENTILES], percentiles or [None] * 4)
    return all(a == b or (None not in (a, b) and abs(a - b) <= 1 + b * 2 * TOLERANCE) for a, b in pairs)


def forget(trace, is_cold):
    """Leaves nothing of the trace in the page cache, or all of it."""
    for folder, _, files in os.walk(trace):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                if is_cold:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_cold and os.geteuid() == 0:
        subprocess.run(["sync"], check=True)
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")


def line(title, state, program, runs, ours, target):
    def of(values):
        return f"{statistics.median(values):.2f}"

    def ratios(time_of):
        paired = [time_of(theirs) / time_of(own) for theirs, own in zip(runs, ours)]
        return f"{statistics.median(paired):.1f} ({min(paired):.1f}…{max(paired):.1f})"

    cells = [title, state, program, of([run.seconds for run in runs]), of([run.query for run in runs])]
    cells += [of([run.cpu for run in runs]), f"{max(run.bytes for run in runs) >> 20}"]
    if runs is ours:
        cells += ["–", "–", "–"]
    else:
        cells += [ratios(lambda run: run.seconds), ratios(lambda run: run.query), f"≥ {target}" if target else "–"]
    text = f"| {' | '.join(cells)} |\n"
    print(text, end="", file=sys.stderr)
    return text


HEAD = (
    "| question | page cache | program | process s | query s | CPU s | peak MiB | process ratio | query ratio | target |\n"
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
)


# Every command, for the memory that it takes; `diff` compares with the smaller trace.
COMMANDS = [
    *("summary", "latency", "latency --by object", "latency --by object,pid", "failures", "contention", "deadlocks"),
    *("queues", "leaks", "races", "signals", "objects", "diff", "show", "verify"),
]


def memory(analyzer, trace, other):
    """The peak of each command; `show` is asked for few rows, as it has no end otherwise."""
    text = "| command | wall s | CPU s | peak MiB |\n|---|--:|--:|--:|\n"
    for words in COMMANDS:
        name, *options = words.split()
        traces = [other, trace] if name == "diff" else [trace]
        options += ["--limit", "1000"] if name == "show" else []
        run = Run([analyzer, name, *traces, *options, "--format", "json"], subprocess.DEVNULL)
        row = f"| {words} | {run.seconds:.2f} | {run.cpu:.2f} | {run.bytes >> 20} |\n"
        print(row, end="", file=sys.stderr)
        text += row
    return text


def growth(analyzer, small, large, rounds):
    """Wall times of both sizes; the file of the larger must be in the page cache as that of the smaller is."""
    text = f"| question | {rows_of(small):,} calls, s | {rows_of(large):,} calls, s | ratio |\n|---|--:|--:|--:|\n"
    for question in QUESTIONS:
        times = []
        for trace in [small, large]:
            bench = Bench(analyzer, trace, rounds)
            bench.ask_analyzer(question)
            times.append(statistics.median(bench.ask_analyzer(question).seconds for _ in range(rounds)))
        row = f"| {question.title} | {times[0]:.2f} | {times[1]:.2f} | {times[1] / times[0]:.1f} |\n"
        print(row, end="", file=sys.stderr)
        text += row
    return text


def rows_of(trace):
    with open(os.path.join(trace, "trace.json")) as file:
        parts = json.load(file)["parts"]
    return sum(part["rows"] for part in parts if part["table"] == "calls")


def page(arguments):
    # Nothing large is imported here: what a child takes at most counts from before its program starts.
    duckdb, polars = (importlib.metadata.version(name) for name in ["duckdb", "polars"])
    print(
        f"{arguments.rounds} rounds. *Process* is a whole process from its start to its end, *query* the query inside a "
        f"peer's process that has loaded its library; ratios are to the analyzer's whole process of the same round: median "
        f"(least…most). DuckDB {duckdb} in the fastest of the forms tried, Polars {polars} lazy and "
        f"streaming, {THREADS} threads each. Before anything is timed, every group of every answer is compared: counts, sums "
        f"and maxima equal, percentiles within {TOLERANCE:.2%}. The larger traces are read warm and without Polars, which "
        f"takes 5 GB for the percentiles by object of 20 million calls.\n"
    )
    every = list(enumerate(QUESTIONS))
    sections = [("calls", arguments.trace, every, False), ("calls", arguments.large, every, True)]
    sections.append(("calls in a million groups", arguments.groups, [(len(QUESTIONS), MANY_GROUPS)], True))
    for noun, trace, questions, is_large in sections:
        if trace is None:
            continue
        print(f"\n## {rows_of(trace):,} {noun}\n\n{HEAD}", end="", flush=True)
        bench = Bench(arguments.analyzer, trace, arguments.rounds)
        for number, question in questions:
            print(bench.measure(number, question, is_large), end="", flush=True)
    if arguments.large:
        print("\n## Time and rows\n\n" + growth(arguments.analyzer, arguments.trace, arguments.large, arguments.rounds))
        print(f"## Memory, {rows_of(arguments.large):,} calls\n")
        print(memory(arguments.analyzer, arguments.large, arguments.trace), end="")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--analyzer")
    parser.add_argument("--trace", required=True)
    parser.add_argument("--large")
    parser.add_argument("--groups")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child")
    parser.add_argument("--question", type=int, default=0)
    parser.add_argument("--form", default="")
    parser.add_argument("--rows", action="store_true")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
    else:
        page(arguments)


main()
