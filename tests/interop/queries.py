"""queries.py SQL...: runs each query in DuckDB and prints its rows, tab-separated."""

import sys

import duckdb

connection = duckdb.connect()
for query in sys.argv[1:]:
    for row in connection.execute(query).fetchall():
        print("\t".join(str(cell) for cell in row))
