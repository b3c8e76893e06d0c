"""NVIDIA's tritonserver as a peer of the tests, with models of each dialect (tests/peers/triton)."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.peers.triton.server import Server

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


def environment():
    """The Python of the peer's environment, which is made if it is missing."""
    own = {"PYTHON": sys.executable, **os.environ}
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "triton"], check=True, env=own)
    return PYTHON


@contextmanager
def served(models=None, **kwargs):
    """A server that is ready; the arguments are those of `Server`."""
    server = Server(environment(), models, **kwargs)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


async def until(condition, *tasks, seconds=60):
    """Wait until `condition` holds; the error of a task that fails meanwhile is raised."""
    end = time.monotonic() + seconds
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, f"the condition did not hold within {seconds} s"
        await asyncio.sleep(0.05)
