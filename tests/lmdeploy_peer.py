"""lmdeploy's own programs as peers of the tests: api_server and proxy, with the CPU engine under them.

On a machine with a GPU the same tests run on the real engines: set LAGENT_TEST_LMDEPLOY to the command of an
installed lmdeploy (``/opt/lmdeploy/bin/python -m lmdeploy``) and leave out what only the CPU engine can show:
``pytest -m "not cpu_engine"``.
"""

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.child.ports import check_port
from lagent_llms.child.process import Child

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-lmdeploy" / "bin" / "python"
ADAPTERS = EMBEDDED_MODEL.parent / "adapters"
#: Command of an lmdeploy with its own engines; '' selects the CPU engine.
REAL = os.environ.get("LAGENT_TEST_LMDEPLOY", "")
NAME = "embedded"
PYTORCH = {
    "backend": "pytorch",
    "logprobs_mode": "raw_logprobs",
    "adapters": {path.name: str(path) for path in sorted(ADAPTERS.iterdir()) if path.is_dir()},
}


def command():
    """Return the command that the tests run as ``lmdeploy``; create its environment if it is missing."""
    if REAL:
        return shlex.split(REAL)
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "lmdeploy"], check=True, env=_own_python())
    return [str(PYTHON), str(ROOT / "tests" / "peers" / "lmdeploy" / "launch.py")]


def _own_python():
    return {"PYTHON": sys.executable, **os.environ}


class Peer:
    """A running server."""

    def __init__(self, url, child, headers=None):
        self.url = url
        self.child = child
        self._headers = headers or {}

    def get(self, path):
        request = urllib.request.Request(self.url + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read().decode()

    def answers(self):
        try:
            self.get("/v1/models")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def running(self):
        """Return the number of running generations."""
        return int(self.metric("lmdeploy:num_requests_running" if REAL else "cpu_engine_sequences"))

    def metric(self, name):
        """Return the sum of a metric; lmdeploy updates its own metrics every ten seconds."""
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.M)
        assert found, f"there is no metric {name}"
        return sum(map(float, found))


@contextmanager
def served(*arguments, env=None, headers=None):
    """Start a `Peer` that runs the lmdeploy command `arguments` on a free port."""
    port = check_port("127.0.0.1", 0)
    listen = ["--server-name", "127.0.0.1", "--server-port", str(port)]
    child = Child([*command(), *arguments, *listen], env=env, grace=5)
    peer = Peer(f"http://127.0.0.1:{port}", child, headers)
    try:
        end = time.monotonic() + 300
        while not peer.answers():
            assert child.ended() is None, child.failure("the peer died")
            assert time.monotonic() < end, child.failure("the peer is not ready")
            time.sleep(0.2)
        yield peer
    finally:
        child.stop()


def api_server(*flags, pytorch=True, **kwargs):
    """Start a peer that serves the embedded model; with the pytorch engine, its adapters as well."""
    chosen = []
    for name, value in PYTORCH.items() if pytorch else ():
        words = [f"{key}={item}" for key, item in value.items()] if isinstance(value, dict) else [value]
        chosen += ["--" + name.replace("_", "-"), *words]
    return served("serve", "api_server", str(EMBEDDED_MODEL), "--model-name", NAME, *chosen, *flags, **kwargs)


def proxy(**kwargs):
    """Start lmdeploy's proxy as a peer; servers join it with ``--proxy-url``."""
    # With a cached status, it would send requests to the servers of earlier proxies.
    return served("serve", "proxy", "--disable-cache-status", **kwargs)
