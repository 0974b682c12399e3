"""Stops the thread of a process that has this name, and it alone, until standard input ends: PID NAME."""

import ctypes
import os
import sys
from pathlib import Path

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000

pid, name = sys.argv[1:]
threads = [task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == name]
assert len(threads) == 1, f"{len(threads)} threads of process {pid} are called {name}"
thread = int(threads[0].name)
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
assert libc.ptrace(PTRACE_ATTACH, thread, None, None) == 0, os.strerror(ctypes.get_errno())
os.waitpid(thread, WALL)
print("stopped", flush=True)
sys.stdin.read()
libc.ptrace(PTRACE_DETACH, thread, None, None)
