"""latency.py TRACE REPORT BY: what `ipc-analyzer latency --by BY --format json` says is what DuckDB computes.

Counts, sums, means and maxima exactly; percentiles within 0.1 % (or the nanosecond that rounding costs). Exits with 1
and a line per difference.
"""

import json
import pathlib
import sys

import duckdb

TRACE, REPORT, BY = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3].split(",")
OBJECT = ["object_kind", "object_ref", "object_id", "object_name", "ipc_ns"]
# A call without an object has no object's namespace.
EXPRESSION = {"ipc_ns": "CASE WHEN object_kind IS NOT NULL THEN ipc_ns END AS ipc_ns"}
KEYS = [column for key in BY for column in (OBJECT if key == "object" else [key])]
PERCENTILES = {"p50_ns": 0.5, "p90_ns": 0.9, "p99_ns": 0.99, "p999_ns": 0.999}

connection = duckdb.connect()
files = str(TRACE / "calls" / "*.parquet")
end_ns = connection.execute(f"SELECT end_ns FROM read_parquet('{TRACE}/session/*.parquet')").fetchone()[0]
quantiles = ", ".join(f"quantile_cont(duration_ns::DOUBLE, {fraction})" for fraction in PERCENTILES.values())
answer = connection.execute(
    f"""SELECT {', '.join(EXPRESSION.get(key, key) for key in KEYS)}, count(duration_ns), coalesce(sum(duration_ns), 0)::HUGEINT, max(duration_ns),
               count(*) FILTER (outcome = 'open'), max({end_ns} - start_ns) FILTER (outcome = 'open'), {quantiles}
        FROM read_parquet('{files}') GROUP BY ALL"""
).fetchall()

report = json.loads(REPORT.read_text())
rows = {tuple(row[key] for key in KEYS): row for row in report["rows"]}
differences = []
if report["command"] != "latency":
    differences.append(f"the command is {report['command']}")
if len(rows) != len(report["rows"]):
    differences.append("a key comes twice")
if len(rows) != len(answer):
    differences.append(f"{len(rows)} groups, DuckDB has {len(answer)}")
for found in answer:
    key, (count, total, largest, opened, open_ns, *percentiles) = found[: len(KEYS)], found[len(KEYS):]
    row = rows.get(key)
    if row is None:
        differences.append(f"{key}: the report has no such group")
        continue
    expected = {"count": count, "total_ns": total, "max_ns": largest, "open": opened, "open_at_least_ns": open_ns}
    expected["mean_ns"] = (total + count // 2) // count if count else None
    for name, value in expected.items():
        if row[name] != value or isinstance(row[name], float):
            differences.append(f"{key}: {name} is {row[name]}, DuckDB computes {value}")
    for name, value in zip(PERCENTILES, percentiles):
        both = (row[name], value)
        if None in both and both != (None, None):
            differences.append(f"{key}: {name} is {row[name]}, DuckDB computes {value}")
        elif None not in both and abs(row[name] - value) > max(1, value / 1000):
            differences.append(f"{key}: {name} is {row[name]}, DuckDB computes {value}")
calls = sum(row["count"] + row["open"] for row in report["rows"])
print(f"--by {sys.argv[3]}: {len(rows)} groups of {calls} calls, {sum(r['open'] for r in report['rows'])} open")
for difference in differences[:50]:
    print(difference)
sys.exit(1 if differences else 0)
