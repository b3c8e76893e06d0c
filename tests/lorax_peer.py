"""The peer that speaks LoRAX's protocol (tests/peers/lorax), as a child of the tests.

To run the same tests on a real LoRAX with the embedded model and its adapters, set its address:
LAGENT_TEST_LORAX=http://gpu-machine:8080. Tests of features that only the peer has (faults, private adapters)
start the peer in any case.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from lagent_llms.child.ports import check_port
from lagent_llms.child.process import Child
from tests import lmdeploy_peer

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-lorax" / "bin" / "python"
REAL = os.environ.get("LAGENT_TEST_LORAX", "")


class Peer(lmdeploy_peer.Peer):
    """A running server."""

    def answers(self):
        try:
            self.get("/health")
        except OSError:
            return False
        return True

    def running(self):
        """Return the number of running generations."""
        return int(self.metric("lorax_batch_current_size"))


@contextmanager
def served(*flags):
    """Start a `Peer` on a free port, with `flags` of tests/peers/lorax/launch.py."""
    env = {"PYTHON": sys.executable, **os.environ}
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "lorax"], check=True, env=env)
    port = check_port("127.0.0.1", 0)
    command = [str(PYTHON), str(ROOT / "tests" / "peers" / "lorax" / "launch.py"), "--port", str(port)]
    child = Child([*command, *map(str, flags)], grace=5)
    peer = Peer(f"http://127.0.0.1:{port}", child)
    try:
        end = time.monotonic() + 120
        while not peer.answers():
            assert child.ended() is None, child.failure("the peer died")
            assert time.monotonic() < end, child.failure("the peer is not ready")
            time.sleep(0.1)
        yield peer
    finally:
        child.stop()


@contextmanager
def server():
    """Start the server that most tests use, or connect to the one in LAGENT_TEST_LORAX."""
    if REAL:
        yield Peer(REAL, None)
    else:
        with served() as peer:
            yield peer
