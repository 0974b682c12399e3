"""opens.py TRACE…: every *.parquet file below each folder opens in DuckDB, and every row of it can be read.

Prints one line per folder: files, rows. Exits with 1 and a line per file that does not open.
"""

import pathlib
import sys

import duckdb

FAILED = 0
for folder in map(pathlib.Path, sys.argv[1:]):
    files = [file for file in sorted(folder.rglob("*.parquet")) if not file.name.startswith(".")]
    rows = 0
    for file in files:
        try:
            # A sum over every column's hash: no value is skipped.
            found = duckdb.execute("SELECT count(*), bit_xor(hash(t)) FROM read_parquet(?) t", [str(file)]).fetchone()
            rows += found[0]
        except duckdb.Error as error:
            FAILED += 1
            print(f"{file}: {error}")
    print(f"{folder}: {len(files)} files, {rows} rows")
sys.exit(1 if FAILED else 0)
