"""answers.py ANALYZER FOLDER TRACE...: what ipc-analyzer answers is what DuckDB computes from the same files.

FOLDER holds one file per command with blocks of SQL; the comments above each say what it is compared with:

    -- command: contention --limit 0     the command line without the trace
    -- section: semaphore                which rows of its JSON
    -- key: object_ref, sem_num          which columns tell rows apart
    -- tolerance: 0.001                  of numbers, relative (and one at least); 0 and absent: none
    -- traces: contended deadlock        by the names of their folders; absent: all

Every column of the SQL is compared with the row's field of that name, and there must be as many rows. The views of
`ipc-analyzer views` are there, whose own answers views.py compares; what stands before the first block adds views that its
blocks share. Exits with 1 and a line per difference.
"""

import json
import pathlib
import re
import subprocess
import sys

import duckdb

ANALYZER, FOLDER, TRACES = sys.argv[1], pathlib.Path(sys.argv[2]), [pathlib.Path(path) for path in sys.argv[3:]]
HEADER = re.compile(r"^-- (command|section|key|tolerance|traces): *(.*)$", re.MULTILINE)
SHOWN = 5


def blocks(text):
    """What the blocks share, and each block as its header and its SQL."""
    shared, *found = re.split(r"(?m)^(?=-- command:)", text)
    return shared, [(dict(HEADER.findall(block)), HEADER.sub("", block).strip().rstrip(";")) for block in found]


def connect(trace, shared):
    """A database with the views of the trace; `shared` adds to it."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    views = subprocess.run([ANALYZER, "views", "--dialect", "duckdb", str(trace)], capture_output=True, text=True, check=True)
    connection.execute(views.stdout + shared)
    return connection


def ask(trace, header):
    """The rows of the section."""
    words = header["command"].split()
    done = subprocess.run([ANALYZER, *words, "--format", "json", str(trace)], capture_output=True, text=True)
    if done.returncode != 0:
        return None, f"exit code {done.returncode}: {done.stderr.strip()}"
    rows = json.loads(done.stdout)["rows"]
    section = header.get("section")
    return [row for row in rows if section in (None, row.get("section"))], None


def same(found, expected, tolerance):
    """Whether two values are equal; numbers within the tolerance."""
    if isinstance(expected, bool) or isinstance(found, bool) or None in (found, expected):
        return found is expected or found == expected
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        return found == expected or (tolerance > 0 and abs(found - expected) <= max(1, tolerance * abs(expected)))
    return found == (expected if isinstance(expected, (str, list)) else str(expected))


def compare(trace, connection, header, sql):
    """The number of rows and cells that were compared, and the differences."""
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    expected, keys = result.fetchall(), [key.strip() for key in header["key"].split(",")]
    rows, problem = ask(trace, header)
    if problem:
        return 0, 0, [problem]
    key_of = lambda row: tuple(json.dumps(row.get(key)) for key in keys)
    by_key = {key_of(row): row for row in rows}
    differences = [] if len(by_key) == len(rows) else ["a key comes twice"]
    if len(rows) != len(expected):
        differences.append(f"{len(rows)} rows, DuckDB has {len(expected)}")
    for values in expected:
        wanted = dict(zip(names, values))
        row = by_key.get(key_of(wanted))
        if row is None:
            differences.append(f"{key_of(wanted)}: no such row")
            continue
        for name, value in wanted.items():
            if name not in row:
                differences.append(f"there is no column {name}")
            elif not same(row[name], value, float(header.get("tolerance", 0) or 0)):
                differences.append(f"{key_of(wanted)}: {name} is {row[name]!r}, DuckDB computes {value!r}")
    return len(expected), len(expected) * len(names), differences


failed, compared = False, 0
for file in sorted(FOLDER.glob("*.sql")):
    shared, questions = blocks(file.read_text())
    for header, sql in questions:
        names = header.get("traces", "*").split()
        chosen = [trace for trace in TRACES if names == ["*"] or trace.name in names]
        seen = 0
        for trace in chosen:
            rows, cells, differences = compare(trace, connect(trace, shared), header, sql)
            seen, compared = seen + rows, compared + cells
            for difference in differences[:SHOWN]:
                print(f"{file.name}: {header['command']} {header.get('section', '')} of {trace.name}: {difference}")
            failed = failed or bool(differences)
        print(f"{header['command']} {header.get('section', '')}: {seen} rows of {len(chosen)} traces")
        if chosen and seen == 0:
            print(f"{file.name}: {header['command']} {header.get('section', '')}: no trace has a row: nothing was compared")
            failed = True
print(f"{compared} values compared")
sys.exit(1 if failed else 0)
