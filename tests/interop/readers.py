"""readers.py TRACE: DuckDB, pandas with pyarrow, and Polars read every table of a trace alike.

Compared: rows, and per column the NULLs and, of integers and booleans, the sum; of text the distinct values; of
instants the smallest and largest. The rows are also those of the manifest. Exits with 1 and a line per difference.
"""

import json
import pathlib
import sys

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet

TRACE = pathlib.Path(sys.argv[1])


def parts(table):
    """The files of a table, in the order of the manifest."""
    return [str(TRACE / part["file"]) for part in MANIFEST["parts"] if part["table"] == table]


def by_duckdb(files):
    """{column: (nulls, measure)}, and the rows."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE VIEW t AS SELECT * FROM read_parquet(?)" .replace("?", repr(files)))
    columns = connection.execute("DESCRIBE t").fetchall()
    rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    found = {}
    for name, kind, *_ in columns:
        column = f'"{name}"'
        if kind in ("BIGINT", "INTEGER"):
            measure = f"coalesce(sum({column}), 0)::HUGEINT"
        elif kind == "BOOLEAN":
            measure = f"count(*) FILTER ({column})"
        elif kind == "VARCHAR":
            measure = f"count(DISTINCT {column})"
        elif kind.startswith("TIMESTAMP"):
            measure = f"[epoch_us(min({column})), epoch_us(max({column}))]"
        elif kind == "INTEGER[]":
            measure = f"coalesce(sum(list_sum({column})), 0)::HUGEINT"
        else:
            sys.exit(f"{name}: DuckDB sees the type {kind}, which no column should have")
        nulls, value = connection.execute(f"SELECT count(*) - count({column}), {measure} FROM t").fetchone()
        found[name] = (nulls, value if not isinstance(value, list) else tuple(value))
    return rows, found


def by_pandas(files):
    """The same by pandas, through pyarrow."""
    table = pyarrow.concat_tables([pyarrow.parquet.read_table(f, partitioning=None) for f in files])
    frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
    found = {}
    for name in frame.columns:
        column, kind = frame[name], table.schema.field(name).type
        nulls, present = int(column.isna().sum()), column.dropna()
        if pyarrow.types.is_integer(kind):
            value = sum(int(v) for v in present)
        elif pyarrow.types.is_boolean(kind):
            value = int(present.sum()) if len(present) else 0
        elif pyarrow.types.is_timestamp(kind):
            us = [int(v.value // 1000) for v in (present.min(), present.max())] if len(present) else [None, None]
            value = tuple(us)
        elif pyarrow.types.is_list(kind):
            value = sum(sum(int(v) for v in values) for values in present)
        else:
            value = int(present.nunique())
        found[name] = (nulls, value)
    return len(frame), found


def by_polars(files):
    """The same by Polars."""
    frame = polars.read_parquet(files)
    found = {}
    for name, kind in frame.schema.items():
        column = frame[name]
        present = column.drop_nulls()
        if kind.is_integer():
            value = sum(present.to_list())
        elif kind == polars.Boolean:
            value = int(present.sum())
        elif isinstance(kind, polars.Datetime):
            us = present.dt.epoch("us")
            value = (us.min(), us.max())
        elif isinstance(kind, polars.List):
            value = sum(sum(values) for values in present.to_list())
        else:
            value = present.n_unique()
        found[name] = (column.null_count(), value)
    return frame.height, found


MANIFEST = json.loads((TRACE / "trace.json").read_text())
differences = []
columns = 0
for table in sorted({part["table"] for part in MANIFEST["parts"]}):
    files = parts(table)
    rows = sum(part["rows"] for part in MANIFEST["parts"] if part["table"] == table)
    readers = {"DuckDB": by_duckdb(files), "pandas": by_pandas(files), "Polars": by_polars(files)}
    for reader, (seen, found) in readers.items():
        if seen != rows:
            differences.append(f"{table}: {reader} reads {seen} rows, the manifest has {rows}")
        reference = readers["DuckDB"][1]
        if list(found) != list(reference):
            differences.append(f"{table}: {reader} reads the columns {list(found)}, DuckDB {list(reference)}")
        for name, value in found.items():
            if value != reference.get(name):
                differences.append(f"{table}.{name}: {reader} reads {value}, DuckDB {reference.get(name)}")
    columns += len(readers["DuckDB"][1])
    print(f"{table}: {rows} rows, {len(readers['DuckDB'][1])} columns")
print(f"{columns} columns read by DuckDB {duckdb.__version__}, pandas {pandas.__version__} "
      f"(pyarrow {pyarrow.__version__}) and Polars {polars.__version__}")
for difference in differences:
    print(difference)
sys.exit(1 if differences else 0)
