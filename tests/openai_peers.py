"""Servers with OpenAI's routes as peers of the tests: the embedded model, each in its own environment."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.child.ports import check_port
from lagent_llms.child.process import Child
from tests import lmdeploy_peer

ROOT = Path(__file__).parents[1]


class Peer(lmdeploy_peer.Peer):
    """A running server."""

    def running(self):
        """Return the number of running generations of llama.cpp; None for a server that does not say."""
        try:
            metrics = self.get("/metrics")
        except OSError:
            return None
        counts = re.findall(r"^llamacpp:requests_(?:processing|deferred) (\S+)$", metrics, re.M)
        return int(sum(map(float, counts))) if counts else None


@contextmanager
def _served(peer, command, *flags):
    """Start a server on a free port; `command` is relative to the environment of the peer."""
    subprocess.run(
        ["sh", str(ROOT / "scripts" / "peer"), peer], check=True, env={"PYTHON": sys.executable, **os.environ}
    )
    port = check_port("127.0.0.1", 0)
    program, *rest = command
    program = str(ROOT / f".venv-{peer}" / "bin" / program)
    env = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # more threads slow down so small a model
    child = Child([program, *rest, "--port", str(port), *flags], env=env, grace=5)
    server = Peer(f"http://127.0.0.1:{port}", child)
    try:
        end = time.monotonic() + 300
        while not server.answers():
            assert child.ended() is None, child.failure("the peer died")
            assert time.monotonic() < end, child.failure("the peer is not ready")
            time.sleep(0.1)
        yield server
    finally:
        child.stop()


def llamacpp():
    """Start llama.cpp's own server."""
    return _served("llamacpp", ["python", str(ROOT / "tests" / "peers" / "llamacpp" / "launch.py")])


@contextmanager
def transformers():
    """Start `transformers serve`; it samples only if the model's generation_config.json says so."""
    with tempfile.TemporaryDirectory() as folder:
        model = shutil.copytree(EMBEDDED_MODEL, Path(folder) / "embedded")
        settings = json.loads((model / "generation_config.json").read_text())
        (model / "generation_config.json").write_text(json.dumps({**settings, "do_sample": True}))
        flags = ("--host", "127.0.0.1", "--device", "cpu")
        with _served("transformers", ["transformers", "serve", str(model)], *flags) as peer:
            yield peer
