"""Clean up after a tritonserver whose owner has exited: its processes, files in /dev/shm and directory.

    sweep.py DIRECTORY PREFIX       standard input: a pipe that the owner holds open

A script with the standard library only. It is not a child of the server's supervisor, which would kill it.
"""

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def _sweep(directory, prefix):
    sys.stdin.read()  # blocks until the owner has exited
    end = time.monotonic() + 20
    while time.monotonic() < end and (left := _users(directory, prefix)):
        if time.monotonic() > end - 10:  # time for the supervisor to stop the server
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        time.sleep(0.05)
    for path in SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _users(directory, prefix):
    """Return the processes whose command line contains the directory or shared memory of the server."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                if (directory in line or prefix in line) and "supervisor.py" not in line:
                    found.append(int(entry.name))
    return found


if __name__ == "__main__":
    _sweep(*sys.argv[1:])
