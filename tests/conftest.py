"""What holds for all tests: patience, one cache of compiled graphs, and how two workers share them."""

import os
import re
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # an environment of a peer
    pass
else:  # a machine that is busy for a moment is not the fault of the code
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


BACKEND = re.compile(
    r"^tests/conformance/.*\[.*?\b(JAX\w+|LMDeployPipeline-\w+|LMDeploy\w+|LoRAX|TritonClient-\w+)"
)
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "xla"


def pytest_configure():
    """Let all processes of a run, and later runs, share the graphs that JAX compiles."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep tests that share servers and engines on one worker: those of a backend, and those of a file."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):  # pytest 9.2 ignores the names that xdist 3.8 gives to groups
            backend = BACKEND.search(nodeid)
            return backend[1] if backend else nodeid.partition("::")[0]

    return Groups(config, log)
