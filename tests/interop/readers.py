"""readers.py TRACE: DuckDB (new and old), pandas with pyarrow, Polars, ClickHouse and Spark read every table of a trace alike.

Compared: rows, and per column the NULLs and, of integers and booleans, the sum; of text the distinct values; of
instants the smallest and largest. The rows are also those of the manifest. Exits with 1 and a line per difference.

readers.py TRACE duckdb: what the DuckDB on PYTHONPATH reads, as JSON: so the old one is asked.
"""

import json
import os
import pathlib
import subprocess
import sys

import duckdb

TRACE, *ONLY = [pathlib.Path(sys.argv[1]), *sys.argv[2:]]


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
    import pandas
    import pyarrow
    import pyarrow.parquet

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
    import polars

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


def by_clickhouse(files):
    """The same by ClickHouse."""
    import chdb

    source = f"file('{{{','.join(files)}}}', Parquet)" if len(files) > 1 else f"file('{files[0]}', Parquet)"
    ask = lambda query: json.loads(str(chdb.query(query + " FORMAT JSONCompact", "JSONCompact")))["data"]
    kinds = {row[0]: row[1] for row in ask(f"DESCRIBE TABLE {source}")}
    measures = ["count()"]
    for name, kind in kinds.items():
        column, kind = f"`{name}`", kind.removeprefix("Nullable(").rstrip(")")
        if kind.startswith("Int"):
            measure = f"sum(toInt128({column}))"
        elif kind == "Bool":
            measure = f"countIf({column})"
        elif kind == "String":
            measure = f"uniqExact({column})"
        elif kind.startswith("DateTime64"):
            measure = f"(toUnixTimestamp64Micro(minOrNull({column})), toUnixTimestamp64Micro(maxOrNull({column})))"
        elif kind.startswith("Array"):
            # ClickHouse has no NULL for a list.
            measures += ["NULL", f"sum(arraySum(arrayMap(x -> toInt64(coalesce(x, 0)), {column})))"]
            continue
        else:
            sys.exit(f"{name}: ClickHouse sees the type {kind}, which no column should have")
        measures += [f"countIf({column} IS NULL)", measure]
    rows, *values = ask(f"SELECT {', '.join(measures)} FROM {source}")[0]
    number = lambda value: None if value is None else int(value)
    found = {}
    for name, nulls, value in zip(kinds, values[::2], values[1::2]):
        value = tuple(map(number, value)) if isinstance(value, list) else number(value) or 0
        found[name] = (number(nulls), value)
    return int(rows), found


def by_spark(files):
    """The same by Spark."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    frame = session.read.parquet(*files)
    measures = ["count(*)"]
    for field in frame.schema.fields:
        column, kind = f"`{field.name}`", field.dataType.simpleString()
        if kind in ("bigint", "int"):
            measure = f"coalesce(sum(CAST({column} AS DECIMAL(38, 0))), 0)"
        elif kind == "boolean":
            measure = f"count_if({column})"
        elif kind == "string":
            measure = f"count(DISTINCT {column})"
        elif kind == "timestamp":
            measure = f"array(unix_micros(min({column})), unix_micros(max({column})))"
        elif kind == "array<int>":
            measure = f"coalesce(sum(aggregate({column}, 0L, (a, b) -> a + b)), 0)"
        else:
            sys.exit(f"{field.name}: Spark sees the type {kind}, which no column should have")
        measures += [f"count(*) - count({column})", measure]
    rows, *values = frame.selectExpr(*measures).collect()[0]
    of = lambda value: tuple(value) if isinstance(value, list) else int(value)
    pairs = zip(values[::2], values[1::2])
    return rows, {name: (nulls, of(value)) for name, (nulls, value) in zip(frame.columns, pairs)}


MANIFEST = json.loads((TRACE / "trace.json").read_text())
TABLES = sorted({part["table"] for part in MANIFEST["parts"]})
if ONLY == ["duckdb"]:
    print(json.dumps({"version": duckdb.__version__, "tables": {table: by_duckdb(parts(table)) for table in TABLES}}))
    sys.exit(0)

import chdb
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pyspark

OLD = pathlib.Path(sys.prefix) / "duckdb-old"
environment = {**os.environ, "PYTHONPATH": str(OLD)}
done = subprocess.run([sys.executable, __file__, str(TRACE), "duckdb"], env=environment, capture_output=True, text=True)
if done.returncode != 0:
    sys.exit(f"the old DuckDB: {done.stderr}")
old = json.loads(done.stdout)
if old["version"] == duckdb.__version__:
    sys.exit(f"{OLD} holds no older DuckDB")


def by_old_duckdb(table):
    """What the old DuckDB read; JSON has no tuples."""
    rows, found = old["tables"][table]
    return rows, {name: (nulls, tuple(v) if isinstance(v, list) else v) for name, (nulls, v) in found.items()}


differences = []
columns = 0
for table in TABLES:
    files = parts(table)
    rows = sum(part["rows"] for part in MANIFEST["parts"] if part["table"] == table)
    readers = {"DuckDB": by_duckdb(files), "pandas": by_pandas(files), "Polars": by_polars(files),
               f"DuckDB {old['version']}": by_old_duckdb(table), "ClickHouse": by_clickhouse(files), "Spark": by_spark(files)}
    reference = readers["DuckDB"][1]
    for reader, (seen, found) in readers.items():
        if seen != rows:
            differences.append(f"{table}: {reader} reads {seen} rows, the manifest has {rows}")
        if list(found) != list(reference):
            differences.append(f"{table}: {reader} reads the columns {list(found)}, DuckDB {list(reference)}")
        for name, (nulls, value) in found.items():
            expected = reference.get(name)
            if (nulls if nulls is not None else expected[0], value) != expected:
                differences.append(f"{table}.{name}: {reader} reads {(nulls, value)}, DuckDB {expected}")
    columns += len(reference)
    print(f"{table}: {rows} rows, {len(reference)} columns")
print(f"{columns} columns read by DuckDB {duckdb.__version__} and {old['version']}, pandas {pandas.__version__} (pyarrow "
      f"{pyarrow.__version__}), Polars {polars.__version__}, ClickHouse (chdb {chdb.__version__}) and Spark "
      f"{pyspark.__version__}")
for difference in differences:
    print(difference)
sys.exit(1 if differences else 0)
