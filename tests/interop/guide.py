"""guide.py PAGE: runs the blocks of a page in order; what a block prints must stand in the next block marked `text`.

`console`: lines that begin with `$ `, by sh. `sql`: by DuckDB, in one session; `.read FILE` as in its shell. `python`: in one
session. With UPDATE=1 the page is written anew with what was printed. Exits with 1 and the first difference.
"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(sys.argv[1])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_console(text):
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    done = subprocess.run(["sh", "-e", "-c", "\n".join(lines)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{PAGE}: {lines}: {done.stderr}")
    return done.stdout


def run_sql(text):
    import duckdb

    if "duckdb" not in SESSION:
        SESSION["duckdb"] = duckdb.connect()
        SESSION["duckdb"].execute("SET TimeZone = 'UTC'")
    for file in re.findall(r"^\.read (.*)$", text, re.MULTILINE):
        SESSION["duckdb"].execute(pathlib.Path(file).read_text())
    rows = SESSION["duckdb"].sql(re.sub(r"^\.read .*$", "", text, flags=re.MULTILINE))
    return str(rows)


def run_python(text):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, str(PAGE), "exec"), SESSION)
    return printed.getvalue()


SESSION, printed, ran = {}, "", 0
RUN = {"console": run_console, "sql": run_sql, "python": run_python}


def check(block):
    """The block, with what belongs into it."""
    global printed, ran
    language, text = block.groups()
    if language in RUN:
        lines = RUN[language](text).rstrip().splitlines()
        printed, ran = "".join(f"{line.rstrip()}\n" for line in lines), ran + 1
        return block.group(0)
    if language != "text":
        return block.group(0)
    if text != printed and "UPDATE" not in os.environ:
        sys.exit(f"{PAGE} says\n{text}\nand what is printed is\n{printed}\n(UPDATE=1 writes it anew)")
    return f"```text\n{printed}```"


text = BLOCK.sub(check, PAGE.read_text())
if "UPDATE" in os.environ:
    PAGE.write_text(text)
print(f"{PAGE}: {ran} blocks")
