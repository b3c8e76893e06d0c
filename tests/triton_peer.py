"""NVIDIA's tritonserver as a peer of the tests, with models of each dialect (tests/peers/triton)."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tests.peers.triton.server import Server
from tests.waiting import until, wait_until

__all__ = ["environment", "served", "until", "wait_until"]

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


def environment():
    """Return the Python of the peer's environment; create the environment if it is missing."""
    own = {"PYTHON": sys.executable, **os.environ}
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "triton"], check=True, env=own)
    return PYTHON


@contextmanager
def served(models=None, **kwargs):
    """Start a server and wait until it is ready; the arguments are those of `Server`."""
    server = Server(environment(), models, **kwargs)
    try:
        yield server.wait_ready()
    finally:
        server.stop()
