"""Start NVIDIA's tritonserver on a model repository; remove its processes and files however it ends.

The server is supervised by `lagent_llms.child.process`. The python backend keeps files in /dev/shm; a sweeper
process removes them when the owner of the server has exited, even if it was killed.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from lagent_llms.child.ports import check_port
from lagent_llms.child.process import Child

from .repository import write_repository

HERE = Path(__file__).resolve().parent


def _installed(python):
    """Return site-packages, directory of libpython and version of the environment of `python`."""
    code = (
        "import json, sys, sysconfig as s; print(json.dumps([s.get_path('purelib'), "
        "s.get_config_var('LIBDIR'), '%d.%d' % sys.version_info[:2]]))"
    )
    site, libraries, version = json.loads(subprocess.check_output([str(python), "-c", code], text=True))
    return Path(site), libraries, version


class Server:
    """A running tritonserver.

    Args:
        python: The Python of the environment that `scripts/peer triton` makes.
        models: Names of the served models (see `repository.MODELS`); None for all.
        renamed: Model -> other name under which it is served.
        grpc_port, http_port: Ports; 0 selects a free one.
        flags: Further flags of tritonserver.
        env: Further variables of its environment.

    Attributes:
        grpc: 'ip:port' of its gRPC service.
        http: Base URL of its HTTP service.
    """

    def __init__(self, python, models=None, *, renamed=None, grpc_port=0, http_port=0, flags=(), env=None):
        site, libraries, version = _installed(python)
        bundled = site / "pytriton" / "tritonserver"
        self.directory = Path(tempfile.mkdtemp(prefix="triton-peer-"))
        self.shm_prefix = f"{self.directory.name}-"
        self._events = self.directory / "events.jsonl"
        self._events.touch()
        backend = self.directory / "backends" / "python"
        backend.mkdir(parents=True)
        for file in ("libtriton_python.so", "triton_python_backend_utils.py"):
            shutil.copy(bundled / "backends" / "python" / file, backend)
        shutil.copy(bundled / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
        write_repository(self.directory / "models", models, renamed or {})
        ports = {
            name: check_port("127.0.0.1", port) for name, port in (("grpc", grpc_port), ("http", http_port))
        }
        self.grpc, self.http = f"127.0.0.1:{ports['grpc']}", f"http://127.0.0.1:{ports['http']}"
        command = [
            str(bundled / "bin" / "tritonserver"),
            f"--model-repository={self.directory / 'models'}",
            f"--backend-directory={self.directory / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            "--allow-metrics=false",
            "--disable-auto-complete-config",
            "--exit-timeout-secs=3",
            *(f"--{name}-address=127.0.0.1" for name in ports),
            *(f"--{name}-port={port}" for name, port in ports.items()),
            "--exit-on-error=false",
            *flags,
        ]
        self._sweeper = _start_sweeper(self.directory, self.shm_prefix)
        try:
            self.child = Child(command, env=self._environment(python, site, libraries, env or {}))
        except BaseException:
            self._sweeper.stdin.close()
            raise

    def _environment(self, python, site, libraries, env):
        def joined(*parts, name):
            return ":".join([*map(str, parts), *filter(None, [os.environ.get(name)])])

        return {
            "LD_LIBRARY_PATH": joined(site / "nvidia_pytriton.libs", libraries, name="LD_LIBRARY_PATH"),
            "PATH": joined(Path(python).parent, name="PATH"),  # the stub runs the first python3 on PATH
            "CUDA_VISIBLE_DEVICES": "",
            "TRITON_PEER_EVENTS": str(self._events),
            **env,
        }

    @property
    def pid(self):
        """The process id of tritonserver."""
        return self.child.pid

    def get(self, path):
        with urllib.request.urlopen(self.http + path, timeout=5) as response:
            return response.read()

    def wait_ready(self, seconds=120):
        end = time.monotonic() + seconds
        while True:
            if self.child.ended() is not None:
                raise self.child.failure("the peer died")
            with contextlib.suppress(OSError):
                self.get("/v2/health/live")  # it listens once all models are loaded; one of them is broken
                return self
            if time.monotonic() > end:
                raise self.child.failure("the peer is not ready")
            time.sleep(0.05)

    def events(self, kind=None):
        """Return the events of the models, oldest first (see `speak.events`)."""
        whole, _, _ = self._events.read_bytes().rpartition(b"\n")  # the last line may be incomplete
        seen = [json.loads(line) for line in whole.splitlines()]
        return [event for event in seen if kind in (None, event["event"])]

    def running(self):
        """Return the number of running generations."""
        seen = [event["event"] for event in self.events()]
        return seen.count("begin") - seen.count("end")

    def stop(self):
        """Stop the server; its processes and files are removed when this returns."""
        self.child.stop()
        self._sweeper.stdin.close()
        self._sweeper.wait(30)


def _start_sweeper(directory, prefix):
    """Start a process that cleans up when this one closes the pipe or exits."""
    command = [sys.executable, "-I", "-S", str(HERE / "sweep.py"), str(directory), prefix]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
